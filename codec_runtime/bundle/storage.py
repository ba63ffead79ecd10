r"""How parameters are stored, and what that loses: F32, F16, or int8 with a scale per channel.

int8 (``I8``): a tensor of two dimensions or more is quantised symmetrically along axis 0 (output channels of
a convolution or a linear layer; input channels of a transposed convolution),

    s_c = max|x_c| / 127,  q_c = round(x_c / s_c) in -127..127,  x'_c = q_c s_c,

so that \|x'_c - x_c\| <= s_c / 2. ``NAME`` holds q (I8) and ``NAME.scale`` holds s (F32, one value a channel;
0 for a channel of zeros). Vectors (biases, slopes) are few and sensitive: they stay F16. Coding tables
(``...tables.NAME``) are always F32: they are integers up to 2^16, and a range decoder loses its place with
the first that differs. All of it are plain safetensors tensors; the runtime serves fp32, so this saves bytes
on the way and on disk, not time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from codec_runtime.bundle.errors import DtypeError, NonFiniteError, SpecError
from codec_runtime.bundle.tensor_file import DTYPE_NAMES
from codec_runtime.contract.bundle import Storage, StorageLoss

SCALE_SUFFIX = ".scale"
SERVED_DTYPES = {"F16": torch.float16, "F32": torch.float32}
_LEVELS = 127
_EXACT = re.compile(r"(.*\.)?tables\.[^.]+")


@dataclass(frozen=True)
class StoredState:
    """A state as it goes to disk.

    Attributes:
        tensors: by name, sorted, on the CPU, contiguous.
        quantised: int8 tensor -> its scale tensor.
        losses: of the parameters that storing changed.
    """

    tensors: dict[str, Tensor]
    quantised: dict[str, str]
    losses: dict[str, StorageLoss]


def store_state(state: Mapping[str, Tensor], storage: Storage) -> StoredState:
    """Convert ``state`` to ``storage`` and measure the loss.

    Args:
        state: parameters and buffers by name, floating point, finite.

    Raises:
        NonFiniteError: a tensor is not finite, or overflows ``storage``.
        DtypeError: a tensor is not floating point.
        SpecError: a parameter has the name that a scale needs.
    """
    tensors: dict[str, Tensor] = {}
    quantised: dict[str, str] = {}
    losses: dict[str, StorageLoss] = {}
    for name in sorted(state):
        given = state[name].detach().to("cpu")
        if not given.is_floating_point():
            raise DtypeError(f"tensor {name} is {given.dtype}; a bundle holds floating-point parameters")
        if not torch.isfinite(given).all():
            raise NonFiniteError(f"tensor {name}: NaN or infinity")
        kept: Storage = "F32" if _EXACT.fullmatch(name) else storage
        if kept == "I8" and given.dim() >= 2 and given.numel():
            scale_name = name + SCALE_SUFFIX
            if scale_name in state:
                raise SpecError(f"tensor {scale_name}: the name is needed for the int8 scale of {name}")
            tensors[name], tensors[scale_name] = quantise(given)
            quantised[name] = scale_name
            served = dequantise(tensors[name], tensors[scale_name])
        else:
            dtype = SERVED_DTYPES["F16" if kept == "I8" else kept]
            tensors[name] = given.to(dtype).contiguous()
            served = tensors[name].float()
        if not torch.isfinite(served).all():
            raise NonFiniteError(f"tensor {name}: NaN or infinity when stored as {storage}")
        loss = storage_loss(given, served)
        if loss.max_error > 0:
            losses[name] = loss
    return StoredState(dict(sorted(tensors.items())), quantised, losses)


def served_state(
    tensors: Mapping[str, Tensor], quantised: Mapping[str, str], origin: str
) -> dict[str, Tensor]:
    """fp32 parameters of stored tensors.

    Args:
        tensors: F16, F32, and I8 where ``quantised`` names the scale.

    Raises:
        DtypeError: an int8 tensor without scale, or another dtype.
        SpecError: a scale is missing, negative or of another size than axis 0.
    """
    scales = set(quantised.values())
    served: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in scales:
            continue
        if name in quantised:
            served[name] = dequantise(tensor, _checked_scale(name, tensors, quantised[name], origin))
        elif tensor.dtype in SERVED_DTYPES.values():
            served[name] = tensor.to(torch.float32, copy=True)  # memory of its own, aligned as torch does
        else:
            kind = DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype))
            raise DtypeError(
                f"{origin}: tensor {name} is {kind}; F16 and F32 are served, "
                "I8 where the manifest names a scale"
            )
    return served


def check_scales(tensors: Mapping[str, Tensor], quantised: Mapping[str, str], origin: str) -> list[str]:
    """Names of the parameters that :func:`served_state` gives, which will not raise; its errors."""
    for name, scale in quantised.items():
        _checked_scale(name, tensors, scale, origin)
    scales = set(quantised.values())
    return [name for name in tensors if name not in scales]


def quantise(values: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values and fp32 scales (C,) of a float tensor (C, ...), finite."""
    rows = values.to(torch.float32).reshape(values.shape[0], -1)
    scale = rows.abs().amax(dim=1) / _LEVELS
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    q = torch.round(rows / safe[:, None]).clamp(-_LEVELS, _LEVELS).to(torch.int8)
    return q.reshape(values.shape).contiguous(), scale.contiguous()


def dequantise(q: Tensor, scale: Tensor) -> Tensor:
    """fp32 tensor of int8 values (C, ...) and scales (C,)."""
    return q.to(torch.float32) * scale.reshape(-1, *[1] * (q.dim() - 1))


def storage_loss(given: Tensor, served: Tensor) -> StorageLoss:
    """Loss of ``served`` against ``given``, computed in fp64."""
    difference = served.double() - given.double()
    norm = float(given.double().norm())
    return StorageLoss(
        max_error=float(difference.abs().max()) if given.numel() else 0.0,
        relative_error=float(difference.norm()) / norm if norm > 0 else 0.0,
    )


def _checked_scale(name: str, tensors: Mapping[str, Tensor], scale_name: str, origin: str) -> Tensor:
    scale = tensors.get(scale_name)
    if scale is None:
        raise SpecError(f"{origin}: tensor {scale_name} is missing: the int8 scale of {name}")
    q = tensors[name]
    if q.dtype != torch.int8 or scale.dtype != torch.float32:
        raise DtypeError(f"{origin}: tensor {name} must be I8 and {scale_name} F32")
    if q.dim() < 2 or tuple(scale.shape) != (q.shape[0],) or bool((scale < 0).any()):
        raise SpecError(
            f"{origin}: tensor {scale_name} must hold {q.shape[0] if q.dim() else 1} scales from 0, "
            f"one a channel of {name}"
        )
    return scale
