"""A user's side of a round: learn from pairs that it trusts, tell how sure it is, keep data and labels at
home.

Two layers, so that an engine needs to know no network and a network no engine:

- :class:`LocalTask` is what an engine runs: weights and seed in, update out.
- :class:`LabelledTask` is the error-aware task over any :class:`PairModel`. Per round: (1) the consensus of
the
  others re-scores every label, (2) before each epoch own confidence decides which pairs it learns from, (3)
  one pass over those. Both can be switched off, for methods that do not have them.

A user's label states change once a round, however often an order is repeated (a server that died asks again):
:func:`respond` keeps the state from before the last round, and starts from it when that round is asked for
anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import torch
from torch import Tensor

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation.messages import (
    FederationError,
    RoundOrder,
    RoundReply,
    decode,
    encode,
    read_weights,
    weights_file,
)
from codec_runtime.adapters.provisional import Judgement
from codec_runtime.adapters.tracking import LabelRule, LabelStates
from codec_runtime.bundle.files import write_atomic
from codec_runtime.training.seeds import derived_seed


@dataclass(frozen=True)
class ClientUpdate:
    """Outcome of a user's round.

    Attributes:
        weights: same names, shapes and dtypes as the global ones.
        samples: pairs learned from.
        confidence: mean confidence in them, in [0, 1]; 1 for methods that do not estimate any.
        loss: mean loss under the global weights, >= 0.
        score: of the global weights at this user, higher is better.
        labels: pairs by state of their label, for the report.
        state: what the user keeps for the next round; never sent.
    """

    weights: Weights
    samples: int
    confidence: float = 1.0
    loss: float = 0.0
    score: float = 0.0
    labels: dict[str, int] = field(default_factory=dict)
    state: bytes = b""


class LocalTask(Protocol):
    """A user's data and method."""

    def train_round(
        self, weights: Weights, seed: int, *, others: Weights | None = None, state: bytes = b""
    ) -> ClientUpdate:
        """A function of its arguments and the user's data: equal arguments give equal bits.

        Args:
            weights: global adapter; not to be changed in place.
            others: aggregate of the other users, where there is one.
            state: of the update before, empty in the first round.
        """
        ...

    def score(self, weights: Weights) -> float:
        """Quality of these weights at this user, higher is better."""
        ...


class PairModel(Protocol):
    """An adapter with a user's pairs."""

    @property
    def pairs(self) -> int:
        """N."""
        ...

    @property
    def given(self) -> Tensor:
        """(N,) sample that each label is said to belong to."""
        ...

    def judge(self, weights: Weights, seed: int) -> Judgement:
        """What these weights think of each pair."""
        ...

    def train_epoch(
        self, weights: Weights, kept: Tensor, seed: int, partner: Tensor | None = None
    ) -> tuple[Weights, float]:
        """One pass over the pairs; (new weights, mean loss during it).

        Args:
            kept: (N,) weights in [0, 1].
            partner: (N,) sample that each label is taken for; None: as given.
        """
        ...

    def score(self, weights: Weights) -> float:
        """See :meth:`LocalTask.score`."""
        ...


