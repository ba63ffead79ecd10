"""The one error of encoders that cannot be had."""

from __future__ import annotations


class EncoderUnavailableError(RuntimeError):
    """A package or bundle with weights is missing or not the pinned one; the message says which."""
