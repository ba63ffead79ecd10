"""Instances that outlive the process, and what a query puts right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from xapp.ric.a1.handler import A1Handler
from xapp.ric.a1.instances import InstanceStore, SnapshotError
from xapp.ric.a1.messages import encode_request
from xapp.ric.a1.policy_type import POLICY_TYPE_ID, A1Policy, decode_policy
from xapp.ric.a1.service import A1Service
from xapp.ric.sdl import SdlRejected, SdlUnavailable

ALL = '{"scope":{"kind":"all"}}'
DRONES = '{"scope":{"kind":"group","ids":["drone"]}}'


class Key:
    """A key of the data layer that fails as often as told."""

    def __init__(self, value: bytes | None = None, failures: int = 0, rejections: int = 0) -> None:
        self.value = value
        self.failures = failures
        self.rejections = rejections
        self.saves = 0

    async def load(self) -> bytes | None:
        self._maybe_fail()
        return self.value

    async def save(self, value: bytes | None) -> None:
        self._maybe_fail()
        self.value = value
        self.saves += 1

    def _maybe_fail(self) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise SdlUnavailable("away")
        if self.rejections > 0:
            self.rejections -= 1
            raise SdlRejected("no")


class Mediator:
    """Answers queries by CREATE requests, in the test's own task."""

    def __init__(self, **instances: str) -> None:
        self.instances = instances
        self.silent = 0
        self.queries = 0
        self.answers: list[str] = []
        self.service: A1Service | None = None

    def query(self, payload: bytes) -> bool:
        assert json.loads(payload) == {"policy_type_id": POLICY_TYPE_ID}
        self.queries += 1
        if self.silent > 0:
            self.silent -= 1
            return True
        asyncio.get_running_loop().call_soon(self.resend)
        return True

    def resend(self) -> None:
        for instance, content in self.instances.items():
            self.send("CREATE", instance, content)

    def send(self, operation: str, instance: str, content: str = "") -> None:
        assert self.service is not None
        request = encode_request(operation, POLICY_TYPE_ID, instance, content)
        self.service.on_message(request, self.take)

    def take(self, answer: bytes) -> bool:
        self.answers.append(json.loads(answer)["status"])
        return True


def make(key: Key, mediator: Mediator, events: list[str] | None = None) -> A1Service:
    def noted(kind: str, text: str) -> None:
        if events is not None:
            events.append(kind)

    handler = A1Handler(InstanceStore(), check=lambda policy, others: None, on_event=noted)
    service = A1Service(handler, key, mediator.query, answer_window_s=0.005, backoff_s=(0.002, 0.02))
    mediator.service = service
    return service


def kept(*instances: tuple[str, str]) -> bytes:
    store = InstanceStore()
    for instance, content in instances:
        store.put(instance, decode_policy(content.encode()))
    return store.snapshot()


def ids(service: A1Service) -> list[str]:
    return [instance.instance_id for instance in service.handler.store.all()]


def running(service: A1Service, scenario: Callable[[], object]) -> None:
    """Run the service and, beside it, ``scenario``."""

    async def both() -> None:
        task = asyncio.create_task(service.run())
        try:
            await scenario()  # type: ignore[misc]
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(both())


def test_instances_survive_a_restart() -> None:
    key = Key()
    mediator = Mediator()
    first = make(key, mediator)

    async def created() -> None:
        mediator.send("CREATE", "a", ALL)
        mediator.send("CREATE", "b", DRONES)
        mediator.send("UPDATE", "a", '{"scope":{"kind":"all"},"weights":{"bits":1}}')
        await until(lambda: key.saves > 0)

    running(first, created)
    changes: list[int] = []
    mediator = Mediator()
    second = make(key, mediator)
    second.handler.on_change = lambda: changes.append(1)

    async def restored() -> None:
        await until(lambda: len(ids(second)) == 2)

    running(second, restored)
    assert ids(second) == ids(first) == ["b", "a"]
    assert [i.policy for i in second.handler.store.all()] == [i.policy for i in first.handler.store.all()]
    assert changes == [1]
    assert second.handler.counters.restored == 2


def test_nothing_is_written_before_the_earlier_snapshot_was_read() -> None:
    key = Key(kept(("a", ALL)), failures=4)
    mediator = Mediator()
    service = make(key, mediator)

    async def scenario() -> None:
        mediator.send("CREATE", "b", DRONES)
        assert not await service.write()
        await until(lambda: key.saves > 0)

    running(service, scenario)
    assert ids(service) == ["a", "b"]
    store = InstanceStore()
    store.restore(key.value, lambda policy, others: None)
    assert [i.instance_id for i in store.all()] == ["a", "b"]


