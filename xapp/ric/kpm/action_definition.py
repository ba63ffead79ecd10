"""The ActionDefinition of a subscription: what to measure, of whom (O-RAN.WG3.E2SM-KPM clause 8.2.1.2).

======  ===========================================  ======================================================
format  asks for                                     report style with which nodes usually offer it
======  ===========================================  ======================================================
1       measurements of the E2 node or of a cell     1
2       measurements of one user                     2
3       a condition for each measurement             3, users that meet it are listed in the indication
4       measurements of all users that meet a        4, from 2.01
        common condition
5       measurements of the listed users             5, from 2.01
======  ===========================================  ======================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from xapp.ric.asn1 import Bits, E2EncodeError, encode
from xapp.ric.kpm.measurements import MAX_NAME, measurement_number
from xapp.ric.kpm.model import UeId
from xapp.ric.kpm.schema import kpm_schema
from xapp.ric.kpm.versions import DEFAULT_KPM_VERSION, KpmVersion

DEFAULT_GUAMI: Final = bytes.fromhex("00f110010040")
"""PLMN 001/01, AMF region 1, set 1, pointer 0: PLMN octets, then 8 + 10 + 6 bits."""

_MAX_UINT32 = 0xFFFFFFFF
_NAME = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<label>[^\[\]]*)\])?")
_LABEL_FLAGS = frozenset(("noLabel", "sUM", "preLabelOverride", "min", "max", "avg"))
_LABEL_TEXTS = frozenset(("startEndInd",))


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on users (TestCondInfo).

    Attributes:
        test: ``gBR``, ``aMBR``, ``isStat``, ``isCatM``, ``rSRP``, ``rSRQ``; from 2.02 ``ul-rSRP``, ``cQI``,
            ``fiveQI``, ``qCI``, ``sNSSAI``.
        expression: ``equal``, ``greaterthan``, ``lessthan``, ``contains``, ``present``; None for none (from
            2.02).
        value: int, float, bool, bytes (OCTET STRING), str (PrintableString); None for none (from 2.02).
        alternative: the next condition of the list is an alternative to this one (``logicalOR``, from 2.03);
            otherwise both must hold.
    """

    test: str
    expression: str | None = None
    value: int | float | bool | bytes | str | None = None
    alternative: bool = False


def everyone(version: KpmVersion = DEFAULT_KPM_VERSION) -> Condition:
    """A condition that every user meets: RSRP, of the uplink where the version has it, below 1000."""
    return Condition("rSRP" if version in ("2.00", "2.01") else "ul-rSRP", "lessthan", 1000)


def _label(name: str, text: str) -> dict[str, Any]:
    """MeasurementLabel of ``fiveQI=9,sUM``."""
    label: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        try:
            if key in _LABEL_FLAGS:
                label[key] = "true"
            elif key in _LABEL_TEXTS:
                label[key] = value
            elif key == "plmnID":
                label[key] = bytes.fromhex(value)
            elif key == "sliceID":
                raw = bytes.fromhex(value)
                label[key] = {"sST": raw[:1], "sD": raw[1:]} if len(raw) > 1 else {"sST": raw}
            else:
                label[key] = int(value)
        except ValueError as error:
            raise E2EncodeError(f"measurement {name!r}: label {part!r} has no such value") from error
    return label or {"noLabel": "true"}


