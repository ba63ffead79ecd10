"""Where to cut, asked once: one user within limits, or many users of one edge server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from codec_runtime.contract.split import CutSpec
from xapp.split.candidates import CandidateCuts, candidate_cuts
from xapp.split.constrained import ConstrainedCut, constrained_cut
from xapp.split.constraints import Constraints, bounds, keeps
from xapp.split.latency import CutMeasures, EdgeLoad, Link, StageTimes, stage_times
from xapp.split.objective import DevicePower, Weights, energy_j, prices
from xapp.split.problem import Bools, SplitProblem
from xapp.split.sharing import SharedCuts, SharedEdge, share_edge


@dataclass(frozen=True)
class PlannedUser:
    """Who asks.

    Attributes:
        name: for people. problem: its network on its device and the server.
        link, power, weights, constraints: its own.
    """

    name: str
    problem: SplitProblem
    link: Link
    power: DevicePower
    weights: Weights
    constraints: Constraints


@dataclass(frozen=True)
class CutCost:
    """What a cut costs a request.

    Attributes:
        cut: and the names of the operations whose outputs cross.
        bytes_up: that cross. times: by stage, seconds. energy_j: of the device. memory_bytes: of the device.
        cost: the weighted sum.
        keeps: whether it keeps to the limits.
    """

    cut: CutSpec
    crossing: tuple[str, ...]
    bytes_up: float
    times: StageTimes
    energy_j: float
    memory_bytes: float
    cost: float
    keeps: bool


@dataclass(frozen=True)
class Plan:
    """The answer for one user.

    Attributes:
        best: the cheapest that keeps to the limits, ``found`` with its gap to a lower bound.
        alternatives: the other cuts that are best for some link and load, cheapest first, and the prefixes
            that no cut beats in everything where there are limits.
    """

    best: CutCost
    found: ConstrainedCut
    alternatives: list[CutCost]


@dataclass(frozen=True)
class SharedPlan:
    """The answer for many users: a cut and a share of the server for each.

    Attributes:
        users: in the order given, with the times that follow from the shares; ``keeps`` says whether the
            limits hold with these.
        shared: choices, shares, cost, and gap to a lower bound.
    """

    users: list[CutCost]
    shared: SharedCuts


def plan_user(user: PlannedUser, load: EdgeLoad, most: int = 8) -> Plan:
    """The best cut of one user, and what else there is, ``most`` alternatives.

    Raises:
        InfeasibleError: nothing keeps to the limits; NoCutError: nothing keeps to privacy and memory.
    """
    problem = user.problem
    limits = bounds(problem, user.constraints, user.link, load, user.power)
    cost = problem.linear(prices(user.link, load, user.power, user.weights, problem.result_bytes))
    found = constrained_cut(problem, cost, user.constraints, limits)
    others = _candidates(user).device
    costs = [_cost(user, device, load) for device in others if not np.array_equal(device, found.device)]
    costs.sort(key=lambda one: one.cost)
    return Plan(_cost(user, found.device, load), found, costs[:most])


def plan_users(users: Sequence[PlannedUser], queue_s: float = 0.0) -> SharedPlan:
    """Cuts and shares of the server for all users together.

    Limits rule out cuts that break them on the whole, idle server; shares may still break a deadline, which
    the answer then says.

    Raises:
        NoCutError: a user for whom nothing keeps to privacy and memory.
        ValueError: a user for whom no candidate keeps to the limits.
    """
    idle = EdgeLoad(queue_s)
    candidates = [_candidates(user) for user in users]
    shape = len(users), max(map(len, candidates))
    own, root = np.full(shape, np.inf), np.zeros(shape)
    for row, (user, cuts) in enumerate(zip(users, candidates, strict=True)):
        priced = prices(user.link, idle, user.power, user.weights, user.problem.result_bytes)
        limits = bounds(user.problem, user.constraints, user.link, idle, user.power)
        kept = [keeps(user.problem, device, user.constraints, limits) for device in cuts.device]
        if not any(kept):
            raise ValueError(f"{user.name}: no candidate keeps to the limits")
        alone = cuts.costs(priced._replace(edge_s=0.0))[0]
        own[row, : len(cuts)] = np.where(kept, alone, np.inf)
        root[row, : len(cuts)] = np.sqrt(np.asarray(priced.edge_s) * np.asarray(cuts.measures.edge_s))
    shared = share_edge(SharedEdge(own, root))
    costs = []
    for user, cuts, place, share in zip(users, candidates, shared.choice, shared.shares, strict=True):
        load = EdgeLoad(queue_s, 1.0 / share if share > 0 else 1.0)
        costs.append(_cost(user, cuts.device[place], load))
    return SharedPlan(costs, shared)


def coded_problem(problem: SplitProblem, feature_bits: int) -> SplitProblem:
    """The problem with crossing tensors at so many bits a value; the input, a picture, at 8.

    Raises:
        ValueError: bits outside 1..32.
    """
    if not 1 <= feature_bits <= 32:
        raise ValueError(f"feature bits: {feature_bits} is outside 1..32")
    bits = np.where(problem.inputs, 8.0, float(feature_bits))
    return replace(problem, tensor_bytes=problem.tensor_bytes * bits / 32.0)


def _candidates(user: PlannedUser) -> CandidateCuts:
    return candidate_cuts(user.problem, user.constraints, with_prefixes=user.constraints != Constraints())


def _cost(user: PlannedUser, device: Bools, load: EdgeLoad) -> CutCost:
    problem, link, power = user.problem, user.link, user.power
    measures: CutMeasures = problem.measures(device)
    times = stage_times(measures, link, load, problem.result_bytes)
    joules = float(energy_j(measures, link, load, power, problem.result_bytes))
    priced = prices(link, load, power, user.weights, problem.result_bytes)
    cut = problem.cut(device)
    limits = bounds(problem, user.constraints, link, load, power)
    return CutCost(
        cut,
        tuple(problem.graph.nodes[index].name for index in cut.crossing),
        float(measures.crossing_bytes),
        times,
        joules,
        problem.memory_bytes(device),
        float(priced.of(measures)),
        keeps(problem, device, user.constraints, limits),
    )
