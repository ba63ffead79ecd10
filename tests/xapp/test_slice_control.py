"""Asking nodes for radio resources: off by default, one request at a time, refusals, switching off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from xapp.lab.rc_node import RcMisbehaviour, RcNode
from xapp.policy.radio_resources import QuotaRules, SliceDemand
from xapp.ric.control import RicControl
from xapp.ric.kpm.model import UeId
from xapp.ric.rc import PrbQuota, RcFunction, SliceId
from xapp.ric.rmr.frame import RmrMessage
from xapp.slice_control import RcTarget, SliceControl

NODE = "gnb_001_001_00000001"
CAMERAS = SliceId(bytes.fromhex("00f110"), 1, 1)
TARGET = RcTarget(NODE, 3)
UE = UeId("gnb-du", 5)
ON = QuotaRules(enabled=True, headroom=1.0, interval_s=5.0)


class Bench:
    """Slice control in front of the lab's node, without a network."""

    def __init__(self, rules: QuotaRules = ON) -> None:
        self.now_s = 0.0
        self.node = RcNode(NODE, self._reply, users={5})
        self.client = RicControl(self._send, requestor_id=900, backoff_s=(0.001, 0.001))
        self.control = SliceControl(self.client, rules, timeout_s=0.005, clock=lambda: self.now_s)

    def _send(self, message: RmrMessage) -> bool:
        asyncio.get_running_loop().call_soon(self.node.on_message, message)
        return True

    def _reply(self, _to: RmrMessage, answer: RmrMessage) -> bool:
        return self.client.on_message(answer)

    def step(self, needed: float = 15.0, *, target: RcTarget = TARGET, ue: UeId = UE) -> bool:
        return self.control.step(target, ue, [SliceDemand(CAMERAS, needed)])

    async def settle(self, needed: float = 15.0, now_s: float = 0.0) -> bool:
        """A step at ``now_s`` and the end of what it began; whether it began something."""
        self.now_s = now_s
        began = self.step(needed)
        await asyncio.gather(*self.control._tasks.values())
        return began


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(10):
            return await work

    return asyncio.run(limited())


def test_nothing_is_asked_by_default() -> None:
    bench = Bench(QuotaRules())
    assert run(bench.settle()) is False
    assert bench.node.counters.requests == 0


def test_an_acknowledged_quota_is_in_force_at_the_node() -> None:
    bench = Bench()

    async def scenario() -> None:
        assert await bench.settle()
        assert not await bench.settle(now_s=10.0)

    run(scenario())
    assert bench.node.quotas == {CAMERAS: PrbQuota(15, 100, 0)}
    assert bench.control.resources(NODE).in_force == bench.node.quotas
    assert bench.control.counters.in_force == 1


def test_one_request_a_node_is_under_way() -> None:
    async def scenario() -> list[bool]:
        bench = Bench()
        began = [bench.step()]
        bench.control.forget(NODE)
        bench.now_s = 100.0
        began.append(bench.step(30.0))
        await bench.control.close()
        return began

    assert run(scenario()) == [True, False]


def test_silence_makes_the_quotas_unknown_and_they_are_asked_for_again() -> None:
    bench = Bench()

    async def scenario() -> None:
        bench.node.misbehaviour = RcMisbehaviour(silences=-1)
        await bench.settle()
        assert bench.control.counters.unknown == 1
        bench.node.misbehaviour = RcMisbehaviour()
        assert not await bench.settle(now_s=4.0)
        assert await bench.settle(now_s=5.0)

    run(scenario())
    assert bench.node.quotas == {CAMERAS: PrbQuota(15)}


def test_a_refusal_is_counted_and_changes_nothing() -> None:
    bench = Bench()
    bench.node.users = {6}
    run(bench.settle())
    assert bench.control.counters.refused == 1
    assert bench.control.resources(NODE).in_force == {}


def test_switched_off_the_node_gets_its_defaults_back() -> None:
    bench = Bench()

    async def scenario() -> None:
        await bench.settle()
        bench.control.set_rules(QuotaRules())
        assert await bench.settle(now_s=10.0)
        assert not await bench.settle(now_s=100.0)

    run(scenario())
    assert bench.node.quotas == {CAMERAS: PrbQuota()}


def test_a_node_that_does_not_offer_the_action_is_not_asked() -> None:
    nothing = RcFunction("ORAN-E2SM-RC", "1.3.6.1.4.1.53148.1.1.2.3", {})
    assert not Bench().step(target=RcTarget(NODE, 3, nothing))


def test_a_user_that_no_header_can_name_is_an_error_that_is_counted() -> None:
    bench = Bench()
    assert not bench.step(ue=UeId("enb", 1))
    assert bench.control.counters.errors == 1
    bench.now_s = 100.0
    assert not bench.step(target=RcTarget(NODE, 3), ue=UeId("enb", 1))
    assert bench.control.counters.errors == 2


def test_a_request_that_cannot_be_sent_is_an_error_that_is_counted() -> None:
    bench = Bench()

    async def scenario() -> None:
        assert bench.step(target=RcTarget(NODE, 4096))
        await asyncio.gather(*bench.control._tasks.values())

    run(scenario())
    assert bench.control.counters.errors == 1
