"""Metrics, the quality table and the ranges of `semcom eval codec`."""

import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from codec_runtime.bundle.store import SHIPPED_WEIGHTS
from codec_runtime.codecs.registry import FAMILIES, build_decoder
from codec_runtime.evaluation.codec import QualityTally, evaluate, rate_name, tier_of, transmit
from codec_runtime.evaluation.command import (
    EvaluationRequest,
    load_codec,
    parse_channels,
    parse_choice,
    parse_rates,
    parse_snrs,
)
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db, to_uint8
from xapp.cli import app


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
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, images, snr_db, prefix):
        self.calls += 1
        return torch.nn.functional.avg_pool2d(images, 4)


class _Decoder(torch.nn.Module):
    def forward(self, received, snr_db, prefix):
        return torch.nn.functional.interpolate(received[:, :3], scale_factor=4.0)


def _picture(height=168, width=168, seed=0):
    coarse = torch.rand(1, 3, 21, 21, generator=torch.Generator().manual_seed(seed))
    picture = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (picture * 255).to(torch.uint8)


def test_every_cell_of_the_table_is_measured_and_quality_rises_with_snr():
    seen = []
    rows = evaluate(
        _Encoder(), {"plain": _Decoder()}, [_picture()], channels=("awgn", "rayleigh_slow_eq"),
        snrs_db=(0.0, 30.0), prefixes=(3,), noise_seeds=2, on_cell=lambda: seen.append(1),
    )
    assert [(row.channel, row.snr_db) for row in rows] == [
        ("awgn", 0.0), ("awgn", 30.0), ("rayleigh_slow_eq", 0.0), ("rayleigh_slow_eq", 30.0),
    ]
    assert rows[1].psnr_db > rows[0].psnr_db + 10
    assert rows[3].psnr_db > rows[2].psnr_db
    assert len(seen) == len(rows)


def test_batched_pictures_of_several_sizes_score_as_each_does_alone():
    pictures = [_picture(64, 72, 1), _picture(72, 64, 2), _picture(64, 72, 3), _picture(61, 70, 4)]
    encoder, options = _Encoder(), {"snrs_db": (5.0,), "prefixes": (3,), "ms_ssim_seeds": 0}
    together = evaluate(encoder, {"plain": _Decoder()}, pictures, noise_seeds=3, **options)[0]
    assert encoder.calls == 3  # sizes, not draws
    restored = [
        transmit(encoder, {"plain": _Decoder()}, picture, channel="awgn", snr_db=5.0, prefix=3, seed=0)
        for picture in pictures
    ]
    alone = [float(psnr_db(r["plain"], p[None])) for r, p in zip(restored, pictures, strict=True)]
    assert together.psnr_db == pytest.approx(sum(alone) / 4, abs=0.2)  # other noise, same channel
    assert (together.images, together.seeds) == (4, 3)
    assert math.isnan(together.ms_ssim)


def test_networks_are_measured_in_evaluation_mode_and_left_as_they_were():
    decoder, modes = _Decoder(), []
    decoder.register_forward_hook(lambda module, *_: modes.append(module.training))
    evaluate(_Encoder(), {"a": decoder}, [_picture()], snrs_db=(5.0,), prefixes=(3,), ms_ssim_seeds=0)
    assert modes == [False]
    assert decoder.training


def test_decoders_and_rates_see_the_same_noise():
    twice = evaluate(
        _Encoder(), {"a": _Decoder(), "b": _Decoder()}, [_picture()], snrs_db=(5.0,), prefixes=(3,)
    )
    assert twice[0].psnr_db == twice[1].psnr_db


