"""The seeds of random draws; nothing heavy is imported here."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: int | str) -> int:
    """63-bit seed as a function of the parts (seed, stage, rank, step): no generator state to carry along."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
