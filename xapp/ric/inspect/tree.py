"""Trees of decoded values (:mod:`xapp.ric.asn1`) and their JSON form.

JSON: objects for SEQUENCE, arrays for SEQUENCE OF, ``[name, value]`` for CHOICE, ``{"hex": ...}`` for OCTET
STRING, ``[{"hex": ...}, bits]`` for BIT STRING (left-aligned), null for NULL, strings for ENUMERATED. An
octet string that was decoded further is ``{"hex", "pdu", "version", "value"}``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xapp.ric.asn1 import Bits
from xapp.ric.kpm.versions import KpmVersion


@dataclass(frozen=True, slots=True)
class Embedded:
    """An octet string of E2AP that a service model gives a meaning.

    Attributes:
        octets: as sent.
        pdu: what it is, as the service model's specification names it.
        version: of KPM; None for other service models.
        value: decoded; None if that failed.
        error: why it failed; empty if it did not.
    """

    octets: bytes
    pdu: str
    version: KpmVersion | None
    value: Any
    error: str = ""


def bits_octets(bits: Bits) -> bytes:
    """A BIT STRING as octets, the first bit first, padded with zero bits."""
    size = (bits.size + 7) >> 3
    return (bits.value << (size * 8 - bits.size)).to_bytes(size, "big")


def to_json(value: Any) -> Any:  # noqa: PLR0911 - a case a kind
    """``value`` as what :mod:`json` writes."""
    match value:
        case Embedded():
            shown: dict[str, Any] = {"hex": value.octets.hex(), "pdu": value.pdu}
            if value.version is not None:
                shown["version"] = value.version
            if value.error:
                return {**shown, "error": value.error}
            return {**shown, "value": to_json(value.value)}
        case Bits():
            return [{"hex": bits_octets(value).hex()}, value.size]
        case bytes():
            return {"hex": value.hex()}
        case dict():
            return {name: to_json(part) for name, part in value.items()}
        case list():
            return [to_json(part) for part in value]
        case tuple():
            return [value[0], to_json(value[1])]
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no word for it.
    return value
