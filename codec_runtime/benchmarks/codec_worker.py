"""One process of the codec benchmark: ``python -m codec_runtime.benchmarks.codec_worker SPEC``.

Holds one implementation of one codec and answers JSON lines on stdin, one line each on stdout:

    {"run": CASE}                  -> {"ms": wall time of one inference, "cpu_ms": the process's CPU time}
    {"save": CASE, "path": FILE}   -> {}  raw float32 of the case's result
    {"restore": FILE or null}      -> {"psnr_db": of that picture, or of a synthetic one, sent and restored}

It says {"backend", "precision"} when ready and ends with its input. Between commands it only waits, so
several of them measure in turn without disturbing each other.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from codec_runtime.benchmarks.inputs import LATENT_STRIDE, fill_weights, noise, picture, received_symbols
from codec_runtime.channel.symbols import prefix_mask
from codec_runtime.codecs.registry import FAMILIES, build_decoder, build_encoder
from codec_runtime.evaluation.command import load_codec
from codec_runtime.serving.backends.interface import CodecNetwork, Precision
from codec_runtime.serving.backends.selection import BackendChoice, select_backend
from codec_runtime.serving.inference import decode, encode

CASES: dict[str, tuple[int, int, int]] = {
    "encode_768x512": (1, 512, 768),
    "decode_768x512": (1, 512, 768),
    "encode_b16_128": (16, 128, 128),
    "decode_b16_128": (16, 128, 128),
}
"""(batch, height, width) of each case."""
SNR_DB = 7.0
PREFIX = 6


class WorkerSpec(msgspec.Struct, frozen=True):
    """What a worker computes and with what.

    Attributes:
        weights: root of bundles; "" for random weights of ``family``.
        decoder: name of the decoder bundle, or the decoder kind of the family.
        config: hyper-parameters of the family that are not the default.
        engine: ``eager`` is the trained module as it is, fp32; else a backend.
        precision: of openvino; "" for the CPU's fastest.
    """

    weights: str
    family: str
    decoder: str
    config: dict[str, int | str]
    engine: str
    compiled: bool
    precision: str
    threads: int


def codec_pair(spec: WorkerSpec) -> tuple[nn.Module, nn.Module]:
    """(encoder, decoder) in evaluation mode.

    Raises:
        ValueError: no such family, decoder or hyper-parameter. FileNotFoundError: no such bundles.
    """
    if not spec.weights:
        if spec.family not in FAMILIES:
            raise ValueError(f"no codec family {spec.family!r}; known are {', '.join(FAMILIES)}")
        config = FAMILIES[spec.family].config(**spec.config)
        pair = build_encoder(spec.family, config), build_decoder(spec.family, spec.decoder, config)
        for seed, module in enumerate(pair):
            fill_weights(module.eval(), seed + 1)
        return pair
    encoder, decoders = load_codec(Path(spec.weights), spec.decoder)
    return encoder, decoders[spec.decoder]


class Bench:
    """One implementation and the inputs of every case."""

    def __init__(self, spec: WorkerSpec) -> None:
        torch.set_num_threads(spec.threads)
        modules = codec_pair(spec)
        self.backend, self.precision = "torch", "fp32"
        self._networks: tuple[nn.Module | CodecNetwork, nn.Module | CodecNetwork] = modules
        if spec.engine != "eager":
            backend = select_backend(
                msgspec.convert(spec.engine, BackendChoice), threads=spec.threads, compiled=spec.compiled,
                precision=msgspec.convert(spec.precision, Precision) if spec.precision else None,
            )
            self.backend, self.precision = backend.name, backend.precision
            self._networks = backend.build(modules[0]), backend.build(modules[1])
        self._channels = int(modules[1].config.latent_channels)  # type: ignore[union-attr, arg-type]
        self._inputs: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def compute(self, case: str) -> Tensor:
        """The result of ``case``, which is also what is timed."""
        result: Tensor = self._networks[0 if case.startswith("encode") else 1](*self.inputs(case))
        return result

    def inputs(self, case: str) -> tuple[Tensor, Tensor, Tensor]:
        if case not in self._inputs:
            batch, height, width = CASES[case]
            snr, prefix = torch.full((batch,), SNR_DB), torch.full((batch,), PREFIX)
            if case.startswith("encode"):
                values = torch.from_numpy(picture(1, batch, height, width)).float() / 255.0
            else:
                rows, columns = height // LATENT_STRIDE, width // LATENT_STRIDE
                symbols = received_symbols(2, batch, self._channels, rows, columns)
                values = torch.from_numpy(symbols) * prefix_mask(prefix, self._channels)
            self._inputs[case] = values, snr, prefix
        return self._inputs[case]

    def restore(self, path: str | None) -> float:
        """PSNR in dB of a picture encoded, sent at :data:`SNR_DB` with fixed noise, and decoded."""
        image = picture(1, 1, 512, 768) if path is None else read_picture(Path(path))
        height, width = image.shape[2:]
        snr, prefix = np.array([SNR_DB], np.float32), np.array([PREFIX], np.int32)
        symbols = encode(self._networks[0], image, snr, prefix)
        received = symbols + noise(3, SNR_DB, symbols.shape)
        restored = decode(self._networks[1], received, snr, prefix, height, width)
        error = np.square(restored.astype(np.float64) - image).mean()
        return float(10.0 * np.log10(255.0**2 / error))


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """(1, 3, H, W) uint8."""
    from PIL import Image  # noqa: PLC0415

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _answer(bench: Bench, command: dict[str, Any]) -> dict[str, Any]:
    if "restore" in command:
        return {"psnr_db": bench.restore(command["restore"])}
    if "save" in command:
        with torch.inference_mode():
            result = bench.compute(command["save"])
        result.contiguous().numpy().astype(np.float32).tofile(command["path"])
        return {}
    case = command["run"]
    bench.inputs(case)
    with torch.inference_mode():
        started, busy = time.perf_counter(), time.process_time()
        bench.compute(case)
        return {
            "ms": 1e3 * (time.perf_counter() - started), "cpu_ms": 1e3 * (time.process_time() - busy),
        }


def main(spec: str) -> int:
    """Serve commands until the input ends; returns the exit code."""
    try:
        bench = Bench(msgspec.json.decode(spec.encode(), type=WorkerSpec))
    except (ValueError, RuntimeError, OSError) as error:
        print(msgspec.json.encode({"error": str(error)}).decode(), flush=True)
        return 1
    print(msgspec.json.encode({"backend": bench.backend, "precision": bench.precision}).decode(), flush=True)
    for line in sys.stdin:
        print(msgspec.json.encode(_answer(bench, msgspec.json.decode(line))).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
