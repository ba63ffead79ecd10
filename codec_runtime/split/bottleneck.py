"""A bottleneck at a cut: what crosses is squeezed to few channels, coded, and unfolded on the other side.

    features --reduce--> m channels --quantise, code--> bytes --> m channels --restore--> features

``reduce`` runs on the device, ``restore`` at the edge; both are small. The quantiser, the prior and the
operating points are those of :mod:`codec_runtime.digital`: one network, several rates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.contract.split import CutError, CutSpec, SplitGraph, make_cut
from codec_runtime.digital.entropy_model import OperatingPoints
from codec_runtime.digital.quantisation import ChannelQuantiser


@dataclass(frozen=True)
class BottleneckConfig:
    """Shape of a bottleneck.

    Attributes:
        channels: of the features at the cut; squeezed: m, of what crosses; hidden: units of ``restore``.
        stride: the squeezed features are this many times smaller in height and width.
        points: operating points.
    """

    channels: int
    squeezed: int = 32
    hidden: int = 128
    stride: int = 1
    points: int = 5

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class Squeezer(nn.Module):
    """The layers around what crosses: (B, C, H, W) -> (B, m, H / stride, W / stride) and back.

    All operating points share them but for two things on the edge's side: ``gain`` (P, m), by which a coarse
    point trusts a channel less (as a Wiener filter does), and ``strength`` (P,) of the correction.
    """

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        folded = config.channels * config.stride**2
        self.reduce = nn.Conv2d(folded, config.squeezed, 1)
        self.expand = nn.Conv2d(config.squeezed, folded, 1)
        self.mix = nn.Conv2d(config.squeezed, config.hidden, 3, padding=1)
        self.correct = nn.Conv2d(config.hidden, folded, 1)
        self.gain = nn.Parameter(torch.ones(config.points, config.squeezed))
        self.strength = nn.Parameter(torch.ones(config.points))
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)  # type: ignore[arg-type]

    def squeeze(self, features: Tensor) -> Tensor:
        """The device's side, before quantisation."""
        out: Tensor = self.reduce(F.pixel_unshuffle(features, self.config.stride))
        return out

    def restore(self, squeezed: Tensor, point: int) -> Tensor:
        """The edge's side, from quantised values of an operating point."""
        weighed = squeezed * self.gain[point][:, None, None]
        out = self.expand(weighed) + self.strength[point] * self.correct(F.relu(self.mix(weighed)))
        return F.pixel_shuffle(out, self.config.stride)


class Bottleneck(Squeezer):
    """The layers with what is learned of rates: (B, C, H, W) -> the same shape and a number of bits."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__(config)
        self.points = OperatingPoints(config.points, config.squeezed)
        self.fixed = ChannelQuantiser(config.squeezed)

    def forward(self, features: Tensor, point: int) -> tuple[Tensor, Tensor]:
        """Restored features, and (B,) estimated bits, at an operating point."""
        values, bits = self.points(self.squeeze(features), point)
        return self.restore(values, point), bits

    def fixed_length(self, features: Tensor, bits: int, point: int) -> Tensor:
        """Restored features with ``bits`` a value in place of the operating point's quantiser."""
        return self.restore(self.fixed(self.squeeze(features), bits), point)

    @torch.no_grad()
    def start_from_pca(self, features: Tensor, weights: Tensor, coarsest: float = 1.5) -> None:
        """Begin with the m principal components of sample features, and steps from fine to coarse.

        Args:
            features: (B, C, H, W).
            weights: (C,) how much each channel matters.
        """
        config = self.config
        folded = F.pixel_unshuffle(features, config.stride).transpose(0, 1).flatten(1)
        scale = weights.clamp_min(1e-6).sqrt().repeat_interleave(config.stride**2)
        mean = folded.mean(1)
        weighted = (folded - mean[:, None]) * scale[:, None]
        values, vectors = torch.linalg.eigh(weighted @ weighted.T / weighted.shape[1])
        basis = vectors[:, torch.argsort(values, descending=True)[: config.squeezed]]
        reduce = basis.T * scale
        self.reduce.weight.copy_(reduce[:, :, None, None])
        self.reduce.bias.copy_(-(reduce @ mean))  # type: ignore[union-attr]
        self.expand.weight.copy_((basis / scale[:, None])[:, :, None, None])
        self.expand.bias.copy_(mean)  # type: ignore[union-attr]
        squeezed = self.squeeze(features)
        spread = float(squeezed.std())
        steps = torch.logspace(-1.0, 0.0, config.points) * coarsest * spread
        for point, step in enumerate(steps):
            self.points.start(point, squeezed, float(step))
        self.fixed.fit(squeezed)


def cut_after(graph: SplitGraph, module: str) -> CutSpec:
    """The cut behind a module of a network, e.g. ``_blocks.4``: its last operation and all that it needs.

    Raises:
        CutError: no such module, or more than one tensor would cross.
    """
    inside = [
        index for index, node in enumerate(graph.nodes)
        if node.module == module or node.module.startswith(module + ".")
    ]
    if not inside:
        raise CutError(f"{graph.name} has no operation in a module {module!r}")
    before = graph.predecessors()
    device, waiting = set(graph.inputs), [max(inside)]
    while waiting:
        index = waiting.pop()
        if index not in device:
            device.add(index)
            waiting.extend(before[index])
    cut = make_cut(graph, device)
    if len(cut.crossing) != 1:
        raise CutError(f"behind {module} of {graph.name} {len(cut.crossing)} tensors cross; want one")
    return cut
