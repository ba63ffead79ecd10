"""What a lab run leaves of aligned tokens: ``alignments.jsonl``, one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from xapp.lab.records import read_lines

ALIGNMENTS_FILE: Final = "alignments.jsonl"


class Alignment(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request of a user to ``align``.

    Attributes:
        encoder: frozen, of the device. adapter_version, skb_version: that the site answered with.
        samples: of the request. confidence: their mean, 0..1.
        drifted: the pictures' encoder was turned.
    """

    time_ns: int
    elapsed_s: float
    user: str
    encoder: str
    adapter_version: int
    skb_version: int
    samples: int
    confidence: float
    drifted: bool


def read_alignments(path: Path) -> list[Alignment]:
    """All of a run; a last line cut off by a killed process is left out.

    Raises:
        ValueError: another line is not an alignment; names file and line.
    """
    return read_lines(path, Alignment)
