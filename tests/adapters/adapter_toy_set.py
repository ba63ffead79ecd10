"""A generated set of paired samples: two encoders' views of the same concepts. No files, no downloads."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from codec_runtime.adapters.adapter import AdapterConfig
from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.skb import SemanticKnowledgeBase, build
from codec_runtime.adapters.tokens import Tokens, pack

DIMENSION = 16
IMAGE_FEATURES = 24
CONCEPTS = 40
TEXTS_PER_IMAGE = 2
CONFIG = AdapterConfig(
    encoders=f"toy-image:{IMAGE_FEATURES} toy-text:{DIMENSION}", dimension=DIMENSION, neighbours=2, links=3,
    message_rank=8,
)


def toy_pairs(images: int, seed: int = 0) -> PairSet:
    """Each image shows three concepts, one a token, and noise; each of its texts names them in any order."""
    generator = torch.Generator().manual_seed(seed)
    world = torch.Generator().manual_seed(7)  # of all sets alike
    concepts = F.normalize(torch.randn(CONCEPTS, DIMENSION, generator=world), dim=1)
    seen = torch.randn(DIMENSION, IMAGE_FEATURES, generator=world)
    shown = torch.stack([torch.randperm(CONCEPTS, generator=generator)[:3] for _ in range(images)])
    noise = torch.randn(images, 4, IMAGE_FEATURES, generator=generator)
    values = 0.3 * noise
    values[:, :3] += concepts[shown] @ seen
    whole = torch.ones(images, 4, dtype=torch.bool)
    texts, owner = [], []
    for image in range(images):
        for _ in range(TEXTS_PER_IMAGE):
            words = concepts[shown[image][torch.randperm(3, generator=generator)]]
            filler = 0.2 * torch.randn(int(torch.randint(0, 3, (1,), generator=generator)), DIMENSION,
                                       generator=generator)
            texts.append(torch.cat((words, filler)))
            owner.append(image)
    return PairSet(
        Tokens(values, whole, "image", "toy-image"), pack(texts, "text", "toy-text"), torch.tensor(owner)
    )


def toy_knowledge(count: int = 12) -> SemanticKnowledgeBase:
    """Prototypes of the texts' means."""
    texts = toy_pairs(60, seed=99).texts
    return build((texts.values * texts.mask[..., None]).sum(1), count, seed=0)
