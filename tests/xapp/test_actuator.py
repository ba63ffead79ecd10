"""Directives to the site: coalescing, numbering, repetition, full resend."""

from __future__ import annotations

import asyncio

from xapp_simulated_site import eventually

from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.directives import Directive, DirectiveAck, DirectiveBatch, RejectedDirective
from xapp.actuator import Actuator
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable
from xapp.status import Status


def directive(user: str, prefix: int = 6) -> Directive:
    return Directive(user=user, prefix=prefix, snr_db=1.0, decoder="conv", decoder_version=1)


class Sink:
    def __init__(self) -> None:
        self.batches: list[DirectiveBatch] = []
        self.failures: list[Exception] = []
        self.rejected: list[RejectedDirective] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def push_directives(self, batch: DirectiveBatch) -> DirectiveAck:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(batch)
        return DirectiveAck(
            instance="i", sequence=batch.sequence, applied=len(batch.directives), rejected=self.rejected
        )


def scenario(body):  # type: ignore[no-untyped-def]
    """Run ``body(sink, actuator, status, rejected)`` with the actuator's task."""

    async def main() -> None:
        sink, status, rejected = Sink(), Status(), []
        table = [directive("ue-1"), directive("ue-2")]
        actuator = Actuator(
            sink, "x", status, full=lambda: table, on_rejected=rejected.extend, backoff_s=(0.001, 0.01)
        )
        task = asyncio.create_task(actuator.run())
        try:
            await body(sink, actuator, status, rejected)
        finally:
            task.cancel()

    asyncio.run(main())


def test_what_is_decided_while_a_batch_is_in_flight_is_merged() -> None:
    async def body(sink, actuator, status, rejected) -> None:  # type: ignore[no-untyped-def]
        sink.gate.clear()
        actuator.submit([directive("ue-1", 4)], 0)
        await asyncio.sleep(0.01)
        for prefix in (5, 6, 8):
            actuator.submit([directive("ue-1", prefix)], 0)
        actuator.submit([directive("ue-2")], 0)
        sink.gate.set()
        assert await actuator.flush(5.0)
        assert [len(batch.directives) for batch in sink.batches] == [1, 2]
        assert sink.batches[1].directives[0].prefix == 8
        assert [batch.sequence for batch in sink.batches] == [1, 2]
        assert status.loop.count == 5

    scenario(body)


def test_an_unreachable_runtime_gets_the_newest_later_under_a_new_number() -> None:
    async def body(sink, actuator, status, rejected) -> None:  # type: ignore[no-untyped-def]
        sink.failures = [RuntimeUnavailable("away"), RuntimeUnavailable("away")]
        status.peers.up("runtime")
        actuator.submit([directive("ue-1", 4)], 0)
        await eventually(lambda: sink.batches)
        assert sink.batches[0].sequence == 3
        assert status.peers.peers["runtime"].reconnects == 1
        assert status.loop.count == 0  # an outage is not a loop latency

    scenario(body)


def test_the_whole_table_is_sent_after_a_restart_even_if_the_first_attempt_fails() -> None:
    async def body(sink, actuator, status, rejected) -> None:  # type: ignore[no-untyped-def]
        sink.failures = [RuntimeUnavailable("away")]
        actuator.resend_all()
        assert await actuator.flush(5.0)
        assert sink.batches[0].full
        assert {d.user for d in sink.batches[0].directives} == {"ue-1", "ue-2"}

    scenario(body)


def test_rejections_are_counted_and_told() -> None:
    async def body(sink, actuator, status, rejected) -> None:  # type: ignore[no-untyped-def]
        sink.rejected = [RejectedDirective(user="ue-1", reason="unknown version")]
        actuator.submit([directive("ue-1"), directive("ue-2")], 0)
        assert await actuator.flush(5.0)
        assert [r.user for r in rejected] == ["ue-1"]
        assert (status.counters["directives"], status.counters["directives_rejected"]) == (1, 1)

    scenario(body)


def test_a_refused_batch_does_not_block_the_next() -> None:
    async def body(sink, actuator, status, rejected) -> None:  # type: ignore[no-untyped-def]
        sink.failures = [RuntimeRefused("bad", 400)]
        actuator.submit([directive("ue-1")], 0)
        assert await actuator.flush(5.0)
        actuator.submit([directive("ue-2")], 0)
        assert await actuator.flush(5.0)
        assert [d.user for d in sink.batches[0].directives] == ["ue-2"]

    scenario(body)


def test_nothing_to_send_sends_nothing() -> None:
    async def body(sink, actuator, status, rejected) -> None:  # type: ignore[no-untyped-def]
        actuator.submit([], 0)
        assert await actuator.flush(1.0)
        assert sink.batches == []

    scenario(body)


def test_cuts_travel_with_the_directives_and_alone_and_survive_an_outage() -> None:
    def cut(user: str, name: str) -> SplitDirective:
        return SplitDirective(user=user, network="net", version=1, cut=name)

    async def body(sink, actuator, status, rejected) -> None:  # type: ignore[no-untyped-def]
        actuator.submit_splits([])
        actuator.submit_splits([cut("ue-1", "a")])
        await eventually(lambda: len(sink.batches) == 1)
        assert (sink.batches[0].directives, sink.batches[0].splits) == ([], [cut("ue-1", "a")])
        assert status.loop.summary_ms()["count"] == 0
        sink.failures = [RuntimeUnavailable("away")]
        sink.gate.clear()
        actuator.submit_splits([cut("ue-1", "b"), cut("ue-2", "b")])
        await asyncio.sleep(0.01)
        actuator.submit_splits([cut("ue-1", "c")])
        actuator.submit([directive("ue-1")], 0)
        sink.gate.set()
        assert await actuator.flush(2.0)
        assert [batch.sequence for batch in sink.batches] == [1, 3]
        assert sink.batches[1].splits == [cut("ue-1", "c"), cut("ue-2", "b")]
        assert len(sink.batches[1].directives) == 1

    scenario(body)


def test_the_whole_table_holds_the_cuts_as_well() -> None:
    async def main() -> None:
        sink = Sink()
        split = SplitDirective(user="ue-1", network="net", version=1, cut="a")
        actuator = Actuator(
            sink, "x", Status(), full=list, full_splits=lambda: [split], on_rejected=lambda _: None
        )
        task = asyncio.create_task(actuator.run())
        actuator.resend_all()
        assert await actuator.flush(2.0)
        task.cancel()
        assert [(batch.full, batch.splits) for batch in sink.batches] == [(True, [split])]

    asyncio.run(main())
