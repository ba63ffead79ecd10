"""Control style 2 "Radio Resource Allocation Control", action 6 "Slice-level PRB quota" (E2SM-RC clause
8.4.3.6).

The RAN parameters, ids in brackets, as srsRAN Project reads them (``e2sm_rc_control_action_du_executor.cpp``,
2025) and FlexRIC's xApp for it writes them::

    RRM Policy Ratio List (1), list
      RRM Policy Ratio Group (2), structure
        RRM Policy (3), structure
          RRM Policy Member List (5), list
            RRM Policy Member (6), structure
              PLMN Identity (7), 3 octets
              S-NSSAI (8), structure
                SST (9), 1 octet
                SD (10), 3 octets
        Min PRB Policy Ratio (11), Max PRB Policy Ratio (12), Dedicated PRB Policy Ratio (13), integers, %

Leaves are elements with key flag FALSE. srsRAN refuses a group without a member or without all three
ratios, and a header that is not about one of its DU's users (gNB-DU UEID): the quota belongs to a slice, but
the request names a user.

Some nodes want another layout, which is neither written nor read here: no structures 2 and 6, and numbers as
text ("00101", "1"): srsRAN until 2024, and slicing branches of OAI, some of them with ids counted without the
gap at 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from xapp.ric.aper import E2EncodeError
from xapp.ric.kpm.action_definition import ueid_value
from xapp.ric.kpm.model import UeId
from xapp.ric.rc.codec import decode_header, decode_message, encode_header, encode_message

STYLE_TYPE: Final = 2
ACTION_ID: Final = 6

RATIO_LIST: Final = 1
RATIO_GROUP: Final = 2
RRM_POLICY: Final = 3
MEMBER_LIST: Final = 5
MEMBER: Final = 6
PLMN_IDENTITY: Final = 7
S_NSSAI: Final = 8
SST: Final = 9
SD: Final = 10
MIN_RATIO: Final = 11
MAX_RATIO: Final = 12
DEDICATED_RATIO: Final = 13
_RATIOS: Final = (MIN_RATIO, MAX_RATIO, DEDICATED_RATIO)

NO_SD: Final = 0xFFFFFF
"""Slice differentiator of a slice that has none (TS 23.003 clause 28.4.2)."""

_NO_GUAMI: Final = bytes(6)


@dataclass(frozen=True, slots=True, order=True)
class SliceId:
    """A slice of a PLMN.

    Attributes:
        plmn: PLMN identity of TS 23.003, 3 octets.
        sst: slice/service type, 0..255.
        sd: slice differentiator, 0..0xFFFFFF; ``NO_SD`` for none.
    """

    plmn: bytes
    sst: int
    sd: int = NO_SD

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and its range."""
        if len(self.plmn) != 3:
            raise ValueError(f"plmn of {len(self.plmn)} octets: 3 are expected")
        if not 0 <= self.sst <= 255:
            raise ValueError(f"sst = {self.sst}: 0..255 is expected")
        if not 0 <= self.sd <= NO_SD:
            raise ValueError(f"sd = {self.sd}: 0..{NO_SD} is expected")

    def __str__(self) -> str:
        differentiator = "" if self.sd == NO_SD else f"-{self.sd:06x}"
        return f"{self.plmn.hex()}/{self.sst}{differentiator}"


