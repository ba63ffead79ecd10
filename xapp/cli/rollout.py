"""`semcom rollout`: what an operator sees of the roll-outs of a running xApp, and commands to them."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xapp.cli.root import JsonFlag, fail, rollout_app

if TYPE_CHECKING:
    from rich.table import Table

_TIMEOUT_S = 10.0

Url = Annotated[
    str,
    typer.Option(
        envvar="SEMCOM_ROLLOUT_URL",
        help="The xApp: its HTTP port on this machine, or its admin listener (admin_host, admin_port).",
    ),
]
Ca = Annotated[Path | None, typer.Option(help="CA of the admin listener's certificate (PEM).")]
Cert = Annotated[Path | None, typer.Option(help="Client certificate (PEM), for mutual TLS.")]
Key = Annotated[Path | None, typer.Option(help="Its private key (PEM).")]
Id = Annotated[str, typer.Argument(help="Id of the roll-out, or the first characters of it.")]

_URL = "http://127.0.0.1:8080"


@rollout_app.command("status")
def rollout_status(
    url: Url = _URL, ca: Ca = None, cert: Cert = None, key: Key = None, as_json: JsonFlag = False
) -> None:
    """The roll-outs that the xApp remembers, newest first: stage, users on trial, gates, sites owed.

    A gate shows treated minus control users with its confidence sequence, an interval that holds at every
    time at once: it is rolled back when the whole interval is beyond the limit.
    """
    answer = _Xapp(url, ca, cert, key).ask("GET", "")
    if as_json:
        typer.echo(json.dumps(answer))
        return
    if not answer["rollouts"]:
        typer.echo("no roll-outs yet: the xApp starts one when it has accepted a candidate")
        return
    _print(_overview(answer["rollouts"]))


@rollout_app.command("history")
def rollout_history(
    rollout: Id,
    url: Url = _URL,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    as_json: JsonFlag = False,
) -> None:
    """Every step of one roll-out, with the reason and the gates that led to it."""
    xapp = _Xapp(url, ca, cert, key)
    answer = xapp.ask("GET", "/" + xapp.find(rollout))
    if as_json:
        typer.echo(json.dumps(answer))
        return
    _print(_overview([answer]))
    _print(_steps(answer["history"]))


@rollout_app.command("start")
def rollout_start(
    group: Annotated[str, typer.Argument(help="Group of users, e.g. drone.")],
    decoder: Annotated[str, typer.Argument(help="Decoder family, e.g. attention.")],
    version: Annotated[int, typer.Argument(help="Its version; the bundle must be in the repository.")],
    parent: Annotated[
        int | None, typer.Option(help="Version to compare with and to go back to; what the group has now.")
    ] = None,
    url: Url = _URL,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    as_json: JsonFlag = False,
) -> None:
    """Roll out a version that is published already: canary, stages, all; back by itself if it is worse."""
    body = {"group": group, "decoder": decoder, "version": version, "parent": parent}
    _show(_Xapp(url, ca, cert, key).ask("POST", "", body), as_json)


@rollout_app.command("pause")
def rollout_pause(
    rollout: Id, url: Url = _URL, ca: Ca = None, cert: Cert = None, key: Key = None, as_json: JsonFlag = False
) -> None:
    """Hold it where it is: nothing is promoted; a version that proves harmful still goes back."""
    _command(_Xapp(url, ca, cert, key), rollout, "pause", as_json)


@rollout_app.command("resume")
def rollout_resume(
    rollout: Id, url: Url = _URL, ca: Ca = None, cert: Cert = None, key: Key = None, as_json: JsonFlag = False
) -> None:
    """Go on after a pause."""
    _command(_Xapp(url, ca, cert, key), rollout, "resume", as_json)


@rollout_app.command("abort")
def rollout_abort(
    rollout: Id, url: Url = _URL, ca: Ca = None, cert: Cert = None, key: Key = None, as_json: JsonFlag = False
) -> None:
    """Give it up: users go back to the parent at once; what was delivered stays at the sites, unused."""
    _command(_Xapp(url, ca, cert, key), rollout, "abort", as_json)


@rollout_app.command("rollback")
def rollout_rollback(
    rollout: Id, url: Url = _URL, ca: Ca = None, cert: Cert = None, key: Key = None, as_json: JsonFlag = False
) -> None:
    """Take it back, also when it is done: users on the parent at once, then new metadata without it."""
    _command(_Xapp(url, ca, cert, key), rollout, "rollback", as_json)


class _Xapp:
    """Requests to one xApp; whatever goes wrong ends the command with a message."""

    def __init__(self, url: str, ca: Path | None, cert: Path | None, key: Path | None) -> None:
        import httpx

        from xapp.runtime_client import tls_context

        self._url = url.rstrip("/")
        try:
            # Without TLS there is nothing to verify, and the system's CAs take long to load.
            tls = self._url.startswith("https:")
            verify = tls and tls_context(*(str(path) if path else "" for path in (ca, cert, key)))
        except OSError as error:
            fail(f"--ca, --cert, --key: {error}")
        self._http = httpx.Client(verify=verify, timeout=_TIMEOUT_S, trust_env=False)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer as plain values."""
        import httpx

        from xapp.rollout.api import ROLLOUTS

        content = None if method == "GET" else (body or {}) | {"by": _operator()}
        try:
            response = self._http.request(method, f"{self._url}{ROLLOUTS}{path}", json=content)
            answer = response.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fail(f"{self._url}: {type(error).__name__}: {error}; is the xApp running, and --url right?")
        except ValueError:
            fail(f"{self._url}: HTTP {response.status_code}, not an xApp's answer; is --url right?")
        if not response.is_success:
            fail(f"{answer.get('error', answer) if isinstance(answer, dict) else answer}")
        return answer

    def find(self, prefix: str) -> str:
        """The one id that begins so."""
        ids = [rollout["id"] for rollout in self.ask("GET", "")["rollouts"]]
        found = [rollout_id for rollout_id in ids if rollout_id.startswith(prefix)]
        if len(found) != 1:
            fail(f"{prefix}: {len(found)} roll-outs begin so; known: {', '.join(ids) or 'none'}")
        return str(found[0])


