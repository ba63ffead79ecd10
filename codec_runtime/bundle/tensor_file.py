"""Safetensors files as bytes: a defensive reader of the header, a writer, and what is refused at sight.

Layout (huggingface/safetensors, "Format"): 8 bytes little-endian length n, n bytes of JSON
``{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {str: str}}``, then the data, offsets
counted from its start. A header is taken only if every byte of the data belongs to exactly one tensor; a file
is never unpickled, whatever its name.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_runtime.bundle.errors import (
    DtypeError,
    NonFiniteError,
    PickleRefusedError,
    SizeLimitError,
    TensorFormatError,
)
from codec_runtime.bundle.files import Content

HEADER_LIMIT = 1 << 20
"""Bytes of JSON; 4096 tensors with long names need about half of it."""
TENSOR_LIMIT = 4096
RANK_LIMIT = 8
NAME_LIMIT = 256
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy", ".npz"})
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_ITEM_BYTES = {name: dtype.itemsize for name, dtype in DTYPES.items()}
_NUMPY: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "I8": np.dtype("i1")}
"""Types that weights are stored in."""
_INFINITIES: dict[torch.dtype, int] = {
    torch.float64: 0x7FF0_0000_0000_0000,
    torch.float32: 0x7F80_0000,
    torch.float16: 0x7C00,
    torch.bfloat16: 0x7F80,
}
"""Infinity of the floating-point types, its bits as an integer (IEEE 754-2019, 3.4)."""
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
HOW_TO_CONVERT = (
    "convert it where you trust its origin, with weights_only so that no code of it runs: "
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file({k: v.contiguous().clone() for k, v in torch.load('IN.pt', weights_only=True).items()}, "
    "'OUT.safetensors')\""
)

_LENGTH = 8
_SIZE_LIMIT = 1 << 48
"""No size exceeds what a file could hold."""
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_NAME = re.compile(rf"[\x21-\x7e]{{1,{NAME_LIMIT}}}")
_MAGIC: tuple[tuple[bytes, str, bool], ...] = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes: pickled objects inside", True),
    (b"PK\x05\x06", "an empty zip archive", True),
    (b"\x80", "a pickle, as old torch.save and pickle.dump write", True),
    (b"\x93NUMPY", "a NumPy file, which may hold pickled objects", True),
    (b"\x1f\x8b", "a gzip file", False),
    (b"\x89HDF", "an HDF5 file", False),
    (b"GGUF", "a GGUF file", False),
    (b"\xfd7zXZ", "an xz file", False),
)


class TensorEntry(NamedTuple):
    """A tensor in the data: ``begin`` and ``end`` count from the start of the file (bytes)."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class TensorHeader:
    """Parsed header; ``entries`` in the order of their data."""

    entries: Mapping[str, TensorEntry]
    metadata: Mapping[str, str] = field(default_factory=dict)


def parse_header(data: Content, origin: str) -> TensorHeader:
    """Header of a whole safetensors file.

    Args:
        data: the file.
        origin: what to call it in errors.

    Raises:
        PickleRefusedError: the bytes begin as a pickle or a zip archive does.
        SizeLimitError: header, number of tensors, rank or a name over its limit.
        DtypeError: a dtype that is not known here.
        TensorFormatError: anything else; the message names the tensor where there is one.
    """
    head = bytes(data[:16])
    length = int.from_bytes(head[:_LENGTH], "little")
    if len(data) <= _LENGTH or head[_LENGTH : _LENGTH + 1] != b"{" or length > len(data) - _LENGTH:
        refuse_other_formats(head, origin)
        raise TensorFormatError(f"{origin}: not safetensors: no JSON header of {length} bytes at byte 8")
    if length > HEADER_LIMIT:
        raise SizeLimitError(f"{origin}: header of {length} bytes, the limit is {HEADER_LIMIT}")
    raw = _parse_json(bytes(data[_LENGTH : _LENGTH + length]), origin)
    metadata = _metadata(raw.pop("__metadata__", {}), origin)
    if len(raw) > TENSOR_LIMIT:
        raise SizeLimitError(f"{origin}: {len(raw)} tensors, the limit is {TENSOR_LIMIT}")
    start = _LENGTH + length
    entries = {name: _entry(name, value, start, origin) for name, value in raw.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end, item[0])))
    _refuse_gaps(ordered, start, len(data), origin)
    return TensorHeader(ordered, metadata)


