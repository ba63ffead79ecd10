"""What crosses a cut, in bytes, against what the split network still sees as the unsplit one does.

Labels are not needed: agreement is with the network's own answer on the untouched picture, by its first
class, and KL(unsplit || split) in nats. Beside the bottleneck: the picture itself as JPEG or WebP, sent whole
or made smaller first, then classified; the features at the cut as float32, or at 8 bits packed by zlib.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codec_runtime.digital.bitstream import CHUNK_BYTES, HEADER_BYTES, parse
from codec_runtime.digital.feature_codec import FeatureCodec
from codec_runtime.digital.importance import channel_importance, importance_order
from codec_runtime.digital.tables import CodingTables, derive_tables
from codec_runtime.split.bottleneck import Bottleneck
from codec_runtime.split.bottleneck_data import SIDE, Views, classifier_input
from codec_runtime.split.bottleneck_training import divergence
from codec_runtime.split.cutting import SplitNetwork

QUALITIES = (1, 3, 5, 8, 12, 18, 25, 35, 50, 70)
SIDES = (112, 160, 224)


@dataclass(frozen=True)
class CrossingRow:
    """One way to get a picture's content to the edge.

    Attributes:
        method: ``bottleneck``, ``bottleneck-fixed``, ``bottleneck-prefix``, ``jpeg``, ``webp``,
            ``features-float32``, ``features-8bit-zlib``.
        setting: operating point, bits, or quality and side.
        bytes: mean a picture, container and all; largest: of one picture.
        agreement: share of pictures with the unsplit network's first class; kl: mean, nats.
    """

    method: str
    setting: str
    bytes: float
    largest: int
    agreement: float
    kl: float
    pictures: int

    def as_json(self) -> dict[str, str | int | float]:
        return {name: round(v, 4) if isinstance(v, float) else v for name, v in asdict(self).items()}


class Judge:
    """Classifies what arrives, batch by batch, and compares.

    Args:
        split: traced for ``batch`` pictures.
        teacher: (N, classes) logits of the unsplit network on the untouched pictures.
    """

    def __init__(self, split: SplitNetwork, batch: int, teacher: Tensor) -> None:
        self._split, self._batch, self._teacher = split, batch, teacher.float()

    @torch.no_grad()
    def features(self, method: str, setting: str, sizes: Sequence[int], arrived: Tensor) -> CrossingRow:
        """Of restored features (N, C, H, W)."""
        return self._row(method, setting, sizes, self._batched(arrived.float(), self._tail))

    @torch.no_grad()
    def pictures(self, method: str, setting: str, sizes: Sequence[int], arrived: Tensor) -> CrossingRow:
        """Of restored pictures (N, 3, 224, 224) uint8."""
        return self._row(method, setting, sizes, self._batched(arrived, self._whole))

    def _tail(self, features: Tensor) -> Tensor:
        (logits,) = self._split.tail(features)
        assert isinstance(logits, Tensor)
        return logits

    def _whole(self, pictures: Tensor) -> Tensor:
        (features,), _ = self._split.head(classifier_input(pictures))
        return self._tail(features)

    def _batched(self, given: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        results = []
        for start in range(0, len(given), self._batch):
            chosen = given[start : start + self._batch]
            filler = chosen[-1:].expand(self._batch - len(chosen), *chosen.shape[1:])
            results.append(run(torch.cat((chosen, filler)))[: len(chosen)])
        return torch.cat(results)

    def _row(self, method: str, setting: str, sizes: Sequence[int], logits: Tensor) -> CrossingRow:
        same = (logits.argmax(1) == self._teacher.argmax(1)).float().mean()
        return CrossingRow(
            method, setting, fmean(sizes), max(sizes), float(same),
            float(divergence(logits, self._teacher).mean()), len(logits),
        )


def bottleneck_tables(bottleneck: Bottleneck, views: Views, split: SplitNetwork, batch: int) -> CodingTables:
    """Coding tables of a trained bottleneck; channels ranked by the largest logit, on training views."""
    features = views.features[: 4 * batch].float()
    squeezed = [bottleneck.squeeze(features[k : k + batch]).detach() for k in range(0, len(features), batch)]
    middle = bottleneck.config.points // 2

    def certainty(values: Tensor) -> Tensor:
        (logits,) = split.tail(bottleneck.restore(values, middle))
        total: Tensor = logits.max(1).values.sum()
        return total

    order = importance_order(channel_importance(squeezed, certainty)).numpy().astype(np.int32)
    points, channels = bottleneck.config.points, bottleneck.config.squeezed
    mean = torch.cat(squeezed).mean(dim=(0, 2, 3)).numpy()
    return derive_tables(
        bottleneck.points, [bottleneck.fixed] * points, order=np.tile(order, (points, 1)),
        sent=np.full(points, channels, np.int32), fill=np.tile(mean, (points, 1)).astype(np.float32),
    )


def bottleneck_rows(
    bottleneck: Bottleneck, codec: FeatureCodec, views: Views, judge: Judge
) -> list[CrossingRow]:
    """Every operating point; the middle one with its tail lost; fixed lengths of 8 to 2 bits, restored as the
    finest point is."""
    with torch.no_grad():
        squeezed = bottleneck.squeeze(views.features.float())
    arrays = squeezed.numpy()
    rows = []
    points = range(codec.tables.points)
    for point in points:
        streams = [codec.encode(values, point).data for values in arrays]
        rows.append(_judged(bottleneck, codec, judge, "bottleneck", f"point {point}", streams, point))
        if point == points[len(points) // 2]:
            for share in (0.75, 0.5, 0.25):
                cut = [stream[: _prefix(stream, share)] for stream in streams]
                told = "bottleneck-prefix", f"{share:g} of it"
                rows.append(_judged(bottleneck, codec, judge, *told, cut, point))
    for bits in (8, 6, 4, 3, 2):
        with torch.no_grad():
            restored = bottleneck.fixed_length(views.features.float(), bits, point=0)
        size = (squeezed[0].numel() * bits + 7) // 8
        rows.append(judge.features("bottleneck-fixed", f"{bits} bit", [size] * len(arrays), restored))
    return rows


def _judged(
    bottleneck: Bottleneck, codec: FeatureCodec, judge: Judge, method: str, setting: str,
    streams: Sequence[bytes], point: int,
) -> CrossingRow:
    arrived = [torch.from_numpy(codec.decode(stream, partial=True).features) for stream in streams]
    with torch.no_grad():
        restored = bottleneck.restore(torch.stack(arrived), point)
    return judge.features(method, setting, [len(stream) for stream in streams], restored)


def _prefix(stream: bytes, share: float) -> int:
    """Bytes of the leading chunks that make up ``share`` of a stream of four."""
    parsed = parse(stream)
    kept = max(1, round(share * parsed.header.chunks))
    return HEADER_BYTES + sum(CHUNK_BYTES + len(payload) for payload in parsed.payloads[:kept])


def picture_rows(pictures: Tensor, judge: Judge, method: str) -> list[CrossingRow]:
    """``jpeg`` or ``webp`` of the pictures (N, 3, 224, 224) uint8, whole or made smaller first."""
    rows = []
    for side in SIDES:
        for quality in QUALITIES:
            coded = [_coded(picture, method, quality, side) for picture in pictures]
            arrived = torch.stack([shown for _, shown in coded])
            rows.append(judge.pictures(method, f"q{quality} {side}", [size for size, _ in coded], arrived))
    return rows


def _coded(picture: Tensor, method: str, quality: int, side: int) -> tuple[int, Tensor]:
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    small = image if side == SIDE else image.resize((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    extra = {"optimize": True} if method == "jpeg" else {"method": 6}
    small.save(file, method.upper(), quality=quality, **extra)
    with Image.open(io.BytesIO(file.getvalue())) as stored:
        shown = stored.convert("RGB")
    if side != SIDE:
        shown = shown.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return len(file.getvalue()), torch.from_numpy(np.array(shown)).permute(2, 0, 1)


def feature_rows(views: Views, judge: Judge) -> list[CrossingRow]:
    """The features as they are, and at 8 bits a value (one range a picture) packed by zlib."""
    features = views.features.float()
    raw = judge.features("features-float32", "", [4 * features[0].numel()] * len(features), features)
    low = features.amin(dim=(1, 2, 3), keepdim=True)
    step = (features.amax(dim=(1, 2, 3), keepdim=True) - low) / 255
    integers = ((features - low) / step).round().to(torch.uint8)
    sizes = [8 + len(zlib.compress(values.numpy().tobytes(), 9)) for values in integers]
    return [raw, judge.features("features-8bit-zlib", "", sizes, integers.float() * step + low)]
