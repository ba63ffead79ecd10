"""`semcom keys`: signing keys of the update repository."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from xapp.cli.root import JsonFlag, fail, keys_app

if TYPE_CHECKING:
    from xapp.delivery.repository import TufRepository
    from xapp.delivery.rotation import RootChange

Result = TypeVar("Result")

Directory = Annotated[Path, typer.Argument(help="TUF repository of the xApp (state_dir/tuf).")]
KeyDirectory = Annotated[
    Path | None, typer.Option("--keys", help="Directory of the private keys; DIRECTORY/keys if not given.")
]
RootKeys = Annotated[
    list[Path] | None,
    typer.Option("--root-keys", help="Directory of root keys, e.g. a USB stick; repeat for one key in each."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="First line is the passphrase; else the environment or a prompt."),
]
Count = Annotated[int, typer.Option(min=1, max=9, help="Root keys.")]
Threshold = Annotated[int, typer.Option(min=1, max=9, help="Root keys that must sign a change of keys.")]


@keys_app.command("init")
def keys_init(
    directory: Directory,
    keys: KeyDirectory = None,
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
    root_key_count: Count = 3,
    root_threshold: Threshold = 2,
) -> None:
    """Create the signing keys and the first metadata, unless they exist; prints the root to pin.

    Private keys are encrypted with the passphrase of --passphrase-file, SEMCOM_KEY_PASSPHRASE,
    SEMCOM_KEY_PASSPHRASE_FILE or a prompt. Give the printed file to each site's runtime as `trusted_root`.
    Move two of the root keys away from this machine, or make them elsewhere with --root-keys.
    """
    from xapp.delivery.repository import init_repository
    from xapp.delivery.roles import Layout

    def make() -> Path:
        exists = (directory / "metadata" / "timestamp.json").exists()
        passphrase = _passphrase(passphrase_file, confirm=not exists)
        layout = Layout(root_key_count, root_threshold, delegated=True)
        return init_repository(directory, keys, passphrase, layout, root_keys or ())

    root = _named(make)
    _warn_of_unencrypted(keys or directory / "keys")
    typer.echo(root)


@keys_app.command("status")
def keys_status(
    directory: Directory,
    keys: KeyDirectory = None,
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Each role's keys, threshold, version and expiry; which private keys are here; what is unsigned."""
    import json

    from xapp.delivery.key_status import role_status
    from xapp.delivery.rotation import pending_root

    repository = _open(directory, keys, root_keys, passphrase_file)
    rows = _named(lambda: role_status(repository))
    pending = pending_root(repository)
    if as_json:
        table: list[dict[str, Any]] = [{**vars(row), "expires": row.expires.isoformat()} for row in rows]
        typer.echo(json.dumps({"roles": table, "pending": str(pending) if pending else None}))
        return
    for row in rows:
        secret = {None: "", True: ", encrypted", False: ", NOT ENCRYPTED"}[row.encrypted]
        wrong = "" if row.verified else "  NOT VERIFIED: run `semcom keys refresh`"
        typer.echo(
            f"{row.role:14} v{row.version:<5} until {row.expires:%Y-%m-%d}"
            f"  {row.threshold} of {len(row.keys)}  here: {row.here}{secret}  {' '.join(row.keys)}{wrong}"
        )
    if pending is not None:
        typer.echo(f"waits for signatures: {pending}")


@keys_app.command("rotate")
def keys_rotate(
    role: Annotated[str, typer.Argument(help="Role, e.g. root, timestamp or decoder.")],
    directory: Directory,
    keys: KeyDirectory = None,
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
    replace: Annotated[
        str | None, typer.Option(help="Id of the one key to replace (8 or more characters); else all.")
    ] = None,
) -> None:
    """Replace a role's keys; leaves a root that waits for signatures where root keys are off-line."""
    from xapp.delivery.rotation import rotate

    repository = _open(directory, keys, root_keys, passphrase_file)
    _show(_named(lambda: rotate(repository, role, replace=replace)))


