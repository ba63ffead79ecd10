"""Which named refusal an error of python-tuf or of the disk is.

python-tuf has one class for every version that is not the expected one. Three attacks hide behind it: an
older file offered as current (rollback), files of different publications put together (mix-and-match), and a
root that does not follow the one before. The name of the file and the version inside tell them apart.
"""

from __future__ import annotations

import errno
import json
import re
from typing import Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
)
from tuf.api.exceptions import ExpiredMetadataError as TufExpired
from tuf.api.exceptions import LengthOrHashMismatchError as TufHash
from tuf.api.exceptions import UnsignedMetadataError as TufUnsigned

from codec_runtime.bundle.errors import (
    EndlessDataError,
    ExpiredMetadataError,
    InvalidMetadataError,
    LengthOrHashMismatchError,
    MissingFileError,
    MixAndMatchError,
    RefusalError,
    RollbackError,
    RootChainError,
    StorageError,
    StorageFullError,
    UnsignedMetadataError,
)
from codec_runtime.bundle.inbox import Inbox

_VERSIONED: Final = re.compile(r"(\d+)\.([a-z-]+)\.json", re.ASCII)
_ROOT: Final = re.compile(r"(\d{1,9})\.root\.json", re.ASCII)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def refusal_of(error: Exception, inbox: Inbox, last: str = "") -> RefusalError | MissingFileError:
    """The refusal for ``error``.

    Args:
        last: name of the metadata file asked for last, "" if the error is about a target.
    """
    text = str(error)
    if isinstance(error.__cause__, OSError):  # python-tuf wraps what fails while a file is read
        return storage_refusal(error.__cause__)
    match = _VERSIONED.fullmatch(last)
    offered = _version_inside(inbox, last) if match else None
    mixed = match is not None and offered is not None and offered != int(match[1])
    if isinstance(error, BadVersionNumberError) and match is not None and match[2] == "root":
        return RootChainError(f"{last}: {text}; each root must follow the one before")
    if isinstance(error, BadVersionNumberError | TufHash) and mixed:
        return MixAndMatchError(f"{last} holds version {offered}, from another publication: {text}")
    if isinstance(error, DownloadHTTPError):
        return MissingFileError(text)
    simple: tuple[tuple[type[Exception], type[RefusalError]], ...] = (
        (BadVersionNumberError, RollbackError),
        (TufExpired, ExpiredMetadataError),
        (TufUnsigned, UnsignedMetadataError),
        (DownloadLengthMismatchError, EndlessDataError),
        (TufHash, LengthOrHashMismatchError),
    )
    for kind, refusal in simple:
        if isinstance(error, kind):
            return refusal(f"{last}: {text}" if last else text)
    return InvalidMetadataError(f"{type(error).__name__}: {text}")


def skipped_root(inbox: Inbox, trusted: int) -> RootChainError | None:
    """A newer root in the inbox that the trusted one does not lead to, because one in between is missing."""
    found = (_ROOT.fullmatch(name) for name in inbox.metadata_names())
    newer = sorted(int(match[1]) for match in found if match and int(match[1]) > trusted)
    if not newer or newer[0] == trusted + 1:
        return None
    return RootChainError(
        f"the inbox holds root version {newer[0]}, version {trusted} is trusted: version {trusted + 1} must "
        "come first"
    )


def storage_refusal(error: OSError) -> RefusalError:
    """A disk that is full, or that fails otherwise."""
    if error.errno in _FULL:
        return StorageFullError(f"no space is left for the update: {error}")
    return StorageError(f"the update could not be written: {error}")


def _version_inside(inbox: Inbox, name: str) -> int | None:
    path = inbox.read("metadata", name)
    if path is None:
        return None
    try:
        version = json.loads(path.read_bytes())["signed"]["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return version if isinstance(version, int) else None
