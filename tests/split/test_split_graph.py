"""Networks as graphs: what is a node, what it costs, and that a graph is the same in every run."""

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from split_networks import traced
from torch import nn

from codec_runtime.contract.split import (
    CutError,
    SplitGraph,
    SplitGraphError,
    SplitNode,
    make_cut,
    make_graph,
)
from codec_runtime.split.capture import CaptureError, capture
from codec_runtime.split.graph import trace
from codec_runtime.split.networks import build_network


def _nodes(count):
    return [
        SplitNode(name=f"n{index}", op="relu" if index else "input", output_bytes=4) for index in range(count)
    ]


def test_chain_is_one_node_an_operation_with_input_and_output():
    graph = traced("chain").graph
    assert [node.op for node in graph.nodes] == [
        "input", "conv2d", "relu", "conv2d", "batch_norm", "relu", "adaptive_avg_pool2d", "flatten", "linear",
        "output",
    ]
    assert graph.edges == tuple((node, node + 1) for node in range(9))
    assert [node.depth for node in graph.nodes] == list(range(10))


def test_costs_of_a_chain_are_the_closed_forms():
    graph = traced("chain").graph
    first, second, linear = graph.nodes[1], graph.nodes[3], graph.nodes[8]
    assert first.macs == 64 * 64 * 32 * 3 * 9
    assert second.macs == 32 * 32 * 64 * 32 * 9
    assert linear.macs == 64 * 100
    assert first.output_shapes == ((1, 32, 64, 64),)
    assert first.output_bytes == 4 * 32 * 64 * 64
    assert first.parameters == 32 * 3 * 9 + 32
    assert first.parameter_bytes == 4 * first.parameters
    assert first.working_bytes == 4 * (3 * 128 * 128 + 32 * 64 * 64)
    assert graph.macs == first.macs + second.macs + linear.macs


def test_parameters_of_all_nodes_are_those_of_the_network():
    network, _ = build_network("branches")
    values = sum(tensor.numel() for name, tensor in network.state_dict().items() if "num_batches" not in name)
    assert sum(node.parameters for node in traced("branches").graph.nodes) == values


def test_branches_keep_skips_joins_and_several_outputs():
    graph = traced("branches").graph
    consumers = {graph.nodes[source].name: len(found) for source, found in enumerate(graph.successors())}
    assert consumers["stem.2.relu"] == 4
    halves = next(node for node in graph.nodes if node.op == "chunk")
    assert halves.output_shapes == ((1, 32, 32, 32), (1, 32, 32, 32))
    assert halves.output_bytes == 2 * 4 * 32**3
    assert next(node for node in graph.nodes if node.name.startswith("long.0")).op == "conv2d_grouped"


def test_fused_graph_has_fewer_nodes_and_the_same_costs():
    whole, fused = traced("branches").graph, traced("branches", fuse=True).graph
    assert len(fused.nodes) < len(whole.nodes)
    assert fused.macs == whole.macs
    assert sum(node.parameters for node in fused.nodes) == sum(node.parameters for node in whole.nodes)
    assert fused.nodes[1].op == "conv2d+batch_norm+relu"
    assert {node.output_bytes for node in fused.nodes} <= {node.output_bytes for node in whole.nodes}


def test_same_network_traced_again_has_the_same_digest_and_survives_json():
    first = traced("branches").graph
    again = trace("other name", *build_network("branches", seed=7)).graph
    assert again.digest == first.digest
    assert again.nodes == first.nodes
    assert msgspec.json.decode(msgspec.json.encode(first), type=SplitGraph) == first


def test_tampered_graph_is_refused_on_decoding():
    content = msgspec.to_builtins(traced("chain").graph)
    content["nodes"][1]["macs"] = 1
    with pytest.raises(msgspec.ValidationError, match="another graph"):
        msgspec.convert(content, SplitGraph)


def test_attention_counts_both_of_its_products():
    class Attention(nn.Module):
        def forward(self, values):
            return nn.functional.scaled_dot_product_attention(values, values, values)

    graph = trace("attention", Attention().eval(), (torch.randn(1, 2, 8, 16),)).graph
    assert graph.macs == 2 * 2 * 8 * 8 * 16


