"""What an update method is given, and what it answers: who trains what, from which weights on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from codec_runtime.adapters.adapter import AdapterConfig
from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation.client import LabelledTask, LocalTask
from codec_runtime.adapters.methods.pooled_pairs import PooledPairs
from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.tracking import LabelRule
from codec_runtime.adapters.training import TrainingConfig, new_adapter
from codec_runtime.adapters.user_pairs import UserPairs
from codec_runtime.adapters.views import seen_together, views_of
from codec_runtime.training.seeds import derived_seed


@dataclass(frozen=True)
class Samples:
    """Pairs through one picture encoder and one text encoder.

    Attributes:
        train, held_out: of one user, with its label errors; the second decides when to stop.
        test: the same pictures for all, labels right.
        source: the base station's own pairs, labels right; no user's data.
    """

    train: PairSet
    held_out: PairSet
    test: PairSet
    source: PairSet

    @property
    def encoders(self) -> tuple[str, str]:
        """Names of the two."""
        return self.test.images.encoder, self.test.texts.encoder

    def beside(self, other: Samples) -> Samples:
        """The same pairs through the encoders of both."""
        return Samples(*(
            PairSet(seen_together(a.images, b.images), seen_together(a.texts, b.texts), a.owner)
            for a, b in zip(self._sets, other._sets, strict=True)
        ))

    @property
    def _sets(self) -> tuple[PairSet, ...]:
        return self.train, self.held_out, self.test, self.source


@dataclass(frozen=True)
class User:
    """A user.

    Attributes:
        own: its data through its own encoders.
        light: the same through the light encoders that every user can run.
        wrong: (N,) bool, pairs of ``train`` whose label is wrong: for the evaluation, no method reads it.
    """

    name: str
    own: Samples
    light: Samples
    wrong: Tensor


@dataclass(frozen=True)
class UpdateProblem:
    """An update to be made.

    Attributes:
        prototypes: (K, d) of the shared knowledge base.
        config: of an adapter that knows all encoders of all users.
        training: batch, learning rate, weight decay and loss of every method.
        rule: when a label is doubted and given up.
        epochs: local epochs of a round.
        source_epochs: epochs over the base station's pairs before the first round; 0: from scratch.
        seed: of all draws.
    """

    users: Sequence[User]
    prototypes: Tensor
    config: AdapterConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    rule: LabelRule = field(default_factory=LabelRule)
    epochs: int = 1
    source_epochs: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Variant:
    """The scheme with parts left out.

    Attributes:
        graph: messages between tokens and from prototypes; else a projection per encoder and a mean.
        knowledge: links to prototypes and the agreement loss.
        light: homogeneous light encoders instead of the user's own.
        common: the light encoders' tokens beside those of the user's own.
        judging, rescoring: the two halves of label handling.
    """

    graph: bool = True
    knowledge: bool = True
    light: bool = False
    common: bool = True
    judging: bool = True
    rescoring: bool = True

    def samples(self, user: User) -> Samples:
        """The user's data as this variant sees them."""
        if self.light:
            return user.light
        return user.own.beside(user.light) if self.common else user.own

    def config(self, problem: UpdateProblem) -> AdapterConfig:
        """Adapter of this variant."""
        config = problem.config
        if self.light:
            seen = problem.users[0].light.test
            parts = (*views_of(seen.images), *views_of(seen.texts))
            config = replace(config, encoders=" ".join(f"{p.encoder}:{p.features}" for p in parts))
        return replace(
            config, neighbours=config.neighbours if self.graph else 0,
            links=config.links if self.graph and self.knowledge else 0,
        )

    def training(self, problem: UpdateProblem) -> TrainingConfig:
        """Training of this variant."""
        training = replace(problem.training, seed=problem.seed)
        return training if self.knowledge else replace(
            training, loss=replace(training.loss, agreement="none")
        )

    def model(self, problem: UpdateProblem, user: User, frozen: tuple[str, ...] = ()) -> UserPairs:
        """The user's adapter and pairs."""
        seen = self.samples(user)
        return UserPairs(
            seen.train, seen.held_out, problem.prototypes, self.config(problem), self.training(problem),
            frozen,
        )

    def models(self, problem: UpdateProblem) -> dict[str, UserPairs]:
        """Of all users."""
        return {user.name: self.model(problem, user) for user in problem.users}

    def task(self, problem: UpdateProblem, model: UserPairs | PooledPairs) -> LabelledTask:
        """The local round."""
        return LabelledTask(
            model, problem.rule, problem.epochs, judging=self.judging, rescoring=self.rescoring,
            # An adapter that the base station has trained has an opinion on labels from the start.
            warm_up=0 if problem.source_epochs else 1,
        )

    def start(self, problem: UpdateProblem) -> Weights:
        """Weights that the base station deploys: trained on its own pairs, as far as it is asked to."""
        config, training = self.config(problem), self.training(problem)
        weights: Weights = new_adapter(config, problem.seed).state_dict()
        kinds = {self.samples(user).encoders: self.samples(user).source for user in problem.users}
        if not problem.source_epochs:
            return weights
        source = PooledPairs(
            [UserPairs(pairs, pairs, problem.prototypes, config, training) for pairs in kinds.values()]
        )
        everything = torch.ones(source.pairs, dtype=torch.bool)
        for epoch in range(problem.source_epochs):
            weights, _ = source.train_epoch(weights, everything, derived_seed(problem.seed, "source", epoch))
        return weights


@dataclass(frozen=True)
class Federation:
    """Those who end every round with one adapter.

    Attributes:
        start: weights before the first round.
        tasks: who trains.
        models: who uses the adapter: the users whose retrieval it is measured by.
        rescoring: participants get the others' aggregate.
    """

    start: Weights
    tasks: Mapping[str, LocalTask]
    models: Mapping[str, UserPairs]
    rescoring: bool = False


class UpdateMethod(Protocol):
    """How an update is made."""

    @property
    def variant(self) -> Variant:
        """What the method trains, and on which view of the data."""
        ...

    def federations(self, problem: UpdateProblem) -> list[Federation]:
        """One or more; every user is in ``models`` of exactly one."""
        ...
