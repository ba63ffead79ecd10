"""`semcom demo|runtime|xapp|lab`: the programs that run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xapp.cli.root import ConfigFile, JsonFlag, app, fail, load_or_fail


@app.command()
def demo(
    duration: Annotated[float, typer.Option(help="Seconds for the whole run.", min=15)] = 60.0,
    users: Annotated[int, typer.Option(help="Users in the cell.", min=4, max=200)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of movement, channel and pictures.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for report, summary and logs.")] = Path("demo-out"),
    images: Annotated[Path | None, typer.Option(help="Folder of photographs to send.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Drive-test CSV (RSRP, SNR, CQI) as channel.")] = None,
    with_old_devices: Annotated[
        bool, typer.Option("--with-old-devices", help="Cars that cannot update, fixed boxes on JPEG bytes.")
    ] = False,
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
        with_old_devices=with_old_devices,
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

    settings = load_or_fail(RuntimeSettings, "SEMCOM_RUNTIME", config, None, host=host, port=port)
    configure_logging("runtime", settings.log_level)
    try:
        run_runtime(settings)
    except SettingsError as error:
        fail(str(error))


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
    from xapp.process import run_xapp
    from xapp.ric_platform import ConfigSource
    from xapp.settings import XAPP_ENV_PREFIX, XAppSettings

    flags = {"http_port": http_port, "rmr_port": rmr_port}
    settings = load_or_fail(XAppSettings, XAPP_ENV_PREFIX, config, "controls", **flags)
    configure_logging("xapp", settings.log_level)
    raise typer.Exit(run_xapp(settings, ConfigSource(config, flags)))


@app.command()
def lab(
    config: ConfigFile = None,
    users: Annotated[int | None, typer.Option(help="Users in the cell.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of movement, channel and pictures.")] = None,
    images: Annotated[str | None, typer.Option(help="Folder of photographs to send.")] = None,
    trace: Annotated[str | None, typer.Option(help="Drive-test CSV for the channel.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for the records.")] = None,
) -> None:
    """Run the emulated RAN alone: an E2 node and users that send photographs, and what a RIC has around them:
    R-NIB entry, subscription manager, appmgr, A1 mediator and alarm manager.

    Settings: defaults < --config FILE < environment SEMCOM_LAB_<SETTING> < flags.
    """
    from codec_runtime.contract.logs import configure_logging
    from xapp.lab.app import run_lab
    from xapp.lab.settings import LAB_ENV_PREFIX, LabSettings

    settings = load_or_fail(
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
