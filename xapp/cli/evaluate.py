"""`semcom eval`: tables of measured quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xapp.cli.root import Folders, JsonFlag, eval_app, fail


@eval_app.command("codec")
def eval_codec_command(
    images: Folders,
    channel: Annotated[Literal["awgn", "rayleigh_slow_eq"], typer.Option()] = "awgn",
    snr: Annotated[str, typer.Option(help="SNR per complex symbol in dB, comma-separated.")] = "1,4,7,10,13",
    rate: Annotated[str, typer.Option(help="Bandwidth ratios, comma-separated, e.g. 1/16,1/6.")] = "1/16",
    decoder: Annotated[str, typer.Option(help="Decoder family, or all.")] = "all",
    seeds: Annotated[int, typer.Option(help="Noise seeds per picture.", min=1)] = 1,
    weights: Annotated[Path | None, typer.Option(help="Bundle root; default: shipped weights.")] = None,
    json_: JsonFlag = False,
) -> None:
    """PSNR and MS-SSIM of the served codec on a folder of pictures."""
    from codec_runtime.evaluation.command import evaluate_command

    try:
        table = evaluate_command(
            folders=images,
            channel=channel,
            snrs=snr,
            rates=rate,
            decoder=decoder,
            seeds=seeds,
            weights=weights,
        )
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))
    typer.echo(table.as_json() if json_ else table.as_text())
