"""`semcom eval`: tables of measured quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xapp.cli.root import Folders, JsonFlag, eval_app, fail


@eval_app.command("codec")
def eval_codec_command(
    images: Folders,
    channel: Annotated[
        str,
        typer.Option(
            help="Channels, comma-separated: awgn, rayleigh_slow, rayleigh_slow_eq, rayleigh_fast_magnitude, "
            "rayleigh_mmse, tdl-a to tdl-e; each also with +snr+3, +snr-3, +burst or +clip."
        ),
    ] = "awgn",
    snr: Annotated[str, typer.Option(help="SNR per complex symbol in dB, comma-separated.")] = "1,4,7,10,13",
    rate: Annotated[str, typer.Option(help="Bandwidth ratios, comma-separated, e.g. 1/16,1/6.")] = "1/16",
    decoder: Annotated[
        str, typer.Option(help="Decoders, comma-separated; all; none for baselines only.")
    ] = "all",
    tier: Annotated[str, typer.Option(help="Compute tiers: small, medium, large, or all.")] = "all",
    seeds: Annotated[int, typer.Option(help="Noise seeds per picture.", min=1)] = 10,
    ms_ssim_seeds: Annotated[
        int, typer.Option(help="Noise seeds per picture that MS-SSIM is measured on; 0: none.", min=0)
    ] = 1,
    baselines: Annotated[
        str, typer.Option(help="linear, jpeg, jpeg2000, heic, comma-separated; all; none.")
    ] = "none",
    modem: Annotated[
        str,
        typer.Option(help="Of the image codecs: capacity (ideal), ldpc (5G LDPC + QAM, as measured)."),
    ] = "capacity,ldpc",
    design_snr: Annotated[
        str,
        typer.Option(help="Also keep the LDPC scheme for these SNRs (dB) at every SNR: shows the cliff."),
    ] = "",
    weights: Annotated[Path | None, typer.Option(help="Bundle root; default: shipped weights.")] = None,
    json_: JsonFlag = False,
) -> None:
    """PSNR and MS-SSIM of the served codec on a folder of pictures, beside classical coding.

    Values are means over the pictures of a single picture's PSNR after 8-bit rounding. Over awgn and
    rayleigh_slow_eq baselines at the same bandwidth can stand in the same table:

    semcom eval codec --images kodak --baselines linear,jpeg,jpeg2000,heic --modem capacity,ldpc
    """
    from codec_runtime.evaluation.command import EvaluationRequest, evaluate_command

    request = EvaluationRequest(
        folders=images, channels=channel, snrs=snr, rates=rate, decoder=decoder, tiers=tier, seeds=seeds,
        ms_ssim_seeds=ms_ssim_seeds, baselines=baselines, modems=modem, design_snrs=design_snr,
        weights=weights,
    )
    try:
        table = evaluate_command(request)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        fail(str(error))
    typer.echo(table.as_json() if json_ else table.as_text())


@eval_app.command("mcs")
def eval_mcs_command(
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: the one that the LDPC baselines read.")
    ] = None,
    blocks: Annotated[int, typer.Option(help="Code blocks near the threshold.", min=1)] = 200,
    bits: Annotated[int, typer.Option(help="Information bits of a code block.", min=24, max=8448)] = 2112,
    seed: Annotated[int, typer.Option()] = 1,
    first: Annotated[int, typer.Option(help="First MCS index (below 3 the code repeats bits).", min=3)] = 3,
    last: Annotated[int, typer.Option(help="Last MCS index.", max=28)] = 28,
    json_: JsonFlag = False,
) -> None:
    """Measure the SNR that each 5G NR modulation and coding scheme needs (TS 38.214, table 5.1.3.1-1).

    Takes about ten minutes on one core and needs sionna (extra `lab`).
    """
    from codec_runtime.evaluation.mcs_measure import McsConfig, mcs_command

    config = McsConfig(first=first, last=last, information_bits=bits, blocks=blocks, seed=seed)
    try:
        measurement = mcs_command(config, out)
    except (ModuleNotFoundError, ValueError) as error:
        fail(str(error))
    typer.echo(measurement.as_json() if json_ else measurement.as_text())
