"""The graph adapter: tokens of any encoder to tokens in the space of the knowledge base.

    tokens --P_e, LN--> nodes h --graph: within the modality and to the prototypes--> h + m --> aligned tokens
           per encoder              one layer of attention                                  --mean--> pooled

Of the seed's section V.B, with what it leaves open decided so (docs/adapter.md has what was tried):

- *nodes*: a linear projection per encoder into the d dimensions of the knowledge base, a layer norm. An
  encoder of d features starts as the identity, so MiniLM's sentences start where the prototypes lie.
- *edges within a modality*: :func:`gaussian_edges` on the encoder's own tokens, which no training moves.
- *edges across modalities* lead to the prototypes, never to another sample: what the knowledge base is for,
  and the only way that a picture's embedding cannot know the sentence it is paired with. Cosine, top-k, each
  refined by a small MLP of (cosine, cosine less the sample's mean of its best), softmax, weighted mean.
- *message passing*: nodes are narrowed to ``message_rank``; attention logits: ``attention_scale`` times the
  cosine of two narrowed nodes plus the log of the edge's weight; the mean passes a ReLU and is widened again.
  Messages of both kinds start at zero: an untrained graph changes nothing.
- *pooling*: the mean of the aligned tokens, normalised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.adapters.graph import gaussian_edges, nearest_prototypes
from codec_runtime.adapters.tokens import TokenError, Tokens
from codec_runtime.adapters.views import SampleTokens, views_of
from codec_runtime.codecs.registration import Bounds, Interval, adapter

_ENCODER = r"[a-z0-9][a-z0-9-]{0,31}:[1-9][0-9]{0,3}"
_ENCODERS = re.compile(rf"{_ENCODER}( {_ENCODER}){{0,31}}")


@dataclass(frozen=True)
class AdapterConfig:
    """Hyper-parameters.

    Attributes:
        encoders: ``NAME:FEATURES`` of every encoder that may feed it, with a blank between.
        dimension: d, of the knowledge base.
        neighbours: edges that a token keeps within its modality; 0: no such edges.
        links: prototypes that a token is linked to; 0: none.
        edge_hidden: hidden units of the MLP that refines links.
        attention_scale: factor on the attention logits; the seed's 1.5.
        link_scale: factor on the refined cosines of links before their softmax.
        message_rank: width of the bottleneck of messages.
    """

    encoders: str = "minilm:384 efficientnet-late:1280"
    dimension: int = 384
    neighbours: int = 5
    links: int = 8
    edge_hidden: int = 16
    attention_scale: float = 1.5
    link_scale: float = 10.0
    message_rank: int = 64

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def features(self) -> dict[str, int]:
        """F of each encoder by name."""
        pairs = (entry.split(":") for entry in self.encoders.split())
        return {name: int(features) for name, features in pairs}


ADAPTER_BOUNDS: Bounds = {
    "encoders": _ENCODERS,
    "dimension": range(2, 2049),
    "neighbours": range(257),
    "links": range(257),
    "edge_hidden": range(1, 257),
    "attention_scale": Interval(0.0, 100.0),
    "link_scale": Interval(0.0, 1000.0),
    "message_rank": range(1, 2049),
}


@dataclass(frozen=True)
class Aligned:
    """What the adapter says of a batch.

    Attributes:
        tokens: (B, T, d), of unit norm, zero where there is no token.
        mask: (B, T) bool.
        pooled: (B, d) of unit norm: the sample.
        confidence: (B,) in 0..1, the cosine of ``pooled`` with the nearest prototype, not below 0.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    confidence: Tensor


