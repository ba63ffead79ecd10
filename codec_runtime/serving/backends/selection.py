"""Which engine serves: by setting, or the fastest that is there; and a guard around it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Collection
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from codec_runtime.serving.backends.cpu import cpu_flags, fastest_precision
from codec_runtime.serving.backends.interface import (
    Backend,
    BackendError,
    BackendName,
    CodecNetwork,
    Precision,
    Proof,
)
from codec_runtime.serving.backends.torch_backend import TorchBackend
from codec_runtime.serving.pace import Pause, unhurried

logger = logging.getLogger(__name__)

BackendChoice = Literal["auto", "torch", "openvino"]
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 5e-2}
"""Relative error (norms) of a network on the probe above which it does not serve. bf16 has 8 significant
bits; a wrongly computed network is off by the order of one."""
_PROBE_SIDE = 8


def choose(choice: BackendChoice, *, has_cuda: bool, has_openvino: bool) -> BackendName:
    """``auto``: torch on a GPU, openvino on a CPU where it is installed, else torch."""
    if choice != "auto":
        return choice
    return "openvino" if has_openvino and not has_cuda else "torch"


def select_backend(
    choice: BackendChoice = "auto",
    *,
    threads: int = 1,
    compiled: bool = False,
    precision: Precision | None = None,
    flags: Collection[str] | None = None,
) -> Backend:
    """The engine of ``choice``.

    Args:
        threads: of one inference (torch takes the process's number).
        compiled: ``torch.compile`` for torch.
        precision: of openvino; None for the CPU's fastest.
        flags: CPU flags, those of this machine if None.

    Raises:
        BackendError: openvino was asked for and cannot be loaded.
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    name = choose(choice, has_cuda=torch.cuda.is_available(), has_openvino=has_openvino)
    if name == "torch":
        return TorchBackend(compiled=compiled)
    try:
        from codec_runtime.serving.backends.openvino_backend import OpenvinoBackend  # noqa: PLC0415

        wanted = precision or fastest_precision(cpu_flags() if flags is None else flags)
        return OpenvinoBackend(threads=threads, precision=wanted)
    except (ImportError, OSError, RuntimeError) as error:  # a library that does not load on this system
        if choice == "auto":
            logger.warning("openvino does not load; torch serves", extra={"reason": str(error)})
            return TorchBackend(compiled=compiled)
        raise BackendError(f"backend openvino does not load: {error}; install semcom-xapp[runtime] or "
                           "choose backend torch") from error


def build_network(
    backend: Backend,
    module: nn.Module,
    on_fallback: Callable[[], None] | None = None,
    pause: Pause = unhurried,
) -> tuple[CodecNetwork, BackendName]:
    """``module`` on ``backend`` if that computes what the module does, else on eager torch.

    Args:
        on_fallback: called if torch stands in. pause: called between steps.

    Returns:
        (network, the name of the engine that computes it).
    """
    try:
        network = backend.build(module)
        pause()
        proof: Proof = getattr(network, "proof", Proof())
        if not proof.given:
            error = probe_error(network, module)
            if not error <= TOLERANCE[backend.precision]:
                raise BackendError(f"{backend.name} is off by {error:.1e} of what the module computes")
            proof.given = True
        return network, backend.name
    # Whatever an engine or a compiler stumbles over: the bundle is sound, so it is served.
    except Exception as cause:
        architecture = getattr(module, "architecture", "")
        logger.warning("backend does not serve a network; torch does", extra={
            "backend": backend.name, "architecture": architecture, "reason": str(cause),
        })
    if on_fallback is not None:
        on_fallback()
    return TorchBackend(device="cpu").build(module), "torch"


@torch.inference_mode()
def probe_error(network: CodecNetwork, module: nn.Module) -> float:
    """Relative error (Euclidean norms) of ``network`` against ``module`` on a small fixed input."""
    channels = int(cast(Any, module).config.latent_channels)
    encodes = hasattr(module, "analyse")
    shape = (2, 3, 4 * _PROBE_SIDE, 6 * _PROBE_SIDE) if encodes else (2, channels, _PROBE_SIDE, 6)
    length = torch.Size(shape).numel()
    # A low-discrepancy sequence in [0, 1): no generator's state is touched.
    values = (torch.arange(length) * 0.6180339887498949 % 1.0).reshape(shape)
    inputs: tuple[Tensor, Tensor, Tensor] = (
        values, torch.tensor([1.0, 10.0]), torch.tensor([1, channels]),
    )
    expected, got = cast(Tensor, module(*inputs)), network(*inputs)
    if got.shape != expected.shape:
        return float("inf")
    return float((got - expected).norm() / expected.norm().clamp_min(1e-12))
