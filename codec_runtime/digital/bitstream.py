"""The container of what crosses: a header that names model, cut and shapes, then chunks by importance.

Little-endian. All but the header may be lost from any chunk on; what came before it is still of use.

    header   2s magic "SD", u8 version, u8 point, u8 bits (0: entropy-coded, else the length of a value),
             8s model digest, 8s cut id, u16 channels, u16 height, u16 width of the features,
             u16 height, u16 width of the picture (0: none), u8 chunks, u32 CRC-32C of all that
    chunk    u32 place (top 8 bits) and payload bytes (low 24 bits), u32 CRC-32C, payload

A chunk's checksum goes on from the header's, over its first word and its payload: a chunk of another stream
does not fit. Chunk i of n holds channels i C / n to (i + 1) C / n, rounded down, of the point's order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from codec_runtime.digital.crc32c import crc32c
from codec_runtime.digital.errors import (
    ChecksumError,
    FieldError,
    NotABitstreamError,
    TruncatedError,
    VersionError,
)

MAGIC = b"SD"
VERSION = 1
_HEADER = struct.Struct("<2sBBB8s8sHHHHHB")
_WORD = struct.Struct("<I")
_CHUNK = struct.Struct("<II")
HEADER_BYTES = _HEADER.size + _WORD.size
CHUNK_BYTES = _CHUNK.size
MAX_PAYLOAD = (1 << 24) - 1
MAX_CHUNKS = 64
MAX_VALUES = 1 << 22
"""Values of one stream (4 Mi: a picture of 4 megapixels in the longest prefix): bounds a decoder's memory."""


