"""`semcom experiment adapter-noise`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xapp.cli.experiment import command_line, integers, words_of
from xapp.cli.root import JsonFlag, experiment_app, fail

if TYPE_CHECKING:
    from codec_runtime.experiments.adapter_noise import AdapterNoiseSettings

_OUT = Path("docs/results/adapter_noise.json")


@experiment_app.command("adapter-noise")
def adapter_noise_command(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Folder with captions.txt (image,caption) and images/.")],
    methods: Annotated[
        str, typer.Option(help="At every level of errors, comma-separated; default: all eight.")
    ] = "",
    errors: Annotated[
        str, typer.Option(help="Wrong labels in per cent, or mixed: five users 20, five 60.")
    ] = "0,20,40,60,mixed",
    alpha: Annotated[float, typer.Option(min=0.01, help="Dirichlet's, of the users' content.")] = 0.5,
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated.")] = "1,2,3",
    rounds: Annotated[int, typer.Option(min=1)] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Local epochs of a round.")] = 2,
    source_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs over the base station's own pairs before; 0: from scratch.")
    ] = 4,
    batch: Annotated[int, typer.Option(min=2, help="Pairs of a step; a user has about 300.")] = 64,
    learning_rate: Annotated[float, typer.Option(min=1e-7, help="Of Adam.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="Decoupled.")] = 0.01,
    regularisation: Annotated[
        float, typer.Option(min=0.0, help="Factor on the agreement in the knowledge base.")
    ] = 1.0,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Confidence below which a label is doubted.")
    ] = 0.5,
    repair: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Certainty from which a doubted label gets a new partner.")
    ] = 0.7,
    light: Annotated[
        str, typer.Option(help="Encoders that every user can run, IMAGE TEXT: all that fedavg has.")
    ] = "efficientnet-early small-text",
    extras: Annotated[
        bool, typer.Option(help="The other updates, and the mixes Dirichlet 0.1 and IID, too.")
    ] = True,
    fast: Annotated[
        bool, typer.Option("--fast", help="Smoke run: two methods, one round; the numbers mean nothing.")
    ] = False,
    work: Annotated[
        Path, typer.Option(help="Folder where finished cells are kept: a second run does what is missing.")
    ] = Path("runs/experiments"),
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the plots.")] = None,
    document: Annotated[Path | None, typer.Option(help="Markdown file whose table is filled in.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Updates at a time, a process of one thread each.")] = 1,
    json_: JsonFlag = False,
) -> None:
    """Federated adapter updates under wrong labels: the scheme, ablations, baselines, bounds.

    An update of ours takes about a minute of one core with the default values, one of fedavg a quarter: the
    147 updates about an hour on two cores (--jobs 2). Every finished update is kept: a second run does what
    is missing. Tokens are computed first, once, in some minutes.

    semcom experiment adapter-noise --data flickr8k_1k --jobs 2 --figures docs/images
    --document docs/adapter.md
    """
    from dataclasses import replace

    from codec_runtime.adapters.encoders import EncoderUnavailableError
    from codec_runtime.adapters.losses import LossConfig
    from codec_runtime.adapters.training import TrainingConfig
    from codec_runtime.experiments.adapter_noise import MAIN, AdapterNoiseSettings, run_adapter_noise
    from codec_runtime.experiments.adapter_users import UserSettings
    from codec_runtime.experiments.cells import CellError
    from codec_runtime.experiments.results import write_json

    path = out or (work / "fast-adapter_noise.json" if fast else _OUT)
    try:
        settings = AdapterNoiseSettings(
            images=(str(data),), users=UserSettings(light=light), alpha=alpha, seeds=integers(seeds),
            training=TrainingConfig(
                batch=batch, learning_rate=learning_rate, weight_decay=weight_decay,
                loss=LossConfig(negatives="soft", regularisation=regularisation),
            ),
            methods=tuple(words_of(methods)) or MAIN, errors=tuple(words_of(errors)), rounds=rounds,
            epochs=epochs, source_epochs=source_epochs, threshold=threshold, repair=repair,
        )
        if fast:
            settings = _smoke(settings)
        if fast or not extras:
            settings = replace(settings, other_methods=(), mixes=())
        result = run_adapter_noise(settings, work, command=command_line(context), jobs=jobs)
    except KeyError as error:
        fail(str(error.args[0]))
    except (OSError, ValueError, EncoderUnavailableError, CellError) as error:
        fail(str(error))
    write_json(path, result)
    written = [path, *_views(result, figures, document)]
    told = (*result["verdict_text"], *(f"written: {file}" for file in written))
    typer.echo(json.dumps(result) if json_ else "\n".join(told))


def _smoke(settings: AdapterNoiseSettings) -> AdapterNoiseSettings:
    from dataclasses import replace

    return replace(
        settings, users=replace(settings.users, pictures=12), methods=("ours", "fedavg"), errors=("0", "60"),
        rounds=1, epochs=1, source_epochs=1, seeds=settings.seeds[:1],
    )


def _views(result: dict[str, Any], figures: Path | None, document: Path | None) -> list[Path]:
    from codec_runtime.bundle.files import write_atomic
    from codec_runtime.evaluation.plots import png
    from codec_runtime.experiments.adapter_views import adapter_noise_figures
    from codec_runtime.experiments.tables import fill

    written = []
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for name, figure in adapter_noise_figures(result).items():
            write_atomic(figures / f"{name}.png", png(figure))
            written.append(figures / f"{name}.png")
    if document is not None:
        write_atomic(document, fill(document.read_text(), {"adapter_noise": result}).encode())
        written.append(document)
    return written
