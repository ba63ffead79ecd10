"""A picture made to cost bits meets the cap: bounded size, bounded work, and it is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coding_toys import toy_codec, toy_tables
from torch import Tensor, nn

from codec_runtime.digital import feature_codec
from codec_runtime.digital.size_attack import estimated_bits, inflate


@pytest.fixture(scope="module")
def analyse() -> nn.Module:
    """Pictures in [0, 1] -> five channels at an eighth, small for smooth pictures."""
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv2d(3, 5, 8, stride=8))
    with torch.no_grad():
        weight = network[0].weight
        weight.copy_(9.0 * (weight - weight.mean(dim=(2, 3), keepdim=True)))
    return network.requires_grad_(False)


def smooth_picture(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=random)
    smooth = nn.functional.interpolate(coarse, (96, 96), mode="bicubic").clamp(0, 1)[0]
    return (smooth * 255).round().to(torch.uint8)


def test_estimated_bits_are_the_coders_at_integers() -> None:
    codec = toy_codec()
    random = np.random.default_rng(0)
    tables = toy_tables()
    whole = random.integers(-1, 2, (5, 6, 6)) * tables.step[0][:, None, None]
    features = whole.astype(np.float32)
    estimated = estimated_bits(torch.from_numpy(features), tables, 0)
    assert float(estimated) == pytest.approx(codec.channel_bits(features, 0).sum(), rel=1e-4)


def test_crafted_pictures_fall_back_to_the_fixed_length_and_are_counted(
    analyse: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = smooth_picture(0)
    crafted = inflate(picture, analyse, toy_tables(), 0, radius=90, steps=15)
    assert int((crafted.int() - picture.int()).abs().max()) <= 90
    calm, wild = (analyse(p.float() / 255).numpy() for p in (picture, crafted))
    codec = toy_codec()
    usual = len(codec.encode(calm, 0).data)
    assert len(codec.encode(wild, 0).data) > 1.5 * usual
    cap = round(1.1 * usual)
    runs = []
    coder = feature_codec.encode_symbols
    monkeypatch.setattr(feature_codec, "encode_symbols", lambda *a: runs.append(len(a[0])) or coder(*a))
    for _ in range(3):
        encoded = codec.encode(wild, 0, cap_bytes=cap)
        assert len(encoded.data) <= cap
        assert codec.decode(encoded.data).channels == encoded.channels
    assert codec.counts.over_cap == 3
    assert codec.counts.fixed_length == 3
    assert runs == [], "the range coder does no work for a stream that will not fit"
    assert codec.encode(calm, 0, cap_bytes=cap).fixed_bits == 0
    assert codec.counts.over_cap == 3
