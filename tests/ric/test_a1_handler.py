"""Requests of the A1 mediator: what is answered, what changes, what is only counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric.a1.handler import A1Handler
from xapp.ric.a1.instances import MAX_ID_CHARACTERS, InstanceStore
from xapp.ric.a1.messages import MAX_MESSAGE_BYTES, decode_request, encode_query, encode_request
from xapp.ric.a1.policy_type import MAX_CONTENT_BYTES, POLICY_TYPE_ID, A1Policy

ALL = '{"scope":{"kind":"all"},"constraints":{"quality_target_db":27}}'
DRONES = '{"scope":{"kind":"group","ids":["drone"]}}'


class Harness:
    def __init__(self, max_instances: int = 4) -> None:
        self.changes = 0
        self.events: list[tuple[str, str]] = []
        self.handler = A1Handler(
            InstanceStore(max_instances),
            check=self.check,
            on_change=self.changed,
            on_event=lambda kind, text: self.events.append((kind, text)),
        )

    def check(self, policy: A1Policy, others: Mapping[str, A1Policy]) -> None:
        if policy.policy and policy.policy.name == "unknown":
            raise ValueError("policy 'unknown' is not known")

    def changed(self) -> None:
        self.changes += 1

    def ask(self, operation: str, instance: str = "i-1", content: str = ALL) -> dict[str, Any]:
        answer = self.handler.handle(encode_request(operation, POLICY_TYPE_ID, instance, content))
        assert answer is not None
        return json.loads(answer)

    @property
    def contents(self) -> list[str]:
        return [instance.policy.scope.kind for instance in self.handler.store.all()]


def test_create_is_answered_ok_with_numbers_as_numbers() -> None:
    harness = Harness()
    assert harness.ask("CREATE") == {
        "policy_type_id": POLICY_TYPE_ID,
        "policy_instance_id": "i-1",
        "handler_id": "semcom-xapp",
        "status": "OK",
    }
    assert harness.changes == 1
    assert harness.handler.counters.created == 1


def test_a_query_carries_the_type_as_a_number() -> None:
    assert json.loads(encode_query(POLICY_TYPE_ID)) == {"policy_type_id": POLICY_TYPE_ID}


def test_a_request_of_the_mediator_before_2022_is_read_too() -> None:
    harness = Harness()
    message = {
        "operation": "CREATE",
        "policy_type_id": POLICY_TYPE_ID,
        "policy_instance_id": "i-1",
        "payload": json.loads(DRONES),
    }
    answer = harness.handler.handle(json.dumps(message).encode())
    assert answer is not None
    assert json.loads(answer)["status"] == "OK"
    assert harness.contents == ["group"]
    message |= {"operation": "DELETE", "payload": None}
    answer = harness.handler.handle(json.dumps(message).encode())
    assert answer is not None
    assert json.loads(answer)["status"] == "DELETED"


def test_update_replaces_and_delete_removes() -> None:
    harness = Harness()
    harness.ask("CREATE")
    assert harness.ask("UPDATE", content=DRONES)["status"] == "OK"
    assert harness.contents == ["group"]
    assert harness.ask("DELETE", content="")["status"] == "DELETED"
    assert harness.contents == []
    assert harness.changes == 3


def test_duplicates_change_nothing_and_are_answered_alike() -> None:
    harness = Harness()
    for _ in range(3):
        assert harness.ask("CREATE")["status"] == "OK"
    for _ in range(3):
        assert harness.ask("DELETE", content="")["status"] == "DELETED"
    assert harness.changes == 2
    assert harness.handler.counters.repeated == 4


def test_an_update_of_an_instance_whose_create_was_lost_creates_it() -> None:
    harness = Harness()
    assert harness.ask("UPDATE")["status"] == "OK"
    assert harness.handler.counters.created == 1


@pytest.mark.parametrize(
    ("operation", "content", "reason"),
    [
        ("CREATE", "{scope}", "malformed"),
        ("CREATE", "", "truncated"),
        ("CREATE", "[]", "object"),
        ("CREATE", '{"scope":{"kind":"all"},"policy":{"name":"unknown"}}', "not known"),
        ("CREATE", '{"scope":{"kind":"all"},"weights":{"energy":"much"}}', "weights.energy"),
        ("CREATE", ALL + " " * MAX_CONTENT_BYTES, "at most"),
        ("CREATE", "[" * 5000, ""),
        ("ENFORCE", ALL, "CREATE, UPDATE or DELETE"),
        ("", ALL, "CREATE, UPDATE or DELETE"),
    ],
)
def test_what_cannot_be_followed_is_answered_error_and_changes_nothing(
    operation: str, content: str, reason: str
) -> None:
    harness = Harness()
    harness.ask("CREATE", content=DRONES)
    before = harness.handler.store.snapshot()
    answer = harness.ask(operation, content=content)
    assert answer["status"] == "ERROR"
    assert answer["policy_type_id"] == POLICY_TYPE_ID
    assert answer["reason"]
    assert reason in answer["reason"]
    assert harness.handler.store.snapshot() == before
    assert harness.changes == 1
    assert harness.events[-1][0] == "a1_policy_refused"
    assert harness.handler.counters.refused == 1


def test_another_policy_type_is_answered_error_under_its_own_number() -> None:
    harness = Harness()
    answer = harness.handler.handle(encode_request("CREATE", 20008, "i-1", ALL))
    assert answer is not None
    assert json.loads(answer)["policy_type_id"] == 20008
    assert json.loads(answer)["status"] == "ERROR"
    assert harness.contents == []


def test_instances_are_bounded_in_number_and_length_of_name() -> None:
    harness = Harness(max_instances=2)
    assert harness.ask("CREATE", "a")["status"] == "OK"
    assert harness.ask("CREATE", "b")["status"] == "OK"
    assert "limit of 2" in harness.ask("CREATE", "c")["reason"]
    assert harness.ask("UPDATE", "b", DRONES)["status"] == "OK"
    harness.ask("DELETE", "a", "")
    assert harness.ask("CREATE", "c")["status"] == "OK"
    assert str(MAX_ID_CHARACTERS) in Harness().ask("CREATE", "x" * (MAX_ID_CHARACTERS + 1))["reason"]
    assert Harness().ask("CREATE", "")["status"] == "ERROR"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b"{}",
        b'{"operation":"CREATE","policy_instance_id":"i"}',
        b'{"operation":"CREATE","policy_type_id":"20950"}',
        b'{"operation":"CREATE","policy_type_id":"0","policy_instance_id":"i"}',
        b'{"operation":"CREATE","policy_type_id":"2147483648","policy_instance_id":"i"}',
        b'{"operation":"CREATE","policy_type_id":"-5","policy_instance_id":"i"}',
        b'{"operation":"CREATE","policy_type_id":true,"policy_instance_id":"i"}',
        b'{"operation":"CREATE","policy_type_id":"20950","policy_instance_id":5}',
        b"[" * 100_000,
        b'{"policy_type_id":"20950","policy_instance_id":"i","payload":' + b"[" * 50_000,
        b" " * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_a_request_without_readable_ids_is_counted_and_not_answered(message: bytes) -> None:
    harness = Harness()
    assert harness.handler.handle(message) is None
    assert harness.handler.counters.malformed == 1
    assert harness.events[-1][0] == "a1_malformed"


def test_the_same_complaint_is_made_once() -> None:
    harness = Harness()
    for _ in range(5):
        harness.handler.handle(b"junk")
    assert len(harness.events) == 1
    assert harness.handler.counters.malformed == 5


_fragments = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b'{"policy_type_id":"20950","policy_instance_id":"i",', b'"operation":"CREATE"']),
    st.sampled_from([b'"payload":', b"}", b",", b"{", b'"', b"null", b"[1]"]),
    st.sampled_from([b'"{\\"scope\\":{\\"kind\\":\\"all\\"}}"', b'"\\ud800"', b'"\xff"']),
)


@settings(max_examples=200)
@given(st.lists(_fragments, max_size=8).map(b"".join))
def test_whatever_arrives_the_handler_goes_on(message: bytes) -> None:
    harness = Harness()
    answer = harness.handler.handle(message)
    counters = harness.handler.counters
    assert (answer is None) == (counters.malformed == 1)
    if answer is not None:
        body = json.loads(answer)
        assert type(body["policy_type_id"]) is int
        assert body["status"] in ("OK", "ERROR", "DELETED")
    assert harness.ask("CREATE")["status"] == "OK"


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from(["CREATE", "UPDATE", "DELETE"]), st.sampled_from("abc"), st.booleans()),
        max_size=20,
    )
)
def test_what_was_heard_last_of_an_instance_counts(requests: list[tuple[str, str, bool]]) -> None:
    harness = Harness()
    expected: dict[str, str] = {}
    for operation, instance, whole in requests:
        harness.ask(operation, instance, ALL if whole else DRONES)
        if operation == "DELETE":
            expected.pop(instance, None)
        else:
            expected[instance] = "all" if whole else "group"
    assert {i.instance_id: i.policy.scope.kind for i in harness.handler.store.all()} == expected


@given(st.text(max_size=30), st.text(max_size=30), st.integers(1, 2**31 - 1), st.text(max_size=30))
def test_requests_survive_the_way(operation: str, content: str, type_id: int, instance: str) -> None:
    request = decode_request(encode_request(operation, type_id, instance, content))
    assert (request.operation, request.content) == (operation, content.encode())
    assert (request.policy_type_id, request.policy_instance_id) == (type_id, instance)
