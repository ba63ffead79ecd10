"""Toy codec for tests of training: one convolution a side, hundreds of parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.channel.symbols import normalise_power
from codec_runtime.training.conditions import ConditionConfig
from codec_runtime.training.config import TrainConfig
from codec_runtime.training.data import CropSampler


@dataclass(frozen=True)
class ToyConfig:
    latent_channels: int = 4

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class ToyEncoder(nn.Module):
    """(B, 3, H, W) -> (B, 4, H/4, W/4)."""

    architecture = "toy-encoder"

    def __init__(self) -> None:
        super().__init__()
        self.config = ToyConfig()
        self.conv = nn.Conv2d(48, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        return normalise_power(self.norm(self.conv(F.pixel_unshuffle(images, 4))), prefix)


class ToyDecoder(nn.Module):
    """(B, 4, H/4, W/4) -> (B, 3, H, W), with batch normalisation and dropout on the way."""

    architecture = "toy-decoder"

    def __init__(self, width: int = 6, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = ToyConfig()
        self.conv1 = nn.Conv2d(4, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width, 48, 1)

    def forward(self, received: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv1(received)))
        return F.pixel_shuffle(self.conv2(self.drop(x)), 4)


def toy_decoders(*names: str, dropout: float = 0.0) -> dict[str, nn.Module]:
    """Decoders of different width, each a function of its name alone."""
    found: dict[str, nn.Module] = {}
    for name in names:
        torch.manual_seed(sum(name.encode()))
        found[name] = ToyDecoder(4 + len(name), dropout)
    return found


def toy_encoder(seed: int = 0) -> ToyEncoder:
    torch.manual_seed(seed)
    return ToyEncoder()


def toy_batches(crop: int = 16) -> CropSampler:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(4, 3, 5, 6, generator=generator)
    smooth = F.interpolate(coarse, size=(24, 28), mode="bilinear")
    return CropSampler(list((smooth * 255).to(torch.uint8)), crop, seed=3)


def toy_config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "crop": 16, "batch": 2, "learning_rate": 1e-2, "warmup_steps": 1, "epoch_steps": 2,
        "conditions": ConditionConfig((0.0, 10.0), (2, 4), "awgn"),
    }
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two states are equal, bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
