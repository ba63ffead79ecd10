"""Paired samples of two modalities, as tokens: what an adapter is trained and measured on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from codec_runtime.adapters.views import SampleTokens, view, views_of, with_view_edges

CAPTIONS = "captions.txt"


@dataclass(frozen=True)
class Captions:
    """Pictures with sentences.

    Attributes:
        pictures: N files, in the order of the list.
        sentences: M sentences.
        owner: (M,) the picture that a sentence was written for.
    """

    pictures: tuple[Path, ...]
    sentences: tuple[str, ...]
    owner: Tensor


def read_captions(folder: Path) -> Captions:
    """``folder/captions.txt`` (CSV with the header ``image,caption``) and ``folder/images/``.

    Raises:
        ValueError: no such file, another header, an empty list, or a picture that is not there; it is named.
    """
    path = folder / CAPTIONS
    if not path.is_file():
        raise ValueError(f"{path} is not there; a CSV file image,caption beside the folder images/ is needed")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or not {"image", "caption"} <= set(reader.fieldnames):
            raise ValueError(f"{path}: the header is {reader.fieldnames}, image,caption is needed")
        rows = [(str(row["image"]), str(row["caption"]).strip()) for row in reader]
    places = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in rows))}
    pictures = tuple(folder / "images" / name for name in places)
    missing = next((picture for picture in pictures if not picture.is_file()), None)
    if missing is not None or not rows:
        raise ValueError(f"{path}: {missing or 'no picture'} is not there")
    owner = torch.tensor([places[name] for name, _ in rows])
    return Captions(pictures, tuple(text for _, text in rows), owner)


def split_pictures(count: int, test: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of pictures to train and to test on, a function of the arguments.

    Raises:
        ValueError: not 0 < test < count.
    """
    if not 0 < test < count:
        raise ValueError(f"{test} of {count} pictures to test on: some must be left on both sides")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[test:].sort().values, order[:test].sort().values


@dataclass(frozen=True)
class PairSet:
    """Tokens of pictures and sentences that belong together.

    Attributes:
        images: N samples; texts: M samples.
        owner: (M,) in 0..N-1, the picture that a sentence is paired with. With label errors, what it is
            *said* to be paired with.
    """

    images: SampleTokens
    texts: SampleTokens
    owner: Tensor

    def __post_init__(self) -> None:
        outside = (self.owner < 0) | (self.owner >= len(self.images))
        if len(self.owner) != len(self.texts) or bool(outside.any()):
            raise ValueError(
                f"{len(self.owner)} owners of {len(self.texts)} texts; "
                f"each is one of {len(self.images)} images"
            )

    def __len__(self) -> int:
        return len(self.owner)

    def with_edges(self, neighbours: int) -> PairSet:
        """The same with the graph within each modality computed once; as it is for 0 neighbours."""
        if not neighbours:
            return self
        images, texts = (with_view_edges(tokens, neighbours) for tokens in (self.images, self.texts))
        return PairSet(images, texts, self.owner)

    def said_to_be(self, owner: Tensor) -> PairSet:
        """The same samples with other labels: (M,) in 0..N-1."""
        return PairSet(self.images, self.texts, owner)

    def looks(self) -> list[PairSet]:
        """Ways to see the pairs: through everything and, with several encoders, through each alone."""
        count = max(len(views_of(self.images)), len(views_of(self.texts)))
        alone = [PairSet(view(self.images, i), view(self.texts, i), self.owner) for i in range(count)]
        return [self, *alone] if count > 1 else [self]

    def of_images(self, images: Tensor) -> PairSet:
        """The pairs of the pictures at ``images`` (distinct indices), renumbered in that order."""
        place = torch.full((len(self.images),), -1, dtype=torch.long)
        place[images] = torch.arange(len(images))
        texts = (place[self.owner] >= 0).nonzero()[:, 0]
        return PairSet(self.images.take(images), self.texts.take(texts), place[self.owner[texts]])


def batches(pairs: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of one epoch in random batches; one below half of ``size`` at the end is left out unless it is
    all there is.
    """
    order = torch.randperm(pairs, generator=generator)
    for start in range(0, pairs, size):
        if start == 0 or pairs - start >= size / 2:
            yield order[start : start + size]
