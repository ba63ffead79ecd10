"""RIC Control over RMR: requests to E2 nodes (12040) and the answers that belong to them (12041, 12042).

Rules:
- An answer belongs to a request by the E2 node's name, RIC requestor id and RIC instance id. The RMR
  transaction id does not serve: the E2 termination of OSC writes one of its own into answers.
- The E2 termination puts the RIC instance id into the ``sub_id`` of an answer, and RMR prefers a route for
  that ``sub_id``. Subscriptions are numbered from 1 up, so control takes its instance ids from the top
  (``INSTANCE_IDS``); otherwise the answer might go to the xApp that owns the subscription of that number.
  Answers to other xApps' requests may arrive here: they are counted, not errors; each xApp needs its own
  requestor id.
- Every attempt has its own instance id; while the request lasts, an answer to any of its attempts ends it.
- An attempt is repeated, with doubling delays, only where that is safe: always when the message did not leave
  or the node says that it did not begin (:data:`NOT_BEGUN`); after a timeout or a timer that expired in the
  node only if the caller says the request is idempotent.
- A node that does not support what is asked may stay silent (srsRAN does): a timeout is a normal outcome.

To be used on one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from xapp.ric.aper import E2DecodeError
from xapp.ric.e2ap_control import (
    Cause,
    RicControlAcknowledge,
    RicControlFailure,
    RicControlRequest,
    decode_control_answer,
    encode_control_request,
)
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage

INSTANCE_IDS: Final = range(0xF000, 0x10000)
"""RIC instance ids of control requests, used in turn."""

NOT_BEGUN: Final = frozenset(
    {
        Cause("ricRequest", "system-not-ready"),
        Cause("misc", "control-processing-overload"),
        Cause("transport", "transport-resource-unavailable"),
    }
)
"""Causes after which the same request may be sent again, whatever it asks: the node has done nothing."""

_TIMER_EXPIRED: Final = Cause("ricRequest", "control-timer-expired")

_log = logging.getLogger(__name__)

Send = Callable[[RmrMessage], bool]
"""Hands a message to RMR; False when it was not taken (queue full, no route)."""

EventCallback = Callable[[str, str], None]
"""Called with the kind of an event and a line about it, for people."""


class ControlResult(StrEnum):
    """How a request ended."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    TIMEOUT = "timeout"
    NOT_SENT = "not-sent"


@dataclass(frozen=True, slots=True)
class ControlOutcome:
    """What became of a request.

    Attributes:
        result: see :class:`ControlResult`; after ``TIMEOUT`` the node may or may not have acted.
        cause: of a failure, else None.
        outcome: RIC control outcome of the service model, where the node sent one.
        attempts: requests sent.
        elapsed_s: from the call to the end.
    """

    result: ControlResult
    cause: Cause | None = None
    outcome: bytes | None = None
    attempts: int = 0
    elapsed_s: float = 0.0

    @property
    def acknowledged(self) -> bool:
        """The node did what was asked."""
        return self.result is ControlResult.ACKNOWLEDGED


@dataclass(slots=True)
class ControlCounters:
    """Each only grows.

    Attributes:
        requests: calls of :meth:`RicControl.request`.
        sent: RIC Control Requests handed to RMR, repetitions included. retries: repetitions.
        acknowledged, failed, timeouts, not_sent: requests by result.
        refused: of ``not_sent``, because too many were in flight.
        unmatched: answers to no request in flight: late ones, and those to other xApps.
        mismatched: answers with the ids of a request, but another RAN function or call process id.
        decode_errors: answers that are no E2AP control answer.
    """

    requests: int = 0
    sent: int = 0
    retries: int = 0
    acknowledged: int = 0
    failed: int = 0
    timeouts: int = 0
    not_sent: int = 0
    refused: int = 0
    unmatched: int = 0
    mismatched: int = 0
    decode_errors: int = 0


_Answer = RicControlAcknowledge | RicControlFailure
_Key = tuple[str, int]


@dataclass(slots=True)
class _Pending:
    """One request; ``keys`` are those of its attempts."""

    ran_function_id: int
    call_process_id: bytes | None
    answer: asyncio.Future[_Answer]
    keys: list[_Key] = field(default_factory=list)