def test_what_is_made_of_weights_alone_is_no_node():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.places = nn.Parameter(torch.randn(1, 4))

        def forward(self, values):
            return values + self.places.expand(3, -1) * torch.arange(4)

    found = trace("positions", Positions().eval(), (torch.randn(3, 4),))
    assert [node.op for node in found.graph.nodes] == ["input", "add", "output"]
    assert found.graph.nodes[1].parameters >= 4


def test_control_flow_that_export_refuses_falls_back_to_symbolic_tracing(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("cannot be exported")

    monkeypatch.setattr(torch.export, "export", refuse)
    network, inputs = build_network("branches")
    found = trace("branches", network, inputs)
    assert found.captured == "fx"
    assert found.graph.macs == traced("branches").graph.macs
    with torch.no_grad():
        assert torch.equal(found.module(*inputs)[0], network(*inputs))
    assert network.middle[1].inplace


def test_network_that_writes_in_place_is_made_functional():
    class Writes(nn.Module):
        def forward(self, values):
            doubled = values * 2
            before = doubled.sum()
            doubled += 1
            return doubled * before

    inputs = (torch.randn(2, 3),)
    module, how = capture(Writes().eval(), inputs)
    assert how == "export"
    assert torch.equal(module(*inputs)[0], Writes()(*inputs))


def test_training_mode_is_refused():
    with pytest.raises(CaptureError, match="training mode"):
        capture(nn.BatchNorm2d(3), (torch.randn(1, 3, 4, 4),))


def test_cycle_is_refused_with_its_nodes():
    with pytest.raises(SplitGraphError, match="n1, n2"):
        make_graph("ring", _nodes(3), [(0, 1), (1, 2), (2, 1)])


_EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda edge: edge[0] < edge[1]))


@settings(max_examples=50, deadline=None)
@given(_EDGES, st.permutations(range(8)))
def test_any_acyclic_graph_is_sorted_and_its_order_repeats(edges, names):
    shuffled = [(names[source], names[target]) for source, target in edges]
    graph = make_graph("random", _nodes(8), shuffled)
    place = {node.name: index for index, node in enumerate(graph.nodes)}
    assert {(place[f"n{source}"], place[f"n{target}"]) for source, target in shuffled} == set(graph.edges)
    assert make_graph("random", _nodes(8), reversed(shuffled)) == graph
    for source, target in graph.edges:
        assert graph.nodes[source].depth < graph.nodes[target].depth


def test_cut_that_would_return_to_the_device_is_refused_by_name():
    graph = traced("chain").graph
    with pytest.raises(CutError, match=r"2\.conv2d .* reads 1\.relu, which is not"):
        make_cut(graph, {0, 1, 3})
    with pytest.raises(CutError, match="inputs input"):
        make_cut(graph, {1})
    with pytest.raises(CutError, match=r"\[99\]"):
        make_cut(graph, {0, 99})


def test_cut_id_names_the_device_set():
    graph = traced("branches").graph
    ids = {make_cut(graph, range(count)).id for count in range(1, len(graph.nodes) + 1)}
    assert len(ids) == len(graph.nodes)
    assert make_cut(graph, [2, 1, 0]).id == make_cut(graph, {0, 1, 2}).id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "nodes", "gmacs"),
    [("resnet50", 177, 4.0892), ("efficientnet-lite0", 163, 0.3852), ("vit-tiny", 226, 1.2537)],
)
def test_known_networks_have_their_published_size(name, nodes, gmacs):
    graph = traced(name).graph
    assert len(graph.nodes) == nodes
    assert graph.macs / 1e9 == pytest.approx(gmacs, rel=1e-3)


@pytest.mark.slow
def test_resnet50_macs_are_the_closed_form():
    total, channels, side = 112 * 112 * 64 * 3 * 49, 64, 56
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if width > 64 and not block else 1
            total += side * side * channels * width
            if not block:
                total += (side // stride) ** 2 * channels * 4 * width
            side //= stride
            total += side * side * (9 * width * width + width * 4 * width)
            channels = 4 * width
    assert traced("resnet50").graph.macs == total + 2048 * 1000
