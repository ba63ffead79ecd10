"""A small text encoder for devices: hashed word embeddings and one convolution, distilled from MiniLM.

Words are hashed to buckets (Weinberger et al., ICML 2009), so no vocabulary travels with the weights. It was
trained so that the mean of a sentence's tokens points where MiniLM's embedding of it does
(:mod:`codec_runtime.adapters.distillation`).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from codec_runtime.adapters.encoders.interface import frozen
from codec_runtime.adapters.encoders.unavailable import EncoderUnavailableError
from codec_runtime.adapters.text_bag import TextBag
from codec_runtime.adapters.tokens import Tokens

SHIPPED = Path(__file__).resolve().parent.parent / "weights" / "encoder" / "small-text" / "1"
_WORD = re.compile(r"[a-z0-9]+")


def word_buckets(sentence: str, buckets: int, most: int) -> list[int]:
    """Hash of each word, 1..buckets - 1; of a sentence without words, one of its own."""
    words = _WORD.findall(sentence.lower())[:most] or [""]
    return [1 + zlib.crc32(word.encode()) % (buckets - 1) for word in words]


def bucket_batch(sentences: Sequence[str], buckets: int, most: int) -> Tensor:
    """Ids (B, T) of sentences, 0 behind the last word."""
    rows = [torch.tensor(word_buckets(sentence, buckets, most)) for sentence in sentences]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


class SmallText:
    """Word tokens of sentences.

    Args:
        bundle: directory of its bundle.
        max_tokens: words per sentence; longer ones are cut.

    Raises:
        EncoderUnavailableError: the bundle is not there.
        BundleError: it is damaged.
    """

    name = "small-text"
    modality = "text"

    def __init__(self, bundle: Path = SHIPPED, max_tokens: int = 24) -> None:
        from codec_runtime.bundle.store import load_module  # noqa: PLC0415 (cycle)

        if not bundle.is_dir():
            raise EncoderUnavailableError(f"{bundle} is not there; it ships with this package")
        manifest, network = load_module(bundle)
        if not isinstance(network, TextBag):
            raise EncoderUnavailableError(
                f"{bundle} holds {manifest.architecture}, not {TextBag.architecture}"
            )
        self._network = frozen(network)
        self._buckets = network.config.buckets
        self.features = network.config.features
        self.max_tokens = max_tokens
        self.sha256 = hashlib.sha256(f"{manifest.weights_sha256} {max_tokens}".encode()).hexdigest()

    @torch.inference_mode()
    def tokens(self, inputs: Sequence[object]) -> Tokens:
        """Tokens of sentences, in order."""
        ids = bucket_batch([str(text) for text in inputs], self._buckets, self.max_tokens)
        return Tokens(self._network(ids), ids > 0, self.modality, self.name)