def test_what_was_heard_before_the_snapshot_is_newer_than_it() -> None:
    store = InstanceStore()
    store.put("changed", decode_policy(DRONES.encode()))
    store.delete("deleted")
    snapshot = kept(("changed", ALL), ("deleted", ALL), ("old", ALL))
    assert store.restore(snapshot, lambda policy, others: None) == {}
    kinds = [(i.instance_id, i.policy.scope.kind) for i in store.all()]
    assert kinds == [("old", "all"), ("changed", "group")]


def test_an_instance_that_is_no_longer_valid_is_left_out_and_told() -> None:
    events: list[str] = []
    service = make(Key(kept(("good", ALL), ("bad", DRONES))), Mediator(), events)

    def check(policy: A1Policy, others: object) -> None:
        if policy.scope.kind == "group":
            raise ValueError("policy is gone")

    service.handler.check = check

    async def scenario() -> None:
        await until(lambda: bool(ids(service)))

    running(service, scenario)
    assert ids(service) == ["good"]
    assert "a1_policy_forgotten" in events


@pytest.mark.parametrize("snapshot", [b"", b"junk", b"\x82\xa7version\x09\xa9instances\x90"])
def test_a_broken_snapshot_is_reported_and_ignored(snapshot: bytes) -> None:
    events: list[str] = []
    key = Key(snapshot)
    mediator = Mediator()
    service = make(key, mediator, events)

    async def scenario() -> None:
        await until(lambda: "a1_restore_failed" in events)
        mediator.send("CREATE", "a", ALL)
        await until(lambda: key.saves > 0)

    running(service, scenario)
    assert ids(service) == ["a"]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_snapshot_or_a_snapshot_error(data: bytes) -> None:
    store = InstanceStore()
    try:
        store.restore(data, lambda policy, others: None)
    except SnapshotError:
        assert len(store) == 0


def test_requests_are_answered_while_the_data_layer_refuses_everything() -> None:
    key = Key(failures=10**6)
    mediator = Mediator()
    service = make(key, mediator)

    async def scenario() -> None:
        mediator.send("CREATE", "a", ALL)
        await asyncio.sleep(0.02)
        mediator.send("DELETE", "a")

    running(service, scenario)
    assert mediator.answers == ["OK", "DELETED"]
    assert key.saves == 0


def test_a_change_made_while_the_data_layer_is_away_is_written_later() -> None:
    key = Key()
    mediator = Mediator()
    service = make(key, mediator)

    async def scenario() -> None:
        await until(lambda: mediator.queries > 0)
        key.failures, key.rejections = 3, 2
        mediator.send("CREATE", "a", ALL)
        await until(lambda: key.saves == 1)

    running(service, scenario)
    assert key.value == service.handler.store.snapshot()


def test_the_start_queries_until_the_mediator_answers() -> None:
    mediator = Mediator(a=ALL, b=DRONES)
    mediator.silent = 3
    service = make(Key(), mediator)

    async def scenario() -> None:
        await until(lambda: len(ids(service)) == 2)

    running(service, scenario)
    assert mediator.queries >= 4
    assert set(mediator.answers) == {"OK"}


def test_an_instance_deleted_while_the_xapp_was_away_is_forgotten() -> None:
    events: list[str] = []
    key = Key(kept(("stays", ALL), ("gone", DRONES)))
    service = make(key, Mediator(stays=ALL), events)

    async def scenario() -> None:
        await until(lambda: ids(service) == ["stays"])
        await until(lambda: key.value == service.handler.store.snapshot())

    running(service, scenario)
    assert "a1_policy_forgotten" in events
    assert service.unconfirmed == []


def test_a_silent_mediator_makes_nothing_be_forgotten() -> None:
    mediator = Mediator()
    service = make(Key(kept(("a", ALL))), mediator)

    async def scenario() -> None:
        await until(lambda: mediator.queries >= 4)
        await asyncio.sleep(0.02)

    running(service, scenario)
    assert ids(service) == ["a"]


def test_new_instances_alone_are_no_answer_to_a_query() -> None:
    store = InstanceStore()
    store.put("old", decode_policy(ALL.encode()))
    store.begin_round()
    store.put("new", decode_policy(ALL.encode()))
    assert not store.answered
    store.put("new", decode_policy(ALL.encode()))
    assert store.answered
    assert store.unconfirmed() == ["old"]


def test_a_query_heals_a_reordering() -> None:
    mediator = Mediator(a=DRONES)
    service = make(Key(), mediator)

    async def scenario() -> None:
        await until(lambda: mediator.queries >= 2)
        mediator.send("UPDATE", "a", ALL)  # an older content, overtaken on the way
        service.query()
        await until(lambda: service.handler.store.all()[0].policy.scope.kind == "group")

    running(service, scenario)


def test_an_answer_that_the_transport_does_not_take_is_counted() -> None:
    service = make(Key(), Mediator())
    service.on_message(encode_request("CREATE", POLICY_TYPE_ID, "a", ALL), lambda answer: False)
    assert service.handler.counters.answers_lost == 1
    assert ids(service) == ["a"]
