"""Training the image path's steps and prior for R + lambda D, with the shipped networks frozen.

    L = bits a pixel + lambda 255^2 MSE(picture)

through the frozen decoder; each step draws one operating point. Then the decoder's SNR of each point is
searched, channels are ranked, tables are derived and the rate model is fitted, all on training pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from codec_runtime.digital.entropy_model import OperatingPoints
from codec_runtime.digital.image import DigitalImageCodec, PointCondition, fold, unfold
from codec_runtime.digital.importance import channel_importance, importance_order
from codec_runtime.digital.quantisation import ChannelQuantiser
from codec_runtime.digital.rate_control import RateModel, describe
from codec_runtime.digital.tables import CodingTables, derive_tables
from codec_runtime.evaluation.metrics import psnr_db
from codec_runtime.training.checkpoint import CHECKPOINT_FILE, Checkpoint, Snapshot, StopFlag
from codec_runtime.training.data import CropSampler
from codec_runtime.training.seeds import derived_seed

DECODER_SNRS = (4.0, 7.0, 10.0, 13.0, 16.0, 20.0)


@dataclass(frozen=True)
class PointPlan:
    """An operating point to train: prefix, SNR that the encoder is told, lambda."""

    prefix: int
    snr_db: float
    weight: float


PLAN = (
    PointPlan(2, 10.0, 0.0008), PointPlan(4, 10.0, 0.0018), PointPlan(6, 13.0, 0.0035),
    PointPlan(8, 13.0, 0.0067), PointPlan(12, 16.0, 0.013), PointPlan(16, 20.0, 0.025),
    PointPlan(16, 20.0, 0.05),
)


@dataclass(frozen=True)
class ImageTraining:
    """Settings: ``warm_steps`` fit the prior alone, ``steps`` go through the decoder."""

    warm_steps: int = 400
    steps: int = 700
    batch: int = 4
    crop: int = 128
    learning: float = 1e-2
    seed: int = 1


def sent_mask(channels: int, prefix: int) -> Tensor:
    """(4 c,) bool: folded channels of the first ``prefix``."""
    return torch.arange(channels) < 4 * prefix


def train_points(
    encoder: nn.Module, decoder: nn.Module, pictures: Sequence[Tensor], training: ImageTraining, run: Path,
    *, plan: Sequence[PointPlan] = PLAN, stop: StopFlag, report: Callable[[str], None],
) -> OperatingPoints:
    """Train or go on training."""
    channels = 4 * int(encoder.config.latent_channels)  # type: ignore[union-attr, arg-type]
    model = OperatingPoints(len(plan), channels)
    sampler = CropSampler(pictures, training.crop, training.seed)
    checkpoint = Checkpoint(
        run / CHECKPOINT_FILE,
        {"training": asdict(training), "plan": [asdict(point) for point in plan]}, every_minutes=1.0,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=training.learning)
    known = checkpoint.load()
    step, total = 0, training.warm_steps + training.steps
    if known is None:
        torch.manual_seed(training.seed)
        crops = sampler.batch(16)
        for index, point in enumerate(plan):
            samples = fold(_latent(encoder, crops, point))
            model.start(index, samples, _start_step(point))
    else:
        step = int(known.record["step"])
        model.load_state_dict(known.tensors)
    sums: list[tuple[float, float]] = []
    model.train()
    while step < total and not stop.requested:
        sampler.restart(derived_seed(training.seed, "crops", step))
        torch.manual_seed(derived_seed(training.seed, "noise", step))
        index = step % len(plan)
        point = plan[index]
        crops = sampler.batch(training.batch)
        latent = fold(_latent(encoder, crops, point))
        values, bits = model(latent, index, sent_mask(channels, point.prefix))
        rate = bits.sum() / (crops.shape[0] * training.crop**2)
        error = torch.zeros(())
        if step >= training.warm_steps:
            many = (len(crops),)
            restored = decoder(
                unfold(values), torch.full(many, point.snr_db), torch.full(many, point.prefix)
            )
            error = (restored - crops).square().mean()
        for group in optimiser.param_groups:
            group["lr"] = training.learning * (0.05 + 0.95 * (1 - step / total))
        loss = rate + point.weight * 255.0**2 * error
        optimiser.zero_grad()
        loss.backward()
        if step < training.warm_steps:
            model.log_step.grad = None
        optimiser.step()
        sums.append((float(rate.detach()), float(error.detach())))
        step += 1
        if checkpoint.due() or step == total:
            checkpoint.save(Snapshot(dict(model.state_dict()), {"step": step}))
        if step % (10 * len(plan)) == 0:
            recent = np.array(sums[-10 * len(plan) :])
            bpp, distortion = recent.mean(0)
            report(f"{step}/{total} rate {bpp:.3f} bit/pixel, error {distortion:.5f}")
    checkpoint.save(Snapshot(dict(model.state_dict()), {"step": step}))
    return model.eval().requires_grad_(False)


def finish(
    encoder: nn.Module, decoder: nn.Module, pictures: Sequence[Tensor], model: OperatingPoints,
    plan: Sequence[PointPlan] = PLAN, report: Callable[[str], None] = lambda _: None,
) -> tuple[CodingTables, RateModel]:
    """Tables and rate model from a trained model and whole training pictures."""
    channels = model.log_step.shape[1]
    crops = [picture[None, :, :128, :128].float() / 255.0 for picture in pictures[:24]]
    orders, quantisers, conditions = [], [], []
    for index, point in enumerate(plan):
        latents = [fold(_latent(encoder, crop, point)) for crop in crops]
        sent = sent_mask(channels, point.prefix)
        orders.append(_order(decoder, latents, crops, point, sent))
        quantiser = ChannelQuantiser(channels)
        quantiser.fit(torch.cat(latents))
        quantisers.append(quantiser)
        with torch.no_grad():
            quantised = [model(latent, index, sent)[0] for latent in latents]
        best = min(DECODER_SNRS, key=lambda snr: _error(decoder, quantised, crops, point.prefix, snr))
        conditions.append(PointCondition(point.prefix, point.snr_db, best))
        report(f"point {index}: decoder at {best:g} dB")
    tables = derive_tables(
        model, quantisers, order=np.stack(orders).astype(np.int32),
        sent=np.array([4 * point.prefix for point in plan], np.int32),
        fill=np.zeros((len(plan), channels), np.float32),
        condition=np.array([[c.prefix, c.encoder_db, c.decoder_db] for c in conditions], np.float32),
    )
    codec = DigitalImageCodec(encoder, decoder, tables)
    described, bits, quality = [], [], []
    for number, picture in enumerate(pictures):
        streams = [codec.encode(picture, point).data for point in range(len(plan))]
        described.append(describe(picture))
        bits.append([8 * len(data) / (picture.shape[1] * picture.shape[2]) for data in streams])
        quality.append([float(psnr_db(codec.decode(data)[None], picture[None])) for data in streams])
        report(f"rate model: picture {number + 1} of {len(pictures)}")
    return tables, RateModel.fit(np.array(described), np.array(bits), np.array(quality))


@torch.no_grad()
def _latent(encoder: nn.Module, crops: Tensor, point: PointPlan) -> Tensor:
    many = len(crops)
    latent: Tensor = encoder(crops, torch.full((many,), point.snr_db), torch.full((many,), point.prefix))
    return latent


def _start_step(point: PointPlan) -> float:
    """Step whose noise is that of the SNR: step^2 / 6 = 10^(-SNR / 10) for unit complex power."""
    return float((6.0 * 10.0 ** (-point.snr_db / 10.0)) ** 0.5)


def _order(
    decoder: nn.Module, latents: Sequence[Tensor], crops: Sequence[Tensor], point: PointPlan, sent: Tensor
) -> np.ndarray:
    """Channels by how much the picture depends on them; those not sent come last."""
    pairs = iter(crops)

    def energy(latent: Tensor) -> Tensor:
        crop = next(pairs)
        restored = decoder(unfold(latent), torch.tensor([point.snr_db]), torch.tensor([point.prefix]))
        weights = crop - crop.mean(dim=(2, 3), keepdim=True)
        product: Tensor = (restored * weights).sum()
        return product

    importance = channel_importance(latents, energy)
    importance[~sent] = -1.0
    return importance_order(importance).numpy()


@torch.no_grad()
def _error(
    decoder: nn.Module, quantised: Sequence[Tensor], crops: Sequence[Tensor], prefix: int, snr_db: float
) -> float:
    total = 0.0
    for latent, crop in zip(quantised, crops, strict=True):
        restored = decoder(unfold(latent), torch.tensor([snr_db]), torch.tensor([prefix]))
        total += float((restored - crop).square().mean())
    return total