def _measurement(name: str) -> tuple[tuple[str, Any], dict[str, Any]]:
    """MeasurementType and MeasurementLabel of ``DRB.UEThpDl``, ``measID:5`` or ``DRB.UEThpDl[fiveQI=9]``."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise E2EncodeError(f"measurement {name!r}: NAME or NAME[LABEL=VALUE,...] is expected")
    plain, label = match["name"], _label(name, match["label"] or "")
    number = measurement_number(plain)
    if number is not None:
        return ("measID", number), label
    if len(plain) > MAX_NAME:
        raise E2EncodeError(f"measurement name {plain!r}: 1..{MAX_NAME} characters are legal")
    return ("measName", plain), label


def ueid_value(ue: int | UeId, guami: bytes = DEFAULT_GUAMI) -> tuple[str, Any]:
    """The UEID choice that names ``ue``.

    Args:
        ue: AMF-UE-NGAP-ID of a gNB's user, or an id as an indication gave it.
        guami: 6 octets, PLMN then AMF region, set, pointer; for kinds that need one.

    Raises:
        E2EncodeError: a kind that needs more than is known (en-gnb, enb: a global eNB id, a GUMMEI).
    """
    if isinstance(ue, int):
        ue = UeId("gnb", ue)
    if len(guami) != 6:
        raise E2EncodeError(f"GUAMI of {len(guami)} octets: 6 are needed")
    tail = int.from_bytes(guami[3:], "big")
    amf = {
        "pLMNIdentity": guami[:3],
        "aMFRegionID": Bits(tail >> 16, 8),
        "aMFSetID": Bits(tail >> 6 & 0x3FF, 10),
        "aMFPointer": Bits(tail & 0x3F, 6),
    }
    ran = {} if ue.ran_ue_id is None else {"ran-UEID": ue.ran_ue_id}
    match ue.kind:
        case "gnb":
            return "gNB-UEID", {"amf-UE-NGAP-ID": ue.value, "guami": amf, **ran}
        case "gnb-du":
            return "gNB-DU-UEID", {"gNB-CU-UE-F1AP-ID": ue.value, **ran}
        case "gnb-cu-up":
            return "gNB-CU-UP-UEID", {"gNB-CU-CP-UE-E1AP-ID": ue.value, **ran}
        case "ng-enb":
            return "ng-eNB-UEID", {"amf-UE-NGAP-ID": ue.value, "guami": amf}
        case "ng-enb-du":
            return "ng-eNB-DU-UEID", {"ng-eNB-CU-UE-W1AP-ID": ue.value}
    raise E2EncodeError(f"user {ue.user}: an id of kind {ue.kind} lacks the global ids that the UEID needs")


def _condition(condition: Condition) -> dict[str, Any]:
    """TestCondInfo."""
    info: dict[str, Any] = {"testType": (condition.test, "true")}
    if condition.expression is not None:
        info["testExpr"] = condition.expression
    match condition.value:
        case None:
            pass
        case bool():
            info["testValue"] = ("valueBool", condition.value)
        case int():
            info["testValue"] = ("valueInt", condition.value)
        case float():
            info["testValue"] = ("valueReal", condition.value)
        case bytes():
            info["testValue"] = ("valueOctS", condition.value)
        case str():
            info["testValue"] = ("valuePrtS", condition.value)
    return info


def _matching(conditions: Sequence[Condition], label: dict[str, Any], version: KpmVersion) -> list[Any]:
    """MatchingCondList of format 3: the measurement's label, unless it says nothing, and the conditions."""
    choices: list[tuple[Any, bool]] = [
        (("testCondInfo", _condition(condition)), condition.alternative) for condition in conditions
    ]
    if "noLabel" not in label or not choices:
        choices.insert(0, (("measLabel", label), False))
    if version in ("2.00", "2.01", "2.02"):
        if any(alternative for _, alternative in choices):
            raise E2EncodeError(f"alternative conditions: KPM {version} has none, 2.03 and newer have")
        return [choice for choice, _ in choices]
    return [
        {"matchingCondChoice": choice, **({"logicalOR": "true"} if alternative else {})}
        for choice, alternative in choices
    ]


