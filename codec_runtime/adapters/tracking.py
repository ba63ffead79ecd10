"""What a user thinks of its labels over the rounds: low confidence is a reason to wait, not to discard.

States of a pair, and what changes them:

=========  ===========  ==================================================================================
state      in gradient  comes about when
=========  ===========  ==================================================================================
active     yes          at first; own confidence is back; the others agree for a second time
doubtful   no           own confidence is low, or the others disagree; until own confidence is back
pruned     no           the others disagreed in R rounds in a row
returned   yes          the others agree on a doubtful or pruned pair
=========  ===========  ==================================================================================

1. :meth:`LabelStates.judged` (before every epoch, own confidence) moves pairs between active or returned and
   doubtful. It never prunes and never brings a pruned pair back.
2. :meth:`LabelStates.rescored` (once a round, consensus of the others) alone counts: the streak of a pair is
   the number of rounds in a row in which the others disagreed. One agreement ends it, whatever the state.
3. A pair is pruned if and only if its streak has reached R.

All transitions are pure; a state is 2 bytes a pair and survives a restart through
:meth:`LabelStates.to_bytes`.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
import torch
from torch import Tensor


class Label(IntEnum):
    """State of one pair."""

    ACTIVE = 0
    DOUBTFUL = 1
    PRUNED = 2
    RETURNED = 3


class LabelRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a label is doubted and when given up.

    Attributes:
        threshold: a confidence below it is low; in [0, 1].
        rounds: R, rounds in a row of disagreement after which a pair is pruned; 1..255.
        repair: certainty from which a pair out of the gradient is learned with another partner; in [0, 1].
    """

    threshold: float = 0.5
    rounds: int = 3
    repair: float = 0.7

    def __post_init__(self) -> None:
        for name in ("threshold", "repair"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 1 <= self.rounds <= 255:
            raise ValueError(f"rounds must be 1..255, got {self.rounds}")


class LabelStates(msgspec.Struct, frozen=True, kw_only=True):
    """States of a user's pairs, in the order of its data.

    Attributes:
        rule: what the transitions follow.
        states: one byte a pair, a :class:`Label`.
        streaks: one byte a pair, rounds in a row of disagreement, 0..R.
    """

    rule: LabelRule
    states: bytes
    streaks: bytes

    def __post_init__(self) -> None:
        if len(self.states) != len(self.streaks):
            raise ValueError(f"{len(self.states)} states but {len(self.streaks)} streaks")
        if self.states and max(self.states) > max(Label):
            raise ValueError(f"unknown label state {max(self.states)}; the highest is {int(max(Label))}")
        if self.streaks and max(self.streaks) > self.rule.rounds:
            raise ValueError(
                f"a streak of {max(self.streaks)} rounds; pairs are pruned at {self.rule.rounds}"
            )
        pruned, spent = (self.states[i] == Label.PRUNED for i in range(len(self))), self.streaks
        if any(
            is_pruned != (streak == self.rule.rounds) for is_pruned, streak in zip(pruned, spent, strict=True)
        ):
            raise ValueError("a pair is pruned without a full streak, or has one and is not pruned")

    @classmethod
    def fresh(cls, pairs: int, rule: LabelRule | None = None) -> LabelStates:
        """All active, nothing held against any."""
        return cls(rule=rule or LabelRule(), states=bytes(pairs), streaks=bytes(pairs))

    @classmethod
    def from_bytes(cls, data: bytes) -> LabelStates:
        """What :meth:`to_bytes` wrote.

        Raises:
            ValueError: it did not.
        """
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"not label states: {error}") from error

    def to_bytes(self) -> bytes:
        """MessagePack."""
        return msgspec.msgpack.encode(self)

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, pair: int) -> Label:
        return Label(self.states[pair])

    @property
    def in_gradient(self) -> Tensor:
        """(N,) bool: pairs that this epoch learns from."""
        states = _tensor(self.states)
        return (states == Label.ACTIVE) | (states == Label.RETURNED)

    def counts(self) -> dict[str, int]:
        """Number of pairs in each state, by its name in lower case."""
        return {label.name.lower(): self.states.count(int(label)) for label in Label}

    def judged(self, confidence: Tensor) -> LabelStates:
        """Own confidence before an epoch.

        Args:
            confidence: (N,) in [0, 1].

        Raises:
            ValueError: another number of pairs, or a value outside [0, 1].
        """
        low = self._low(confidence)
        states = _tensor(self.states)
        doubted = low & (states != Label.PRUNED)
        relieved = ~low & (states == Label.DOUBTFUL)
        states = torch.where(doubted, int(Label.DOUBTFUL), states)
        return self._with(torch.where(relieved, int(Label.ACTIVE), states), _tensor(self.streaks))

    def rescored(self, consensus: Tensor) -> LabelStates:
        """Consensus of the others after an aggregation.

        Args:
            consensus: (N,) in [0, 1], confidence in each pair as the others' model sees it.

        Raises:
            ValueError: another number of pairs, or a value outside [0, 1].
        """
        against = self._low(consensus)
        states, streaks = _tensor(self.states), _tensor(self.streaks)
        streaks = torch.where(against, (streaks + 1).clamp_max(self.rule.rounds), 0)
        suspected = (states == Label.DOUBTFUL) | (states == Label.PRUNED)
        favoured = torch.where(suspected, int(Label.RETURNED), int(Label.ACTIVE))
        opposed = torch.where(streaks >= self.rule.rounds, int(Label.PRUNED), int(Label.DOUBTFUL))
        return self._with(torch.where(against, opposed, favoured), streaks)

    def _low(self, confidence: Tensor) -> Tensor:
        if confidence.shape != (len(self),):
            raise ValueError(
                f"{len(self)} pairs need as many confidences, got shape {tuple(confidence.shape)}"
            )
        values = confidence.detach().cpu()
        if not bool(((values >= 0.0) & (values <= 1.0)).all()):
            raise ValueError("confidences must be in [0, 1], without NaN")
        return values < self.rule.threshold

    def _with(self, states: Tensor, streaks: Tensor) -> LabelStates:
        return LabelStates(rule=self.rule, states=bytes(states.tolist()), streaks=bytes(streaks.tolist()))


def _tensor(data: bytes) -> Tensor:
    return torch.tensor(list(data), dtype=torch.int64)
