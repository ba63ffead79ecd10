r"""A bundle's weights file as a difference from its parent's, without loss.

Fine-tuning leaves most tensors as they are and moves the rest a little. So a delta names the changed tensors
and holds only those, as differences where parent and child have the same dtype and shape:

1. values are read as unsigned integers u of their width and, for floating point, mapped so that neighbours
   in value are neighbours in integer (sign-magnitude to offset: u -> ~u for negative, u | sign bit else);
2. d = child - parent mod 2^bits, folded so that small differences of either sign are small (zigzag);
3. byte planes (all low bytes, then all next bytes, ...) over all changed tensors of a width, each xz-packed.

Where that is not smaller than the packed bytes themselves, those are held. Measured on fine-tuned decoders
(docs/bundles.md): leaving out the unchanged tensors saves most; of the rest the difference saves a quarter,
4 % more than XOR.

File: safetensors with U8 tensors ``record`` (xz of a MessagePack :class:`DeltaRecord`, which holds the header
of the child's file) and ``plane.WIDTH.INDEX``. The result is the child's file bit by bit; its sha256 is
checked, so a wrong parent or a damaged delta cannot go unnoticed.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec_runtime.bundle.errors import DeltaError, SizeLimitError
from codec_runtime.bundle.files import OnBytes, read_bounded
from codec_runtime.bundle.tensor_file import (
    DTYPE_NAMES,
    DTYPES,
    HEADER_LIMIT,
    TensorHeader,
    parse_header,
    read_tensors,
    tensor_bytes,
    tensor_file,
)

RESULT_LIMIT = 64 << 20
"""Largest weights file that is rebuilt, bytes; what is unpacked is bounded before it is."""
_FORMAT = 1
_MEMORY_LIMIT = 64 << 20
_PRESET = 6
_DICTIONARY = 8 << 20
_CHUNK = 1 << 20
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_WIDTHS: dict[int, npt.DTypeLike] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

Words = npt.NDArray[Any]
"""Raw values as unsigned integers of their width, one dimension."""
Stored = tuple[str, tuple[int, ...], bytes]
"""A stored tensor: safetensors dtype, shape, raw bytes."""
Content = Mapping[str, Stored]


class DeltaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a delta is.

    Attributes:
        format: of the delta file, 1.
        parent_sha256, result_sha256: of the weights files (hex).
        header: the result file's bytes before its data.
        changed: tensors that the planes hold, in their order.
        difference: whether those that the parent has in the same dtype and shape are differences.
    """

    format: int
    parent_sha256: str
    result_sha256: str
    header: bytes
    changed: list[str]
    difference: bool


def encode_delta(parent: bytes, child: bytes, on_bytes: OnBytes | None = None) -> bytes:
    """Delta file that turns the weights file ``parent`` into ``child``.

    Equal arguments give equal bytes with one version of liblzma.

    Raises:
        BundleError: one of them is not a sound safetensors file.
    """
    before, after = _content(parent, "parent"), _content(child, "child")
    start = min((e.begin for e in parse_header(child, "child").entries.values()), default=len(child))
    changed = sorted(name for name in after if before.get(name) != after[name])
    candidates = []
    for difference in (True, False):
        record = DeltaRecord(
            format=_FORMAT, parent_sha256=_sha256(parent), result_sha256=_sha256(child),
            header=child[:start], changed=changed, difference=difference,
        )
        streams = {"record": msgspec.msgpack.encode(record)}
        for width, parts in _by_width(changed, after).items():
            words = [
                _difference(after[name], before.get(name) if difference else None) for name in parts
            ]
            streams |= _planes(width, np.concatenate(words))
        packed = {name: _pack(stream, on_bytes) for name, stream in streams.items()}
        candidates.append(tensor_file(packed))
    return min(candidates, key=len)


def read_record(delta: bytes, origin: str = "delta") -> DeltaRecord:
    """What the delta file says it is.

    Raises:
        BundleError: not a delta file.
    """
    header = parse_header(delta, origin)
    return _record(delta, header, origin)


