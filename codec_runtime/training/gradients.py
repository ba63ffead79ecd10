"""Gradient conflict between users of one encoder (the seed paper's Theorem 1).

To first order, a step along user i's encoder gradient changes user j's loss by -rate * <g_i, g_j>: a negative
cosine means that serving one makes the encoder forget the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.training.conditions import Conditions
from codec_runtime.training.losses import Loss


def encoder_gradients(
    encoder: nn.Module, decoders: Mapping[str, nn.Module], batch: Tensor, conditions: Conditions, loss: Loss
) -> dict[str, Tensor]:
    """Each user's gradient with respect to all encoder parameters, flattened.

    All users receive the same transmission (fading and noise included), so that what differs is the decoder.
    Nothing is changed: no ``.grad``, no buffer (batch statistics), no global random state.

    Args:
        batch: (B, 3, H, W) in [0, 1].
    """
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    found: dict[str, Tensor] = {}
    kept = _unchanged_buffers(encoder, *decoders.values())
    with torch.random.fork_rng(devices=[]), kept, torch.enable_grad():
        sent = encoder(batch, conditions.snr_db, conditions.prefix)
        received = conditions.transmit(sent)
        for name, decoder in decoders.items():
            value = loss(decoder(received.values, received.snr_db, conditions.prefix), batch)
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            found[name] = torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).reshape(-1)
                    for p, g in zip(parameters, gradients, strict=True)
                ]
            )
    return found


def encoder_gradient_cosines(
    encoder: nn.Module, decoders: Mapping[str, nn.Module], batch: Tensor, conditions: Conditions, loss: Loss
) -> dict[tuple[str, str], float]:
    """Cosine between each two users' encoder gradients (:func:`encoder_gradients`), in the order given.

    A user without any gradient has cosine 0 to all.
    """
    gradients = encoder_gradients(encoder, decoders, batch, conditions, loss)
    return {
        (a, b): float(F.cosine_similarity(gradients[a], gradients[b], dim=0))
        for a, b in combinations(gradients, 2)
    }


@contextmanager
def _unchanged_buffers(*modules: nn.Module) -> Iterator[None]:
    kept = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
