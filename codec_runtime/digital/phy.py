"""The latent over a bare physical layer: fixed-length integers as symbols of a learned constellation.

    features --b bits a value--> bits --constellation, AWGN--> LLRs --> expected values --> features

There is no channel code and no checksum: an experiment on how soft demapping degrades. From LLRs the expected
integer is the sum of the bits' weights times their probabilities of being one; a hard decision loses that.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from codec_runtime.digital.constellation import Constellation
from codec_runtime.digital.image import DigitalImageCodec
from codec_runtime.evaluation.metrics import to_uint8


def send_bits(bits: Tensor, model: Constellation, snr_db: float, generator: torch.Generator) -> Tensor:
    """(n,) bits over AWGN -> (n,) LLRs; the last symbol is filled up with zeros."""
    padded = torch.cat((bits, bits.new_zeros(-len(bits) % model.bits))).view(-1, model.bits)
    variance = 10.0 ** (-snr_db / 10.0)
    noise = torch.complex(
        torch.randn(len(padded), generator=generator), torch.randn(len(padded), generator=generator)
    )
    received = model.modulate(padded) + noise * math.sqrt(variance / 2)
    return model.demap(received, variance).flatten()[: len(bits)]


def expected_integers(llr: Tensor, length: int, *, soft: bool = True) -> Tensor:
    """(n length,) LLRs, most significant bit first -> (n,) expected integers, or the decided ones."""
    one = torch.sigmoid(-llr) if soft else (llr < 0).float()
    weights = 2.0 ** torch.arange(length - 1, -1, -1)
    return one.view(-1, length) @ weights


@torch.inference_mode()
def transmit_picture(
    codec: DigitalImageCodec, picture: Tensor, point: int, *, length: int, model: Constellation,
    snr_db: float, seed: int = 0, soft: bool = True,
) -> tuple[Tensor, float]:
    """(3, H, W) uint8 as restored, and the bandwidth ratio (symbols per source value)."""
    features = codec.analyse(picture, point)
    indices = torch.from_numpy(codec.features.fixed_indices(features, point, length).astype(np.int64))
    shifts = torch.arange(length - 1, -1, -1)
    bits = (indices.flatten()[:, None] >> shifts & 1).flatten()
    llr = send_bits(bits, model, snr_db, torch.Generator().manual_seed(seed))
    arrived = expected_integers(llr, length, soft=soft).view(indices.shape).numpy()
    restored = codec.features.fixed_features(arrived, point, length, features.shape[1:])
    height, width = picture.shape[1:]
    shown = to_uint8(codec.synthesise(torch.from_numpy(restored), point))[:, :height, :width]
    return shown, math.ceil(len(bits) / model.bits) / picture.numel()
