"""The lab's RAN control function, alone and behind the control client over real RMR connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from xapp.lab.rc_node import RcMisbehaviour, RcNode
from xapp.ric.control import ControlOutcome, ControlResult, RicControl
from xapp.ric.e2ap_control import Cause, RicControlRequest, decode_control_answer, encode_control_request
from xapp.ric.kpm.model import UeId
from xapp.ric.rc import (
    PrbQuota,
    SliceId,
    encode_header,
    encode_message,
    quota_groups,
    quota_header,
    quota_message,
)
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.messages import RIC_CONTROL_ACK, RIC_CONTROL_FAILURE, RIC_CONTROL_REQ
from xapp.ric.rmr.route_source import RoutingSettings
from xapp.ric.rmr.wire import WireTransport

NODE = "gnb_001_001_00000001"
PLMN = bytes.fromhex("00f110")
QUOTAS = {SliceId(PLMN, 1): PrbQuota(20, 90, 0), SliceId(PLMN, 1, 7): PrbQuota(40, 100, 10)}
MESSAGE = quota_message(quota_groups(QUOTAS))
HEADER = quota_header(UeId("gnb-du", 5))
EMPTY: dict[str, Any] = {"ranP-List": []}


def node(**fields: Any) -> RcNode:
    return RcNode(NODE, lambda _to, _answer: True, **fields)


def request(header: bytes = HEADER, message: bytes = MESSAGE, **fields: Any) -> RmrMessage:
    values = {"requestor_id": 9, "instance_id": 0xF001, "ran_function_id": 3} | fields
    payload = encode_control_request(RicControlRequest(header=header, message=message, **values))
    return RmrMessage(RIC_CONTROL_REQ, payload, meid=NODE, xid=b"ours")


def test_an_answer_repeats_the_call_process_id() -> None:
    (answer,) = node().answers(request(call_process_id=b"call"))
    assert decode_control_answer(answer.payload).call_process_id == b"call"


def test_a_quota_is_put_in_force_and_acknowledged() -> None:
    ran = node(users={5})
    (answer,) = ran.answers(request())
    assert ran.quotas == QUOTAS
    assert (answer.mtype, answer.meid, answer.sub_id) == (RIC_CONTROL_ACK, NODE, 0xF001)
    assert answer.xid != b"ours"
    decoded = decode_control_answer(answer.payload)
    assert (decoded.requestor_id, decoded.instance_id, decoded.ran_function_id) == (9, 0xF001, 3)


@pytest.mark.parametrize(
    "asked",
    [
        request(quota_header(UeId("gnb", 5))),
        request(quota_header(UeId("gnb-du", 6))),
        request(message=encode_message({"ric-controlMessage-formats": ("controlMessage-Format1", EMPTY)})),
    ],
    ids=["another kind of user", "unknown user", "no quota"],
)
def test_what_is_understood_and_not_possible_is_refused(asked: RmrMessage) -> None:
    ran = node(users={5})
    (answer,) = ran.answers(asked)
    assert answer.mtype == RIC_CONTROL_FAILURE
    assert ran.quotas == {}


HANDOVER = encode_header(
    {
        "ric-controlHeader-formats": (
            "controlHeader-Format1",
            {
                "ueID": ("gNB-DU-UEID", {"gNB-CU-UE-F1AP-ID": 5}),
                "ric-Style-Type": 3,
                "ric-ControlAction-ID": 1,
            },
        )
    }
)


@pytest.mark.parametrize(
    "asked",
    [
        request(ran_function_id=4),
        request(acknowledge=False),
        request(acknowledge=None),
        request(HANDOVER),
        request(b"\xff"),
        RmrMessage(RIC_CONTROL_REQ, b"\xff", meid=NODE),
    ],
    ids=["function", "no ack", "no ack asked", "style", "header", "E2AP"],
)
def test_what_is_not_supported_is_not_answered(asked: RmrMessage) -> None:
    ran = node()
    assert ran.answers(asked) == []
    assert ran.counters.ignored == 1


def test_messages_for_others_are_left_alone() -> None:
    ran = node()
    assert not ran.on_message(RmrMessage(RIC_CONTROL_REQ, request().payload, meid="gnb_001_001_00000002"))
    assert not ran.on_message(RmrMessage(RIC_CONTROL_ACK, b"", meid=NODE))
    assert ran.counters.requests == 0


def over_rmr(
    tmp_path: Path, scenario: Callable[[RicControl, RcNode], Awaitable[list[ControlOutcome]]]
) -> tuple[list[ControlOutcome], RcNode, RicControl]:
    """Run ``scenario`` with a client and a node, each on an RMR port of its own."""

    async def work() -> tuple[list[ControlOutcome], RcNode, RicControl]:
        ran_port = await WireTransport.listen(
            "127.0.0.1", 0, lambda message, _ns: ran.on_message(message), source="127.0.0.1"
        )
        ran = RcNode(NODE, ran_port.reply)
        seed = tmp_path / "routes"
        end = f"127.0.0.1:{ran_port.port}"
        seed.write_text(
            f"newrt|start|t\nmse|12040|-1|%meid\nnewrt|end|1\n"
            f"meid_map|start|m\nmme_ar|{end}|{NODE}\nmeid_map|end|1\n"
        )
        xapp_port = await WireTransport.open(
            "127.0.0.1",
            0,
            lambda message, _ns: control.on_message(message),
            source="127.0.0.1",
            routing=RoutingSettings(seed=seed),
        )
        control = RicControl(xapp_port.send, requestor_id=900, backoff_s=(0.01, 0.02))
        try:
            async with asyncio.timeout(20):
                return await scenario(control, ran), ran, control
        finally:
            await ran.close()
            await xapp_port.close()
            await ran_port.close()

    return asyncio.run(work())


async def ask(control: RicControl, timeout_s: float = 5.0) -> ControlOutcome:
    return await control.request(NODE, 3, HEADER, MESSAGE, timeout_s, idempotent=True)


def test_the_client_puts_a_quota_in_force_over_rmr(tmp_path: Path) -> None:
    async def scenario(control: RicControl, _ran: RcNode) -> list[ControlOutcome]:
        return [await ask(control), await ask(control)]

    outcomes, ran, control = over_rmr(tmp_path, scenario)
    assert [outcome.acknowledged for outcome in outcomes] == [True, True]
    assert ran.quotas == QUOTAS
    assert (control.counters.sent, ran.counters.acknowledged) == (2, 2)


def test_the_client_gets_over_a_lost_answer_and_an_overload(tmp_path: Path) -> None:
    async def scenario(control: RicControl, ran: RcNode) -> list[ControlOutcome]:
        ran.misbehaviour = RcMisbehaviour(lost_answers=1)
        first = await ask(control, timeout_s=0.5)
        ran.misbehaviour = RcMisbehaviour(failures=1, cause=Cause("misc", "control-processing-overload"))
        return [first, await ask(control)]

    outcomes, ran, _ = over_rmr(tmp_path, scenario)
    assert [outcome.acknowledged for outcome in outcomes] == [True, True]
    assert ran.counters.requests >= 4


def test_the_client_reports_a_refusal_and_survives_what_is_no_answer(tmp_path: Path) -> None:
    async def scenario(control: RicControl, ran: RcNode) -> list[ControlOutcome]:
        ran.misbehaviour = RcMisbehaviour(failures=1, cause=Cause("ricRequest", "function-resource-limit"))
        refused = await ask(control)
        ran.misbehaviour = RcMisbehaviour(garbage=1, wrong_ids=-1)
        silent = await ask(control, timeout_s=0.3)
        ran.misbehaviour = RcMisbehaviour(duplicates=1, delay_s=0.01)
        return [refused, silent, await ask(control), await ask(control)]

    outcomes, _, control = over_rmr(tmp_path, scenario)
    assert outcomes[0].cause == Cause("ricRequest", "function-resource-limit")
    assert outcomes[1].result is ControlResult.TIMEOUT
    assert outcomes[2].acknowledged
    assert outcomes[3].acknowledged
    assert control.counters.decode_errors == 1
    assert control.counters.unmatched >= 2