class RicControl:
    """See the module docstring.

    Args:
        send: hands a message to RMR, which routes it by its meid.
        requestor_id: RIC requestor id of this xApp, 0..65535; the OSC subscription manager uses 123.
        max_in_flight: requests that may wait for an answer or a repetition at once.
        backoff_s: first and longest wait before a repetition.
        on_event: told of every request that was not acknowledged.
        clock: monotonic seconds.

    Attributes:
        counters: see :class:`ControlCounters`.
    """

    def __init__(
        self,
        send: Send,
        *,
        requestor_id: int,
        max_in_flight: int = 64,
        backoff_s: tuple[float, float] = (0.2, 2.0),
        on_event: EventCallback | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= requestor_id <= 65535:
            raise ValueError(f"requestor_id = {requestor_id}: 0..65535 is expected")
        if not 1 <= max_in_flight <= len(INSTANCE_IDS) // 16:
            raise ValueError(f"max_in_flight = {max_in_flight}: 1..{len(INSTANCE_IDS) // 16} is expected")
        self.counters = ControlCounters()
        self._send = send
        self._requestor_id = requestor_id
        self._max_in_flight = max_in_flight
        self._backoff_s = backoff_s
        self._on_event = on_event
        self._clock = clock
        self._instances = itertools.cycle(INSTANCE_IDS)
        self._pending: dict[_Key, _Pending] = {}
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return self._in_flight

    async def request(
        self,
        meid: str,
        ran_function_id: int,
        header: bytes,
        message: bytes,
        timeout_s: float = 1.0,
        *,
        call_process_id: bytes | None = None,
        idempotent: bool = False,
        attempts: int = 3,
    ) -> ControlOutcome:
        """Ask an E2 node and wait for its answer.

        Args:
            meid: name of the E2 node.
            ran_function_id: of the service model at that node, 0..4095.
            header, message: octet strings of the service model.
            timeout_s: of each attempt, above 0.
            call_process_id: of the insert indication that is answered.
            idempotent: doing it twice does no harm, so that it may be repeated after a timeout.
            attempts: at most so many, from 1 up to 8.

        Raises:
            ValueError: an argument is out of range (:class:`xapp.ric.aper.E2EncodeError`) or does not fit an
                RMR frame.
        """
        if timeout_s <= 0 or not 1 <= attempts <= 8:
            raise ValueError(f"timeout_s = {timeout_s}, attempts = {attempts}: above 0 and 1..8 are expected")
        self.counters.requests += 1
        began = self._clock()
        if self._in_flight >= self._max_in_flight:
            self.counters.refused += 1
            return self._ended(
                meid, ControlOutcome(ControlResult.NOT_SENT), f"{self._in_flight} are in flight"
            )
        pending = _Pending(ran_function_id, call_process_id, asyncio.get_running_loop().create_future())
        self._in_flight += 1
        try:
            outcome = await self._attempt_all(meid, pending, header, message, timeout_s, idempotent, attempts)
        finally:
            self._in_flight -= 1
            for key in pending.keys:
                self._pending.pop(key, None)
        elapsed = self._clock() - began
        ended = ControlOutcome(outcome.result, outcome.cause, outcome.outcome, outcome.attempts, elapsed)
        return self._ended(meid, ended, f"{outcome.attempts} attempts, {elapsed:.3g} s")

    def on_message(self, message: RmrMessage, received_ns: int = 0) -> bool:
        """Take an RMR message; False if it is no answer to a control request (by its type)."""
        if message.mtype not in (messages.RIC_CONTROL_ACK, messages.RIC_CONTROL_FAILURE):
            return False
        try:
            answer = decode_control_answer(message.payload)
        except E2DecodeError as error:
            self.counters.decode_errors += 1
            _log.warning("control answer of E2 node %.64r dropped: %s", message.meid, error)
            return True
        pending = self._pending.get((message.meid, answer.instance_id))
        if pending is None or answer.requestor_id != self._requestor_id:
            self.counters.unmatched += 1
        elif answer.ran_function_id != pending.ran_function_id or (
            answer.call_process_id not in (None, pending.call_process_id)
        ):
            self.counters.mismatched += 1
        elif not pending.answer.done():
            pending.answer.set_result(answer)
        return True

    async def _attempt_all(
        self,
        meid: str,
        pending: _Pending,
        header: bytes,
        message: bytes,
        timeout_s: float,
        idempotent: bool,
        attempts: int,
    ) -> ControlOutcome:
        delay, longest = self._backoff_s
        sent = 0
        outcome = ControlOutcome(ControlResult.NOT_SENT)
        for attempt in range(attempts):
            if attempt:
                # An answer to an earlier attempt may still come while we wait for the next.
                await asyncio.wait((pending.answer,), timeout=delay)
                delay = min(2 * delay, longest)
                if not pending.answer.done():
                    self.counters.retries += 1
            if not pending.answer.done():
                if not self._send_attempt(meid, pending, header, message):
                    continue  # The outcome of an earlier attempt, if there was one, stands.
                sent += 1
                await asyncio.wait((pending.answer,), timeout=timeout_s)
            if not pending.answer.done():
                outcome = ControlOutcome(ControlResult.TIMEOUT, attempts=sent)
                again = idempotent
            else:
                answer = pending.answer.result()
                if isinstance(answer, RicControlAcknowledge):
                    return ControlOutcome(ControlResult.ACKNOWLEDGED, None, answer.outcome, sent)
                outcome = ControlOutcome(ControlResult.FAILED, answer.cause, answer.outcome, sent)
                again = answer.cause in NOT_BEGUN or (idempotent and answer.cause == _TIMER_EXPIRED)
                pending.answer = asyncio.get_running_loop().create_future()
            if not again:
                break
        return outcome

    def _send_attempt(self, meid: str, pending: _Pending, header: bytes, message: bytes) -> bool:
        """Send once under a new instance id; False if RMR did not take it."""
        instance_id = next(i for i in self._instances if (meid, i) not in self._pending)
        request = RicControlRequest(
            requestor_id=self._requestor_id,
            instance_id=instance_id,
            ran_function_id=pending.ran_function_id,
            header=header,
            message=message,
            call_process_id=pending.call_process_id,
        )
        payload = encode_control_request(request)
        key = (meid, instance_id)
        pending.keys.append(key)
        self._pending[key] = pending
        # The transaction id only serves people who read traces.
        xid = f"{self._requestor_id}-{instance_id}".encode()
        sent = self._send(RmrMessage(messages.RIC_CONTROL_REQ, payload, meid=meid, xid=xid))
        self.counters.sent += sent
        return sent

    def _ended(self, meid: str, outcome: ControlOutcome, details: str) -> ControlOutcome:
        counters = self.counters
        counters.acknowledged += outcome.result is ControlResult.ACKNOWLEDGED
        counters.failed += outcome.result is ControlResult.FAILED
        counters.timeouts += outcome.result is ControlResult.TIMEOUT
        counters.not_sent += outcome.result is ControlResult.NOT_SENT
        if not outcome.acknowledged and self._on_event is not None:
            cause = f" ({outcome.cause})" if outcome.cause else ""
            self._on_event("ric-control", f"control of {meid}: {outcome.result}{cause}, {details}")
        return outcome
