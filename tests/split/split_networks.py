"""Small networks traced once for all tests of splitting, and cuts of them."""

import functools

from codec_runtime.contract.split import SplitGraph
from codec_runtime.split.graph import TracedNetwork, trace
from codec_runtime.split.networks import build_network


@functools.cache
def traced(name: str, *, fuse: bool = False) -> TracedNetwork:
    return trace(name, *build_network(name), fuse=fuse)


def closed(graph: SplitGraph, wanted: set[int]) -> set[int]:
    """Inputs, ``wanted`` and all that these depend on."""
    chosen = wanted | set(graph.inputs)
    producers = graph.predecessors()
    for node in range(len(graph.nodes) - 1, -1, -1):
        if node in chosen:
            chosen.update(producers[node])
    return chosen
