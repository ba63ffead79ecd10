"""The xApp's settings as those of plan and gates."""

from __future__ import annotations

import msgspec

from xapp.rollout.gates import GateSettings
from xapp.rollout.plan import PlanSettings
from xapp.settings import XAppSettings


def plan_settings(settings: XAppSettings) -> PlanSettings:
    """How roll-outs are staged. Raises: ValueError: a setting is out of its range; names it."""
    return PlanSettings(
        canary_share=settings.rollout_canary_share,
        canary_sites=settings.rollout_canary_sites,
        shares=tuple(settings.rollout_shares),
        observe_s=settings.rollout_observe_s,
        small_population=settings.rollout_small_population,
        small_observe_s=settings.rollout_small_observe_s,
    )


def alignment_gate_settings(settings: XAppSettings) -> GateSettings:
    """The same of adapters, whose quality is alignment confidence in per cent."""
    margin = 100.0 * settings.rollout_margin_confidence
    return msgspec.structs.replace(gate_settings(settings), margin_db=margin, unit="points")


def gate_settings(settings: XAppSettings) -> GateSettings:
    """What the gates tolerate. Raises: ValueError: a setting is out of its range; names it."""
    return GateSettings(
        margin_db=settings.rollout_margin_db,
        error_margin=settings.rollout_error_margin,
        late_margin=settings.rollout_late_margin,
        false_alarm_rate=settings.rollout_false_alarm_rate,
        min_reports=settings.rollout_min_reports,
    )
