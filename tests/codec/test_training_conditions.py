"""Losses, drawn conditions, seeds and budgets of training."""

import pytest
import torch

from codec_runtime.evaluation.metrics import ms_ssim
from codec_runtime.training.conditions import ConditionConfig, draw, draw_conditions
from codec_runtime.training.config import Budget, TrainConfig
from codec_runtime.training.losses import LOSSES, distortion_db, loss_named, ms_ssim_window
from codec_runtime.training.seeds import derived_seed


def test_default_conditions_stay_in_the_trained_range():
    snr, effective, prefix = draw_conditions(500, torch.Generator().manual_seed(1))
    assert snr.min() >= -4.0
    assert snr.max() <= 20.0
    assert effective.min() >= -12.0
    assert set(prefix.tolist()) <= set(range(2, 17))
    assert 0.12 < (effective != snr).float().mean() < 0.28


def test_the_middle_of_the_snr_range_is_drawn_more_often():
    snr = draw(ConditionConfig((-4.0, 20.0)), 3000, seed=1).snr_db
    middle = ((snr > 4.0) & (snr < 12.0)).float().mean()
    assert 0.44 < middle < 0.53
    assert min((snr < 0.0).float().mean(), (snr > 16.0).float().mean()) > 0.04


def test_conditions_are_drawn_as_configured():
    drawn = draw(ConditionConfig((3.0, 5.0), (6,), "awgn"), 200, seed=1)
    assert 3.0 <= float(drawn.snr_db.min()) < 3.2
    assert 4.8 < float(drawn.snr_db.max()) <= 5.0
    assert set(drawn.prefix.tolist()) == {6}
    assert torch.equal(drawn.carried_snr_db, drawn.snr_db)


def test_mixed_conditions_are_carried_at_the_effective_snr():
    drawn = draw(ConditionConfig(), 200, seed=1)
    received = drawn.transmit(torch.zeros(200, 16, 2, 2))
    assert torch.equal(received.snr_db, drawn.carried_snr_db)
    assert 0.05 < (drawn.carried_snr_db < drawn.snr_db).float().mean() < 0.25


@pytest.mark.parametrize("channel", ["mixed", "awgn", "rayleigh_slow_eq"])
def test_transmitting_again_meets_the_same_noise_and_another_user_other_noise(channel):
    drawn = draw(ConditionConfig((5.0, 5.0), (4,), channel), 3, seed=7)
    sent = torch.full((3, 4, 2, 2), 0.5**0.5)
    first, again, other = drawn.transmit(sent), drawn.transmit(sent), drawn.transmit(sent, user=1)
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"snr_range_db": (5.0, 1.0)}, "5..1 dB is empty"),
        ({"prefixes": ()}, "prefixes"),
        ({"prefixes": (0, 2)}, "prefixes"),
        ({"channel": "wire"}, "mixed, awgn"),
    ],
)
def test_conditions_that_cannot_be_drawn_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ConditionConfig(**changes)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_grow_with_the_error(name):
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    values = [float(loss_named(name)(images + scale * noise, images)) for scale in (0.02, 0.1, 0.3)]
    assert values == sorted(values)
    assert values[0] < values[2]


def test_log_mse_is_the_mean_psnr_with_its_sign_turned():
    images = torch.zeros(2, 3, 8, 8)
    restored = torch.stack((torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.01)))
    assert float(distortion_db(restored, images)) == pytest.approx(-30.0, abs=0.03)


def test_ms_ssim_loss_of_large_pictures_is_that_of_the_metric():
    images = torch.randint(0, 256, (1, 3, 176, 168), generator=torch.Generator().manual_seed(1))
    restored = (images + torch.randint(-20, 21, images.shape)).clamp(0, 255)
    loss = loss_named("ms-ssim")(restored / 255.0, images / 255.0)
    assert 1.0 - float(loss) == pytest.approx(float(ms_ssim(restored.byte(), images.byte())[0]), abs=1e-4)


@pytest.mark.parametrize(("side", "window"), [(161, 11), (160, 9), (128, 7), (97, 7), (96, 5), (33, 3)])
def test_ms_ssim_window_fits_the_crop(side, window):
    assert ms_ssim_window(side) == window
    assert (window - 1) * 16 < side


def test_pictures_too_small_for_ms_ssim_are_refused():
    with pytest.raises(ValueError, match="33 pixels are needed, got 32"):
        ms_ssim_window(32)


def test_learning_rate_warms_up_and_ends_low():
    config = TrainConfig(learning_rate=1e-3, final_fraction=0.1, warmup_steps=10)
    assert config.rate(0, 0.0) == pytest.approx(1e-4)
    assert config.rate(9, 0.0) == pytest.approx(1e-3)
    assert config.rate(10, 0.5) == pytest.approx(5.5e-4)
    assert config.rate(10, 1.0) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"loss": "psnr"}, {"optimiser": "sgd"}, {"precision": "fp16"}, {"ema_decay": 1.0}, {"batch": 0}],
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainConfig(**changes)


def test_a_budget_ends_at_whichever_comes_first():
    both = Budget(steps=10, minutes=1.0)
    assert both.spent(5, 6.0) == pytest.approx(0.5)
    assert both.spent(1, 60.0) == pytest.approx(1.0)
    assert Budget(steps=0).spent(0, 0.0) == 1.0
    assert Budget(minutes=0.0).spent(0, 0.0) == 1.0
    with pytest.raises(ValueError, match="budget"):
        Budget()


def test_derived_seeds_differ_in_every_part():
    seeds = {
        derived_seed(seed, stage, rank, step)
        for seed in (1, 2) for stage in ("anchor", "decoder conv") for rank in (0, 1) for step in range(50)
    }
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
