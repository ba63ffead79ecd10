"""The KPM schema against encodings of pycrate: every message, every version; and the action definitions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import schema_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xapp.benchmarks.kpm_reference import pycrate_kpm, real_notation
from xapp.ric.asn1 import (
    Asn1Type,
    Bits,
    Choice,
    E2DecodeError,
    E2EncodeError,
    Null,
    Real,
    Sequence,
    SequenceOf,
    decode,
    encode,
)
from xapp.ric.inspect.tree import to_json
from xapp.ric.kpm.action_definition import Condition, encode_action_definition, ueid_value
from xapp.ric.kpm.model import UeId
from xapp.ric.kpm.schema import (
    ACTION_DEFINITION,
    INDICATION_HEADER,
    INDICATION_MESSAGE,
    KPM_PDUS,
    decode_kpm_pdu,
    encode_kpm_pdu,
    kpm_schema,
)
from xapp.ric.kpm.versions import (
    KPM_VERSIONS,
    KpmVersion,
    kpm_layout,
    kpm_version_of_oid,
    parse_kpm_version,
)

VECTORS = json.loads((Path(__file__).parent / "kpm_schema_vectors.json").read_text())["messages"]


def vector_id(vector: dict[str, Any]) -> str:
    return f"{vector['version']} {vector['pdu'][9:]} {vector['hex'][:8]}"


def from_json(kind: Asn1Type, value: Any) -> Any:
    """Back from the JSON form of the vectors."""
    match kind:
        case Sequence():
            parts = {part.name: part.kind for part in kind.root + kind.additions}
            return {name: from_json(parts[name], part) for name, part in value.items()}
        case SequenceOf():
            return [from_json(kind.item, item) for item in value]
        case Choice():
            parts = {part.name: part.kind for part in kind.root + kind.additions}
            return value[0], from_json(parts[value[0]], value[1])
    match value:
        case {"hex": octets}:
            return bytes.fromhex(octets)
        case [{"hex": octets}, size]:
            return Bits(int(octets or "0", 16) >> (-size % 8), size)
    return value


@pytest.mark.parametrize("vector", VECTORS, ids=vector_id)
def test_messages_of_pycrate_decode_and_encode(vector: dict[str, Any]) -> None:
    value = decode_kpm_pdu(vector["pdu"], bytes.fromhex(vector["hex"]), vector["version"])
    assert to_json(value) == vector["value"]
    kind = kpm_schema(vector["version"]).pdus[vector["pdu"]]
    assert encode(kind, from_json(kind, vector["value"])).hex() == vector["hex"]


def pycrate_notation(kind: Asn1Type, value: Any) -> Any:
    match kind:
        case Real():
            return real_notation(value)
        case Null():
            return 0
        case Sequence():
            parts = {part.name: part.kind for part in kind.root + kind.additions}
            return {name: pycrate_notation(parts[name], part) for name, part in value.items()}
        case SequenceOf():
            return [pycrate_notation(kind.item, item) for item in value]
        case Choice():
            parts = {part.name: part.kind for part in kind.root + kind.additions}
            return value[0], pycrate_notation(parts[value[0]], value[1])
    return value


def without_additions(kind: Any) -> Any:
    """``kind`` as pycrate 0.8 encodes it right: it misaligns additions of a SEQUENCE now and then."""
    match kind:
        case Sequence():
            root = tuple(dataclasses.replace(part, kind=without_additions(part.kind)) for part in kind.root)
            return dataclasses.replace(kind, root=root, additions=())
        case Choice():
            root, additions = (
                tuple(dataclasses.replace(part, kind=without_additions(part.kind)) for part in parts)
                for parts in (kind.root, kind.additions)
            )
            return dataclasses.replace(kind, root=root, additions=additions)
        case SequenceOf():
            return dataclasses.replace(kind, item=without_additions(kind.item))
    return kind


def agrees(value: Any) -> bool:
    """No value that pycrate encodes otherwise: it aligns behind an empty string, and knows no -0.0."""
    match value:
        case "" | b"" | (0, 0):
            return False
        case float():
            return value != 0 or math.copysign(1, value) > 0
        case dict():
            return all(map(agrees, value.values()))
        case list() | tuple():
            return all(map(agrees, value))
    return True


@pytest.mark.parametrize("version", ["2.01", "2.02", "3.00", "flexric"])
def test_indications_are_encoded_as_the_reference_does(version: KpmVersion) -> None:
    kind = kpm_schema(version).indication_message
    reference = pycrate_kpm(version)

    @settings(max_examples=10, database=None, suppress_health_check=list(HealthCheck))
    @given(schema_values.values_of(without_additions(kind)).filter(agrees))
    def check(value: Any) -> None:
        encoded = encode(kind, value)
        assert encoded == reference.encode(INDICATION_MESSAGE, pycrate_notation(kind, value))
        assert decode(kind, encoded) == value

    check()


@pytest.mark.parametrize("version", ["2.01", "flexric"])
def test_action_definitions_survive_in_every_layout(version: KpmVersion) -> None:
    kind = kpm_schema(version).action_definition

    @settings(max_examples=4, database=None, suppress_health_check=list(HealthCheck))
    @given(schema_values.values_of(kind))
    def check(value: Any) -> None:
        assert decode(kind, encode(kind, value)) == value

    check()


@pytest.mark.parametrize("stamp", ["e8fe6f80", "e8fe6f8080000000"])
def test_header_is_read_with_either_time_stamp_in_every_version(stamp: str) -> None:
    for version in KPM_VERSIONS:
        value = decode_kpm_pdu(INDICATION_HEADER, bytes.fromhex("00" + stamp), version)
        assert value["indicationHeader-formats"][1]["colletStartTime"].hex() == stamp


CELL = (bytes.fromhex("00f110"), 0x12345C001)
NAMES = (
    "DRB.UEThpDl",
    "measID:5",
    "RRU.PrbUsedDl[sliceID=01000002,sUM]",
    "QosFlow.X[fiveQI=9,plmnID=00f110]",
)


@pytest.mark.parametrize("version", KPM_VERSIONS)
@pytest.mark.parametrize(
    ("style", "ues"), [(1, ()), (2, (7,)), (3, ()), (4, ()), (5, (7, UeId("gnb-du", 9)))]
)
def test_action_definition_of_each_format_says_what_was_asked(
    style: int, ues: tuple[int | UeId, ...], version: KpmVersion
) -> None:
    if version == "2.00" and style > 3:
        with pytest.raises(E2EncodeError, match=r"KPM 2\.00 has 1 to 3"):
            encode_action_definition(NAMES, 100, style=style, ues=ues, version=version)
        return
    encoded = encode_action_definition(NAMES, 100, style=style, ues=ues, version=version, cell=CELL)
    value = decode_kpm_pdu(ACTION_DEFINITION, encoded, version)
    assert value["ric-Style-Type"] == style
    name, content = value["actionDefinition-formats"]
    assert name == f"actionDefinition-Format{style}"
    asked = content.get("subscriptionInfo", content.get("subscriptInfo", content))
    assert asked["granulPeriod"] == 100
    assert asked["cellGlobalID"][1] == {"pLMNIdentity": CELL[0], "nRCellIdentity": Bits(CELL[1], 36)}
    items = asked.get("measInfoList", asked.get("measCondList"))
    assert [item["measType"] for item in items] == [
        ("measName", "DRB.UEThpDl"),
        ("measID", 5),
        ("measName", "RRU.PrbUsedDl"),
        ("measName", "QosFlow.X"),
    ]
    if style != 3:
        assert [item["labelInfoList"][0]["measLabel"] for item in items[1:]] == [
            {"noLabel": "true"},
            {"sliceID": {"sST": b"\x01", "sD": b"\0\0\2"}, "sUM": "true"},
            {"plmnID": b"\0\xf1\x10", "fiveQI": 9},
        ]
    if style == 5:
        assert [item["ueID"][0] for item in content["matchingUEidList"]] == ["gNB-UEID", "gNB-DU-UEID"]


def test_condition_of_style_4_is_one_the_version_has() -> None:
    for version, test in (("2.01", "rSRP"), ("2.02", "ul-rSRP"), ("flexric", "ul-rSRP")):
        encoded = encode_action_definition(["A"], 100, version=parse_kpm_version(version))
        content = decode_kpm_pdu(ACTION_DEFINITION, encoded, parse_kpm_version(version))
        (item,) = content["actionDefinition-formats"][1]["matchingUeCondList"]
        assert item["testCondInfo"]["testType"] == (test, "true")


def test_conditions_of_format_3_keep_their_alternatives() -> None:
    conditions = [Condition("gBR", alternative=True), Condition("rSRP", "lessthan", -100.5)]
    encoded = encode_action_definition(["A[qFI=5]"], 100, style=3, conditions=conditions)
    (item,) = decode_kpm_pdu(ACTION_DEFINITION, encoded)["actionDefinition-formats"][1]["measCondList"]
    assert item["matchingCond"] == [
        {"matchingCondChoice": ("measLabel", {"qFI": 5})},
        {"matchingCondChoice": ("testCondInfo", {"testType": ("gBR", "true")}), "logicalOR": "true"},
        {
            "matchingCondChoice": (
                "testCondInfo",
                {"testType": ("rSRP", "true"), "testExpr": "lessthan", "testValue": ("valueReal", -100.5)},
            )
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"style": 6}, "formats 1 to 5"),
        ({"style": 2}, "one is wanted"),
        ({"style": 5, "ues": (1,)}, "2..65535"),
        ({"style": 2, "ues": (UeId("enb", 1),)}, "global ids"),
        ({"granularity_ms": 0}, "granularity"),
        ({"measurements": ()}, "0 measurements"),
        ({"measurements": ("measID:0",)}, "1..65536"),
        ({"measurements": ("A[nothing=1]",)}, "nothing"),
        ({"measurements": ("A[qFI=x]",)}, "qFI=x"),
        ({"measurements": ("A]",)}, "is expected"),
        ({"style": 3, "version": "2.02", "conditions": (Condition("gBR", alternative=True),)}, "2.03"),
        ({"style": 3, "version": "2.01", "conditions": (Condition("gBR"),)}, "testExpr"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: dict[str, Any], cause: str) -> None:
    with pytest.raises(E2EncodeError, match=cause):
        encode_action_definition(**{"measurements": ("A",), "granularity_ms": 100, **arguments})


def test_a_user_of_an_indication_can_be_asked_for() -> None:
    assert ueid_value(UeId("gnb-cu-up", 3, b"\0" * 8)) == (
        "gNB-CU-UP-UEID",
        {"gNB-CU-CP-UE-E1AP-ID": 3, "ran-UEID": b"\0" * 8},
    )


@pytest.mark.parametrize(("text", "version"), [("v02.03", "2.03"), ("3", "3.00"), ("FlexRIC", "flexric")])
def test_versions_are_read_as_people_write_them(text: str, version: str) -> None:
    assert parse_kpm_version(text) == version
    with pytest.raises(ValueError, match="are known"):
        parse_kpm_version(text + "x")


def test_only_an_oid_that_fixes_the_layout_proves_a_version() -> None:
    assert kpm_version_of_oid("1.3.6.1.4.1.53148.1.3.2.2") == "3.00"
    for unclear in ("1.3.6.1.4.1.53148.1.2.2.2", "1.3.6.1.4.1.53148.1.3.2.3", "OID123", "", "1.3"):
        assert kpm_version_of_oid(unclear) is None
    assert kpm_layout("3.00") == kpm_layout("5.00")


@given(
    st.sampled_from(VECTORS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.data(),
)
def test_mutated_and_truncated_messages_raise_only_decode_errors(
    vector: dict[str, Any], changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    octets = bytearray.fromhex(vector["hex"])
    for offset, value in changes:
        octets[offset % len(octets)] = value
    cut = bytes(octets[: data.draw(st.integers(0, len(octets)))])
    for pdu in KPM_PDUS:
        with contextlib.suppress(E2DecodeError):
            decode_kpm_pdu(pdu, cut, vector["version"])


def test_what_decodes_encodes_again() -> None:
    for vector in VECTORS:
        value = decode_kpm_pdu(vector["pdu"], bytes.fromhex(vector["hex"]), vector["version"])
        if vector["pdu"] != INDICATION_HEADER:
            assert encode_kpm_pdu(vector["pdu"], value, vector["version"]).hex() == vector["hex"]
