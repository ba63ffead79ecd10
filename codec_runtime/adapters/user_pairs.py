"""A federated user's model: the shared adapter on the user's own pairs, as weights in and weights out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codec_runtime.adapters.adapter import AdapterConfig
from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.confidence import label_confidence
from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.provisional import Judgement, kinship, provisional_labels
from codec_runtime.adapters.training import (
    TrainingConfig,
    embed,
    measure,
    new_adapter,
    new_optimiser,
    train_epoch,
)


@dataclass
class UserPairs:
    """What :class:`codec_runtime.adapters.federation.client.LabelledTask` takes as its model.

    Attributes:
        train: the user's pairs, right or wrong; test: pairs to measure on.
        prototypes: (K, d) of the shared knowledge base.
        config: of the adapter; training: batch, learning rate and loss (``epochs`` is not used).
        frozen: parts of the adapter (``projections``, ``norms``, ...) that do not learn.
    """

    train: PairSet
    test: PairSet
    prototypes: Tensor
    config: AdapterConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.train = self.train.with_edges(self.config.neighbours)
        self.test = self.test.with_edges(self.config.neighbours)
        self._kin = kinship(self.train.texts)
        self._adapter = new_adapter(self.config, self.training.seed)
        for part in self.frozen:
            self._adapter.get_submodule(part).requires_grad_(False)

    @property
    def pairs(self) -> int:
        """N."""
        return len(self.train)

    @property
    def given(self) -> Tensor:
        """(N,) picture of each sentence, as it is said."""
        return self.train.owner

    def judge(self, weights: Weights, seed: int) -> Judgement:
        """What these weights think of each pair.

        The share of right labels is first guessed by mini-batches. Each
        mini-batch holds a picture once: two of its sentences would be each other's negatives.
        """
        self._adapter.load_state_dict(weights)
        images = embed(self._adapter, self.train.images, self.prototypes)
        texts = embed(self._adapter, self.train.texts, self.prototypes)
        groups = distinct_batches(self.train.owner, self.training.batch, seed)
        matrices = [images[self.train.owner[index]] @ texts[index].t() for index in groups]
        share = float(label_confidence(matrices).mean())
        return provisional_labels(texts @ images.t(), self.train.owner, self._kin, share)

    def train_epoch(
        self, weights: Weights, kept: Tensor, seed: int, partner: Tensor | None = None
    ) -> tuple[Weights, float]:
        """One pass over the pairs with a weight above 0; (new weights, mean loss of those seen).

        The optimiser starts afresh, so that the result is a function of the arguments.

        Args:
            kept: (N,) bool or weight in [0, 1].
            partner: (N,) picture that each sentence is taken for; None: as given.
        """
        self._adapter.load_state_dict(weights)
        losses = train_epoch(
            self._adapter, new_optimiser(self._adapter, self.training), self.train.said_to_be(
                self.train.owner if partner is None else partner
            ), self.prototypes,
            self.training.loss, torch.Generator().manual_seed(seed), batch=self.training.batch,
            kept=kept.float(),
        )
        seen = losses[~losses.isnan()]
        state = {name: value.detach().clone() for name, value in self._adapter.state_dict().items()}
        return state, float(seen.mean()) if len(seen) else 0.0

    def score(self, weights: Weights) -> float:
        """RSUM on the test pairs, 0..600."""
        self._adapter.load_state_dict(weights)
        return measure(self._adapter, self.test, self.prototypes).rsum


def distinct_batches(owner: Tensor, size: int, seed: int) -> list[Tensor]:
    """Every pair once, in random batches of at most ``size`` without a picture twice.

    Args:
        owner: (N,) picture of each pair.
    """
    order = torch.randperm(len(owner), generator=torch.Generator().manual_seed(seed)).tolist()
    owners = owner.tolist()
    turns: list[list[int]] = []  # the i-th sentence of every picture
    met: Counter[int] = Counter()
    for pair in order:
        turn = met[owners[pair]]
        met[owners[pair]] += 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(pair)
    return [torch.tensor(turn[i : i + size]) for turn in turns for i in range(0, len(turn), size)]
