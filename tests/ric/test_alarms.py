"""Alarms: idempotent, told once, told again when they may be lost, and in the framework's schema."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import types
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric import alarms
from xapp.ric.alarms import (
    CONFIG_REFUSED,
    MAX_ALARMS,
    NO_INDICATIONS,
    PROBLEMS,
    RIC_ALARM_UPDATE,
    RUNTIME_UNREACHABLE,
    ActiveAlarmList,
    Severity,
    alarm_definitions,
    alarm_target,
    encode_alarm,
)

SCHEMA = {
    "type": "object",
    "required": [
        "managedObjectId", "applicationId", "specificProblem", "perceivedSeverity", "identifyingInfo",
        "AlarmAction", "AlarmTime",
    ],
    "properties": {
        "managedObjectId": {"type": "string"}, "applicationId": {"type": "string"},
        "specificProblem": {"type": "integer"}, "identifyingInfo": {"type": "string"},
        "perceivedSeverity": {
            "enum": ["UNSPECIFIED", "CRITICAL", "MAJOR", "MINOR", "WARNING", "CLEARED", "DEFAULT"]
        },
        "additionalInfo": {"type": "string"}, "AlarmAction": {"enum": ["RAISE", "CLEAR", "CLEARALL"]},
        "AlarmTime": {"type": "integer"},
    },
}  # fmt: skip
"""What ric-plt/alarm-go's schema asks for."""
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


class AlarmManager:
    """The other side, by alarm-go's rules; ``up`` and ``lossy`` are its state of health."""

    def __init__(self) -> None:
        self.up = True
        self.arrives_although_failed = False
        self.active: dict[tuple[Any, ...], str] = {}
        self.messages: list[dict[str, Any]] = []

    def send(self, mtype: int, payload: bytes) -> bool:
        if self.up or self.arrives_although_failed:
            self._consume(mtype, json.loads(payload))
        return self.up

    def _consume(self, mtype: int, message: dict[str, Any]) -> None:
        if mtype != RIC_ALARM_UPDATE:
            return
        VALIDATOR.validate(message)
        self.messages.append(message)
        key = tuple(
            message[name]
            for name in ("managedObjectId", "applicationId", "specificProblem", "identifyingInfo")
        )
        if message["AlarmAction"] == "RAISE":
            self.active.setdefault(key, message["perceivedSeverity"])
        else:
            self.active.pop(key, None)

    def problems(self) -> list[tuple[int, str]]:
        return sorted((key[2], key[3]) for key in self.active)


