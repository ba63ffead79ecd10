"""`semcom bundle`: make, look at, check and compare bundles of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xapp.cli.root import JsonFlag, bundle_app, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from codec_runtime.bundle.creation import BundleSpec
    from codec_runtime.bundle.layout import ImportRules

Source = Annotated[Path, typer.Argument(help="Safetensors file with the weights.", metavar="WEIGHTS")]
SpecFile = Annotated[Path, typer.Argument(help="JSON file that says what they are.", metavar="SPEC")]
Root = Annotated[Path, typer.Argument(help="Bundle root, for KIND/NAME/VERSION below it.", metavar="ROOT")]
Bundle = Annotated[Path, typer.Argument(help="Bundle directory (KIND/NAME/VERSION).", metavar="BUNDLE")]
StorageFlag = Annotated[
    Literal["F16", "F32", "I8"],
    typer.Option("--storage", help="How values are stored; I8: int8 with a scale per channel."),
]
Parent = Annotated[
    Path | None,
    typer.Option("--parent", help="Bundle these were fine-tuned from: a delta is made where it is smaller."),
]
Partner = Annotated[
    Path | None,
    typer.Option(
        "--with", help="Bundle it works with: a decoder's encoder, an adapter's base. Goes into the manifest."
    ),
]
Pictures = Annotated[
    list[Path] | None,
    typer.Option("--images", help="Folder of photographs: measures what storing costs; needs --with."),
]


@bundle_app.command("create")
def create_command(
    weights: Source, spec: SpecFile, root: Root, storage: StorageFlag = "F16", parent: Parent = None,
    partner: Partner = None, images: Pictures = None, json_: JsonFlag = False,
) -> None:
    """Make a bundle from a safetensors file and a spec.

    The tensors must be exactly those of the architecture. The same input gives the same bytes; a version
    that exists with other content is refused. docs/bundles.md has an example of a spec.

    Example:

      semcom bundle create conv.safetensors conv.json weights --with weights/encoder/anchor/2
    """
    _make(weights, spec, root, storage, parent, partner, images, None, json_)


@bundle_app.command("import")
def import_command(
    weights: Source, spec: SpecFile, root: Root,
    rename: Annotated[
        list[str] | None, typer.Option(help="REGEX=REPLACEMENT on tensor names; repeat, applied in order.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="REGEX of whole tensor names to leave out; repeat.")
    ] = None,
    layout: Annotated[
        Literal["torch", "flax"], typer.Option(help="flax: kernels are (H, W, in, out) and (in, out).")
    ] = "torch",
    storage: StorageFlag = "F16", parent: Parent = None, partner: Partner = None, images: Pictures = None,
    json_: JsonFlag = False,
) -> None:
    r"""Make a bundle from a safetensors file of another layout.

    Names are changed by --rename, one common prefix such as `module.` is taken off by itself; what still does
    not fit is refused by name. Pickles (.pt, .pth, and such under another name) are never opened.

    Example:

      semcom bundle import other.safetensors conv.json weights --rename '^dec\.='
    """
    from codec_runtime.bundle.errors import SpecError
    from codec_runtime.bundle.layout import parse_rules

    try:
        rules = parse_rules(rename or [], drop or [], layout)
    except SpecError as error:
        fail(str(error))
    _make(weights, spec, root, storage, parent, partner, images, rules, json_)


@bundle_app.command("inspect")
def inspect_command(
    bundle: Bundle,
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor, with its storage loss.")] = False,
    json_: JsonFlag = False,
) -> None:
    """Show what a bundle says it is. Reads the manifest alone; `verify` checks the weights."""
    import json

    from codec_runtime.bundle.errors import BundleError
    from codec_runtime.bundle.manifest_file import read_manifest
    from xapp.cli.bundle_views import manifest_json, manifest_view, show

    try:
        manifest = read_manifest(bundle)
    except BundleError as error:
        fail(f"{type(error).__name__}: {error}")
    if json_:
        typer.echo(json.dumps(manifest_json(manifest)))
    else:
        show(manifest_view(manifest, tensors=tensors))


@bundle_app.command("verify")
def verify_command(
    places: Annotated[list[Path], typer.Argument(help="Bundle directories or roots.", metavar="PLACE...")],
    json_: JsonFlag = False,
) -> None:
    """Check everything of a bundle and say all that is wrong; exit code 1 if anything is.

    Manifest, sizes, sha256, names, shapes, dtypes, NaN, the architecture, the delta against its parent.
    Whether someone trustworthy signed it is the runtime's check (TUF), not this one's.
    """
    import json

    from codec_runtime.bundle.verification import bundles_at, verify_bundle
    from xapp.cli.bundle_views import report_json, report_view, show

    with _bytes_bar("verify") as on_bytes:
        reports = [verify_bundle(directory, on_bytes) for place in places for directory in bundles_at(place)]
    if json_:
        typer.echo(json.dumps({"bundles": [report_json(report) for report in reports]}))
    else:
        for report in reports:
            show(report_view(report))
    raise typer.Exit(0 if all(report.sound for report in reports) else 1)


@bundle_app.command("diff")
def diff_command(
    a: Annotated[Path, typer.Argument(help="Bundle that a site has.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Bundle that it shall have.", metavar="B")],
    all_: Annotated[bool, typer.Option("--all", help="List unchanged tensors too.")] = False,
    json_: JsonFlag = False,
) -> None:
    """What changed from A to B, tensor by tensor, and the bytes of each way to send it.

    Full: the weights file. Adapter-only: the changed tensors. Delta: their differences, packed without loss.
    """
    import json

    from codec_runtime.bundle.difference import diff_bundles
    from codec_runtime.bundle.errors import BundleError
    from xapp.cli.bundle_views import difference_json, difference_view, show

    try:
        with _bytes_bar("delta") as on_bytes:
            difference = diff_bundles(a, b, on_bytes)
    except BundleError as error:
        fail(f"{type(error).__name__}: {error}")
    if json_:
        typer.echo(json.dumps(difference_json(difference)))
    else:
        show(difference_view(difference, unchanged=all_))


def _make(
    weights: Path, spec_file: Path, root: Path, storage: Literal["F16", "F32", "I8"], parent: Path | None,
    partner: Path | None, images: list[Path] | None, rules: ImportRules | None, json_: bool,
) -> None:
    import json

    from codec_runtime.bundle.creation import create_bundle, read_source, read_spec, wanted_tensors
    from codec_runtime.bundle.errors import BundleError
    from codec_runtime.bundle.layout import convert
    from codec_runtime.bundle.partner import with_partner
    from xapp.cli.bundle_views import created_json, created_view, show

    if images and partner is None:
        fail("--images measures an encoder with a decoder: give the other one by --with")
    try:
        with _bytes_bar("read") as on_bytes:
            state = read_source(weights, on_bytes)
        spec = read_spec(spec_file)
        if partner is not None:
            spec = with_partner(spec, partner)
        if rules is not None:
            state = convert(state, wanted_tensors(spec, weights), rules)
        metrics = _psnr(state, spec, storage, partner, images) if images and partner else None
        with _bytes_bar("pack") as on_bytes:
            created = create_bundle(
                state, spec, root, origin=weights, storage=storage, parent=parent, metrics=metrics,
                on_bytes=on_bytes,
            )
    except (BundleError, OSError) as error:
        fail(f"{type(error).__name__}: {error}")
    if json_:
        typer.echo(json.dumps(created_json(created)))
    else:
        show(created_view(created))


def _psnr(
    state: dict[str, Tensor], spec: BundleSpec, storage: Literal["F16", "F32", "I8"], partner: Path,
    images: list[Path],
) -> dict[str, float]:
    import sys

    from tqdm import tqdm

    from codec_runtime.bundle.partner import LOSS_PREFIXES, LOSS_SNRS_DB, storage_psnr_loss
    from codec_runtime.evaluation.command import load_pictures

    try:
        pictures = load_pictures(images)
    except (OSError, ValueError) as error:
        fail(f"--images: {error}")
    cells = len(LOSS_SNRS_DB) * len(LOSS_PREFIXES)
    with tqdm(total=cells, unit="cell", desc="PSNR", file=sys.stderr) as bar:
        return storage_psnr_loss(state, spec, storage, partner, pictures, bar.update)


@contextmanager
def _bytes_bar(name: str) -> Iterator[Callable[[int], object]]:
    """Progress in bytes on stderr, shown once something takes longer than a second."""
    import sys

    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, desc=name, file=sys.stderr, delay=1.0, leave=False) as bar:
        yield bar.update
