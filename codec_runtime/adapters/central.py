"""`semcom train adapter` and `semcom eval adapter`: captioned pictures to an adapter bundle, and to RSUM."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from codec_runtime.adapters.adapter import AdapterConfig
from codec_runtime.adapters.adapter_bundle import NAME, load_adapter, write_adapter
from codec_runtime.adapters.encoders import FrozenEncoder, load_encoder
from codec_runtime.adapters.encoders.minilm import MiniLm, mean_direction
from codec_runtime.adapters.evaluation import Retrieval
from codec_runtime.adapters.pairs import Captions, PairSet, read_captions, split_pictures
from codec_runtime.adapters.skb import SemanticKnowledgeBase, build, load_knowledge_base, write_knowledge_base
from codec_runtime.adapters.token_cache import cached_tokens, inputs_sha256
from codec_runtime.adapters.training import EpochReport, TrainingConfig, measure, new_adapter, train_central
from codec_runtime.bundle.errors import SpecError
from codec_runtime.bundle.files import write_atomic
from codec_runtime.bundle.manifest_file import read_manifest
from codec_runtime.bundle.store import bundle_directory
from codec_runtime.contract.bundle import MANIFEST_FILE
from codec_runtime.split.networks.efficientnet import cache_folder

CURVE_FILE = "adapter_curve.json"
OnInputs = Callable[[str, int], object]
"""Called with an encoder's name and the number of inputs done since the last call."""


@dataclass(frozen=True)
class CentralRequest:
    """Attributes:
        data: folder with captions.txt and images/.
        out: bundle root to write.
        image_encoder, text_encoder: names of frozen encoders.
        test: pictures held out; split_seed: of the choice.
        prototypes: K, built from the training sentences, where ``knowledge`` is None.
        knowledge: bundle directory of a knowledge base.
        version: of the adapter (and of a knowledge base built here).
        training: see there.
    """

    data: Path
    out: Path
    image_encoder: str = "efficientnet-late"
    text_encoder: str = "minilm"
    test: int = 200
    split_seed: int = 0
    prototypes: int = 128
    knowledge: Path | None = None
    version: int = 1
    training: TrainingConfig = field(default_factory=TrainingConfig)


def default_cache() -> Path:
    """Where tokens are kept: ``tokens`` in the user's cache folder."""
    return cache_folder() / "tokens"


def captioned_tokens(
    captions: Captions, images: FrozenEncoder, texts: FrozenEncoder, cache: Path, on_inputs: OnInputs
) -> PairSet:
    """All pairs of a captioned set as tokens, from the cache or computed.

    Raises:
        ValueError: an encoder is of another modality.
    """
    for encoder, wanted in ((images, "image"), (texts, "text")):
        if encoder.modality != wanted:
            raise ValueError(f"encoder {encoder.name} takes {encoder.modality}, {wanted} is needed")
    seen = cached_tokens(images, captions.pictures, cache, lambda done: on_inputs(images.name, done))
    read = cached_tokens(texts, captions.sentences, cache, lambda done: on_inputs(texts.name, done))
    return PairSet(seen, read, captions.owner)


def train_adapter(
    request: CentralRequest,
    cache: Path | None = None,
    on_inputs: OnInputs = lambda name, done: None,
    on_epoch: Callable[[EpochReport], object] | None = None,
) -> tuple[Path, list[EpochReport]]:
    """Train centrally and write the bundles of the adapter and, if none is given, of its knowledge base.

    Raises:
        ValueError, KeyError, EncoderUnavailableError: the request or the data do not fit.
        SpecError: the version is there already.
        FloatingPointError: the training diverged.
    """
    directory = bundle_directory(request.out, "adapter", NAME, request.version)
    if (directory / MANIFEST_FILE).exists():
        raise SpecError(f"{directory} exists, and a version never changes: give a higher version")
    captions = read_captions(request.data)
    images, texts = load_encoder(request.image_encoder), load_encoder(request.text_encoder)
    cache = cache or default_cache()
    pairs = captioned_tokens(captions, images, texts, cache, on_inputs)
    learn, held_out = split_pictures(len(captions.pictures), request.test, request.split_seed)
    known = set(learn.tolist())
    sentences = [s for s, o in zip(captions.sentences, captions.owner.tolist(), strict=True) if o in known]
    data = inputs_sha256(sentences)
    if request.knowledge is not None:
        knowledge = load_knowledge_base(request.knowledge)
    else:
        everything = cached_tokens(
            MiniLm(), captions.sentences, cache, lambda done: on_inputs(MiniLm.name, done)
        )
        learnt = torch.isin(captions.owner, learn).nonzero()[:, 0]
        knowledge = _knowledge(request, mean_direction(everything.take(learnt)), data)
    config = AdapterConfig(
        encoders=f"{images.name}:{images.features} {texts.name}:{texts.features}",
        dimension=knowledge.dimension,
    )
    adapter = new_adapter(config, request.training.seed)
    curve = train_central(
        adapter, pairs.of_images(learn), pairs.of_images(held_out), knowledge.prototypes, request.training,
        on_epoch,
    )
    directory, _ = write_adapter(
        request.out, adapter, knowledge, version=request.version,
        encoders={images.name: images.sha256, texts.name: texts.sha256},
        provenance={
            "recipe": "central", "data_sha256": data, "seed": str(request.training.seed),
            "test_pictures": str(request.test), "split_seed": str(request.split_seed),
        },
        metrics=curve[-1].retrieval.as_dict() if curve else {},
    )
    rows = [{"epoch": r.epoch, "loss": r.loss, **r.retrieval.as_dict()} for r in curve]
    write_atomic(request.out / CURVE_FILE, json.dumps({"curve": rows}, indent=1).encode())
    return directory, curve


def _knowledge(request: CentralRequest, sentences: Tensor, data: str) -> SemanticKnowledgeBase:
    built = build(sentences, request.prototypes, seed=request.split_seed)
    return write_knowledge_base(
        request.out, built, version=request.version, source=MiniLm.name,
        provenance={
            "recipe": "spherical k-means of sentence embeddings", "data_sha256": data,
            "seed": str(request.split_seed),
        },
    )


def evaluate_adapter(
    bundle: Path, knowledge: Path, data: Path, *, image_encoder: str, text_encoder: str,
    cache: Path | None = None, on_inputs: OnInputs = lambda name, done: None,
) -> tuple[Retrieval, int]:
    """Retrieval on the pictures that the adapter's training held out, and how many they were.

    Raises:
        BundleError: a bundle is damaged, or the encoders are not those it was trained with.
        ValueError, KeyError, EncoderUnavailableError: as of :func:`train_adapter`.
    """
    base = load_knowledge_base(knowledge)
    manifest, adapter = load_adapter(bundle, base)
    images, texts = load_encoder(image_encoder), load_encoder(text_encoder)
    for encoder in (images, texts):
        if manifest.provenance.get(f"encoder {encoder.name}") != encoder.sha256:
            raise SpecError(f"{bundle} was trained with another {encoder.name} than the one installed here")
    captions = read_captions(data)
    pairs = captioned_tokens(captions, images, texts, cache or default_cache(), on_inputs)
    provenance = read_manifest(bundle).provenance
    test, seed = int(provenance.get("test_pictures", "200")), int(provenance.get("split_seed", "0"))
    _, held_out = split_pictures(len(captions.pictures), test, seed)
    return measure(adapter, pairs.of_images(held_out), base.prototypes), len(held_out)
