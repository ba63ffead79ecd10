"""How `semcom bundle` shows manifests, reports and differences: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from codec_runtime.bundle.creation import Created
from codec_runtime.bundle.difference import Difference
from codec_runtime.bundle.verification import Outcome, Report
from codec_runtime.contract.bundle import BundleManifest, StorageLoss

_FILE_COLUMNS = 110
_LONG = 100
_MARKS: dict[Outcome, tuple[str, str]] = {
    "ok": ("ok", "green"), "wrong": ("WRONG", "bold red"), "not checked": ("not checked", "yellow")
}


def show(view: RenderableType) -> None:
    """Print on stdout; a fixed width where that is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    console.print(view)


def manifest_json(manifest: BundleManifest) -> dict[str, Any]:
    """The manifest as it is, with ``weights_sha256`` beside."""
    return {**msgspec.to_builtins(manifest), "weights_sha256": manifest.weights_sha256}


def manifest_view(manifest: BundleManifest, *, tensors: bool) -> RenderableType:
    """Panel of what people ask first; ``tensors``: a table of all of them."""
    title = f"{manifest.kind}/{manifest.name}/{manifest.version}"
    parts: list[RenderableType] = [Panel(_facts(_manifest_facts(manifest)), title=title, title_align="left")]
    if manifest.quality:
        parts.append(_surface(manifest))
    if tensors:
        parts.append(_tensors(manifest))
    return Group(*parts)


def created_json(created: Created) -> dict[str, Any]:
    manifest = created.manifest
    worst = _worst(manifest)
    return {
        "directory": str(created.directory),
        "written": created.written,
        "weights_sha256": manifest.weights_sha256,
        "bytes": {"full": len(created.contents.weights), "delta": len(created.contents.delta)},
        "storage": manifest.storage,
        "worst_loss": None if worst is None else {"tensor": worst[0], **msgspec.to_builtins(worst[1])},
        "metrics": manifest.metrics,
    }


def created_view(created: Created) -> RenderableType:
    what = "written" if created.written else "there already, the same"
    place = Text(f"{created.directory}: {what}", "green")
    return Group(place, manifest_view(created.manifest, tensors=False))


def report_json(report: Report) -> dict[str, Any]:
    return {
        "directory": str(report.directory),
        "sound": report.sound,
        "findings": [
            {"check": f.check, "outcome": f.outcome, "error": f.error, "detail": f.detail}
            for f in report.findings
        ],
    }


def report_view(report: Report) -> RenderableType:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in report.findings:
        mark, style = _MARKS[finding.outcome]
        detail = f"{finding.error}: {finding.detail}" if finding.error else finding.detail
        table.add_row(Text(mark, style), finding.check, Text(detail))
    verdict, style = ("sound", "green") if report.sound else ("REFUSED", "bold red")
    return Group(Text.assemble(f"{report.directory}: ", (verdict, style)), table)


def difference_json(difference: Difference) -> dict[str, Any]:
    sizes = difference.sizes
    return {
        "a": _identity(difference.a),
        "b": _identity(difference.b),
        "bytes": {
            "full": sizes.full, "adapter": sizes.adapter, "delta": sizes.delta, "manifest": sizes.manifest
        },
        "fields": {name: {"a": a, "b": b} for name, (a, b) in difference.fields.items()},
        "tensors": [
            {
                "name": row.name, "change": row.change, "stored": row.stored, "bytes": row.size,
                "max_change": row.max_change, "relative_change": row.relative_change,
            }
            for row in difference.tensors
        ],
    }


