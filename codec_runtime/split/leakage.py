"""What a tensor that crosses tells about the picture: its distance correlation with the input.

Bias-corrected (Székely and Rizzo, "Partial distance correlation with methods for dissimilarities", Annals of
Statistics 42(6), 2014, section 3): the plain statistic of Székely et al. (2007) goes to 1 in many dimensions
whatever the data, and features have thousands. The square root of the corrected square is given, so that the
scale is that of the plain one: 0 for independence, 1 for a picture moved, turned or scaled as a whole.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from codec_runtime.split.graph import TracedNetwork

LEAST_PICTURES = 8


def distance_correlation(x: Tensor, y: Tensor) -> float:
    """0..1, of n samples (n, ...) each; n of 4 at least.

    Raises:
        ValueError: too few samples, or not as many of both.
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(f"{len(x)} and {len(y)} samples; want as many of both, 4 at least")
    first, second = _centred(x), _centred(y)
    product = (first * second).sum()
    scale = torch.sqrt((first * first).sum() * (second * second).sum())
    squared = float(product / scale) if scale > 0 else 0.0
    return math.sqrt(min(max(squared, 0.0), 1.0))


def node_leakage(traced: TracedNetwork, pictures: Tensor) -> dict[str, float]:
    """Of every node of the graph that yields a tensor a picture, by name; several tensors count as one.

    Args:
        traced: for as many pictures as given; pictures: (n, 3, H, W) as the network takes them.
    """
    wanted = {
        names[-1]: node.name for node, names in zip(traced.graph.nodes, traced.members, strict=True) if names
    }
    recorder = _Recorder(traced.module, wanted, pictures)
    with torch.inference_mode():
        recorder.run(pictures)
    return recorder.found


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, wanted: dict[str, str], pictures: Tensor) -> None:
        super().__init__(module)
        self.found: dict[str, float] = {}
        self._wanted, self._pictures = wanted, pictures

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = self._wanted.get(n.name)
        if name is None:
            return value
        parts = list(value) if isinstance(value, (tuple, list)) else [value]
        count = len(self._pictures)
        if parts and all(isinstance(part, Tensor) and part.shape[:1] == (count,) for part in parts):
            joined = torch.cat([part.reshape(count, -1).float() for part in parts], dim=1)
            self.found[name] = distance_correlation(self._pictures, joined)
        return value


def _centred(samples: Tensor) -> Tensor:
    """(n, n) U-centred distances."""
    flat = samples.reshape(len(samples), -1).double()
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    count = len(flat)
    rows = distances.sum(1, keepdim=True) / (count - 2)
    centred = distances - rows - rows.T + distances.sum() / ((count - 1) * (count - 2))
    return centred.fill_diagonal_(0.0)
