"""The policy type: what the mediator checks by schema and what the xApp checks by struct are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric.a1.messages import LARGEST_TYPE_ID
from xapp.ric.a1.policy_type import (
    MAX_CONTENT_BYTES,
    POLICY_TYPE_ID,
    A1Policy,
    PolicyContentError,
    Weights,
    decode_policy,
)

TYPE_FILE = Path(__file__).parents[2] / "descriptors" / "a1-policy-type.json"
POLICY_TYPE: dict[str, Any] = json.loads(TYPE_FILE.read_text())
SCHEMA = jsonschema.Draft7Validator(POLICY_TYPE["create_schema"])

FULL: dict[str, Any] = {
    "scope": {"kind": "group", "ids": ["drone", "car"]},
    "weights": {"quality": 3, "bits": 1, "latency": 0.5, "energy": 0},
    "constraints": {
        "quality_target_db": 27,
        "max_prefix": 8,
        "max_bandwidth_ratio": 0.1,
        "budget_prefix": 5.5,
        "deadline_ms": 40,
    },
    "policy": {"name": "adaptive", "parameters": {"hysteresis": 0.02}},
    "experiment": {"arm": "treatment", "share": 0.5, "offset": 0.5, "seed": 7},
}


def accepted(content: Any) -> bool:
    try:
        decode_policy(json.dumps(content).encode())
    except PolicyContentError:
        return False
    return True


_numbers = st.one_of(
    st.sampled_from([0, 1, 2, 2.0, 6.0, 6.5, 96, 97, 100, 101, -1, 0.02, 0.021, 0.999, 2**31 - 1, 2**31]),
    st.floats(-10, 70_000, allow_nan=False),
)
_wrong = st.sampled_from([None, True, False, "", "5", [], {}, "adaptive"])
_names = st.one_of(st.text(max_size=3), st.sampled_from(["x" * 64, "x" * 65, "é" * 64]))


def _mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(good, good, good, good, _wrong)


def _part(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    known = st.fixed_dictionaries({}, optional={key: _mostly(value) for key, value in fields.items()})
    surplus = st.dictionaries(st.just("surplus"), _numbers, max_size=1)
    return st.one_of(known, known, known, st.builds(lambda a, b: {**a, **b}, known, surplus))


_ids = st.lists(st.sampled_from(["ue-1", "x" * 256, "x" * 257, "", "é"]), max_size=3)
_kinds = st.sampled_from(["user", "slice", "cell", "group", "all", "site"])
_CONTENT = _part(
    {
        "scope": _part({"kind": _kinds, "ids": _ids}),
        "weights": _part(dict.fromkeys(Weights.__struct_fields__, _numbers)),
        "constraints": _part(dict.fromkeys(FULL["constraints"], _numbers)),
        "policy": _part({"name": _names, "parameters": st.dictionaries(_names, _numbers, max_size=3)}),
        "experiment": _part({"arm": _names, "share": _numbers, "offset": _numbers, "seed": _numbers}),
    }
)


@settings(max_examples=100)
@given(_CONTENT)
def test_schema_and_struct_accept_the_same(content: Any) -> None:
    assert accepted(content) == SCHEMA.is_valid(content)


@settings(max_examples=200)
@given(st.data())
def test_schema_and_struct_agree_on_one_changed_value(data: st.DataObject) -> None:
    content = json.loads(json.dumps(FULL))
    part = content[data.draw(st.sampled_from(["scope", "weights", "constraints", "policy", "experiment"]))]
    part[data.draw(st.sampled_from([*part, "other"]))] = data.draw(st.one_of(_numbers, _wrong, _names, _ids))
    assert accepted(content) == SCHEMA.is_valid(content)


def test_a_full_instance_is_accepted_and_kept_as_it_is() -> None:
    assert SCHEMA.is_valid(FULL)
    policy = decode_policy(json.dumps(FULL).encode())
    assert policy.scope.ids == ("drone", "car")
    assert policy.constraints.max_prefix == 8
    assert policy.experiment.share == 0.5


def test_every_field_of_the_struct_is_in_the_schema_and_the_other_way_round() -> None:
    properties = POLICY_TYPE["create_schema"]["properties"]
    assert set(properties) == set(A1Policy.__struct_fields__)
    for name, part in properties.items():
        assert set(part["properties"]) == set(FULL[name])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scope": {"kind": "user"}}, "at least one id"),
        ({"scope": {"kind": "all", "ids": ["ue-1"]}}, "no ids"),
        ({"weights": {"bits": 0}}, "above 0"),
        ({"constraints": {"max_prefix": 6.5}}, "max_prefix"),
        ({"constraints": {"quality_target": 25}}, "quality_target"),
        ({"experiment": {"arm": "a", "share": 0}}, "share"),
    ],
)
def test_an_invalid_instance_is_refused_with_the_place_and_the_reason(change: Any, reason: str) -> None:
    assert not SCHEMA.is_valid({**FULL, **change})
    with pytest.raises(PolicyContentError, match=reason):
        decode_policy(json.dumps({**FULL, **change}).encode())


def test_an_oversize_instance_is_refused() -> None:
    with pytest.raises(PolicyContentError, match=str(MAX_CONTENT_BYTES)):
        decode_policy(b" " * MAX_CONTENT_BYTES + json.dumps(FULL).encode())


def test_the_largest_instance_of_the_schema_fits_the_limit_in_ascii_names() -> None:
    largest = {**FULL, "scope": {"kind": "user", "ids": [f"{i:064}" for i in range(64)]}}
    assert SCHEMA.is_valid(largest)
    assert accepted(largest)


def test_policy_type_file_is_what_the_mediator_takes() -> None:
    assert set(POLICY_TYPE) == {"name", "description", "policy_type_id", "create_schema"}
    assert POLICY_TYPE["policy_type_id"] == POLICY_TYPE_ID
    assert 1 <= POLICY_TYPE_ID <= LARGEST_TYPE_ID
    jsonschema.Draft7Validator.check_schema(POLICY_TYPE["create_schema"])
    # The mediator reads a stored type back as a raw string of Go, between backticks.
    assert "`" not in TYPE_FILE.read_text()
    assert not any(key in json.dumps(POLICY_TYPE) for key in ('"$id"', '"$ref"'))
