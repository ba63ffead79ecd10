"""The steps of an update at a site, from bytes on the wire to a recorded, served bundle.

A process can die between any two of them; after a restart a consistent set is served, the old one up to and
including ``published``, the new one from ``recorded`` on. The list is what that is tested by: each step is
announced to a callback, which the tests make kill the process or run out of disk. A delta is staged only if
it stands in for the weights file. Retired and withdrawn versions leave the disk last: until the record names
them no longer, a restart needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Reached = Callable[[str], None]

INBOX_STEPS: Final = ("inbox: bytes received", "inbox: file stored")
TRUST_STEPS: Final = (
    "trust: pinned root read",
    "trust: timestamp wanted",
    "trust: snapshot wanted",
    "trust: targets wanted",
    "trust: metadata verified",
)
INSTALL_STEPS: Final = (
    "install: staging empty",
    "install: manifest staged",
    "install: delta staged",
    "install: weights staged",
    "install: bundle checked",
    "install: staging durable",
    "install: metadata kept",
    "install: bundle in place",
    "install: inbox cleared",
)
SERVE_STEPS: Final = (
    "serve: warmed up",
    "serve: published",
    "serve: recorded",
    "serve: old versions removed",
)

UPDATE_STEPS: Final = (*INBOX_STEPS, *TRUST_STEPS, *INSTALL_STEPS, *SERVE_STEPS)
"""In the order in which an update reaches them first."""


def unobserved(step: str) -> None:
    """The callback of a process that nobody tests."""
