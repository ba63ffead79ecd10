"""A user's round: which doubted pairs are learned with another partner, and by how much."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation.client import LabelledTask
from codec_runtime.adapters.provisional import Judgement
from codec_runtime.adapters.tracking import LabelRule, LabelStates

MINE: Weights = {"whose": torch.tensor([0.0])}
THEIRS: Weights = {"whose": torch.tensor([1.0])}
OWN = Judgement(
    confidence=torch.tensor([0.9, 0.1, 0.1, 0.1]), partner=torch.tensor([0, 3, 3, 0]),
    certainty=torch.tensor([0.9, 0.8, 0.8, 0.4]),
)
OTHERS = Judgement(
    confidence=torch.tensor([0.9, 0.1, 0.1, 0.1]), partner=torch.tensor([0, 3, 1, 0]),
    certainty=torch.tensor([0.9, 0.9, 0.9, 0.9]),
)


@dataclass
class Scripted:
    """Judges as told, and notes what it is taught."""

    taught: list[tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=list)

    pairs = 4
    given = torch.arange(4)

    def judge(self, weights: Weights, seed: int) -> Judgement:
        return OTHERS if float(weights["whose"]) else OWN

    def train_epoch(
        self, weights: Weights, kept: torch.Tensor, seed: int, partner: torch.Tensor | None = None
    ) -> tuple[Weights, float]:
        self.taught.append((kept, partner))
        return weights, 1.0

    def score(self, weights: Weights) -> float:
        return 0.0


STATE = LabelStates.fresh(4, LabelRule()).to_bytes()


def test_a_doubted_pair_is_learned_with_the_partner_that_it_surely_has():
    model = Scripted()
    update = LabelledTask(model).train_round(MINE, 0, state=STATE)
    ((kept, partner),) = model.taught
    assert torch.allclose(kept, torch.tensor([0.9, 0.8, 0.8, 0.0]))
    assert partner is not None
    assert partner.tolist() == [0, 3, 3, 3]
    assert update.samples == 3
    assert update.labels["repaired"] == 2
    assert abs(update.confidence - 2.5 / 3) < 1e-6


def test_the_others_must_name_the_same_partner():
    model = Scripted()
    update = LabelledTask(model).train_round(MINE, 0, others=THEIRS, state=STATE)
    assert torch.allclose(model.taught[0][0], torch.tensor([0.9, 0.8, 0.0, 0.0]))
    assert update.labels["repaired"] == 1


def test_without_judging_every_pair_is_learned_as_given_until_the_others_prune_it():
    model = Scripted()
    task = LabelledTask(model, LabelRule(rounds=2), judging=False)
    state = LabelStates.fresh(4, LabelRule(rounds=2)).to_bytes()
    update = task.train_round(MINE, 0, state=state)
    assert [part.tolist() for part in model.taught[-1] if part is not None] == [[1.0] * 4]
    update = task.train_round(MINE, 1, others=THEIRS, state=update.state)
    assert model.taught[-1][0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert update.labels["repaired"] == 0


def test_the_first_round_learns_from_all_until_the_adapter_has_an_opinion():
    model = Scripted()
    LabelledTask(model, epochs=2).train_round(MINE, 0)
    assert model.taught[0][0].tolist() == [1.0] * 4
    assert model.taught[1][0].tolist() != [1.0] * 4
