"""Discovery of E2 nodes: records, changes, and a data layer that fails."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ricxappframe.entities.rnib import nb_identity_pb2, nodeb_info_pb2

from xapp.ric.rnib import (
    E2NodeInfo,
    RanFunction,
    RnibChange,
    RnibCounters,
    RnibReader,
    RnibState,
    RnibWatch,
    parse_node,
)
from xapp.ric.sdl import SdlUnavailable

KPM = RanFunction(id=2, definition=b"\x00\x01", revision=1, oid="1.3.6.1.4.1.53148.1.2.2.2")


def record(name: str, status: int = 1, definition: str = "0001", stamp: bytes = b"") -> bytes:
    info = nodeb_info_pb2.NodebInfo(ran_name=name, connection_status=status)
    info.gnb.ran_functions.add(
        ran_function_id=2,
        ran_function_definition=definition,
        ran_function_revision=1,
        ran_function_oid=KPM.oid,
    )
    return bytes(info.SerializeToString()) + stamp


def identity(name: str) -> bytes:
    return bytes(nb_identity_pb2.NbIdentity(inventory_name=name).SerializeToString())


class Store:
    """A data layer in memory."""

    def __init__(self, gnbs: set[bytes] | None = None, **records: bytes) -> None:
        self.sets = {"GNB": gnbs or set()}
        self.values = {f"RAN:{name}": value for name, value in records.items()}
        self.failing: Exception | None = None
        self.hanging = False

    async def members(self, group: str) -> set[bytes]:
        if self.failing is not None:
            raise self.failing
        if self.hanging:
            await asyncio.sleep(60)
        return self.sets.get(group, set())

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)


def node(name: str = "gnb", *, status: str = "connected", revision: int = 1, since: int = 0) -> E2NodeInfo:
    function = RanFunction(2, b"", revision, KPM.oid)
    return E2NodeInfo(name, "GNB", status, (function,), status_since_ns=since)


def kinds(changes: list[RnibChange]) -> list[str]:
    return [change.kind for change in changes]


def test_nodes_are_read_with_their_functions() -> None:
    store = Store({identity("a"), identity("b")}, a=record("a"), b=record("b", status=2))
    nodes = asyncio.run(RnibReader(store).read())
    assert nodes["a"] == E2NodeInfo("a", "GNB", "connected", (KPM,))
    assert nodes["b"] is not None
    assert not nodes["b"].connected


def test_white_space_in_a_definition_is_ignored_and_other_junk_counted() -> None:
    assert parse_node("a", "GNB", record("a", definition="\n  00 \t01\n")).functions == (KPM,)
    counters = RnibCounters()
    found = parse_node("a", "GNB", record("a", definition="00 0g"), counters)
    assert found.functions[0].definition == b""
    assert counters.bad_definitions == 1


def test_the_time_of_the_status_is_read_though_the_protobufs_do_not_know_it() -> None:
    assert parse_node("a", "GNB", record("a", stamp=bytes([14 << 3, 0x96, 0x01]))).status_since_ns == 150
    assert parse_node("a", "GNB", record("a")).status_since_ns == 0


def test_a_record_of_another_node_is_refused() -> None:
    with pytest.raises(ValueError, match="is the record of 'b'"):
        parse_node("a", "GNB", record("b"))


def test_a_status_newer_than_known_is_not_connected() -> None:
    assert parse_node("a", "GNB", record("a", status=7)).status == "under-reset"
    assert parse_node("a", "GNB", record("a", status=99)).status == "unknown"


def test_bad_and_missing_records_are_counted_and_do_not_hide_the_others() -> None:
    store = Store({identity("a"), identity("b"), identity("c"), b"\xff\xff", b""}, a=record("a"), b=b"\xff")
    reader = RnibReader(store)
    nodes = asyncio.run(reader.read())
    assert {name for name, found in nodes.items() if found is not None} == {"a"}
    assert nodes["b"] is nodes["c"] is None
    assert (reader.counters.bad_records, reader.counters.missing_records) == (3, 1)


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_no_bytes_can_break_the_reader(raw: bytes) -> None:
    nodes = asyncio.run(RnibReader(Store({raw, identity("a")}, a=raw)).read())
    assert nodes["a"] is None or nodes["a"].name == "a"


@pytest.mark.parametrize(
    ("oid", "model"),
    [
        ("1.3.6.1.4.1.53148.1.2.2.2", ("KPM", 2)),
        ("1.3.6.1.4.1.53148.1.1.2.3", ("RC", 1)),
        ("1.3.6.1.4.1.53148.1.6.2.4", None),
        ("", None),
        ("KPM", None),
    ],
)
def test_the_oid_names_the_service_model(oid: str, model: tuple[str, int] | None) -> None:
    assert RanFunction(1, b"", 1, oid).service_model == model


def test_every_kind_of_change_is_told_once() -> None:
    state = RnibState()
    assert kinds(state.update({"gnb": node(status="connecting")})) == ["appeared"]
    assert kinds(state.update({"gnb": node()})) == ["connected"]
    assert kinds(state.update({"gnb": node()})) == []
    assert kinds(state.update({"gnb": node(revision=2)})) == ["functions"]
    assert kinds(state.update({"gnb": node(status="disconnected", revision=2)})) == ["disconnected"]
    assert kinds(state.update({"gnb": node(status="shut-down", revision=2)})) == []
    assert kinds(state.update({"gnb": node(revision=3)})) == ["connected"]


def test_a_reconnection_between_two_polls_shows() -> None:
    state = RnibState()
    state.update({"gnb": node(since=1)})
    assert kinds(state.update({"gnb": node(since=2)})) == ["connected"]


def test_a_node_missed_once_is_not_gone() -> None:
    state = RnibState()
    state.update({"gnb": node()})
    assert state.update({}) == []
    assert state.update({"gnb": node()}) == []
    assert state.update({}) == []
    assert kinds(state.update({})) == ["gone"]
    assert state.nodes == {}


def test_an_unreadable_record_leaves_what_was_known() -> None:
    state = RnibState()
    state.update({"gnb": node()})
    for _ in range(5):
        assert state.update({"gnb": None}) == []
    assert state.nodes == {"gnb": node()}


STATES = st.one_of(
    st.none(),
    st.builds(
        node,
        status=st.sampled_from(["connected", "disconnected"]),
        revision=st.integers(1, 2),
        since=st.integers(0, 1),
    ),
)


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.just("gnb"), STATES), max_size=15))
def test_a_listener_that_follows_the_changes_knows_who_is_connected(
    readings: list[dict[str, E2NodeInfo | None]],
) -> None:
    state, heard = RnibState(), {}
    for reading in readings:
        for change in state.update(reading):
            name = change.node.name
            if change.kind == "gone":
                del heard[name]
            elif change.kind == "functions":
                assert heard[name]
            else:
                assert (change.kind == "appeared") == (name not in heard)
                assert (change.kind != "disconnected") or heard[name]
                heard[name] = change.node.connected
        assert heard == {name: found.connected for name, found in state.nodes.items()}


def test_a_failing_data_layer_keeps_the_nodes_and_is_counted() -> None:
    store, changes = Store({identity("a")}, a=record("a")), []
    watch = RnibWatch(RnibReader(store), changes.append, timeout_s=0.05)

    async def scenario() -> None:
        assert watch.reachable is None
        await watch.poll()
        assert watch.reachable
        store.failing = SdlUnavailable("away")
        await watch.poll()
        await watch.poll()
        store.failing, store.hanging = None, True
        await watch.poll()
        assert not watch.reachable
        store.hanging = False
        await watch.poll()

    asyncio.run(scenario())
    assert kinds(changes) == ["appeared"]
    assert (watch.counters.polls, watch.counters.failed_polls) == (2, 3)
    assert set(watch.state.nodes) == {"a"}


def test_a_callback_that_fails_does_not_end_the_watch() -> None:
    def fail(change: RnibChange) -> None:
        raise RuntimeError(change.kind)

    async def scenario() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await watch.run()

    watch = RnibWatch(RnibReader(Store({identity("a")}, a=record("a"))), fail, period_s=0.001)
    asyncio.run(scenario())
    assert watch.counters.callback_errors == 1
    assert watch.counters.polls > 1
