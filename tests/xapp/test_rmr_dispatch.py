"""RMR messages go to the handler of their type; counters of parts are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from xapp.part_metrics import PartCounters
from xapp.ric.rmr.frame import RmrMessage
from xapp.rmr_dispatch import RmrDispatch
from xapp.status import Status


def test_a_message_goes_to_the_handler_of_its_type_and_others_are_counted() -> None:
    status, taken = Status(), []
    dispatch = RmrDispatch(status, {12050: lambda message, ns: taken.append((message.payload, ns))})
    dispatch.on_message(RmrMessage(12050, b"a"), 5)
    dispatch.on_message(RmrMessage(12051, b"b"), 6)
    dispatch.on_message(RmrMessage(12051, b"c"), 7)
    assert taken == [(b"a", 5)]
    labels = {"e2_node": "other", "outcome": "unexpected_message_type"}
    assert status.metrics.registry.get_sample_value("semcom_xapp_indications_total", labels) == 2


def test_counters_of_parts_are_read_when_they_are_scraped() -> None:
    @dataclass
    class Counters:
        sent: int = 0
        failures: dict[str, int] = field(default_factory=dict)

    registry, counters = CollectorRegistry(), Counters()
    parts = PartCounters(registry)
    parts.watch("rmr", lambda: counters)
    parts.watch("absent", lambda: None)
    counters.sent, counters.failures = 3, {"timeout": 2}

    def value(event: str, cause: str = "") -> float | None:
        labels = {"part": "rmr", "event": event, "cause": cause}
        return registry.get_sample_value("semcom_xapp_part_events_total", labels)

    assert (value("sent"), value("failures", "timeout")) == (3, 2)
    counters.sent = 4
    assert value("sent") == 4