def refuse_other_formats(head: bytes, origin: str) -> None:
    """Name what a file that is not safetensors is.

    Args:
        head: at least the first 8 bytes.

    Raises:
        PickleRefusedError: a pickle, or an archive that may hold one.
        TensorFormatError: another known format.
    """
    for magic, name, pickled in _MAGIC:
        if head.startswith(magic):
            if pickled:
                raise PickleRefusedError(
                    f"{origin}: {name}; loading one can run code, so none is ever opened; {HOW_TO_CONVERT}"
                )
            raise TensorFormatError(f"{origin}: {name}, not safetensors")


def refuse_pickle_suffix(path: Path) -> None:
    """Raises PickleRefusedError if the name says that the file may hold pickled objects."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise PickleRefusedError(
            f"{path}: {path.suffix} files may hold pickled objects, which can run code when loaded, so none "
            f"is ever opened; {HOW_TO_CONVERT}"
        )


def read_tensors(data: Content, header: TensorHeader) -> dict[str, Tensor]:
    """Tensors of a file by name, sorted; ``header`` as :func:`parse_header` gave it.

    Those of the types that weights are stored in share one copy of the file, or the file itself if it can be
    written to. Others, and what is not aligned in the file, which nothing forbids, are copies.
    """
    found: dict[str, Tensor] = {}
    content = bytearray(data) if memoryview(data).readonly else data
    for name in sorted(header.entries):
        entry = header.entries[name]
        dtype, of_numpy = DTYPES[entry.dtype], _NUMPY.get(entry.dtype)
        if entry.begin == entry.end:
            found[name] = torch.empty(entry.shape, dtype=dtype)
        elif of_numpy is None or entry.begin % dtype.itemsize:
            copy = bytearray(content[entry.begin : entry.end])
            found[name] = torch.frombuffer(copy, dtype=dtype).reshape(entry.shape)
        else:  # in half the time of torch's two calls
            found[name] = torch.from_numpy(np.ndarray(entry.shape, of_numpy, content, entry.begin))
    return found


def refuse_non_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Raises NonFiniteError, naming the first tensor with NaN or infinity and how many values those are."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            count = int((~torch.isfinite(tensor)).sum())
            raise NonFiniteError(
                f"{origin}: tensor {name} holds NaN or infinity ({count} of {tensor.numel()} values)"
            )


def all_finite(data: Content, header: TensorHeader) -> bool:
    """Whether no tensor of the file holds NaN or infinity, told at one look; False also where that is not
    possible, since its tensors are not all of one floating-point type."""
    types = {DTYPES[entry.dtype] for entry in header.entries.values()}
    if len(types) != 1 or (dtype := types.pop()) not in _INFINITIES:
        return False
    begin = min(entry.begin for entry in header.entries.values())
    return _finite_bits(np.frombuffer(data, f"i{dtype.itemsize}", offset=begin), dtype)


def _is_finite(tensor: Tensor) -> bool:
    signed = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.dtype.itemsize]
    return _finite_bits(tensor.detach().contiguous().view(signed).numpy(), tensor.dtype)


def _finite_bits(bits: NDArray[np.signedinteger[Any]], dtype: torch.dtype) -> bool:
    """NaN and infinity have all bits of the exponent set, so as integers they are the largest: of those
    without the sign if read with a sign, of those with it if read without.

    By NumPy, which stays in this thread. torch, unless told to use one thread as the runtime does, shares a
    tensor out to all cores and waits for each: where they are busy, forty times as long as the work takes.
    """
    if not bits.size:
        return True
    infinity, sign = _INFINITIES[dtype], 1 << (8 * bits.itemsize - 1)
    return bool(bits.max() < infinity) and bool(bits.view(f"u{bits.itemsize}").max() < sign + infinity)


def tensor_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file whose bytes depend on nothing but the arguments.

    Wider dtypes first, then by name; keys of the JSON in a fixed order (the library's order of metadata is
    that of a hash table); the header is padded with spaces so that the data is aligned to 8 bytes.
    """
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    parts: list[bytes] = []
    position = 0
    for name in sorted(tensors, key=lambda key: (-tensors[key].element_size(), key)):
        tensor = tensors[name].detach().contiguous()
        content = tensor_bytes(tensor)
        table[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + len(content)],
        }
        parts.append(content)
        position += len(content)
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(_LENGTH, "little"), header, *parts])


