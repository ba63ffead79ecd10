"""Commands of what crosses as bits: the digital image path, bottlenecks at a cut, the attack on the size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xapp.cli.root import Folders, JsonFlag, eval_app, experiment_app, fail, train_app

if TYPE_CHECKING:
    from codec_runtime.digital.image import DigitalImageCodec

Weights = Annotated[Path | None, typer.Option(help="Bundle root; default: shipped weights.")]
Tables = Annotated[
    Path | None, typer.Option(help="Bundle of kind entropy-model; default: the shipped one.")
]
Decoder = Annotated[str, typer.Option(help="Decoder by name.")]
Run = Annotated[Path, typer.Option(help="Folder of checkpoint and results; give it again to go on.")]


@train_app.command("digital")
def train_digital_command(
    images: Folders,
    run: Run,
    steps: Annotated[int, typer.Option(min=1, help="Steps through the decoder.")] = 700,
    warm_steps: Annotated[int, typer.Option(min=0, help="Steps of the prior alone before.")] = 400,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    rate_pictures: Annotated[int, typer.Option(min=4, help="Whole pictures for the rate model.")] = 24,
    decoder: Decoder = "attention",
    weights: Weights = None,
    version: Annotated[int, typer.Option(min=1, help="Of the bundle.")] = 1,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train quantiser steps and entropy model of the digital image path; the networks stay as they are.

    semcom train digital --images bsds500/train --run runs/digital
    """
    from codec_runtime.digital.command import train_digital
    from codec_runtime.digital.image_training import ImageTraining

    training = ImageTraining(warm_steps=warm_steps, steps=steps, batch=batch, seed=seed)
    try:
        bundle = train_digital(
            images, run, training=training, weights=weights, decoder=decoder, version=version,
            rate_pictures=rate_pictures, say=_say,
        )
    except (OSError, ValueError) as error:
        fail(str(error))
    typer.echo("stopped; the same command goes on" if bundle is None else str(bundle))


