"""What serving needs of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

BackendName = Literal["torch", "openvino"]
Precision = Literal["fp32", "bf16"]


class CodecNetwork(Protocol):
    """An encoder or decoder ready to compute; the codec's own modules are networks too.

    Attributes:
        config: the module's configuration (``latent_channels``).

    Called with CPU tensors: (images (B, 3, H, W), snr_db (B,), prefix (B,) int64) -> symbols (B, c, H/4, W/4)
    for an encoder, (received (B, c, h, w), snr_db, prefix) -> (B, 3, 4h, 4w) for a decoder. Several threads
    may call at once.
    """

    config: Any

    def __call__(self, values: Tensor, snr_db: Tensor, prefix: Tensor, /) -> Tensor: ...


@dataclass
class Proof:
    """Of a compiled form that networks of one structure share, each with its own weights: whether one of them
    was found to compute what its module does. Such a network has it as ``proof``."""

    given: bool = False


class Backend(Protocol):
    """Makes networks out of trained modules."""

    @property
    def name(self) -> BackendName: ...

    @property
    def precision(self) -> Precision:
        """Of the convolutions; inputs and results are fp32 in any case."""

    def build(self, module: nn.Module) -> CodecNetwork:
        """A network that computes what ``module`` (trained, on the CPU) does.

        Raises:
            BackendError: the engine cannot.
        """


class BackendError(RuntimeError):
    """The engine is not there, cannot compute a network, or computes it wrongly; the message says which."""
