"""`semcom split publish`, `semcom client classify`: a classifier as a bundle, and a device that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xapp.cli.root import JsonFlag, client_app, fail, split_app

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    from codec_runtime.client.classifier import Answer, Device
    from codec_runtime.client.session import ClientSettings
    from codec_runtime.contract.split import CutSpec, SplitGraph


@split_app.command("publish")
def publish_command(
    architecture: Annotated[str, typer.Argument(help="efficientnet-lite0, resnet18, branches or chain.")],
    root: Annotated[Path, typer.Argument(help="Bundle root; classifier/NAME/VERSION is made below it.")],
    version: Annotated[int, typer.Option(min=1, help="Of the bundle.")] = 1,
    name: Annotated[str, typer.Option(help="Of the bundle; the architecture's where left out.")] = "",
    weights: Annotated[
        Path | None,
        typer.Option(help="Safetensors file. [published ones of efficientnet-lite0; else random ones]"),
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option(help="Cut behind this module, e.g. _blocks.4; repeat for several.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Class whose best cuts are published; repeat for several.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Edge of the pictures.")] = None,
    classes: Annotated[int | None, typer.Option(help="Classes told apart.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first layer.")] = None,
    seed: Annotated[int, typer.Option(help="Of random weights.")] = 0,
    storage: Annotated[Literal["F16", "F32", "I8"], typer.Option(help="How values are stored.")] = "F16",
    squeezed: Annotated[
        list[str] | None,
        typer.Option(help="Bottleneck: a shipped one, or a folder of `semcom eval bottleneck --release`; "
                     "repeat for several."),
    ] = None,
    parent: Annotated[Path | None, typer.Option(help="Bundle that it was fine-tuned from.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Make the bundle of a classifier with the cuts that a site is to serve.

    Without --after and --device the cuts that can be best for any of the known device classes are published.
    "All at the site" always is. Devices take their heads from the site; only this bundle is delivered. With
    --squeezed the cut of a trained bottleneck is published, too, once for each of its operating points: fewer
    bytes, for an answer that is not always the uncut network's.

    Examples:

      semcom split publish efficientnet-lite0 bundles --device phone-mid --device drone

      semcom split publish efficientnet-lite0 bundles --squeezed efficientnet-lite0-blocks11
    """
    import json

    from msgspec.structs import asdict

    from codec_runtime.bundle.errors import BundleError
    from codec_runtime.contract.classification import squeezed_name
    from codec_runtime.contract.split import CutError
    from codec_runtime.split.bundles import publish_classifier, release_graph
    from codec_runtime.split.networks.efficientnet import WeightsUnavailableError
    from codec_runtime.split.parts import parts_of
    from codec_runtime.split.release import cuts_behind, network_release
    from codec_runtime.split.squeezed_release import find_release

    given = {"size": size, "classes": classes, "width": width}
    chosen = {key: value for key, value in given.items() if value is not None}
    try:
        release, state = network_release(
            architecture, name or architecture, version, chosen, weights, seed=seed
        )
        traced = release_graph(release, state)
        cuts = cuts_behind(traced.graph, after or [])
        if device or not after:
            cuts += _candidates(traced.graph, device or [])
        bottlenecks = [find_release(given) for given in squeezed or []]
        created = publish_classifier(
            release, state, traced, cuts, root, squeezed=bottlenecks, storage=storage, parent=parent
        )
        told = [parts_of(created.manifest, traced, cut).published for cut in cuts]
    except (BundleError, CutError, WeightsUnavailableError) as error:
        fail(str(error))
    if json_:
        typer.echo(json.dumps({
            "bundle": str(created.directory), "graph": traced.graph.digest, "written": created.written,
            "bytes": created.manifest.files[0].size,
            "cuts": [{"cut": cut.cut, "feature_bytes": cut.feature_bytes} for cut in told],
            "squeezed": [
                {"cut": one.cut(traced.graph).id, "points": [asdict(point) for point in one.record.figures]}
                for one in bottlenecks
            ],
        }))
        return
    typer.echo(f"{created.directory}: {created.manifest.files[0].size} bytes, {len(told)} cuts")
    for cut in told:
        typer.echo(f"  {cut.cut}  {len(cut.device):3} operations on the device, {cut.feature_bytes} bytes")
    for one in bottlenecks:
        place = one.cut(traced.graph)
        for point, figures in enumerate(one.record.figures):
            typer.echo(
                f"  {squeezed_name(place.id, point)}  {len(place.device):3} operations on the device, "
                f"{figures.bytes:.0f} bytes (at most {figures.cap_bytes}), agreement {figures.agreement:.2f}"
            )