def rebuild_weights(
    parent: bytes, delta: bytes, origin: str = "delta", limit: int = RESULT_LIMIT
) -> bytes:
    """The child's weights file.

    Args:
        parent: the parent's weights file.
        delta: what :func:`encode_delta` gave.
        limit: bytes of tensors that the result may have; refused before anything is unpacked.

    Raises:
        DeltaError: the delta is of another parent, or does not give the file whose sha256 it states.
        SizeLimitError: the result would exceed ``limit``.
        BundleError: one of them is not a sound safetensors file.
    """
    record = read_record(delta, origin)
    found = _sha256(parent)
    if found != record.parent_sha256:
        raise DeltaError(
            f"{origin}: a difference from the weights {record.parent_sha256[:12]}..., the parent here is "
            f"{found[:12]}..."
        )
    return _rebuild(_content(parent, "parent"), delta, origin, limit)


def apply_delta(parent_state: Mapping[str, Tensor], delta_file: Path | bytes) -> dict[str, Tensor]:
    """The child's tensors as stored.

    Args:
        parent_state: the parent's tensors as stored (not widened to fp32), on the CPU.
        delta_file: its path or its bytes.

    Raises:
        DeltaError: the result is not what the delta promises, as with another parent's tensors.
        MissingFileError: it is not there.
        SizeLimitError: the file exceeds :data:`RESULT_LIMIT`.
        BundleError: not a delta file.
    """
    origin = "delta" if isinstance(delta_file, bytes) else str(delta_file)
    delta = delta_file if isinstance(delta_file, bytes) else read_bounded(delta_file, RESULT_LIMIT)
    content = {
        name: (DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), tensor_bytes(tensor))
        for name, tensor in parent_state.items()
    }
    result = _rebuild(content, delta, origin)
    return read_tensors(result, parse_header(result, origin))


