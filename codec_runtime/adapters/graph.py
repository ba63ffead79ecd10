"""Edges of the semantic graph: within a modality by a Gaussian kernel, to the knowledge base by similarity.

Both are batched and dense over the few tokens of a sample. Which edges there are carries no gradient; how
much they weigh does where it depends on learnt nodes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from codec_runtime.adapters.tokens import Tokens

_NO_EDGE = float("-inf")
_TINY = 1e-12


@torch.no_grad()
def gaussian_edges(values: Tensor, mask: Tensor, neighbours: int) -> Tensor:
    """Log weights of the edges within a modality.

    w_ij = exp(-|x_i - x_j|^2 / (2 s^2)), s = the median distance between the sample's own tokens (Gretton et
    al., JMLR 2012, of kernel bandwidths), so that an encoder's scale does not matter. A token keeps its
    ``neighbours`` heaviest edges; an edge that either end keeps is there both ways; self loops weigh 1.

    Args:
        values: (B, T, F) tokens, mask: (B, T).

    Returns:
        (B, T, T) log w_ij, symmetric, 0 on the diagonal of tokens, -inf where there is no edge. The row of a
        place without a token has its self loop alone, so that a softmax over it is defined.
    """
    tokens = values.shape[1]
    squared = torch.cdist(values, values).square()
    itself = torch.eye(tokens, dtype=torch.bool, device=values.device)
    possible = mask[:, :, None] & mask[:, None, :] & ~itself
    median = squared.masked_fill(~possible, float("nan")).flatten(1).nanmedian(1).values
    bandwidth = torch.nan_to_num(median, nan=1.0).clamp_min(_TINY)  # of squared distances
    weights = (-squared / (2 * bandwidth[:, None, None])).masked_fill(~possible, _NO_EDGE)
    if neighbours < tokens - 1:
        least = weights.topk(neighbours, dim=2).values[..., -1:]
        kept = (weights >= least) & possible
        weights = weights.masked_fill(~(kept | kept.transpose(1, 2)), _NO_EDGE)
    return weights.masked_fill(itself, 0.0)


def with_edges(tokens: Tokens, neighbours: int, batch: int = 256) -> Tokens:
    """``tokens`` with their edges, float16, for a training set that is read many times."""
    edges = torch.cat([
        gaussian_edges(tokens.values[i : i + batch].float(), tokens.mask[i : i + batch], neighbours).half()
        for i in range(0, len(tokens), batch)
    ])
    return replace(tokens, edges=edges)


def nearest_prototypes(nodes: Tensor, prototypes: Tensor, links: int) -> tuple[Tensor, Tensor]:
    """The ``links`` prototypes that each node is most similar to.

    Args:
        nodes: (N, d) of unit norm; prototypes: (K, d) of unit norm, K >= links.

    Returns:
        Cosines (N, links), descending and with gradient, and indices (N, links).
    """
    cosines, places = (nodes @ prototypes.t()).topk(links, dim=1)
    return cosines, places
