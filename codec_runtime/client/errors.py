"""Why a device got no answer."""

from __future__ import annotations


class SiteError(RuntimeError):
    """A request to the site that was not answered as asked."""


class SiteUnavailableError(SiteError):
    """The site is away, overloaded or too slow; it may answer later.

    Attributes:
        wait_s: how long it asked to be left alone, 0 where it did not say.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class SiteRefusedError(SiteError):
    """The site will not answer this request as it is.

    Attributes:
        status: of HTTP. name: of the refusal, where the site gave one.
    """

    def __init__(self, message: str, status: int, name: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.name = name


class BadAnswerError(SiteError):
    """The site's answer cannot be read, is too long, or is not to the question asked."""


class NoClassifierError(SiteError):
    """The site serves no version of the network."""
