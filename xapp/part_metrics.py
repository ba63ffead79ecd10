"""Counters of the xApp's parts in Prometheus: each part counts in a small dataclass, read when scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from xapp.policy.split_control import total

if TYPE_CHECKING:
    from xapp.app import XApp
    from xapp.e2_nodes import E2Nodes
    from xapp.radio_loop import RadioLoop
    from xapp.ric.control import RicControl


class PartCounters(Collector):
    """``semcom_xapp_part_events_total{part, event, cause}`` of every dataclass of numbers that is watched.

    A field that is a number is one series; a field that maps causes to numbers is one for each cause.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._parts: dict[str, Callable[[], Any]] = {}
        registry.register(self)

    def watch(self, part: str, counters: Callable[[], Any]) -> None:
        """Show what ``counters()`` returns from now on; None shows nothing."""
        self._parts[part] = counters

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The family, as of now."""
        family = CounterMetricFamily(
            "semcom_xapp_part_events",
            "What the parts of the xApp have counted since the start; see each part's counters",
            labels=("part", "event", "cause"),
        )
        for part, read in self._parts.items():
            counters = read()
            for field in fields(counters) if counters is not None else ():
                value = getattr(counters, field.name)
                if isinstance(value, Mapping):
                    for cause, count in value.items():
                        family.add_metric((part, field.name, str(cause)), count)
                else:
                    family.add_metric((part, field.name, ""), value)
        return (family,)


def watch_parts(xapp: XApp, nodes: E2Nodes, radio: RadioLoop, control: RicControl) -> None:
    """Show the counters of an xApp's parts, once its RIC side is open."""
    transport, platform = xapp.transport, xapp.platform
    watch = xapp.status.metrics.parts.watch
    watch("rmr", lambda: transport.counters if transport is not None else None)
    watch("subscriptions", lambda: nodes.subscriptions.counters)
    watch("rnib", lambda: nodes.rnib.counters if nodes.rnib is not None else None)
    watch("metric_trust", lambda: xapp.table.sources.counters)
    watch("a1", lambda: platform.a1.handler.counters)
    watch("alarms", lambda: platform.alarms.counters)
    watch("config", lambda: platform.config.counters if platform.config is not None else None)
    watch("appmgr", lambda: platform.registration.counters if platform.registration else None)
    watch("control", lambda: control.counters)
    watch("slice_quotas", lambda: radio.slices.counters)
    watch("splits", lambda: total(link.splits.controller.counters for link in xapp.sites.links))
    watch("sites", lambda: xapp.sites.counters(xapp.ingest.without_site))