@adapter(AdapterConfig, ADAPTER_BOUNDS)
class GraphAdapter(nn.Module):
    """See the module's docstring.

    Args:
        config: see there.
    """

    architecture = "graph-adapter"

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        d = config.dimension
        self.projections = nn.ModuleDict({
            name: _projection(features, d) for name, features in config.features.items()
        })
        self.norms = nn.ModuleDict({name: nn.LayerNorm(d) for name in config.features})
        if config.neighbours:
            self.message_in = nn.Linear(d, config.message_rank, bias=False)
            self.message_out = nn.Linear(config.message_rank, d, bias=False)
            nn.init.zeros_(self.message_out.weight)
        if config.links:
            self.edge_in = nn.Linear(2, config.edge_hidden)
            self.edge_out = nn.Linear(config.edge_hidden, 1)
            nn.init.zeros_(self.edge_out.weight)
            nn.init.zeros_(self.edge_out.bias)
            self.link_gain = nn.Parameter(torch.zeros(d))

    def forward(self, tokens: SampleTokens | Sequence[Tokens], prototypes: Tensor) -> Aligned:
        """Align a batch.

        Args:
            tokens: of one encoder, or of several for the *same* samples: their nodes share the pooled vector
                and have edges with one another only through the prototypes.
            prototypes: (K, d) of unit norm, K >= links.

        Raises:
            TokenError: an encoder without a projection, other features, different numbers of samples.
        """
        parts = list(tokens) if isinstance(tokens, Sequence) else list(views_of(tokens))
        if len({len(part) for part in parts}) != 1:
            raise TokenError("one batch or more, all of the same samples, is needed")
        embedded = [self._embed(part, prototypes) for part in parts]
        aligned = torch.cat(embedded, dim=1)
        mask = torch.cat([part.mask for part in parts], dim=1)
        pooled = F.normalize(aligned.sum(1), dim=1)
        with torch.no_grad():
            confidence = (pooled @ prototypes.t()).amax(1).clamp_min(0.0)
        return Aligned(aligned, mask, pooled, confidence)

    def _embed(self, tokens: Tokens, prototypes: Tensor) -> Tensor:
        """Aligned tokens (B, T, d) of one encoder."""
        known = self.config.features
        if known.get(tokens.encoder) != tokens.features:
            raise TokenError(
                f"the adapter knows {self.config.encoders}; "
                f"got {tokens.encoder} of {tokens.features} features"
            )
        mask = tokens.mask
        # Places without a token cost as much as others: they are left out of every product.
        nodes = self.norms[tokens.encoder](
            self.projections[tokens.encoder](tokens.values[mask].float())
        )
        directions = F.normalize(nodes, dim=1)
        result = nodes
        if self.config.neighbours:
            result = result + self._from_neighbours(tokens, nodes)
        if self.config.links:
            result = result + self._from_prototypes(mask, directions, prototypes)
        return _spread(F.normalize(result, dim=1), mask)

    def _from_neighbours(self, tokens: Tokens, nodes: Tensor) -> Tensor:
        mask, edges = tokens.mask, tokens.edges
        if edges is None:
            edges = gaussian_edges(tokens.values.float(), mask, self.config.neighbours)
        narrow = self.message_in(nodes)
        facing = _spread(F.normalize(narrow, dim=1), mask)
        logits = self.config.attention_scale * (facing @ facing.transpose(1, 2)) + edges
        mean = torch.softmax(logits, dim=2) @ _spread(narrow, mask)
        message: Tensor = self.message_out(torch.relu(mean[mask]))
        return message

    def _from_prototypes(self, mask: Tensor, directions: Tensor, prototypes: Tensor) -> Tensor:
        cosines, places = nearest_prototypes(directions, prototypes, self.config.links)
        best = _spread(cosines[:, :1], mask).sum(1) / mask.sum(1, keepdim=True)
        samples = mask.nonzero()[:, 0]
        features = torch.stack((cosines, cosines - best[samples]), dim=2)
        refined = cosines + self.edge_out(torch.relu(self.edge_in(features))).squeeze(2)
        weights = torch.softmax(self.config.link_scale * refined, dim=1)
        mean = F.embedding_bag(places, prototypes, per_sample_weights=weights, mode="sum")
        # A node has norm sqrt(d) after its layer norm, a prototype has norm 1.
        message: Tensor = mean * self.link_gain * self.config.dimension**0.5
        return message


def _projection(features: int, dimension: int) -> nn.Linear:
    layer = nn.Linear(features, dimension)
    nn.init.zeros_(layer.bias)
    if features == dimension:
        nn.init.eye_(layer.weight)
    return layer


def _spread(nodes: Tensor, mask: Tensor) -> Tensor:
    """Nodes (N, ...) of the tokens under ``mask`` (B, T) back to (B, T, ...), zeros elsewhere."""
    spread = nodes.new_zeros((*mask.shape, *nodes.shape[1:]))
    spread[mask] = nodes
    return spread
