"""The models ``encode`` and ``decode`` of the Open Inference Protocol: parsed request -> outputs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.contract.directives import RATE_DENOMINATOR, ConventionalCodec, Directive
from codec_runtime.serving.batching import DecodeWork, EncodeWork, OtherWork, Work
from codec_runtime.serving.conventional import PictureCoder, byte_budget
from codec_runtime.serving.inference import check_conditions
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
    # Tokens of a frozen encoder; ``item`` numbers what samples of one user belong together.
    "align": [
        {"name": "tokens", "datatype": "FP32", "shape": [-1, -1, -1]},
        {"name": "lengths", "datatype": "INT32", "shape": [-1], "optional": True},
        {"name": "item", "datatype": "INT64", "shape": [-1], "optional": True},
    ],
    # A stream of codec_runtime.split.streams; parameters network, version, cut.
    "classify_tail": [{"name": "features", "datatype": "UINT8", "shape": [-1]}],
}
MODEL_OUTPUTS: dict[str, list[dict[str, Any]]] = {
    # Exactly one of the two: bytes for a user on a conventional codec, or by the parameter ``codec``.
    "encode": [
        {"name": "symbols", "datatype": "FP32", "shape": [-1, -1, -1, -1]},
        {"name": "bytes", "datatype": "UINT8", "shape": [-1]},
    ],
    "decode": [{"name": "image", "datatype": "UINT8", "shape": [-1, 3, -1, -1]}],
    "align": [
        {"name": "aligned", "datatype": "FP32", "shape": [-1, -1, -1]},
        {"name": "confidence", "datatype": "FP32", "shape": [-1]},
    ],
    # The best classes with their shares; logits of all classes.
    "classify_tail": [
        {"name": "classes", "datatype": "INT32", "shape": [-1]},
        {"name": "scores", "datatype": "FP32", "shape": [-1]},
        {"name": "logits", "datatype": "FP32", "shape": [-1]},
    ],
}

SEARCH_S = 0.25
"""Of a conventional file, in the inference thread: about what a network needs for a third of a megapixel."""

Compute = Callable[[Work], Awaitable[Array]]
"""Gives the result of a work when its turn has come, together with others or alone."""


@dataclass(frozen=True)
class Limits:
    """Bounds on one request: pictures, and pixels of them all."""

    batch: int
    pixels: int


@dataclass(frozen=True)
class Result:
    """Outputs, response parameters and the model version that computed them."""

    outputs: dict[str, Array]
    parameters: dict[str, Parameter]
    version: str


def versions_of(model: str, models: Models) -> list[int]:
    """Versions that ``/v2/models/{model}/versions/{v}`` knows; of every decoder family for ``decode``."""
    if model == "encode":
        return sorted(models.encoders)
    if model == "align":
        return sorted({version for _, version in models.adapters})
    if model == "classify_tail":
        return sorted({version for _, version in models.classifiers})
    return sorted({version for _, version in models.decoders})


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


async def run_encode(
    request: InferRequest,
    models: Models,
    directive: Directive,
    limits: Limits,
    version: int | None,
    compute: Compute,
) -> Result:
    """Encode under ``directive``; ``snr_db`` and ``prefix`` inputs and the parameter ``codec`` override it.

    Args:
        version: encoder version from the URL, None for the parameter's or the directive's.
        compute: where the pictures go.

    Raises:
        ProtocolError, InferenceInputError, UnknownModelError, and what ``compute`` raises.
    """
    codec = text_parameter(request, "codec", directive.codec)
    if codec not in ("semantic", "jpeg", "heic"):
        raise ProtocolError(f"parameter 'codec': semantic, jpeg or heic, got {codec!r}")
    check_outputs(request, ("symbols",) if codec == "semantic" else ("bytes",))
    images = _required(request, "image", "UINT8")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ProtocolError(f"input 'image': shape [B, 3, H, W] is needed, got {list(images.shape)}")
    _check_size(images.shape[0], images.shape[2] * images.shape[3], limits)
    batch = images.shape[0]
    snr = _condition(request, "snr_db", "FP32", np.full(batch, directive.snr_db, np.float32))
    prefix = _condition(request, "prefix", "INT32", np.full(batch, directive.prefix, np.int32))
    if codec != "semantic":
        return await _conventional(directive, images, snr, prefix, cast(ConventionalCodec, codec), compute)
    wanted = version if version is not None else integer_parameter(request, "encoder_version", None)
    if wanted is None and directive.codec != "semantic":
        raise ProtocolError(
            f"user {directive.user!r} is on {directive.codec}: encoder_version says which encoder is wanted"
        )
    encoder = models.encoder(directive.encoder_version if wanted is None else wanted)
    work = EncodeWork(encoder, images, snr, prefix)
    work.check()
    symbols = await compute(work)
    encoder_version = encoder.manifest.version
    told = encoder_version == directive.encoder_version
    return Result(
        {"symbols": symbols},
        {
            "user": directive.user,
            "prefix": int(prefix[0]),
            "snr_db": float(snr[0]),
            # Of another encoder, which the request asked for, no directive says who decodes.
            "decoder": directive.decoder if told else "",
            "decoder_version": directive.decoder_version if told else 0,
            "encoder_version": encoder_version,
            "codec": "semantic",
            "height": images.shape[2],
            "width": images.shape[3],
        },
        str(encoder_version),
    )


async def _conventional(
    directive: Directive,
    images: Array,
    snr_db: Array,
    prefix: Array,
    codec: ConventionalCodec,
    compute: Compute,
) -> Result:
    """One picture as a file within what its symbols carry (:mod:`codec_runtime.serving.conventional`).

    Raises:
        ProtocolError: not one picture. NothingFitsError and other InferenceInputError.
    """
    batch, _, height, width = images.shape
    if batch != 1:
        raise ProtocolError(f"codec {codec}: one picture a request, got a batch of {batch}")
    check_conditions(batch, snr_db, prefix, RATE_DENOMINATOR)
    budget = byte_budget(int(prefix[0]), float(snr_db[0]), height, width)
    made: dict[str, Parameter] = {}

    def run() -> Array:
        coded = PictureCoder(images[0], codec).within(budget, SEARCH_S)
        made.update(
            quality=coded.quality, coded_height=coded.height, coded_width=coded.width,
            largest_quality=coded.largest,
        )
        return np.frombuffer(coded.data, np.uint8)

    data = await compute(OtherWork(run, pixels=height * width))
    return Result(
        {"bytes": data},
        {
            "user": directive.user,
            "prefix": int(prefix[0]),
            "snr_db": float(snr_db[0]),
            "decoder": "",
            "decoder_version": 0,
            "encoder_version": 0,
            "codec": codec,
            "height": height,
            "width": width,
            "byte_count": data.size,
            "byte_budget": budget,
            **made,
        },
        "0",
    )


async def run_decode(
    request: InferRequest, models: Models, limits: Limits, version: int | None, compute: Compute
) -> Result:
    """Restore pictures with the decoder that the request names (default: the newest base version).

    Args:
        version: decoder version from the URL, None for the parameter's.
        compute: where the symbols go.

    Raises:
        ProtocolError, InferenceInputError, UnknownModelError, and what ``compute`` raises.
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
    work = DecodeWork(
        decoder, symbols, _required(request, "snr_db", "FP32"), _required(request, "prefix", "INT32"),
        height, width,
    )
    work.check()
    image = await compute(work)
    return Result(
        {"image": image},
        {
            "decoder": family,
            "decoder_version": decoder.manifest.version,
            "encoder_version": encoder_version,
            "codec": "semantic",
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
    if not 1 <= batch * pixels <= limits.pixels:
        raise ProtocolError(f"{batch} x {pixels} pixels; 1..{limits.pixels} in all are served")
