"""Training steps of the adapter on paired tokens, and the centralised run: all pairs in one place.

Encoders stay frozen and the knowledge base too; the adapter's weights are all that moves. A federated client
runs the same epochs on its own pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codec_runtime.adapters.adapter import AdapterConfig, GraphAdapter
from codec_runtime.adapters.evaluation import Retrieval, retrieval
from codec_runtime.adapters.losses import LossConfig, PairLoss, pair_losses
from codec_runtime.adapters.pairs import PairSet, batches
from codec_runtime.adapters.views import SampleTokens

_EMBED_BATCH = 256


@dataclass(frozen=True)
class TrainingConfig:
    """Attributes:
        batch: pairs of a step.
        learning_rate: of Adam; the seed's 1e-4 needs several times the epochs for the same retrieval.
        weight_decay: decoupled (AdamW); 0: plain Adam.
        epochs: passes over the pairs.
        loss: see there.
        seed: of the weights and the order of the pairs.
    """

    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 6
    loss: LossConfig = field(default_factory=LossConfig)
    seed: int = 0


@dataclass(frozen=True)
class EpochReport:
    """Attributes: epoch: 0, 1, ...; loss: mean over the pairs; retrieval: on the test pairs."""

    epoch: int
    loss: float
    retrieval: Retrieval


def new_adapter(config: AdapterConfig, seed: int) -> GraphAdapter:
    """An untrained adapter, a function of its arguments; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GraphAdapter(config)


def new_optimiser(adapter: GraphAdapter, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam or, with weight decay, AdamW over what is not frozen."""
    learnt = [value for value in adapter.parameters() if value.requires_grad]
    return torch.optim.AdamW(learnt, config.learning_rate, weight_decay=config.weight_decay)


def batch_losses(
    adapter: GraphAdapter, pairs: PairSet, index: Tensor, prototypes: Tensor, loss: LossConfig
) -> PairLoss:
    """Losses of the pairs at ``index`` (B,), with gradient; a picture that they share is computed once."""
    owners, place = torch.unique(pairs.owner[index], return_inverse=True)
    images = adapter(pairs.images.take(owners), prototypes).pooled[place]
    texts = adapter(pairs.texts.take(index), prototypes).pooled
    return pair_losses(images, texts, place, prototypes, loss)


def train_epoch(
    adapter: GraphAdapter,
    optimiser: torch.optim.Optimizer,
    pairs: PairSet,
    prototypes: Tensor,
    loss: LossConfig,
    generator: torch.Generator,
    *,
    batch: int = 128,
    kept: Tensor | None = None,
) -> Tensor:
    """One pass over the pairs, updating ``adapter``.

    Args:
        kept: (M,) weight of each pair in the gradient; a pair of weight 0 is not in its batch at all: what it
            shows is not known, so it is no negative either.

    Returns:
        (M,) loss of each pair when its turn came; NaN for those not kept or left over
        (:func:`pairs.batches`).
    """
    adapter.train()
    seen = torch.full((len(pairs),), float("nan"))
    weights = torch.ones(len(pairs)) if kept is None else kept
    looks = pairs.looks()
    for drawn in batches(len(pairs), batch, generator):
        index = drawn[weights[drawn] > 0]
        if len(index):
            seen[index] = train_step(adapter, optimiser, looks, index, weights, prototypes, loss, generator)
    return seen


def train_step(
    adapter: GraphAdapter, optimiser: torch.optim.Optimizer, looks: Sequence[PairSet], index: Tensor,
    weights: Tensor, prototypes: Tensor, loss: LossConfig, generator: torch.Generator,
) -> Tensor:
    """One step on the pairs at ``index`` (B,); their losses (B,).

    Args:
        looks: of :meth:`PairSet.looks`. With several, each step draws one, so that every encoder's projection
            learns to serve alone and together: an encoder dropout.
        weights: (M,) of all pairs.
    """
    place = int(torch.randint(len(looks), (1,), generator=generator)) if len(looks) > 1 else 0
    losses = batch_losses(adapter, looks[place], index, prototypes, loss)
    optimiser.zero_grad(set_to_none=True)
    losses.mean(weights[index]).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return losses.total.detach()


@torch.no_grad()
def embed(adapter: GraphAdapter, tokens: SampleTokens, prototypes: Tensor) -> Tensor:
    """Pooled embeddings (B, d) in evaluation mode, each a function of its own tokens alone."""
    adapter.eval()
    return torch.cat([
        adapter(tokens.take(torch.arange(i, min(i + _EMBED_BATCH, len(tokens)))), prototypes).pooled
        for i in range(0, len(tokens), _EMBED_BATCH)
    ])


def measure(adapter: GraphAdapter, pairs: PairSet, prototypes: Tensor) -> Retrieval:
    """Retrieval on ``pairs``."""
    images, texts = (embed(adapter, tokens, prototypes) for tokens in (pairs.images, pairs.texts))
    return retrieval(images, texts, pairs.owner)


def train_central(
    adapter: GraphAdapter,
    train: PairSet,
    test: PairSet,
    prototypes: Tensor,
    config: TrainingConfig,
    on_epoch: Callable[[EpochReport], object] | None = None,
) -> list[EpochReport]:
    """Train on all pairs in one place: the upper bound of the federated runs.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    neighbours = adapter.config.neighbours
    train, test = train.with_edges(neighbours), test.with_edges(neighbours)
    optimiser = new_optimiser(adapter, config)
    generator = torch.Generator().manual_seed(config.seed)
    reports = []
    for epoch in range(config.epochs):
        losses = train_epoch(
            adapter, optimiser, train, prototypes, config.loss, generator, batch=config.batch
        )
        loss = float(losses[~losses.isnan()].mean())
        if not all(bool(value.isfinite().all()) for value in (torch.tensor(loss), *adapter.parameters())):
            raise FloatingPointError(f"epoch {epoch}: the loss is {loss}; lower the learning rate")
        reports.append(EpochReport(epoch, loss, measure(adapter, test, prototypes)))
        if on_epoch is not None:
            on_epoch(reports[-1])
    return reports
