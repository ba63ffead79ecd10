"""Bundles of the generated captioned world (a knowledge base, and an adapter trained on it in a second), and
what its users send.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
import tritonclient.http as triton

from codec_runtime.adapters.adapter_bundle import write_adapter
from codec_runtime.adapters.skb import SemanticKnowledgeBase, write_knowledge_base
from codec_runtime.adapters.training import new_adapter
from codec_runtime.contract.bundle import BundleManifest
from xapp.lab import small_adapter
from xapp.lab.aligning import padded
from xapp.lab.captioned import IMAGE_ENCODER, TEXT_ENCODER, CaptionedWorld, Scene
from xapp.lab.small_adapter import CONFIG, WORLD, world_knowledge

trained_weights = cache(small_adapter.trained_weights)


def write_knowledge(root: Path, version: int = 1, seed: int = 0) -> SemanticKnowledgeBase:
    return write_knowledge_base(root, world_knowledge(seed), version=version, source=TEXT_ENCODER)


def write_aligned(
    root: Path, held: SemanticKnowledgeBase, *, version: int = 1, parent: int | None = None,
    move: float = 0.0, epochs: int = 0,
) -> BundleManifest:
    """``root/adapter/shared/version``: untrained, unless there are ``epochs``; moved a little."""
    adapter = new_adapter(CONFIG, 0)
    if epochs:
        adapter.load_state_dict(trained_weights(epochs))
    with torch.no_grad():
        adapter.norms[IMAGE_ENCODER].weight += move
    _, manifest = write_adapter(
        root, adapter, held, version=version, encoders={IMAGE_ENCODER: "a" * 64, TEXT_ENCODER: "b" * 64},
        parent=parent,
    )
    return manifest


def align(
    address: str, tokens: list[np.ndarray], *, text: bool = False, items: list[int] | None = None,
    **given: object,
) -> triton.InferResult:
    sent_together = padded(tokens)
    inputs = [("tokens", sent_together["tokens"], "FP32"), ("lengths", sent_together["lengths"], "INT32")]
    if items is not None:
        inputs.append(("item", np.array(items, np.int64), "INT64"))
    sent = []
    for name, array, datatype in inputs:
        sent.append(triton.InferInput(name, list(array.shape), datatype))
        sent[-1].set_data_from_numpy(array)
    parameters = {"encoder": TEXT_ENCODER if text else IMAGE_ENCODER, "modality": "text" if text else "image"}
    with triton.InferenceServerClient(address) as client:
        return client.infer("align", sent, parameters={**parameters, **given})


def scenes(count: int, seed: int, world: CaptionedWorld = WORLD) -> list[Scene]:
    generator = np.random.default_rng(seed)
    return [world.scene(generator) for _ in range(count)]


def show(address: str, user: str, shown: list[Scene], first: int = 0) -> None:
    """A user aligns captioned pictures."""
    for start in range(0, len(shown), 32):
        part = shown[start : start + 32]
        items = [first + start + place for place in range(len(part))]
        align(address, [scene.image for scene in part], items=items, user=user)
        align(address, [scene.text for scene in part], text=True, items=items, user=user)
