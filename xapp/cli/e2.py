"""`semcom e2`: what a person does with the RAN's messages."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xapp.cli.root import e2_app, fail

_FILE_COLUMNS = 160


@e2_app.command("decode")
def e2_decode(
    message: Annotated[
        str, typer.Argument(metavar="[FILE|HEX|-]", help="A file, the message itself, or - for stdin.")
    ] = "-",
    kpm: Annotated[
        str,
        typer.Option(
            metavar="VERSION", help="Version of KPM: 2.00 to 5.00, or flexric. Without: found by what fits."
        ),
    ] = "",
    pdu: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What the bytes are: e2ap, header, message, action, trigger, function, rc-header, "
            "rc-message, rc-outcome, rc-function, or a full name. Without: guessed.",
        ),
    ] = "",
    json_: Annotated[bool, typer.Option("--json", help="One JSON object a message, one a line.")] = False,
) -> None:
    r"""Print any E2AP, E2SM-KPM or E2SM-RC message as a tree.

    Takes hex (spaces, colons, 0x, \x, newlines, hex dumps), base64, a binary
    file, a file of one hex or base64 message a line, and pcap or pcapng with
    E2AP over SCTP or in RMR frames, or as srsRAN writes it (e2ap_enable).
    Octet strings inside E2AP are decoded too; of an indication, the values
    follow as a table.

    Exit code 1 if a message could not be decoded; the others are printed.

    Examples:

      semcom e2 decode 08e8fe6f8000000000000003676e62

      semcom e2 decode "00 01 01 08 ..." --pdu action --kpm 2.01

      semcom e2 decode e2.pcapng --json | jq .rows

      xxd -p indication.bin | semcom e2 decode - --kpm flexric
    """
    from rich.console import Console

    from xapp.ric.inspect import InputError, pdu_name, render
    from xapp.ric.inspect.sources import read_argument, read_messages
    from xapp.ric.kpm.versions import parse_kpm_version

    try:
        version = parse_kpm_version(kpm) if kpm else None
        name = pdu_name(pdu) if pdu else None
    except ValueError as error:
        fail(str(error))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    bad = 0
    try:
        content = _stdin() if message == "-" else read_argument(message)
        for source in read_messages(content, version=version, pdu=name):
            result = _decode(source, version, name)
            if isinstance(result, dict):
                bad += 1
                _print_error(result, json_)
            elif json_:
                _print_json(result, source.where)
            else:
                console.print(render(result, source.where))
    except InputError as error:
        bad += 1
        _print_error({"error": str(error), "offset": 0, "field": "input"}, json_)
    raise typer.Exit(1 if bad else 0)


def _stdin() -> bytes:
    import sys

    if sys.stdin.isatty():
        typer.secho("Paste hex or base64, then Ctrl-D.", err=True)
    return sys.stdin.buffer.read()


def _decode(source: Any, version: Any, pdu: str | None) -> Any:
    """The :class:`~xapp.ric.inspect.Message`, or a dict that says what was wrong."""
    from xapp.ric.aper import E2DecodeError
    from xapp.ric.inspect import inspect_message

    place = {"source": source.where} if source.where else {}
    if source.error:
        return {"error": source.error, "offset": source.offset, "field": "hex", **place}
    try:
        return inspect_message(source.octets, version=version, pdu=pdu)
    except E2DecodeError as error:
        return {"error": error.message, "offset": error.offset, "field": error.field, **place}


def _print_json(message: Any, where: str) -> None:
    import json

    from xapp.ric.inspect import to_json

    shown: dict[str, Any] = {"pdu": message.pdu, "version": message.version, "tree": to_json(message.tree)}
    if message.rows is not None:
        shown["rows"] = to_json(message.rows)
    if where:
        shown["source"] = where
    typer.echo(json.dumps(shown))


def _print_error(error: dict[str, Any], json_: bool) -> None:
    import json

    if json_:
        typer.echo(json.dumps(error))
        return
    where = f" ({error['source']})" if "source" in error else ""
    typer.secho(
        f"semcom: {error['field']} at byte {error['offset']}: {error['error']}{where}", fg="red", err=True
    )
