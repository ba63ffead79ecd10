"""What crosses a published cut <-> bytes, whichever way the cut does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from codec_runtime.digital.errors import FieldError
from codec_runtime.digital.feature_codec import FeatureCodec
from codec_runtime.split.streams import Floats, StreamKey, decode_tensors, encode_tensors

Form = Literal["eight-bit", "entropy-coded", "fixed-length", "shortened"]
"""How a stream was made. The last two are what a cap made of features that would have exceeded it."""


@dataclass(frozen=True)
class Arrived:
    """What a stream held: tensors as the tail takes them."""

    tensors: list[Floats]
    form: Form


class Coder(Protocol):
    """Both ends of what crosses."""

    def encode(self, tensors: Sequence[Floats]) -> bytes:
        """Raises ValueError (FeatureError, CapError): they cannot be sent."""

    def decode(self, data: bytes) -> Arrived:
        """Raises BitstreamError: its subclass and message say what is wrong."""


@dataclass(frozen=True)
class EightBitCoder:
    """Streams of :mod:`codec_runtime.split.streams`.

    Attributes:
        shapes: of the tensors; pictures: which of them are the input itself; key: what streams name.
    """

    shapes: tuple[tuple[int, ...], ...]
    pictures: tuple[bool, ...]
    key: StreamKey

    def encode(self, tensors: Sequence[Floats]) -> bytes:
        return encode_tensors(tensors, self.pictures, self.key)

    def decode(self, data: bytes) -> Arrived:
        return Arrived(decode_tensors(data, self.shapes, self.key), "eight-bit")


@dataclass(frozen=True)
class SqueezedCoder:
    """One operating point of a squeezed cut: a stream of :mod:`codec_runtime.digital.bitstream`.

    Attributes:
        codec: its tables; shape: (1, m, h, w) of what crosses; cap_bytes: of a stream.
    """

    codec: FeatureCodec
    point: int
    shape: tuple[int, ...]
    cap_bytes: int

    def encode(self, tensors: Sequence[Floats]) -> bytes:
        (squeezed,) = tensors
        return self.codec.encode(squeezed[0], self.point, cap_bytes=self.cap_bytes).data

    def decode(self, data: bytes) -> Arrived:
        if len(data) > self.cap_bytes:
            raise FieldError(f"{len(data)} bytes; the cap of point {self.point} is {self.cap_bytes}")
        found = self.codec.decode(data)
        header = found.header
        said = (1, self.codec.tables.channels, header.height, header.width)
        if header.point != self.point or said != self.shape:
            raise FieldError(f"point {header.point} of {said}; want point {self.point} of {self.shape}")
        form: Form = "entropy-coded"
        if found.channels < int(self.codec.tables.sent[self.point]):
            form = "shortened"
        elif header.fixed_bits:
            form = "fixed-length"
        return Arrived([found.features[None]], form)
