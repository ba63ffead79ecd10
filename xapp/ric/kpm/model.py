"""What a KPM indication says, after decoding."""

from __future__ import annotations

from dataclasses import dataclass, field

Value = float | int | None
"""A measured value as the E2 node wrote it: INTEGER, REAL, or None for "no value". Its unit belongs to the
measurement's name (TS 28.552 or the RAN's own)."""

UE_KINDS = ("gnb", "gnb-du", "gnb-cu-up", "ng-enb", "ng-enb-du", "en-gnb", "enb")
"""Alternatives of the UEID choice, in order (E2SM common IEs, clause 6.2.2.6)."""


@dataclass(frozen=True, slots=True)
class UeId:
    """Who a report is about.

    Attributes:
        kind: one of ``UE_KINDS``, or ``extension`` for an alternative newer than this decoder.
        value: the identifier that the kind always has: AMF-UE-NGAP-ID (gnb, ng-enb), F1AP id (gnb-du), E1AP
            id (gnb-cu-up), W1AP id (ng-enb-du), X2AP id (en-gnb), S1AP id (enb); the alternative's index for
            ``extension``.
        ran_ue_id: 8 bytes where the node sends them; stable across the parts of a split gNB.
    """

    kind: str
    value: int
    ran_ue_id: bytes | None = None

    @property
    def user(self) -> str:
        """Name of the user outside E2: ``ue-<AMF-UE-NGAP-ID>`` for a gNB, ``<kind>-<value>`` otherwise."""
        return f"ue-{self.value}" if self.kind == "gnb" else f"{self.kind}-{self.value}"


@dataclass(slots=True)
class UeReport:
    """Measurements of one user.

    Attributes:
        values: newest granularity period; keys are measurement names, ``measID:<n>`` where a number was sent,
            with the label appended when there is one, e.g. ``DRB.UEThpDl[fiveQI=9]``.
        incomplete: the node marked the newest period as incomplete.
        earlier: older periods of the same indication, oldest first; usually none.
    """

    ue: UeId
    values: dict[str, Value]
    incomplete: bool = False
    earlier: list[dict[str, Value]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KpmHeader:
    """Indication header format 1.

    Attributes:
        timestamp: start of the collection, Unix seconds, from the NTP time stamp.
        timestamp_bytes: the octets as sent, 4 (up to v2.03) or 8 (from v3.00). Some RANs do not write NTP
            time.
    """

    timestamp: float
    timestamp_bytes: bytes
    file_format_version: str = ""
    sender_name: str = ""
    sender_type: str = ""
    vendor_name: str = ""


@dataclass(slots=True)
class KpmIndication:
    """A decoded indication.

    Attributes:
        timestamp: same as ``header.timestamp``, Unix seconds.
        users: per-user reports (message format 3); empty for format 1.
        cell: cell-level values (message format 1); empty for format 3.
        granularity_ms: granularity period, None when the node left it out.
    """

    timestamp: float
    users: list[UeReport]
    header: KpmHeader
    cell: dict[str, Value] = field(default_factory=dict)
    granularity_ms: int | None = None
