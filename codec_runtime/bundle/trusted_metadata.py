"""The trusted metadata of a site: python-tuf's client, and what it keeps so that nobody can roll it back.

python-tuf renames each file that it has verified over the earlier one at once and flushes none. Here they are
written beside the earlier ones and get their names after their bytes are on disk, in one go
(:class:`codec_runtime.bundle.durable.NewFiles`): at the latest when the update that they name is installed,
and also when it is refused.
"""

from __future__ import annotations

from pathlib import Path

from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from codec_runtime.bundle.durable import NewFiles

MAX_ROOT_ROTATIONS = 32
MAX_DELEGATIONS = 4


class TrustedUpdater(Updater):
    """A client that hands the metadata that it verified to ``kept``.

    Args:
        directory: the trusted metadata. base_url: of metadata, for ``fetcher``.
        pinned: bytes of the pinned root.

    Raises:
        RepositoryError, ValueError: the pinned root is not usable. OSError: the disk failed.
    """

    def __init__(
        self, directory: Path, base_url: str, fetcher: FetcherInterface, pinned: bytes, kept: NewFiles
    ) -> None:
        self._kept = kept  # first, since python-tuf keeps the pinned root at once
        super().__init__(
            metadata_dir=str(directory),
            metadata_base_url=base_url,
            fetcher=fetcher,
            config=UpdaterConfig(max_root_rotations=MAX_ROOT_ROTATIONS, max_delegations=MAX_DELEGATIONS),
            bootstrap=pinned,
        )

    @property
    def root_version(self) -> int:
        """Version of the newest root that is trusted."""
        return self._trusted_set.root.version

    def _persist_file(self, filename: str, data: bytes) -> None:
        self._kept.write(Path(filename), data)
