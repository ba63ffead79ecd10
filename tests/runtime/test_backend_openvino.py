"""OpenVINO computes what the trained modules compute, at any shape, from any thread, and swaps in."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_site import write_decoder, write_encoder

from codec_runtime.benchmarks.golden import small_instance
from codec_runtime.benchmarks.inputs import picture, received_symbols
from codec_runtime.codecs.registry import DECODERS, ENCODERS, configure
from codec_runtime.serving.backends.interface import CodecNetwork
from codec_runtime.serving.batching import DecodeWork, EncodeWork, compute
from codec_runtime.serving.inference import decode, encode
from codec_runtime.serving.registry import ModelRegistry

openvino_backend = pytest.importorskip("codec_runtime.serving.backends.openvino_backend")

SHAPES = ((1, 16, 40), (3, 32, 24), (1, 16, 40))
QUICK = ("jscc-fast-encoder", "jscc-anchor-resnet")
ARCHITECTURES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in sorted({**ENCODERS, **DECODERS})
]


@pytest.fixture(scope="module")
def backend():
    return openvino_backend.OpenvinoBackend(precision="fp32")


def _inputs(module, batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    channels = module.config.latent_channels
    if hasattr(module, "analyse"):
        values = picture(5, batch, height, width) / np.float32(255.0)
    else:
        values = received_symbols(5, batch, channels, height // 4, width // 4)
    prefix = torch.arange(batch) + channels - batch + 1
    return torch.from_numpy(values), torch.linspace(-3.0, 15.0, batch), prefix


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_computes_the_same_at_every_shape(backend, architecture: str) -> None:
    module = small_instance(architecture)
    network = backend.build(module)
    for shape in SHAPES:
        inputs = _inputs(module, *shape)
        with torch.no_grad():
            expected, got = module(*inputs), network(*inputs)
        assert got.shape == expected.shape
        assert float((got - expected).norm() / expected.norm()) <= 1e-5, shape


@pytest.mark.parametrize("architecture", ["jscc-fast-encoder", "jscc-fast-attention"])
def test_film_and_the_coarse_branch_compute_the_same_at_odd_sides_too(backend, architecture: str) -> None:
    size = {"latent_channels": 8, "width": 8, "blocks": 3}
    grown = {**size, "film_hidden": 4, "coarse_width": 12, "coarse_blocks": 1}
    module = {**ENCODERS, **DECODERS}[architecture](configure(architecture, grown)).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if not parameter.any():  # what starts silent would hide a difference
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    network = backend.build(module)
    for shape in ((1, 16, 40), (2, 72, 24)):
        inputs = _inputs(module, *shape)
        with torch.no_grad():
            expected, got = module(*inputs), network(*inputs)
        assert float((got - expected).norm() / expected.norm()) <= 1e-5, shape


def test_threads_do_not_mix_their_results(backend) -> None:
    module = small_instance("jscc-fast-conv")
    network: CodecNetwork = backend.build(module)
    wrong: list[int] = []

    def call(batch: int) -> None:
        inputs = _inputs(module, batch, 16, 16)
        expected = module(*inputs).detach()
        for _ in range(20):
            got = network(*inputs)
            if got.shape != expected.shape or not torch.allclose(got, expected, atol=1e-4):
                wrong.append(batch)

    threads = [threading.Thread(target=call, args=(batch,)) for batch in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_new_version_is_compiled_before_it_is_published_and_the_old_one_serves_until_then(
    backend, tmp_path: Path
) -> None:
    encoder = write_encoder(tmp_path)
    write_decoder(tmp_path, encoder, family="conv")
    write_decoder(tmp_path, encoder, family="conv", version=2, seed=9)
    registry = ModelRegistry(backend)
    first = [tmp_path / "encoder/anchor/1", tmp_path / "decoder/conv/1"]
    registry.publish(registry.prepare(first))
    held = registry.models
    prepared = registry.prepare([tmp_path / "decoder/conv/2"])
    assert ("conv", 2) not in registry.models.decoders
    assert prepared[0].backend == "openvino"
    assert registry.publish(prepared) < 0.1
    image = picture(7, 1, 30, 21)
    snr, prefix = np.array([7.0], np.float32), np.array([6], np.int32)
    symbols = encode(held.encoder().network, image, snr, prefix)
    assert np.square(symbols).mean() == pytest.approx(0.5, rel=1e-5)
    for version, models in ((1, held), (2, registry.models)):
        bundle = models.decoder("conv", version)
        served = decode(bundle.network, symbols, snr, prefix, 30, 21).astype(int)
        reference = decode(bundle.module, symbols, snr, prefix, 30, 21).astype(int)
        assert np.abs(served - reference).max() <= 1, "one level where rounding is a tie"


def test_requests_computed_together_get_what_each_gets_alone(backend, tmp_path: Path) -> None:
    """Up to another kernel's rounding: 1e-5 of the symbols in fp32, and one level of a picture."""
    encoder = write_encoder(tmp_path)
    write_decoder(tmp_path, encoder, family="conv")
    registry = ModelRegistry(backend)
    registry.publish(registry.prepare([tmp_path / "encoder/anchor/1", tmp_path / "decoder/conv/1"]))
    models = registry.models
    assert {bundle.backend for bundle in models.all()} == {"openvino"}

    def conditions(seed: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full(batch, 3.0 * seed, np.float32), np.full(batch, 3 + seed, np.int32)

    encodes = [
        EncodeWork(models.encoder(), picture(seed, batch, 24, 40), *conditions(seed, batch))
        for seed, batch in ((1, 1), (2, 2), (3, 1))
    ]
    together, alone = compute(encodes), [compute([work])[0] for work in encodes]
    for got, expected in zip(together, alone, strict=True):
        assert got.shape == expected.shape
        assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)
    decodes = [
        DecodeWork(models.decoder("conv"), symbols, work.snr_db, work.prefix, 24 - seed, 40)
        for seed, (symbols, work) in enumerate(zip(alone, encodes, strict=True))
    ]
    for got, work in zip(compute(decodes), decodes, strict=True):
        expected = compute([work])[0]
        assert got.shape == expected.shape == (work.pictures, 3, work.height, 40)
        assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_many_picture_sizes_do_not_fill_the_memory(backend) -> None:
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    network = backend.build(small_instance("jscc-fast-attention"))
    condition = torch.tensor([7.0]), torch.tensor([3])
    sizes = [(2 * i, 2 * j) for i in range(2, 32) for j in range(2, 12)]
    for size in sizes[:100]:
        network(torch.zeros(1, 8, *size), *condition)
    before = resident_mb()
    for size in sizes[100:]:
        network(torch.zeros(1, 8, *size), *condition)
    assert resident_mb() - before < 50  # 108 MB without the bound on kernels


def test_what_cannot_be_converted_says_which_network(backend) -> None:
    class Strange(torch.nn.Module):
        architecture = "strange-decoder"
        config = small_instance("jscc-fast-conv").config

        def forward(self, received, snr_db, prefix):
            return torch.linalg.qr(received)[0]

    from codec_runtime.serving.backends.interface import BackendError

    with pytest.raises(BackendError, match="strange-decoder"):
        backend.build(Strange())
