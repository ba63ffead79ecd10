"""The generated set through several toy encoders, as the adapter experiment takes it."""

from __future__ import annotations

from dataclasses import replace

import torch
from adapter_toy_set import CONFIG, toy_pairs
from torch.nn import functional as F

from codec_runtime.adapters.methods import UpdateProblem
from codec_runtime.adapters.tokens import Tokens
from codec_runtime.adapters.training import TrainingConfig
from codec_runtime.experiments.adapter_users import CaptionedTokens, UserSettings, update_problem

SETTINGS = UserSettings(
    encoders=("toy-image toy-text", "toy-turned toy-text", "toy-image toy-text"), light="toy-image toy-text",
    test=20, source=16, held_out=0.15, pictures=24, clusters=4, prototypes=12,
)
TRAINING = TrainingConfig(batch=32, learning_rate=3e-3, weight_decay=0.01)


def toy_tokens(images: int = 110) -> CaptionedTokens:
    pairs = toy_pairs(images, seed=1)
    seen, texts = pairs.images, pairs.texts
    turn = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(3))).Q
    turned = Tokens(seen.values @ turn, seen.mask, "image", "toy-turned")
    sums = (texts.values * texts.mask[..., None]).sum(1)
    return CaptionedTokens(
        {"toy-image": seen, "toy-turned": turned}, {"toy-text": texts}, pairs.owner, F.normalize(sums, dim=1),
        {"images": "a" * 64, "sentences": "b" * 64},
    )


def toy_problem(errors: str = "0", source_epochs: int = 2, epochs: int = 1, seed: int = 1) -> UpdateProblem:
    return update_problem(
        toy_tokens(), SETTINGS, alpha=0.5, errors=errors, seed=seed, training=TRAINING,
        config=replace(CONFIG), epochs=epochs, source_epochs=source_epochs,
    )
