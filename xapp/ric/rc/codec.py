"""RC octet strings as trees of plain values, and back (value notation: :mod:`xapp.ric.rc`)."""

from __future__ import annotations

from typing import Any, Final

from xapp.ric.aper import E2DecodeError
from xapp.ric.asn1 import Asn1Type, encode
from xapp.ric.asn1.core import MAX_DEPTH, Reader, under
from xapp.ric.rc.function_schema import FUNCTION_DEFINITION
from xapp.ric.rc.schema import CONTROL_HEADER, CONTROL_MESSAGE, CONTROL_OUTCOME

MAX_NESTING: Final = 80
"""Nested values of one message. RAN parameters contain RAN parameters; the slice-level PRB quota, the deepest
control action of the specification, takes 42."""


def _decode(kind: Asn1Type, raw: bytes, name: str) -> dict[str, Any]:
    # The engine's limit is for service models without recursion: start below zero.
    reader = Reader(raw, MAX_DEPTH - MAX_NESTING)
    try:
        value: dict[str, Any] = kind.read(reader)
    except E2DecodeError as error:
        raise under(name, error) from None
    used = max((reader.pos + 7) >> 3, 1)
    if used < len(raw):
        raise E2DecodeError(f"{len(raw) - used} bytes are left over behind the value", used, name)
    return value


def decode_header(raw: bytes) -> dict[str, Any]:
    """E2SM-RC-ControlHeader, any format.

    Raises:
        E2DecodeError: malformed, nested deeper than :data:`MAX_NESTING`, or followed by other bytes. So do
            the other decoders.
    """
    return _decode(CONTROL_HEADER, raw, "E2SM-RC-ControlHeader")


def decode_message(raw: bytes) -> dict[str, Any]:
    """E2SM-RC-ControlMessage, any format."""
    return _decode(CONTROL_MESSAGE, raw, "E2SM-RC-ControlMessage")


def decode_outcome(raw: bytes) -> dict[str, Any]:
    """E2SM-RC-ControlOutcome, any format."""
    return _decode(CONTROL_OUTCOME, raw, "E2SM-RC-ControlOutcome")


def decode_function(raw: bytes) -> dict[str, Any]:
    """E2SM-RC-RANFunctionDefinition: the RANfunction-Description of RC in an E2 setup."""
    return _decode(FUNCTION_DEFINITION, raw, "E2SM-RC-RANFunctionDefinition")


def encode_header(value: dict[str, Any]) -> bytes:
    """As :func:`decode_header` reads it.

    Raises:
        E2EncodeError: ``value`` is none; the message names the component. So do the other encoders.
    """
    return encode(CONTROL_HEADER, value)


def encode_message(value: dict[str, Any]) -> bytes:
    """As :func:`decode_message` reads it."""
    return encode(CONTROL_MESSAGE, value)


def encode_outcome(value: dict[str, Any]) -> bytes:
    """As :func:`decode_outcome` reads it."""
    return encode(CONTROL_OUTCOME, value)


def encode_function(value: dict[str, Any]) -> bytes:
    """As :func:`decode_function` reads it."""
    return encode(FUNCTION_DEFINITION, value)