def test_spread_is_over_pictures_and_noise_spread_over_seeds():
    tally = QualityTally(ms_ssim_seeds=0)
    flat = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    for index, errors in enumerate(((10, 20), (1, 2))):
        for error in errors:
            tally.add(index, flat + error, flat)
    row = tally.row("d", "awgn", 6, 1.0)
    doubling, tenfold = 20 * math.log10(2), 20.0
    assert row.psnr_spread == pytest.approx(tenfold / 2, abs=1e-3)
    assert row.noise_spread == pytest.approx(doubling / 2, abs=1e-3)
    assert (row.images, row.seeds) == (2, 2)


def test_pilots_count_in_the_bandwidth_that_a_row_reports():
    row, = evaluate(
        _Encoder(), {"plain": _Decoder()}, [_picture()], channels=("rayleigh_mmse",), snrs_db=(10.0,),
        prefixes=(3,), ms_ssim_seeds=0,
    )
    assert row.overhead > 0
    assert row.as_json()["rate"] == "1/32"
    assert row.as_json()["bandwidth_ratio"] == pytest.approx((1 + row.overhead) / 32, abs=1e-6)


def test_json_of_a_row_has_the_promised_keys_and_no_nan():
    row, = evaluate(
        _Encoder(), {"plain": _Decoder()}, [_picture()], snrs_db=(5.0,), prefixes=(3,), ms_ssim_seeds=0
    )
    promised = {"decoder", "tier", "channel", "rate", "snr_db", "psnr_db", "psnr_spread", "ms_ssim", "images"}
    assert promised <= set(row.as_json())
    assert row.as_json()["ms_ssim"] is None
    assert row.as_json()["macs_per_pixel"] is None


def test_tier_is_the_decoders_own():
    small = build_decoder("fast", "conv", FAMILIES["fast"].config(width=8, blocks=2), "small")
    assert tier_of(small) == "small"
    assert tier_of(_Decoder()) == "medium"


def test_unknown_channels_and_choices_are_answered_with_the_known_ones():
    assert parse_channels("awgn, tdl-a") == ["awgn", "tdl-a"]
    with pytest.raises(ValueError, match="rayleigh_slow_eq"):
        parse_channels("awgn,rician")
    assert parse_choice("all", ("a", "b"), "thing") == ["a", "b"]
    assert parse_choice("none", ("a", "b"), "thing") == []
    with pytest.raises(ValueError, match="known are a, b"):
        parse_choice("a,c", ("a", "b"), "thing")


def test_missing_decoder_tier_or_bundle_is_named_with_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="no encoder bundle"):
        load_codec(tmp_path)
    with pytest.raises(FileNotFoundError, match="attention"):
        load_codec(SHIPPED_WEIGHTS, "transformer")
    with pytest.raises(FileNotFoundError, match="tier"):
        load_codec(SHIPPED_WEIGHTS, "all", "tiny")


def test_measuring_no_scheme_is_refused():
    result = CliRunner().invoke(app, ["eval", "mcs", "--first", "20", "--last", "10"])
    assert result.exit_code == 2
    assert "from index 20 to 10" in result.output


def test_request_is_written_back_as_its_command_line():
    request = EvaluationRequest([Path("/data/kodak")], rates="1/6", baselines="jpeg", seeds=3)
    assert request.command() == "semcom eval codec --images kodak --rate 1/6 --seeds 3 --baselines jpeg"


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--channel", "rician"], "rayleigh_slow"),
        (["--rate", "1/17"], "k/96"),
        (["--rate", "1/2"], "at most 16 of 96"),
        (["--snr", "x"], "numbers in dB"),
        (["--decoder", "none"], "--baselines"),
        (["--baselines", "bpg"], "jpeg2000"),
        (["--baselines", "jpeg", "--modem", "turbo"], "ldpc"),
        (["--baselines", "jpeg", "--channel", "tdl-a"], "awgn"),
    ],
)
def test_wrong_options_exit_with_2_and_say_what_would_be_right(tmp_path, options, answer):
    result = CliRunner().invoke(app, ["eval", "codec", "--images", str(tmp_path), *options])
    assert result.exit_code == 2
    assert answer in result.output
