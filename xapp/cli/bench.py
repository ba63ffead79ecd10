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
        list[Path] | None,
        typer.Option(help="Pictures, or folders of them, for the PSNR difference; default: a synthetic one."),
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
    from codec_runtime.training.data import list_images

    if family and weights is not None:
        fail("--family means random weights: give it or --weights, not both")
    if width and not family:
        fail("--width is of a --family; trained weights have the width they were trained at")
    pictures: list[Path] = []
    for path in images or ():
        try:
            pictures += [path] if path.is_file() else list_images([path])
        except FileNotFoundError as error:
            fail(f"--images: {error}")
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
            result = bench_codec(spec, runs=runs, pictures=pictures, on_round=bar.update)
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


@bench_app.command("swap")
def bench_swap_command(
    swaps: Annotated[int, typer.Option(help="Activations in all.", min=2)] = 100,
    seconds: Annotated[float, typer.Option(help="Of phases with swaps; as much without.", min=1)] = 60.0,
    clients: Annotated[int, typer.Option(help="Closed loops of encode and decode.", min=1, max=32)] = 4,
    side: Annotated[int, typer.Option(help="Side of the clients' pictures.", min=16, max=2048)] = 128,
    decoder: Annotated[str, typer.Option(help="Decoder family that is exchanged.")] = "attention",
    weights: Annotated[Path | None, typer.Option(help="Bundle root; default: shipped weights.")] = None,
    backend: Annotated[Literal["auto", "torch", "openvino"], typer.Option()] = "auto",
    nice: Annotated[int, typer.Option(help="Niceness of preparing new weights.", min=0, max=19)] = 10,
    share: Annotated[float, typer.Option(help="Of the time that it computes.", min=0.05, max=1)] = 0.5,
    control: Annotated[
        float, typer.Option(help="CPU ms of a control in place of a swap, in phases of its own.", min=0)
    ] = 0.0,
    threads: Annotated[int, typer.Option(help="Threads of one inference.", min=1, max=64)] = 1,
    fast: Annotated[bool, typer.Option("--fast", help="Tiny networks, four swaps: a trial run.")] = False,
    json_: JsonFlag = False,
) -> None:
    """What users notice while decoder versions are delivered, verified, loaded and swapped under them.

    A runtime process of its own, clients in another, updates signed and pushed by this one. Phases with and
    without swaps alternate; the ratio of their 99th percentiles is the result.
    """
    import sys
    import tempfile
    from contextlib import closing

    from tqdm import tqdm

    from codec_runtime.benchmarks.codec import BenchError
    from codec_runtime.benchmarks.swap import Plan, bench_swap
    from codec_runtime.bundle.errors import BundleError
    from codec_runtime.bundle.store import SHIPPED_WEIGHTS
    from codec_runtime.serving.settings import RuntimeSettings
    from xapp.benchmarks.swap_updates import newest_pair, prepare_updates, write_tiny_pair
    from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable

    phase_s = 3.0
    if fast:
        swaps, seconds, side, backend, phase_s = 4, 2.0, 32, "torch", 1.0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        root = write_tiny_pair(place / "weights", decoder) if fast else weights or SHIPPED_WEIGHTS
        try:
            pair = newest_pair(root, decoder)
            updates = prepare_updates(pair, place, swaps)
            settings = RuntimeSettings(
                weights_dir=str(root), trusted_root=str(updates.trusted_root), backend=backend,
                activation_nice=nice, activation_share=share, torch_threads=threads,
            )
            plan = Plan(
                swaps=swaps, seconds=seconds, phase_s=phase_s, clients=clients, side=side,
                first_version=pair.decoder.version + 1, encoder_version=pair.encoder.version, decoder=decoder,
                control_ms=control,
            )
            with closing(updates), tqdm(total=swaps, unit="swap", desc="bench", file=sys.stderr) as bar:
                result = bench_swap(settings, plan, updates.deliver, bar.update)
        except (BenchError, BundleError, LookupError, RuntimeRefused, RuntimeUnavailable) as error:
            fail(str(error))
    if json_:
        import json

        typer.echo(json.dumps({"command": _command(), **result.as_dict()}, indent=1))
    else:
        typer.echo(result.as_text())


@bench_app.command("split")
def bench_split_command(
    users: Annotated[int, typer.Option(help="Users decided about at once, of 8 device classes.")] = 1000,
    decisions: Annotated[int, typer.Option(help="Single decisions timed.", min=1)] = 2000,
    rounds: Annotated[int, typer.Option(help="Timed rounds of the references.", min=1)] = 20,
    json_: JsonFlag = False,
) -> None:
    """Deciding where to cut ResNet-50 (177 nodes) by cached candidates, against minimum cuts from scratch."""
    from xapp.benchmarks.kpm_decode import BenchError
    from xapp.benchmarks.split import bench_split

    try:
        result = bench_split(users, decisions, rounds)
    except BenchError as error:
        fail(str(error))
    if json_:
        import json

        typer.echo(json.dumps({"command": _command(), **result.as_dict()}, indent=1))
    else:
        typer.echo(result.as_text())


@bench_app.command("push")
def bench_push_command(
    weights: Annotated[
        Path | None, typer.Option(help="Bundle root with an encoder-decoder pair; default: shipped weights.")
    ] = None,
    decoder: Annotated[str, typer.Option(help="Decoder bundle of the pair.")] = "attention",
    rounds: Annotated[int, typer.Option(help="Timed rounds; medians count.", min=1)] = 9,
    fast: Annotated[
        bool, typer.Option("--fast", help="A quick try: two rounds, an update of a second of training.")
    ] = False,
    json_: JsonFlag = False,
) -> None:
    """Pushing weights to a site on loopback against a raw HTTP upload with a sha256 check, in one run.

    A pair, a decoder update, and the same update as a delta go to a real runtime in a process of its own;
    the bytes of the pair go to a minimal server too. Transfer and verification count; loading is beside.
    """
    import sys

    from tqdm import tqdm

    from codec_runtime.bundle.errors import BundleError
    from codec_runtime.bundle.store import SHIPPED_WEIGHTS
    from xapp.benchmarks.push import bench_push
    from xapp.benchmarks.push_servers import BenchError

    rounds, finetune_s = (2, 0.5) if fast else (rounds, 4.0)
    try:
        with tqdm(total=rounds, unit="round", desc="bench", file=sys.stderr) as bar:
            result = bench_push(
                weights or SHIPPED_WEIGHTS,
                decoder=decoder,
                rounds=rounds,
                finetune_s=finetune_s,
                on_round=bar.update,
            )
    except (BenchError, BundleError, OSError, ValueError) as error:
        fail(str(error))
    if json_:
        import json

        typer.echo(json.dumps({"command": _command(), **result.as_dict()}, indent=1))
    else:
        typer.echo(result.as_text())
