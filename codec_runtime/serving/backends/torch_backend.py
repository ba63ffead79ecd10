"""The reference engine: PyTorch, on the GPU if there is one."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from codec_runtime.serving.backends.interface import BackendName, CodecNetwork, Precision
from codec_runtime.serving.backends.rewrite import fold


class TorchBackend:
    """Eager PyTorch on folded modules; its thread count is the process's (``torch.set_num_threads``).

    Args:
        device: "cpu" or "cuda"; the GPU if None and there is one.
        compiled: ``torch.compile``; needs a C++ compiler on the machine and takes tens of seconds a network.
    """

    name: BackendName = "torch"
    precision: Precision = "fp32"

    def __init__(self, *, device: str | None = None, compiled: bool = False) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.compiled = compiled

    def build(self, module: nn.Module) -> CodecNetwork:
        """See :class:`Backend`; compiling happens at the first call."""
        folded = fold(module).to(self.device)
        computed = cast(nn.Module, torch.compile(folded, dynamic=True)) if self.compiled else folded
        return _TorchNetwork(computed, cast(Any, module).config, self.device)


class _TorchNetwork:
    def __init__(self, module: nn.Module, config: Any, device: torch.device) -> None:
        self.config = config
        self._module = module
        self._device = device

    @torch.inference_mode()
    def __call__(self, values: Tensor, snr_db: Tensor, prefix: Tensor, /) -> Tensor:
        inputs = (tensor.to(self._device) for tensor in (values, snr_db, prefix))
        result: Tensor = self._module(*inputs).cpu()
        return result
