"""Bottlenecks at a cut of a small network: where the cut is, what training does, and that it can go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codec_runtime.contract.split import CutError
from codec_runtime.digital.feature_codec import FeatureCodec
from codec_runtime.split.bottleneck import Bottleneck, BottleneckConfig, cut_after
from codec_runtime.split.bottleneck_data import Views
from codec_runtime.split.bottleneck_evaluation import Judge, bottleneck_rows, bottleneck_tables
from codec_runtime.split.bottleneck_figure import frontier_rows
from codec_runtime.split.bottleneck_training import BottleneckTraining, divergence, train_bottleneck
from codec_runtime.split.cutting import SplitNetwork, cut_network
from codec_runtime.split.graph import TracedNetwork, trace
from codec_runtime.split.networks.branches import Branches, Chain
from codec_runtime.training.checkpoint import DifferentTrainingError, StopFlag

BATCH = 4
CONFIG = BottleneckConfig(channels=16, squeezed=4, hidden=8, stride=2, points=3)
TRAINING = BottleneckTraining(steps=(12, 4, 2), batch=BATCH, rate=(0.01, 0.1))


@pytest.fixture(scope="module")
def traced() -> TracedNetwork:
    torch.manual_seed(0)
    return trace("chain", Chain().eval(), (torch.randn(BATCH, 3, 64, 64),))


@pytest.fixture
def split(traced: TracedNetwork) -> SplitNetwork:
    return cut_network(traced, cut_after(traced.graph, "4"))


def views_of(split: SplitNetwork) -> Views:
    torch.manual_seed(1)
    pictures = torch.randn(6 * BATCH, 3, 64, 64)
    features = torch.cat([split.head(pictures[k : k + BATCH])[0][0] for k in range(0, len(pictures), BATCH)])
    logits = torch.cat([split.tail(features[k : k + BATCH])[0] for k in range(0, len(pictures), BATCH)])
    return Views(features.detach().half(), logits.detach().half())


def test_cut_lies_behind_the_module_and_several_tensors_are_refused(traced: TracedNetwork) -> None:
    cut = cut_after(traced.graph, "1")
    assert [traced.graph.nodes[index].module for index in cut.crossing] == ["1"]
    with pytest.raises(CutError, match="no operation in a module 'head'"):
        cut_after(traced.graph, "head")
    branches = trace("branches", Branches(8, 5).eval(), (torch.randn(1, 3, 32, 32),))
    with pytest.raises(CutError, match="behind middle of branches 2 tensors cross"):
        cut_after(branches.graph, "middle")


def test_start_from_principal_components_restores_all_but_what_is_left_out() -> None:
    torch.manual_seed(0)
    features = torch.einsum("cm,bmhw->bchw", torch.randn(8, 3), torch.randn(16, 3, 6, 6)) + 2.0
    bottleneck = Bottleneck(BottleneckConfig(channels=8, squeezed=3, hidden=4, points=2)).eval()
    bottleneck.start_from_pca(features, torch.rand(8) + 0.1)
    assert torch.allclose(bottleneck.restore(bottleneck.squeeze(features), 0), features, atol=1e-3)
    errors = [(bottleneck(features, point)[0] - features).square().mean() for point in (0, 1)]
    rates = [bottleneck(features, point)[1].mean() for point in (0, 1)]
    assert errors[0] < errors[1]
    assert rates[0] > rates[1]


def test_a_training_that_was_cut_off_ends_where_an_unbroken_one_does(
    traced: TracedNetwork, tmp_path: Path
) -> None:
    class StopAfter(StopFlag):
        """Asks to stop at the n-th look."""

        def __init__(self, looks: int) -> None:
            self.looks = looks

        @property
        def requested(self) -> bool:  # type: ignore[override]
            self.looks -= 1
            return self.looks < 0

    def run(folder: str, stop: StopFlag) -> dict[str, torch.Tensor]:
        fresh = cut_network(traced, cut_after(traced.graph, "4"))
        found = train_bottleneck(
            CONFIG, TRAINING, views_of(fresh), fresh.tail, tmp_path / folder, stop=stop,
            report=lambda _: None, identity={"data": "toy"},
        )
        return found.state_dict()

    state = {name: value.clone() for name, value in traced.module.state_dict().items()}
    whole = run("whole", StopFlag())
    traced.module.load_state_dict(state)
    for looks in (5, 9):
        run("broken", StopAfter(looks))
        traced.module.load_state_dict(state)
    broken = run("broken", StopFlag())
    traced.module.load_state_dict(state)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert (tmp_path / "whole" / "tail.safetensors").exists()
    fresh = cut_network(traced, cut_after(traced.graph, "4"))
    with pytest.raises(DifferentTrainingError, match="data"):
        train_bottleneck(
            CONFIG, TRAINING, views_of(fresh), fresh.tail, tmp_path / "whole", stop=StopFlag(),
            report=lambda _: None, identity={"data": "another"},
        )


def test_streams_give_the_edge_what_the_bottleneck_promises(split: SplitNetwork) -> None:
    views = views_of(split)
    bottleneck = Bottleneck(CONFIG).eval().requires_grad_(False)
    bottleneck.start_from_pca(views.features.float(), torch.ones(16))
    codec = FeatureCodec(bottleneck_tables(bottleneck, views, split, BATCH), b"toy-cut2")
    judge = Judge(split, BATCH, views.logits)
    rows = bottleneck_rows(bottleneck, codec, views, judge)
    entropy = [row for row in rows if row.method == "bottleneck"]
    assert [row.bytes for row in entropy] == sorted((row.bytes for row in entropy), reverse=True)
    assert entropy[0].kl < entropy[-1].kl
    assert [row for row in frontier_rows(rows, "bottleneck") if row.bytes <= 10] == []
    assert frontier_rows(rows, "bottleneck")[-1].agreement == max(row.agreement for row in entropy)


def test_divergence_is_zero_for_the_same_and_positive_otherwise() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(divergence(logits + 5.0, logits), torch.zeros(2), atol=1e-6)
    assert (divergence(logits.flip(1) * 2, logits)[:1] > 0).all()
