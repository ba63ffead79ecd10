"""Files that a lab run leaves: what is in them, how they are written and read back.

``transmissions.jsonl`` and ``timeline.jsonl`` hold one JSON object a line and are only appended to;
``lab_state.json`` is replaced atomically, so that a reader sees either the old or the new state.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

TRANSMISSIONS_FILE = "transmissions.jsonl"
TIMELINE_FILE = "timeline.jsonl"
STATE_FILE = "lab_state.json"
SAMPLES_FOLDER = "samples"

RecordT = TypeVar("RecordT")


class Transmission(msgspec.Struct, frozen=True, kw_only=True):
    """One picture sent through the runtime and the channel.

    Attributes:
        id: 1, 2, ... within a run.
        time_ns, elapsed_s: when the picture was taken: wall clock, and seconds since the lab's start.
        picture, top, left, size: :class:`xapp.lab.pictures.Crop`.
        drift: content drift, empty for none; ``drifted``: the same as a flag.
        noise_seed: of fading and noise.
        snr_db: mean SINR that the gNB reports.
        fading_gain: |h|^2; ``effective_snr_db``: SNR at the decoder.
        directive_snr_db: SNR that the encoder conditioned on.
        prefix, decoder, decoder_version, encoder_version: as the runtime answered; empty when failed.
        psnr_db, ms_ssim: of the restored picture, None when failed.
        latency_ms: encode + decode as seen by the client, of the successful attempt.
        retries: attempts beyond the first.
        failed: nothing was restored within the retry budget; ``error`` says why.
        sample: why the pictures are kept in ``samples/``, empty when they are not.
        codec: ``semantic``, or the conventional codec that stood in.
        lost: its bytes did not survive the channel; nothing failed, and nothing was restored.
    """

    id: int
    time_ns: int
    elapsed_s: float
    user: str
    device_class: str
    group: str
    picture: str
    top: int
    left: int
    size: int
    drift: str
    drifted: bool
    noise_seed: int
    snr_db: float
    fading_gain: float
    effective_snr_db: float
    directive_snr_db: float = 0.0
    prefix: int = 0
    decoder: str = ""
    decoder_version: int = 0
    encoder_version: int = 0
    psnr_db: float | None = None
    ms_ssim: float | None = None
    latency_ms: float = 0.0
    retries: int = 0
    failed: bool = False
    error: str = ""
    sample: str = ""
    codec: str = "semantic"
    lost: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the same symbols can be sent again under other settings."""
        return not self.failed and self.codec == "semantic"


class TimelineUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user in a time line sample; prefix 0 and psnr None before the first transmission."""

    user: str
    device_class: str
    snr_db: float
    prefix: int
    psnr_db: float | None
    decoder: str
    decoder_version: int


class TimelineSample(msgspec.Struct, frozen=True, kw_only=True):
    """All users at one time."""

    time_ns: int
    elapsed_s: float
    users: list[TimelineUser]


class UserState(msgspec.Struct, frozen=True, kw_only=True):
    """A user in the live state: position in metres, speed in m/s, link and last transmission."""

    user: str
    device_class: str
    group: str
    x_m: float
    y_m: float
    height_m: float
    speed_mps: float
    los: bool
    snr_db: float
    cqi: int
    rsrp_dbm: float
    attenuation_db: float
    drift: str
    prefix: int
    decoder: str
    decoder_version: int
    psnr_db: float | None


class LabState(msgspec.Struct, frozen=True, kw_only=True):
    """Live state of the lab.

    Attributes:
        transmissions: finished ones, failed included.
        requests: HTTP inference requests answered; ``failed_requests``: transmissions given up;
            ``retried``: attempts repeated.
        reports_lost: telemetry reports dropped because the runtime was away for long.
        indications_sent: E2 indications handed to RMR.
        e2_connected: a subscriber is connected over RMR; ``runtime_reachable``: the last request was
            answered.
    """

    time_ns: int
    elapsed_s: float
    users: list[UserState]
    transmissions: int
    requests: int
    failed_requests: int
    retried: int
    reports_lost: int
    indications_sent: int
    e2_connected: bool
    runtime_reachable: bool
    pictures: int
    unreadable_pictures: int
    drift_active: bool


class JsonLines:
    """Append records to a file, one a line, flushed at once (use as a context manager)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def write(self, record: Any) -> None:
        """Append one record."""
        self._file.write(msgspec.json.encode(record) + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; writing afterwards is an error."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_state(path: Path, state: LabState) -> None:
    """Replace ``path`` by ``state`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".tmp")
    new.write_bytes(msgspec.json.encode(state))
    os.replace(new, path)


def read_transmissions(path: Path) -> list[Transmission]:
    """All transmissions of a run; a last line cut off by a killed process is left out.

    Raises:
        ValueError: another line is not a transmission; names file and line.
    """
    return read_lines(path, Transmission)


def read_timeline(path: Path) -> list[TimelineSample]:
    """As :func:`read_transmissions`, for the time line."""
    return read_lines(path, TimelineSample)


def read_lab_state(path: Path) -> LabState | None:
    """The live state, None when there is none yet or it is not readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabState)
    except (OSError, msgspec.DecodeError):
        return None


def read_lines(path: Path, kind: type[RecordT]) -> list[RecordT]:
    """Records of one kind; a last line cut off by a killed process is left out.

    Raises:
        ValueError: another line is none; names file and line.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    decoder = msgspec.json.Decoder(kind)
    records: list[RecordT] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}: {error}") from error
    return records
