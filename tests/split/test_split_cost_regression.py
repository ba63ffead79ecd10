"""Layer times from features: recovered where they hold, and honest about networks left out."""

import math

import pytest
from split_networks import traced

from codec_runtime.contract.split import CostProfile
from codec_runtime.split.regression import fit, kind_of, leave_one_out, predicted_profile


def _by_law(graph, slower=1.0):
    """Times that follow the model exactly, the same for all kinds."""
    seconds = [
        0.0 if node.op in ("input", "output")
        else slower * (1e-5 + 1e-10 * node.macs + 2e-10 * (node.input_bytes + node.output_bytes))
        for node in graph.nodes
    ]
    return graph, CostProfile(
        graph=graph.digest, network=graph.name, device_class="law", seconds=tuple(seconds), threads=2
    )


def test_times_that_follow_the_model_are_predicted_for_a_network_left_out():
    graphs = [traced(name, fuse=fuse).graph for name in ("chain", "branches") for fuse in (False, True)]
    samples = [_by_law(graph) for graph in graphs]
    for left in leave_one_out(samples):
        assert left.error == pytest.approx(0, abs=0.02)
        assert left.prefix_error < 0.02
    assert fit(samples).error < 0.02


def test_error_of_a_network_unlike_the_others_is_told():
    samples = [_by_law(traced("branches").graph), _by_law(traced("chain").graph, slower=4.0)]
    chain = next(left for left in leave_one_out(samples) if left.network == "chain")
    assert chain.error == pytest.approx(-0.75, abs=0.05)
    assert chain.node_error == pytest.approx(0.75, abs=0.05)


def test_coefficients_are_never_negative():
    graph, profile = _by_law(traced("branches").graph)
    falling = tuple(1e-3 - 1e-6 * node.macs / 1e6 for node in graph.nodes)
    model = fit([(graph, CostProfile(graph=graph.digest, network="", device_class="", seconds=falling))])
    assert all(value >= 0 for row in model.coefficients.values() for value in row)
    assert math.isnan(model.error)
    assert profile.seconds[0] == 0


def test_prediction_is_a_profile_that_says_it_is_one():
    samples = [_by_law(traced("branches").graph), _by_law(traced("branches", fuse=True).graph)]
    graph = traced("chain").graph
    profile = predicted_profile(fit(samples), graph, like=samples[0][1])
    assert (profile.source, profile.graph, profile.threads) == ("regression", graph.digest, 2)
    assert profile.seconds[0] == profile.seconds[-1] == 0
    assert profile.seconds == pytest.approx(_by_law(graph)[1].seconds, rel=0.05)


def test_kind_of_a_fused_node_is_that_of_its_first_member():
    fused = traced("branches", fuse=True).graph
    kinds = {node.op: kind_of(node) for node in fused.nodes}
    assert kinds["conv2d+batch_norm+relu"] == "convolution"
    assert kinds["conv2d_grouped+relu"] == "grouped convolution"


def test_fit_refuses_nothing_and_profiles_of_other_graphs():
    with pytest.raises(ValueError, match="no measured"):
        fit([])
    with pytest.raises(ValueError, match="another graph"):
        fit([(traced("chain").graph, _by_law(traced("branches").graph)[1])])
