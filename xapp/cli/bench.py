"""`semcom bench`: ratios against named references, measured interleaved in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xapp.cli.root import JsonFlag, bench_app, fail


@bench_app.command("codec")
def bench_codec_command(
    family: Annotated[
        str, typer.Option(help="Random weights of this family (fast, anchor) in place of trained ones.")
    ] = "",
    width: Annotated[int, typer.Option(help="Width of that family's networks; 0 for its default.")] = 0,
    weights: Annotated[Path | None, typer.Option(help="Bundle root; default: shipped weights.")] = None,
    decoder: Annotated[str, typer.Option(help="Decoder bundle, or decoder kind of --family.")] = "attention",
    backend: Annotated[Literal["auto", "torch", "openvino"], typer.Option()] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile, for --backend torch.")] = False,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option(help="auto: bf16 where the CPU multiplies it natively.")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of one inference.", min=1)] = 1,
    runs: Annotated[int, typer.Option(help="Timed runs of each case; minima count.", min=1)] = 15,
    images: Annotated[
        list[Path] | None, typer.Option(help="Pictures for the PSNR difference; default: a synthetic one.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Encoding and decoding by the serving backend against eager fp32 PyTorch.

    Two processes take turns on 768x512 and on sixteen 128x128 pictures; a speed-up is a ratio of minima. Both
    must do the same: the relative error and the PSNR difference are printed beside it.
    """
    import sys

    from tqdm import tqdm

    from codec_runtime.benchmarks.codec import BenchError, bench_codec
    from codec_runtime.benchmarks.codec_worker import WorkerSpec
    from codec_runtime.bundle.store import SHIPPED_WEIGHTS

    if family and weights is not None:
        fail("--family means random weights: give it or --weights, not both")
    if width and not family:
        fail("--width is of a --family; trained weights have the width they were trained at")
    for picture in images or ():
        if not picture.is_file():
            fail(f"--images {picture}: no such file; name pictures, one an option")
    spec = WorkerSpec(
        weights="" if family else str(weights or SHIPPED_WEIGHTS),
        family=family,
        decoder=decoder,
        config={"width": width} if width else {},
        engine=backend,
        compiled=compiled,
        precision="" if precision == "auto" else precision,
        threads=threads,
    )
    try:
        with tqdm(total=runs, unit="round", desc="bench", file=sys.stderr) as bar:
            result = bench_codec(spec, runs=runs, pictures=images or (), on_round=bar.update)
    except BenchError as error:
        fail(str(error))
    if json_:
        import json

        typer.echo(json.dumps({"command": _command(), **result.as_dict()}, indent=1))
    else:
        typer.echo(result.as_text())


def _command() -> str:
    """The command line as a reader would type it."""
    import shlex
    import sys

    return shlex.join(["semcom", *sys.argv[1:]])


@bench_app.command("golden")
def bench_golden_command(
    vectors: Annotated[Path, typer.Argument(help="JSON file of golden vectors.")] = Path(
        "tests/codec/golden_vectors.json"
    ),
    write: Annotated[bool, typer.Option("--write", help="Write the file anew, from eager torch.")] = False,
    backend: Annotated[
        Literal["eager", "torch", "openvino"], typer.Option(help="What computes the networks (fp32).")
    ] = "eager",
) -> None:
    """Compare what the networks compute here with the golden vectors; exit code 1 if anything differs.

    After new weights were shipped or a network was changed on purpose: `semcom bench golden --write`.
    """
    from codec_runtime.benchmarks.golden import (
        differences,
        golden_cases,
        golden_vector,
        read_vectors,
        write_vectors,
    )
    from codec_runtime.serving.backends.interface import BackendError
    from codec_runtime.serving.backends.selection import select_backend

    if write and backend != "eager":
        fail("--write takes the values of the trained modules themselves: leave --backend away")
    try:
        build = None if backend == "eager" else select_backend(backend, precision="fp32").build
        computed = [golden_vector(case, build) for case in golden_cases()]
        if write:
            write_vectors(vectors, computed)
            typer.echo(f"{len(computed)} vectors written to {vectors}")
            return
        expected = read_vectors(vectors)
    except (BackendError, OSError, ValueError) as error:
        fail(str(error))
    names = {vector.name for vector in computed}
    wrong = [f"{name}: there is no such network any more" for name in sorted(set(expected) - names)]
    for vector in computed:
        if vector.name not in expected:
            wrong.append(f"{vector.name}: no golden vector; run `semcom bench golden --write`")
            continue
        wrong += [f"{vector.name}: {line}" for line in differences(expected[vector.name], vector)]
    typer.echo("\n".join(wrong) if wrong else f"{len(computed)} networks as expected")
    raise typer.Exit(1 if wrong else 0)


@bench_app.command("kpm-decode")
def bench_kpm_decode_command(
    users: Annotated[int, typer.Option(help="Users in the indication, 1..1000.")] = 32,
    measurements: Annotated[int, typer.Option(help="Measurements of each user, 1..100.")] = 8,
    rounds: Annotated[int, typer.Option(help="Timed rounds; minima count.", min=1)] = 30,
    json_: JsonFlag = False,
) -> None:
    """Decoding a KPM indication (format 3) against asn1tools and pycrate, on the same bytes in one run.

    All three must have given the same values. A speed-up is a ratio of
    CPU times, minima over the rounds; wall times are told beside.
    """
    from rich.console import Console
    from rich.progress import Progress

    from xapp.benchmarks.kpm_decode import BenchError, bench_kpm_decode
    from xapp.benchmarks.kpm_reference import ReferenceMissingError

    try:
        # The xApp's own dependencies are enough here, so no tqdm.
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("rounds", total=rounds)
            result = bench_kpm_decode(
                users, measurements, rounds=rounds, on_round=lambda: progress.advance(task)
            )
    except (BenchError, ReferenceMissingError) as error:
        fail(str(error))
    if json_:
        import json

        typer.echo(json.dumps({"command": _command(), **result.as_dict()}, indent=1))
    else:
        typer.echo(result.as_text())
