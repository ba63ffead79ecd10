"""A linear adapter on generated pairs: y = W x plus noise, of which some users know some labels wrongly.

Small enough that ten users and ten rounds take a second, and with a known best solution, so that an attack's
damage is a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.attacks import flipped_labels, scaled, sign_flipped
from codec_runtime.adapters.confidence import label_confidence
from codec_runtime.adapters.federation.client import ClientUpdate, LabelledTask, LocalTask
from codec_runtime.adapters.provisional import Judgement
from codec_runtime.training.seeds import derived_seed

FEATURES, DIMENSIONS = 12, 8
BATCH = 64


def initial_weights() -> Weights:
    """(8, 12) small random matrix and a counter that nobody averages."""
    generator = torch.Generator().manual_seed(7)
    return {
        "matrix": 0.1 * torch.randn(DIMENSIONS, FEATURES, generator=generator),
        "steps": torch.zeros((), dtype=torch.int64),
    }


def true_matrix() -> Tensor:
    """(8, 12): what the pairs were made with."""
    return torch.randn(DIMENSIONS, FEATURES, generator=torch.Generator().manual_seed(3))


@cache
def pairs_of(client: str, count: int) -> tuple[Tensor, Tensor]:
    """(N, 12) samples and their (N, 8) unit right labels."""
    generator = torch.Generator().manual_seed(derived_seed("toy", client))
    samples = torch.randn(count, FEATURES, generator=generator)
    labels = samples @ true_matrix().T + 0.05 * torch.randn(count, DIMENSIONS, generator=generator)
    return samples, functional.normalize(labels, dim=1)


def recall(weights: Weights, samples: Tensor, labels: Tensor) -> float:
    """Share of samples whose own label is the nearest."""
    aligned = functional.normalize(samples @ weights["matrix"].T, dim=1)
    return float(((aligned @ labels.T).argmax(dim=1) == torch.arange(len(samples))).float().mean())


@dataclass(frozen=True)
class ToyPairs:
    """A user's pairs, a share of them with labels passed around."""

    client: str
    count: int = 128
    errors: float = 0.0
    rate: float = 0.3

    @property
    def pairs(self) -> int:
        return self.count

    def data(self) -> tuple[Tensor, Tensor]:
        samples, labels = pairs_of(self.client, self.count)
        return samples, labels[self.given]

    @property
    def given(self) -> Tensor:
        return flipped_labels(self.count, self.errors, derived_seed("errors", self.client))

    @property
    def wrong(self) -> Tensor:
        return self.given != torch.arange(self.count)

    def judge(self, weights: Weights, seed: int) -> Judgement:
        samples, labels = self.data()
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed))
        aligned = functional.normalize(samples @ weights["matrix"].T, dim=1)
        parts = order.split(BATCH)
        found = torch.empty(self.count)
        found[order] = label_confidence([aligned[part] @ labels[part].T for part in parts])
        return Judgement(found, torch.arange(self.count), torch.zeros(self.count))  # none is paired anew

    def train_epoch(
        self, weights: Weights, kept: Tensor, seed: int, partner: Tensor | None = None
    ) -> tuple[Weights, float]:
        samples, labels = (tensor[kept > 0] for tensor in self.data())
        matrix = weights["matrix"].clone().requires_grad_(True)
        losses = []
        for _ in range(4):
            aligned = functional.normalize(samples @ matrix.T, dim=1)
            loss = functional.cross_entropy(aligned @ labels.T / 0.1, torch.arange(len(samples)))
            (gradient,) = torch.autograd.grad(loss, matrix)
            matrix = (matrix - self.rate * gradient).detach().requires_grad_(True)
            losses.append(float(loss.detach()))
        return {**weights, "matrix": matrix.detach()}, losses[0]

    def score(self, weights: Weights) -> float:
        samples, labels = pairs_of("held out", 100)
        return recall(weights, samples, labels)


@dataclass(frozen=True)
class MaliciousTask:
    """A user that trains honestly and sends something else."""

    task: LocalTask
    attack: str
    strength: float = 1.0

    def train_round(
        self, weights: Weights, seed: int, *, others: Weights | None = None, state: bytes = b""
    ) -> ClientUpdate:
        honest = self.task.train_round(weights, seed, others=others, state=state)
        change = {"sign": sign_flipped, "scaled": scaled}[self.attack]
        return ClientUpdate(
            change(weights, honest.weights, self.strength),
            honest.samples,
            honest.confidence,
            honest.loss,
            honest.score,
            honest.labels,
            honest.state,
        )

    def score(self, weights: Weights) -> float:
        return self.task.score(weights)


def toy_task(client: str, options: Mapping[str, str]) -> LocalTask:
    """Task factory of the engines; ``errors``: share of wrong labels."""
    return LabelledTask(ToyPairs(client, errors=float(options.get("errors", "0"))), epochs=2)
