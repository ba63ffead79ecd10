"""Tensors that cross a cut as bytes: eight bits a value, a range a channel, no training needed.

    for each tensor, in the order of the cut: u32 length, a stream of :mod:`codec_runtime.digital.bitstream`
    its payload: per channel the lowest value and the step (float32 each), then a byte a value

The stream's header names the weights (the first eight bytes of their sha256), the cut,
the tensor's place, and is checked by CRC-32C with all that follows: features of another version or cut, a
tensor in another's place or altered bytes are refused by name. Sizes depend on shapes alone, so no content
can inflate a stream.

A tensor (1, C, ...) of few values a channel shares one range, as two numbers a channel would outweigh it. A
picture has the range of its eight bits, so it crosses without loss.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_runtime.digital.bitstream import CHUNK_BYTES, HEADER_BYTES, MAX_VALUES, Header, pack, parse
from codec_runtime.digital.errors import FieldError, PayloadError, TruncatedError, WrongModelError
from codec_runtime.split.classifiers import PICTURE_OFFSET, PICTURE_SCALE

BITS = 8
_LEVELS = 2**BITS - 1
_LENGTH = struct.Struct("<I")
_RANGE_BYTES = 8
_FEW_VALUES = 32
_LONGEST_SIDE = 0xFFFF

Floats = NDArray[np.float32]


class FeatureError(ValueError):
    """Features cannot be sent: not finite, or of a shape that no stream has."""


@dataclass(frozen=True)
class StreamKey:
    """What a stream must name: ``model`` the weights, ``cut`` the cut, eight bytes each."""

    model: bytes
    cut: bytes


def stream_key(weights_sha256: str, cut: str) -> StreamKey:
    """Of a bundle's weights and a cut's id, both in hex."""
    return StreamKey(bytes.fromhex(weights_sha256[:16]), bytes.fromhex(cut))


def encode_tensors(tensors: Sequence[Floats], pictures: Sequence[bool], key: StreamKey) -> bytes:
    """What crosses, as bytes.

    Args:
        tensors: (1, ...) float32 each, in the order of the cut; pictures: which of them are the input.

    Raises:
        FeatureError.
    """
    parts: list[bytes] = []
    for place, (tensor, picture) in enumerate(zip(tensors, pictures, strict=True)):
        rows, height, width = layout(tensor.shape)
        values = np.ascontiguousarray(tensor, np.float32).reshape(rows, -1)
        low, step = _picture_range(rows) if picture else _ranges(values)
        steps = np.where(step > 0, step, np.float32(1))[:, None]
        levels = np.clip(np.rint((values - low[:, None]) / steps), 0, _LEVELS).astype(np.uint8)
        header = Header(
            point=place, model=key.model, cut=key.cut, channels=rows, height=height, width=width, chunks=1,
            fixed_bits=BITS,
        )
        ranges = np.stack([low, step], axis=1).astype("<f4")
        stream = pack(header, [ranges.tobytes() + levels.tobytes()])
        parts += [_LENGTH.pack(len(stream)), stream]
    return b"".join(parts)


def decode_tensors(data: bytes, shapes: Sequence[tuple[int, ...]], key: StreamKey) -> list[Floats]:
    """Tensors of the given shapes.

    Raises:
        WrongModelError: of other weights or another cut. BitstreamError: its subclass and message say what
            else is wrong.
    """
    found: list[Floats] = []
    start = 0
    for place, shape in enumerate(shapes):
        stream, start = _next(data, start, place)
        found.append(_decoded(stream, place, shape, key))
    if start != len(data):
        raise FieldError(f"{len(data) - start} bytes behind the last of {len(shapes)} tensors")
    return found


def stream_bytes(shapes: Sequence[tuple[int, ...]]) -> int:
    """Bytes of what :func:`encode_tensors` makes of tensors of these shapes.

    Raises:
        FeatureError.
    """
    each = _LENGTH.size + HEADER_BYTES + CHUNK_BYTES
    return sum(each + _RANGE_BYTES * layout(shape)[0] + math.prod(shape) for shape in shapes)


def layout(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(rows that have a range of their own, height, width) of a tensor (1, ...) in a stream's header.

    Raises:
        FeatureError: not one picture's, or too large.
    """
    count = math.prod(shape)
    if len(shape) < 2 or shape[0] != 1 or not 0 < count <= MAX_VALUES:
        raise FeatureError(f"tensor of shape {tuple(shape)}: want (1, ...) and 1 to {MAX_VALUES} values")
    rows, rest = shape[1], shape[2:]
    if math.prod(rest) < _FEW_VALUES:
        rows, rest = 1, shape[1:]
    height, width = rest[0], math.prod(rest[1:])
    if max(rows, height, width) > _LONGEST_SIDE:
        raise FeatureError(f"tensor of shape {tuple(shape)}: a side exceeds {_LONGEST_SIDE}")
    return rows, height, width


def _next(data: bytes, start: int, place: int) -> tuple[bytes, int]:
    if len(data) < start + _LENGTH.size:
        raise TruncatedError(f"tensor {place}: its length is cut off")
    (length,) = _LENGTH.unpack_from(data, start)
    start += _LENGTH.size
    if len(data) < start + length:
        raise TruncatedError(f"tensor {place}: {len(data) - start} of {length} bytes")
    return data[start : start + length], start + length


def _decoded(stream: bytes, place: int, shape: tuple[int, ...], key: StreamKey) -> Floats:
    parsed = parse(stream)
    header = parsed.header
    if header.model != key.model:
        raise WrongModelError(f"made with weights {header.model.hex()}, not {key.model.hex()}")
    if header.cut != key.cut:
        raise WrongModelError(f"of cut {header.cut.hex()}, not {key.cut.hex()}")
    wanted = layout(shape)
    said = (header.channels, header.height, header.width)
    if (header.point, header.fixed_bits, said) != (place, BITS, wanted):
        raise FieldError(
            f"tensor {header.point} of {said} at {header.fixed_bits} bits; want tensor {place} of {wanted} "
            f"at {BITS}"
        )
    rows = header.channels
    payload = b"".join(parsed.payloads)
    if len(payload) != _RANGE_BYTES * rows + math.prod(shape):
        raise PayloadError(f"tensor {place}: {len(payload)} bytes of payload")
    ranges = np.frombuffer(payload, "<f4", 2 * rows).reshape(rows, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        highest = ranges[:, 0] + _LEVELS * ranges[:, 1]
    if not (np.isfinite(ranges).all() and np.isfinite(highest).all()):
        raise PayloadError(f"tensor {place}: a range is not finite")
    levels = np.frombuffer(payload, np.uint8, offset=_RANGE_BYTES * rows).reshape(rows, -1)
    values: Floats = levels.astype(np.float32) * ranges[:, 1:] + ranges[:, :1]
    return values.reshape(shape)


def _picture_range(rows: int) -> tuple[Floats, Floats]:
    low = np.full(rows, -PICTURE_OFFSET / PICTURE_SCALE, np.float32)
    return low, np.full(rows, 1 / PICTURE_SCALE, np.float32)


def _ranges(values: Floats) -> tuple[Floats, Floats]:
    low, high = values.min(axis=1), values.max(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        step: Floats = ((high - low) / np.float32(_LEVELS)).astype(np.float32)
    if not (np.isfinite(low).all() and np.isfinite(step).all()):
        raise FeatureError("features are not finite, or span more than float32 holds")
    return low, step