def tensor_bytes(tensor: Tensor) -> bytes:
    """Raw little-endian values of a tensor on the CPU, row by row."""
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _parse_json(text: bytes, origin: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise TensorFormatError(f"{origin}: the header names {twice[:NAME_LIMIT]!r} twice")
        return table

    try:
        return dict(json.loads(text.decode(), object_pairs_hook=unique))
    except TensorFormatError:
        raise
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, a number too long, nesting
        raise TensorFormatError(f"{origin}: the header is not JSON: {str(error)[:200]}") from error


def _metadata(value: Any, origin: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise TensorFormatError(f"{origin}: __metadata__ must map names to text")
    return value


def _entry(name: str, value: Any, start: int, origin: str) -> TensorEntry:
    if not _NAME.fullmatch(name):
        raise _bad_entry(origin, name, f"a name is 1..{NAME_LIMIT} printable ASCII characters")
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise _bad_entry(origin, name, "needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        known = ", ".join(DTYPES)
        raise _bad_entry(origin, name, f"dtype {str(dtype)[:32]!r}; known are {known}", DtypeError)
    if not _sizes(shape) or len(shape) > RANK_LIMIT:
        raise _bad_entry(origin, name, f"shape must be at most {RANK_LIMIT} whole numbers from 0")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad_entry(origin, name, "data_offsets must be [begin, end] with begin <= end")
    begin, end = offsets
    wanted = math.prod(shape) * _ITEM_BYTES[dtype]
    if not wanted and math.prod(filter(None, shape)) >= _SIZE_LIMIT:
        raise _bad_entry(origin, name, f"no tensor has shape {shape}, even without values")
    if end - begin != wanted:
        raise _bad_entry(origin, name, f"{end - begin} bytes of data, {dtype} {shape} needs {wanted}")
    return TensorEntry(dtype, tuple(shape), start + begin, start + end)


def _bad_entry(
    origin: str, name: str, problem: str, kind: type[TensorFormatError | DtypeError] = TensorFormatError
) -> TensorFormatError | DtypeError:
    return kind(f"{origin}: tensor {name[:NAME_LIMIT]!r}: {problem}")


def _sizes(values: Any) -> bool:
    # A bool is an int in Python.
    return isinstance(values, list) and not [
        value for value in values if type(value) is not int or not 0 <= value < _SIZE_LIMIT
    ]


def _refuse_gaps(entries: Mapping[str, TensorEntry], start: int, end: int, origin: str) -> None:
    position = start
    for name, entry in entries.items():
        if entry.begin < position:
            raise TensorFormatError(f"{origin}: tensor {name} overlaps the one before it")
        if entry.begin > position:
            raise TensorFormatError(
                f"{origin}: {entry.begin - position} bytes before tensor {name} belong to none"
            )
        position = entry.end
    if position != end:
        last = [*entries][-1] if entries else "the header"
        raise TensorFormatError(
            f"{origin}: the data ends at byte {end}, {last} at byte {position}"
            + (": truncated" if end < position else ": bytes that belong to no tensor")
        )
