"""Residuals of users whose cameras pan over photographs: the lab's own cameras, encoder and decoders.

Windows of a grid are sent once, at two SNRs; what a camera sees between them is interpolated, so that
thousands of roll-outs cost no further picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import codec_runtime
from codec_runtime.evaluation.codec import transmit
from codec_runtime.evaluation.command import load_codec
from codec_runtime.evaluation.metrics import psnr_db
from xapp.lab.pictures import Camera, Crop, PictureLibrary, drift, load_library
from xapp.rollout.gates import GateSettings, Reading, UserRecord, read_gates

SIDE, STRIDE = 168, 110
SNRS_DB = (5.0, 14.0)
DRONE_MPS = 10.0


@dataclass(frozen=True)
class World:
    """PSNR of (version, SNR, row, column) of a photograph's windows, and the rows and columns, pixels."""

    library: PictureLibrary
    grids: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]

    def psnr(self, window: Crop, snr_db: float) -> np.ndarray:
        """(version,) at a window and SNR."""
        table, rows, columns = self.grids[window.picture]
        k = (float(np.clip(snr_db, *SNRS_DB)) - SNRS_DB[0]) / (SNRS_DB[1] - SNRS_DB[0])
        i, a = _place(rows, window.top)
        j, b = _place(columns, window.left)
        square = table[:, :, i : i + 2, j : j + 2]
        return np.einsum(
            "vsij,s,i,j->v", square, [1.0 - k, k], [1.0 - a, a][: square.shape[2]],
            [1.0 - b, b][: square.shape[3]],
        )  # fmt: skip


def measure_world() -> World:
    """Raises FileNotFoundError: there are no photographs."""
    library = load_library("", SIDE)
    encoder, decoders = load_codec(Path(codec_runtime.__file__).parent / "weights", "attention,conv")
    grids = {}
    for name in library.names:
        rows, columns = (
            np.unique(np.linspace(0, room, 2 + room // STRIDE).astype(int))
            for room in np.array(library.shape(name)) - SIDE
        )
        table = np.zeros((len(decoders), len(SNRS_DB), len(rows), len(columns)))
        for s, i, j in np.ndindex(*table.shape[1:]):
            picture = drift(library.crop(Crop(name, int(rows[i]), int(columns[j]), SIDE)), "thermal")
            image = torch.from_numpy(picture.copy()).permute(2, 0, 1)
            sent = transmit(
                encoder, decoders, image, channel="awgn", snr_db=SNRS_DB[s], prefix=8, seed=i * 99 + j
            )
            table[:, s, i, j] = [float(psnr_db(restored, image[None])[0]) for restored in sent.values()]
        grids[name] = table, rows, columns
    return World(library, grids)


def first_alarm(
    world: World,
    users: int,
    treated: int,
    after_s: float,
    seed: int,
    *,
    pictures: int = 0,
    shift_db: float = 0.0,
) -> str | None:
    """Gate that calls a version harmful that changes nothing, None if none ever does.

    Args:
        pictures: of each treated user that are restored by another decoder too, which is ``shift_db`` better
            than it is.
    """
    rng = np.random.default_rng(seed)
    records = [UserRecord(rank) for rank in range(users)]
    rows = [(rank < treated, record) for rank, record in enumerate(records)]
    readings: list[Reading] = []
    for time_s, user, psnr in _reports(world, users, after_s, rng):
        record = records[user]
        if time_s < 0.0:
            record.before.add(float(psnr[0]))
            continue
        record.after.add(float(psnr[0]))
        if user < treated and record.pairs.count < pictures:
            record.pairs.add(float(psnr[1] - psnr[0] + shift_db))
        if user < users - 1:
            continue  # read once a second
        readings = read_gates(rows, GateSettings(), 1, readings)
        for reading in readings:
            if reading.finding == "harmful":
                return reading.gate
    return None


def _reports(
    world: World, users: int, after_s: float, rng: np.random.Generator
) -> Iterator[tuple[float, int, np.ndarray]]:
    """(time, user, PSNR by version), one a second and user from 30 s before the change on."""
    seed, start_s = int(rng.integers(2**31)), float(rng.uniform(60.0, 1000.0))
    # Drones are every fourth user, and each has a mean SNR of its own.
    cameras = [Camera(world.library, 4 * user + 1, seed, DRONE_MPS) for user in range(users)]
    snrs = rng.normal(10.0, 3.0, users)
    for second in range(-30, int(after_s)):
        for user, offset in enumerate(rng.uniform(0.0, 1.0, users)):
            snr_db = snrs[user] + 10.0 * np.log10(rng.gamma(4.0) / 4.0)
            psnr = world.psnr(cameras[user].window(start_s + second + offset), snr_db)
            yield second + offset, user, psnr + rng.normal(0.0, 0.05, len(psnr)) - 0.1 * snr_db


def _place(grid: np.ndarray, at: int) -> tuple[int, float]:
    """Index below a coordinate, and the share of the way to the next one."""
    i = int(np.clip(np.searchsorted(grid, at, side="right") - 1, 0, max(len(grid) - 2, 0)))
    return i, 0.0 if len(grid) < 2 else float((at - grid[i]) / (grid[i + 1] - grid[i]))
