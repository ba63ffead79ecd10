"""Frozen encoders by name. Here: what makes tokens of raw inputs, each in its own module. Not: anything that
an update trains.
"""

from __future__ import annotations

import torch

from codec_runtime.adapters.encoders.efficientnet import EfficientNetEncoder
from codec_runtime.adapters.encoders.interface import EncoderFactory, FrozenEncoder
from codec_runtime.adapters.encoders.jscc import JsccEncoder
from codec_runtime.adapters.encoders.kpi import KpiEncoder
from codec_runtime.adapters.encoders.minilm import MiniLm
from codec_runtime.adapters.encoders.small_text import SmallText
from codec_runtime.adapters.encoders.unavailable import EncoderUnavailableError

ENCODERS: dict[str, EncoderFactory] = {
    "efficientnet-early": lambda: EfficientNetEncoder("early"),
    "efficientnet-late": lambda: EfficientNetEncoder("late"),
    "jscc": JsccEncoder,
    "minilm": MiniLm,
    "small-text": SmallText,
    "kpi": KpiEncoder,
}


def load_encoder(name: str) -> FrozenEncoder:
    """The encoder of that name; torch's global generator is left as it was.

    Raises:
        KeyError: no such encoder; the message lists those there are.
        EncoderUnavailableError: its weights are not installed.
    """
    if name not in ENCODERS:
        raise KeyError(f"no encoder {name!r}; there are {', '.join(ENCODERS)}")
    with torch.random.fork_rng(devices=[]):  # networks draw weights before they are given theirs
        return ENCODERS[name]()


__all__ = ["ENCODERS", "EncoderUnavailableError", "FrozenEncoder", "load_encoder"]