@dataclass(frozen=True)
class Header:
    """What a stream says about itself.

    Attributes:
        point: operating point; fixed_bits: 0 where entropy-coded, else bits of each value (2 to 8).
        model: digest of the coding tables; cut: id of the cut or of the codec, 8 bytes each.
        channels: features sent, the first ones of the point's order; height, width: of each.
        picture: height and width of the picture that they stand for, (0, 0) where it does not matter.
        chunks: parts that the channels are sent in.
    """

    point: int
    model: bytes
    cut: bytes
    channels: int
    height: int
    width: int
    chunks: int
    fixed_bits: int = 0
    picture: tuple[int, int] = (0, 0)

    def channels_of(self, chunk: int) -> range:
        """Places in the order that a chunk holds."""
        return range(chunk * self.channels // self.chunks, (chunk + 1) * self.channels // self.chunks)

    def fixed_payload(self, chunk: int) -> int:
        """Bytes of a chunk in the fixed-length form."""
        return (len(self.channels_of(chunk)) * self.height * self.width * self.fixed_bits + 7) // 8

    def packed(self) -> bytes:
        """The header with its checksum.

        Raises:
            FieldError: a field does not fit the format.
        """
        _check(self)
        fields = _HEADER.pack(
            MAGIC, VERSION, self.point, self.fixed_bits, self.model, self.cut, self.channels, self.height,
            self.width, *self.picture, self.chunks,
        )
        return fields + _WORD.pack(crc32c(fields))


@dataclass(frozen=True)
class Stream:
    """A parsed stream: ``payloads`` of the leading chunks that arrived, all of them unless it was cut off."""

    header: Header
    payloads: tuple[bytes, ...]

    @property
    def complete(self) -> bool:
        return len(self.payloads) == self.header.chunks

    @property
    def channels(self) -> int:
        """Channels that arrived."""
        arrived = len(self.payloads)
        return self.header.channels_of(arrived - 1).stop if arrived else 0


def pack(header: Header, payloads: Sequence[bytes]) -> bytes:
    """A stream of all chunks.

    Raises:
        FieldError: a field or a payload does not fit the format.
    """
    if len(payloads) != header.chunks:
        raise FieldError(f"{len(payloads)} payloads for {header.chunks} chunks")
    head = header.packed()
    seed = _seed(head)
    parts = [head]
    for place, payload in enumerate(payloads):
        if len(payload) > MAX_PAYLOAD:
            raise FieldError(f"chunk {place}: {len(payload)} bytes, at most {MAX_PAYLOAD} fit")
        word = _WORD.pack(place << 24 | len(payload))
        parts += [word, _WORD.pack(crc32c(payload, crc32c(word, seed))), payload]
    return b"".join(parts)


def parse(data: bytes, *, partial: bool = False, max_values: int = MAX_VALUES) -> Stream:
    """Read a stream; nothing of a size that its header merely claims is allocated.

    Args:
        partial: take the leading chunks that are whole where the rest is missing or altered; the header and
            at least one chunk must be.
        max_values: features that are accepted, sent or not.

    Raises:
        NotABitstreamError, VersionError, TruncatedError, ChecksumError, FieldError: see there.
    """
    header = parse_header(data)
    if header.channels * header.height * header.width > max_values:
        raise FieldError(
            f"{header.channels} x {header.height} x {header.width} values; at most {max_values} are taken"
        )
    seed = _seed(data)
    payloads: list[bytes] = []
    place = HEADER_BYTES
    for chunk in range(header.chunks):
        try:
            payload = _chunk(data, place, chunk, seed)
        except (TruncatedError, ChecksumError):
            if partial and payloads:
                return Stream(header, tuple(payloads))
            raise
        payloads.append(payload)
        place += CHUNK_BYTES + len(payload)
    if place != len(data) and not partial:
        raise FieldError(f"{len(data) - place} bytes behind the last chunk")
    return Stream(header, tuple(payloads))


def parse_header(data: bytes) -> Header:
    """The header alone; errors as of :func:`parse`."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise NotABitstreamError(f"starts with {data[:2].hex() or 'nothing'}, not with {MAGIC.hex()}")
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise VersionError(f"version {data[len(MAGIC)]}; this runtime reads {VERSION}")
    if len(data) < HEADER_BYTES:
        raise TruncatedError(f"{len(data)} bytes; the header has {HEADER_BYTES}")
    (checksum,) = _WORD.unpack_from(data, _HEADER.size)
    if crc32c(data[: _HEADER.size]) != checksum:
        raise ChecksumError("header: the checksum does not fit")
    _, _, point, bits, model, cut, channels, height, width, rows, columns, chunks = _HEADER.unpack_from(data)
    header = Header(
        point=point, model=model, cut=cut, channels=channels, height=height, width=width, chunks=chunks,
        fixed_bits=bits, picture=(rows, columns),
    )
    _check(header)
    return header


def _seed(data: bytes) -> int:
    """The header's checksum, which those of the chunks go on from. (Over fields *and* checksum it would be
    the same number for every header.)"""
    (checksum,) = _WORD.unpack_from(data, _HEADER.size)
    return int(checksum)


def _chunk(data: bytes, place: int, chunk: int, seed: int) -> bytes:
    if len(data) < place + CHUNK_BYTES:
        raise TruncatedError(f"chunk {chunk}: its head is cut off")
    word, checksum = _CHUNK.unpack_from(data, place)
    start = place + CHUNK_BYTES
    length = word & MAX_PAYLOAD
    if len(data) < start + length:
        raise TruncatedError(f"chunk {chunk}: {len(data) - start} of {length} bytes")
    payload = data[start : start + length]
    if word >> 24 != chunk or crc32c(payload, crc32c(_WORD.pack(word), seed)) != checksum:
        raise ChecksumError(f"chunk {chunk}: the checksum does not fit")
    return payload


def _check(header: Header) -> None:
    sides = (header.channels, header.height, header.width)
    if not all(1 <= side <= 0xFFFF for side in sides):
        raise FieldError(f"features of {' x '.join(map(str, sides))}: want 1 to 65535 each")
    if not all(0 <= side <= 0xFFFF for side in header.picture):
        raise FieldError(f"picture of {header.picture[0]} x {header.picture[1]}: want 0 to 65535 each")
    if not 1 <= header.chunks <= min(MAX_CHUNKS, header.channels):
        raise FieldError(f"{header.chunks} chunks of {header.channels} channels, at most {MAX_CHUNKS}")
    if header.fixed_bits != 0 and not 2 <= header.fixed_bits <= 8:
        raise FieldError(f"{header.fixed_bits} bits a value; want 0 (entropy-coded) or 2 to 8")
    if not 0 <= header.point <= 0xFF or len(header.model) != 8 or len(header.cut) != 8:
        raise FieldError("want a point of 0 to 255 and eight bytes each for model and cut")
