"""Pairs of several users in one place, each batch of one user: two encoders' tokens are not one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.pairs import batches
from codec_runtime.adapters.training import batch_losses, new_adapter, new_optimiser
from codec_runtime.adapters.user_pairs import UserPairs
from codec_runtime.training.seeds import derived_seed


class PooledPairs:
    """A :class:`codec_runtime.adapters.federation.client.PairModel` over the pairs of ``models``.

    Args:
        models: one or more, all of the same adapter, knowledge base and training; pairs are numbered through.
    """

    def __init__(self, models: Sequence[UserPairs]) -> None:
        self._models = list(models)
        first = self._models[0]
        self._adapter = new_adapter(first.config, first.training.seed)
        self._sizes = [model.pairs for model in self._models]

    @property
    def pairs(self) -> int:
        """N, of all."""
        return sum(self._sizes)

    def confidence(self, weights: Weights, seed: int) -> Tensor:
        """(N,) in [0, 1], each user's pairs judged among themselves."""
        return torch.cat([
            model.confidence(weights, derived_seed(seed, place)) for place, model in enumerate(self._models)
        ])

    def train_epoch(self, weights: Weights, chosen: Tensor, seed: int) -> tuple[Weights, float]:
        """One pass over the pairs of the (N,) bool ``chosen``, users' batches in random order."""
        self._adapter.load_state_dict(weights)
        self._adapter.train()
        first = self._models[0]
        optimiser = new_optimiser(self._adapter, first.training)
        generator = torch.Generator().manual_seed(seed)
        kept = torch.split(chosen.float(), self._sizes)
        turns = [
            (place, index)
            for place, size in enumerate(self._sizes)
            for index in batches(size, first.training.batch, generator)
        ]
        seen: list[Tensor] = []
        for turn in torch.randperm(len(turns), generator=generator).tolist():
            place, index = turns[turn]
            wanted = kept[place][index]
            if float(wanted.sum()) <= 0:
                continue
            model = self._models[place]
            losses = batch_losses(
                self._adapter, model.train, index, model.prototypes, model.training.loss
            )
            optimiser.zero_grad(set_to_none=True)
            losses.mean(wanted).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            seen.append(losses.total.detach()[wanted > 0])
        state = {name: value.detach().clone() for name, value in self._adapter.state_dict().items()}
        return state, float(torch.cat(seen).mean()) if seen else 0.0

    def score(self, weights: Weights) -> float:
        """Mean RSUM of the users on what they held out, 0..600."""
        return fmean(model.score(weights) for model in self._models)
