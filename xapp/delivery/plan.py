"""Which target files of a bundle have to travel to a site, from the repository and the site's listing.

A bundle is its manifest and its weights. Instead of the weights the difference from a parent travels where
the site holds that parent and fewer bytes are missing of it. What the site has already does not travel, nor
the first part of a file that it kept from an earlier transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from codec_runtime.contract.bundle import DELTA_FILE, WEIGHTS_FILE
from codec_runtime.contract.updates import InboxListing
from xapp.delivery.repository import RepositoryFiles


@dataclass(frozen=True)
class Transfer:
    """One file on its way.

    Attributes:
        bundle, path: bundle and TUF target path. hashed: the path with the hash in the file name.
        local: the file. size: its bytes. offset: of them that the site has.
    """

    bundle: str
    path: str
    hashed: str
    local: Path
    size: int
    offset: int = 0

    @property
    def missing(self) -> int:
        """Bytes that have to travel."""
        return self.size - self.offset


@dataclass(frozen=True)
class PushPlan:
    """What a push sends.

    Attributes:
        transfers: files that the site lacks, in the order in which they travel.
        skipped: number of files that it has.
        bytes_saved: of what a site with nothing would have been sent: files and parts of files that are
            there, and weights less their delta.
    """

    transfers: list[Transfer]
    skipped: int
    bytes_saved: int

    @property
    def deltas(self) -> list[str]:
        """Bundles of which a delta travels."""
        return [transfer.bundle for transfer in self.transfers if transfer.path.endswith(f"/{DELTA_FILE}")]


def plan_push(
    files: RepositoryFiles,
    bundles: Iterable[str],
    listing: InboxListing,
    *,
    deltas: bool = True,
    size_of: Callable[[Path], int] = lambda path: path.stat().st_size,
) -> PushPlan:
    """The plan for ``bundles`` at a site.

    Args:
        listing: of the site. deltas: whether they may travel.

    Raises:
        KeyError: a bundle is not in the repository. OSError: a file of it is gone. ValueError: one is empty.
    """
    transfers: list[Transfer] = []
    skipped = saved = 0
    for bundle in bundles:
        for path in _paths_of(files, bundle):
            transfer = _transfer(files, bundle, path, listing, size_of)
            if listing.targets.get(path) == files.targets[path][1]:
                skipped += 1
                saved += transfer.size
                continue
            chosen = transfer
            delta = f"{bundle}/{DELTA_FILE}"
            if deltas and path.endswith(f"/{WEIGHTS_FILE}") and files.parents.get(delta) in listing.weights:
                if listing.targets.get(delta) == files.targets[delta][1]:
                    skipped += 1
                    saved += transfer.size
                    continue
                chosen = min(
                    transfer, _transfer(files, bundle, delta, listing, size_of), key=lambda t: t.missing
                )
            saved += transfer.size - chosen.missing
            transfers.append(chosen)
    return PushPlan(transfers, skipped, saved)


def _paths_of(files: RepositoryFiles, bundle: str) -> list[str]:
    """Targets of a bundle without its delta, the manifest first."""
    found = [path for path in files.targets if path.rpartition("/")[0] == bundle]
    if not found:
        raise KeyError(f"{bundle} is not in the repository")
    return sorted(path for path in found if not path.endswith(f"/{DELTA_FILE}"))


def _transfer(
    files: RepositoryFiles, bundle: str, path: str, listing: InboxListing, size_of: Callable[[Path], int]
) -> Transfer:
    hashed, _, local = files.targets[path]
    size = size_of(local)
    if size < 1:
        raise ValueError(f"{local} is empty")
    # Of a file that is all there but was not completed, the last byte is sent again.
    offset = min(listing.partial.get(hashed, 0), size - 1)
    return Transfer(bundle, path, hashed, local, size, offset)
