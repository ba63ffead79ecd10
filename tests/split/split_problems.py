"""Random networks for the tests of cut decisions."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from codec_runtime.contract.split import INPUT_OP, OUTPUT_OP, SplitGraph, SplitNode, make_graph
from xapp.split.objective import Prices
from xapp.split.problem import SplitProblem


def graph_of(
    edges: list[tuple[int, int]], count: int, rng: np.random.Generator, inputs: int = 1
) -> SplitGraph:
    """``count`` nodes with random sizes; nodes that nobody reads are outputs."""
    sources = {source for source, _ in edges}
    nodes = []
    for index in range(count):
        op = INPUT_OP if index < inputs else ("conv2d" if index in sources else OUTPUT_OP)
        nodes.append(
            SplitNode(
                name=f"n{index}",
                op=op,
                output_bytes=0 if op == OUTPUT_OP else int(rng.integers(1, 1000)),
                macs=int(rng.integers(0, 10_000)),
                parameter_bytes=0 if op != "conv2d" else int(rng.integers(0, 500)),
                working_bytes=0 if op == INPUT_OP else int(rng.integers(0, 300)),
            )
        )
    return make_graph("random", nodes, edges)


def random_problem(seed: int, count: int, branching: float = 0.35, inputs: int = 1) -> SplitProblem:
    """Any DAG of ``count`` nodes: each reads at least one earlier node, and others by chance."""
    rng = np.random.default_rng(seed)
    edges = set()
    for target in range(inputs, count):
        edges.add((int(rng.integers(0, target)), target))
        edges.update((source, target) for source in range(target) if rng.random() < branching / target)
    graph = graph_of(sorted(edges), count, rng, inputs)
    return problem_of(graph, rng)


def chain_problem(seed: int, count: int) -> SplitProblem:
    """A chain of ``count`` nodes."""
    rng = np.random.default_rng(seed)
    return problem_of(graph_of([(i, i + 1) for i in range(count - 1)], count, rng), rng)


def problem_of(graph: SplitGraph, rng: np.random.Generator) -> SplitProblem:
    """Random times; input and output nodes take none."""
    idle = np.array([node.op in (INPUT_OP, OUTPUT_OP) for node in graph.nodes])
    device_s = np.where(idle, 0.0, rng.exponential(0.01, len(graph.nodes)))
    sizes = np.array([node.output_bytes for node in graph.nodes], dtype=np.float64)
    return SplitProblem(graph, device_s, device_s / rng.uniform(1.5, 30.0), sizes, result_bytes=40.0)


@st.composite
def problems(draw: st.DrawFn, largest: int = 11) -> SplitProblem:
    """Small DAGs with up to two inputs."""
    count = draw(st.integers(3, largest))
    return random_problem(
        draw(st.integers(0, 2**32)), count, draw(st.sampled_from([0.1, 1.0, 3.0])), draw(st.integers(1, 2))
    )


any_prices = st.builds(
    Prices,
    st.floats(0.0, 5.0),
    st.floats(0.0, 1e-3),
    st.floats(0.0, 20.0),
    st.floats(0.0, 0.2),
)
