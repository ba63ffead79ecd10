"""`semcom keys`: signing keys of the update repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xapp.cli.root import keys_app


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
