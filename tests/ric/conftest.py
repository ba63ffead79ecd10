"""Hypothesis without a deadline: the machine may be busy, and no test here is about speed."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("busy-machine", deadline=None)
settings.load_profile("busy-machine")