def difference_view(difference: Difference, *, unchanged: bool) -> RenderableType:
    names = f"{_identity(difference.a)} -> {_identity(difference.b)}"
    fields = Table("field", "A", "B", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, (a, b) in difference.fields.items():
        fields.add_row(name, _short(a), _short(b))
    rows = Table("tensor", "change", "stored", "bytes", "max |B-A|", "relative", box=None,
                 padding=(0, 2, 0, 0), header_style="bold")
    for row in difference.tensors:
        if row.change != "same" or unchanged:
            compared = row.change in ("changed", "stored otherwise")
            numbers = (f"{row.max_change:.3g}", f"{row.relative_change:.3g}") if compared else ("", "")
            rows.add_row(row.name, row.change, row.stored, str(row.size), *numbers)
    same = sum(row.change == "same" for row in difference.tensors)
    sizes = difference.sizes
    ways = Table("to send", "bytes", "of full", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, size in (("full", sizes.full), ("adapter-only", sizes.adapter), ("delta", sizes.delta)):
        if size:
            ways.add_row(name, f"{size} ({decimal(size)})", f"{100 * size / sizes.full:.1f} %")
    return Group(
        Text(names, "bold"), Text(), fields, Text(), rows,
        Text(f"{same} of {len(difference.tensors)} tensors are the same", "dim"), Text(), ways,
        Text(f"and the manifest with each: {sizes.manifest} bytes", "dim"),
    )


def _manifest_facts(manifest: BundleManifest) -> Iterable[tuple[str, str]]:
    sizes = ", ".join(f"{file.name} {decimal(file.size)}" for file in manifest.files)
    yield "architecture", manifest.architecture + (f" ({manifest.part})" if manifest.part else "")
    yield "hyper-parameters", ", ".join(f"{k} = {v}" for k, v in manifest.hyperparameters.items())
    yield "files", sizes
    yield "sha256", manifest.weights_sha256
    if manifest.delta is not None:
        yield "delta", (
            f"{decimal(manifest.delta.size)} from weights {manifest.delta.parent_sha256[:16]}... "
            f"({100 * manifest.delta.size / manifest.files[0].size:.1f} % of full)"
        )
    yield "tensors", f"{len(manifest.tensors)}, storage {manifest.storage or _storages(manifest)}"
    worst = _worst(manifest)
    if worst is not None:
        yield "storage loss", (
            f"worst {worst[0]}: relative {worst[1].relative_error:.2e}, largest {worst[1].max_error:.2e}"
        )
    yield "parent", "none (a base)" if manifest.parent is None else f"version {manifest.parent}"
    if manifest.encoder_sha256:
        yield "encoder", manifest.encoder_sha256
    for bundle in manifest.compatible:
        yield "works with", f"{bundle.kind}/{bundle.name}/{bundle.version} {bundle.sha256}"
    yield "runtime", f"{manifest.minimum_runtime} or newer (schema {manifest.schema})"
    yield "parameters", f"{manifest.parameters:,}"
    if manifest.macs_per_pixel:
        yield "MACs/pixel", f"{manifest.macs_per_pixel:,.0f}"
    if manifest.memory_bytes:
        working = manifest.working_bytes_per_pixel
        beside = f" + {working:,.0f} bytes/pixel or more while working" if working else ""
        yield "memory", f"{decimal(manifest.memory_bytes)} of fp32 weights{beside}"
    for name, number in manifest.metrics.items():
        yield name, f"{number:.6g}"
    for name, text in manifest.provenance.items():
        yield name, _short(text)


def _surface(manifest: BundleManifest) -> Table:
    table = Table(title="PSNR, dB", title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    points = {(p.channel, p.prefix, p.snr_db): p.psnr_db for p in manifest.quality}
    snrs = sorted({snr for _, _, snr in points})
    table.add_column("channel")
    table.add_column("k", justify="right")
    for snr in snrs:
        table.add_column(f"{snr:g} dB", justify="right")
    for channel, prefix in dict.fromkeys((channel, prefix) for channel, prefix, _ in points):
        cells = [points.get((channel, prefix, snr)) for snr in snrs]
        table.add_row(channel, str(prefix), *("" if cell is None else f"{cell:.2f}" for cell in cells))
    return table


def _tensors(manifest: BundleManifest) -> Table:
    table = Table("tensor", "dtype", "shape", "max error", "relative", box=None, padding=(0, 2, 0, 0),
                  header_style="bold")
    for name, spec in manifest.tensors.items():
        loss = manifest.losses.get(name)
        shown = ("", "") if loss is None else (f"{loss.max_error:.2e}", f"{loss.relative_error:.2e}")
        table.add_row(name, spec.dtype, " x ".join(map(str, spec.shape)) or "scalar", *shown)
    return table


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    return table


def _worst(manifest: BundleManifest) -> tuple[str, StorageLoss] | None:
    return max(manifest.losses.items(), key=lambda item: item[1].relative_error, default=None)


def _storages(manifest: BundleManifest) -> str:
    return "+".join(sorted({spec.dtype for spec in manifest.tensors.values()})) or "none"


def _identity(manifest: BundleManifest) -> str:
    return str(Path(manifest.kind) / manifest.name / str(manifest.version))


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
