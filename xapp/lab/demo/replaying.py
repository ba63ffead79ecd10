"""After the live phase: which transmissions to repeat, within the time that is left.

By then a version that was in use may be gone, withdrawn by a rollback or retired. The pictures that it
restored have no twin at the static rate; what cannot be repeated is left out and counted by reason.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from codec_runtime.contract.bundle import MANIFEST_FILE, BundleManifest
from xapp.lab.demo.processes import DemoProcesses
from xapp.lab.records import (
    SAMPLES_FOLDER,
    TRANSMISSIONS_FILE,
    Transmission,
    read_transmissions,
)
from xapp.lab.settings import LabSettings

if TYPE_CHECKING:
    from xapp.lab.replay import Replay, ReplayResult

_ID_STEP = 1_000_000
MAX_PARENT_PAIRS = 64
# Batches of eight, and nothing else runs: a repeated transmission takes about this share of a live one.
_REPLAY_SHARE = 0.6
_MINIMUM_STATIC = 300
# A runtime that died during the comparison is started again: that takes tens of seconds on a slow machine.
_PATIENCE_S = 120.0
_REQUEST_TIMEOUT_S = 30.0


Version = tuple[str, int]
"""Decoder family and version."""


class _Cancelled(Exception):
    """The person who watches asked to stop."""


@dataclass(frozen=True)
class Records:
    """Transmissions of all instances of the lab, with ids that are unique over them.

    Attributes:
        samples: path prefix of the kept pictures by id.
    """

    transmissions: list[Transmission]
    samples: dict[int, Path]


def read_records(lab_dirs: Sequence[Path], since_ns: int = 0) -> Records:
    """Records of a run, of pictures taken at ``since_ns`` (wall clock) or later.

    Raises:
        ValueError: a record is none; names file and line.
    """
    transmissions: list[Transmission] = []
    samples: dict[int, Path] = {}
    for instance, folder in enumerate(lab_dirs):
        for t in read_transmissions(folder / TRANSMISSIONS_FILE):
            if t.time_ns < since_ns:
                continue
            number = t.id + instance * _ID_STEP
            if t.sample:
                samples[number] = folder / SAMPLES_FOLDER / str(t.id)
            transmissions.append(msgspec.structs.replace(t, id=number))
    return Records(transmissions, samples)


def parent_versions(manifests: Iterable[BundleManifest]) -> dict[Version, int]:
    """Parent version of every decoder that has one."""
    return {
        (m.name, m.version): m.parent for m in manifests if m.kind == "decoder" and m.parent is not None
    }


def published_manifests(repository: Path) -> list[BundleManifest]:
    """Manifests of all bundles that were ever signed, those included that were taken back.

    Args:
        repository: of the xApp; a file in it that is not readable is left out.
    """
    manifests = []
    for place in sorted((repository / "targets").rglob(f"*{MANIFEST_FILE}")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            manifests.append(msgspec.msgpack.decode(place.read_bytes(), type=BundleManifest))
    return manifests


def count_updated(transmissions: Sequence[Transmission]) -> int:
    """Delivered transmissions restored by a newer version than the oldest one of the same decoder."""
    oldest: dict[str, int] = {}
    delivered = [t for t in transmissions if t.repeatable]
    for t in delivered:
        oldest[t.decoder] = min(t.decoder_version, oldest.get(t.decoder, t.decoder_version))
    return sum(t.decoder_version > oldest[t.decoder] for t in delivered)


def updated_transmissions(
    transmissions: Sequence[Transmission], parents: Mapping[Version, int], limit: int
) -> dict[int, list[Transmission]]:
    """Transmissions restored by an updated decoder, by the version that it was fine-tuned from.

    Args:
        limit: at most this many in all, the first ones after the swaps.
    """
    chosen: dict[int, list[Transmission]] = {}
    count = 0
    for t in sorted(transmissions, key=lambda t: t.time_ns):
        parent = parents.get((t.decoder, t.decoder_version))
        if not t.repeatable or parent is None or count >= limit:
            continue
        chosen.setdefault(parent, []).append(t)
        count += 1
    return chosen


def static_share(transmissions: Sequence[Transmission], budget_s: float, seed: int) -> list[Transmission]:
    """As many transmissions as can be repeated in ``budget_s`` seconds, a random choice, in order of time."""
    delivered = [t for t in transmissions if t.repeatable]
    if not delivered:
        return []
    cost_s = _REPLAY_SHARE * sum(t.latency_ms for t in delivered) / len(delivered) / 1e3
    count = max(_MINIMUM_STATIC, int(budget_s / cost_s) if cost_s > 0 else len(delivered))
    if count >= len(delivered):
        return delivered
    return sorted(random.Random(seed).sample(delivered, count), key=lambda t: t.time_ns)


class ReplayWorker:
    """Repeats the transmissions in a thread, so that the processes stay supervised meanwhile.

    Attributes:
        static, parent: results so far.
        left_out: transmissions that were not repeated, by reason, of both comparisons.
        error: why it failed, empty if it did not.
    """

    def __init__(self, processes: DemoProcesses) -> None:
        self.static: list[ReplayResult] = []
        self.parent: list[ReplayResult] = []
        self.left_out: dict[str, dict[str, int]] = {}
        self.error = ""
        self.progress = ""
        self._processes = processes
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, records: Records, budget_s: float, seed: int) -> None:
        """Begin; ``budget_s`` bounds the static repetition, seconds (an estimate)."""
        self._thread = threading.Thread(
            target=self._guarded, args=(records.transmissions, budget_s, seed), name="replay", daemon=True
        )
        self._thread.start()

    def cancel(self, wait_s: float = 5.0) -> None:
        """Stop at the next batch and wait for that."""
        self._cancelled.set()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _guarded(self, transmissions: Sequence[Transmission], budget_s: float, seed: int) -> None:
        try:
            self._work(transmissions, budget_s, seed)
        except _Cancelled:
            pass
        except Exception as error:
            # Whatever it was, the run must end with a report and this message rather than with a dead thread.
            self.error = f"{type(error).__name__}: {error}"

    def _work(self, transmissions: Sequence[Transmission], budget_s: float, seed: int) -> None:
        from xapp.lab.replay import Replay  # noqa: PLC0415 - loads torch

        settings = msgspec.structs.replace(
            msgspec.convert(self._processes.lab_settings(), LabSettings),
            retry_budget_s=_PATIENCE_S,
            request_timeout_s=_REQUEST_TIMEOUT_S,
        )
        replay = Replay(settings, progress=self._progress)
        site = replay.site()
        published = published_manifests(self._processes.trusted_root.parent)
        parents = parent_versions([*published, *site.models])
        for version, members in updated_transmissions(transmissions, parents, MAX_PARENT_PAIRS).items():
            self.parent.extend(replay.parent(replay.repeatable(members, site, version), version))
        self._left_out("update_gain", replay)
        served = replay.repeatable(transmissions, site)
        self.static = replay.static(static_share(served, budget_s, seed))
        self._left_out("static_same_bandwidth", replay)

    def _left_out(self, comparison: str, replay: Replay) -> None:
        """Note what the comparison that has just ended did without."""
        if replay.left_out:
            self.left_out[comparison] = dict(replay.left_out)
            replay.left_out.clear()

    def _progress(self, done: int, of: int) -> None:
        self.progress = f"({done} of {of})"
        if self._cancelled.is_set():
            raise _Cancelled
