"""After the live phase: which transmissions to repeat, within the time that is left."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec

from codec_runtime.contract import paths
from codec_runtime.contract.updates import SiteStatus
from xapp.lab.demo.processes import DemoProcesses
from xapp.lab.records import (
    SAMPLES_FOLDER,
    TRANSMISSIONS_FILE,
    Transmission,
    read_transmissions,
)
from xapp.lab.settings import LabSettings

if TYPE_CHECKING:
    from xapp.lab.replay import ReplayResult

_ID_STEP = 1_000_000
MAX_PARENT_PAIRS = 64
# Batches of eight, and nothing else runs: a repeated transmission takes about this share of a live one.
_REPLAY_SHARE = 0.6
_MINIMUM_STATIC = 300


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


def parent_versions(runtime_url: str, timeout_s: float = 3.0) -> dict[tuple[str, int], int]:
    """Parent version by (decoder, version) of every decoder that the site serves and that has one.

    Raises:
        httpx.HTTPError, msgspec.DecodeError: the runtime does not answer, or not in this contract.
    """
    answer = httpx.get(runtime_url + paths.SITE, timeout=timeout_s, trust_env=False)
    answer.raise_for_status()
    status = msgspec.msgpack.decode(answer.content, type=SiteStatus)
    return {
        (m.name, m.version): m.parent for m in status.models if m.kind == "decoder" and m.parent is not None
    }


def count_updated(transmissions: Sequence[Transmission]) -> int:
    """Delivered transmissions restored by a newer version than the oldest one of the same decoder."""
    oldest: dict[str, int] = {}
    delivered = [t for t in transmissions if t.repeatable]
    for t in delivered:
        oldest[t.decoder] = min(t.decoder_version, oldest.get(t.decoder, t.decoder_version))
    return sum(t.decoder_version > oldest[t.decoder] for t in delivered)


def updated_transmissions(
    transmissions: Sequence[Transmission], parents: Mapping[tuple[str, int], int], limit: int
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
        error: why it failed, empty if it did not.
    """

    def __init__(self, processes: DemoProcesses) -> None:
        self.static: list[ReplayResult] = []
        self.parent: list[ReplayResult] = []
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

        settings = msgspec.convert(self._processes.lab_settings(), LabSettings)
        parents = parent_versions(self._processes.runtime_url)
        replay = Replay(settings, progress=self._progress)
        for version, members in updated_transmissions(transmissions, parents, MAX_PARENT_PAIRS).items():
            self.parent.extend(replay.parent(members, version))
        self.static = replay.static(static_share(transmissions, budget_s, seed))

    def _progress(self, done: int, of: int) -> None:
        self.progress = f"({done} of {of})"
        if self._cancelled.is_set():
            raise _Cancelled
