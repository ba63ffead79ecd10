"""Aligned PER primitives (ITU-T X.691) shared by the E2AP and E2SM-KPM codecs: a bit reader and a bit writer.

Only what those two protocols use. Everything a reader meets in bytes from the network ends in a value or in
:class:`E2DecodeError`; nothing else is raised.
"""

from __future__ import annotations

import math
import struct


class E2DecodeError(ValueError):
    """Bytes are not the E2 message they claim to be.

    Attributes:
        message: what was wrong and what would be right.
        offset: byte offset in the bytes that were given to the decoder, where reading stopped; too small by
            the length octets of the fragments (16 KiB each) of an open type before it.
        field: dotted name of the field that was being read.
    """

    def __init__(self, message: str, offset: int, field: str) -> None:
        super().__init__(f"{field} at byte {offset}: {message}")
        self.message = message
        self.offset = offset
        self.field = field


class E2EncodeError(ValueError):
    """A value has no encoding: out of the range or size the ASN.1 type allows."""


FRAGMENT = 16384
"""Units (octets or items) of a length-determinant fragment, X.691 clause 11.9.3.8."""

MAX_INTEGER_OCTETS = 8
"""An unconstrained INTEGER of more octets is refused: no field read here needs it, and a hostile one would
cost time and memory (and break Python's conversion to text beyond 4300 digits)."""


class AperReader:
    """Reads aligned PER fields from ``data``, left to right.

    Attributes:
        data: the encoding.
        pos: next bit to read, 0 is the most significant bit of the first byte.
        field: set by the decoder, names the field in an error.
        base: offset of ``data`` in the bytes that errors count in.
    """

    __slots__ = ("base", "data", "end", "field", "pos")

    def __init__(self, data: bytes, field: str = "", base: int = 0) -> None:
        self.data = data
        self.end = len(data) * 8
        self.pos = 0
        self.field = field
        self.base = base

    def error(self, message: str) -> E2DecodeError:
        """The error to raise about the field being read."""
        return E2DecodeError(message, self.base + min(self.pos >> 3, len(self.data)), self.field)

    def bits(self, count: int) -> int:
        """Unsigned integer of the next ``count`` bits, not aligned."""
        pos = self.pos
        stop = pos + count
        if stop > self.end:
            raise self.error(f"{count} bits wanted, {self.end - pos} left")
        self.pos = stop
        last = (stop + 7) >> 3
        word = int.from_bytes(self.data[pos >> 3 : last], "big")
        return (word >> ((last << 3) - stop)) & ((1 << count) - 1)

    def align(self) -> None:
        """Skip to the next byte boundary."""
        self.pos = (self.pos + 7) & ~7

    def octets(self, count: int) -> bytes:
        """The next ``count`` whole bytes, after alignment."""
        start = (self.pos + 7) >> 3
        stop = start + count
        if stop > len(self.data):
            raise self.error(f"{count} bytes wanted, {max(len(self.data) - start, 0)} left")
        self.pos = stop << 3
        return self.data[start:stop]

    def uint(self, octets: int) -> int:
        """Unsigned integer of the next ``octets`` aligned bytes."""
        return int.from_bytes(self.octets(octets), "big")

    def length(self) -> int:
        """General length determinant (clause 11.9.3.6-7); fragments are refused, see :meth:`octet_string`."""
        first = self.uint(1)
        if first < 0x80:
            return first
        if first < 0xC0:
            return ((first & 0x3F) << 8) | self.uint(1)
        raise self.error(f"a list of {FRAGMENT} or more items (fragmented) is not supported")

    def octet_string(self) -> bytes:
        """Octets behind a general length determinant, fragments joined (OCTET STRING, open type)."""
        first = self.uint(1)
        if first < 0x80:
            return self.octets(first)
        if first < 0xC0:
            return self.octets(((first & 0x3F) << 8) | self.uint(1))
        parts = []
        while first >= 0xC0:
            units = first & 0x3F
            if not 1 <= units <= 4:
                raise self.error(f"fragment of {units} x 16 KiB: 1 to 4 are legal")
            parts.append(self.octets(units * FRAGMENT))
            first = self.uint(1)
        last = first if first < 0x80 else ((first & 0x3F) << 8) | self.uint(1)
        parts.append(self.octets(last))
        return b"".join(parts)

    def open(self, field: str) -> AperReader:
        """A reader of the octets behind a length determinant (open type, OCTET STRING)."""
        self.field = field
        content = self.octet_string()
        return AperReader(content, field, self.base + (self.pos >> 3) - len(content))

    def sized_uint(self, length_bits: int) -> int:
        """Constrained whole number with a range over 64K: length of ``length_bits`` bits, then octets."""
        return self.uint(self.bits(length_bits) + 1)

    def unbounded_int(self) -> int:
        """Unconstrained INTEGER: general length, then two's complement octets."""
        octets = self.length()
        if not 1 <= octets <= MAX_INTEGER_OCTETS:
            raise self.error(f"INTEGER of {octets} octets: 1 to {MAX_INTEGER_OCTETS} are plausible")
        return int.from_bytes(self.octets(octets), "big", signed=True)

    def small_index(self) -> int:
        """Normally small non-negative whole number (clause 11.6): extension alternatives and counts."""
        if self.bits(1):
            return self.uint(self._small_length())
        return self.bits(6)

    def _small_length(self) -> int:
        octets = self.length()
        if not 1 <= octets <= MAX_INTEGER_OCTETS:
            raise self.error(f"whole number of {octets} octets: 1 to {MAX_INTEGER_OCTETS} are plausible")
        return octets

    def extensions(self) -> dict[int, AperReader]:
        """Extension additions of a SEQUENCE whose extension bit was set, by index (clause 19.7-19.9)."""
        if self.bits(1):
            raise self.error("more than 64 extension additions: no version has as many")
        count = self.bits(6) + 1
        present = self.bits(count)
        field = self.field
        return {index: self.open(field) for index in range(count) if present >> (count - 1 - index) & 1}

    def skip_extensions(self) -> None:
        """Skip the extension additions of a SEQUENCE whose extension bit was set."""
        self.extensions()

    def extensible_uint(self, lower: int, bits: int) -> int:
        """Extensible constrained INTEGER with lower bound ``lower`` and a root field of ``bits`` bits.

        Root fields of 8 (a range of exactly 256) and 16 bits are aligned (clause 11.5.7); values outside the
        root come unconstrained.
        """
        if self.bits(1):
            return self.unbounded_int()
        return lower + (self.uint(bits >> 3) if bits in (8, 16) else self.bits(bits))

    def extensible_enum(self, bits: int) -> int | None:
        """Index (``bits`` bits) of an extensible ENUMERATED; None for an extension value."""
        if self.bits(1):
            self.small_index()
            return None
        return self.bits(bits) if bits else 0

    def printable_string(self, lower: int, bits: int) -> str:
        """PrintableString of extensible size: ``bits`` bits of size from ``lower``, characters."""
        if self.bits(1):
            raw = self.octet_string()
        else:
            size = lower + (self.uint(2) if bits > 8 else self.bits(bits))
            raw = self.octets(size) if size else b""
        try:
            return raw.decode("ascii")
        except UnicodeDecodeError as error:
            raise self.error(f"PrintableString with byte 0x{raw[error.start]:02x}") from error

    def real(self) -> float:
        """REAL: general length, then the contents octets of DER (X.690 clause 8.5)."""
        first = self.uint(1)
        if first >= 0x80:
            raise self.error(f"REAL of {first} or more octets: none is longer than 127")
        raw = self.octets(first)
        try:
            return decode_real(raw)
        except (ValueError, OverflowError) as error:
            raise self.error(f"REAL {raw.hex()}: {error}") from error


