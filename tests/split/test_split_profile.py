"""Cost profiles: measured, stored, scaled to devices that were not measured; sources of energy figures."""

import msgspec
import pytest
import torch
from split_networks import traced

from codec_runtime.contract.devices import (
    DEVICES,
    EDGE_SERVER,
    EDGES,
    DeviceClass,
    class_profile,
    roofline_seconds,
    scaled_profile,
)
from codec_runtime.contract.energy import DRAM_BYTE, FP32_MAC, LTE, RADIOS, WIFI, arithmetic_joules
from codec_runtime.contract.split import CostProfile
from codec_runtime.split.profile import (
    ProfileError,
    measure_limits,
    profile_networks,
    read_profiles,
    write_profiles,
)
from xapp.split.objective import DevicePower

_SLOW = DeviceClass(name="slow", gflops=2.0, memory_gb_per_s=1.0)
_FAST = DeviceClass(name="fast", gflops=20.0, memory_gb_per_s=5.0)


def _given(graph, seconds):
    return CostProfile(graph=graph.digest, network=graph.name, device_class="given", seconds=tuple(seconds))


def test_profile_has_a_time_for_each_operation_and_says_what_it_was_measured_on():
    found = traced("chain")
    before = torch.get_num_threads()
    steps = []
    profiles = profile_networks([found], [1, 2], rounds=3, progress=lambda *step: steps.append(step))
    assert torch.get_num_threads() == before
    assert steps[-1] == (16, 16)
    assert [profile.threads for profile in profiles] == [1, 2]
    for profile in profiles:
        assert (profile.graph, profile.source) == (found.graph.digest, "measured")
        assert (profile.rounds, profile.batch) == (3, 1)
        for node, seconds in zip(found.graph.nodes, profile.seconds, strict=True):
            assert (seconds > 0) == (node.op not in ("input", "output"))
        assert profile.whole_seconds > 0
        assert profile.cpu
        assert profile.host
        assert profile.torch == torch.__version__
        assert profile.dtype == "float32"


def test_profiles_are_stored_and_read_again(tmp_path):
    profiles = [_given(traced("chain").graph, range(10)), _given(traced("branches").graph, range(23))]
    write_profiles(tmp_path / "profiles.json", profiles)
    assert read_profiles(tmp_path / "profiles.json") == profiles


@pytest.mark.parametrize("content", [b"", b"[{}]", b'{"graph": 1}', b"\xff"])
def test_file_that_is_no_profile_is_refused_by_name(tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ProfileError, match=r"bad\.json"):
        read_profiles(tmp_path / "bad.json")
    with pytest.raises(ProfileError, match="absent"):
        read_profiles(tmp_path / "absent.json")


def test_roofline_is_arithmetic_or_memory_whichever_takes_longer():
    graph = traced("chain").graph
    convolution, activation = graph.nodes[3], graph.nodes[2]
    assert roofline_seconds(convolution, _SLOW) == pytest.approx(2 * convolution.macs / 2e9)
    assert roofline_seconds(activation, _SLOW) == pytest.approx(2 * 4 * 32 * 64 * 64 / 1e9)


def test_scaling_multiplies_each_node_by_the_ratio_of_its_rooflines():
    graph = traced("chain").graph
    profile = _given(graph, [0.0] + [1e-3] * 8 + [0.0])
    scaled = scaled_profile(profile, graph, _FAST, _SLOW)
    assert (scaled.source, scaled.device_class) == ("scaled", "slow")
    assert scaled.seconds[3] == pytest.approx(1e-2)
    assert scaled.seconds[2] == pytest.approx(5e-3)
    back = scaled_profile(scaled, graph, _SLOW, _FAST)
    assert back.seconds == pytest.approx(profile.seconds)


def test_scaling_refuses_another_graph_and_senseless_limits():
    graph = traced("chain").graph
    with pytest.raises(ValueError, match="profile of graph"):
        scaled_profile(_given(traced("branches").graph, [0.0] * 23), graph, _FAST, _SLOW)
    with pytest.raises(ValueError, match="above 0"):
        scaled_profile(_given(graph, [0.0] * 10), graph, _FAST, msgspec.structs.replace(_SLOW, gflops=0.0))


def test_class_profile_is_the_roofline_and_the_start_of_each_operation():
    graph = traced("chain").graph
    late = msgspec.structs.replace(_SLOW, start_s=0.5)
    seconds = class_profile(graph, late).seconds
    assert seconds[0] == seconds[-1] == 0
    assert seconds[3] == pytest.approx(0.5 + roofline_seconds(graph.nodes[3], _SLOW))
    with pytest.raises(ValueError, match="above 0"):
        class_profile(graph, msgspec.structs.replace(_SLOW, memory_gb_per_s=0.0))


def test_every_edge_class_computes_a_network_quicker_than_every_device():
    graph = traced("branches").graph
    edges = [sum(class_profile(graph, edge).seconds) for edge in EDGES.values()]
    devices = [sum(class_profile(graph, device).seconds) for device in DEVICES.values() if device.start_s]
    assert max(edges) < min(devices)
    assert EDGES[EDGE_SERVER.name] is EDGE_SERVER


def test_named_devices_say_where_their_figures_come_from():
    for device in [*DEVICES.values(), *EDGES.values()]:
        low, high = device.active_watts_range
        assert 0 < low <= device.active_watts <= high
        assert device.source


def test_limits_of_this_machine_are_positive():
    limits = measure_limits(1, repeats=1)
    assert limits.gflops > 0
    assert limits.memory_gb_per_s > 0


def test_energy_constants_lie_in_their_ranges_and_have_sources():
    constants = [part for radio in RADIOS.values() for part in (radio.up, radio.down, radio.base)]
    for constant in [*constants, FP32_MAC, DRAM_BYTE]:
        assert 0 < constant.low <= constant.value <= constant.high
        assert constant.source
    assert WIFI.base.value < LTE.base.value
    assert arithmetic_joules(10**9, 0) == pytest.approx(4.6e-3)


def test_decisions_use_the_sourced_radio_figures():
    power = DevicePower(compute_w=1.0)
    assert power.up_j_per_bit == pytest.approx(LTE.up.value)
    assert power.down_j_per_bit == pytest.approx(LTE.down.value)
    assert power.radio_w == pytest.approx(LTE.base.value)
