"""The image path with small untrained networks: shapes, caps, lost tails, bundles, rate control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from codec_runtime.bundle.verification import verify_bundle
from codec_runtime.codecs.registry import FAMILIES, build_decoder, build_encoder
from codec_runtime.digital.command import write_tables
from codec_runtime.digital.constellation import Constellation
from codec_runtime.digital.errors import FieldError, WrongModelError
from codec_runtime.digital.image import DigitalImageCodec, fold, load_image_tables, unfold
from codec_runtime.digital.image_training import ImageTraining, PointPlan, finish, train_points
from codec_runtime.digital.phy import expected_integers, send_bits, transmit_picture
from codec_runtime.digital.rate_control import RateModel, allowed_bytes, describe
from codec_runtime.evaluation.metrics import psnr_db
from codec_runtime.training.checkpoint import StopFlag

PLAN = (PointPlan(1, 7.0, 0.001), PointPlan(3, 13.0, 0.01))


def picture(seed: int, height: int = 72, width: int = 64) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4 + seed % 9, 5, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return (smooth * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> DigitalImageCodec:
    torch.manual_seed(0)
    config = FAMILIES["fast"].config(latent_channels=3, width=8, blocks=1)
    encoder = build_encoder("fast", config).eval().requires_grad_(False)
    decoder = build_decoder("fast", "attention", config).eval().requires_grad_(False)
    pictures = [picture(seed) for seed in range(4)]
    run = tmp_path_factory.mktemp("run")
    training = ImageTraining(warm_steps=12, steps=2, batch=2, crop=32)
    model = train_points(
        encoder, decoder, pictures, training, run, plan=PLAN, stop=StopFlag(), report=lambda _: None
    )
    tables, rates = finish(encoder, decoder, pictures, model, PLAN)
    return DigitalImageCodec(encoder, decoder, tables, rates)


def test_folding_keeps_prefixes_and_is_undone() -> None:
    latent = torch.randn(1, 3, 8, 6)
    folded = fold(latent)
    assert folded.shape == (1, 12, 4, 3)
    assert torch.equal(unfold(folded), latent)
    assert torch.equal(unfold(torch.cat((folded[:, :4], torch.zeros(1, 8, 4, 3)), 1))[:, 0], latent[:, 0])


@pytest.mark.parametrize("point", [0, 1])
def test_pictures_of_any_size_come_back_as_from_the_quantised_latent(
    codec: DigitalImageCodec, point: int
) -> None:
    shown = picture(3, 61, 45)
    encoded = codec.encode(shown, point)
    restored = codec.decode(encoded.data)
    assert restored.shape == shown.shape
    folded = codec.features.decode(encoded.data).features
    unquantised = codec.synthesise(torch.from_numpy(codec.analyse(shown, point)), point)
    quantised = codec.synthesise(torch.from_numpy(folded), point)
    assert float((unquantised - quantised).abs().max()) > 0
    assert torch.equal(restored, (quantised.clamp(0, 1) * 255).round().to(torch.uint8)[:, :61, :45])


def test_over_the_air_soft_values_beat_decided_ones_and_a_clean_link_loses_nothing(
    codec: DigitalImageCodec,
) -> None:
    shown, model = picture(3), Constellation(16).requires_grad_(False)
    folded = codec.analyse(shown, 1)
    indices = codec.features.fixed_indices(folded, 1, 4)
    bits = torch.from_numpy(np.unpackbits(indices.reshape(-1, 1), axis=1)[:, 4:]).flatten().long()
    clean = send_bits(bits, model, 40.0, torch.Generator().manual_seed(0))
    assert np.array_equal(expected_integers(clean, 4).round().numpy(), indices.flatten())
    noisy = send_bits(bits, model, 5.0, torch.Generator().manual_seed(0))
    errors = [
        float(((expected_integers(noisy, 4, soft=soft).numpy() - indices.flatten()) ** 2).mean())
        for soft in (True, False)
    ]
    assert errors[0] < 0.9 * errors[1]
    restored, ratio = transmit_picture(codec, shown, 1, length=4, model=model, snr_db=40.0)
    assert restored.shape == shown.shape
    assert ratio == pytest.approx(12 * 9 * 8 / (3 * 72 * 64))


def test_a_lost_tail_degrades_and_never_breaks(codec: DigitalImageCodec) -> None:
    shown = picture(2)
    data = codec.encode(shown, 1).data
    whole = codec.decode(data)
    errors = []
    for share in (0.9, 0.6):
        part = codec.decode(data[: int(share * len(data))], partial=True)
        assert part.shape == shown.shape
        errors.append(float(psnr_db(part[None], whole[None])))
    assert errors[0] > errors[1]


def test_streams_of_other_tables_or_another_shape_are_refused(codec: DigitalImageCodec) -> None:
    data = codec.encode(picture(1), 0).data
    folded = codec.analyse(picture(1), 0)
    with pytest.raises(FieldError, match="picture of 9 x 9"):
        codec.decode(codec.features.encode(folded, 0, picture=(9, 9)).data)
    tables = codec.features.tables
    other = type(tables)(**{**vars_of(tables), "step": tables.step * 2})
    with pytest.raises(WrongModelError):
        DigitalImageCodec(codec.encoder, codec.decoder, other).decode(data)


def vars_of(tables: object) -> dict[str, object]:
    return {name: getattr(tables, name) for name in tables.__dataclass_fields__}  # type: ignore[attr-defined]


def test_rate_control_holds_what_is_allowed(codec: DigitalImageCodec) -> None:
    shown = picture(5)
    sizes = [len(codec.encode(shown, point).data) for point in (0, 1)]
    for allowed in (sizes[0] // 2, sizes[0], sizes[1], 4 * sizes[1]):
        encoded = codec.encode_within(shown, allowed)
        assert len(encoded.data) <= allowed
        assert codec.decode(encoded.data).shape == shown.shape


def test_rate_model_recovers_a_linear_law_and_ranks_by_quality() -> None:
    described = np.stack([describe(picture(seed)) for seed in range(9)])
    law = np.array([[0.5, 0.3, 0.1], [1.5, 0.3, 0.2]])
    quality = np.array([[30.0, -1.0, 0.0], [36.0, -1.0, 0.5]])
    model = RateModel.fit(described, np.exp2(described @ law.T), described @ quality.T)
    shown = picture(4)
    for found, bits, psnr in zip(model.predictions(shown), law, quality, strict=True):
        assert found.bytes == pytest.approx(np.exp2(bits @ describe(shown)) * 72 * 64 / 8, rel=1e-3)
        assert found.psnr_db == pytest.approx(psnr @ describe(shown), rel=1e-3)
    assert model.ranked(shown, 1e9) == [1, 0]
    assert model.ranked(shown, 0.0) == [0]
    assert RateModel.from_state(model.state()).ranked(shown, 1e9) == [1, 0]


def test_allowed_bytes_are_throughput_times_deadline_less_overhead() -> None:
    assert allowed_bytes(8e6, 0.02) == 20000
    assert allowed_bytes(8e6, 0.02, (40, 28)) == 19932
    assert allowed_bytes(100, 0.01, (40,)) == 0
    with pytest.raises(ValueError, match="want 0 or more"):
        allowed_bytes(-1, 1)


def test_tables_survive_their_bundle(codec: DigitalImageCodec, tmp_path: Path) -> None:
    tables, rates = codec.features.tables, codec.rates
    assert rates is not None
    state = {**tables.state(), **rates.state()}
    write_tables(tmp_path / "b", state, encoder_sha256="ab" * 32, version=1, provenance={})
    read, read_rates, encoder = load_image_tables(tmp_path / "b")
    assert (read.digest, encoder) == (tables.digest, "ab" * 32)
    assert read_rates is not None
    assert np.array_equal(read_rates.rate_bits, rates.rate_bits)
    assert verify_bundle(tmp_path / "b").sound
