"""`semcom eval`: tables of measured quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xapp.cli.root import Folders, JsonFlag, eval_app, fail, network_settings
from xapp.policy.conventional import QUALITY_FILE


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


@eval_app.command("cost")
def eval_cost_command(
    family: Annotated[
        str, typer.Option(help="fast or anchor; default: the shipped encoder's, with its configuration.")
    ] = "",
    network: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE: a hyper-parameter of the family, e.g. width=256; repeat."),
    ] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the picture.")] = "768x512",
    weights: Annotated[Path | None, typer.Option(help="Bundle root; default: shipped weights.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Parameters, multiply-accumulates and time of the encoder and of every decoder at every compute tier.

    Networks of that configuration with random weights, so untrained ones too; one CPU thread, eager PyTorch.

    semcom eval cost --family anchor --network width=256
    """
    from rich.console import Console
    from rich.progress import Progress

    from codec_runtime.bundle.store import SHIPPED_WEIGHTS
    from codec_runtime.codecs.registry import KINDS, TIERS
    from codec_runtime.evaluation.cost_table import CostTable, cost_rows, shipped_family

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        fail(f"--size {size}: WIDTHxHEIGHT in pixels is needed, e.g. 768x512")
    try:
        chosen, config = (family, {}) if family else shipped_family(weights or SHIPPED_WEIGHTS)
        config.update(network_settings(network))
        with Progress(console=Console(stderr=True), transient=True) as progress:
            rows = progress.track(
                cost_rows(chosen, config, int(height), int(width)), total=1 + len(KINDS) * len(TIERS),
                description="networks",
            )
            table = CostTable(chosen, config, int(height), int(width), list(rows))
    except (FileNotFoundError, ValueError) as error:
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


@eval_app.command("conventional")
def eval_conventional_command(
    images: Folders,
    out: Annotated[Path, typer.Option(help="File to write.")] = QUALITY_FILE,
    side: Annotated[int, typer.Option(help="Side of the square pictures in pixels.", min=161)] = 168,
    pictures: Annotated[int, typer.Option(help="Most pictures.", min=1)] = 24,
    json_: JsonFlag = False,
) -> None:
    """Measure JPEG and HEIC in the symbols of the semantic codec: the surfaces that fallback is decided from.

    semcom eval conventional --images kodak
    """
    import msgspec

    from codec_runtime.bundle.store import write_atomic
    from codec_runtime.evaluation.command import load_pictures
    from codec_runtime.evaluation.conventional_quality import measure_conventional

    folders = " ".join(f"--images {folder.name}" for folder in images)
    try:
        measured = measure_conventional(
            [picture.numpy() for picture in load_pictures(images)],
            command=f"semcom eval conventional {folders} --side {side} --pictures {pictures}",
            side=side, most=pictures,
        )
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))
    document = msgspec.json.format(msgspec.json.encode(measured), indent=1)
    write_atomic(out, document)
    if json_:
        typer.echo(document.decode())
        return
    for codec, points in measured.quality.items():
        for point in points:
            typer.echo(f"{codec:5} {point.prefix:3}/96 {point.snr_db:6.1f} dB {point.psnr_db:6.2f} dB PSNR")


@eval_app.command("split")
def eval_split_command(
    traces: Annotated[Path, typer.Option(help="CSV file or folder of drive tests (UCC 5G format).")],
    seconds: Annotated[int, typer.Option(help="Of each trace.", min=2)] = 600,
    requests: Annotated[float, typer.Option(help="A second and user.", min=0.01)] = 2.0,
    per_joule: Annotated[float, typer.Option(help="Seconds of latency that a joule is worth.", min=0)] = 0.1,
    feature_bits: Annotated[
        int, typer.Option(help="Bits of a value that crosses; the picture itself takes 8.", min=1, max=32)
    ] = 8,
    rate: Annotated[
        Literal["cqi", "carried"],
        typer.Option(help="Throughput from the reported CQI, or from what downloads carried."),
    ] = "cqi",
    band: Annotated[float, typer.Option(help="Relative excess of a cut that is put up with.", min=0)] = 0.1,
    patience: Annotated[float, typer.Option(help="Arrears, in costs of a move, to make it.", min=0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the edge server's load.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="PNG file to write.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Deciders of where to cut EfficientNet-Lite0, on drive tests and 8 device classes.

    All on the device, all on the edge, the best fixed cut, Neurosurgeon, DADS, ours, and oracles: latency,
    device energy, moves of the cut, and how far best response is from the optimum when users share the edge
    server.

    semcom eval split --traces ucc-5g --plot split.png
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from xapp.lab.trace import TraceError, load_traces
    from xapp.split.deciders import DECIDERS
    from xapp.split.harness import SplitEvaluation, compare_deciders
    from xapp.split.objective import Weights
    from xapp.split.switching import SwitchingRule

    evaluation = SplitEvaluation(
        seconds=seconds, requests=requests, weights=Weights(1.0, per_joule), feature_bits=feature_bits,
        rate=rate, rule=SwitchingRule(band, patience), seed=seed,
    )
    try:
        read = load_traces(traces)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("deciders", total=len(DECIDERS) * len(evaluation.classes))
            result = compare_deciders(read, evaluation, on_step=lambda: progress.advance(task))
        if plot is not None:
            from xapp.split.plots import write_comparison

            write_comparison(result, plot)
    except (TraceError, ModuleNotFoundError, OSError, ValueError) as error:
        fail(str(error))
    typer.echo(json.dumps(result.as_dict(), indent=1) if json_ else result.as_text())
