"""Bandwidth ratio: complex channel symbols for each colour value of a picture."""

from __future__ import annotations

LATENT_CHANNELS = 96
"""A prefix of k latent channels is a bandwidth ratio R = k / 96."""


def rate_text(prefix: float | None) -> str:
    """R = prefix / 96 as ``1/x``; a dash for none."""
    if not prefix or prefix <= 0:
        return "-"
    return f"1/{LATENT_CHANNELS / prefix:.3g}"
