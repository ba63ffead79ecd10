"""An adapter and its knowledge base for the generated world of :mod:`xapp.lab.captioned`, trained in seconds.

What devices and site of the lab begin with; how it came about (one pool of pairs, no rounds) is of no
interest there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import torch

from codec_runtime.adapters.adapter import AdapterConfig
from codec_runtime.adapters.adapter_bundle import write_adapter
from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.skb import SemanticKnowledgeBase, build, write_knowledge_base
from codec_runtime.adapters.tokens import pack
from codec_runtime.adapters.training import TrainingConfig, new_adapter
from codec_runtime.adapters.user_pairs import UserPairs
from codec_runtime.bundle.store import bundle_directory
from xapp.lab.captioned import ADAPTER, IMAGE_ENCODER, TEXT_ENCODER, CaptionedWorld

WORLD: Final = CaptionedWorld()
CONFIG: Final = AdapterConfig(
    encoders=f"{IMAGE_ENCODER}:{WORLD.features} {TEXT_ENCODER}:{WORLD.dimension}", dimension=WORLD.dimension,
    neighbours=2, links=3, message_rank=8,
)
TRAINING: Final = TrainingConfig(batch=32, learning_rate=3e-3)
PROTOTYPES: Final = 12
KNOWLEDGE: Final = "semantic"
_SENTENCES, _PAIRS, _EPOCHS = 80, 160, 25


def world_pairs(count: int, seed: int, world: CaptionedWorld = WORLD) -> PairSet:
    """Captioned pictures as the encoders of the world see them."""
    generator = np.random.default_rng(seed)
    scenes = [world.scene(generator) for _ in range(count)]
    images = pack([torch.from_numpy(scene.image) for scene in scenes], "image", IMAGE_ENCODER)
    texts = pack([torch.from_numpy(scene.text) for scene in scenes], "text", TEXT_ENCODER)
    return PairSet(images, texts, torch.arange(count))


def world_knowledge(seed: int = 0) -> SemanticKnowledgeBase:
    """Prototypes of the world's sentences."""
    return build(torch.from_numpy(WORLD.sentences(_SENTENCES, 99)), PROTOTYPES, seed=seed)


def trained_weights(epochs: int = _EPOCHS) -> Weights:
    """Of an adapter that has seen the undisturbed world."""
    pairs = world_pairs(_PAIRS, 1)
    model = UserPairs(pairs, pairs, world_knowledge().prototypes, CONFIG, TRAINING)
    weights: Weights = new_adapter(CONFIG, 0).state_dict()
    everything = torch.ones(len(pairs), dtype=torch.bool)
    for epoch in range(epochs):
        weights, _ = model.train_epoch(weights, everything, epoch)
    return weights


def write_small_adapter(root: Path) -> list[Path]:
    """Directories of the knowledge base and of the adapter trained on it, below ``root``.

    Raises:
        BundleError, OSError: as :func:`codec_runtime.bundle.store.write_bundle`.
    """
    knowledge = write_knowledge_base(root, world_knowledge(), version=1, source=TEXT_ENCODER, name=KNOWLEDGE)
    adapter = new_adapter(CONFIG, 0)
    adapter.load_state_dict(trained_weights())
    # The encoders are no networks: what makes them is the description of the world.
    encoders = {name: hashlib.sha256(f"{name} {WORLD}".encode()).hexdigest() for name in CONFIG.features}
    directory, _ = write_adapter(root, adapter, knowledge, version=1, encoders=encoders, name=ADAPTER)
    return [bundle_directory(root, "skb", KNOWLEDGE, 1), directory]
