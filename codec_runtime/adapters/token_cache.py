"""Tokens on disk, so that no experiment computes a frozen encoder twice.

One safetensors file per encoder and data set, named by the hash of both: a changed encoder or data set is
another file, never a stale one. Values are float16; a damaged file is computed anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from codec_runtime.adapters.encoders.interface import FrozenEncoder
from codec_runtime.adapters.tokens import TokenError, Tokens, concatenate
from codec_runtime.bundle.files import write_atomic

logger = logging.getLogger(__name__)
_BATCH = 256


def inputs_sha256(inputs: Sequence[object]) -> str:
    """Hash (hex) of a data set: contents of files, UTF-8 of sentences, in order.

    Raises:
        TypeError: neither a path nor text.
    """
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, Path):
            data = item.read_bytes()
        elif isinstance(item, str):
            data = item.encode()
        else:
            raise TypeError(f"cached inputs are files or sentences, not {type(item).__name__}")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def cache_file(folder: Path, encoder: FrozenEncoder, data_sha256: str) -> Path:
    """Where the tokens of a data set lie."""
    return folder / f"{encoder.name}-{encoder.sha256[:16]}-{data_sha256[:16]}.safetensors"


def cached_tokens(
    encoder: FrozenEncoder, inputs: Sequence[object], folder: Path,
    on_done: Callable[[int], object] | None = None,
) -> Tokens:
    """Tokens of ``inputs``, float16, from ``folder`` or computed and kept there.

    Args:
        inputs: one or more files or sentences.
        on_done: called with the number of inputs done since the last call.
    """
    path = cache_file(folder, encoder, inputs_sha256(inputs))
    if path.exists():
        try:
            stored = load(path.read_bytes())
            tokens = Tokens(stored["values"], stored["mask"], encoder.modality, encoder.name)
            if len(tokens) == len(inputs) and tokens.features == encoder.features:
                return tokens
            reason = "of another shape"
        except (SafetensorError, KeyError, TokenError) as error:
            reason = str(error)
        logger.warning("token cache computed anew", extra={"file": str(path), "reason": reason})
    parts = []
    for start in range(0, len(inputs), _BATCH):
        parts.append(encoder.tokens(inputs[start : start + _BATCH]))
        if on_done is not None:
            on_done(len(parts[-1]))
    whole = concatenate(parts)
    tokens = Tokens(whole.values.to(torch.float16), whole.mask, encoder.modality, encoder.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save({"values": tokens.values.contiguous(), "mask": tokens.mask.contiguous()}))
    return tokens
