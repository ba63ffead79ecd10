"""`semcom split leakage`: what the tensors of a network tell about its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xapp.cli.root import Folders, JsonFlag, fail, split_app


@split_app.command("leakage")
def leakage_command(
    network: Annotated[str, typer.Argument(help="Network by name, e.g. efficientnet-lite0.")],
    images: Folders,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file.")] = None,
    pictures: Annotated[int, typer.Option(min=8, max=256, help="Pictures at most.")] = 64,
    json_: JsonFlag = False,
) -> None:
    """Measure how much of a photograph each tensor of a network gives away, by distance correlation (0..1).

    Example:

      semcom split leakage efficientnet-lite0 --images kodak -o leakage.json
    """
    import msgspec
    import numpy as np
    import torch
    from PIL import Image

    from codec_runtime.contract.split import LeakageTable
    from codec_runtime.split.leakage import LEAST_PICTURES, node_leakage
    from codec_runtime.split.networks import NETWORKS
    from codec_runtime.training.data import data_hash, list_images
    from xapp.cli.split import traced_networks

    try:
        found = list_images(images)
    except (OSError, ValueError) as error:
        fail(str(error))
    found = found[:: max(1, -(-len(found) // pictures))]
    if len(found) < LEAST_PICTURES:
        fail(f"{len(found)} pictures; want {LEAST_PICTURES} at least")
    (traced,) = traced_networks([network], len(found), True)
    side = NETWORKS[network].size
    shown = [np.array(Image.open(path).convert("RGB").resize((side, side))) for path in found]
    batch = (torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float() - 127.0) / 128.0
    leakage = node_leakage(traced, batch)
    table = LeakageTable(
        network=network, pictures=len(found), data_sha256=data_hash(found), leakage=leakage
    )
    encoded = msgspec.json.encode(table)
    if output is not None:
        output.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    if json_:
        typer.echo(encoded.decode())
    else:
        for name, value in table.leakage.items():
            typer.echo(f"{value:.3f}  {name}")
