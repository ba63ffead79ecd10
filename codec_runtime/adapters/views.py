"""The same samples through several encoders, seen together or one encoder at a time.

A user that has an encoder of its own and a light one that every user has gives the adapter the tokens of
both. The light one's projection then learns from all users, the own one's from those who have that encoder,
and an embedding is the mean over the tokens of both.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from codec_runtime.adapters.graph import with_edges
from codec_runtime.adapters.tokens import TokenError, Tokens


@dataclass(frozen=True)
class TokenViews:
    """Attributes: parts: one or more batches of tokens, of the same B samples in the same order.

    Raises:
        TokenError: none, or of different numbers of samples.
    """

    parts: tuple[Tokens, ...]

    def __post_init__(self) -> None:
        if len({len(part) for part in self.parts}) != 1:
            raise TokenError(
                f"views of {[len(part) for part in self.parts]} samples: one or more, of the same samples, "
                "are needed"
            )

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def encoder(self) -> str:
        """Names of the encoders, with ``+`` between."""
        return "+".join(part.encoder for part in self.parts)

    def take(self, index: Tensor) -> TokenViews:
        """The samples at ``index`` (N,)."""
        return TokenViews(tuple(part.take(index) for part in self.parts))


SampleTokens = Tokens | TokenViews


def views_of(tokens: SampleTokens) -> tuple[Tokens, ...]:
    """One of :class:`Tokens`, all of :class:`TokenViews`."""
    return (tokens,) if isinstance(tokens, Tokens) else tokens.parts


def seen_together(first: SampleTokens, second: SampleTokens) -> SampleTokens:
    """Both; what comes through one and the same encoder is not there twice."""
    parts = views_of(first)
    known = {part.encoder for part in parts}
    parts += tuple(part for part in views_of(second) if part.encoder not in known)
    return parts[0] if len(parts) == 1 else TokenViews(parts)


def view(tokens: SampleTokens, place: int) -> Tokens:
    """The view at ``place``, the last one where there are fewer."""
    parts = views_of(tokens)
    return parts[min(place, len(parts) - 1)]


def with_view_edges(tokens: SampleTokens, neighbours: int) -> SampleTokens:
    """Each view with the edges within it (:func:`codec_runtime.adapters.graph.with_edges`)."""
    if isinstance(tokens, Tokens):
        return with_edges(tokens, neighbours)
    return TokenViews(tuple(with_edges(part, neighbours) for part in tokens.parts))
