"""Pairs of several users in one place, each batch of one user: two encoders' tokens are not one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.pairs import batches
from codec_runtime.adapters.provisional import Judgement
from codec_runtime.adapters.training import new_adapter, new_optimiser, train_step
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

    @property
    def given(self) -> Tensor:
        """(N,) picture of each sentence, numbered within its user."""
        return torch.cat([model.given for model in self._models])

    def judge(self, weights: Weights, seed: int) -> Judgement:
        """Each user's pairs judged among themselves; partners are numbered within the user."""
        found = [model.judge(weights, derived_seed(seed, i)) for i, model in enumerate(self._models)]
        return Judgement(
            torch.cat([one.confidence for one in found]), torch.cat([one.partner for one in found]),
            torch.cat([one.certainty for one in found]),
        )

    def train_epoch(
        self, weights: Weights, kept: Tensor, seed: int, partner: Tensor | None = None
    ) -> tuple[Weights, float]:
        """See :meth:`UserPairs.train_epoch`; users' batches come in random order."""
        self._adapter.load_state_dict(weights)
        self._adapter.train()
        first = self._models[0]
        optimiser = new_optimiser(self._adapter, first.training)
        generator = torch.Generator().manual_seed(seed)
        parts = torch.split(kept.float(), self._sizes)
        owners = [model.train.owner for model in self._models]
        if partner is not None:
            owners = list(torch.split(partner, self._sizes))
        looks = [model.train.said_to_be(own).looks() for model, own in zip(self._models, owners, strict=True)]
        turns = [
            (place, index)
            for place, size in enumerate(self._sizes)
            for index in batches(size, first.training.batch, generator)
        ]
        seen: list[Tensor] = []
        for turn in torch.randperm(len(turns), generator=generator).tolist():
            place, drawn = turns[turn]
            index = drawn[parts[place][drawn] > 0]
            if len(index):
                seen.append(train_step(
                    self._adapter, optimiser, looks[place], index, parts[place], first.prototypes,
                    first.training.loss, generator,
                ))
        state = {name: value.detach().clone() for name, value in self._adapter.state_dict().items()}
        return state, float(torch.cat(seen).mean()) if seen else 0.0

    def score(self, weights: Weights) -> float:
        """Mean RSUM of the users on what they held out, 0..600."""
        return fmean(model.score(weights) for model in self._models)
