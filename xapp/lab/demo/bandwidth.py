"""Bandwidth ratio: complex channel symbols for each colour value of a picture."""

from __future__ import annotations

from codec_runtime.contract.directives import RATE_DENOMINATOR


def rate_text(prefix: float | None) -> str:
    """R = prefix / 96 as ``1/x``; a dash for none."""
    if not prefix or prefix <= 0:
        return "-"
    return f"1/{RATE_DENOMINATOR / prefix:.3g}"
