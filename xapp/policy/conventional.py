"""What JPEG and HEIC bytes give in the same number of complex symbols: surfaces as measured.

``conventional_quality.json`` is written by ``semcom eval conventional``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from codec_runtime.contract.conventional import ConventionalQuality
from codec_runtime.contract.directives import ConventionalCodec
from xapp.policy.surface import QualitySurface

QUALITY_FILE: Final = Path(__file__).with_name("conventional_quality.json")


@cache
def conventional_surface(codec: ConventionalCodec) -> QualitySurface:
    """Measured surface of a codec."""
    measured = msgspec.json.decode(QUALITY_FILE.read_bytes(), type=ConventionalQuality)
    return QualitySurface(measured.quality[codec])
