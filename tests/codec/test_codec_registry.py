"""Families by name, compute tiers, and bundles that rebuild exactly the network they were written from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from codec_runtime.bundle import errors
from codec_runtime.bundle.store import load_module, write_bundle
from codec_runtime.codecs.cost import macs, parameter_count
from codec_runtime.codecs.fast import FastConfig
from codec_runtime.codecs.normalisation import BatchNorm
from codec_runtime.codecs.registration import decoder as register_decoder
from codec_runtime.codecs.registry import (
    DECODERS,
    ENCODERS,
    FAMILIES,
    KINDS,
    TIERS,
    build_decoder,
    build_encoder,
    configure,
)

COSTS = Path(__file__).parent / "network_costs.json"
SNR, PREFIX = torch.tensor([3.0, 9.0]), torch.tensor([1, 4])
NETWORKS = [(family, kind) for family in FAMILIES for kind in KINDS]


def _config(family: str, width: int = 8):
    return FAMILIES[family].config(latent_channels=4, width=width, blocks=2)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_family_offers_every_kind_against_one_encoder(family):
    config = _config(family)
    encoder = build_encoder(family, config)
    assert ENCODERS[encoder.architecture] is type(encoder)
    sent = encoder(torch.rand(2, 3, 16, 24), SNR, PREFIX)
    assert sent.shape == (2, 4, 4, 6)
    architectures = set()
    for kind in KINDS:
        decoder = build_decoder(family, kind, config)
        assert decoder.architecture == f"jscc-{family}-{kind}"
        assert DECODERS[decoder.architecture] is type(decoder)
        assert decoder(sent, SNR, PREFIX).shape == (2, 3, 16, 24)
        architectures.add(decoder.architecture)
    assert len(architectures) == len(KINDS)


def _cost(module: nn.Module, channels: int, side: int) -> int:
    return macs(module, torch.zeros(1, channels, side, side), torch.zeros(1), torch.tensor([1]))


@pytest.mark.parametrize(("family", "kind"), NETWORKS)
@pytest.mark.parametrize("width", [8, 32])
def test_tiers_ascend_in_parameters_and_work(family, kind, width):
    decoders = [build_decoder(family, kind, _config(family, width), tier) for tier in TIERS]
    assert [decoder.config.tier for decoder in decoders] == ["small", "medium", "large"]
    for cost in (parameter_count, lambda module: _cost(module, 4, 4)):
        small, medium, large = map(cost, decoders)
        assert small < medium < large


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_costs_of_the_default_configurations_are_the_documented_ones(family):
    config, side = FAMILIES[family].config(), 64
    encoder = build_encoder(family, config)
    found = {"encoder": [parameter_count(encoder), round(_cost(encoder, 3, side) / side**2)]}
    for kind in KINDS:
        for tier in TIERS:
            decoder = build_decoder(family, kind, config, tier)
            work = _cost(decoder, config.latent_channels, side // 4) / side**2
            found[f"{kind} {tier}"] = [parameter_count(decoder), round(work)]
    assert found == json.loads(COSTS.read_text())[family]


def _write(module: nn.Module, kind: str, directory: Path, **hyperparameters: object) -> Path:
    write_bundle(
        directory, kind=kind, name="x", version=1, architecture=module.architecture,
        hyperparameters={**module.config.as_dict(), **hyperparameters}, state=module.state_dict(),
        dtype="F32", encoder_sha256="" if kind == "encoder" else "0" * 64,
    )
    return directory


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("family", "kind"), NETWORKS)
def test_bundle_rebuilds_decoder_of_any_tier_with_its_running_statistics(family, kind, tier, tmp_path):
    torch.manual_seed(0)
    module = build_decoder(family, kind, _config(family), tier)
    received = torch.randn(2, 4, 4, 4)
    nn.init.normal_(module.tail.weight if hasattr(module.tail, "weight") else module.tail[0].weight)
    with torch.no_grad():
        module(3.0 + received, SNR, PREFIX)  # in training mode: moves the running statistics
        _, loaded = load_module(_write(module, "decoder", tmp_path))
        assert loaded.config == module.config
        assert torch.equal(loaded(received, SNR, PREFIX), module.eval()(received, SNR, PREFIX))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_bundle_rebuilds_encoder(family, tmp_path):
    module = build_encoder(family, _config(family))
    _, loaded = load_module(_write(module, "encoder", tmp_path))
    pictures = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(pictures, SNR, PREFIX), module(pictures, SNR, PREFIX))


def test_state_of_every_network_is_floating_point():
    for family, kind in NETWORKS:
        state = build_decoder(family, kind, _config(family)).state_dict()
        assert all(value.is_floating_point() for value in state.values())


def test_running_statistics_move_in_training_and_not_when_costs_are_counted():
    module = build_decoder("anchor", "resnet", _config("anchor"))
    norms = [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
    before = [norm.running_mean.clone() for norm in norms]
    _cost(module, 4, 4)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert all(layer.training for layer in module.modules())
    module(torch.randn(2, 4, 4, 4), SNR, PREFIX)
    assert not any(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 10**9), ("width", 0), ("width", 8.0), ("width", "8"), ("width", True), ("kernel", 4),
        ("kernel", 9), ("outer_kernel", 33), ("blocks", 1), ("blocks", 100), ("attention_hidden", 10**6),
        ("latent_channels", -1), ("decoder_gdn", "inverse"), ("tier", "huge"), ("tier", 1), ("depth", 3),
    ],
)
def test_hyperparameter_out_of_bounds_is_refused_by_name(name, value, tmp_path):
    with pytest.raises(ValueError, match=name):
        configure("jscc-anchor-conv", {name: value})
    if not isinstance(value, bool):
        module = build_decoder("anchor", "conv", _config("anchor"))
        with pytest.raises(errors.ManifestError, match=name):
            load_module(_write(module, "decoder", tmp_path, **{name: value}))


@pytest.mark.parametrize("architecture", sorted(ENCODERS | DECODERS))
def test_every_architecture_bounds_what_outside_values_can_ask_for(architecture):
    for name, default in configure(architecture, {}).as_dict().items():
        wrong = "x" if isinstance(default, str) else 1 << 40
        with pytest.raises(ValueError, match=name):
            configure(architecture, {name: wrong})
    with pytest.raises(ValueError, match="unknown hyper-parameter 'nonsense'"):
        configure(architecture, {"nonsense": 1})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: build_encoder("slow", FastConfig()), "'slow'; known: fast, anchor"),
        (lambda: build_decoder("fast", "mlp", FastConfig()), "'mlp'"),
        (lambda: build_decoder("fast", "conv", FastConfig(), "tiny"), "'tiny'"),
        (lambda: build_decoder("fast", "conv", _config("anchor")), "kernel"),
        (lambda: build_decoder("fast", "conv", FastConfig(width=512), "large"), "width = 768"),
        (lambda: build_decoder("anchor", "vgg", FAMILIES["anchor"].config(tier="small")), "small already"),
        (lambda: FAMILIES["fast"].config(width=0), "width = 0"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_architecture_id_is_entered_once_and_with_bounds_of_every_field():
    class Twin(nn.Module):
        architecture = "jscc-anchor-conv"

    bounds = {field: range(9) for field in FastConfig.__dataclass_fields__}
    with pytest.raises(ValueError, match="empty or taken"):
        register_decoder(FastConfig, bounds)(Twin)
    with pytest.raises(ValueError, match="FastConfig: bounds"):
        register_decoder(FastConfig, {"width": range(9)})
