"""Linear and separate coding at equal bandwidth: bits, thresholds, losses, and known numbers on Kodak."""

import json
import math
import os
from pathlib import Path

import pytest
import torch

from codec_runtime.bundle.store import SHIPPED_WEIGHTS
from codec_runtime.codecs.linear import PatchPca, fit_patch_pca
from codec_runtime.evaluation import modems
from codec_runtime.evaluation.baselines import (
    PCA_FILE,
    evaluate_baselines,
    linear_transmit,
    load_pca,
    row_count,
    save_pca,
    separate_row,
)
from codec_runtime.evaluation.image_codecs import IMAGE_CODECS, CodedPicture
from codec_runtime.evaluation.mcs import CRC_BITS, Mcs, link_adapted, measured_schemes
from codec_runtime.evaluation.mcs_measure import CodedModulation, McsConfig, error_rate, waterfall
from codec_runtime.evaluation.metrics import psnr_db
from codec_runtime.evaluation.modems import (
    Transmission,
    capacity_bits,
    fixed_transmission,
    outage_probability,
    transmissions,
)
from codec_runtime.training.data import list_images, load_image

DATA = Path(os.environ.get("SEMCOM_DATA", Path(__file__).parents[3] / "shared" / "data"))
KODAK = DATA / "images" / "kodak"

SCHEME = Mcs(
    index=5, bits_per_symbol=2, code_rate=0.5, information_bits=1000, codeword_bits=2000, threshold_db=2.0,
    snr_db=(1.0, 1.5, 2.0), error_rate=(1.0, 0.1, 0.0), blocks=(24, 50, 200),
)


def _picture(seed=0, side=64):
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0].clamp(0, 1)
    return (smooth * 255).to(torch.uint8)


def test_capacity_of_one_symbol_at_zero_db_is_one_bit():
    assert capacity_bits(1.0, snr_db=0.0) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000", pytest.param("heic", marks=pytest.mark.slow)])
def test_the_largest_quality_that_fits_is_found(name):
    codec = IMAGE_CODECS[name]
    picture = CodedPicture(codec, _picture(), measure_ms_ssim=False)
    for bits in (9_000.0, 14_000.0, 6_000.0):
        level = picture.level_within(bits)
        if level is None:
            assert 8 * picture._size(codec.first) > bits
            continue
        assert 8 * picture._size(level) <= bits
        assert level == codec.last or 8 * picture._size(level + 1) > bits


@pytest.mark.parametrize("name", IMAGE_CODECS)
def test_more_bits_give_a_better_picture_and_too_few_the_mean_colour(name):
    image = _picture()
    picture = CodedPicture(IMAGE_CODECS[name], image, measure_ms_ssim=False)
    assert picture.within(60_000.0).psnr_db > picture.within(9_500.0).psnr_db > picture.lost().psnr_db
    flat = picture.within(10.0).picture
    assert (flat == flat[:, :1, :1]).all()
    assert flat.shape == image.shape


def test_each_level_is_encoded_once():
    picture = CodedPicture(IMAGE_CODECS["jpeg"], _picture(), measure_ms_ssim=False)
    levels = [picture.level_within(bits) for bits in (9_000.0, 9_000.0, 9_001.0)]
    encodings = len(picture.encode_ms)
    assert picture.level_within(9_000.0) == levels[0]
    assert len(picture.encode_ms) == encodings <= 10


def test_payload_is_the_schemes_bits_less_a_checksum_for_each_code_block():
    assert SCHEME.payload_bits(1000.0) == 1000.0 - CRC_BITS
    assert SCHEME.payload_bits(1001.0) == 1001.0 - 2 * CRC_BITS


def test_block_errors_fall_from_one_to_none_at_the_threshold():
    rates = [SCHEME.block_error_rate(snr) for snr in (0.0, 1.0, 1.25, 1.5, 1.75, 2.0, 9.0)]
    assert rates[:2] == [1.0, 1.0]
    assert rates[2] == pytest.approx(math.sqrt(0.1))
    assert rates[3] == pytest.approx(0.1)
    assert rates[4] == pytest.approx(math.sqrt(0.1 / 200))
    assert rates[5:] == [0.0, 0.0]


def test_a_picture_is_lost_with_any_of_its_code_blocks():
    assert SCHEME.loss_probability(1.5, 3000.0) == pytest.approx(1 - 0.9**3)


def test_link_adaptation_takes_the_fastest_scheme_whose_threshold_is_met():
    schemes = measured_schemes()
    for snr in (-2.0, 1.0, 4.0, 7.0, 10.0, 13.0, 25.0):
        chosen = link_adapted(schemes, snr)
        assert chosen.threshold_db <= snr
        assert not any(s.threshold_db <= snr and s.efficiency > chosen.efficiency for s in schemes)
    assert link_adapted(schemes, -10.0) is None


