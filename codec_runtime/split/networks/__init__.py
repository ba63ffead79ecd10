"""Networks to split, by name. Here: their definitions and where their weights come from. Any other torch
module can be split as well; these are what the figures of docs/split.md are for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec_runtime.split.networks.branches import Branches, Chain
from codec_runtime.split.networks.efficientnet import efficientnet_lite0
from codec_runtime.split.networks.resnet import ResNet
from codec_runtime.split.networks.vit import VisionTransformer


@dataclass(frozen=True)
class NetworkSpec:
    """How to make a network, and the edge of the square pictures that it takes."""

    build: Callable[[], nn.Module]
    size: int


NETWORKS: dict[str, NetworkSpec] = {
    "resnet50": NetworkSpec(lambda: ResNet("resnet50"), 224),
    "resnet18": NetworkSpec(lambda: ResNet("resnet18"), 224),
    "efficientnet-lite0": NetworkSpec(efficientnet_lite0, 224),
    "vit-tiny": NetworkSpec(VisionTransformer, 224),
    "branches": NetworkSpec(lambda: Branches(32, 100), 64),
    "chain": NetworkSpec(lambda: Chain(32, 100), 128),
}


def build_network(name: str, *, batch: int = 1, seed: int = 0) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network of :data:`NETWORKS` in evaluation mode, and an example input (batch, 3, size, size).

    Random weights are a function of ``seed``; torch's global generator is left as it was.

    Raises:
        KeyError: no such network; the message lists those there are.
        WeightsUnavailableError: published weights are not installed.
    """
    if name not in NETWORKS:
        raise KeyError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    spec = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = spec.build().eval()
        picture = torch.randn(batch, 3, spec.size, spec.size)
    return network, (picture,)
