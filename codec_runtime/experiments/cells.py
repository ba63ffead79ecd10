"""Long experiments as independent cells: each is stored when it is done, and skipped when it is there.

A cell is one training run with its measurement, described by plain values. Cells run one after another or in
``jobs`` processes of one thread each (two processes of one thread train faster than one of two). A cell that
fails does not stop the others; the run then ends with its error, and a second run does only what is missing.
The folder's name holds a fingerprint of the settings, so results of other settings are never mixed in.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from codec_runtime.experiments.results import fingerprint, shown, write_json

Cell = TypeVar("Cell")
CellWork = Callable[[Cell], dict[str, Any]]


class CellError(RuntimeError):
    """Some cells failed; the message names them. What was done is kept."""


def experiment_cells(
    experiment: str, settings: Any, parts: Sequence[str], hashes: Mapping[str, str],
    cells: Mapping[str, Cell], work: CellWork[Cell], folder: Path, *, jobs: int = 1,
) -> list[dict[str, Any]]:
    """Results of an experiment's cells, kept in ``folder``/EXPERIMENT-FINGERPRINT.

    Args:
        settings: a dataclass. Its fields ``parts`` and the data's ``hashes`` are what a cell's result depends
            on beside its name, and make the fingerprint: more seeds or recipes reuse the cells there are.
        cells, work, jobs: as of :func:`run_cells`.

    Raises:
        CellError: one or more cells raised.
    """
    config = shown(asdict(settings))
    depends_on = {"experiment": experiment, "data": hashes, **{part: config[part] for part in parts}}
    kept = folder / f"{experiment}-{fingerprint(depends_on)}"
    return list(run_cells(cells, work, kept, jobs=jobs, title=experiment).values())


def run_cells(
    cells: Mapping[str, Cell], work: CellWork[Cell], folder: Path, *, jobs: int = 1, title: str = "cells"
) -> dict[str, dict[str, Any]]:
    """Result of every cell, from ``folder`` where it is there, else by ``work``.

    Args:
        cells: name (a file name) -> what ``work`` is called with.
        work: a module-level function; its result must be JSON-able.
        jobs: processes; 1 runs in this one.

    Raises:
        CellError: one or more cells raised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = {name: cell for name, cell in cells.items() if not _file(folder, name).exists()}
    failed: dict[str, BaseException] = {}
    with tqdm(total=len(cells), initial=len(cells) - len(missing), desc=title, unit="cell",
              file=sys.stderr) as bar:
        if jobs <= 1:
            for name, cell in missing.items():
                try:
                    _run_cell(work, cell, _file(folder, name))
                except Exception as error:
                    failed[name] = error
                bar.update()
        else:
            failed = _run_parallel(missing, work, folder, jobs, bar)
    if failed:
        told = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failed.items())
        first = next(iter(failed.values()))
        raise CellError(f"{len(failed)} of {len(cells)} cells failed: {told}") from first
    return {name: json.loads(_file(folder, name).read_text()) for name in cells}


def _run_parallel(
    cells: Mapping[str, Cell], work: CellWork[Cell], folder: Path, jobs: int, bar: tqdm
) -> dict[str, BaseException]:
    failed: dict[str, BaseException] = {}
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its thread pool
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        running: dict[Future[None], str] = {
            pool.submit(_run_cell, work, cell, _file(folder, name)): name for name, cell in cells.items()
        }
        for done in as_completed(running):
            error = done.exception()
            if error is not None:
                failed[running[done]] = error
            bar.update()
    return failed


def _run_cell(work: CellWork[Cell], cell: Cell, path: Path) -> None:
    write_json(path, work(cell))


def _one_thread() -> None:
    import torch  # noqa: PLC0415 - in the worker only

    torch.set_num_threads(1)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
