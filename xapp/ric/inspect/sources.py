"""What a person has at hand, to messages: hex in any dress, base64, binary, hex line by line, captures."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xapp.ric.aper import E2DecodeError
from xapp.ric.inspect.capture import captured_messages, is_capture
from xapp.ric.inspect.message import inspect_message
from xapp.ric.kpm.versions import KpmVersion

MAX_INPUT_BYTES = 256 << 20

_SHORTEST_BASE64 = 8
_DRESS = re.compile(r"0[xX]|\\[xX]|[\s:,;'\"{}()\[\]]+")
_HEX = re.compile(r"[0-9a-fA-F]*")
_DUMP_LINE = re.compile(r"\s*([0-9a-fA-F]{4,8})(?::\s?|\s{2,3})((?:[0-9a-fA-F]{2}\s?)+)(?:\s{1,3}.*)?")


class InputError(ValueError):
    """The input holds no message; says what would."""


@dataclass(frozen=True, slots=True)
class Source:
    """One message and where it was.

    Attributes:
        octets: empty if ``error`` says why there are none.
        where: ``line 3``, ``packet 17, SCTP ...``; empty for a single one.
        error, offset: a line that is no hex: why, and at which character.
    """

    octets: bytes
    where: str = ""
    error: str = ""
    offset: int = 0


def from_hex(text: str) -> bytes:
    r"""Octets of hex digits; spaces, newlines, colons, commas, ``0x``, ``\x``, quotes, brackets do not count.

    Raises:
        ValueError: anything else is there, or a digit is missing; ``args[1]`` is the offset in ``text``.
    """
    digits = _DRESS.sub("", text)
    wrong = _HEX.match(digits)
    if wrong is None or wrong.end() < len(digits):
        at = wrong.end() if wrong else 0
        raise ValueError(f"{digits[at]!r} is no hex digit", max(text.find(digits[at]), 0))
    if len(digits) % 2:
        raise ValueError(f"{len(digits)} hex digits: an even number is expected", len(text.rstrip()))
    return bytes.fromhex(digits)


def from_base64(text: str) -> bytes | None:
    """Octets of base64, plain or URL-safe; None if ``text`` is none."""
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    if len(plain) < _SHORTEST_BASE64:
        return None
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True) or None
    except binascii.Error:
        return None


def _from_dump(lines: list[str]) -> bytes | None:
    """Octets of a hex dump (``xxd``, ``hexdump -C``, Wireshark): offsets that count what came before."""
    octets = b""
    for line in lines:
        match = _DUMP_LINE.fullmatch(line)
        if match is None or int(match[1], 16) != len(octets):
            return None
        octets += bytes.fromhex("".join(match[2].split()))
    return octets


def _is_message(octets: bytes, version: KpmVersion | None, pdu: str | None) -> bool:
    try:
        inspect_message(octets, version=version, pdu=pdu)
    except E2DecodeError:
        return False
    return True


def _from_text(text: str, version: KpmVersion | None, pdu: str | None) -> Iterator[Source]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise InputError("nothing but blank lines and comments: hex or base64 is expected")
    dump = _from_dump(lines)
    if dump is not None:
        yield Source(dump)
        return
    whole, encoded = None, None
    try:
        whole = from_hex("".join(lines))
    except ValueError as error:
        encoded = from_base64("".join(lines))
        if encoded is None and len(lines) == 1:
            raise InputError(
                f"neither a file nor hex ({error.args[0]}) nor base64: {text.strip():.40}"
            ) from error
    # One message over several lines, or one a line? What can be decoded as a whole is one.
    octets = whole if whole is not None else encoded
    if octets is not None and (len(lines) == 1 or _is_message(octets, version, pdu)):
        yield Source(octets)
        return
    yield from _line_by_line(text)


def _line_by_line(text: str) -> Iterator[Source]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"line {number}"
        try:
            yield Source(from_hex(line), where)
        except ValueError as error:
            octets = from_base64(line)
            if octets is not None:
                yield Source(octets, where)
            else:
                yield Source(b"", where, str(error.args[0]), error.args[1])


def read_messages(
    content: bytes, *, version: KpmVersion | None = None, pdu: str | None = None
) -> Iterator[Source]:
    """Messages in ``content``: a capture, text, or else one binary message.

    Args:
        version, pdu: as for :func:`~xapp.ric.inspect.message.inspect_message`; they help to tell a message
            over several lines from a message a line.

    Raises:
        InputError: there is none.
    """
    if not content:
        raise InputError("nothing to read: a file, hex or base64 is expected")
    if is_capture(content):
        found = False
        for octets, where in captured_messages(content):
            found = True
            yield Source(octets, where)
        if not found:
            raise InputError(
                "a capture without E2AP: looked for are SCTP with payload protocol 70 to 72 or port 36421 or "
                "36422, RMR over TCP, and srsRAN's own captures"
            )
        return
    if all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in content):
        yield from _from_text(content.decode("ascii"), version, pdu)
        return
    yield Source(content)


def read_argument(argument: str) -> bytes:
    """The content of the file named ``argument``, or ``argument`` itself where there is no such file.

    Raises:
        InputError: the file cannot be read, or is larger than :data:`MAX_INPUT_BYTES`.
    """
    path = Path(argument)
    if not argument.strip():  # Path("") is the working folder
        return b""
    try:
        if not path.exists():
            return argument.encode()
    except OSError:  # longer than a name may be: hex
        return argument.encode()
    try:
        if path.stat().st_size > MAX_INPUT_BYTES:
            raise InputError(f"{argument}: {path.stat().st_size} bytes, at most {MAX_INPUT_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{argument}: {error.strerror}") from error