_SPECIAL_REALS = {0x40: math.inf, 0x41: -math.inf, 0x42: math.nan, 0x43: -0.0}
_BASE_BITS = (1, 3, 4)
_DECIMAL = frozenset("0123456789.eE+-")


def decode_real(raw: bytes) -> float:
    """Value of the contents octets of a REAL (X.690 clause 8.5): binary, decimal or special.

    Raises:
        ValueError: not a REAL. OverflowError: beyond a double.
    """
    if not raw:
        return 0.0
    first = raw[0]
    if first & 0xBC == 0x80 and first & 3 < 2 and len(raw) > 3:
        # The common case: base 2, no scale factor, exponent of one or two octets.
        stop = (first & 3) + 2
        value = math.ldexp(int.from_bytes(raw[stop:], "big"), int.from_bytes(raw[1:stop], "big", signed=True))
        return -value if first & 0x40 else value
    if first & 0x80:
        exponent_octets = (first & 3) + 1
        start = 1
        if exponent_octets == 4:
            if len(raw) < 2:
                raise ValueError("exponent length is missing")
            exponent_octets = raw[1]
            start = 2
        stop = start + exponent_octets
        if exponent_octets == 0 or stop >= len(raw):
            raise ValueError("exponent or mantissa is missing")
        base = (first >> 4) & 3
        if base == 3:
            raise ValueError("reserved base")
        exponent = int.from_bytes(raw[start:stop], "big", signed=True) * _BASE_BITS[base] + ((first >> 2) & 3)
        value = math.ldexp(int.from_bytes(raw[stop:], "big"), exponent)
        return -value if first & 0x40 else value
    if first & 0x40:
        if len(raw) != 1 or first not in _SPECIAL_REALS:
            raise ValueError("unknown special value")
        return _SPECIAL_REALS[first]
    if first not in (1, 2, 3):
        raise ValueError("unknown decimal form")
    text = raw[1:].decode("ascii").strip().replace(",", ".")
    if not _DECIMAL.issuperset(text):
        raise ValueError("not a number")
    value = float(text)
    if math.isinf(value):
        raise OverflowError("beyond a double")
    return value


