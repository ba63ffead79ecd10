"""Head and tail: together they are the network, bit for bit, whatever the cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from split_networks import closed, traced
from torch import nn

from codec_runtime.bundle.errors import BundleError
from codec_runtime.bundle.tensor_file import parse_header
from codec_runtime.contract.split import CutError, CutSpec, make_cut
from codec_runtime.split.cutting import cut_network, load_part, part_bytes
from codec_runtime.split.graph import trace
from codec_runtime.split.networks import build_network


def _same(found, inputs, device):
    split = cut_network(found, make_cut(found.graph, device))
    with torch.no_grad():
        whole = found.module(*inputs)
    outputs = split.run(*inputs)
    assert len(outputs) == len(whole)
    assert all(map(torch.equal, outputs, whole))
    return split


@pytest.mark.parametrize("name", ["chain", "branches"])
@pytest.mark.parametrize("fuse", [False, True])
def test_every_cut_in_topological_order_gives_the_output_of_the_network(name, fuse):
    found = traced(name, fuse=fuse)
    network, inputs = build_network(name)
    with torch.no_grad():
        expected = network(*inputs)
    for count in range(1, len(found.graph.nodes) + 1):
        split = cut_network(found, make_cut(found.graph, range(count)))
        assert torch.equal(split.run(*inputs)[0], expected)


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 22)), st.booleans(), st.integers(0, 3))
def test_random_legal_cuts_give_the_output_of_the_network(wanted, fuse, seed):
    found = traced("branches", fuse=fuse)
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    _same(found, (picture,), closed(found.graph, {node for node in wanted if node < len(found.graph.nodes)}))


def test_tensor_with_several_readers_crosses_once():
    found = traced("branches")
    stem = next(index for index, node in enumerate(found.graph.nodes) if node.name == "stem.2.relu")
    split = _same(found, found.inputs, closed(found.graph, {stem}))
    assert split.features == ("stem.2.relu",)
    features, results = split.head(*found.inputs)
    assert [tensor.shape for tensor in features] == [(1, 32, 32, 32)]
    assert results == ()


def test_skip_connection_crosses_beside_the_deep_tensor():
    found = traced("branches")
    join = next(index for index, node in enumerate(found.graph.nodes) if node.op == "cat")
    split = _same(found, found.inputs, closed(found.graph, {join}))
    assert split.features == ("stem.2.relu", "cat")


def test_operation_with_several_outputs_crosses_as_several_tensors():
    found = traced("branches")
    halves = next(index for index, node in enumerate(found.graph.nodes) if node.op == "chunk")
    split = _same(found, found.inputs, closed(found.graph, {halves}))
    assert split.features == ("stem.2.relu", "chunk[0]", "chunk[1]")


def test_output_computed_on_the_device_is_not_sent():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.early, self.body, self.late = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, values):
            return self.early(values), self.late(self.body(values).relu())

    inputs = (torch.randn(1, 4),)
    found = trace("two heads", TwoHeads().eval(), inputs)
    first = found.graph.outputs[0]
    split = _same(found, inputs, closed(found.graph, {first}))
    assert split.on_device.count(True) == 1
    assert split.features == ("input",)


def test_parts_hold_their_own_weights_and_load_them_from_safetensors():
    found = traced("branches")
    split = cut_network(found, make_cut(found.graph, range(12)))
    head, tail = split.head.state_dict(), split.tail.state_dict()
    assert not head.keys() & tail.keys()
    assert head.keys() | tail.keys() == set(found.module.state_dict())
    stored = part_bytes(split.head)
    assert set(parse_header(stored, "head").entries) == set(head)
    other = trace("branches", *build_network("branches", seed=5))
    retold = cut_network(other, make_cut(other.graph, range(12)))
    load_part(retold.head, stored, "head")
    load_part(retold.tail, part_bytes(split.tail), "tail")
    with torch.no_grad():
        assert torch.equal(retold.run(*found.inputs)[0], found.module(*found.inputs)[0])


def test_weights_of_another_part_are_refused():
    found = traced("chain")
    split = cut_network(found, make_cut(found.graph, range(3)))
    with pytest.raises(RuntimeError, match="Missing key"):
        load_part(split.head, part_bytes(split.tail), "tail as head")
    with pytest.raises(BundleError):
        load_part(split.head, b"no safetensors", "damaged")


def test_cut_of_another_graph_or_with_other_crossing_tensors_is_refused():
    found = traced("chain")
    with pytest.raises(CutError, match="is of graph"):
        cut_network(found, make_cut(traced("branches").graph, range(3)))
    cut = make_cut(found.graph, range(3))
    forged = CutSpec(graph=cut.graph, device=cut.device, crossing=(0, 2), id=cut.id)
    with pytest.raises(CutError, match="crossing"):
        cut_network(found, forged)
    open_set = CutSpec(graph=cut.graph, device=(0, 2), crossing=(2,), id=cut.id)
    with pytest.raises(CutError, match="nothing may return"):
        cut_network(found, open_set)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite0", "vit-tiny"])
def test_large_networks_survive_cuts_all_along(name):
    found = traced(name, fuse=True)
    count = len(found.graph.nodes)
    for end in range(1, count + 1, 9):
        _same(found, found.inputs, range(end))


@pytest.mark.slow
def test_published_weights_are_converted_once_and_tampered_ones_are_not_opened(tmp_path, monkeypatch):
    from codec_runtime.split.networks import efficientnet

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = efficientnet.efficientnet_lite0()
    assert [file.suffix for file in (tmp_path / "semcom").iterdir()] == [".safetensors"]
    monkeypatch.setattr(efficientnet, "_converted", None)
    again = efficientnet.efficientnet_lite0()
    assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(efficientnet, "PICKLE_SHA256", "0" * 64)
    with pytest.raises(efficientnet.WeightsUnavailableError, match="not opened"):
        efficientnet.efficientnet_lite0()
