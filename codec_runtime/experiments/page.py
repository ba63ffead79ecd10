"""`semcom experiment report`: gather what was measured, draw it, send some pictures, write the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from codec_runtime.bundle.store import SHIPPED_WEIGHTS, write_atomic
from codec_runtime.evaluation import plots
from codec_runtime.evaluation.baselines import PCA_FILE, load_pca
from codec_runtime.evaluation.command import load_codec
from codec_runtime.evaluation.comparison import (
    Comparison,
    Scheme,
    compare,
    linear_scheme,
    separate_scheme,
    spread_out,
)
from codec_runtime.evaluation.metrics import MS_SSIM_MINIMUM_SIDE
from codec_runtime.evaluation.report import build_report, experiment_figures, quality_figures
from codec_runtime.experiments.tables import fill
from codec_runtime.training.data import list_images, load_image

PICTURES = 3
SNRS_DB = (1.0, 7.0)
PREFIX = 6
SEPARATE = {"jpeg+ldpc": "jpeg", "heic+ldpc": "heic"}


@dataclass(frozen=True)
class PageRequest:
    """What goes into the page.

    Attributes:
        folders: pictures to send; empty: no pictures in the page.
        rows: files of ``semcom eval codec --json``.
        results: folder of experiments' JSON files; files there without an experiment are taken as rows.
        weights: bundle root of the codec that sends the pictures; None: the shipped one.
        figures: folder for the plots as ``codec-NAME.png``; None: in the page only.
        document: Markdown file whose tables are filled in; None: none is.
    """

    folders: Sequence[Path] = ()
    rows: Sequence[Path] = ()
    results: Path | None = None
    weights: Path | None = None
    figures: Path | None = None
    document: Path | None = None
    pictures: int = PICTURES
    snrs_db: Sequence[float] = SNRS_DB
    prefix: int = PREFIX


def write_page(request: PageRequest, out: Path) -> list[Path]:
    """Write the page, the plots and the tables; the files written.

    Raises:
        FileNotFoundError: nothing was measured, or a file or folder is missing.
        ValueError: a file is not JSON of a measurement.
    """
    rows, experiments, tables = gather(request.rows, request.results)
    if not rows and not experiments:
        raise FileNotFoundError(
            "nothing to report: give --rows FILE of `semcom eval codec --json`, or --results FOLDER with the "
            "JSON files of `semcom experiment`"
        )
    quality = quality_figures(rows)
    of_experiments = {name: experiment_figures(name, result) for name, result in experiments.items()}
    written = [out]
    page = build_report(
        rows, experiments, send_pictures(request), quality=quality, experiments=of_experiments
    )
    write_atomic(out, page.encode())
    if request.figures is not None:
        request.figures.mkdir(parents=True, exist_ok=True)
        for drawn in (quality, *of_experiments.values()):
            for name, figure in drawn.items():
                path = request.figures / f"codec-{name}.png"
                write_atomic(path, plots.png(figure))
                written.append(path)
    if request.document is not None:
        write_atomic(request.document, fill(request.document.read_text(), tables).encode())
        written.append(request.document)
    return written


def gather(
    files: Sequence[Path], folder: Path | None
) -> tuple[list[Mapping[str, Any]], dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """(rows, experiments by name, everything that has a table by name).

    Raises:
        FileNotFoundError: a file or the folder is missing.
        ValueError: a file is not JSON with ``rows``.
    """
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"folder of results {folder} does not exist")
    contents = {path.stem: _read(path) for path in files}
    listed: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob("*.json")) if folder is not None else ():
        listed[path.stem] = _read(path, strict=False)
    tables = {name: content for name, content in {**listed, **contents}.items() if _has_table(content)}
    experiments = {name: content for name, content in tables.items() if "experiment" in content}
    rows = [row for name, content in tables.items() if name not in experiments for row in content["rows"]]
    return rows, experiments, tables


def _read(path: Path, *, strict: bool = True) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or (strict and not content.get("rows")):
        raise ValueError(f"{path} holds no rows; `semcom eval codec --json` writes them")
    return content


def _has_table(content: Mapping[str, Any]) -> bool:
    """Rows with the quality keys, or one of the experiments here (others keep files in the folder too)."""
    rows = content.get("rows")
    if not isinstance(rows, list) or not rows:
        return False
    if "experiment" in content:
        return content["experiment"] in ("schemes", "forgetting", "conflict", "rates")
    return {"decoder", "channel", "rate", "snr_db", "psnr_db"} <= set(rows[0])


def send_pictures(request: PageRequest) -> list[Comparison]:
    """Some pictures of the folders under every decoder and baseline.

    Raises:
        FileNotFoundError: no such folder, or no codec below the weights.
    """
    if not request.folders:
        return []
    root = request.weights or SHIPPED_WEIGHTS
    encoder, decoders = load_codec(root)
    schemes = standard_schemes(root)
    paths = list_images(request.folders)
    chosen = [paths[index] for index in spread_out([path.name for path in paths], request.pictures)]
    comparisons = []
    for path in tqdm(chosen, desc="pictures", unit="img", file=sys.stderr):
        image = load_image(path)
        if min(image.shape[1:]) < MS_SSIM_MINIMUM_SIDE:
            continue
        for snr in request.snrs_db:
            comparisons.append(
                compare(path.stem, image, encoder, _by_name(decoders), schemes, snr_db=snr,
                        prefix=request.prefix)
            )
    return comparisons


def standard_schemes(root: Path) -> dict[str, Scheme]:
    """JPEG and HEIC over 5G LDPC, and the linear codec where its components are published."""
    schemes: dict[str, Scheme] = {name: separate_scheme(codec) for name, codec in SEPARATE.items()}
    for place in (root, SHIPPED_WEIGHTS):
        if (place / PCA_FILE).is_file():
            return {**schemes, "linear": linear_scheme(load_pca(place / PCA_FILE))}
    return schemes


def _by_name(decoders: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    order = {name: index for index, name in enumerate(plots.DECODERS)}
    return dict(sorted(decoders.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))