@train_app.command("bottleneck")
def train_bottleneck_command(
    images: Folders,
    run: Run,
    after: Annotated[str, typer.Option(help="Module behind which the network is cut.")] = "_blocks.10",
    network: Annotated[str, typer.Option(help="Network by name.")] = "efficientnet-lite0",
    squeezed: Annotated[int, typer.Option(min=1, help="Channels that cross.")] = 32,
    stride: Annotated[int, typer.Option(min=1, help="Height and width shrink by this.")] = 1,
    points: Annotated[int, typer.Option(min=1, max=16, help="Operating points.")] = 5,
    rate: Annotated[
        str, typer.Option(help="Price of a kilobyte, in nats, at the finest and the coarsest point.")
    ] = "0.03,1.0",
    steps: Annotated[str, typer.Option(help="Steps of the stages features,distil,tune.")] = "400,500,200",
    batch: Annotated[int, typer.Option(min=2)] = 24,
    views: Annotated[int, typer.Option(min=1, help="Crops of each picture.")] = 3,
    most: Annotated[int, typer.Option(min=1, help="Pictures at most.")] = 1500,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train a bottleneck at a cut by distillation from the unsplit network.

    semcom train bottleneck --images bsds500/train --after _blocks.4 --stride 2 --run runs/b4
    """
    from codec_runtime.split.bottleneck_command import BottleneckRequest, train_command
    from codec_runtime.split.bottleneck_training import BottleneckTraining

    try:
        features, distil, tune = (int(part) for part in steps.split(","))
        fine, coarse = (float(part) for part in rate.split(","))
        train_command(
            BottleneckRequest(
                network, after, images, run, squeezed=squeezed, stride=stride, views=views, most=most,
                hidden=64, points=points,
                training=BottleneckTraining(
                    steps=(features, distil, tune), batch=batch, seed=seed, rate=(fine, coarse)
                ),
            ),
            _say,
        )
    except (OSError, ValueError, RuntimeError) as error:
        fail(str(error))
    typer.echo(str(run))


@eval_app.command("digital")
def eval_digital_command(
    images: Folders,
    tables: Tables = None,
    decoder: Decoder = "attention",
    weights: Weights = None,
    baselines: Annotated[str, typer.Option(help="Of jpeg, webp, heic; none.")] = "jpeg,webp,heic",
    pictures: Annotated[int, typer.Option(min=1, help="Most pictures.")] = 1000,
    json_: JsonFlag = False,
) -> None:
    """Bytes and quality of the digital image path, beside image codecs at equal bytes.

    Rows: each operating point; the baselines at the same bytes; over 5G LDPC at several SNRs; rate control
    under four throughputs within 20 ms; the tail of the stream lost.

    semcom eval digital --images kodak --json
    """
    import json

    from codec_runtime.digital.evaluation import evaluate_digital
    from codec_runtime.evaluation.command import load_pictures

    try:
        codec = _digital_codec(tables, weights, decoder)
        shown = load_pictures(images)[:pictures]
        names = [] if baselines == "none" else [name.strip() for name in baselines.split(",")]
        with _bar(len(shown), "picture") as bar:
            rows = evaluate_digital(codec, shown, baselines=names, on_picture=bar.update)
    except (OSError, ModuleNotFoundError, ValueError) as error:
        fail(str(error))
    listed = [row.as_json() for row in rows]
    if json_:
        typer.echo(json.dumps({"rows": listed}, indent=1))
    else:
        _show(listed, ("mode", "prefix", "bytes", "bits_per_pixel", "rate", "snr_db", "psnr_db", "ms_ssim"))


@eval_app.command("bottleneck")
def eval_bottleneck_command(
    images: Folders,
    run: Annotated[Path, typer.Option(help="Folder of `semcom train bottleneck`.")],
    stage: Annotated[str, typer.Option(help="features, distil, tune, or latest (checkpoint).")] = "distil",
    most: Annotated[int, typer.Option(min=2, help="Pictures at most.")] = 200,
    baselines: Annotated[str, typer.Option(help="Of jpeg, webp; none.")] = "jpeg,webp",
    figure: Annotated[Path | None, typer.Option(help="File to draw to.")] = None,
    release: Annotated[
        Path | None, typer.Option(help="Folder to write for `semcom split publish --squeezed`.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Bytes that cross the cut against agreement with the unsplit network, beside JPEG and WebP.

    semcom eval bottleneck --images kodak --run runs/b11 --stage tune --release b11 --json
    """
    import json

    from codec_runtime.split.bottleneck_command import evaluate_run, release_run
    from codec_runtime.split.bottleneck_figure import write_figure
    from codec_runtime.split.squeezed_release import write_release

    try:
        names = [] if baselines == "none" else [name.strip() for name in baselines.split(",")]
        evaluation = evaluate_run(run, stage, images, most, _say, baselines=names)
        if release is not None:
            write_release(release, release_run(evaluation))
        if figure is not None:
            write_figure(figure, evaluation.rows)
        rows = evaluation.rows
    except (OSError, ValueError, RuntimeError) as error:
        fail(str(error))
    listed = [row.as_json() for row in rows]
    if json_:
        typer.echo(json.dumps({"rows": listed}, indent=1))
    else:
        _show(listed, ("method", "setting", "bytes", "agreement", "kl"))


@experiment_app.command("size-attack")
def size_attack_command(
    images: Folders,
    tables: Tables = None,
    decoder: Decoder = "attention",
    weights: Weights = None,
    point: Annotated[int, typer.Option(min=0, help="Operating point.")] = 3,
    pictures: Annotated[int, typer.Option(min=1)] = 6,
    side: Annotated[int, typer.Option(min=168, help="Square crops of this side.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Of the projected gradient.")] = 10,
    figure: Annotated[Path | None, typer.Option(help="File to draw to.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Craft pictures that cost the entropy coder bits, and show what the cap makes of them.

    semcom experiment size-attack --images kodak --figure attack.png
    """
    import json

    from codec_runtime.digital.size_attack_report import attack_rows, write_figure
    from codec_runtime.evaluation.command import load_pictures

    try:
        codec = _digital_codec(tables, weights, decoder)
        chosen = [p[:, :side, :side] for p in load_pictures(images) if min(p.shape[1:]) >= side][:pictures]
        with _bar(len(chosen), "picture") as bar:
            rows = attack_rows(codec, chosen, point, steps=steps, on_picture=bar.update)
        if figure is not None:
            write_figure(rows, figure)
    except (OSError, ModuleNotFoundError, ValueError) as error:
        fail(str(error))
    listed = [row.as_json() for row in rows]
    if json_:
        typer.echo(json.dumps({"rows": listed}, indent=1))
    else:
        _show(listed, tuple(listed[0]))


def _digital_codec(tables: Path | None, weights: Path | None, decoder: str) -> DigitalImageCodec:
    from codec_runtime.bundle.store import SHIPPED_WEIGHTS
    from codec_runtime.digital.command import default_tables, load_digital_codec

    return load_digital_codec(tables or default_tables(weights or SHIPPED_WEIGHTS), weights, decoder)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _bar(total: int, unit: str) -> Any:
    import sys

    from tqdm import tqdm

    return tqdm(total=total, unit=unit, file=sys.stderr, leave=False)


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        values = (row[name] for name in columns)
        table.add_row(*("" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values))
    Console().print(table)
