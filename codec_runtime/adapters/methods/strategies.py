"""The update methods: the scheme, its ablations, what one would do otherwise, and the bounds.

Of the seed's section V.D, where it is brief, read so:

- *fedavg*: "a lightweight CNN or BERT model with a uniform architecture for single-modal federated
  aggregation". All users take the same light picture encoder and the same light text encoder; what they train
  is a projection per modality, and each is averaged with those of its modality alone. No graph, no knowledge
  base. The light encoders stay frozen as all encoders here do.
- *fedgnn*: "a GNN model serves as a cross-modal adapter". The same graph within the modality over the users'
  own encoders, averaged over all; no knowledge base, no label handling. *fedgnn_common*: over the light
  encoders, too.
- *ours*, its ablations and bounds see the light encoders beside the user's own: what homogeneous averaging
  assumes that everybody can run. *no_common*: own encoders alone.
- *split learning* (IV.B): users take turns ("sequential updating"): one trains with the network that the one
  before has left, and nothing is averaged. Its front, the projections, is handed on within an encoder.
- *transfer* (IV.C): each user alone fine-tunes the latter part, the graph, of what the base station has
  trained on its own pairs; projections and norms stay fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation.client import ClientUpdate
from codec_runtime.adapters.methods.pooled_pairs import PooledPairs
from codec_runtime.adapters.methods.problem import Federation, UpdateProblem, Variant
from codec_runtime.adapters.user_pairs import UserPairs
from codec_runtime.training.seeds import derived_seed


@dataclass(frozen=True)
class Federated:
    """Users train at home, a server averages: the scheme, and what differs from it by parts left out."""

    variant: Variant = field(default_factory=Variant)

    def federations(self, problem: UpdateProblem) -> list[Federation]:
        """One of all users."""
        models = self.variant.models(problem)
        tasks = {name: self.variant.task(problem, model) for name, model in models.items()}
        return [Federation(self.variant.start(problem), tasks, models, self.variant.rescoring)]


@dataclass(frozen=True)
class Central:
    """All users' pairs, wrong labels and all, in one place; own confidence judges them. The upper bound."""

    variant: Variant = field(default_factory=lambda: Variant(rescoring=False))

    def federations(self, problem: UpdateProblem) -> list[Federation]:
        """One, of a single trainer."""
        models = self.variant.models(problem)
        tasks = {"central": self.variant.task(problem, PooledPairs(list(models.values())))}
        return [Federation(self.variant.start(problem), tasks, models)]


@dataclass(frozen=True)
class Alone:
    """Every user by itself: the lower bound or, with parts frozen, transfer learning.

    Attributes:
        frozen: see :class:`codec_runtime.adapters.user_pairs.UserPairs`.
    """

    variant: Variant = field(default_factory=lambda: Variant(rescoring=False))
    frozen: tuple[str, ...] = ()

    def federations(self, problem: UpdateProblem) -> list[Federation]:
        """One of each user."""
        start, found = self.variant.start(problem), []
        for user in problem.users:
            model = self.variant.model(problem, user, self.frozen)
            tasks = {user.name: self.variant.task(problem, model)}
            found.append(Federation(start, tasks, {user.name: model}))
        return found


@dataclass(frozen=True)
class SplitLearning:
    """Users one after another on the same network."""

    variant: Variant = field(default_factory=lambda: Variant(common=False, judging=False, rescoring=False))

    def federations(self, problem: UpdateProblem) -> list[Federation]:
        """One, of a single chain."""
        models = self.variant.models(problem)
        return [Federation(self.variant.start(problem), {"chain": Chain(models, problem.epochs)}, models)]


@dataclass(frozen=True)
class Chain:
    """A :class:`codec_runtime.adapters.federation.client.LocalTask` of users who hand the network on."""

    models: Mapping[str, UserPairs]
    epochs: int

    def train_round(
        self, weights: Weights, seed: int, *, others: Weights | None = None, state: bytes = b""
    ) -> ClientUpdate:
        """Every user's epochs, in the order of their names; the last one's weights are the round's."""
        for name in sorted(self.models):
            model = self.models[name]
            everything = torch.ones(model.pairs, dtype=torch.bool)
            for epoch in range(self.epochs):
                weights, _ = model.train_epoch(weights, everything, derived_seed(seed, name, epoch))
        return ClientUpdate(weights, sum(model.pairs for model in self.models.values()))

    def score(self, weights: Weights) -> float:
        """Mean over the users."""
        return PooledPairs(list(self.models.values())).score(weights)
