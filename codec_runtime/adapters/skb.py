"""The semantic knowledge base (SKB): prototypes of meaning that transmitter and receiver share.

K unit vectors in the unified space: centres of sentence embeddings under spherical k-means (Dhillon and
Modha, Machine Learning 2001), so that the space is that of the sentence encoder, reduced to d dimensions
where d is smaller. Frozen during an update; a bundle of kind ``skb`` with version and sha256 like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.codecs.registration import knowledge_base

NAME = "semantic-knowledge-base"
_SOURCE = re.compile(r"[a-z0-9-]{0,64}")


@dataclass(frozen=True)
class KnowledgeBaseConfig:
    """Attributes: prototypes: K; dimension: d; source: encoder of the sentences, a label."""

    prototypes: int = 256
    dimension: int = 384
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@knowledge_base(
    KnowledgeBaseConfig,
    {"prototypes": range(1, 65537), "dimension": range(2, 2049), "source": _SOURCE},
)
class KnowledgeBaseModule(nn.Module):
    """What a bundle of kind ``skb`` holds: the buffer ``prototypes`` (K, d)."""

    architecture = NAME
    prototypes: Tensor

    def __init__(self, config: KnowledgeBaseConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("prototypes", torch.zeros(config.prototypes, config.dimension))


@dataclass(frozen=True)
class SemanticKnowledgeBase:
    """Prototypes as both ends hold them.

    Attributes:
        prototypes: (K, d) float32 of unit norm.
        version: of its bundle; 0 before it is one.
        sha256: hex, of the bundle's weights file; empty before.

    Raises:
        ValueError: not (K, d), or not of unit norm.
    """

    prototypes: Tensor
    version: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.prototypes.dim() != 2 or not len(self.prototypes):
            raise ValueError(f"prototypes {tuple(self.prototypes.shape)}: (K, d) with K >= 1 is needed")
        if not bool(torch.isfinite(self.prototypes).all()):
            raise ValueError("prototypes are not finite")
        worst = float((self.prototypes.norm(dim=1) - 1).abs().max())
        if worst > 1e-3:
            raise ValueError(f"prototypes must be of unit norm; one is off by {worst:.2g}")

    @property
    def dimension(self) -> int:
        """d."""
        return int(self.prototypes.shape[1])

    def same_as(self, other: SemanticKnowledgeBase) -> bool:
        """Whether two ends may exchange aligned tokens: the same bundle."""
        return bool(self.sha256) and self.sha256 == other.sha256


def build(
    embeddings: Tensor, count: int, *, seed: int, dimension: int | None = None
) -> SemanticKnowledgeBase:
    """Prototypes of sentence embeddings.

    Args:
        embeddings: (N, D), N >= count.
        dimension: d <= D; projection on the leading principal directions (of the second moment, not the
            covariance: cosines are to stay as they are).

    Raises:
        ValueError: too few sentences, or d > D.
    """
    directions = F.normalize(embeddings.float(), dim=1)
    if dimension is not None and dimension != directions.shape[1]:
        directions = F.normalize(directions @ leading_directions(directions, dimension), dim=1)
    return SemanticKnowledgeBase(spherical_means(directions, count, seed))


def leading_directions(embeddings: Tensor, dimension: int) -> Tensor:
    """(D, d) orthonormal columns: eigenvectors of the second moment, largest first, of a fixed sign.

    Raises:
        ValueError: d > D.
    """
    if dimension > embeddings.shape[1]:
        raise ValueError(f"{dimension} dimensions of {embeddings.shape[1]}-dimensional sentences")
    moment = embeddings.double().t() @ embeddings.double()
    vectors = torch.linalg.eigh(moment).eigenvectors.flip(1)[:, :dimension]
    places = vectors.abs().argmax(0)
    signs: Tensor = vectors[places, torch.arange(dimension)].sign()
    oriented: Tensor = (vectors * signs).float()
    return oriented


def spherical_means(directions: Tensor, count: int, seed: int, rounds: int = 50) -> Tensor:
    """Lloyd's algorithm on the sphere from k-means++ starts; a function of its arguments.

    Args:
        directions: (N, d) of unit norm.

    Returns:
        (count, d) of unit norm. A centre that loses its last member moves to the worst served point.

    Raises:
        ValueError: fewer points than centres.
    """
    if len(directions) < count:
        raise ValueError(f"{count} prototypes need as many sentences; there are {len(directions)}")
    generator = torch.Generator().manual_seed(seed)
    centres = _spread_starts(directions, count, generator)
    before = None
    for _ in range(rounds):
        cosines, owner = (directions @ centres.t()).max(1)
        if before is not None and torch.equal(owner, before):
            break
        before = owner
        sums = torch.zeros_like(centres).index_add_(0, owner, directions)
        empty = torch.bincount(owner, minlength=count) == 0
        if bool(empty.any()):
            sums[empty] = directions[cosines.argsort()[: int(empty.sum())]]
        centres = F.normalize(sums, dim=1)
    return centres


def _spread_starts(directions: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, SODA 2007) with 1 - cosine as the squared distance."""
    first = int(torch.randint(len(directions), (1,), generator=generator))
    chosen = [first]
    distance = 1 - directions @ directions[first]
    for _ in range(count - 1):
        weights = distance.clamp_min(0)
        if float(weights.sum()) <= 0:  # fewer distinct points than centres
            weights = torch.ones_like(weights)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        distance = torch.minimum(distance, 1 - directions @ directions[chosen[-1]])
    return directions[chosen].clone()


def write_knowledge_base(
    root: Path, knowledge: SemanticKnowledgeBase, *, version: int, source: str,
    provenance: Mapping[str, str] | None = None, name: str = "semantic",
) -> SemanticKnowledgeBase:
    """Write a bundle ``root/skb/name/version`` (fp32: unit norms survive) and return it as read back."""
    from codec_runtime.bundle.store import bundle_directory, write_bundle  # noqa: PLC0415 (cycle)

    config = KnowledgeBaseConfig(len(knowledge.prototypes), knowledge.dimension, source)
    directory = bundle_directory(root, "skb", name, version)
    write_bundle(
        directory, kind="skb", name=name, version=version, architecture=NAME,
        hyperparameters=config.as_dict(), state={"prototypes": knowledge.prototypes}, dtype="F32",
        provenance=provenance,
    )
    return load_knowledge_base(directory)


def load_knowledge_base(directory: Path) -> SemanticKnowledgeBase:
    """The knowledge base of a bundle directory.

    Raises:
        BundleError: damaged, or of another kind.
        ValueError: the prototypes are not of unit norm.
    """
    from codec_runtime.bundle.errors import ManifestError  # noqa: PLC0415 (cycle)
    from codec_runtime.bundle.store import load_module  # noqa: PLC0415

    manifest, module = load_module(directory)
    if not isinstance(module, KnowledgeBaseModule):
        raise ManifestError(f"{directory} is a bundle of kind {manifest.kind}, not skb")
    return SemanticKnowledgeBase(module.prototypes, manifest.version, manifest.weights_sha256)
