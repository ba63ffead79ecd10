"""Bundles of the demo's own: made and signed before the xApp starts, delivered when the site serves.

A demo without them is still a demo: what goes wrong here is said, and the users concerned do nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from xapp.lab.settings import LabSettings

Maker = Callable[[Path], Sequence[Path]]
"""Writes bundles below a folder and returns their directories, in the order of their activation."""


class SiteBundles:
    """See the module docstring.

    Args:
        repository: the xApp's, which is not running yet.
        work: folder for the bundles.

    Attributes:
        problems: why bundles did not come to be served, by the name that they were made under.
    """

    def __init__(self, repository: Path, work: Path) -> None:
        self._repository, self._work = repository, work
        self._made: dict[str, list[str]] = {}
        self.problems: dict[str, str] = {}

    def make(self, name: str, maker: Maker) -> None:
        """Make, sign and assign bundles that are of use together; takes some seconds."""
        import torch  # noqa: PLC0415 - seconds, and only where a demo runs

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._made[name] = [self._signed(folder) for folder in maker(self._work / name)]
        except Exception as error:
            self.problems[name] = f"{type(error).__name__}: {error}"
        finally:
            torch.set_num_threads(before)

    def deliver(self, runtime_url: str) -> None:
        """Bring them to the site, in the background."""
        threading.Thread(target=self._deliver, args=(runtime_url,), daemon=True).start()

    def _signed(self, folder: Path) -> str:
        from codec_runtime.bundle.manifest_file import read_manifest  # noqa: PLC0415
        from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE  # noqa: PLC0415
        from xapp.delivery.repository import TufRepository  # noqa: PLC0415

        files = {name: (folder / name).read_bytes() for name in (MANIFEST_FILE, WEIGHTS_FILE)}
        return TufRepository(self._repository).publish(read_manifest(folder), files)

    def _deliver(self, runtime_url: str) -> None:
        for name, bundles in self._made.items():
            try:
                asyncio.run(self._push(runtime_url, name, bundles))
            except Exception as error:
                self.problems[name] = f"{type(error).__name__}: {error}"

    async def _push(self, runtime_url: str, name: str, bundles: list[str]) -> None:
        from xapp.delivery.push import push  # noqa: PLC0415
        from xapp.delivery.repository import TufRepository  # noqa: PLC0415
        from xapp.runtime_client import RuntimeClient  # noqa: PLC0415

        files = TufRepository(self._repository).files()
        async with RuntimeClient(runtime_url, timeout_s=30.0) as site:
            report = (await push(site, files, bundles)).activation
        if report.outcome == "refused":
            self.problems[name] = f"{report.error}: {report.detail}"


def classifier_maker(images: str, seed: int) -> Maker:
    """Of the classifier of the lab's photographs; images: folder of them, "" for the lab's own."""

    def make(work: Path) -> Sequence[Path]:
        from xapp.lab.pictures import load_library  # noqa: PLC0415
        from xapp.lab.small_classifier import publish_small_classifier  # noqa: PLC0415

        library = load_library(images, LabSettings().picture_size)
        return [publish_small_classifier(library, work, seed).directory]

    return make


def adapter_maker(work: Path) -> Sequence[Path]:
    """A :data:`Maker` of the adapter of the lab's generated world, and of its knowledge base."""
    from xapp.lab.small_adapter import write_small_adapter  # noqa: PLC0415

    return write_small_adapter(work)
