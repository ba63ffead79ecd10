"""Preparing new weights beside requests: pauses, sizes for the warm-up, modules around known tensors."""

from __future__ import annotations

import gc
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from codec_runtime.bundle.checks import known_blank
from codec_runtime.codecs.copies import frozen_copy
from codec_runtime.codecs.fast import FastConfig, FastEncoder
from codec_runtime.serving.batching import DecodeWork, EncodeWork
from codec_runtime.serving.pace import Pace
from codec_runtime.serving.priority import spare_the_collector
from codec_runtime.serving.warm_up import PictureSizes, WarmUpError, warm_up


def _work_10_ms() -> None:
    total = 0.0
    while total < 1e5:
        total += math.sqrt(total + 1.0)
        sum(range(2000))


@pytest.mark.parametrize(("share", "rest_by_work"), [(0.5, 1.0), (0.25, 3.0)])
def test_a_pause_is_as_long_as_the_share_asks(monkeypatch, share: float, rest_by_work: float) -> None:
    clock = iter([1.0, 1.0, 1.04, 1.04])  # CPU seconds of the thread at each look
    monkeypatch.setattr("codec_runtime.serving.pace.time.thread_time", lambda: next(clock))
    rests: list[float] = []
    pace = Pace(share, lambda: True, rests.append)
    pace.pause()
    rests.clear()
    pace.pause()
    assert rests == pytest.approx([0.04 * rest_by_work])


def test_nobody_is_spared_where_nobody_waits() -> None:
    rests: list[float] = []
    pace = Pace(0.1, lambda: False, rests.append)
    _work_10_ms()
    pace.pause()
    assert rests == []


def test_work_that_is_hardly_any_is_saved_up_for_a_later_pause(monkeypatch) -> None:
    clock = iter([0.0015, 0.003, 0.003])
    monkeypatch.setattr("codec_runtime.serving.pace.time.thread_time", lambda: next(clock))
    rests: list[float] = []
    pace = Pace(0.5, lambda: True, rests.append)
    pace.pause()
    assert rests == []
    pace.pause()
    assert rests == pytest.approx([0.003])


def test_the_usual_size_is_the_most_frequent_of_the_last_ones() -> None:
    sizes = PictureSizes()
    assert sizes.usual() == (64, 64)
    for size in [(128, 128)] * 5 + [(96, 64)] * 9:
        sizes.note(size)
    assert sizes.usual() == (96, 64)
    for _ in range(64):
        sizes.note((32, 32))
    assert sizes.usual() == (32, 32)


def test_pictures_too_large_to_warm_up_with_are_not_remembered() -> None:
    sizes = PictureSizes()
    sizes.note((512, 512))
    assert sizes.usual() == (64, 64)


@given(height=st.integers(1, 100), width=st.integers(1, 100))
def test_both_works_of_a_picture_name_the_size_that_is_computed(height: int, width: int) -> None:
    condition = np.array([7.0], np.float32), np.array([1], np.int32)
    images = np.zeros((1, 3, height, width), np.uint8)
    size = EncodeWork(None, images, *condition).size  # type: ignore[arg-type]
    assert size[0] % 8 == size[1] % 8 == 0
    assert 0 <= size[0] - height < 8
    assert 0 <= size[1] - width < 8
    symbols = np.zeros((1, 1, size[0] // 4, size[1] // 4), np.float32)
    assert DecodeWork(None, symbols, *condition, height, width).size == size  # type: ignore[arg-type]


def test_a_warm_up_computes_the_size_asked_for_and_names_who_fails() -> None:
    encoder = FastEncoder(FastConfig(width=8, blocks=1)).eval()
    seen: list[tuple[int, ...]] = []
    encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    warm_up(encoder, "encoder", (24, 40), Path("here"))
    assert seen == [(1, 3, 24, 40)]
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    with pytest.raises(WarmUpError, match=r"^here: warm-up failed: .*not finite"):
        warm_up(encoder, "encoder", (24, 40), Path("here"))


def test_a_copy_around_other_tensors_leaves_the_module_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        other[1].running_mean.fill_(0.5)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    copied = frozen_copy(module, other.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(copied(x), other(x))
    assert not copied.training
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_hook_on_a_copy_is_on_no_other_copy() -> None:
    module = nn.Linear(2, 2)
    first, second = frozen_copy(module), frozen_copy(module)
    calls: list[str] = []
    first.register_forward_hook(lambda *_: calls.append("first"))
    second(torch.zeros(1, 2))
    module(torch.zeros(1, 2))
    assert calls == []


def test_a_known_architecture_is_built_once() -> None:
    parameters = FastConfig(width=8, blocks=1).as_dict()
    architecture = FastEncoder(FastConfig(width=8, blocks=1)).architecture
    blank = known_blank("encoder", architecture, parameters, Path("here"))
    assert known_blank("encoder", architecture, dict(parameters), Path("there")) is blank


def test_what_a_process_loaded_first_is_walked_by_no_later_collection() -> None:
    kept = [[] for _ in range(1000)]
    try:
        spare_the_collector()
        assert gc.get_freeze_count() >= len(kept)
    finally:
        gc.unfreeze()