def _rebuild(parent: Content, delta: bytes, origin: str, limit: int = RESULT_LIMIT) -> bytes:
    header = parse_header(delta, origin)
    record = _record(delta, header, origin)
    layout = _result_layout(record, origin, limit)
    wanted = {name: (e.dtype, e.shape, b"") for name, e in layout.entries.items()}
    if unknown := sorted(set(record.changed) - wanted.keys()):
        raise DeltaError(f"{origin}: tensor {unknown[0]} is not in the result")
    parts: dict[str, bytes] = {}
    for width, names in _by_width(record.changed, wanted).items():
        sizes = [(layout.entries[n].end - layout.entries[n].begin) // width for n in names]
        words = _unpack_planes(delta, header, width, sum(sizes), origin)
        for name, piece in zip(names, np.split(words, np.cumsum(sizes)[:-1]), strict=True):
            held = parent.get(name)
            plain = not record.difference or held is None or held[:2] != wanted[name][:2]
            parts[name] = (piece if plain or held is None else _restored(piece, held)).tobytes()
    for name in wanted.keys() - parts.keys():
        held = parent.get(name)
        if held is None or held[:2] != wanted[name][:2]:
            dtype, shape, _ = wanted[name]
            raise DeltaError(f"{origin}: tensor {name} ({dtype} {list(shape)}) is not in the parent")
        parts[name] = held[2]
    result = b"".join([record.header, *(parts[name] for name in layout.entries)])
    if (digest := _sha256(result)) != record.result_sha256:
        raise DeltaError(
            f"{origin}: gives weights {digest[:12]}..., not {record.result_sha256[:12]}...: "
            "damaged, or not of this parent"
        )
    return result


def _result_layout(record: DeltaRecord, origin: str, limit: int) -> TensorHeader:
    """Header of the result, checked without its data: zeros stand in, of a bounded size."""
    start = len(record.header)
    try:
        text = msgspec.json.decode(record.header[8:])
        end = max((int(t["data_offsets"][1]) for n, t in text.items() if n != "__metadata__"), default=0)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DeltaError(f"{origin}: the result's header is not that of a safetensors file") from error
    if not 0 <= end <= min(limit, RESULT_LIMIT):
        raise SizeLimitError(f"{origin}: a result of {end} bytes, the limit is {min(limit, RESULT_LIMIT)}")
    if 8 + int.from_bytes(record.header[:8], "little") != start:
        raise DeltaError(f"{origin}: the result's header states another length than it has")
    return parse_header(record.header + bytes(end), f"{origin}: result")


def _record(delta: bytes, header: TensorHeader, origin: str) -> DeltaRecord:
    try:
        record = msgspec.msgpack.decode(
            _unpack(delta, header, "record", 2 * HEADER_LIMIT, origin), type=DeltaRecord
        )
    except msgspec.DecodeError as error:
        raise DeltaError(f"{origin}: no delta record: {error}") from error
    if record.format != _FORMAT:
        raise DeltaError(f"{origin}: delta format {record.format}; this runtime reads {_FORMAT}")
    if len(set(record.changed)) != len(record.changed):
        raise DeltaError(f"{origin}: names a changed tensor twice")
    return record


def _content(data: bytes, origin: str) -> Content:
    entries = parse_header(data, origin).entries
    return {name: (e.dtype, e.shape, data[e.begin : e.end]) for name, e in entries.items()}


def _by_width(names: list[str], content: Content) -> dict[int, list[str]]:
    table: dict[int, list[str]] = {}
    for name in names:
        table.setdefault(DTYPES[content[name][0]].itemsize, []).append(name)
    return dict(sorted(table.items()))


def _words(tensor: Stored) -> Words:
    return np.frombuffer(tensor[2], dtype=_WIDTHS[DTYPES[tensor[0]].itemsize])


def _difference(child: Stored, parent: Stored | None) -> Words:
    """Folded differences, or the words themselves where the parent has no such tensor."""
    if parent is None or parent[:2] != child[:2]:
        return _words(child)
    d = _ordered(_words(child), child[0]) - _ordered(_words(parent), child[0])
    folded: Words = np.where(d & _sign_bit(d), ~(d << 1), d << 1)
    return folded


def _restored(folded: Words, parent: Stored) -> Words:
    one = folded.dtype.type(1)
    d = np.where(folded & one, ~(folded >> one), folded >> one)
    u = d + _ordered(_words(parent), parent[0])
    flipped: Words = u ^ _sign_bit(u)
    restored: Words = np.where(u & _sign_bit(u), flipped, ~u) if parent[0] in _FLOATS else flipped
    return restored


def _ordered(u: Words, dtype: str) -> Words:
    sign = _sign_bit(u)
    ordered: Words = np.where(u & sign, ~u, u | sign) if dtype in _FLOATS else u ^ sign
    return ordered


def _sign_bit(u: Words) -> Any:
    return u.dtype.type(1 << (8 * u.dtype.itemsize - 1))


def _planes(width: int, words: Words) -> dict[str, bytes]:
    table = words.view(np.uint8).reshape(-1, width)
    return {f"plane.{width}.{index}": table[:, index].tobytes() for index in range(width)}


def _unpack_planes(
    delta: bytes, header: TensorHeader, width: int, count: int, origin: str
) -> Words:
    table = np.empty((count, width), dtype=np.uint8)
    for index in range(width):
        name = f"plane.{width}.{index}"
        plane = _unpack(delta, header, name, count, origin)
        if len(plane) != count:
            raise DeltaError(f"{origin}: {name} has {len(plane)} bytes, {count} are needed")
        table[:, index] = np.frombuffer(plane, dtype=np.uint8)
    return table.reshape(-1).view(_WIDTHS[width])


def _pack(stream: bytes, on_bytes: OnBytes | None) -> Tensor:
    # A dictionary beyond the stream finds nothing more, and the packer would still clear it all.
    size = min(max(1 << len(stream).bit_length(), 1 << 12), _DICTIONARY)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": _PRESET, "dict_size": size}]
    packer = lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)
    packed = bytearray()
    for start in range(0, len(stream), _CHUNK):
        chunk = stream[start : start + _CHUNK]
        packed += packer.compress(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
    packed += packer.flush()
    return torch.frombuffer(packed, dtype=torch.uint8)


def _unpack(delta: bytes, header: TensorHeader, name: str, limit: int, origin: str) -> bytes:
    entry = header.entries.get(name)
    if entry is None or entry.dtype != "U8":
        raise DeltaError(f"{origin}: holds no tensor {name} of dtype U8: not a delta file")
    try:
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT)
        content = unpacker.decompress(delta[entry.begin : entry.end], max_length=limit + 1)
    except lzma.LZMAError as error:
        raise DeltaError(f"{origin}: tensor {name} does not unpack: {error}") from error
    if len(content) > limit:
        raise SizeLimitError(f"{origin}: tensor {name} unpacks to more than {limit} bytes")
    return content


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
