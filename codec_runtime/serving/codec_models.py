"""The models ``encode`` and ``decode`` of the Open Inference Protocol: parsed request -> outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.contract.directives import Directive
from codec_runtime.serving import inference
from codec_runtime.serving.open_inference import (
    Array,
    InferRequest,
    Parameter,
    ProtocolError,
    check_outputs,
    take_input,
)
from codec_runtime.serving.registry import Models

PLATFORM = "pytorch"
MODEL_INPUTS: dict[str, list[dict[str, Any]]] = {
    "encode": [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 3, -1, -1]},
        {"name": "snr_db", "datatype": "FP32", "shape": [-1], "optional": True},
        {"name": "prefix", "datatype": "INT32", "shape": [-1], "optional": True},
    ],
    "decode": [
        {"name": "symbols", "datatype": "FP32", "shape": [-1, -1, -1, -1]},
        {"name": "snr_db", "datatype": "FP32", "shape": [-1]},
        {"name": "prefix", "datatype": "INT32", "shape": [-1]},
    ],
}
MODEL_OUTPUTS: dict[str, list[dict[str, Any]]] = {
    "encode": [{"name": "symbols", "datatype": "FP32", "shape": [-1, -1, -1, -1]}],
    "decode": [{"name": "image", "datatype": "UINT8", "shape": [-1, 3, -1, -1]}],
}


@dataclass(frozen=True)
class Limits:
    """Bounds on one request: pictures and pixels of a picture."""

    batch: int
    pixels: int


@dataclass(frozen=True)
class Result:
    """Outputs, response parameters and the model version that computed them."""

    outputs: dict[str, Array]
    parameters: dict[str, Parameter]
    version: str


def text_parameter(request: InferRequest, name: str, default: str) -> str:
    value = request.parameters.get(name, default)
    if not isinstance(value, str):
        raise ProtocolError(f"parameter {name!r}: a string is needed, got {value!r}")
    return value


def integer_parameter(request: InferRequest, name: str, default: int | None) -> int | None:
    """An integer, also given as its decimal text."""
    value = request.parameters.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ProtocolError(f"parameter {name!r}: an integer is needed, got {value!r}")
    return value


def run_encode(
    request: InferRequest, models: Models, directive: Directive, limits: Limits, version: int | None
) -> Result:
    """Encode under ``directive``; ``snr_db`` and ``prefix`` inputs override it.

    Args:
        version: encoder version from the URL, None for the parameter's or the directive's.

    Raises:
        ProtocolError, InferenceInputError, UnknownModelError.
    """
    check_outputs(request, ("symbols",))
    images = _required(request, "image", "UINT8")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ProtocolError(f"input 'image': shape [B, 3, H, W] is needed, got {list(images.shape)}")
    _check_size(images.shape[0], images.shape[2] * images.shape[3], limits)
    batch = images.shape[0]
    wanted = version if version is not None else integer_parameter(request, "encoder_version", None)
    encoder = models.encoder(directive.encoder_version if wanted is None else wanted)
    snr = _condition(request, "snr_db", "FP32", np.full(batch, directive.snr_db, np.float32))
    prefix = _condition(request, "prefix", "INT32", np.full(batch, directive.prefix, np.int32))
    symbols = inference.encode(encoder.network, images, snr, prefix)
    encoder_version = encoder.manifest.version
    return Result(
        {"symbols": symbols},
        {
            "user": directive.user,
            "prefix": int(prefix[0]),
            "snr_db": float(snr[0]),
            "decoder": directive.decoder,
            "decoder_version": directive.decoder_version,
            "encoder_version": encoder_version,
            "height": images.shape[2],
            "width": images.shape[3],
        },
        str(encoder_version),
    )


def run_decode(request: InferRequest, models: Models, limits: Limits, version: int | None) -> Result:
    """Restore pictures with the decoder that the request names (default: the newest base version).

    Args:
        version: decoder version from the URL, None for the parameter's.

    Raises:
        ProtocolError, InferenceInputError, UnknownModelError.
        MixedPairError: ``encoder_version`` is not the encoder that the decoder was trained against.
    """
    check_outputs(request, ("image",))
    symbols = _required(request, "symbols", "FP32")
    if symbols.ndim != 4:
        raise ProtocolError(f"input 'symbols': shape [B, K, h, w] is needed, got {list(symbols.shape)}")
    _check_size(symbols.shape[0], 16 * symbols.shape[2] * symbols.shape[3], limits)
    family = text_parameter(request, "decoder", models.default_decoder())
    wanted = version if version is not None else integer_parameter(request, "decoder_version", None)
    decoder = models.decoder(family, wanted)
    encoder_version = models.encoder_of(decoder).manifest.version
    sent_by = integer_parameter(request, "encoder_version", encoder_version)
    if sent_by != encoder_version:
        raise MixedPairError(
            f"mixed pair: decoder {family} version {decoder.manifest.version} belongs to encoder version "
            f"{encoder_version}, the symbols come from version {sent_by}"
        )
    height = integer_parameter(request, "height", 4 * symbols.shape[2])
    width = integer_parameter(request, "width", 4 * symbols.shape[3])
    assert height is not None
    assert width is not None
    image = inference.decode(
        decoder.network, symbols, _required(request, "snr_db", "FP32"), _required(request, "prefix", "INT32"),
        height, width,
    )
    return Result(
        {"image": image},
        {
            "decoder": family,
            "decoder_version": decoder.manifest.version,
            "encoder_version": encoder_version,
        },
        str(decoder.manifest.version),
    )


def _required(request: InferRequest, name: str, datatype: str) -> Array:
    array = take_input(request, name, datatype)
    if array is None:
        raise ProtocolError(f"input {name!r} ({datatype}) is missing")
    return array


def _condition(request: InferRequest, name: str, datatype: str, default: npt.NDArray[Any]) -> Array:
    array = take_input(request, name, datatype)
    return default if array is None else array


def _check_size(batch: int, pixels: int, limits: Limits) -> None:
    if not 1 <= batch <= limits.batch:
        raise ProtocolError(f"a batch of {batch} pictures; 1..{limits.batch} are served")
    if not 1 <= pixels <= limits.pixels:
        raise ProtocolError(f"a picture of {pixels} pixels; 1..{limits.pixels} are served")
