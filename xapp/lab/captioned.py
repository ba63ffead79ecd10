"""A generated world of captioned pictures, as two frozen encoders would see it. No files, no networks.

A scene shows three concepts of one topic. The picture's encoder gives four patches, one a concept and one of
clutter; each sentence names the concepts in any order, sometimes with filler words. Sentences live in the
space of the knowledge base; the picture's encoder has axes of its own, which :meth:`CaptionedWorld.drifted`
turns: what a camera, its encoder or the season may do to the tokens of the same scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

ADAPTER: Final = "shared"
"""What the adapter that aligns both is called."""
IMAGE_ENCODER: Final = "lab-image"
TEXT_ENCODER: Final = "lab-text"
_SHOWN: Final = 3
_CLUTTER: Final = 0.3
_FILLER: Final = 0.1


@dataclass(frozen=True)
class Scene:
    """Attributes: image: (4, F) tokens; text: (3..5, d) tokens of a sentence that describes it."""

    image: Floats
    text: Floats


@dataclass(frozen=True, eq=False)
class CaptionedWorld:
    """See the module.

    Attributes:
        dimension: d of sentences' words; features: F of pictures' patches.
        topics: there are; concepts: of each.
        seed: of the concepts and of the picture encoder's axes.
        turn: how far those axes are turned from their first place: 0 not at all, 1 to new ones.
    """

    dimension: int = 48
    features: int = 64
    topics: int = 10
    concepts: int = 6
    seed: int = 7
    turn: float = 0.0
    _words: Floats = field(init=False, repr=False)
    _seen: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        themes = generator.standard_normal((self.topics, 1, self.dimension))
        words = themes + generator.standard_normal((self.topics, self.concepts, self.dimension))
        axes = generator.standard_normal((2, self.dimension, self.features))
        first, second = axes
        seen = np.sqrt(1.0 - self.turn) * first + np.sqrt(self.turn) * second
        object.__setattr__(self, "_words", words / np.linalg.norm(words, axis=2, keepdims=True))
        object.__setattr__(self, "_seen", seen)

    def drifted(self, turn: float) -> CaptionedWorld:
        """The same scenes through turned axes. Raises: ValueError: not in 0..1."""
        if not 0.0 <= turn <= 1.0:
            raise ValueError(f"turn = {turn}: 0..1 is needed")
        return replace(self, turn=turn)

    def scene(self, generator: np.random.Generator) -> Scene:
        """A picture with a sentence."""
        topic = self._words[generator.integers(self.topics)]
        shown = topic[generator.choice(self.concepts, _SHOWN, replace=False)]
        image = _CLUTTER * generator.standard_normal((_SHOWN + 1, self.features))
        image[:_SHOWN] += shown @ self._seen
        filler = _FILLER * generator.standard_normal((int(generator.integers(0, 3)), self.dimension))
        text = np.concatenate((generator.permutation(shown), filler))
        return Scene(image.astype(np.float32), text.astype(np.float32))

    def sentences(self, count: int, seed: int) -> Floats:
        """(count, d) mean words of sentences: what a knowledge base is made of."""
        generator = np.random.default_rng(seed)
        return np.stack([self.scene(generator).text.sum(0) for _ in range(count)])
