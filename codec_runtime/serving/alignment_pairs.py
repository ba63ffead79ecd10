"""Users' recent labelled samples, bounded: what a federated round learns from. They never leave the site.

A request to ``align`` may say of each sample which *item* it belongs to: a picture and the sentences of the
same user that carry its number are a labelled pair, rightly or not. One side of a pair is of modality
``text``, the other of any other.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from codec_runtime.training.pair_files import Half, UserSamples

MAX_USERS: Final = 10_000
TEXTS_AN_ITEM: Final = 8
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Sample:
    """Tokens (T, F) of one sample, and where they pointed.

    Attributes:
        pooled: (d,) under ``adapter`` (name, version).
    """

    at_s: float
    encoder: str
    modality: str
    tokens: Half
    pooled: npt.NDArray[np.float32]
    adapter: tuple[str, int]

    @property
    def bytes(self) -> int:
        return self.tokens.nbytes + self.pooled.nbytes


@dataclass(slots=True)
class Item:
    """One item of a user: at most one sample that is not text, and its latest texts."""

    image: Sample | None = None
    texts: list[Sample] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(sample.bytes for sample in self.samples())

    def samples(self) -> Iterator[Sample]:
        if self.image is not None:
            yield self.image
        yield from self.texts


class PairBuffer:
    """Newest items by user; used from one thread.

    Args:
        per_user: items kept of one user.
        max_bytes: bound over all users; beyond it the user holding most bytes loses its oldest item.
        clock: seconds, for the age of samples.

    Attributes:
        total_bytes: held.
    """

    def __init__(
        self, per_user: int, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_user = per_user
        self._max_bytes = max_bytes
        self._clock = clock
        self._items: dict[str, OrderedDict[int, Item]] = {}
        self._bytes_of: Counter[str] = Counter()
        self.total_bytes = 0

    def __len__(self) -> int:
        return sum(len(items) for items in self._items.values())

    def add(
        self, user: str, item: int, *, encoder: str, modality: str, tokens: npt.NDArray[Any],
        pooled: npt.NDArray[np.float32], adapter: tuple[str, int],
    ) -> None:
        """Keep a sample; a second one of a side that is not text takes the first one's place."""
        half = np.clip(tokens, -_LARGEST, _LARGEST).astype(np.float16)
        sample = Sample(self._clock(), encoder, modality, half, pooled.astype(np.float32), adapter)
        # Taken out and put back: the order of users, and of a user's items, is that of their last sample.
        items = self._items[user] = self._items.pop(user, OrderedDict())
        kept = items.pop(item, None) or Item()
        before = kept.bytes
        if modality == "text":
            kept.texts = [*kept.texts, sample][-TEXTS_AN_ITEM:]
        else:
            kept.image = sample
        items[item] = kept
        self._account(user, kept.bytes - before)
        if len(items) > self._per_user:
            self._drop_oldest(user)
        while len(self._items) > MAX_USERS:
            self._drop_oldest(next(iter(self._items)))
        while self.total_bytes > self._max_bytes:
            self._drop_oldest(max(self._bytes_of, key=self._bytes_of.__getitem__))

    def latest_pairs(self, user: str, adapter: tuple[str, int], most: int) -> list[tuple[Sample, Sample]]:
        """(image, its latest text) of the user's newest complete items under one adapter."""
        found = []
        for item in reversed(self._items.get(user, {}).values()):
            if item.image is not None and item.texts:
                pair = (item.image, item.texts[-1])
                if all(sample.adapter == adapter for sample in pair):
                    found.append(pair)
            if len(found) == most:
                break
        return found

    def recent(self, users: Iterable[str], max_age_s: float | None = None) -> list[UserSamples]:
        """Complete items of the users named, each through the two encoders that it has used most.

        Args:
            max_age_s: leave out samples aligned longer ago than this; None for all kept.
        """
        oldest = float("-inf") if max_age_s is None else self._clock() - max_age_s
        parts = (self._of(user, oldest) for user in dict.fromkeys(users))
        return [part for part in parts if part is not None]

    def _of(self, user: str, oldest: float) -> UserSamples | None:
        paired: list[tuple[Sample, list[Sample]]] = []
        for item in self._items.get(user, {}).values():
            texts = [text for text in item.texts if text.at_s >= oldest]
            if item.image is not None and item.image.at_s >= oldest and texts:
                paired.append((item.image, texts))
        kinds = Counter(
            (image.encoder, image.modality, text.encoder, image.tokens.shape[1], text.tokens.shape[1])
            for image, texts in paired for text in texts
        )
        if not kinds:
            return None
        kind, _ = kinds.most_common(1)[0]
        samples = UserSamples(
            user=user, image_encoder=kind[0], modality=kind[1], text_encoder=kind[2], images=[], texts=[],
            owner=[],
        )
        for image, texts in paired:
            fitting = [
                text for text in texts
                if (image.encoder, image.modality, text.encoder, image.tokens.shape[1], text.tokens.shape[1])
                == kind
            ]
            if fitting:
                samples.owner.extend([len(samples.images)] * len(fitting))
                samples.images.append(image.tokens)
                samples.texts.extend(text.tokens for text in fitting)
        return samples

    def _account(self, user: str, size: int) -> None:
        self._bytes_of[user] += size
        self.total_bytes += size

    def _drop_oldest(self, user: str) -> None:
        _, item = self._items[user].popitem(last=False)
        self._account(user, -item.bytes)
        if not self._items[user]:
            del self._items[user], self._bytes_of[user]
