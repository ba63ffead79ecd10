"""RC messages and RANfunction-Descriptions against vectors of a generic ASN.1 compiler."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xapp.ric.aper import E2DecodeError
from xapp.ric.asn1 import Bits
from xapp.ric.rc import (
    RC_OID,
    decode_function,
    decode_header,
    decode_message,
    decode_outcome,
    encode_function,
    encode_header,
    encode_message,
    encode_outcome,
    parse_function,
)

VECTORS = json.loads((Path(__file__).parent / "rc_vectors.json").read_text())["messages"]
CODECS: dict[str, tuple[Callable[[bytes], dict[str, Any]], Callable[[dict[str, Any]], bytes]]] = {
    "E2SM-RC-ControlHeader": (decode_header, encode_header),
    "E2SM-RC-ControlMessage": (decode_message, encode_message),
    "E2SM-RC-ControlOutcome": (decode_outcome, encode_outcome),
    "E2SM-RC-RANFunctionDefinition": (decode_function, encode_function),
}


def plain(value: Any) -> Any:
    """A vector's value with octets, bits and choices as the codec has them."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"hex"}:
        return bytes.fromhex(value["hex"])
    if value.keys() == {"bits"}:
        return Bits(*value["bits"])
    if value.keys() == {"choice"}:
        return (value["choice"][0], plain(value["choice"][1]))
    return {name: plain(item) for name, item in value.items()}


def parameter(identifier: int, name: str) -> dict[str, Any]:
    return {"ranParameter-ID": identifier, "ranParameter-name": name}


SLICE_QUOTA_STYLE = {
    "ric-ControlStyle-Type": 2,
    "ric-ControlStyle-Name": "Radio Resource Allocation Control",
    "ric-ControlAction-List": [
        {
            "ric-ControlAction-ID": 6,
            "ric-ControlAction-Name": "Slice-level PRB quota",
            "ran-ControlActionParameters-List": [parameter(1, "RRM Policy Ratio List")],
        }
    ],
    "ric-ControlHeaderFormat-Type": 1,
    "ric-ControlMessageFormat-Type": 1,
    "ric-ControlOutcomeFormat-Type": 1,
    "ran-ControlOutcomeParameters-List": [parameter(1, "test-outcome-ran-param")],
}
"""As srsRAN describes it."""


def description(*styles: dict[str, Any], **others: Any) -> bytes:
    name = {
        "ranFunction-ShortName": "ORAN-E2SM-RC",
        "ranFunction-E2SM-OID": RC_OID,
        "ranFunction-Description": "RAN Control",
    }
    value: dict[str, Any] = {"ranFunction-Name": name} | others
    if styles:
        value["ranFunctionDefinition-Control"] = {"ric-ControlStyle-List": list(styles)}
    return encode_function(value)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['type'][8:]}-{vector['hex'][:8]}")
def test_same_value_and_same_bytes_as_a_generic_compiler(vector: dict[str, Any]) -> None:
    decode, encode = CODECS[vector["type"]]
    value = plain(vector["value"])
    assert decode(bytes.fromhex(vector["hex"])) == value
    assert encode(value).hex() == vector["hex"]


def test_the_vectors_cover_every_type() -> None:
    assert {vector["type"] for vector in VECTORS} == CODECS.keys()


def test_a_node_that_offers_the_slice_quota_is_recognised() -> None:
    function = parse_function(description(SLICE_QUOTA_STYLE))
    assert (function.short_name, function.oid) == ("ORAN-E2SM-RC", RC_OID)
    assert function.offers(2, 6)
    assert not function.offers(2, 5)
    assert not function.offers(3, 6)
    assert function.offers_slice_quota
    style = function.styles[2]
    assert style.actions == {6: "Slice-level PRB quota"}
    assert not style.takes_call_process_id


@pytest.mark.parametrize(
    "style",
    [
        SLICE_QUOTA_STYLE | {"ric-ControlStyle-Type": 3},
        SLICE_QUOTA_STYLE | {"ric-ControlHeaderFormat-Type": 2},
        {name: value for name, value in SLICE_QUOTA_STYLE.items() if name != "ric-ControlAction-List"},
    ],
)
def test_a_node_that_offers_something_else_is_not(style: dict[str, Any]) -> None:
    assert not parse_function(description(style)).offers_slice_quota


def test_styles_behind_event_triggers_reports_and_inserts_are_found() -> None:
    trigger = {
        "ric-EventTriggerStyle-Type": 4,
        "ric-EventTriggerStyle-Name": "UE Information Change",
        "ric-EventTriggerFormat-Type": 4,
    }
    report = {
        "ric-ReportStyle-Type": 4,
        "ric-ReportStyle-Name": "UE Information",
        "ric-SupportedEventTriggerStyle-Type": 4,
        "ric-ReportActionFormat-Type": 1,
        "ric-IndicationHeaderFormat-Type": 1,
        "ric-IndicationMessageFormat-Type": 2,
        "ran-ReportParameters-List": [parameter(202, "RRC State")],
    }
    raw = description(
        SLICE_QUOTA_STYLE,
        **{
            "ranFunctionDefinition-EventTrigger": {"ric-EventTriggerStyle-List": [trigger]},
            "ranFunctionDefinition-Report": {"ric-ReportStyle-List": [report]},
        },
    )
    assert parse_function(raw).offers_slice_quota


def test_a_node_without_control_offers_nothing() -> None:
    function = parse_function(description())
    assert function.styles == {}
    assert not function.offers_slice_quota


def test_a_description_of_another_model_is_refused() -> None:
    with pytest.raises(E2DecodeError, match="E2SM-RC-RANFunctionDefinition"):
        parse_function(b"\x70\x00")


def test_a_thousand_mutated_descriptions_raise_only_decode_errors() -> None:
    rng = random.Random(3)
    seeds = [bytes.fromhex(v["hex"]) for v in VECTORS if v["type"] == "E2SM-RC-RANFunctionDefinition"]
    seeds.append(description(SLICE_QUOTA_STYLE))
    refused = 0
    for number in range(1000):
        raw = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        try:
            parse_function(bytes(raw))
        except E2DecodeError:
            refused += 1
    assert refused > 100
