"""The RAN control function of an emulated E2 node: answers requests for the slice-level PRB quota.

It decides as srsRAN Project does (``e2_ric_control_procedure.cpp`` and
``e2sm_rc_control_action_du_executor.cpp``, 2025):

- no answer to another RAN function, style, action, header or message format, or to a request that does not
  ask for an acknowledge;
- failure ``misc:unspecified`` to a user that is not one of its DU's, or a quota that is not complete;
- else an acknowledge, without an outcome.

The E2 termination's part is as OSC's: an answer's RMR subscription id is the RIC instance id, its transaction
id is the termination's own. It misbehaves on request (:class:`RcMisbehaviour`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from xapp.ric.aper import E2DecodeError
from xapp.ric.e2ap_control import (
    Cause,
    RicControlAcknowledge,
    RicControlFailure,
    RicControlRequest,
    decode_control_request,
    encode_control_acknowledge,
    encode_control_failure,
)
from xapp.ric.rc import NotAQuota, PrbQuota, SliceId, parse_quota_header, parse_quota_message
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.messages import RIC_CONTROL_ACK, RIC_CONTROL_FAILURE, RIC_CONTROL_REQ

REFUSED = Cause("misc", "unspecified")
"""What srsRAN says of everything that it understands and does not do."""

_MAX_DELAYED = 1000

_log = logging.getLogger(__name__)

Reply = Callable[[RmrMessage, RmrMessage], bool]
"""Sends an answer (second) to where the request (first) came from; ``RmrTransport.reply`` is one."""


@dataclass
class RcMisbehaviour:
    """What goes wrong from now on; the defaults are a node that behaves.

    Counts (``int``) are used up by one each time; -1 means always.

    Attributes:
        silences: requests ignored altogether.
        lost_answers: requests carried out whose answer is lost.
        failures: requests refused with ``cause``.
        duplicates: answers sent twice.
        wrong_ids: answers with another RIC instance id.
        garbage: answers with bytes that are no E2AP.
        delay_s: wait before every answer, seconds.
    """

    silences: int = 0
    lost_answers: int = 0
    failures: int = 0
    cause: Cause = REFUSED
    duplicates: int = 0
    wrong_ids: int = 0
    garbage: int = 0
    delay_s: float = 0.0

    def use(self, name: str) -> bool:
        """Whether the misbehaviour with a count happens now; uses it up."""
        left = int(getattr(self, name))
        if left > 0:
            setattr(self, name, left - 1)
        return left != 0


@dataclass(slots=True)
class RcNodeCounters:
    """Each only grows: requests for this node, and what became of them."""

    requests: int = 0
    acknowledged: int = 0
    refused: int = 0
    ignored: int = 0
    replies_dropped: int = 0


@dataclass
class RcNode:
    """One E2 node's RAN control function.

    Attributes:
        meid: RAN name.
        reply: sends answers.
        ran_function_id: of RC at this node; 3 at srsRAN and OAI.
        users: gNB-CU-UE-F1AP-IDs of its users; None takes every id.
        ue_kind: alternative of the UEID that it knows its users by; a DU, as srsRAN's, by F1AP ids.
        quotas: in force by slice.
        misbehaviour: see :class:`RcMisbehaviour`.
    """

    meid: str
    reply: Reply
    ran_function_id: int = 3
    users: Collection[int] | None = None
    ue_kind: str = "gNB-DU-UEID"
    quotas: dict[SliceId, PrbQuota] = field(default_factory=dict)
    misbehaviour: RcMisbehaviour = field(default_factory=RcMisbehaviour)
    counters: RcNodeCounters = field(default_factory=RcNodeCounters)
    _transaction: int = field(default=0, init=False)
    _delayed: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def on_message(self, message: RmrMessage, received_ns: int = 0) -> bool:
        """Take an RMR message; False if it is no control request for this node. Needs a running loop."""
        if message.mtype != RIC_CONTROL_REQ or message.meid != self.meid:
            return False
        self.counters.requests += 1
        answers = self.answers(message)
        if self.misbehaviour.delay_s <= 0:
            self._send(message, answers)
        elif answers and len(self._delayed) < _MAX_DELAYED:
            task = asyncio.create_task(self._send_later(message, answers, self.misbehaviour.delay_s))
            self._delayed.add(task)
            task.add_done_callback(self._delayed.discard)
        return True

    def answers(self, message: RmrMessage) -> list[RmrMessage]:
        """Carry out a control request; the RMR messages to answer with, none for silence."""
        answer = self._carry_out(message)
        if answer is None or self.misbehaviour.use("lost_answers"):
            self.counters.ignored += 1
            return []
        self.counters.acknowledged += isinstance(answer, RicControlAcknowledge)
        self.counters.refused += isinstance(answer, RicControlFailure)
        mtype = RIC_CONTROL_FAILURE if isinstance(answer, RicControlFailure) else RIC_CONTROL_ACK
        self._transaction += 1
        payload = b"\xff\x00" if self.misbehaviour.use("garbage") else _encode(answer)
        sent = RmrMessage(
            mtype,
            payload,
            sub_id=answer.instance_id,
            meid=self.meid,
            xid=f"{self._transaction:15d}".encode(),
        )
        return [sent, sent] if self.misbehaviour.use("duplicates") else [sent]

    async def close(self) -> None:
        """Drop answers that still wait."""
        for task in list(self._delayed):
            task.cancel()
        await asyncio.gather(*self._delayed, return_exceptions=True)

    def _carry_out(self, message: RmrMessage) -> RicControlAcknowledge | RicControlFailure | None:
        try:
            request = decode_control_request(message.payload)
        except E2DecodeError as error:
            _log.warning("E2 node %s ignores a control request: %s", self.meid, error)
            return None
        if self.misbehaviour.use("silences") or request.ran_function_id != self.ran_function_id:
            return None
        ids = (request.requestor_id, request.instance_id, request.ran_function_id)
        try:
            refused = self._refuses(request)
        except (E2DecodeError, NotAQuota) as error:
            _log.warning("E2 node %s ignores a control request: %s", self.meid, error)
            return None
        if not request.acknowledge:
            return None
        if self.misbehaviour.use("wrong_ids"):
            ids = (ids[0], ids[1] ^ 0x8000, ids[2])
        call = request.call_process_id
        if refused is None:
            return RicControlAcknowledge(*ids, call_process_id=call)
        return RicControlFailure(*ids, refused, call_process_id=call)

    def _refuses(self, request: RicControlRequest) -> Cause | None:
        """Put the quotas in force; why not, if it does not.

        Raises:
            E2DecodeError, NotAQuota: it is about something else.
        """
        kind, ue = parse_quota_header(request.header)
        if self.misbehaviour.use("failures"):
            return self.misbehaviour.cause
        if kind != self.ue_kind or (self.users is not None and ue["gNB-CU-UE-F1AP-ID"] not in self.users):
            return REFUSED
        try:
            groups = parse_quota_message(request.message)
        except NotAQuota as error:
            _log.warning("E2 node %s refuses a quota: %s", self.meid, error)
            return REFUSED
        for group in groups:
            self.quotas.update(dict.fromkeys(group.members, group.quota))
        return None

    def _send(self, to: RmrMessage, answers: list[RmrMessage]) -> None:
        for answer in answers:
            self.counters.replies_dropped += not self.reply(to, answer)

    async def _send_later(self, to: RmrMessage, answers: list[RmrMessage], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self._send(to, answers)


def _encode(answer: RicControlAcknowledge | RicControlFailure) -> bytes:
    if isinstance(answer, RicControlFailure):
        return encode_control_failure(answer)
    return encode_control_acknowledge(answer)