@dataclass(frozen=True, slots=True)
class PrbQuota:
    """Share of a cell's resource blocks, whole percent, 0..100 (RRMPolicyRatio of TS 28.541).

    Attributes:
        minimum: guaranteed when wanted; others may use what is not. Not above ``maximum``.
        maximum: never exceeded.
        dedicated: kept free for the slice even when it is idle.
    """

    minimum: int = 0
    maximum: int = 100
    dedicated: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError naming the ratio and its range."""
        for name, value in (
            ("minimum", self.minimum),
            ("maximum", self.maximum),
            ("dedicated", self.dedicated),
        ):
            if not 0 <= value <= 100:
                raise ValueError(f"{name} ratio = {value} %: 0..100 is expected")
        if self.minimum > self.maximum:
            raise ValueError(f"minimum ratio {self.minimum} % is above the maximum ratio {self.maximum} %")


@dataclass(frozen=True, slots=True)
class QuotaGroup:
    """One RRM policy: the slices that share a quota. A plain dictionary of quotas makes one group a slice."""

    members: tuple[SliceId, ...]
    quota: PrbQuota


def quota_groups(quotas: Mapping[SliceId, PrbQuota]) -> list[QuotaGroup]:
    """A group for each slice, in the order of the mapping."""
    return [QuotaGroup((slice_id,), quota) for slice_id, quota in quotas.items()]


def quota_header(ue: UeId, guami: bytes = _NO_GUAMI) -> bytes:
    """Control header, format 1, for style 2, action 6.

    Args:
        ue: a user of the cell. srsRAN wants kind ``gnb-du``; others ignore it.
        guami: PLMN (3 octets), AMF region (8 bits), set (10), pointer (6): for kinds that name an AMF.

    Raises:
        E2EncodeError: a kind of user id that lacks what the UEID needs, or a value out of its range.
    """
    header = {
        "ueID": ueid_value(ue, guami),
        "ric-Style-Type": STYLE_TYPE,
        "ric-ControlAction-ID": ACTION_ID,
    }
    return encode_header({"ric-controlHeader-formats": ("controlHeader-Format1", header)})


def _item(identifier: int, value_type: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"ranParameter-ID": identifier, "ranParameter-valueType": value_type}


def _element(identifier: int, kind: str, value: int | bytes) -> dict[str, Any]:
    return _item(identifier, ("ranP-Choice-ElementFalse", {"ranParameter-value": (kind, value)}))


def _members(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"sequence-of-ranParameters": list(items)}


def _structure(identifier: int, *items: dict[str, Any]) -> dict[str, Any]:
    return _item(identifier, ("ranP-Choice-Structure", {"ranParameter-Structure": _members(items)}))


def _list(identifier: int, items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    entries = [_members([item]) for item in items]
    return _item(identifier, ("ranP-Choice-List", {"ranParameter-List": {"list-of-ranParameter": entries}}))


def _member(slice_id: SliceId) -> dict[str, Any]:
    return _structure(
        MEMBER,
        _element(PLMN_IDENTITY, "valueOctS", slice_id.plmn),
        _structure(
            S_NSSAI,
            _element(SST, "valueOctS", bytes((slice_id.sst,))),
            _element(SD, "valueOctS", slice_id.sd.to_bytes(3, "big")),
        ),
    )


def _group(group: QuotaGroup) -> dict[str, Any]:
    if not group.members:
        raise E2EncodeError("quota group without a member: 1 at least is needed")
    return _structure(
        RATIO_GROUP,
        _structure(RRM_POLICY, _list(MEMBER_LIST, map(_member, group.members))),
        _element(MIN_RATIO, "valueInt", group.quota.minimum),
        _element(MAX_RATIO, "valueInt", group.quota.maximum),
        _element(DEDICATED_RATIO, "valueInt", group.quota.dedicated),
    )


def quota_message(groups: Sequence[QuotaGroup]) -> bytes:
    """Control message, format 1, that sets ``groups``: absolute values, so sending it twice does no harm.

    Raises:
        E2EncodeError: no group, or a group without a member.
    """
    if not groups:
        raise E2EncodeError("no quota group: 1 at least is needed")
    message = {"ranP-List": [_list(RATIO_LIST, map(_group, groups))]}
    return encode_message({"ric-controlMessage-formats": ("controlMessage-Format1", message)})


class NotAQuota(ValueError):
    """A well-formed RC message that is no slice-level PRB quota; the message says what is wrong."""


@dataclass
class _Found:
    """What the walk over RAN parameters has met of one group."""

    ratios: dict[int, int] = field(default_factory=dict)
    members: list[dict[int, bytes]] = field(default_factory=list)

    def finish(self) -> QuotaGroup:
        missing = [str(ratio) for ratio in _RATIOS if ratio not in self.ratios]
        if missing:
            raise NotAQuota(f"RAN parameter {', '.join(missing)} is missing in a ratio group")
        if not self.members:
            raise NotAQuota(f"ratio group without a member (RAN parameter {MEMBER})")
        try:
            quota = PrbQuota(*(self.ratios[ratio] for ratio in _RATIOS))
            return QuotaGroup(tuple(_slice_id(octets) for octets in self.members), quota)
        except ValueError as error:
            raise NotAQuota(str(error)) from error


def _slice_id(octets: dict[int, bytes]) -> SliceId:
    sst, sd = octets.get(SST, b""), octets.get(SD, NO_SD.to_bytes(3, "big"))
    if len(sst) != 1 or len(sd) != 3:
        raise ValueError(f"SST of {len(sst)}, SD of {len(sd)} octets: 1 and 3 are expected")
    return SliceId(octets.get(PLMN_IDENTITY, b""), sst[0], int.from_bytes(sd, "big"))


def _walk(items: list[dict[str, Any]], groups: list[_Found]) -> None:
    for item in items:
        identifier = item["ranParameter-ID"]
        kind, value = item["ranParameter-valueType"]
        if kind == "ranP-Choice-List":
            for entry in value["ranParameter-List"]["list-of-ranParameter"]:
                _walk(entry.get("sequence-of-ranParameters", []), groups)
        elif kind == "ranP-Choice-Structure":
            if identifier == RATIO_GROUP:
                groups.append(_Found())
            elif identifier == MEMBER and groups:
                groups[-1].members.append({})
            _walk(value["ranParameter-Structure"].get("sequence-of-ranParameters", []), groups)
        elif kind == "ranP-Choice-ElementFalse" and groups:
            _leaf(identifier, value.get("ranParameter-value"), groups[-1])


def _leaf(identifier: int, value: tuple[str, Any] | None, group: _Found) -> None:
    kind: str
    content: Any
    kind, content = value if value is not None else ("empty", None)
    if identifier in _RATIOS:
        wanted = "valueInt"
        group.ratios[identifier] = content
    elif identifier in (PLMN_IDENTITY, SST, SD) and group.members:
        wanted = "valueOctS"
        group.members[-1][identifier] = content
    else:
        return
    if kind != wanted:
        raise NotAQuota(f"RAN parameter {identifier} is {kind}: {wanted} is expected")


def parse_quota_message(raw: bytes) -> list[QuotaGroup]:
    """The groups that a control message sets; RAN parameters with other ids are skipped.

    Raises:
        E2DecodeError: no RC control message.
        NotAQuota: a control message about something else, or incomplete.
    """
    name, message = decode_message(raw)["ric-controlMessage-formats"]
    if name != "controlMessage-Format1":
        raise NotAQuota(f"{name}: controlMessage-Format1 is expected")
    groups: list[_Found] = []
    _walk(message["ranP-List"], groups)
    if not groups:
        raise NotAQuota(f"no RRM policy ratio group (RAN parameter {RATIO_GROUP})")
    return [group.finish() for group in groups]


def parse_quota_header(raw: bytes) -> tuple[str, dict[str, Any]]:
    """The user id (alternative and components) of a control header for style 2, action 6.

    Raises:
        E2DecodeError: no RC control header.
        NotAQuota: another format, style or action.
    """
    name, header = decode_header(raw)["ric-controlHeader-formats"]
    if name != "controlHeader-Format1":
        raise NotAQuota(f"{name}: controlHeader-Format1 is expected")
    style, action = header["ric-Style-Type"], header["ric-ControlAction-ID"]
    if (style, action) != (STYLE_TYPE, ACTION_ID):
        raise NotAQuota(f"style {style}, action {action}: style {STYLE_TYPE}, action {ACTION_ID} is expected")
    ue: tuple[str, dict[str, Any]] = header["ueID"]
    return ue
