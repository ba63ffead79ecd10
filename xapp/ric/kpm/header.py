"""KPM indication header format 1: when the collection started, and who sent it."""

from __future__ import annotations

from xapp.ric.aper import AperReader, E2DecodeError
from xapp.ric.kpm.model import KpmHeader

NTP_UNIX_OFFSET_S = 2_208_988_800
"""From 1900, where NTP time starts, to 1970 (RFC 4330)."""
_NTP_ERA_S = 1 << 32


def ntp_to_unix(stamp: bytes) -> float:
    """Unix seconds of a 4- or 8-byte NTP time stamp; a clear top bit means the era from 2036 (RFC 4330)."""
    seconds = int.from_bytes(stamp[:4], "big")
    if not stamp[0] & 0x80:
        seconds += _NTP_ERA_S
    fraction = int.from_bytes(stamp[4:8], "big") / _NTP_ERA_S
    return seconds - NTP_UNIX_OFFSET_S + fraction


def _read_header(data: bytes, stamp_bytes: int) -> KpmHeader:
    """Header read with a time stamp of the given size; it must take all of ``data``."""
    reader = AperReader(data, "indicationHeader")
    outer_extended = reader.bits(1)
    if reader.bits(1):
        raise reader.error("an unknown header format: format 1 is known")
    extended, options = reader.bits(1), reader.bits(4)
    reader.field = "colletStartTime"
    stamp = reader.octets(stamp_bytes)
    texts = ["", "", "", ""]
    sizes = (("fileFormatversion", 8, 4), ("senderName", 4, 9), ("senderType", 2, 4), ("vendorName", 1, 6))
    for index, (name, mask, bits) in enumerate(sizes):
        if options & mask:
            reader.field = name
            texts[index] = reader.printable_string(0, bits)
    reader.field = "indicationHeader"
    if extended:
        reader.skip_extensions()
    if outer_extended:
        reader.skip_extensions()
    reader.align()
    if reader.pos != reader.end:
        raise reader.error(f"{len(data) - (reader.pos >> 3)} bytes behind the header")
    return KpmHeader(ntp_to_unix(stamp), stamp, *texts)


def decode_kpm_header(data: bytes, stamp_bytes: int = 8) -> KpmHeader:
    """Indication header format 1; its time stamp of 8 bytes (from v3.00) or 4 (before) is told by length.

    Args:
        stamp_bytes: 4 or 8, tried first: a few headers with optional texts can be read either way.

    Raises:
        E2DecodeError: neither fits.
    """
    if len(data) in {5, 9} and data[0] < 2:
        # No optional part, and no extension: what RANs and the lab send with every indication.
        return KpmHeader(ntp_to_unix(data[1:]), data[1:])
    try:
        return _read_header(data, stamp_bytes)
    except E2DecodeError as expected:
        try:
            return _read_header(data, 12 - stamp_bytes)
        except E2DecodeError as other:
            # Of the two readings, the one that came further is what the sender meant.
            error = max(expected, other, key=lambda error: error.offset)
            text = f"no header with a time stamp of 4 or 8 bytes: {error.message}"
            raise E2DecodeError(text, error.offset, error.field) from None
