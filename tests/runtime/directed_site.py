"""A runtime, the xApp's repository with a director, and bundles fine-tuned from those shipped; no HTTP."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from runtime_site import write_decoder, write_encoder
from safetensors.torch import load

from codec_runtime.bundle.store import BundleContents, bundle_contents, manifest_bytes, read_manifest
from codec_runtime.contract.bundle import DELTA_FILE, MANIFEST_FILE, WEIGHTS_FILE
from codec_runtime.contract.updates import ActivationReport, ActivationRequest
from codec_runtime.serving.runtime import Runtime
from codec_runtime.serving.settings import RuntimeSettings
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import THRESHOLD, Layout

WHOLE = (MANIFEST_FILE, WEIGHTS_FILE)
DELTA = (MANIFEST_FILE, DELTA_FILE)


def fine_tuned(parent: Path, version: int, tensor: str = "", by: float = 0.01) -> BundleContents:
    """``parent`` with one tensor moved (the first by name), as a bundle with a delta."""
    manifest = read_manifest(parent)
    before = (parent / WEIGHTS_FILE).read_bytes()
    state = load(before)
    name = tensor or min(state)
    contents = bundle_contents(
        kind=manifest.kind, name=manifest.name, version=version, architecture=manifest.architecture,
        hyperparameters=manifest.hyperparameters, state={**state, name: state[name] + by},
        encoder_sha256=manifest.encoder_sha256, parent=manifest.version, parent_weights=before,
    )
    assert contents.manifest.delta is not None
    return contents


def files_of(contents: BundleContents) -> dict[str, bytes]:
    files = {MANIFEST_FILE: manifest_bytes(contents.manifest), WEIGHTS_FILE: contents.weights}
    return files | ({DELTA_FILE: contents.delta} if contents.delta else {})


class DirectedSite:
    """Ships encoder/anchor/1 and decoder/attention/1; everything else is pushed by its methods.

    Args:
        root: empty, or a copy of another site's: its keys, repository and state are gone on with.
    """

    def __init__(self, root: Path, layout: Layout = THRESHOLD) -> None:
        self.root = root
        self.weights = root / "weights"
        if not self.weights.exists():
            write_decoder(self.weights, write_encoder(self.weights))
        self.repository = TufRepository(root / "tuf", layout=layout)
        self.settings = RuntimeSettings(
            weights_dir=str(self.weights), state_dir=str(root / "state"), backend="torch", site="site-1",
            trusted_root=str(self.repository.trusted_root),
        )
        self.runtime = Runtime(self.settings)

    def copied(self, root: Path) -> DirectedSite:
        """One like this, which is left alone."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return DirectedSite(root)

    @property
    def parent(self) -> Path:
        """Directory of the shipped decoder."""
        return self.weights / "decoder" / "attention" / "1"

    def publish(self, contents: BundleContents) -> str:
        return self.repository.publish(contents.manifest, files_of(contents))

    def push(self, *bundles: str, files: Sequence[str] = WHOLE) -> ActivationReport:
        """Metadata, the named files of ``bundles``, activation."""
        self.deliver(*bundles, files=files)
        return asyncio.run(self.runtime.activate(ActivationRequest(bundles=list(bundles))))

    def deliver(self, *bundles: str, files: Sequence[str] = WHOLE) -> None:
        state = self.repository.files()
        for path, (hashed, _, local) in state.targets.items():
            bundle, _, file = path.rpartition("/")
            if bundle in bundles and file in files:
                self.runtime.inbox.put("targets", hashed, local.read_bytes())
        for name, data in state.metadata:
            self.runtime.inbox.put("metadata", name, data)

    def served(self) -> list[str]:
        manifests = [bundle.manifest for bundle in self.runtime.models.all()]
        return [f"{m.kind}/{m.name}/{m.version}" for m in manifests]

    def restart(self) -> None:
        self.runtime = Runtime(self.settings)

    def counted(self, metric: str, **labels: str) -> float:
        return self.runtime.metrics.registry.get_sample_value(f"semcom_runtime_{metric}", labels) or 0.0
