"""`semcom experiment`: the experiments of the papers, one command each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xapp.cli.root import Folders, JsonFlag, experiment_app, fail

if TYPE_CHECKING:
    from codec_runtime.experiments.trial import Measurement, TrialSettings

TestFolders = Annotated[
    list[Path], typer.Option("--test", help="Folder of test pictures (Kodak); repeat for several.")
]
Work = Annotated[
    Path, typer.Option(help="Folder where finished cells are kept: a second run does what is missing.")
]
Out = Annotated[Path | None, typer.Option(help="JSON file to write; default: docs/results/NAME.json.")]
Jobs = Annotated[int, typer.Option(help="Cells trained at a time, a process of one thread each.", min=1)]
Fast = Annotated[
    bool,
    typer.Option("--fast", help="Smoke run: tiny networks, a few updates; the numbers mean nothing."),
]
Seeds = Annotated[str, typer.Option(help="Seeds, comma-separated.")]
Snrs = Annotated[str, typer.Option(help="SNRs of the measurement in dB, comma-separated.")]
Width = Annotated[int, typer.Option(help="Width of the networks.", min=4)]
Family = Annotated[str, typer.Option(help="Codec family: anchor (the seed's table) or fast.")]
Batch = Annotated[int, typer.Option(help="Crops in a batch.", min=1)]
Crop = Annotated[int, typer.Option(help="Side of the training crops.", min=32)]
LearningRate = Annotated[float, typer.Option(help="Adam's learning rate at its peak.")]
Noise = Annotated[int, typer.Option("--noise-seeds", help="Noise draws of each test picture.", min=1)]
Updates = Annotated[int, typer.Option(help="Encoder updates E; each decoder makes E/4.", min=4)]

_WORK = Path("runs/experiments")
_RESULTS = Path("docs/results")
_UNSHOWN = frozenset({"work", "jobs", "out", "json_"})


@experiment_app.command("schemes")
def schemes_command(
    context: typer.Context,
    images: Folders,
    test: TestFolders,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            "--channel",
            help="A model is trained for each and measured on it. Default: awgn and rayleigh_slow_eq.",
        ),
    ] = None,
    seeds: Seeds = "1,2,3",
    recipes: Annotated[
        str, typer.Option(help="Recipes, comma-separated.")
    ] = "anchor,iterative,simultaneous,joint-single",
    upper_seeds: Annotated[
        int, typer.Option(help="Seeds of joint-single, the upper reference.", min=0)
    ] = 1,
    encoder_updates: Updates = 1600,
    epoch_steps: Annotated[int, typer.Option(help="Steps of a turn in iterative training.", min=1)] = 50,
    width: Width = 32,
    family: Family = "anchor",
    crop: Crop = 64,
    batch: Batch = 8,
    learning_rate: LearningRate = 1e-3,
    snr: Snrs = "1,4,7,10,13",
    noise_seeds: Noise = 1,
    fast: Fast = False,
    work: Work = _WORK,
    out: Out = None,
    jobs: Jobs = 1,
    json_: JsonFlag = False,
) -> None:
    """Training schemes at equal budget (the seed's Fig. 6, Tables III and IV).

    Four users' decoders, R = 1/16. Every recipe makes E updates of the encoder and E/4 of each decoder. With
    the default values about an hour on two CPU cores (--jobs 2); every finished training is kept.

    semcom experiment schemes --images bsds500 --images flickr8k --test kodak --jobs 2
    """
    from dataclasses import replace

    from codec_runtime.experiments.schemes import CHANNELS, SchemeSettings, run_schemes
    from codec_runtime.experiments.trial import TrialSettings

    def run() -> dict[str, Any]:
        trial = TrialSettings(
            images=_paths(images), family=family, width=width, encoder_updates=encoder_updates,
            decoder_updates=_decoder_updates(encoder_updates), epoch_steps=epoch_steps, crop=crop,
            batch=batch, learning_rate=learning_rate,
        )
        measurement = _measurement(test, snr, noise_seeds)
        settings = SchemeSettings(
            trial, measurement, tuple(words_of(recipes)), tuple(channel or CHANNELS), integers(seeds),
            upper_seeds,
        )
        if fast:
            trial, measurement = _smoke(trial, measurement)
            settings = replace(settings, trial=trial, measurement=measurement, seeds=settings.seeds[:1])
        return run_schemes(settings, work, command=command_line(context), jobs=jobs)

    _finish(run, "schemes", out, fast, work, json_)


@experiment_app.command("forgetting")
def forgetting_command(
    context: typer.Context,
    images: Folders,
    test: TestFolders,
    channel: Annotated[str, typer.Option(help="Of training and measurement.")] = "awgn",
    seeds: Seeds = "1,2,3",
    rounds: Annotated[
        int, typer.Option(help="Turns of each user up to the one after which it is measured.", min=1)
    ] = 4,
    epoch_steps: Annotated[int, typer.Option(help="Steps of a user's turn.", min=1)] = 100,
    width: Width = 32,
    family: Family = "anchor",
    crop: Crop = 64,
    batch: Batch = 8,
    learning_rate: LearningRate = 1e-3,
    snr: Snrs = "1,4,7,10,13",
    noise_seeds: Noise = 1,
    fast: Fast = False,
    work: Work = _WORK,
    out: Out = None,
    jobs: Jobs = 1,
    json_: JsonFlag = False,
) -> None:
    """Catastrophic forgetting (the seed's Fig. 5): each user after its own turn, and after 1, 2, 3 others'.

    The anchor scheme beside it, whose encoder is frozen while users are trained.
    """
    from dataclasses import replace

    from codec_runtime.experiments.forgetting import ForgettingSettings, run_forgetting
    from codec_runtime.experiments.trial import TrialSettings

    def run() -> dict[str, Any]:
        trial = TrialSettings(
            images=_paths(images), family=family, width=width, epoch_steps=epoch_steps, crop=crop,
            batch=batch, learning_rate=learning_rate, final_fraction=1.0,
        )
        settings = ForgettingSettings(
            trial, _measurement(test, snr, noise_seeds), channel=channel, rounds=rounds,
            seeds=integers(seeds),
        )
        if fast:
            trial, measurement = _smoke(trial, settings.measurement)
            settings = replace(
                settings, trial=trial, measurement=measurement, rounds=1, seeds=settings.seeds[:1]
            )
        return run_forgetting(settings, work, command=command_line(context), jobs=jobs)

    _finish(run, "forgetting", out, fast, work, json_)


@experiment_app.command("conflict")
def conflict_command(
    context: typer.Context,
    images: Folders,
    channel: Annotated[str, typer.Option(help="Of training.")] = "awgn",
    seeds: Seeds = "1,2,3",
    recipes: Annotated[str, typer.Option(help="Recipes, comma-separated.")] = "simultaneous,iterative",
    encoder_updates: Updates = 1600,
    every: Annotated[int, typer.Option(help="Updates between two measurements.", min=1)] = 20,
    width: Width = 32,
    family: Family = "anchor",
    crop: Crop = 64,
    batch: Batch = 8,
    learning_rate: LearningRate = 1e-3,
    fast: Fast = False,
    work: Work = _WORK,
    out: Out = None,
    jobs: Jobs = 1,
    json_: JsonFlag = False,
) -> None:
    """Gradient conflict (the seed's Theorem 1): cosines between users' encoder gradients over training."""
    from dataclasses import replace

    from codec_runtime.experiments.conflict import ConflictSettings, run_conflict
    from codec_runtime.experiments.trial import Measurement, TrialSettings

    def run() -> dict[str, Any]:
        trial = TrialSettings(
            images=_paths(images), family=family, width=width, encoder_updates=encoder_updates,
            decoder_updates=_decoder_updates(encoder_updates), crop=crop, batch=batch,
            learning_rate=learning_rate, gradients_every=every,
        )
        settings = ConflictSettings(trial, tuple(words_of(recipes)), channel, integers(seeds))
        if fast:
            trial = replace(_smoke(trial, Measurement())[0], gradients_every=1)
            settings = replace(settings, trial=trial, seeds=settings.seeds[:1])
        return run_conflict(settings, work, command=command_line(context), jobs=jobs)

    _finish(run, "conflict", out, fast, work, json_)


@experiment_app.command("rates")
def rates_command(
    context: typer.Context,
    images: Folders,
    test: TestFolders,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help="scratch: all models make the same steps from the same start. A bundle root: its model is "
            "the one for every rate, and each single-rate model is it, trained on at its rate.",
        ),
    ] = "scratch",
    rate: Annotated[str, typer.Option(help="Bandwidth ratios, comma-separated.")] = "1/48,1/24,1/16,1/12,1/6",
    decoder: Annotated[str, typer.Option(help="Decoder kind.")] = "attention",
    steps: Annotated[int, typer.Option(help="Steps of each training.", min=1)] = 2000,
    channel: Annotated[str, typer.Option(help="Of training and measurement.")] = "awgn",
    seeds: Seeds = "1",
    width: Width = 64,
    blocks: Annotated[int, typer.Option(help="Blocks of the networks.", min=1)] = 4,
    family: Family = "fast",
    crop: Crop = 128,
    batch: Batch = 8,
    learning_rate: LearningRate = 8e-4,
    snr: Snrs = "1,4,7,10,13",
    noise_seeds: Noise = 1,
    fast: Fast = False,
    work: Work = _WORK,
    out: Out = None,
    jobs: Jobs = 1,
    json_: JsonFlag = False,
) -> None:
    """One model for every rate against a model for each, and whether its PSNR is monotone in rate and SNR."""
    from dataclasses import replace

    from codec_runtime.evaluation.command import parse_rates
    from codec_runtime.experiments.rates import FAST, RateSettings, run_rates

    def run() -> dict[str, Any]:
        trial = replace(
            FAST, images=_paths(images), family=family, width=width, blocks=blocks, decoders=(decoder,),
            encoder_updates=steps, decoder_updates=steps, crop=crop, batch=batch, learning_rate=learning_rate,
        )
        measurement = replace(_measurement(test, snr, noise_seeds), prefixes=tuple(parse_rates(rate)))
        weights = None if start == "scratch" else start
        settings = RateSettings(trial, measurement, channel, integers(seeds), weights)
        if fast:
            trial, measurement = _smoke(trial, measurement)
            settings = replace(settings, trial=replace(trial, encoder_updates=2), measurement=measurement)
        return run_rates(settings, work, command=command_line(context), jobs=jobs)

    _finish(run, "rates", out, fast, work, json_)


@experiment_app.command("report")
def report_command(
    images: Annotated[
        list[Path] | None, typer.Option("--images", help="Pictures to show under each scheme (Kodak).")
    ] = None,
    rows: Annotated[
        list[Path] | None,
        typer.Option("--rows", help="File of `semcom eval codec --json`; repeat for several."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder with JSON files of `semcom experiment` and `semcom eval codec`; docs/results "
            "where there is one."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Bundle root; default: shipped weights.")] = None,
    pictures: Annotated[int, typer.Option(help="Pictures shown.", min=1)] = 3,
    snr: Snrs = "1,7",
    rate: Annotated[str, typer.Option(help="Bandwidth ratio at which the pictures are sent.")] = "1/16",
    figures: Annotated[Path | None, typer.Option(help="Folder for the plots, as codec-NAME.png.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="Markdown file whose tables are filled in (docs/codec.md).")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
) -> None:
    """Plots, tables and pictures of everything that was measured: one HTML file that needs nothing else.

    semcom experiment report --images kodak --figures docs/images --document docs/codec.md --out report.html
    """
    from codec_runtime.evaluation.command import parse_rates, parse_snrs
    from codec_runtime.experiments.page import PageRequest, write_page

    folder = results or (_RESULTS if _RESULTS.is_dir() else None)
    try:
        request = PageRequest(
            images or (), rows or (), folder, weights, figures, document, pictures, parse_snrs(snr),
            parse_rates(rate)[0],
        )
        written = write_page(request, out)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        fail(str(error))
    typer.echo("\n".join(str(path) for path in written))


def _finish(
    run: Callable[[], dict[str, Any]], name: str, out: Path | None, fast: bool, work: Path, json_: bool
) -> None:
    """Run, write the file, print the verdict. A smoke run's file stays below ``work``."""
    from codec_runtime.experiments.cells import CellError
    from codec_runtime.experiments.results import write_json

    path = out or (work / f"fast-{name}.json" if fast else _RESULTS / f"{name}.json")
    try:
        result = run()
    except (FileNotFoundError, ModuleNotFoundError, ValueError, CellError) as error:
        fail(str(error))
    write_json(path, result)
    typer.echo(json.dumps(result) if json_ else "\n".join((*result["verdict_text"], f"written: {path}")))


def _measurement(test: list[Path], snr: str, noise_seeds: int) -> Measurement:
    from codec_runtime.evaluation.command import parse_snrs
    from codec_runtime.experiments.trial import Measurement

    return Measurement(images=_paths(test), snrs_db=tuple(parse_snrs(snr)), noise_seeds=noise_seeds)


def _smoke(trial: TrialSettings, measurement: Measurement) -> tuple[TrialSettings, Measurement]:
    """The same experiment at a size that only shows that it runs."""
    from dataclasses import replace

    small = replace(
        trial, width=8, blocks=2, encoder_updates=2 * len(trial.decoders), decoder_updates=2, epoch_steps=1,
        crop=32, batch=2,
    )
    return small, replace(measurement, snrs_db=measurement.snrs_db[::4], noise_seeds=1, pictures=1)


def _decoder_updates(encoder_updates: int) -> int:
    from codec_runtime.codecs.registry import KINDS

    if encoder_updates % len(KINDS):
        raise ValueError(
            f"{encoder_updates} encoder updates are no multiple of {len(KINDS)}, the number of users"
        )
    return encoder_updates // len(KINDS)


def _paths(folders: list[Path]) -> tuple[str, ...]:
    return tuple(str(folder) for folder in folders)


def words_of(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words_of(text))
    except ValueError:
        raise ValueError(f"seeds {text!r}: write whole numbers such as 1,2,3") from None


def command_line(context: typer.Context) -> str:
    """The command line as it was given, without what changes no result; paths beyond the working directory by
    their last name."""
    words = ["semcom experiment", str(context.info_name)]
    given: Mapping[str, Any] = context.params
    for option in context.command.params:
        name = str(option.name)
        source = context.get_parameter_source(name)
        if name in _UNSHOWN or source is None or source.name != "COMMANDLINE":
            continue
        value = given[name]
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if one is True:
                words.append(option.opts[0])
            else:
                path = isinstance(one, Path) or (name == "start" and one != "scratch")
                beyond = path and (Path(one).is_absolute() or ".." in Path(one).parts)
                words.append(f"{option.opts[0]} {Path(one).name if beyond else one}")
    return " ".join(words)
