"""`semcom train`: weights from folders of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xapp.cli.root import Folders, fail, network_settings, train_app

if TYPE_CHECKING:
    from codec_runtime.training.config import Budget


Sources = Annotated[
    list[Path],
    typer.Option(
        "--images", help="Folder of photographs (repeat for several), or a file of `semcom train pack`."
    ),
]


@train_app.command("codec")
def train_codec_command(
    images: Sources,
    out: Annotated[Path, typer.Option(help="Folder for weights, provenance and the unfinished run.")] = Path(
        "runs/codec"
    ),
    family: Annotated[
        str, typer.Option(help="fast (an eighth of the resolution) or anchor (the seed's).")
    ] = "fast",
    recipe: Annotated[
        str, typer.Option(help="anchor, iterative, simultaneous or joint-single; all but anchor need steps.")
    ] = "anchor",
    decoders: Annotated[
        str, typer.Option(help="Kinds, each with an optional tier: attention,conv:small,resnet,vgg:large.")
    ] = "attention,conv",
    encoder_steps: Annotated[
        int | None, typer.Option(min=0, help="Encoder updates (0: keep --initial's).")
    ] = None,
    encoder_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Time of the encoder's stage.")
    ] = None,
    decoder_steps: Annotated[int | None, typer.Option(min=0, help="Updates of each decoder.")] = None,
    decoder_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Time of each decoder's stage.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of the networks.")] = None,
    blocks: Annotated[int | None, typer.Option(min=0, help="Blocks of the networks.")] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE: any other hyper-parameter of the family; repeat.")
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(help="Start from a folder of this command, or a bundle root.")
    ] = None,
    channel: Annotated[
        str, typer.Option(help="mixed (AWGN, a fifth of it faded), or a mode such as awgn, rayleigh_slow_eq.")
    ] = "mixed",
    snr: Annotated[
        str, typer.Option(help="LOW:HIGH in dB, drawn per picture, the middle more often.")
    ] = "-4:20",
    prefixes: Annotated[
        str | None, typer.Option(help="Prefix lengths to draw from, e.g. 2,4,6,8,16; one: a fixed rate.")
    ] = None,
    optimiser: Annotated[str | None, typer.Option(help="adam or muon [fast: muon, anchor: adam].")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Adam's peak of the cosine [fast: 8e-4, anchor: 1e-4]; Muon's is 15x."),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="mse, log-mse or ms-ssim [fast: log-mse, anchor: mse].")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16 (autocast; weights and channel stay fp32).")
    ] = "fp32",
    channels_last: Annotated[bool, typer.Option(help="Channels-last memory layout.")] = False,
    compile_networks: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Use torch.compile.")
    ] = False,
    ema_decay: Annotated[float, typer.Option(help="Decay of the averaged weights; 0: none.")] = 0.998,
    gradients_every: Annotated[
        int, typer.Option(min=0, help="Measure the users' gradient conflict every N steps (not anchor).")
    ] = 0,
    epoch_steps: Annotated[int, typer.Option(min=1, help="Steps of a decoder's turn in iterative.")] = 100,
    seed: Annotated[int, typer.Option()] = 1,
    batch: Annotated[int, typer.Option(min=1)] = 12,
    crop: Annotated[int, typer.Option(min=32)] = 128,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume", help="Go on / begin anew [default: go on if an unfinished run is there]."
        ),
    ] = None,
    checkpoint_minutes: Annotated[float, typer.Option(min=0.0, help="Time between checkpoints.")] = 5.0,
    tensorboard: Annotated[bool, typer.Option(help="Curves below OUT/tensorboard.")] = False,
) -> None:
    """Train one encoder and its decoders.

    The anchor recipe trains the encoder with an attention decoder (--encoder-steps or --encoder-minutes),
    freezes it, then trains each further decoder alone (--decoder-steps or --decoder-minutes).

    Ctrl-C writes a checkpoint; the same command goes on from it. Several GPUs:
    torchrun --nproc-per-node 4 -m xapp.cli train codec ...
    """
    import sys

    from codec_runtime.training.checkpoint import TrainingInterrupted
    from codec_runtime.training.code_version import portable_command
    from codec_runtime.training.codec import CodecTraining, parse_decoders, train_codec
    from codec_runtime.training.conditions import PREFIXES, ConditionConfig
    from codec_runtime.training.config import TrainConfig
    from codec_runtime.training.ranks import join, leave

    fast = family == "fast"
    try:
        model: dict[str, int | str] = network_settings(network)
        model |= {key: value for key, value in (("width", width), ("blocks", blocks)) if value is not None}
        config = TrainConfig(
            seed=seed,
            crop=crop,
            batch=batch,
            precision=precision,
            channels_last=channels_last,
            compile=compile_networks,
            ema_decay=ema_decay,
            gradients_every=gradients_every,
            epoch_steps=epoch_steps,
            optimiser=optimiser or ("muon" if fast else "adam"),
            learning_rate=learning_rate or (8e-4 if fast else 1e-4),
            loss=loss or ("log-mse" if fast else "mse"),
            conditions=ConditionConfig(
                _range(snr), tuple(_integers(prefixes)) if prefixes else PREFIXES, channel
            ),
        )
        training = CodecTraining(
            images,
            out,
            config,
            _budget("encoder", encoder_steps, encoder_minutes),
            _budget("decoder", decoder_steps, decoder_minutes),
            family,
            recipe,
            parse_decoders(decoders),
            model,
            initial,
            portable_command(sys.argv[1:]),
            checkpoint_minutes,
        )
        ranks, chosen = join(device)
        try:
            done = train_codec(training, resume=resume, tensorboard=tensorboard, device=chosen, ranks=ranks)
        finally:
            leave()
    except TrainingInterrupted as stopped:
        typer.echo(f"semcom: {stopped}; the same command goes on from there", err=True)
        raise typer.Exit(130) from stopped
    except (OSError, ValueError, FloatingPointError, ImportError) as error:
        fail(str(error))
    if done is None:
        typer.echo(f"semcom: {out} holds this training, finished; --no-resume trains anew", err=True)


def _range(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        return float(low), float(high if colon else low)
    except ValueError as error:
        raise ValueError(f"--snr takes LOW:HIGH in dB, got {text!r}") from error


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--prefixes takes whole numbers with commas between, got {text!r}") from error


def _budget(of: str, steps: int | None, minutes: float | None) -> Budget:
    from codec_runtime.training.config import Budget

    if steps is None and minutes is None:
        raise ValueError(f"give a budget: --{of}-steps or --{of}-minutes")
    return Budget(steps, minutes)


@train_app.command("pack")
def pack_command(
    images: Folders,
    out: Annotated[Path, typer.Option(help="File to write, NAME.safetensors.")],
    size: Annotated[
        int, typer.Option(min=32, help="Side of the crops; larger than the crops trained on.")
    ] = 160,
    count: Annotated[int, typer.Option(min=1, help="Number of crops, about.")] = 20000,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Cut random crops from photographs into one file, which `semcom train codec --images FILE` reads.

    Worth it for large photographs, and on a GPU, which keeps all of the file in its memory.
    """
    from tqdm import tqdm

    from codec_runtime.training.packed import PACKED_SUFFIX, pack

    if out.suffix != PACKED_SUFFIX:
        fail(f"--out {out} must end in {PACKED_SUFFIX}")
    with tqdm(desc="pictures", unit="img") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            written = pack(images, out, size=size, count=count, seed=seed, on_picture=show)
        except (OSError, ValueError) as error:
            fail(str(error))
    typer.echo(f"{written} crops of {size}x{size} in {out}", err=True)


@train_app.command("publish")
def publish_command(
    images: Folders,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of `semcom train codec` [default: runs/codec]; repeat for runs of one encoder."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Bundle root, which may hold bundles.")] = Path(
        "codec_runtime/weights"
    ),
    version: Annotated[int, typer.Option(min=1, help="Of the bundles that are new.")] = 1,
) -> None:
    """Measure trained weights on a test folder and write them as bundles with a model card.

    A decoder that was trained against a published encoder is added beside it; what is published already
    stays as it is.
    """
    from codec_runtime.training.publish import publish

    try:
        publish(run or [Path("runs/codec")], images, out, version)
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))