@dataclass(frozen=True)
class LabelledTask:
    """The error-aware local round.

    Attributes:
        epochs: passes over the chosen pairs a round, >= 1.
        warm_up: epochs of a user's first round that learn from all pairs: an adapter that has learned nothing
            has no opinion on labels.
        judging: own confidence weighs pairs and takes them out of the gradient, or pairs them anew; else all
            take part as given.
        rescoring: the others' consensus is heard, on labels and on new partners; else no pair is ever pruned.
    """

    model: PairModel
    rule: LabelRule = field(default_factory=LabelRule)
    epochs: int = 1
    warm_up: int = 1
    judging: bool = True
    rescoring: bool = True

    def train_round(
        self, weights: Weights, seed: int, *, others: Weights | None = None, state: bytes = b""
    ) -> ClientUpdate:
        """See :meth:`LocalTask.train_round`.

        Raises:
            ValueError: the state is not of this user's number of pairs.
        """
        labels = LabelStates.from_bytes(state) if state else LabelStates.fresh(self.model.pairs, self.rule)
        consensus: Judgement | None = None
        if self.rescoring and others is not None:
            consensus = self.model.judge(others, derived_seed(seed, "others"))
            labels = labels.rescored(consensus.confidence)
        current, first_loss = weights, 0.0
        kept, partner, repaired = labels.in_gradient.float(), None, 0
        for epoch in range(self.epochs):
            if self.judging and (state or epoch >= self.warm_up):
                own = self.model.judge(current, derived_seed(seed, "confidence", epoch))
                labels = labels.judged(own.confidence)
                anew = self._repaired(labels, own, consensus)
                kept = torch.where(anew, own.certainty, labels.in_gradient * own.confidence)
                partner, repaired = torch.where(anew, own.partner, self.model.given), int(anew.sum())
            if bool((kept > 0).any()):
                current, loss = self.model.train_epoch(
                    current, kept, derived_seed(seed, "epoch", epoch), partner
                )
                first_loss = loss if epoch == 0 else first_loss
        used = kept > 0
        return ClientUpdate(
            weights=current,
            samples=int(used.sum()),
            confidence=float(kept[used].mean()) if bool(used.any()) else 0.0,
            loss=first_loss,
            score=self.score(weights),
            labels={**labels.counts(), "repaired": repaired},
            state=labels.to_bytes(),
        )

    def _repaired(self, labels: LabelStates, own: Judgement, consensus: Judgement | None) -> Tensor:
        """(N,) bool: out of the gradient, but own judgement is sure of a partner and the others', if it is
        there, names the same.
        """
        sure = ~labels.in_gradient & (own.certainty >= self.rule.repair)
        return sure if consensus is None else sure & (own.partner == consensus.partner)

    def score(self, weights: Weights) -> float:
        """See :meth:`LocalTask.score`."""
        return self.model.score(weights)


class ClientState(msgspec.Struct, frozen=True, kw_only=True):
    """What a user remembers between rounds.

    Attributes:
        order: sha256 (hex) of the last order answered; empty before the first.
        before, after: the task's state before and after it.
    """

    order: str = ""
    before: bytes = b""
    after: bytes = b""


def respond(name: str, task: LocalTask, data: bytes, state: ClientState) -> tuple[bytes, ClientState]:
    """Answer an order.

    Args:
        data: a :class:`RoundOrder` as bytes. The very same order again gives the very same answer.

    Returns:
        A :class:`RoundReply` as bytes, and the state to remember.

    Raises:
        FederationError: it is no order, or not for this user.
    """
    order = decode(data, RoundOrder)
    if order.client != name:
        raise FederationError(f"this is {name}, the order is for {order.client}")
    digest = hashlib.sha256(data).hexdigest()
    before = state.before if digest == state.order else state.after
    update = task.train_round(
        read_weights(order.weights),
        order.seed,
        others=read_weights(order.others) if order.others else None,
        state=before,
    )
    reply = RoundReply(
        round=order.round,
        client=name,
        weights=weights_file(update.weights),
        samples=update.samples,
        confidence=update.confidence,
        loss=update.loss,
        score=update.score,
        labels=update.labels,
    )
    return encode(reply), ClientState(order=digest, before=before, after=update.state)


class ClientNode:
    """A user with a memory.

    Args:
        path: file of its :class:`ClientState`, written before every answer; None keeps it in memory alone.

    Raises:
        FederationError: the file is not a client's state.
    """

    def __init__(self, name: str, task: LocalTask, path: Path | None = None) -> None:
        self.name = name
        self._task, self._path = task, path
        stored = path is not None and path.exists()
        self.state = decode(path.read_bytes(), ClientState) if path and stored else ClientState()

    def answer(self, data: bytes) -> bytes:
        """See :func:`respond`."""
        reply, state = respond(self.name, self._task, data, self.state)
        if self._path is not None:
            write_atomic(self._path, encode(state))
        self.state = state
        return reply
