"""`semcom eval split`: the deciders of :mod:`xapp.split.deciders` on the same users, links and load.

Every drive test is lived through by one user of each device class. A row is a decider over all of them:
mean and 95th percentile latency of a request, device energy, moves of the cut, the weighted cost, and its
distance to what is possible when the future is known and moves are paid (``regret``).

A move is charged to the requests of its second: one of them waits for it, the device pays for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from codec_runtime.contract.devices import ASSUMED_CLASSES, EDGE_SERVER, DeviceClass, class_profile
from codec_runtime.contract.split import SplitGraph
from xapp.lab.trace import Trace
from xapp.split.candidates import CandidateCuts, candidate_cuts, extra_head_bytes
from xapp.split.deciders import DECIDERS, FREE_MOVES, ClassCase, MovingCost, menu
from xapp.split.latency import CutMeasures, EdgeLoad, Floats, stage_times
from xapp.split.objective import DevicePower, Weights, energy_j, weighted_cost
from xapp.split.plan import coded_problem
from xapp.split.problem import SplitProblem, split_problem
from xapp.split.reference_networks import efficientnet_lite0
from xapp.split.scenario import (
    ClaimCheck,
    LoadProcess,
    RadioShare,
    Scenario,
    claim_check,
    scenario_from_traces,
)
from xapp.split.sharing_gap import SharingGap, sharing_gap
from xapp.split.switching import Choices, SwitchingRule


@dataclass(frozen=True)
class SplitEvaluation:
    """What is evaluated.

    Attributes:
        classes: device classes; each lives through every trace.
        seconds: of each trace.
        requests: a second and user.
        weights: of latency and energy.
        feature_bits: bits that a value of a crossing tensor takes; the input, a picture, takes 8.
        share, load: radio and edge.
        rate: where throughput is taken from, see :mod:`xapp.split.scenario`.
        rule, smoothing: of ours.
        pause_s: a move of the cut, beside sending weights.
        seed: of the load.
    """

    classes: tuple[DeviceClass, ...] = ASSUMED_CLASSES
    seconds: int = 600
    requests: float = 2.0
    weights: Weights = field(default_factory=lambda: Weights(1.0, 0.1))
    feature_bits: int = 8
    share: RadioShare = field(default_factory=RadioShare)
    load: LoadProcess = field(default_factory=LoadProcess)
    rate: Literal["cqi", "carried"] = "cqi"
    rule: SwitchingRule = field(default_factory=SwitchingRule)
    smoothing: float = 0.5
    pause_s: float = 0.05
    seed: int = 1


@dataclass(frozen=True)
class DeciderRow:
    """One decider over all users, or over those of one device class.

    Attributes:
        moves_per_hour: changes of the cut, a user's mean.
        cost: weighted cost of a request, moves included.
        regret: cost / cost of ``oracle-moves`` - 1.
        offloaded: share of the time with a tail on the edge; ``split``: with a head on the device as well.
    """

    decider: str
    device_class: str
    users: int
    mean_ms: float
    p95_ms: float
    energy_j: float
    moves_per_hour: float
    cost: float
    regret: float
    offloaded: float
    split: float


@dataclass(frozen=True)
class SplitComparison:
    """The result.

    Attributes:
        rows: all classes together; by_class: each class alone.
    """

    network: str
    rows: list[DeciderRow]
    by_class: list[DeciderRow]
    claim: ClaimCheck
    sharing: list[SharingGap]
    evaluation: SplitEvaluation
    traces: int

    def as_dict(self) -> dict[str, Any]:
        """The keys of ``--json``."""
        chosen = self.evaluation
        return {
            "network": self.network,
            "traces": self.traces,
            "rows": [_rounded(row) for row in self.rows],
            "rows_by_class": [_rounded(row) for row in self.by_class],
            "sharing": [_rounded(gap) for gap in self.sharing],
            "throughput_check": _rounded(self.claim),
            "settings": {
                "seconds": chosen.seconds,
                "requests_per_s": chosen.requests,
                "per_second": chosen.weights.per_second,
                "per_joule": chosen.weights.per_joule,
                "feature_bits": chosen.feature_bits,
                "rate": chosen.rate,
                "seed": chosen.seed,
                "radio": dataclasses.asdict(chosen.share),
                "load": dataclasses.asdict(chosen.load),
                "hysteresis": dataclasses.asdict(chosen.rule),
                "classes": [one.name for one in chosen.classes],
                "times": "roofline, not measured",
            },
        }

    def as_text(self) -> str:
        """A table for a terminal."""
        lines = [
            f"{self.network}, {self.traces} traces x {len(self.evaluation.classes)} device classes, "
            f"{self.evaluation.seconds} s each",
            f"{'decider':14}{'mean ms':>9}{'p95 ms':>9}{'energy J':>10}{'moves/h':>9}"
            f"{'cost':>9}{'regret':>9}",
        ]
        lines += [
            f"{row.decider:14}{row.mean_ms:9.1f}{row.p95_ms:9.1f}{row.energy_j:10.3f}{row.moves_per_hour:9.1f}"
            f"{row.cost:9.4f}{100 * row.regret:8.1f}%"
            for row in self.rows
        ]
        lines += [
            f"shared edge, {gap.users} users: {gap.cases} cases, gap to {gap.against}: mean "
            f"{100 * gap.mean_gap:.3f}%, largest {100 * gap.largest_gap:.3f}%"
            for gap in self.sharing
        ]
        return "\n".join(lines)


def _rounded(row: Any) -> dict[str, Any]:
    values = dataclasses.asdict(row)
    for name, value in values.items():
        if isinstance(value, float):
            values[name] = None if np.isnan(value) else float(f"{value:.6g}")
    return values


@dataclass(frozen=True)
class _Lived:
    """What a decider's choices came to; arrays (N, T) but for ``moves`` (N,)."""

    latency_s: Floats
    energy_j: Floats
    cost: Floats
    moves: Floats
    offloaded: Floats
    split: Floats