def test_measured_thresholds_lie_above_shannons_bound_and_close_to_it():
    for scheme in measured_schemes():
        bound = 10 * math.log10(2**scheme.efficiency - 1)
        assert bound + 0.3 < scheme.threshold_db < bound + 3.0, scheme.index
        at_threshold = dict(zip(scheme.snr_db, scheme.error_rate, strict=True))[scheme.threshold_db]
        assert at_threshold <= 0.01
        assert scheme.error_rate[0] >= 0.9


def test_outage_is_the_share_of_gains_below_what_is_needed():
    gains = torch.empty(200_000).exponential_(generator=torch.Generator().manual_seed(1))
    simulated = float((10 * torch.log10(gains) + 10.0 < 7.0).float().mean())
    assert outage_probability(7.0, 10.0) == pytest.approx(simulated, abs=0.005)


def test_separate_coding_over_an_unknown_channel_is_refused():
    with pytest.raises(ValueError, match="tdl-a"):
        transmissions("ldpc", "tdl-a", 7.0)
    with pytest.raises(ValueError, match="turbo"):
        transmissions("turbo", "awgn", 7.0)


def test_fading_offers_slower_safer_transmissions(monkeypatch):
    monkeypatch.setattr(modems, "measured_schemes", lambda: (SCHEME,))
    [safe] = transmissions("ldpc", "rayleigh_slow_eq", 12.0)
    assert safe.loss_probability(1e5) == pytest.approx(1 - math.exp(-0.1))
    assert transmissions("ldpc", "rayleigh_slow_eq", 2.0) == []  # in outage too often
    offers = transmissions("capacity", "rayleigh_slow_eq", 10.0)
    bits = [offer.payload_bits(1.0) for offer in offers]
    losses = [offer.loss_probability(1.0) for offer in offers]
    assert bits == sorted(bits)
    assert losses == sorted(losses)


def test_a_fixed_scheme_falls_off_the_cliff_below_its_threshold(monkeypatch):
    monkeypatch.setattr(modems, "measured_schemes", lambda: (SCHEME,))
    images = [_picture()]
    coded = [CodedPicture(IMAGE_CODECS["jpeg"], image, measure_ms_ssim=False) for image in images]

    def at(snr):
        choices = fixed_transmission(7.0, "awgn", snr)
        return separate_row("jpeg", coded, [images[0].numel()], choices, "awgn", 96, snr).psnr_db

    assert at(13.0) == at(2.0) == coded[0].within(SCHEME.payload_bits(images[0].numel())).psnr_db
    assert at(2.0) > at(1.5) > at(1.0) == coded[0].lost().psnr_db


def test_the_choice_of_the_highest_expected_psnr_is_made_and_never_worse_than_nothing():
    image = _picture()
    coded = [CodedPicture(IMAGE_CODECS["jpeg"], image, measure_ms_ssim=False)]
    risky = Transmission(lambda _: 60_000.0, lambda _: 0.9)
    safe = Transmission(lambda _: 9_000.0, lambda _: 0.01)
    row = separate_row("jpeg", coded, [image.numel()], [risky, safe], "rayleigh_slow_eq", 6, 7.0)
    lost = coded[0].lost().psnr_db
    assert row.psnr_db == pytest.approx(0.99 * coded[0].within(9_000.0).psnr_db + 0.01 * lost)
    assert separate_row("jpeg", coded, [image.numel()], [], "awgn", 6, -9.0).psnr_db == lost


def test_linear_codec_is_the_same_for_the_same_seed_and_fades():
    pca = fit_patch_pca([_picture(s).float() / 255 for s in range(4)], components=16)
    options = {"channel": "rayleigh_slow_eq", "index": 0}
    first = linear_transmit(pca, _picture(), 4, 20.0, seed=1, **options)
    assert torch.equal(first, linear_transmit(pca, _picture(), 4, 20.0, seed=1, **options))
    scores = [
        float(psnr_db(linear_transmit(pca, _picture(), 4, 20.0, seed=s, **options)[None], _picture()[None]))
        for s in range(3)
    ]
    assert max(scores) - min(scores) > 1.0


