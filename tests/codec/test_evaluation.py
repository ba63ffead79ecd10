"""Metrics, baselines and the ranges of `semcom eval codec`."""

import math

import pytest
import torch

from codec_runtime.evaluation.baselines import capacity_bits, jpeg_within
from codec_runtime.evaluation.codec import evaluate, rate_name
from codec_runtime.evaluation.command import parse_rates, parse_snrs
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db, to_uint8


def test_psnr_of_a_constant_error_is_the_textbook_value():
    reference = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    assert psnr_db(reference + 10, reference).item() == pytest.approx(20 * math.log10(255 / 10), abs=1e-4)


def test_identical_pictures_give_a_finite_psnr_and_unit_ms_ssim():
    picture = torch.randint(0, 256, (1, 3, 168, 168), dtype=torch.uint8)
    assert psnr_db(picture, picture).item() == pytest.approx(100.0, abs=1e-3)
    assert ms_ssim(picture, picture).item() == pytest.approx(1.0, abs=1e-4)


def test_ms_ssim_of_a_too_small_picture_says_what_is_needed():
    small = torch.zeros(1, 3, 160, 200, dtype=torch.uint8)
    with pytest.raises(ValueError, match="161"):
        ms_ssim(small, small)


def test_rounding_to_8_bit_clips():
    assert to_uint8(torch.tensor([-0.2, 0.5, 1.7])).tolist() == [0, 128, 255]


def test_capacity_of_one_symbol_per_value_at_zero_db_is_one_bit():
    assert capacity_bits(96, 0.0, 1) == pytest.approx(1.0)


def test_jpeg_stays_within_its_bits_and_falls_back_to_the_mean_colour():
    picture = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    assert jpeg_within(picture, 1e9).shape == picture.shape
    flat = jpeg_within(picture, 10.0)
    assert (flat == flat[:, :1, :1]).all()


@pytest.mark.parametrize(("text", "prefixes"), [("1/16", [6]), ("1/48, 1/6", [2, 16]), ("5/96", [5])])
def test_rates_become_prefix_lengths(text, prefixes):
    assert parse_rates(text) == prefixes


@pytest.mark.parametrize("text", ["0.06", "1/0", "1/17", "x"])
def test_impossible_rates_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match="1/16"):
        parse_rates(text)


def test_snr_list_that_is_no_numbers_is_refused():
    assert parse_snrs("-5,7") == [-5.0, 7.0]
    with pytest.raises(ValueError, match="dB"):
        parse_snrs("7;10")


@pytest.mark.parametrize(("prefix", "name"), [(2, "1/48"), (6, "1/16"), (16, "1/6"), (5, "5/96")])
def test_rate_is_named_as_the_field_does(prefix, name):
    assert rate_name(prefix) == name


class _Encoder(torch.nn.Module):
    def forward(self, images, snr_db, prefix):
        return torch.nn.functional.avg_pool2d(images, 4)


class _Decoder(torch.nn.Module):
    def forward(self, received, snr_db, prefix):
        return torch.nn.functional.interpolate(received[:, :3], scale_factor=4.0)


def test_every_cell_of_the_table_is_measured_and_quality_rises_with_snr():
    coarse = torch.rand(1, 3, 21, 21)
    picture = torch.nn.functional.interpolate(coarse, size=(168, 168), mode="bilinear")[0]
    rows = evaluate(
        _Encoder(), {"plain": _Decoder()}, [(picture * 255).to(torch.uint8)],
        channels=("awgn", "rayleigh_slow_eq"), snrs_db=(0.0, 30.0), prefixes=(3,), noise_seeds=2,
    )
    assert [(row.channel, row.snr_db) for row in rows] == [
        ("awgn", 0.0), ("awgn", 30.0), ("rayleigh_slow_eq", 0.0), ("rayleigh_slow_eq", 30.0),
    ]
    assert rows[1].psnr_db > rows[0].psnr_db + 10
    assert rows[3].psnr_db > rows[2].psnr_db
