"""Small coding tables and features that the tests of the digital path share."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from codec_runtime.digital.entropy_model import OperatingPoints
from codec_runtime.digital.feature_codec import FeatureCodec
from codec_runtime.digital.quantisation import ChannelQuantiser
from codec_runtime.digital.tables import CodingTables, derive_tables

SPREADS = (4.0, 2.0, 1.0, 0.5, 0.25)
STEPS = (0.3, 1.0)
CUT = b"toy-cut1"


def toy_features(side: int = 12, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """(5, side, side) normal values of the spreads that the tables were fitted to."""
    random = np.random.default_rng(seed)
    scale = spread * np.array(SPREADS)[:, None, None]
    return (random.standard_normal((len(SPREADS), side, side)) * scale).astype(np.float32)


@cache
def toy_model() -> OperatingPoints:
    """A prior fitted to the toy features for a second."""
    torch.manual_seed(0)
    model = OperatingPoints(len(STEPS), len(SPREADS))
    samples = torch.from_numpy(np.stack([toy_features(8, seed) for seed in range(32)]))
    for point, step in enumerate(STEPS):
        model.start(point, samples, step)
    optimiser = torch.optim.Adam(model.prior.parameters(), lr=2e-2)
    for step in range(160):
        _, bits = model(samples[step % 4 :: 4], step % 2)
        optimiser.zero_grad()
        bits.mean().backward()
        optimiser.step()
    return model.eval()


@cache
def toy_tables() -> CodingTables:
    """Point 0 sends all five channels, point 1 the first four of its order, which is reversed."""
    quantiser = ChannelQuantiser(len(SPREADS))
    quantiser.fit(torch.from_numpy(np.stack([toy_features(8, seed) for seed in range(8)])))
    order = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]], np.int32)
    fill = np.array([[0.5] * 5, [0.0] * 5], np.float32)
    return derive_tables(
        toy_model(), [quantiser] * 2, order=order, sent=np.array([5, 4], np.int32), fill=fill
    )


def toy_codec(**options: int) -> FeatureCodec:
    """A codec of the toy tables with counters of its own."""
    return FeatureCodec(toy_tables(), CUT, **options)
