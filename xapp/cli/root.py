"""The `semcom` command, its groups of sub-commands, and what they share: options, settings, failing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

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
experiment_app = typer.Typer(no_args_is_help=True, help="Experiments of the papers: tables and plots.")
bench_app = typer.Typer(no_args_is_help=True, help="Performance as ratios against a named reference.")
bundle_app = typer.Typer(no_args_is_help=True, help="Bundles of weights: make, look at, check, compare.")
keys_app = typer.Typer(no_args_is_help=True, help="Signing keys of the update repository.")
split_app = typer.Typer(no_args_is_help=True, help="Splitting a network between device and edge.")
client_app = typer.Typer(no_args_is_help=True, help="A user's device beside its site.")
rollout_app = typer.Typer(no_args_is_help=True, help="Staged roll-outs of decoder versions: look, command.")
e2_app = typer.Typer(no_args_is_help=True, help="Messages of the RAN: E2AP, E2SM-KPM, E2SM-RC.")
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(experiment_app, name="experiment")
app.add_typer(bench_app, name="bench")
app.add_typer(bundle_app, name="bundle")
app.add_typer(keys_app, name="keys")
app.add_typer(split_app, name="split")
app.add_typer(client_app, name="client")
app.add_typer(rollout_app, name="rollout")
app.add_typer(e2_app, name="e2")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="JSON file of settings; environment and flags override it.")
]
Folders = Annotated[list[Path], typer.Option("--images", help="Folder of photographs; repeat for several.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; progress on stderr.")]


def load_or_fail(kind: Any, prefix: str, file: Path | None, section: str | None, **flags: Any) -> Any:
    """Settings of ``kind``; exits with a message when one is wrong."""
    from codec_runtime.contract.settings import SettingsError, load_settings

    try:
        return load_settings(kind, env_prefix=prefix, file=file, section=section, overrides=flags)
    except SettingsError as error:
        fail(str(error))


def network_settings(pairs: list[str] | None) -> dict[str, int | str]:
    """Hyper-parameters given as ``--network KEY=VALUE``.

    Raises:
        ValueError: one has no ``=``.
    """
    settings: dict[str, int | str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--network takes KEY=VALUE, got {pair!r}")
        settings[key] = int(value) if value.lstrip("-").isdigit() else value
    return settings


def fail(message: str) -> NoReturn:
    """Say on stderr what was wrong and leave with exit code 2."""
    typer.secho(f"semcom: {message}", fg="red", err=True)
    raise typer.Exit(2)