def test_table_of_baselines_has_every_row_once():
    pca = fit_patch_pca([_picture(s).float() / 255 for s in range(4)], components=64)
    seen = []
    names, designs = ("linear", "jpeg"), (7.0,)
    rows = evaluate_baselines(
        [_picture(), _picture(1)], names=names, modems=("capacity", "ldpc"), pca=pca,
        channels=("awgn", "rayleigh_slow_eq"), snrs_db=(4.0, 10.0), prefixes=(16,), noise_seeds=2,
        ms_ssim_seeds=0, design_snrs_db=designs, on_cell=lambda: seen.append(1),
    )
    assert len(rows) == len(seen) == row_count(names, ("capacity", "ldpc"), designs, 4)
    cells = {(row.decoder, row.channel, row.snr_db): row for row in rows}
    assert len(cells) == len(rows)
    for snr in (4.0, 10.0):
        assert cells["jpeg+capacity", "awgn", snr].psnr_db >= cells["jpeg+ldpc", "awgn", snr].psnr_db
        faded = cells["jpeg+capacity", "rayleigh_slow_eq", snr].psnr_db
        assert faded < cells["jpeg+capacity", "awgn", snr].psnr_db
    assert {row.tier for row in rows} == {"baseline"}
    assert "NaN" not in json.dumps([row.as_json() for row in rows])
    with pytest.raises(ValueError, match="unknown baseline 'bpg'"):
        evaluate_baselines([_picture()], names=("bpg",), snrs_db=(4.0,), prefixes=(4,))


def test_rate_that_needs_more_components_than_there_are_is_refused():
    pca = PatchPca(torch.zeros(192), torch.eye(192)[:, :16], torch.ones(16))
    with pytest.raises(ValueError, match="there are 16"):
        evaluate_baselines([_picture()], names=("linear",), pca=pca, snrs_db=(4.0,), prefixes=(6,))


def test_components_come_back_as_stored_and_a_missing_file_is_named(tmp_path):
    pca = fit_patch_pca([_picture().float() / 255], components=16)
    save_pca(pca, tmp_path / PCA_FILE, {"data": "photos"})
    back = load_pca(tmp_path / PCA_FILE)
    assert torch.equal(back.components, pca.components)
    assert torch.equal(back.variances, pca.variances)
    with pytest.raises(FileNotFoundError, match=r"pca\.safetensors"):
        load_pca(tmp_path / "absent" / PCA_FILE)


def test_shipped_components_serve_every_rate_of_the_codec():
    pca = load_pca(SHIPPED_WEIGHTS / PCA_FILE)
    assert pca.components.shape == (192, 64)
    product = pca.components.T @ pca.components
    assert torch.allclose(product, torch.eye(64), atol=1e-4)


def test_waterfall_goes_from_where_all_is_lost_to_where_the_target_is_met():
    def lost(snr_db, blocks):  # 10^(-4 (snr - 3)) of the blocks, all below 3 dB
        share = 1.0 if snr_db < 3.0 else 10 ** (-4 * (snr_db - 3.0))
        return round(blocks * share)

    config = McsConfig(batch=200)
    for guess in (1.1, 3.3, 5.0):
        points = waterfall(lost, guess, config)
        assert list(points) == sorted(points)
        assert points[min(points)][0] >= 0.9
        assert min(snr for snr, (rate, _) in points.items() if rate <= config.target) == 3.5


def test_hopeless_snrs_are_left_after_few_blocks_and_good_ones_get_all():
    config = McsConfig(blocks=200, least_blocks=24, batch=8)
    assert error_rate(lambda _, blocks: blocks, 0.0, config) == (1.0, 24)
    assert error_rate(lambda _, blocks: 0, 0.0, config) == (0.0, 200)


@pytest.mark.slow
def test_code_blocks_are_lost_below_and_restored_above_the_measured_threshold():
    config = McsConfig()
    threshold = {s.index: s.threshold_db for s in measured_schemes()}
    for index in (6, 24):
        link = CodedModulation(index, config)
        assert link.lost(threshold[index] + 0.75, 8) == 0
        assert link.lost(threshold[index] - 1.5, 8) == 8


@pytest.mark.slow
@pytest.mark.skipif(not KODAK.is_dir(), reason=f"no test pictures at {KODAK}")
def test_known_numbers_on_kodak_come_out_again():
    images = [load_image(path) for path in list_images([KODAK])]
    rows = evaluate_baselines(
        images, names=("linear", "jpeg"), modems=("capacity",), pca=load_pca(SHIPPED_WEIGHTS / PCA_FILE),
        snrs_db=(1.0, 13.0), prefixes=(6,), ms_ssim_seeds=0,
    )
    found = {(row.decoder, row.snr_db): row.psnr_db for row in rows}
    assert found == pytest.approx(
        {("linear", 1.0): 21.54, ("linear", 13.0): 28.21, ("jpeg+capacity", 1.0): 26.06,
         ("jpeg+capacity", 13.0): 32.04},
        abs=0.05,
    )