@client_app.command("classify")
def classify_command(
    images: Annotated[list[Path], typer.Option("--image", help="Photograph; repeat for several.")],
    site: Annotated[str, typer.Option(help="URL of the site's runtime.")] = "http://127.0.0.1:8480",
    user: Annotated[str, typer.Option(help="User id, as in directives.")] = "device-1",
    network: Annotated[str, typer.Option(help="Classifier; the only one where left out.")] = "",
    device_class: Annotated[str, typer.Option(help="Class that reports name.")] = "",
    trusted_root: Annotated[
        Path | None, typer.Option(help="Pinned root.json; without one pictures are sent whole.")
    ] = None,
    state: Annotated[Path, typer.Option(help="Folder for heads.")] = Path("semcom-client"),
    top: Annotated[int, typer.Option(min=1, help="Classes to show.")] = 5,
    timeout: Annotated[float, typer.Option(min=0.1, help="Of a request with all attempts, s.")] = 10.0,
    json_: JsonFlag = False,
) -> None:
    """Classify photographs together with a site, cutting where it says.

    Example:

      semcom client classify --image dog.jpg --trusted-root root.json
    """
    import asyncio
    import json

    from codec_runtime.client.classifier import Device
    from codec_runtime.client.errors import SiteError
    from codec_runtime.client.session import ClientSettings

    settings = ClientSettings(url=site, state=state, trusted_root=trusted_root, timeout_s=timeout)
    try:
        answers = asyncio.run(_classify(settings, Device(user, network, device_class), images, top))
    except (SiteError, OSError, ValueError) as error:
        fail(str(error))
    for image, answer in zip(images, answers, strict=True):
        report = answer.report
        if json_:
            typer.echo(json.dumps({
                "image": str(image), "classes": answer.classes, "scores": answer.scores,
                "network": report.network, "version": report.version, "cut": report.cut,
                "device_ms": report.device_ms, "network_ms": report.network_ms, "edge_ms": report.edge_ms,
                "feature_bytes": report.feature_bytes,
            }))
            continue
        best = ", ".join(f"{c} ({s:.3f})" for c, s in zip(answer.classes, answer.scores, strict=True))
        typer.echo(
            f"{image}: {best}; {report.network} {report.version} cut {report.cut}, "
            f"{report.device_ms:.1f} + {report.network_ms:.1f} + {report.edge_ms:.1f} ms"
        )


async def _classify(
    settings: ClientSettings, device: Device, images: list[Path], top: int
) -> list[Answer]:
    from codec_runtime.client.session import classifying

    async with classifying(settings, device) as client:
        assert client.plan is not None
        return [await client.classify(_picture(path, client.plan.size), top) for path in images]


def _picture(path: Path, size: int) -> NDArray[uint8]:
    """(3, size, size): shorter side to 8/7 of ``size``, then the middle, as ImageNet is evaluated."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = 8 / 7 * size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    cropped = resized.crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(cropped, np.uint8).transpose(2, 0, 1))


def _candidates(graph: SplitGraph, names: list[str]) -> list[CutSpec]:
    """Every cut that can be best for one of the device classes; of all of them where none is named."""
    import numpy as np

    from codec_runtime.contract.devices import DEVICES
    from codec_runtime.contract.split import make_cut
    from xapp.split.candidates import candidate_cuts
    from xapp.split.harness import class_problem

    if unknown := [name for name in names if name not in DEVICES]:
        fail(f"no device class {unknown[0]!r}; there are {', '.join(DEVICES)}")
    cuts: dict[str, CutSpec] = {}
    for name in names or DEVICES:
        for device in candidate_cuts(class_problem(graph, DEVICES[name], 8)).device:
            cut = make_cut(graph, [int(index) for index in np.flatnonzero(device)])
            cuts[cut.id] = cut
    return sorted(cuts.values(), key=lambda cut: len(cut.device))