def encode_real(value: float) -> bytes:
    """Contents octets of a REAL in base 2 with an odd mantissa (X.690 clause 11.3, the canonical form)."""
    if value == 0.0:
        return b"\x43" if math.copysign(1.0, value) < 0 else b""
    if math.isinf(value):
        return b"\x40" if value > 0 else b"\x41"
    if math.isnan(value):
        return b"\x42"
    (word,) = struct.unpack(">Q", struct.pack(">d", abs(value)))
    fraction = word & ((1 << 52) - 1)
    biased = word >> 52
    mantissa = fraction | (1 << 52) if biased else fraction
    exponent = (biased or 1) - 1075
    zeros = (mantissa & -mantissa).bit_length() - 1
    mantissa >>= zeros
    exponent += zeros
    wide = not -128 <= exponent <= 127
    head = 0x80 | (0x40 if value < 0 else 0) | (1 if wide else 0)
    return b"".join(
        (
            bytes((head,)),
            exponent.to_bytes(2 if wide else 1, "big", signed=True),
            mantissa.to_bytes((mantissa.bit_length() + 7) >> 3, "big"),
        )
    )


def length_determinant(length: int) -> bytes:
    """General length determinant of up to 16383 units (X.691 clause 11.9.3.6-7)."""
    if length < 0x80:
        return bytes((length,))
    if length < FRAGMENT:
        return (0x8000 | length).to_bytes(2, "big")
    raise E2EncodeError(f"length {length}: {FRAGMENT} and more need fragments")


def open_octets(content: bytes) -> bytes:
    """``content`` behind its length determinant, in fragments when it is 16 KiB or longer."""
    if len(content) < FRAGMENT:
        return length_determinant(len(content)) + content
    parts = []
    start = 0
    while (units := min((len(content) - start) // FRAGMENT, 4)) > 0:
        stop = start + units * FRAGMENT
        parts += [bytes((0xC0 | units,)), content[start:stop]]
        start = stop
    rest = content[start:]
    return b"".join((*parts, length_determinant(len(rest)), rest))


class AperWriter:
    """Collects aligned PER fields; :meth:`done` gives the bytes, zero-padded to a whole octet."""

    __slots__ = ("_free", "_out", "_partial")

    def __init__(self) -> None:
        self._out = bytearray()
        self._partial = 0
        self._free = 8

    def bits(self, value: int, count: int) -> AperWriter:
        """Append ``value`` in ``count`` bits, not aligned."""
        if value < 0 or value >> count:
            raise E2EncodeError(f"{value} does not fit {count} bits")
        while count:
            take = min(count, self._free)
            count -= take
            self._free -= take
            self._partial |= ((value >> count) & ((1 << take) - 1)) << self._free
            if self._free == 0:
                self._out.append(self._partial)
                self._partial, self._free = 0, 8
        return self

    def align(self) -> AperWriter:
        """Pad with zero bits to a byte boundary."""
        if self._free < 8:
            self._out.append(self._partial)
            self._partial, self._free = 0, 8
        return self

    def octets(self, raw: bytes) -> AperWriter:
        """Append whole bytes after alignment."""
        self.align()
        self._out += raw
        return self

    def uint(self, value: int, octets: int) -> AperWriter:
        """Append an unsigned integer in ``octets`` aligned bytes."""
        if value < 0 or value >> (octets * 8):
            raise E2EncodeError(f"{value} does not fit {octets} bytes")
        return self.octets(value.to_bytes(octets, "big"))

    def sized_uint(self, value: int, length_bits: int, max_octets: int) -> AperWriter:
        """Append a constrained whole number of a range over 64K: ``length_bits`` bits of length, octets."""
        octets = max((value.bit_length() + 7) >> 3, 1)
        if value < 0 or octets > max_octets:
            raise E2EncodeError(f"{value} does not fit {max_octets} bytes")
        return self.bits(octets - 1, length_bits).octets(value.to_bytes(octets, "big"))

    def unbounded_int(self, value: int) -> AperWriter:
        """Append an unconstrained INTEGER."""
        octets = ((value if value >= 0 else ~value).bit_length() >> 3) + 1
        return self.octets(bytes((octets,)) + value.to_bytes(octets, "big", signed=True))

    def done(self) -> bytes:
        """The encoding; one zero octet if nothing was written (X.691 clause 11.1)."""
        self.align()
        return bytes(self._out) or b"\0"
