"""The ``semcom`` command. Each sub-command imports what it needs when it runs, so `--help` is quick and
the xApp's image works without torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    name="semcom",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Semantic communication on an O-RAN testbed: the xApp, the codec runtime, and a laptop lab.",
    epilog="Start with `semcom demo`: everything on loopback, about a minute, a report at the end.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train weights on folders of photographs.")
eval_app = typer.Typer(no_args_is_help=True, help="Measure weights: tables as JSON or text.")
keys_app = typer.Typer(no_args_is_help=True, help="Signing keys of the update repository.")
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(keys_app, name="keys")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="JSON file of settings; environment and flags override it.")
]
Folders = Annotated[list[Path], typer.Option("--images", help="Folder of photographs; repeat for several.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; progress on stderr.")]


@app.command()
def demo(
    duration: Annotated[float, typer.Option(help="Seconds for the whole run.", min=15)] = 60.0,
    users: Annotated[int, typer.Option(help="Users in the cell.", min=4, max=200)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of movement, channel and pictures.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for report, summary and logs.")] = Path("demo-out"),
    images: Annotated[Path | None, typer.Option(help="Folder of photographs to send.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Drive-test CSV (RSRP, SNR, CQI) as channel.")] = None,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Live terminal view.")] = True,
    json_: JsonFlag = False,
) -> None:
    """Run the whole system on loopback: Redis, codec runtime, xApp and an emulated RAN with moving users.

    In the middle one user group's channel gets worse and its content drifts: watch the rates move, the drift
    being noticed, a decoder being fine-tuned at the site, signed, pushed and swapped, and the quality return.
    """
    from xapp.lab.demo.options import DemoOptions
    from xapp.lab.demo.runner import run_demo

    options = DemoOptions(
        duration_s=duration,
        users=users,
        seed=seed,
        out=out,
        images=images,
        trace=trace,
        live=live,
        json=json_,
    )
    raise typer.Exit(run_demo(options))


@app.command()
def runtime(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Listen address; mTLS is needed off loopback.")] = None,
    port: Annotated[int | None, typer.Option(help="Listen port.")] = None,
) -> None:
    """Serve the codec (Open Inference Protocol v2) at a base station and take signed updates.

    Settings: defaults < --config FILE < environment SEMCOM_RUNTIME_<SETTING> < flags.
    """
    from codec_runtime.contract.logs import configure_logging
    from codec_runtime.contract.settings import SettingsError
    from codec_runtime.serving.main import run_runtime
    from codec_runtime.serving.settings import RuntimeSettings

    settings = _settings(RuntimeSettings, "SEMCOM_RUNTIME", config, None, host=host, port=port)
    configure_logging("runtime", settings.log_level)
    try:
        run_runtime(settings)
    except SettingsError as error:
        _fail(str(error))


@app.command()
def xapp(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="CONFIG_FILE",
            help="OSC config-file.json (settings under `controls`); environment and flags override it.",
        ),
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="Port of health, metrics and notifications.")] = None,
    rmr_port: Annotated[int | None, typer.Option(help="RMR data port.")] = None,
) -> None:
    """Run the xApp: subscribe, decode indications, decide per user, update drifting codecs.

    Settings: defaults < --config FILE < environment SEMCOM_XAPP_<SETTING> < flags.
    """
    from codec_runtime.contract.logs import configure_logging
    from xapp.app import run_xapp
    from xapp.settings import XAppSettings

    settings = _settings(
        XAppSettings, "SEMCOM_XAPP", config, "controls", http_port=http_port, rmr_port=rmr_port
    )
    configure_logging("xapp", settings.log_level)
    raise typer.Exit(run_xapp(settings))


@app.command()
def lab(
    config: ConfigFile = None,
    users: Annotated[int | None, typer.Option(help="Users in the cell.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of movement, channel and pictures.")] = None,
    images: Annotated[str | None, typer.Option(help="Folder of photographs to send.")] = None,
    trace: Annotated[str | None, typer.Option(help="Drive-test CSV for the channel.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for the records.")] = None,
) -> None:
    """Run the emulated RAN alone: E2 node, subscription manager and users that send photographs.

    Settings: defaults < --config FILE < environment SEMCOM_LAB_<SETTING> < flags.
    """
    from codec_runtime.contract.logs import configure_logging
    from xapp.lab.app import run_lab
    from xapp.lab.settings import LAB_ENV_PREFIX, LabSettings

    settings = _settings(
        LabSettings,
        LAB_ENV_PREFIX,
        config,
        None,
        users=users,
        seed=seed,
        images=images,
        trace=trace,
        out=out,
    )
    configure_logging("lab", settings.log_level)
    raise typer.Exit(run_lab(settings))


@keys_app.command("init")
def keys_init(
    directory: Annotated[Path, typer.Argument(help="TUF repository of the xApp (state_dir/tuf).")],
) -> None:
    """Create the signing keys and the first metadata, unless they exist; prints the root to pin.

    Private keys are encrypted when SEMCOM_KEY_PASSPHRASE is set. Give the printed file to each site's runtime
    as `trusted_root`.
    """
    from xapp.delivery.repository import init_repository

    typer.echo(init_repository(directory))


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
        _fail(str(error))


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
        _fail(str(error))


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
        _fail(str(error))
    typer.echo(table.as_json() if json_ else table.as_text())


def _settings(kind: Any, prefix: str, file: Path | None, section: str | None, **flags: Any) -> Any:
    from codec_runtime.contract.settings import SettingsError, load_settings

    try:
        return load_settings(kind, env_prefix=prefix, file=file, section=section, overrides=flags)
    except SettingsError as error:
        _fail(str(error))


def _fail(message: str) -> Any:
    typer.secho(f"semcom: {message}", fg="red", err=True)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of the ``semcom`` command."""
    app()


if __name__ == "__main__":
    main()
