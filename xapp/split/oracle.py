"""Every legal cut of a small network, one by one: what the other methods are tested against."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xapp.split.problem import Bools, LinearCost, SplitProblem

MAX_CUTS = 200_000


def legal_cuts(problem: SplitProblem) -> Iterator[Bools]:
    """All downward-closed sets that hold the inputs, (n,) each.

    Raises:
        ValueError: more than ``MAX_CUTS`` of them.
    """
    stack = [(0, problem.inputs.copy())]
    given = 0
    while stack:
        node, device = stack.pop()
        while node < problem.size and problem.inputs[node]:
            node += 1
        if node == problem.size:
            given += 1
            if given > MAX_CUTS:
                raise ValueError(f"{problem.graph.name} has more than {MAX_CUTS} legal cuts")
            yield device
            continue
        stack.append((node + 1, device))
        if all(device[producer] for producer in problem.producers[node]):
            with_node = device.copy()
            with_node[node] = True
            stack.append((node + 1, with_node))


def cheapest(problem: SplitProblem, cost: LinearCost) -> tuple[Bools, float]:
    """The cheapest legal cut and its cost, by trying all."""
    best, least = problem.inputs, np.inf
    for device in legal_cuts(problem):
        value = problem.cost(device, cost)
        if value < least:
            best, least = device, value
    return best, float(least)
