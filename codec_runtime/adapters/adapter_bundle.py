"""Adapters as bundles: written with the knowledge base and the frozen encoders they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codec_runtime.adapters.adapter import GraphAdapter
from codec_runtime.adapters.skb import SemanticKnowledgeBase
from codec_runtime.bundle.errors import ManifestError
from codec_runtime.bundle.store import bundle_contents, bundle_directory, load_module, write_contents
from codec_runtime.contract.bundle import BundleManifest, CompatibleBundle

NAME = "shared"


def write_adapter(
    root: Path,
    adapter: GraphAdapter,
    knowledge: SemanticKnowledgeBase,
    *,
    version: int,
    encoders: Mapping[str, str],
    parent: int | None = None,
    provenance: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    name: str = NAME,
) -> tuple[Path, BundleManifest]:
    """Write ``root/adapter/name/version``.

    Args:
        knowledge: as read from its bundle; the manifest's compatibility set names it.
        encoders: sha256 of each frozen encoder by name; kept as provenance ``encoder NAME``.

    Raises:
        ValueError: the knowledge base is of no bundle.
    """
    if not knowledge.sha256:
        raise ValueError("write the knowledge base as a bundle first: the adapter's manifest names it")
    contents = bundle_contents(
        kind="adapter", name=name, version=version, architecture=GraphAdapter.architecture,
        hyperparameters=adapter.config.as_dict(), state=adapter.state_dict(), parent=parent,
        provenance={**{f"encoder {k}": v for k, v in encoders.items()}, **(provenance or {})},
        metrics=metrics,
        compatible=[CompatibleBundle(kind="skb", sha256=knowledge.sha256, version=knowledge.version)],
    )
    directory = bundle_directory(root, "adapter", name, version)
    write_contents(directory, contents)
    return directory, contents.manifest


def load_adapter(directory: Path, knowledge: SemanticKnowledgeBase) -> tuple[BundleManifest, GraphAdapter]:
    """The adapter of a bundle directory, in evaluation mode.

    Raises:
        BundleError: damaged or of another kind.
        ManifestError: it was aligned to another knowledge base.
    """
    manifest, module = load_module(directory)
    if not isinstance(module, GraphAdapter):
        raise ManifestError(f"{directory} is a bundle of kind {manifest.kind}, not adapter")
    if not manifest.works_with("skb", knowledge.sha256):
        raise ManifestError(
            f"{directory} is aligned to another knowledge base than version {knowledge.version}, "
            f"sha256 {knowledge.sha256[:16]}..."
        )
    return manifest, module
