"""Tokens: what a frozen encoder makes of a batch of pictures, sentences or series.

A token is a patch of a picture, a word of a sentence or a slice of a time series. Samples of a batch may have
different numbers of tokens; the mask says which places hold one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


class TokenError(ValueError):
    """Tokens of the wrong shape or dtype, not finite, or of different encoders; the message says which."""


@dataclass(frozen=True)
class Tokens:
    """A batch of token sequences of one encoder.

    Attributes:
        values: (B, T, F), float32 or, as cached, float16; zero where there is no token.
        mask: (B, T) bool, True where there is a token; each sample has at least one, and they come first.
        modality: ``image``, ``text``, ``series``, ...
        encoder: name of the encoder.
        edges: (B, T, T) log weights of the graph within the modality, as
            :func:`codec_runtime.adapters.graph.gaussian_edges` gives; None: not computed yet. They depend on
            the tokens alone, so a training set computes them once.

    Raises:
        TokenError: see there.
    """

    values: Tensor
    mask: Tensor
    modality: str
    encoder: str
    edges: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if len(shape) != 3 or tuple(self.mask.shape) != shape[:2] or self.mask.dtype != torch.bool:
            raise TokenError(
                f"tokens of {self.encoder}: values {shape} and mask {tuple(self.mask.shape)} "
                f"{self.mask.dtype}; (B, T, F) and (B, T) bool are needed"
            )
        if self.values.dtype not in (torch.float32, torch.float16):
            raise TokenError(f"tokens of {self.encoder} are {self.values.dtype}, not float32 or float16")
        if shape[0] and not bool(self.mask.any(1).all()):
            bare = int((~self.mask.any(1)).nonzero()[0])
            raise TokenError(f"tokens of {self.encoder}: sample {bare} has none")
        if not bool(torch.isfinite(self.values).all()):
            raise TokenError(f"tokens of {self.encoder} are not finite")

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def features(self) -> int:
        """F."""
        return int(self.values.shape[2])

    def take(self, index: Tensor) -> Tokens:
        """The samples at ``index`` (N,), as float32, without the places that none of them uses."""
        mask = self.mask[index]
        longest = int(mask.sum(1).max()) if len(mask) else 0
        # What was checked once needs no second look: a training step takes thousands of these.
        taken = object.__new__(Tokens)
        for name, value in (
            ("values", self.values[index, :longest].float()), ("mask", mask[:, :longest]),
            ("modality", self.modality), ("encoder", self.encoder),
            ("edges", None if self.edges is None else self.edges[index, :longest, :longest].float()),
        ):
            object.__setattr__(taken, name, value)
        return taken

    def truncated(self, most: int) -> Tokens:
        """At most the first ``most`` >= 1 tokens of each sample."""
        return replace(self, values=self.values[:, :most], mask=self.mask[:, :most], edges=None)

    def grouped(self, size: int) -> Tokens:
        """The mean of every ``size`` tokens in a row as one, in their dtype; the last may be of fewer."""
        if size == 1:
            return self
        whole = self.padded(-(-self.values.shape[1] // size) * size)
        shape = (len(self), whole.values.shape[1] // size, size)
        weights = whole.mask.reshape(shape)[..., None].float()
        sums = (whole.values.float().reshape(*shape, self.features) * weights).sum(2)
        values = (sums / weights.sum(2).clamp_min(1.0)).to(self.values.dtype)
        return replace(self, values=values, mask=whole.mask.reshape(shape).any(2), edges=None)

    def padded(self, length: int) -> Tokens:
        """``length`` places; raises TokenError if there are more already."""
        missing = length - self.values.shape[1]
        if missing < 0:
            raise TokenError(f"tokens of {self.encoder}: {self.values.shape[1]} places do not fit {length}")
        values = torch.nn.functional.pad(self.values, (0, 0, 0, missing))
        return replace(self, values=values, mask=torch.nn.functional.pad(self.mask, (0, missing)), edges=None)


def pack(samples: Sequence[Tensor], modality: str, encoder: str) -> Tokens:
    """A batch from sequences (T_i, F) of different lengths.

    Raises:
        TokenError: no sample, or different F.
    """
    if not samples or len({sample.shape[1:] for sample in samples}) != 1:
        raise TokenError(f"tokens of {encoder}: one or more samples (T, F) of the same F are needed")
    lengths = torch.tensor([len(sample) for sample in samples])
    values = torch.nn.utils.rnn.pad_sequence(list(samples), batch_first=True)
    mask = torch.arange(values.shape[1])[None] < lengths[:, None]
    return Tokens(values, mask, modality, encoder)


def concatenate(batches: Sequence[Tokens]) -> Tokens:
    """The samples of all batches in order, padded to the longest.

    Raises:
        TokenError: no batch, or batches of different encoders.
    """
    if len({(b.modality, b.encoder, b.features) for b in batches}) != 1:
        raise TokenError(f"tokens of {sorted({b.encoder for b in batches})} cannot be one batch")
    longest = max(batch.values.shape[1] for batch in batches)
    parts = [batch.padded(longest) for batch in batches]
    first = parts[0]
    values, mask = torch.cat([p.values for p in parts]), torch.cat([p.mask for p in parts])
    return replace(first, values=values, mask=mask, edges=None)