def _command(xapp: _Xapp, rollout: str, what: str, as_json: bool) -> None:
    _show(xapp.ask("POST", f"/{xapp.find(rollout)}/{what}"), as_json)


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"{answer['id']}: {answer['phase']} ({answer['reason']})")


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "operator"


def _overview(rollouts: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("id", "group", "decoder", "phase", "stage", "on trial", "gates", "sites", box=None)
    for row in rollouts:
        sites = [
            f"{name}: {site['bundle']}" + (f", owed: {site['owed']}" if site["owed"] else "")
            for name, site in row["sites"].items()
        ]
        table.add_row(
            row["id"], row["group"], f"{row['decoder']} {row['parent']} -> {row['version']}", row["phase"],
            row["stage"], f"{row['on_trial']} of {row['users']}", "\n".join(map(_gate, row["gates"])),
            "\n".join(sites),
        )  # fmt: skip
    return table


def _steps(history: list[dict[str, Any]]) -> Table:
    from datetime import UTC, datetime

    from rich.table import Table

    table = Table("time (UTC)", "phase", "stage", "reason", "gates", box=None)
    for line in history:
        when = datetime.fromtimestamp(line["time_s"], UTC)
        gates = "\n".join(map(_gate, line["gates"]))
        table.add_row(f"{when:%Y-%m-%d %H:%M:%S}", line["phase"], line["stage"], line["reason"], gates)
    return table


def _gate(reading: dict[str, Any]) -> str:
    scale, unit = (1.0, " dB") if reading["gate"] in ("quality", "pairs") else (100.0, " %")
    estimate, low, high, limit = (
        "?" if reading[name] is None else f"{scale * reading[name]:+.2f}"
        for name in ("estimate", "low", "high", "limit")
    )
    return f"{reading['gate']} {estimate} ({low} .. {high}; limit {limit}){unit} {reading['finding']}"


def _print(table: Table) -> None:
    import sys

    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)
