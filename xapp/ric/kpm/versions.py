"""Versions of E2SM-KPM and how their wire layouts differ.

One wire family; only these differ in what is on the wire, everything else is extension additions:

===========  ===============================================================================
up to 2.01   ``testExpr`` and ``testValue`` of a TestCondInfo are mandatory; optional from 2.02
up to 2.02   a MatchingCondItem is a CHOICE; from 2.03 a SEQUENCE with ``logicalOR`` around it
up to 2.03   a TimeStamp has 4 octets; from 3.00 it has 8
``flexric``  2.03 with extension markers moved behind the additions, as FlexRIC 2.0.0 builds it
===========  ===============================================================================

Sources: ASN.1 of 2.00 (ric-app-kpimon-go ``e2sm/asn1/kpm2_0.asn``), of 2.01, 2.03, 3.00 and FlexRIC's own
(FlexRIC ``src/sm/kpm_sm/kpm_sm_v*/ie/*.asn1``); for 2.02 Wireshark's dissector, which was generated from it.
4.00: srsRAN's oran-sc-ric (``e2sm-kpm-v4.00.asn``), which only adds extensions to 3.00; that 5.00 does so too
was not checked against its text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

KpmVersion = Literal["2.00", "2.01", "2.02", "2.03", "3.00", "4.00", "5.00", "flexric"]
"""A version of E2SM-KPM, or FlexRIC's dialect of 2.03."""

KPM_VERSIONS: Final[tuple[KpmVersion, ...]] = get_args(KpmVersion)
DEFAULT_KPM_VERSION: Final[KpmVersion] = "3.00"

_OID_PREFIX = (1, 3, 6, 1, 4, 1, 53148, 1)
_OID_KPM = (2, 2)


@dataclass(frozen=True, slots=True)
class KpmLayout:
    """What of the wire format depends on the version.

    Attributes:
        timestamp_octets: 4 or 8.
        matching_cond_choice: a MatchingCondItem is the CHOICE itself.
        test_mandatory: ``testExpr`` and ``testValue`` are mandatory.
        markers_moved: FlexRIC's extension markers.
    """

    timestamp_octets: int = 8
    matching_cond_choice: bool = False
    test_mandatory: bool = False
    markers_moved: bool = False


_LAYOUTS: Final[dict[KpmVersion, KpmLayout]] = {
    "2.00": KpmLayout(4, matching_cond_choice=True, test_mandatory=True),
    "2.01": KpmLayout(4, matching_cond_choice=True, test_mandatory=True),
    "2.02": KpmLayout(4, matching_cond_choice=True),
    "2.03": KpmLayout(4),
    "3.00": KpmLayout(8),
    "4.00": KpmLayout(8),
    "5.00": KpmLayout(8),
    "flexric": KpmLayout(4, markers_moved=True),
}


def kpm_layout(version: KpmVersion) -> KpmLayout:
    """Layout of a version."""
    return _LAYOUTS[version]


def parse_kpm_version(text: str) -> KpmVersion:
    """The version named ``text``: ``2.03``, ``v02.03``, ``3``, ``FlexRIC``.

    Raises:
        ValueError: unknown.
    """
    plain = text.strip().lower().removeprefix("v")
    major, _, minor = plain.partition(".")
    if major.isdecimal() and (minor.isdecimal() or not minor):
        plain = f"{int(major)}.{int(minor or 0):02d}"
    for version in KPM_VERSIONS:
        if version == plain:
            return version
    raise ValueError(f"KPM version {text!r}: {', '.join(KPM_VERSIONS)} are known")


def kpm_version_of_oid(oid: str) -> KpmVersion | None:
    """Version that the E2SM OID of a RAN function proves, None where it proves none.

    The arc behind ``1.3.6.1.4.1.53148.1`` is the major version. 3 and above fix the layout. 2 does not: 2.00
    to 2.02 lay conditions out otherwise than 2.03, and srsRAN announces 2 and sends the time stamps of 3.00.
    Arcs above 3 have not been seen on a real node.
    """
    try:
        arcs = tuple(int(part) for part in oid.strip().split("."))
    except ValueError:
        return None
    if len(arcs) != 11 or arcs[:8] != _OID_PREFIX or arcs[9:] != _OID_KPM:
        return None
    return {3: "3.00", 4: "4.00", 5: "5.00"}.get(arcs[8])  # type: ignore[return-value]


def is_kpm_oid(oid: str) -> bool:
    """The OID names E2SM-KPM, of any version."""
    return oid.strip().startswith("1.3.6.1.4.1.53148.1.") and oid.strip().endswith(".2.2")
