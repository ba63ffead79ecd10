"""Old weights leave memory when the last request on them has ended, swap after swap."""

from __future__ import annotations

import ctypes
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from runtime_site import write_decoder, write_encoder

from codec_runtime.benchmarks.inputs import received_symbols
from codec_runtime.serving.backends.interface import BackendError
from codec_runtime.serving.backends.selection import select_backend
from codec_runtime.serving.batching import DecodeWork, compute
from codec_runtime.serving.registry import LoadedBundle, ModelRegistry

SYMBOLS = received_symbols(3, 1, 4, 8, 8)
SWAPS = 200


def _rss_mb() -> float:
    """Resident memory once what is free has gone back to the system: glibc keeps freed pages otherwise."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _registry(root: Path, backend: str) -> tuple[ModelRegistry, list[Path]]:
    encoder = write_encoder(root)
    for version in (1, 2, 3):
        write_decoder(root, encoder, version=version, seed=version, parent=1 if version > 1 else None)
    try:
        registry = ModelRegistry(select_backend(backend))
    except BackendError:
        pytest.skip(f"{backend} is not there")
    registry.publish(registry.prepare([root / "encoder/anchor/1", root / "decoder/attention/1"]))
    return registry, [root / "decoder/attention/2", root / "decoder/attention/3"]


def _swap(registry: ModelRegistry, arriving: Path, leaving: Path) -> None:
    registry.publish(registry.prepare([arriving]), frozenset({leaving}))


def _work(bundle: LoadedBundle) -> DecodeWork:
    return DecodeWork(bundle, SYMBOLS, np.array([7.0], np.float32), np.array([4], np.int32), 32, 32)


@pytest.mark.parametrize("backend", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
def test_weights_die_with_the_last_request_on_them(tmp_path: Path, backend: str) -> None:
    registry, (first, second) = _registry(tmp_path, backend)
    registry.publish(registry.prepare([first]))
    in_flight = [_work(registry.models.decoder("attention", 2))]
    module = weakref.ref(in_flight[0].decoder.module)
    network = weakref.ref(in_flight[0].decoder.network)
    _swap(registry, second, first)
    assert ("attention", 2) not in registry.models.decoders
    (picture,) = compute(in_flight)  # it began on the old version and ends on it
    assert isinstance(picture, np.ndarray)
    assert module() is not None
    in_flight.clear()
    gc.collect()
    assert module() is None
    assert network() is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_memory_does_not_grow_over_two_hundred_swaps(tmp_path: Path, backend: str) -> None:
    registry, places = _registry(tmp_path, backend)
    registry.publish(registry.prepare([places[0]]))
    old: list[weakref.ref[object]] = []
    rss = []
    for swap in range(1, SWAPS + 1):
        leaving, arriving = places[(swap + 1) % 2], places[swap % 2]
        served = next(b for b in registry.models.all() if b.directory == leaving)
        old += [weakref.ref(served.module), weakref.ref(served.network)]
        del served
        _swap(registry, arriving, leaving)
        served_now = next(b for b in registry.models.all() if b.directory == arriving)
        (picture,) = compute([_work(served_now)])
        assert isinstance(picture, np.ndarray)
        del served_now
        if swap % 10 == 0:
            rss.append(_rss_mb())
    assert [reference for reference in old if reference() is not None] == []
    print(f"{backend}: resident {rss[0]:.1f} MB after 10 swaps, {rss[-1]:.1f} MB after {SWAPS}")
    # From 20 swaps on allocators have their size.
    assert rss[-1] - rss[1] < 4.0