def class_problem(graph: SplitGraph, device: DeviceClass, feature_bits: int) -> SplitProblem:
    """The network on a device class, crossing tensors at so many bits a value (the input at 8)."""
    problem = split_problem(graph, class_profile(graph, device), class_profile(graph, EDGE_SERVER))
    return coded_problem(problem, feature_bits)


def compare_deciders(
    traces: Sequence[Trace],
    evaluation: SplitEvaluation,
    graph: SplitGraph | None = None,
    on_step: Callable[[], object] | None = None,
) -> SplitComparison:
    """All deciders on all traces and classes.

    Args:
        graph: default: EfficientNet-Lite0.
        on_step: called after each decider of each class.

    Raises:
        ValueError: no trace, too few seconds, or feature bits out of 1..32.
    """
    graph = graph or efficientnet_lite0()
    scenario = scenario_from_traces(
        traces, evaluation.seconds, evaluation.share, evaluation.load, evaluation.seed, evaluation.rate
    )
    candidates: list[CandidateCuts] = []
    lived: dict[str, dict[str, _Lived]] = {}
    for device in evaluation.classes:
        candidates.append(candidate_cuts(class_problem(graph, device, evaluation.feature_bits)))
        case = _case(candidates[-1], device, scenario, evaluation)
        lived[device.name] = {}
        for name, decide in DECIDERS.items():
            lived[device.name][name] = _live(case, decide(case), charged=name not in FREE_MOVES)
            if on_step is not None:
                on_step()
    rows = [
        _row(
            name,
            "all",
            [by_name[name] for by_name in lived.values()],
            [by_name["oracle-moves"] for by_name in lived.values()],
        )
        for name in DECIDERS
    ]
    by_class = [
        _row(name, device, [by_name[name]], [by_name["oracle-moves"]])
        for device, by_name in lived.items()
        for name in DECIDERS
    ]
    powers = [DevicePower.of(device) for device in evaluation.classes]
    gaps = sharing_gap(candidates, powers, evaluation.weights, scenario, evaluation.seed)
    check = claim_check(traces, evaluation.share)
    return SplitComparison(graph.name, rows, by_class, check, gaps, evaluation, len(scenario.uplink_bps))


def _case(
    candidates: CandidateCuts, device: DeviceClass, scenario: Scenario, evaluation: SplitEvaluation
) -> ClassCase:
    devices, measures, hull = menu(candidates)
    problem = candidates.problem
    extra = extra_head_bytes(problem, devices)
    if device.keeps_weights:
        extra = np.zeros_like(extra)
    power = DevicePower.of(device)
    moving = MovingCost(extra, evaluation.pause_s, scenario.downlink_bps, power, evaluation.weights)
    return ClassCase(
        problem,
        measures,
        hull,
        power,
        evaluation.weights,
        scenario,
        moving,
        evaluation.requests,
        evaluation.rule,
        evaluation.smoothing,
    )


def _live(case: ClassCase, choices: Choices, *, charged: bool) -> _Lived:
    chosen = CutMeasures(*(np.asarray(values)[choices] for values in case.cuts))
    link, edge, size = case.scenario.link, case.scenario.edge, case.problem.result_bytes
    latency = stage_times(chosen, link, EdgeLoad(edge.queue_s), size).total_s
    energy = energy_j(chosen, link, edge, case.power, size)
    cost = weighted_cost(chosen, link, edge, case.power, case.weights, size)
    moved = np.zeros(choices.shape)
    moved[:, 1:] = choices[:, 1:] != choices[:, :-1]
    if charged:
        sent = np.zeros(choices.shape)
        sent[:, 1:] = case.moving.extra_bytes[choices[:, :-1], choices[:, 1:]]
        stall = moved * case.moving.stall_s(slice(None), sent)
        joules = moved * case.moving.energy_j(stall, sent)
        latency = latency + stall / case.requests
        energy = energy + joules / case.requests
        move_cost = case.weights.per_second * stall + case.weights.per_joule * joules
        cost = cost + move_cost / case.requests
    offloaded = np.asarray(chosen.offloaded)
    split = offloaded * (np.asarray(chosen.device_s) > 0)
    return _Lived(latency, energy, cost, moved.sum(axis=1), offloaded, split)


def _row(name: str, device_class: str, parts: Sequence[_Lived], best: Sequence[_Lived]) -> DeciderRow:
    latency = np.concatenate([part.latency_s.ravel() for part in parts])
    steps = parts[0].latency_s.shape[1]
    moves = np.concatenate([part.moves for part in parts])
    cost = float(np.mean([part.cost.mean() for part in parts]))
    least = float(np.mean([part.cost.mean() for part in best]))
    return DeciderRow(
        decider=name,
        device_class=device_class,
        users=len(moves),
        mean_ms=1e3 * float(latency.mean()),
        p95_ms=1e3 * float(np.percentile(latency, 95)),
        energy_j=float(np.mean([part.energy_j.mean() for part in parts])),
        moves_per_hour=float(moves.mean() * 3600.0 / steps),
        cost=cost,
        regret=cost / least - 1.0,
        offloaded=float(np.mean([part.offloaded.mean() for part in parts])),
        split=float(np.mean([part.split.mean() for part in parts])),
    )
