"""Events and counters of roll-outs, for people and for the alarm rules."""

from __future__ import annotations

from xapp.delivery.push import PushReport
from xapp.rollout.actions import SiteOutcome
from xapp.rollout.state import Phase, Rollout
from xapp.status import Status


def tell_phase(status: Status, rollout: Rollout) -> None:
    """A phase was entered: the event ``rollout_<phase>``, hyphens as underscores."""
    kind = f"rollout_{str(rollout.phase).replace('-', '_')}"
    stage = f" {rollout.stage_name}" if rollout.phase in (Phase.DELIVERING, Phase.OBSERVING) else ""
    status.events.add(
        kind,
        f"{rollout.group}: {rollout.family} {rollout.version} {rollout.phase}{stage}: "
        f"{rollout.history[-1].reason}",
        rollout=rollout.id,
        group=rollout.group,
        decoder=rollout.family,
        version=rollout.version,
        stage=rollout.stage_name,
    )


def tell_pushed(status: Status, site: str, bundles: list[str], report: PushReport) -> None:
    """What travelled to a site, and the swap that came of it."""
    names, answer = ", ".join(bundles) or "metadata", report.activation
    status.counters["bytes_pushed"] += report.bytes_pushed
    status.metrics.bytes_pushed.inc(report.bytes_pushed)
    status.events.add(
        "bundle_pushed",
        f"{names}: {report.bytes_pushed / 1e6:.2f} MB pushed to {site}",
        site=site,
        bundles=bundles,
        bytes=report.bytes_pushed,
        targets=report.targets_pushed,
    )
    if bundles and answer.outcome == "activated":
        status.counters["swaps"] += 1
        status.events.add(
            "bundle_swapped",
            f"{names}: swapped in {answer.publish_ms:.2g} ms",
            site=site,
            verify_ms=answer.verify_ms,
            load_ms=answer.load_ms,
            publish_ms=answer.publish_ms,
        )


def tell_refused(status: Status, site: str, reason: str) -> None:
    """A site refused something; an alarm until it follows (:mod:`xapp.alarm_rules`)."""
    status.events.add("site_refused", f"{site}: {reason[:300]}", site=site)


def tell_outcome(status: Status, rollout: Rollout, site: str, outcome: SiteOutcome) -> None:
    """What came of a push. What a site that is owed its step answers again and again is told once."""
    owed_before = rollout.sites[site].owed
    repeated = bool(outcome.owed and owed_before) and outcome.error in ("", owed_before)
    if repeated:
        return
    if outcome.report is not None:
        bundles = [] if outcome.bundle == "withdrawn" else [rollout.bundle]
        tell_pushed(status, site, bundles, outcome.report)
    if outcome.error:
        tell_refused(status, site, f"{rollout.group}: {outcome.error}")
    elif outcome.bundle == "withdrawn":
        status.events.add("bundle_withdrawn", f"{rollout.bundle}: withdrawn by {site}", site=site)
    if outcome.owed:
        text = f"{rollout.bundle}: {site} is owed it: {outcome.owed}"
        status.events.add("rollout_owed", text, site=site)
