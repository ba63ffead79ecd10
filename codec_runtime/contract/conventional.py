"""Measured quality of the conventional codecs that stand in where a device holds no decoder of any pair."""

from __future__ import annotations

import msgspec

from codec_runtime.contract.bundle import QualityPoint
from codec_runtime.contract.directives import ConventionalCodec


class ConventionalQuality(msgspec.Struct, frozen=True, kw_only=True):
    """Rate-quality points of each codec, and how they were measured.

    Attributes:
        command: that made them.
        provenance: pictures, their number and sha256, sizes, versions.
        quality: points by codec; a prefix means as many complex symbols as the semantic codec sends.
    """

    command: str
    provenance: dict[str, str]
    quality: dict[ConventionalCodec, list[QualityPoint]]
