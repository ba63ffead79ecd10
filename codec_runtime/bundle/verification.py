"""Everything that can be checked of a bundle, all of it reported: `semcom bundle verify`.

Loading stops at the first thing wrong (:func:`codec_runtime.bundle.store.load_module`); this goes on as far
as what was read allows, so that one run tells all there is to mend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codec_runtime.bundle.checks import ARCHITECTURES, build_blank, state_problems, tensor_problems
from codec_runtime.bundle.delta import rebuild_weights
from codec_runtime.bundle.errors import BundleError, DeltaError, NonFiniteError
from codec_runtime.bundle.files import OnBytes, read_bounded
from codec_runtime.bundle.manifest_file import read_manifest, refuse_newer
from codec_runtime.bundle.storage import served_state
from codec_runtime.bundle.store import (
    WEIGHTS_LIMIT,
    bundle_directory,
    find_bundles,
    read_stated,
    read_weights,
    refuse_pickle_beside,
)
from codec_runtime.bundle.tensor_file import parse_header, read_tensors, refuse_non_finite
from codec_runtime.contract.bundle import DELTA_FILE, WEIGHTS_FILE, BundleManifest

Outcome = Literal["ok", "wrong", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One check: its outcome, the error's class where it is wrong, and what to know about it."""

    check: str
    outcome: Outcome
    detail: str = ""
    error: str = ""


@dataclass
class Report:
    """Findings of a bundle directory, in the order of the checks."""

    directory: Path
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return all(finding.outcome != "wrong" for finding in self.findings)

    def ok(self, check: str, detail: str = "") -> None:
        self.findings.append(Finding(check, "ok", detail))

    def wrong(self, check: str, error: Exception) -> None:
        self.findings.append(Finding(check, "wrong", str(error), type(error).__name__))

    def skipped(self, check: str, detail: str) -> None:
        self.findings.append(Finding(check, "not checked", detail))


def bundles_at(place: Path) -> list[Path]:
    """``place`` itself if it is a bundle directory or holds none below it, else the bundles of that root."""
    return [place] if (place / WEIGHTS_FILE).exists() else find_bundles(place) or [place]


def verify_bundle(directory: Path, on_bytes: OnBytes | None = None) -> Report:
    """Check a bundle directory; never raises for what is wrong with it.

    The parent and the encoder are sought beside it, below the root of ``ROOT/KIND/NAME/VERSION``.
    """
    report = Report(directory)
    try:
        manifest = read_manifest(directory)
    except BundleError as error:
        report.wrong("manifest", error)
        report.skipped("weights", "without a manifest nothing says what they should be")
        return report
    report.ok("manifest", f"schema {manifest.schema}, {manifest.kind}/{manifest.name}/{manifest.version}")
    _runtime(report, manifest)
    _neighbours(report, directory)
    _weights(report, manifest, on_bytes)
    _delta(report, manifest)
    _encoder(report, manifest)
    return report


def _runtime(report: Report, manifest: BundleManifest) -> None:
    try:
        refuse_newer(manifest, str(report.directory))
    except BundleError as error:
        report.wrong("runtime version", error)
    else:
        report.ok("runtime version", f"{manifest.minimum_runtime} or newer")


def _neighbours(report: Report, directory: Path) -> None:
    try:
        refuse_pickle_beside(directory)
    except BundleError as error:
        report.wrong("no pickle", error)
    else:
        report.ok("no pickle")


def _weights(report: Report, manifest: BundleManifest, on_bytes: OnBytes | None) -> None:
    path = report.directory / WEIGHTS_FILE
    try:
        read_weights(report.directory, manifest, on_bytes)
        report.ok("size and sha256", f"{manifest.files[0].size} bytes, {manifest.weights_sha256[:16]}...")
    except BundleError as error:
        report.wrong("size and sha256", error)
    try:
        data = read_bounded(path, WEIGHTS_LIMIT)
        header = parse_header(data, str(path))
    except BundleError as error:
        report.wrong("format", error)
        report.skipped("tensors", "the file cannot be read")
        return
    report.ok("format", f"{len(header.entries)} tensors")
    problems = list(tensor_problems(header, manifest, path))
    for problem in problems:
        report.wrong("tensors", problem)
    if not problems:
        report.ok("tensors", "names, shapes and dtypes are the manifest's")
    tensors = read_tensors(data, header)
    bad = 0
    for name, tensor in tensors.items():
        try:
            refuse_non_finite({name: tensor}, str(path))
        except NonFiniteError as error:
            report.wrong("finite", error)
            bad += 1
    if not bad:
        report.ok("finite")
    if problems:
        report.skipped("architecture", "the tensors are not the manifest's")
        return
    if manifest.kind not in ARCHITECTURES:
        report.skipped("architecture", f"this runtime has no architectures of kind {manifest.kind}")
        return
    try:
        state = served_state(tensors, manifest.quantised, str(path))
        module = build_blank(manifest.kind, manifest.architecture, manifest.hyperparameters, path)
    except BundleError as error:
        report.wrong("architecture", error)
        return
    misfits = list(state_problems(state, module, manifest.architecture, path))
    for problem in misfits:
        report.wrong("architecture", problem)
    if not misfits:
        report.ok("architecture", manifest.architecture)


def _delta(report: Report, manifest: BundleManifest) -> None:
    if manifest.delta is None:
        if (report.directory / DELTA_FILE).exists():
            report.wrong("delta", DeltaError(f"{DELTA_FILE} is there, but the manifest names none"))
        return
    if not (report.directory / DELTA_FILE).exists():
        report.skipped("delta", "it is not here, and not needed: the weights are")
        return
    try:
        delta = read_stated(report.directory, manifest.delta)
    except BundleError as error:
        report.wrong("delta", error)
        return
    parent = _beside(report.directory, manifest.kind, manifest.name, manifest.parent or 0)
    if parent is None:
        report.skipped(
            "delta", f"parent version {manifest.parent} is not beside it; size and sha256 are right"
        )
        return
    try:
        before = read_weights(parent, read_manifest(parent))
        found = rebuild_weights(before, delta, str(report.directory / DELTA_FILE))
        if found != read_weights(report.directory, manifest):
            raise DeltaError(f"{report.directory / DELTA_FILE}: gives other weights than {WEIGHTS_FILE}")
    except BundleError as error:
        report.wrong("delta", error)
    else:
        report.ok("delta", f"{len(delta)} bytes give the weights bit by bit")


def _encoder(report: Report, manifest: BundleManifest) -> None:
    if not manifest.encoder_sha256:
        return
    root = _root(report.directory)
    for place in find_bundles(root) if root else []:
        try:
            other = read_manifest(place)
        except BundleError:
            continue  # its own report says what is wrong with it
        if other.kind == "encoder" and manifest.works_with("encoder", other.weights_sha256):
            report.ok("encoder", f"{other.kind}/{other.name}/{other.version} is beside it")
            return
    report.skipped("encoder", f"{manifest.encoder_sha256[:16]}... is not beside it")


def _root(directory: Path) -> Path | None:
    parents = directory.resolve().parents
    return parents[2] if len(parents) > 2 else None


def _beside(directory: Path, kind: str, name: str, version: int) -> Path | None:
    root = _root(directory)
    place = None if root is None else bundle_directory(root, kind, name, version)
    return place if place is not None and place.is_dir() else None
