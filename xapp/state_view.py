"""The JSON document of ``GET /semcom/v1/state``: plain values, NaN as null."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from codec_runtime.contract.directives import RATE_DENOMINATOR
from xapp.policy.decision import Decision
from xapp.telemetry.columns import NEVER, SOURCES

if TYPE_CHECKING:
    from xapp.app import XApp
    from xapp.policy.split_control import SplitController

HISTOGRAM_EDGES_MS: Final = (
    0.0,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
    5.0,
    7.0,
    10.0,
    15.0,
    20.0,
    30.0,
    50.0,
    100.0,
    1000.0,
)
_COUNTERS: Final = (
    "indications",
    "ue_reports",
    "decode_errors",
    "directives",
    "directives_rejected",
    "updates_pushed",
    "bytes_pushed",
    "swaps",
    "quality_reports",
    "telemetry_gaps",
)
_USER_COLUMNS: Final = {
    "snr_db": ("snr_db", 2),
    "snr_last_db": ("snr_last_db", 2),
    "snr_trend_db_s": ("snr_trend_db_s", 2),
    "rsrp_dbm": ("rsrp_dbm", 1),
    "cqi": ("cqi", 0),
    "throughput_kbps": ("throughput_kbps", 0),
    "prb_percent": ("prb_percent", 0),
    "psnr_db": ("psnr_db", 2),
    "expected_psnr_db": ("expected_psnr_db", 2),
    "offset_db": ("offset_db", 2),
    "distrust": ("distrust", 3),
    "snr_trust": ("snr_trust", 3),
    "snr_error_var": ("snr_error_var", 2),
}


def build_state(xapp: XApp, after: int = 0) -> dict[str, Any]:
    """State of the process; of the events those behind sequence number ``after``."""
    status = xapp.status
    now = xapp.clock()
    counters = {name: status.counters[name] for name in _COUNTERS}
    counters["out_of_range"] = sum(xapp.table.out_of_range.values())
    return {
        "instance": xapp.instance,
        "time_ns": time.time_ns(),
        "uptime_s": round(time.monotonic() - status.started, 3),
        "policy": _policy(xapp),
        "users": _users(xapp, now),
        "groups": _groups(xapp),
        "models": _models({key for link in xapp.sites.links for key in link.catalog.decoders}),
        "sites": _sites(xapp),
        "latency_ms": {
            "loop": status.loop.summary_ms(),
            "decode": status.decode.summary_ms(),
            "policy": status.policy.summary_ms(),
        },
        "latency_histogram": {
            "loop": status.loop.histogram_ms(HISTOGRAM_EDGES_MS),
            "decode": status.decode.histogram_ms(HISTOGRAM_EDGES_MS),
        },
        "counters": counters,
        "peers": {
            name: {
                "up": peer.up is True,
                "reconnects": peer.reconnects,
                "reason": peer.reason,
                "site": peer.site,
            }
            for name, peer in status.peers.peers.items()
        },
        "subscriptions": xapp.nodes.phases() if xapp.nodes else {},
        "e2_nodes": _e2_nodes(xapp),
        "rmr_transport": xapp.transport_choice.name,
        "a1": {"governed": xapp.pools.describe(), "unconfirmed": xapp.platform.a1.unconfirmed},
        "alarms": xapp.platform.alarms.active(),
        "config": _config(xapp),
        "tuf": xapp.tuf_versions,
        "deliveries": status.deliveries.view(),
        "alignment": xapp.coordinator.alignment.view(),
        "events": status.events.after(after),
    }


def _policy(xapp: XApp) -> dict[str, Any]:
    last = _last_decision(xapp)
    settings = xapp.settings
    view: dict[str, Any] = {
        "name": settings.policy,
        "quality_target_db": settings.quality_target_db,
        "budget_prefix": settings.budget_prefix,
    }
    if last is not None:
        view |= {
            "mean_prefix": round(last.mean_prefix, 4),
            "bandwidth_ratio_mean": round(last.mean_prefix / RATE_DENOMINATOR, 6),
            "miss_weight": last.miss_weight,
            "predicted_miss": _number(last.predicted_miss, 4),
            "predicted_psnr_db": _number(last.predicted_psnr_db, 3),
            "predicted_psnr_uniform_db": _number(last.uniform_psnr_db, 3),
        }
    return view


def _last_decision(xapp: XApp) -> Decision | None:
    """The last decisions of all sites as one, its summary weighted by users."""
    last = [link.controller.last for link in xapp.sites.links if link.controller.last is not None]
    if len(last) < 2:
        return last[0] if last else None
    users = [len(decision.prefix) for decision in last]

    def mean(name: str) -> float:
        return float(np.average([getattr(decision, name) for decision in last], weights=users))

    return Decision(
        prefix=np.concatenate([decision.prefix for decision in last]),
        expected_psnr_db=np.concatenate([decision.expected_psnr_db for decision in last]),
        mean_prefix=mean("mean_prefix"),
        predicted_miss=mean("predicted_miss"),
        predicted_psnr_db=mean("predicted_psnr_db"),
        uniform_psnr_db=mean("uniform_psnr_db"),
        miss_weight=mean("miss_weight"),
    )


def _sites(xapp: XApp) -> list[dict[str, Any]]:
    """What each site serves, whom, and what is assigned there."""
    views = []
    for link in xapp.sites.links:
        last = link.controller.last
        views.append(
            {
                "site": link.name,
                "up": xapp.status.peers.is_up("runtime", link.label),
                "e2_nodes": None if link.meids is None else sorted(link.meids),
                "users": int((xapp.table.site == link.index).sum()),
                "departures": xapp.table.departures[link.index],
                "models": _models(link.catalog.decoders),
                "cuts": _cuts(link.splits.controller),
                "assigned": [
                    {"group": group, "decoder": family, "version": number}
                    for group, family, number in link.assigned()
                ],
                "mean_prefix": None if last is None else round(last.mean_prefix, 4),
                "predicted_miss": None if last is None else _number(last.predicted_miss, 4),
            }
        )
    return views


def _cuts(splits: SplitController) -> dict[str, Any]:
    """Users of a site by cut, and how often cuts moved."""
    users = [
        {"network": network, "version": version, "cut": cut, "users": count}
        for (network, version, cut), count in sorted(splits.users_by_cut().items())
    ]
    return {"users": users, **asdict(splits.counters)}


def _models(decoders: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"kind": "decoder", "name": family, "version": number} for family, number in sorted(decoders)]


def _e2_nodes(xapp: XApp) -> list[dict[str, Any]]:
    """What is asked of each node, and how far its metrics are believed."""
    if xapp.nodes is None:
        return []
    suspect: dict[str, list[str]] = {}
    for node, metric in xapp.table.same_value_nodes():
        suspect.setdefault(node, []).append(metric)
    return [
        {
            "e2_node": meid,
            "style": plan.style_type,
            "measurements": list(plan.measurements),
            "radio_quality_from": plan.source,
            "kpm_version": plan.version,
            "period_ms": plan.period_ms,
            "notes": list(plan.notes),
            "one_value_for_all": suspect.get(meid, []),
        }
        for meid, plan in xapp.nodes.plans.items()
    ]


def _config(xapp: XApp) -> dict[str, Any]:
    watch = xapp.platform.config
    if watch is None:
        return {"watched": False}
    return {"watched": True, "refusal": watch.refusal, "pending_restart": sorted(watch.pending)}


def _users(xapp: XApp, now: float) -> list[dict[str, Any]]:
    table = xapp.table
    active = table.active(now, xapp.settings.stale_after_s)
    columns = {name: (getattr(table, column), digits) for name, (column, digits) in _USER_COLUMNS.items()}
    snr_sd = np.sqrt(table.snr_var)
    offset_sd = np.sqrt(table.offset_var)
    views = []
    for row, user in enumerate(table.users):
        view: dict[str, Any] = {
            "user": user,
            "state": "active" if active[row] else "stale",
            "e2_node": table.e2_nodes.name(int(table.e2_node[row])),
            "site": xapp.sites.name_of(int(table.site[row])),
            "group": table.group_name(row),
            "device_class": table.device_classes.name(int(table.device_class[row])),
            "slice": table.slices.name(int(table.slice[row])),
            "snr_source": SOURCES[int(table.snr_source[row])] if table.snr_source[row] >= 0 else None,
        }
        for name, (column, digits) in columns.items():
            view[name] = _number(float(column[row]), digits)
        prefix = int(table.prefix[row])
        site = int(table.site[row])
        cut = xapp.sites.links[site].splits.controller.cut_of(row) if site >= 0 else None
        view |= {
            "cut": None if cut is None else dict(zip(("network", "version", "cut"), cut, strict=True)),
            "snr_sd_db": _number(float(snr_sd[row]), 2),
            "offset_sd_db": _number(float(offset_sd[row]), 2),
            "prefix": prefix,
            "bandwidth_ratio": round(prefix / RATE_DENOMINATOR, 6),
            "decoder": table.decoders.name(int(table.decoder[row])),
            "decoder_version": int(table.decoder_version[row]),
            "encoder_version": int(table.encoder_version[row]),
            "age_s": _age(now, float(table.heard_s[row])),
            "quality_age_s": _age(now, float(table.quality_s[row])),
        }
        views.append(view)
    return views


def _groups(xapp: XApp) -> list[dict[str, Any]]:
    table = xapp.table
    views = []
    for index, group in enumerate(table.groups.names):
        plan = xapp.planner.plan(group)
        detector = xapp.coordinator.detectors.get(group)
        views.append(
            {
                "group": group,
                "users": int((table.group == index).sum()),
                "state": str(plan.stage),
                "decoder": plan.families[0] if plan.families else None,
                "adapter": plan.adapters[0] if plan.adapters else None,
                "choice": plan.choice or None,
                "job": plan.job.job if plan.job else None,
                "progress": round(plan.progress, 3),
                "drift_db": round(detector.drift_db, 2) if detector else 0.0,
                "drift_statistic": round(detector.statistic, 2) if detector else 0.0,
                "samples": detector.samples if detector else 0,
                "versions": _versions(xapp, group),
                "attempt": plan.attempt,
                "updates": plan.updates,
                "last_gain_db": plan.last_gain_db,
                "last_gain_rsum": plan.last_gain_rsum,
            }
        )
    return views


def _versions(xapp: XApp, group: str) -> dict[str, int]:
    """Version of each decoder family that a group gets; the newest where sites differ."""
    versions: dict[str, int] = {}
    for link in xapp.sites.links:
        for family in sorted({family for family, _ in link.catalog.decoders}):
            served = link.catalog.version_for(group, family)
            if served is not None:
                versions[family] = max(versions.get(family, 0), served.version)
    return versions


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    return round(value) if digits == 0 else round(value, digits)


def _age(now: float, then: float) -> float | None:
    return None if then <= NEVER else round(now - then, 3)
