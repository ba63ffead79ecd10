"""Tokens to aligned tokens: pure functions on numpy arrays around an adapter and its knowledge base."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from codec_runtime.adapters.adapter import Aligned, GraphAdapter
from codec_runtime.adapters.skb import KnowledgeBaseModule
from codec_runtime.adapters.tokens import TokenError, Tokens
from codec_runtime.bundle.errors import BundleError
from codec_runtime.serving.inference import InferenceInputError

MAX_TOKENS = 256
"""Of a sample: the graph within a modality is dense."""
_PIXELS_A_TOKEN = 64
"""What a token counts for in bounds that are told in pixels: an adapter takes about as long for a token as a
network of the codec for so many pixels."""

Array = npt.NDArray[Any]


class AdapterWarmUpError(BundleError):
    """The adapter loads but does not give finite tokens with its knowledge base."""


@dataclass(frozen=True, eq=False)
class AlignWork:
    """Samples to align.

    Attributes:
        adapter, knowledge: of one pair of bundles.
        encoder, modality: where the tokens come from.
        values: (B, T, F) float32; lengths: (B,) tokens of each sample, the rest is padding.
    """

    adapter: GraphAdapter
    knowledge: KnowledgeBaseModule
    encoder: str
    modality: str
    values: Array
    lengths: Array

    @property
    def key(self) -> Hashable:
        return ("align", id(self.adapter), self.encoder, self.modality, self.values.shape[1])

    @property
    def pictures(self) -> int:
        return int(self.values.shape[0])

    @property
    def pixels(self) -> int:
        return _PIXELS_A_TOKEN * int(self.values.shape[0] * self.values.shape[1])

    def check(self) -> None:
        """Raises: InferenceInputError: what this request alone is to blame for."""
        shape, known = self.values.shape, self.adapter.config.features
        if self.encoder not in known:
            raise InferenceInputError(
                f"the adapter knows no encoder {self.encoder!r}; it knows {', '.join(known)}"
            )
        if len(shape) != 3 or min(shape) < 1 or shape[1] > MAX_TOKENS or shape[2] != known[self.encoder]:
            raise InferenceInputError(
                f"tokens of {self.encoder} must have shape [B, 1..{MAX_TOKENS}, {known[self.encoder]}], "
                f"got {list(shape)}"
            )
        if self.lengths.shape != shape[:1] or (self.lengths < 1).any() or (self.lengths > shape[1]).any():
            raise InferenceInputError(
                f"lengths must be {shape[0]} numbers in 1..{shape[1]}, got {self.lengths[:8].tolist()}"
            )
        if not np.isfinite(self.values).all():
            raise InferenceInputError("tokens must be finite; NaN or infinity was received")


def aligned_dtype(tokens: int, dimension: int) -> np.dtype[Any]:
    """What is said of a sample: aligned tokens (T, d), their pooled direction (d,), confidence 0..1."""
    return np.dtype([
        ("tokens", np.float32, (tokens, dimension)), ("pooled", np.float32, (dimension,)),
        ("confidence", np.float32),
    ])


@torch.inference_mode()
def align(works: Sequence[AlignWork]) -> list[Array]:
    """Align works of one key together.

    Returns:
        Of each work (B,) of :func:`aligned_dtype`; aligned tokens are zero where there is none.

    Raises:
        FloatingPointError: the adapter gave tokens that are not finite.
        InferenceInputError: the adapter refuses the tokens.
    """
    lead = works[0]
    values = np.concatenate([work.values for work in works])
    lengths = np.concatenate([work.lengths for work in works])
    mask = np.arange(values.shape[1])[None] < lengths[:, None]
    values = np.where(mask[..., None], values, np.float32(0.0))
    try:
        tokens = Tokens(torch.from_numpy(values), torch.from_numpy(mask), lead.modality, lead.encoder)
        aligned = cast(Aligned, lead.adapter(tokens, lead.knowledge.prototypes))
    except TokenError as error:
        raise InferenceInputError(str(error)) from error
    told = np.empty(len(values), aligned_dtype(values.shape[1], int(aligned.pooled.shape[1])))
    told["tokens"], told["pooled"] = aligned.tokens.numpy(), aligned.pooled.numpy()
    told["confidence"] = aligned.confidence.clamp(0.0, 1.0).numpy()
    if not (np.isfinite(told["tokens"]).all() and np.isfinite(told["confidence"]).all()):
        raise FloatingPointError("the adapter gave tokens that are not finite")
    ends = np.cumsum([work.pictures for work in works])[:-1]
    return np.split(told, ends)


def warm_up_adapter(adapter: nn.Module, knowledge: nn.Module, where: str) -> None:
    """One sample of every encoder through a new adapter.

    Raises:
        AdapterWarmUpError: it does not compute; names ``where``.
    """
    if not isinstance(adapter, GraphAdapter) or not isinstance(knowledge, KnowledgeBaseModule):
        raise AdapterWarmUpError(f"{where}: no graph adapter with a knowledge base")
    config, held = adapter.config, tuple(knowledge.prototypes.shape)
    if held[1] != config.dimension or held[0] < config.links:
        raise AdapterWarmUpError(
            f"{where}: {config.dimension} dimensions and {config.links} links do not fit prototypes {held}"
        )
    for encoder, features in config.features.items():
        values = np.sin(np.arange(3 * features, dtype=np.float32)).reshape(1, 3, features)
        try:
            align([AlignWork(adapter, knowledge, encoder, "", values, np.array([3]))])
        except (RuntimeError, ValueError, FloatingPointError) as error:
            raise AdapterWarmUpError(f"{where}: warm-up with {encoder} failed: {error}") from error
