"""The label of a measurement (MeasurementLabel, E2SM-KPM clause 8.3.11) as text.

Text is made of the interface's own field names: ``fiveQI=9``, ``sliceID=01000002,sUM``; a label that says "no
label" is empty. The extension additions of v2.02 and newer (``ssbIndex``, ``nonGoB-BFmode-Index``,
``mIMO-mode-Index``) and of v5.00 (``cellGlobalID``, ``beamID``) are read, later ones are skipped.
"""

from __future__ import annotations

from collections.abc import Callable

from xapp.ric.aper import AperReader


def _integer(lower: int, bits: int) -> Callable[[AperReader], str]:
    """Reader of an extensible constrained INTEGER."""
    return lambda reader: f"={reader.extensible_uint(lower, bits)}"


def _flag(reader: AperReader) -> str:
    reader.extensible_enum(0)
    return ""


def _octet(reader: AperReader) -> str:
    return f"={reader.uint(1)}"


def _plmn(reader: AperReader) -> str:
    return f"={reader.octets(3).hex()}"


def _start_end(reader: AperReader) -> str:
    index = reader.extensible_enum(1)
    return "=" + ("?" if index is None else ("start", "end")[index])


def _slice(reader: AperReader) -> str:
    """S-NSSAI: SST of one octet (not aligned), optional SD of three."""
    extended, has_differentiator = reader.bits(1), reader.bits(1)
    text = f"={reader.bits(8):02x}"
    if has_differentiator:
        text += reader.octets(3).hex()
    if extended:
        reader.skip_extensions()
    return text


def _cell_global_id(reader: AperReader) -> str:
    """CGI: PLMN and a cell identity of 36 bits (NR) or 28 bits (E-UTRA)."""
    if reader.bits(1):
        return f"=?{reader.small_index()}"
    bits, digits = ((36, 9), (28, 7))[reader.bits(1)]
    extended = reader.bits(1)
    text = f"={reader.octets(3).hex()}-"
    reader.align()
    text += f"{reader.bits(bits):0{digits}x}"
    if extended:
        reader.skip_extensions()
    return text


def _beam(reader: AperReader) -> str:
    """Beam-ID: NR-SSB-Index 0..63, or an alternative newer than this decoder."""
    return f"=?{reader.small_index()}" if reader.bits(1) else f"={reader.bits(6)}"


_FIELDS: tuple[tuple[str, Callable[[AperReader], str]], ...] = (
    ("noLabel", _flag),
    ("plmnID", _plmn),
    ("sliceID", _slice),
    ("fiveQI", _integer(0, 8)),
    ("qFI", _integer(0, 6)),
    ("qCI", _octet),
    ("qCImax", _octet),
    ("qCImin", _octet),
    ("aRPmax", _integer(1, 4)),
    ("aRPmin", _integer(1, 4)),
    ("bitrateRange", _integer(1, 16)),
    ("layerMU-MIMO", _integer(1, 16)),
    ("sUM", _flag),
    ("distBinX", _integer(1, 16)),
    ("distBinY", _integer(1, 16)),
    ("distBinZ", _integer(1, 16)),
    ("preLabelOverride", _flag),
    ("startEndInd", _start_end),
    ("min", _flag),
    ("max", _flag),
    ("avg", _flag),
)
_ADDITIONS: tuple[tuple[str, Callable[[AperReader], str]], ...] = (
    ("ssbIndex", _integer(1, 16)),
    ("nonGoB-BFmode-Index", _integer(1, 16)),
    ("mIMO-mode-Index", _integer(1, 1)),
    ("cellGlobalID", _cell_global_id),
    ("beamID", _beam),
)

LABEL_BITS = len(_FIELDS)
"""Optional fields in the root of MeasurementLabel."""


def read_label(reader: AperReader) -> str:
    """Text of the next MeasurementLabel, empty for "no label".

    Raises:
        E2DecodeError: malformed.
    """
    within = reader.field
    extended = reader.bits(1)
    present = reader.bits(LABEL_BITS)
    parts = []
    for index, (name, read) in enumerate(_FIELDS):
        if present >> (LABEL_BITS - 1 - index) & 1:
            reader.field = f"{within}.measLabel.{name}"
            text = read(reader)
            if index:  # noLabel says nothing
                parts.append(name + text)
    reader.field = within
    if extended:
        additions = reader.extensions()
        for index, (name, read) in enumerate(_ADDITIONS):
            if index in additions:
                additions[index].field = f"{within}.measLabel.{name}"
                parts.append(name + read(additions[index]))
    return ",".join(parts)
