"""`semcom train`: weights from folders of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xapp.cli.root import Folders, fail, train_app


@train_app.command("codec")
def train_codec_command(
    images: Folders,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints.")] = Path("runs/codec"),
    anchor_minutes: Annotated[float, typer.Option(help="Encoder + attention decoder.")] = 58.0,
    decoder_minutes: Annotated[float, typer.Option(help="Each further decoder, encoder frozen.")] = 18.0,
    seed: Annotated[int, typer.Option()] = 1,
    batch: Annotated[int, typer.Option(min=1)] = 12,
    crop: Annotated[int, typer.Option(min=32)] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak of the cosine schedule.")] = 8e-4,
    initial: Annotated[Path | None, typer.Option(help="Folder of an earlier run to continue from.")] = None,
) -> None:
    """Train the anchor encoder with its attention decoder, freeze it, train the convolutional decoder."""
    from codec_runtime.codecs.jscc import JsccConfig
    from codec_runtime.training.codec import train_codec
    from codec_runtime.training.recipe import TrainConfig

    try:
        train_codec(
            images,
            out,
            TrainConfig(seed=seed, batch=batch, crop=crop, learning_rate=learning_rate),
            JsccConfig(),
            anchor_minutes=anchor_minutes,
            decoder_minutes=decoder_minutes,
            initial=initial,
        )
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))


@train_app.command("publish")
def publish_command(
    images: Folders,
    run: Annotated[Path, typer.Option(help="Folder of `semcom train codec`.")] = Path("runs/codec"),
    out: Annotated[Path, typer.Option(help="Bundle root to write.")] = Path("codec_runtime/weights"),
    version: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Measure trained weights on a test folder and write them as bundles with a model card."""
    from codec_runtime.training.publish import publish

    try:
        publish(run, images, out, version)
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))
