"""Golden vectors: what the networks compute on fixed inputs, so that a library's drift fails a test.

A case is one network: each shipped bundle, and a small instance of every registered architecture with weights
from :mod:`.inputs`. Its input and weights come from numpy's PCG64 stream and are checked by hash, so a
difference in the output is a difference in what computes it. Regenerate, after new weights or a wanted change
of a network, with ``semcom bench golden --write FILE``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from codec_runtime.benchmarks.inputs import LATENT_STRIDE, fill_weights, picture, received_symbols
from codec_runtime.bundle.manifest_file import read_manifest
from codec_runtime.bundle.store import SHIPPED_WEIGHTS, find_bundles, load_module
from codec_runtime.channel.symbols import prefix_mask
from codec_runtime.codecs.registry import DECODERS, ENCODERS, configure
from codec_runtime.serving.backends.interface import CodecNetwork

SIDE = 32
SNRS_DB = (1.0, 13.0)
PREFIXES = (3, 8)
TOLERANCE = 1e-4
"""Of mean, deviation and samples, relative to the deviation; fp32 libraries differ by about 1e-6."""
_SAMPLES = 8
_SMALL = {"latent_channels": 8, "width": 8, "blocks": 2}
_SEED = 20
_ROUNDING_MARGIN = 2e-5
_DECIMALS = (2, 1, 0)

Network = nn.Module | CodecNetwork


class GoldenVector(msgspec.Struct, frozen=True):
    """One case: its input, and what comes out.

    Attributes:
        name: bundle path or architecture id.
        weights_sha256: of a bundle's file or of the generated weights' bytes.
        input_sha256: of the values given to the network, float32.
        samples: values at evenly spaced places of the flattened output.
        decimals, rounded_sha256: hash of the output rounded to so many decimals, where no value lies so near
            a rounding boundary that a library's noise may move it across; else -1 and "".
    """

    name: str
    architecture: str
    weights_sha256: str
    input_sha256: str
    shape: tuple[int, ...]
    mean: float
    std: float
    samples: tuple[float, ...]
    decimals: int
    rounded_sha256: str


@dataclass(frozen=True)
class GoldenCase:
    """A network with a name; ``module()`` loads or builds it in evaluation mode."""

    name: str
    architecture: str
    module: Callable[[], nn.Module]
    shipped: bool


def golden_cases(weights: Path = SHIPPED_WEIGHTS) -> Iterator[GoldenCase]:
    """Every codec bundle below ``weights``, then every registered architecture; bundles of other kinds, e.g.
    adapters, do not take pictures."""
    for directory in find_bundles(weights):
        manifest = read_manifest(directory)
        if manifest.architecture not in {**ENCODERS, **DECODERS}:
            continue
        name = str(directory.relative_to(weights))
        yield GoldenCase(name, manifest.architecture, partial(_bundled, directory), True)
    for architecture in sorted({**ENCODERS, **DECODERS}):
        yield GoldenCase(architecture, architecture, partial(small_instance, architecture), False)


def _bundled(directory: Path) -> nn.Module:
    return load_module(directory)[1].eval()


def small_instance(architecture: str) -> nn.Module:
    """A small network of ``architecture`` with generated weights."""
    module = (ENCODERS.get(architecture) or DECODERS[architecture])(configure(architecture, _SMALL))
    fill_weights(module, _SEED)
    return module.eval()


def golden_vector(case: GoldenCase, build: Callable[[nn.Module], Network] | None = None) -> GoldenVector:
    """Compute a case.

    Args:
        build: makes what computes the module, e.g. ``Backend.build``; the module itself if None.
    """
    module = case.module()
    values = _input(module)
    network = module if build is None else build(module)
    with torch.inference_mode():
        result = network(torch.from_numpy(values), torch.tensor(SNRS_DB), torch.tensor(PREFIXES))
    output = result.numpy().astype(np.float64)
    places = np.linspace(0, output.size - 1, _SAMPLES).astype(int)
    decimals, rounded = _stable_rounding(output)
    return GoldenVector(
        name=case.name,
        architecture=case.architecture,
        weights_sha256=_weights_hash(module),
        input_sha256=hashlib.sha256(values.tobytes()).hexdigest(),
        shape=tuple(output.shape),
        mean=_shown(output.mean()),
        std=_shown(output.std()),
        samples=tuple(_shown(value) for value in output.ravel()[places]),
        decimals=decimals,
        rounded_sha256=rounded,
    )


def differences(expected: GoldenVector, got: GoldenVector, tolerance: float = TOLERANCE) -> list[str]:
    """What is not as expected, one line each; empty if all is.

    The rounded hash is compared only at the default tolerance or a finer one: bf16 moves every value.
    """
    exact = ("architecture", "weights_sha256", "input_sha256", "shape")
    lines = [
        f"{name}: {getattr(got, name)}, expected {getattr(expected, name)}"
        for name in exact if getattr(got, name) != getattr(expected, name)
    ]
    limit = tolerance * max(expected.std, 1e-6)
    numbers = {"mean": (expected.mean, got.mean), "std": (expected.std, got.std)}
    numbers |= {
        f"sample {i}": pair for i, pair in enumerate(zip(expected.samples, got.samples, strict=True))
    }
    lines += [
        f"{name}: {b:.7g}, expected {a:.7g}, allowed difference {limit:.1g}"
        for name, (a, b) in numbers.items() if not abs(a - b) <= limit
    ]
    if not lines and tolerance <= TOLERANCE and expected.decimals >= 0:
        rounded = (got.decimals, got.rounded_sha256)
        if rounded != (expected.decimals, expected.rounded_sha256) and got.decimals >= 0:
            lines.append(f"rounded values differ: {rounded}, expected {expected.rounded_sha256}")
    return lines


def read_vectors(path: Path) -> dict[str, GoldenVector]:
    """Vectors of a file by name.

    Raises:
        FileNotFoundError, msgspec.DecodeError.
    """
    vectors = msgspec.json.decode(path.read_bytes(), type=list[GoldenVector])
    return {vector.name: vector for vector in vectors}


def write_vectors(path: Path, vectors: list[GoldenVector]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(vectors), indent=1) + b"\n")


def _input(module: nn.Module) -> npt.NDArray[np.float32]:
    """A batch of two: pictures for an encoder, symbols zero beyond each prefix for a decoder."""
    batch = len(PREFIXES)
    if hasattr(module, "analyse"):
        scaled: npt.NDArray[np.float64] = picture(_SEED, batch, SIDE, SIDE) / 255.0
        return scaled.astype(np.float32)
    channels, side = int(cast(Any, module).config.latent_channels), SIDE // LATENT_STRIDE
    mask = prefix_mask(torch.tensor(PREFIXES), channels).numpy()
    values: npt.NDArray[np.float32] = received_symbols(_SEED, batch, channels, side, side) * mask
    return values


def _weights_hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _stable_rounding(output: npt.NDArray[np.float64]) -> tuple[int, str]:
    """(decimals, sha256) of the finest rounding that noise does not change, (-1, "") if there is none."""
    for decimals in _DECIMALS:
        scaled = output * 10.0**decimals
        to_boundary = np.abs(scaled - np.floor(scaled) - 0.5).min() / 10.0**decimals
        if to_boundary > _ROUNDING_MARGIN:
            rounded = np.rint(scaled).astype("<i4")
            return decimals, hashlib.sha256(rounded.tobytes()).hexdigest()
    return -1, ""


def _shown(value: float) -> float:
    return float(f"{value:.8g}")
