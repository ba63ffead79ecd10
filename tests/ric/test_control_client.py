"""The RIC Control client against a simulated E2 node: matching, timeouts, repetitions, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from xapp.ric.control import INSTANCE_IDS, ControlOutcome, ControlResult, RicControl
from xapp.ric.e2ap_control import (
    Cause,
    RicControlAcknowledge,
    RicControlFailure,
    RicControlRequest,
    decode_control_request,
    encode_control_acknowledge,
    encode_control_failure,
)
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.messages import RIC_CONTROL_ACK, RIC_CONTROL_FAILURE, RIC_CONTROL_REQ, RIC_INDICATION

NODE = "gnb_001_001_00000001"
SILENCE = "silence"
Reply = Callable[[RicControlRequest], RicControlAcknowledge | RicControlFailure | str | None]


def ack(request: RicControlRequest, **fields: Any) -> RicControlAcknowledge:
    values = {
        "requestor_id": request.requestor_id,
        "instance_id": request.instance_id,
        "ran_function_id": request.ran_function_id,
        "outcome": b"done",
    }
    return RicControlAcknowledge(**(values | fields))


def failure(cause: Cause) -> Reply:
    return lambda request: RicControlFailure(request.requestor_id, request.instance_id, 3, cause)


def answer_message(answer: RicControlAcknowledge | RicControlFailure, meid: str = NODE) -> RmrMessage:
    if isinstance(answer, RicControlFailure):
        payload, mtype = encode_control_failure(answer), RIC_CONTROL_FAILURE
    else:
        payload, mtype = encode_control_acknowledge(answer), RIC_CONTROL_ACK
    # As the E2 termination of OSC: instance id as sub_id, a transaction id of its own.
    return RmrMessage(mtype, payload, sub_id=answer.instance_id, meid=meid, xid=b"             17")


class Node:
    """Answers each request with the next of ``replies``; the last one stays."""

    def __init__(self, *replies: Reply, taken: Callable[[int], bool] = lambda _number: True) -> None:
        self.requests: list[RicControlRequest] = []
        self.messages: list[RmrMessage] = []
        self.events: list[tuple[str, str]] = []
        self.arrived: asyncio.Queue[RicControlRequest] = asyncio.Queue()
        self.calls = 0
        self._replies = list(replies)
        self._taken = taken
        self.control = RicControl(
            self._send, requestor_id=900, max_in_flight=3, backoff_s=(0.002, 0.004), on_event=self._event
        )

    def _event(self, kind: str, text: str) -> None:
        self.events.append((kind, text))

    def _send(self, message: RmrMessage) -> bool:
        self.calls += 1
        if not self._taken(self.calls):
            return False
        self.messages.append(message)
        request = decode_control_request(message.payload)
        self.requests.append(request)
        self.arrived.put_nowait(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        answer = reply(request)
        if isinstance(answer, (RicControlAcknowledge, RicControlFailure)):
            asyncio.get_running_loop().call_soon(self.control.on_message, answer_message(answer))
        return True

    async def ask(self, **options: Any) -> ControlOutcome:
        options = {"timeout_s": 0.01} | options
        return await self.control.request(NODE, 3, b"header", b"message", **options)


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(10):
            return await work

    return asyncio.run(limited())


def ask(node: Node, **options: Any) -> ControlOutcome:
    outcome: ControlOutcome = run(node.ask(**options))
    return outcome


def silence(_request: RicControlRequest) -> str:
    return SILENCE


def test_an_acknowledge_ends_the_request_with_the_nodes_outcome() -> None:
    node = Node(ack)
    outcome = ask(node, call_process_id=b"call")
    assert outcome.acknowledged
    assert (outcome.outcome, outcome.attempts) == (b"done", 1)
    (message,) = node.messages
    assert (message.mtype, message.meid, message.sub_id) == (RIC_CONTROL_REQ, NODE, -1)
    (request,) = node.requests
    assert request.requestor_id == 900
    assert request.instance_id in INSTANCE_IDS
    assert request.acknowledge is True
    assert request.call_process_id == b"call"
    assert node.control.in_flight == 0
    assert node.events == []


def test_a_failure_tells_the_cause_and_is_not_repeated() -> None:
    node = Node(failure(Cause("ricRequest", "control-message-invalid")))
    outcome = ask(node, idempotent=True)
    assert outcome.result is ControlResult.FAILED
    assert outcome.cause == Cause("ricRequest", "control-message-invalid")
    assert len(node.requests) == 1
    assert node.events == [("ric-control", node.events[0][1])]
    assert "control-message-invalid" in node.events[0][1]


def test_silence_is_a_timeout_and_is_not_repeated_unless_idempotent() -> None:
    node = Node(silence)
    assert ask(node).result is ControlResult.TIMEOUT
    assert len(node.requests) == 1
    assert node.control.counters.timeouts == 1


def test_an_idempotent_request_is_repeated_under_a_new_instance_id() -> None:
    node = Node(silence, ack)
    outcome = ask(node, idempotent=True)
    assert outcome.acknowledged
    assert outcome.attempts == 2
    assert len({request.instance_id for request in node.requests}) == 2
    assert node.control.counters.retries == 1


def test_repetitions_end() -> None:
    node = Node(silence)
    outcome = ask(node, idempotent=True, attempts=3)
    assert (outcome.result, outcome.attempts) == (ControlResult.TIMEOUT, 3)
    assert node.control.counters.sent == 3


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_node_that_did_not_begin_is_asked_again(idempotent: bool) -> None:
    node = Node(failure(Cause("misc", "control-processing-overload")), ack)
    assert ask(node, idempotent=idempotent).acknowledged
    assert len(node.requests) == 2


def test_an_expired_timer_in_the_node_is_repeated_only_if_idempotent() -> None:
    expired = failure(Cause("ricRequest", "control-timer-expired"))
    assert ask(Node(expired, ack), idempotent=False).result is ControlResult.FAILED
    assert ask(Node(expired, ack), idempotent=True).acknowledged


def test_a_message_that_did_not_leave_is_sent_again() -> None:
    node = Node(ack, taken=lambda number: number == 2)
    outcome = ask(node)
    assert outcome.acknowledged
    assert (outcome.attempts, node.calls) == (1, 2)


def test_a_transport_that_takes_nothing_is_reported() -> None:
    node = Node(ack, taken=lambda _number: False)
    outcome = ask(node)
    assert (outcome.result, outcome.attempts) == (ControlResult.NOT_SENT, 0)
    assert node.calls == 3
    assert node.control.counters.not_sent == 1


def test_a_timeout_stands_when_the_repetition_could_not_be_sent() -> None:
    node = Node(silence, taken=lambda number: number == 1)
    outcome = ask(node, idempotent=True)
    assert (outcome.result, outcome.attempts) == (ControlResult.TIMEOUT, 1)


def test_a_late_answer_to_the_first_attempt_ends_the_request() -> None:
    node = Node(silence, lambda _request: ack(node.requests[0]))
    outcome = ask(node, idempotent=True)
    assert (outcome.result, outcome.attempts) == (ControlResult.ACKNOWLEDGED, 2)
    assert node.control.counters.unmatched == 0


@pytest.mark.parametrize(
    ("fields", "meid", "counter"),
    [
        ({"requestor_id": 901}, NODE, "unmatched"),
        ({"instance_id": 7}, NODE, "unmatched"),
        ({}, "gnb_001_001_00000002", "unmatched"),
        ({"ran_function_id": 4}, NODE, "mismatched"),
        ({"call_process_id": b"other"}, NODE, "mismatched"),
    ],
)
def test_answers_to_something_else_are_counted_and_change_nothing(
    fields: dict[str, Any], meid: str, counter: str
) -> None:
    async def scenario() -> tuple[ControlOutcome, Node]:
        node = Node(silence)
        task = asyncio.create_task(node.ask(call_process_id=b"call", timeout_s=0.03))
        await node.arrived.get()
        assert node.control.on_message(answer_message(ack(node.requests[0], **fields), meid))
        return await task, node

    outcome, node = run(scenario())
    assert outcome.result is ControlResult.TIMEOUT
    assert getattr(node.control.counters, counter) == 1


def test_an_answer_after_the_end_is_counted() -> None:
    node = Node(silence)
    ask(node)
    assert node.control.on_message(answer_message(ack(node.requests[0])))
    assert node.control.counters.unmatched == 1


def test_bytes_that_are_no_answer_are_counted_and_dropped() -> None:
    node = Node(silence)
    assert node.control.on_message(RmrMessage(RIC_CONTROL_ACK, b"\x20\x04", meid=NODE))
    assert node.control.counters.decode_errors == 1


def test_other_message_types_are_left_to_others() -> None:
    assert not Node(silence).control.on_message(RmrMessage(RIC_INDICATION, b"", meid=NODE))


def test_too_many_requests_in_flight_are_refused_at_once() -> None:
    async def scenario() -> tuple[list[ControlOutcome], Node]:
        node = Node(silence)
        return await asyncio.gather(*(node.ask() for _ in range(5))), node

    outcomes, node = run(scenario())
    assert [outcome.result for outcome in outcomes].count(ControlResult.NOT_SENT) == 2
    assert len(node.requests) == 3
    assert node.control.counters.refused == 2


def test_requests_in_flight_keep_their_answers_apart() -> None:
    async def scenario() -> list[ControlOutcome]:
        node = Node(silence)
        tasks = [asyncio.create_task(node.ask(timeout_s=5.0)) for _ in range(3)]
        for _ in range(3):
            await node.arrived.get()
        for number in (2, 0, 1):
            answer = ack(node.requests[number], outcome=bytes((number,)))
            node.control.on_message(answer_message(answer))
        return await asyncio.gather(*tasks)

    assert [outcome.outcome for outcome in run(scenario())] == [b"\0", b"\1", b"\2"]


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def scenario() -> Node:
        node = Node(silence)
        task = asyncio.create_task(node.ask(timeout_s=5.0))
        await node.arrived.get()
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        node.control.on_message(answer_message(ack(node.requests[0])))
        return node

    node = run(scenario())
    assert node.control.in_flight == 0
    assert node.control.counters.unmatched == 1


@pytest.mark.parametrize(
    ("options", "cause"),
    [({"timeout_s": 0.0}, "timeout_s"), ({"attempts": 0}, "attempts"), ({"attempts": 9}, "attempts")],
)
def test_arguments_out_of_range_are_named(options: dict[str, Any], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        ask(Node(ack), **options)


def test_a_request_that_cannot_be_encoded_is_an_error_and_ends() -> None:
    node = Node(ack)
    with pytest.raises(ValueError, match="ran_function_id"):
        run(node.control.request(NODE, 4096, b"", b""))
    assert node.control.in_flight == 0