@keys_app.command("renew-root")
def keys_renew_root(
    directory: Directory,
    keys: KeyDirectory = None,
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """The same keys, a later expiry date of the root."""
    from xapp.delivery.rotation import renew_root

    repository = _open(directory, keys, root_keys, passphrase_file)
    _show(_named(lambda: renew_root(repository)))


@keys_app.command("sign")
def keys_sign(
    file: Annotated[Path, typer.Argument(help="A copy of the root that waits (pending/N.root.json).")],
    root_keys: Annotated[Path, typer.Option("--root-keys", help="Directory of root keys of this machine.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign a waiting root; needs no repository, so it can be done on a machine without a network."""
    from xapp.delivery.keys import KeyStore
    from xapp.delivery.rotation import sign_file

    added = _named(lambda: sign_file(file, KeyStore(root_keys, _passphrase(passphrase_file))))
    typer.echo(f"{file}: {added} signature(s) added; bring it back and run `semcom keys merge`")


@keys_app.command("merge")
def keys_merge(
    directory: Directory,
    files: Annotated[list[Path], typer.Argument(help="Signed copies of the root that waits.")],
    keys: KeyDirectory = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take the signatures of signed copies; the change is in force once there are enough."""
    from xapp.delivery.rotation import merge

    repository = _open(directory, keys, None, passphrase_file)
    _show(_named(lambda: merge(repository, files)))


@keys_app.command("discard")
def keys_discard(directory: Directory, keys: KeyDirectory = None) -> None:
    """Give up the root that waits for signatures."""
    from xapp.delivery.rotation import discard_pending

    repository = _open(directory, keys, None, None, prompt=False)
    typer.echo("discarded" if discard_pending(repository) else "nothing waits for signatures")


@keys_app.command("migrate")
def keys_migrate(
    directory: Directory,
    keys: KeyDirectory = None,
    root_keys: RootKeys = None,
    passphrase_file: PassphraseFile = None,
    root_key_count: Count = 3,
    root_threshold: Threshold = 2,
) -> None:
    """Give a single-key repository threshold root keys and delegated roles; sites keep their pin."""
    from xapp.delivery.roles import Layout
    from xapp.delivery.rotation import migrate

    repository = _open(directory, keys, root_keys, passphrase_file)
    _show(_named(lambda: migrate(repository, Layout(root_key_count, root_threshold, delegated=True))))


@keys_app.command("refresh")
def keys_refresh(
    directory: Directory,
    keys: KeyDirectory = None,
    passphrase_file: PassphraseFile = None,
    within_days: Annotated[float, typer.Option(min=0.0, help="Sign again what expires this soon.")] = 1.0,
) -> None:
    """Sign again what expires soon or an interrupted change left behind (the xApp does so before a push)."""
    repository = _open(directory, keys, None, passphrase_file)
    typer.echo("signed again" if _named(lambda: repository.refresh(within_days)) else "nothing to do")


@keys_app.command("export-root")
def keys_export_root(
    directory: Directory,
    to: Annotated[Path, typer.Option(help="File to write.")],
    keys: KeyDirectory = None,
    current: Annotated[bool, typer.Option(help="The root in force, for new sites; else version 1.")] = True,
) -> None:
    """Write the root that a new site pins as `trusted_root`."""
    from xapp.delivery.metadata_store import write_durable

    repository = _open(directory, keys, None, None, prompt=False)
    version = repository.store.newest("root") if current else 1
    _named(lambda: write_durable(to, repository.store.read(f"{version}.root.json")))
    typer.echo(f"{to}: root version {version}")


def _open(
    directory: Path, keys: Path | None, root_keys: list[Path] | None, passphrase_file: Path | None,
    *, prompt: bool = True,
) -> TufRepository:
    from xapp.delivery.repository import TufRepository

    if not (directory / "metadata" / "timestamp.json").exists():
        fail(f"{directory} holds no TUF repository: `semcom keys init {directory}` makes one")
    return _named(
        lambda: TufRepository(
            directory, keys, _passphrase(passphrase_file) if prompt else None, root_keys=root_keys or ()
        )
    )


def _passphrase(file: Path | None, *, confirm: bool = False) -> bytes | None:
    """From the file, the environment, or a prompt where somebody sits; None means unencrypted keys."""
    from xapp.delivery.keys import passphrase_from_environment, passphrase_from_file

    if file is not None:
        return passphrase_from_file(file)
    given = passphrase_from_environment()
    if given is not None or not sys.stdin.isatty():
        return given
    text: str = typer.prompt(
        "Passphrase of the signing keys (empty: none)", default="", hide_input=True, show_default=False,
        confirmation_prompt=confirm, err=True,
    )
    return text.encode() or None


def _warn_of_unencrypted(keys: Path) -> None:
    plain = [p for p in sorted(keys.glob("*.pem")) if b"ENCRYPTED" not in p.read_bytes()[:64]]
    if plain:
        typer.secho(
            f"{len(plain)} private keys in {keys} are NOT ENCRYPTED: set SEMCOM_KEY_PASSPHRASE before init",
            fg="yellow", err=True,
        )


def _named(work: Callable[[], Result]) -> Result:
    """Run ``work``; what can be wrong with keys and files ends the command with its message."""
    from xapp.delivery.repository import RepositoryStateError

    try:
        return work()
    except (ValueError, RepositoryStateError, OSError) as error:  # SigningKeyError, RotationError: ValueError
        fail(str(error))


def _show(change: RootChange) -> None:
    if change.pending is None:
        typer.echo(f"in force; root version {change.version}")
        return
    typer.echo(
        f"{change.pending} waits for {change.missing_old} more signature(s) by the old root's keys and "
        f"{change.missing_new} by the new one's: `semcom keys sign` copies of it, then `semcom keys merge`"
    )
