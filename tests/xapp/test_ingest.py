"""Bytes that are not what they should be: counted by cause, never fatal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from xapp_simulated_site import ENCODER_WEIGHTS, make_manifest

from codec_runtime.contract.directives import DirectiveAck, DirectiveBatch
from xapp.actuator import Actuator
from xapp.ingest import IndicationIngest
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.rate import AdaptiveRate
from xapp.ric.e2ap import RicIndication, encode_ric_indication
from xapp.ric.kpm import MeasurementList, encode_indication_header, encode_indication_message
from xapp.ric.measurement_choice import CONFIGURED_MEASUREMENTS, configured_plan
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage
from xapp.status import Status
from xapp.telemetry.user_table import UserTable

NODE = "gnb_001_001_00000001"


def indication(users: int) -> RmrMessage:
    rows = [(i, (3.0 + i, i % 16, -90.0, 100, 5)) for i in range(1, users + 1)]
    names = MeasurementList(CONFIGURED_MEASUREMENTS)
    pdu = encode_ric_indication(
        RicIndication(
            requestor_id=1,
            instance_id=7,
            ran_function_id=2,
            action_id=1,
            indication_type=0,
            header=encode_indication_header(1.7e9),
            message=encode_indication_message(rows, names, granularity_ms=100),
        )
    )
    return RmrMessage(messages.RIC_INDICATION, pdu, sub_id=7, meid=NODE)


class Nowhere:
    async def push_directives(self, batch: DirectiveBatch) -> DirectiveAck:
        return DirectiveAck(instance="i", sequence=batch.sequence, applied=0, rejected=[])


def make_ingest() -> tuple[IndicationIngest, Status, UserTable, list[tuple[str, int]]]:
    status, table, catalog, heard = Status(), UserTable(), DecoderCatalog(), []
    catalog.update(
        [make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS), make_manifest("decoder", "conv", 1, b"w")]
    )
    controller = DirectiveController(table, catalog, AdaptiveRate(), 3.0)
    actuator = Actuator(Nowhere(), "x", status, full=controller.full, on_rejected=lambda r: None)
    ingest = IndicationIngest(
        table,
        status,
        site_of=lambda meid: SimpleNamespace(index=0, controller=controller, actuator=actuator),
        plan_of={NODE: configured_plan(NODE, period_ms=100)}.get,
        on_indication=lambda node, sub_id: heard.append((node, sub_id)) or sub_id == 7,
    )
    return ingest, status, table, heard


def take(*taken: RmrMessage) -> tuple[Status, UserTable, list[tuple[str, int]]]:
    async def main() -> tuple[Status, UserTable, list[tuple[str, int]]]:
        ingest, status, table, heard = make_ingest()
        for message in taken:
            ingest.on_message(message, 0)
        await asyncio.sleep(0)
        return status, table, heard

    return asyncio.run(main())


def outcome(status: Status, node: str, name: str) -> float:
    value = status.metrics.registry.get_sample_value(
        "semcom_xapp_indications_total", {"e2_node": node, "outcome": name}
    )
    return value or 0.0


def test_a_good_indication_fills_the_table_and_is_decided_about() -> None:
    status, table, heard = take(indication(20))
    assert heard == [(NODE, 7)]
    assert len(table) == 20
    assert table.snr_db[table.row("ue-4")] == 7.0
    assert table.cqi[table.row("ue-4")] == 4
    assert (status.counters["indications"], status.counters["ue_reports"]) == (1, 20)
    assert (table.prefix > 0).all()
    assert np.isfinite(table.expected_psnr_db).all()


def test_indications_read_together_lead_to_one_decision() -> None:
    status, _, _ = take(indication(5), indication(5), indication(5))
    assert status.policy.count == 1
    assert status.decode.count == 3


def test_bad_messages_are_counted_by_cause() -> None:
    good = indication(3)
    status, table, _ = take(
        replace(good, payload=b"\x00\x01garbage"),
        replace(good, payload=good.payload[:-9]),
        replace(good, payload=b""),
        replace(good, meid="gnb_evil"),
        replace(good, sub_id=8),
        good,
    )
    assert status.counters["decode_errors"] == 3
    assert outcome(status, NODE, "bad_e2ap") + outcome(status, NODE, "bad_kpm") == 3
    assert outcome(status, "other", "unknown_node") == 1
    assert outcome(status, NODE, "foreign_subscription") == 1
    assert outcome(status, NODE, "decoded") == 1
    assert len(table) == 3


def test_foreign_node_names_do_not_become_metric_labels() -> None:
    good = indication(1)
    status, _, _ = take(*(replace(good, meid=f"node-{i}") for i in range(50)))
    assert outcome(status, "other", "unknown_node") == 50
    assert b"node-1" not in status.metrics.exposition()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_indications_never_raise(data: st.DataObject) -> None:
    good = indication(2)
    payload = bytearray(good.payload)
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    status, _, _ = take(replace(good, payload=bytes(payload)))
    assert status.counters["indications"] == 1