class Bench:
    """A list of alarms with a clock of its own, and the manager it tells."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.manager = AlarmManager()
        self.alarms = ActiveAlarmList(
            "semcom-xapp", "semcom-xapp", self.manager.send,
            clock=lambda: self.now, time_ns=lambda: 42, **options,
        )  # fmt: skip


def test_an_alarm_raised_twice_is_sent_once() -> None:
    bench = Bench()
    assert bench.alarms.raise_alarm(NO_INDICATIONS, "gnb_1", "none for 3 s")
    assert not bench.alarms.raise_alarm(NO_INDICATIONS, "gnb_1", "none for 9 s")
    assert bench.alarms.flush() == 1
    assert bench.alarms.flush() == 0
    (message,) = bench.manager.messages
    assert message == {
        "managedObjectId": "semcom-xapp", "applicationId": "semcom-xapp", "specificProblem": 84002,
        "perceivedSeverity": "MAJOR", "identifyingInfo": "gnb_1", "additionalInfo": "none for 3 s",
        "AlarmAction": "RAISE", "AlarmTime": 42,
    }  # fmt: skip


def test_alarms_of_one_problem_are_told_apart_by_what_they_are_about() -> None:
    bench = Bench()
    for node in ("gnb_1", "gnb_2"):
        bench.alarms.raise_alarm(NO_INDICATIONS, node)
    bench.alarms.flush()
    assert bench.alarms.clear_alarm(NO_INDICATIONS, "gnb_1")
    bench.alarms.flush()
    assert bench.manager.problems() == [(84002, "gnb_2")]
    assert [alarm["identifying_info"] for alarm in bench.alarms.active()] == ["gnb_2"]


def test_clearing_what_is_not_active_does_nothing() -> None:
    bench = Bench()
    assert not bench.alarms.clear_alarm(CONFIG_REFUSED)
    bench.alarms.raise_alarm(CONFIG_REFUSED)
    bench.alarms.flush()
    assert bench.alarms.clear_alarm(CONFIG_REFUSED)
    assert not bench.alarms.clear_alarm(CONFIG_REFUSED)
    bench.alarms.flush()
    assert [message["AlarmAction"] for message in bench.manager.messages] == ["RAISE", "CLEAR"]


def test_an_alarm_that_came_and_went_before_anything_was_sent_is_not_sent() -> None:
    bench = Bench()
    bench.alarms.raise_alarm(CONFIG_REFUSED)
    bench.alarms.clear_alarm(CONFIG_REFUSED)
    assert bench.alarms.flush() == 0


def test_a_failed_send_is_repeated_with_growing_delays() -> None:
    bench = Bench()
    bench.manager.up = False
    bench.alarms.raise_alarm(CONFIG_REFUSED)
    attempts = []
    for _ in range(200):
        before = bench.alarms.counters.failures
        bench.alarms.flush()
        if bench.alarms.counters.failures > before:
            attempts.append(bench.now)
        bench.now += 1.0
    assert attempts == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]
    bench.manager.up = True
    bench.now += 60.0
    assert bench.alarms.flush() == 1
    assert bench.manager.problems() == [(84003, "")]


def test_an_alarm_whose_message_arrived_although_the_send_failed_is_cleared_too() -> None:
    bench = Bench()
    bench.manager.up, bench.manager.arrives_although_failed = False, True
    bench.alarms.raise_alarm(CONFIG_REFUSED)
    bench.alarms.flush()
    bench.alarms.clear_alarm(CONFIG_REFUSED)
    bench.manager.up = True
    bench.now += 1.0
    bench.alarms.flush()
    assert bench.manager.problems() == []


def test_active_alarms_are_told_again_after_a_reconnect_without_waiting() -> None:
    bench = Bench()
    bench.alarms.raise_alarm(CONFIG_REFUSED)
    bench.alarms.raise_alarm(RUNTIME_UNREACHABLE)
    bench.alarms.flush()
    bench.alarms.clear_alarm(RUNTIME_UNREACHABLE)
    bench.manager.up = False
    bench.alarms.flush()
    bench.manager.active.clear()
    bench.manager.up = True
    bench.alarms.reconnected()
    assert bench.alarms.flush() == 2
    assert bench.manager.problems() == [(84003, "")]


def test_a_connection_lost_and_made_anew_between_two_looks_is_noticed() -> None:
    async def scenario() -> None:
        bench, connections = Bench(), 1
        bench.alarms.raise_alarm(NO_INDICATIONS, "gnb")
        task = asyncio.create_task(bench.alarms.run(0.001, lambda: connections))
        async with asyncio.timeout(10):
            while not bench.manager.active:  # noqa: ASYNC110 - the other side has no event
                await asyncio.sleep(0.001)
            bench.manager.active.clear()
            connections = 2
            while not bench.manager.active:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        task.cancel()
        assert len(bench.manager.messages) == 2

    asyncio.run(scenario())


def test_a_manager_that_forgot_silently_learns_the_active_alarms_in_time() -> None:
    bench = Bench(refresh_s=300.0)
    bench.alarms.raise_alarm(CONFIG_REFUSED)
    bench.alarms.flush()
    bench.manager.active.clear()
    bench.now = 299.0
    assert bench.alarms.flush() == 0
    bench.now = 300.0
    assert bench.alarms.flush() == 1
    assert bench.manager.problems() == [(84003, "")]


def test_there_are_never_more_alarms_than_the_bound() -> None:
    bench = Bench()
    for index in range(MAX_ALARMS + 5):
        bench.alarms.raise_alarm(NO_INDICATIONS, f"gnb_{index}")
    assert len(bench.alarms.active()) == MAX_ALARMS
    assert bench.alarms.counters.dropped == 5


def test_a_sender_that_raises_counts_as_a_failure() -> None:
    def send(_mtype: int, _payload: bytes) -> bool:
        raise OSError("no route")

    active = ActiveAlarmList("a", "a", send)
    active.raise_alarm(CONFIG_REFUSED)
    assert active.flush() == 0
    assert (active.counters.failures, active.counters.sent) == (1, 0)


def test_it_flushes_on_its_own_until_cancelled() -> None:
    async def scenario() -> None:
        bench = Bench()
        task = asyncio.create_task(bench.alarms.run(0.001))
        bench.alarms.raise_alarm(CONFIG_REFUSED)
        async with asyncio.timeout(10.0):
            while not bench.manager.active:  # noqa: ASYNC110 - the other side has no event
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(scenario())


NODES = st.sampled_from(["", "gnb_1", "gnb_2"])
STEPS = st.one_of(
    st.tuples(st.just("raise"), st.sampled_from(PROBLEMS[:3]), NODES),
    st.tuples(st.just("clear"), st.sampled_from(PROBLEMS[:3]), NODES),
    st.sampled_from([("flush",), ("down",), ("up",), ("leaky",), ("restart",)]),
)


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_whatever_happens_the_manager_ends_with_the_active_alarms(steps: list[tuple[Any, ...]]) -> None:
    bench = Bench()
    wanted: set[tuple[int, str]] = set()
    for name, *details in steps:
        if name in ("raise", "clear"):
            problem, node = details
            getattr(bench.alarms, f"{name}_alarm")(problem, node)
            (wanted.add if name == "raise" else wanted.discard)((problem.number, node))
        elif name == "flush":
            bench.now += 120.0
            bench.alarms.flush()
        elif name == "restart":
            bench.manager.active.clear()
        else:
            bench.manager.up = name == "up"
            bench.manager.arrives_although_failed = name == "leaky"
    bench.manager.up = True
    bench.alarms.reconnected()
    bench.alarms.flush()
    assert set(bench.manager.problems()) == wanted


def test_definitions_cover_every_problem_with_distinct_numbers() -> None:
    definitions = alarm_definitions()["alarmdefinitions"]
    constants = [value for value in vars(alarms).values() if isinstance(value, alarms.Problem)]
    assert {definition["alarmId"] for definition in definitions} == {problem.number for problem in constants}
    assert len(definitions) == len(constants) == len(PROBLEMS)
    # The platform's own: E2 connection, active and history thresholds.
    assert not {problem.number for problem in PROBLEMS} & {72004, 72007, 72008}
    # A time to live would end alarms that are still true.
    assert all(definition["timeToLive"] == 0 for definition in definitions)


def test_target_is_what_the_platform_says() -> None:
    assert alarm_target({}) == ("service-ricplt-alarmmanager-rmr.ricplt", 4560)
    given_by_platform = {"ALARM_MGR_SERVICE_NAME": "alarms", "ALARM_MGR_SERVICE_PORT": "4599"}
    assert alarm_target(given_by_platform) == ("alarms", 4599)
    with pytest.raises(ValueError, match="ALARM_MGR_SERVICE_PORT = 'tcp://x'"):
        alarm_target({"ALARM_MGR_SERVICE_PORT": "tcp://x"})


def test_messages_have_the_keys_and_words_of_ricxappframe(monkeypatch: pytest.MonkeyPatch) -> None:
    # The framework's alarm module binds librmr when imported; its message builder needs none of it.
    stub = types.ModuleType("ricxappframe.rmr")
    stub.rmr = types.ModuleType("ricxappframe.rmr.rmr")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ricxappframe.rmr", stub)
    monkeypatch.setitem(sys.modules, "ricxappframe.rmr.rmr", stub.rmr)
    monkeypatch.delitem(sys.modules, "ricxappframe.alarm.alarm", raising=False)
    framework = importlib.import_module("ricxappframe.alarm.alarm")
    monkeypatch.delitem(sys.modules, "ricxappframe.alarm.alarm")
    for severity in Severity:
        detail = framework.AlarmDetail("mo", "app", 84001, framework.AlarmSeverity[severity], "id", "more")
        theirs = framework.AlarmManager._create_alarm_message(detail, framework.AlarmAction.CLEAR)
        problem = alarms.Problem(84001, "", severity, "", "")
        ours = json.loads(
            encode_alarm(
                problem, "CLEAR", managed_object="mo", application="app", identifying_info="id",
                additional_info="more", time_ns=theirs["AlarmTime"],
            )
        )  # fmt: skip
        assert ours == theirs
