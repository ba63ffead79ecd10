"""What may be wrong with a stream, by name."""

from __future__ import annotations


class BitstreamError(ValueError):
    """A stream is not taken; its subclass and message say why."""


class NotABitstreamError(BitstreamError):
    """The first bytes are no container of this format."""


class VersionError(BitstreamError):
    """A container of a version that is not known here."""


class TruncatedError(BitstreamError):
    """Bytes are missing."""


class ChecksumError(BitstreamError):
    """A checksum does not fit: bytes were altered."""


class FieldError(BitstreamError):
    """A field of the header is out of range or contradicts another."""


class WrongModelError(BitstreamError):
    """The stream was made with other tables, or for another cut."""


class PayloadError(BitstreamError):
    """A chunk's content does not decode, although its checksum fits."""


class CapError(ValueError):
    """Not even the smallest form fits the cap; the message says what would."""