def encode_action_definition(
    measurements: Sequence[str],
    granularity_ms: int,
    *,
    style: int = 4,
    ues: Sequence[int | UeId] = (),
    guami: bytes = DEFAULT_GUAMI,
    version: KpmVersion = DEFAULT_KPM_VERSION,
    action_format: int | None = None,
    conditions: Sequence[Condition] | None = None,
    cell: tuple[bytes, int] | None = None,
) -> bytes:
    """ActionDefinition that asks for ``measurements``.

    Args:
        measurements: names (``DRB.UEThpDl``), numbers (``measID:5``), with a label where one is wanted
            (``DRB.UEThpDl[fiveQI=9]``, ``RRU.PrbUsedDl[sliceID=01000002,sUM]``).
        granularity_ms: 1..4294967295.
        style: report style 1..5, as the RAN function numbers it.
        ues: AMF-UE-NGAP-IDs or ids: one for format 2, two or more for format 5.
        guami: 6 octets, PLMN then AMF region, set, pointer; for users named by AMF-UE-NGAP-ID.
        version: wire layout.
        action_format: 1..5; the number of the style if None. The RAN function tells it for each style.
        conditions: for formats 3 and 4; one that :func:`everyone` meets if None.
        cell: PLMN octets and NR cell identity (0..2**36 - 1) that formats 1 to 5 are limited to.

    Raises:
        E2EncodeError: a value is out of range, or the version has no such thing.
    """
    number = style if action_format is None else action_format
    if number not in (1, 2, 3, 4, 5):
        raise E2EncodeError(f"report style {style}, action format {number}: formats 1 to 5 are known")
    if number > 3 and version == "2.00":
        raise E2EncodeError(f"action format {number}: KPM 2.00 has 1 to 3")
    if not 1 <= granularity_ms <= _MAX_UINT32:
        raise E2EncodeError(f"granularity period of {granularity_ms} ms: 1..{_MAX_UINT32} are legal")
    if not 1 <= len(measurements) <= 65535:
        raise E2EncodeError(f"{len(measurements)} measurements: 1..65535 are legal")
    tests = [everyone(version)] if conditions is None else list(conditions)
    limits: dict[str, Any] = {"granulPeriod": granularity_ms}
    if cell is not None:
        plmn, identity = cell
        limits["cellGlobalID"] = ("nR-CGI", {"pLMNIdentity": plmn, "nRCellIdentity": Bits(identity, 36)})
    kinds = [_measurement(name) for name in measurements]
    content: dict[str, Any]
    if number == 3:
        content = {
            "measCondList": [
                {"measType": kind, "matchingCond": _matching(tests, label, version)} for kind, label in kinds
            ],
            **limits,
        }
    else:
        wanted = {
            "measInfoList": [
                {"measType": kind, "labelInfoList": [{"measLabel": label}]} for kind, label in kinds
            ],
            **limits,
        }
        content = wanted if number == 1 else _of_whom(number, wanted, ues, guami, tests)
    return encode(
        kpm_schema(version).action_definition,
        {
            "ric-Style-Type": style,
            "actionDefinition-formats": (f"actionDefinition-Format{number}", content),
        },
    )


def _of_whom(
    number: int,
    wanted: dict[str, Any],
    ues: Sequence[int | UeId],
    guami: bytes,
    conditions: Sequence[Condition],
) -> dict[str, Any]:
    """Content of formats 2, 4 and 5 around format 1."""
    if number == 2:
        if len(ues) != 1:
            raise E2EncodeError(f"{len(ues)} users for action format 2: one is wanted")
        return {"ueID": ueid_value(ues[0], guami), "subscriptInfo": wanted}
    if number == 4:
        listed = [
            {"testCondInfo": _condition(test), **({"logicalOR": "true"} if test.alternative else {})}
            for test in conditions
        ]
        return {"matchingUeCondList": listed, "subscriptionInfo": wanted}
    if not 2 <= len(ues) <= 65535:
        raise E2EncodeError(f"{len(ues)} users for action format 5: 2..65535 are legal")
    return {
        "matchingUEidList": [{"ueID": ueid_value(ue, guami)} for ue in ues],
        "subscriptionInfo": wanted,
    }
