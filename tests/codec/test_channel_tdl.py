"""TDL-A..E over OFDM against TR 38.901 and closed form. What needs Sionna (seconds to import) is slow."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from channel_draws import seeded, unit_power
from scipy import stats
from scipy.special import j0

from codec_runtime.channel.modes import CHANNELS, channel
from codec_runtime.channel.symbols import to_symbols
from codec_runtime.channel.tdl import PROFILES, Tdl, TdlConfig

LIGHT_MPS = 299_792_458.0

TDL_A = np.array(
    [
        (0.0000, -13.4), (0.3819, 0.0), (0.4025, -2.2), (0.5868, -4.0), (0.4610, -6.0), (0.5375, -8.2),
        (0.6708, -9.9), (0.5750, -10.5), (0.7618, -7.5), (1.5375, -15.9), (1.8978, -6.6), (2.2242, -16.7),
        (2.1718, -12.4), (2.4942, -15.2), (2.5119, -10.8), (3.0582, -11.3), (4.0810, -12.7),
        (4.4579, -16.2), (4.5695, -18.3), (4.7966, -18.9), (5.0066, -16.6), (5.3043, -19.9),
        (9.6586, -29.7),
    ]
)
"""TR 38.901 table 7.7.2-1: delay over delay spread, power in dB."""

TDL_D_LINE_OF_SIGHT_DB = -0.2
TDL_D_SCATTERED_DB = (
    -13.5, -18.8, -21.0, -22.8, -17.9, -20.1, -21.9, -22.9, -27.8, -23.6, -24.8, -30.0, -27.7
)
"""TR 38.901 table 7.7.2-4."""


def python(code):
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )
    return done.stdout.strip()


# -- without Sionna
# ---------------------------------------------------------------------------------------------


def test_a_missing_sionna_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sionna", None)
    with pytest.raises(ModuleNotFoundError, match=r"Sionna.*semcom-xapp\[lab\]"):
        channel("tdl-a")


@pytest.mark.slow
def test_naming_a_tdl_channel_does_not_import_sionna():
    code = (
        "import sys; from codec_runtime.channel.modes import channel; "
        "channel('tdl-c'); print('sionna' in sys.modules)"
    )
    assert python(code) == "False"


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="known are A, B, C, D, E"):
        Tdl("F")


@pytest.mark.parametrize(
    "wrong",
    [
        {"csi": "genie"}, {"resource_blocks": 0}, {"carrier_hz": 0.0}, {"delay_spread_s": -1e-9},
        {"speed_mps": -1.0}, {"subcarrier_spacing_hz": 0.0},
    ],
)
def test_link_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TdlConfig(**wrong)


def test_an_nr_slot_of_30_khz_has_14_symbols_in_half_a_millisecond():
    assert 14 * TdlConfig().symbol_duration_s == pytest.approx(0.5e-3)


# -- the channel itself
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_mean_channel_power_is_one(profile):
    response = Tdl(profile, TdlConfig(resource_blocks=4)).frequency_response(2000, 1, seeded(1))
    assert response.shape == (2000, 14, 48)
    # Four blocks fade nearly together, so a link's power has a deviation of up to one.
    assert response.abs().square().mean().item() == pytest.approx(1.0, abs=4 / 2000**0.5)


@pytest.mark.slow
def test_tdl_a_correlates_over_frequency_as_its_delay_profile_says():
    config = TdlConfig()
    response = Tdl("A", config).frequency_response(2000, 1, seeded(2))[:, 0]
    measured = (response * response[:, :1].conj()).mean(dim=0).numpy()
    power = 10 ** (TDL_A[:, 1] / 10)
    power /= power.sum()
    lag_hz = np.arange(config.subcarriers) * config.subcarrier_spacing_hz
    turns = lag_hz[:, None] * TDL_A[:, 0] * config.delay_spread_s
    expected = (power * np.exp(-2j * np.pi * turns)).sum(axis=1)
    assert np.abs(measured - expected).max() < 4 / np.sqrt(2000)
    spread = np.sqrt((power * TDL_A[:, 0] ** 2).sum() - (power * TDL_A[:, 0]).sum() ** 2)
    assert spread == pytest.approx(1.0, abs=0.01)  # the table is in units of its own delay spread


@pytest.mark.slow
def test_tdl_a_correlates_over_time_as_jakes_says_also_across_slots():
    config = TdlConfig(speed_mps=60.0, resource_blocks=1)
    response = Tdl("A", config).frequency_response(2000, 2, seeded(3))[:, :, 0]
    measured = (response * response[:, :1].conj()).mean(dim=0).numpy()
    doppler_hz = config.speed_mps * config.carrier_hz / LIGHT_MPS
    expected = j0(2 * np.pi * doppler_hz * np.arange(28) * config.symbol_duration_s)
    assert np.abs(measured - expected).max() < 4 / np.sqrt(2000)
    assert expected[-1] < -0.3  # fast enough to say something


@pytest.mark.slow
def test_scattered_profiles_fade_as_rayleigh():
    # Each tap is a sum of 20 sinusoids, so the power is exponential up to a few per cent.
    response = Tdl("C", TdlConfig(resource_blocks=1)).frequency_response(2000, 1, seeded(4))[:, 0, 0]
    assert stats.kstest(response.abs().square().numpy(), "expon").pvalue > 0.01
    assert stats.kstest((response.angle() / (2 * np.pi) + 0.5).numpy(), "uniform").pvalue > 0.01


@pytest.mark.slow
def test_line_of_sight_steadies_the_power_as_its_k_factor_says():
    response = Tdl("D", TdlConfig(resource_blocks=1)).frequency_response(3000, 1, seeded(5))[:, 0, 0]
    scattered = (10 ** (np.array(TDL_D_SCATTERED_DB) / 10)).sum()
    direct = 10 ** (TDL_D_LINE_OF_SIGHT_DB / 10)
    share = direct / (direct + scattered)
    # Rice: var |H|^2 = 1 - share^2 at unit mean power.
    assert response.abs().square().var().item() == pytest.approx(1 - share**2, rel=0.1)


@pytest.mark.slow
def test_fewer_slots_are_the_beginning_of_more_and_the_seed_decides():
    model = Tdl("B", TdlConfig(resource_blocks=2))
    short, long = (model.frequency_response(3, slots, seeded(6)) for slots in (1, 4))
    assert torch.allclose(short, long[:, :14], atol=1e-5)
    assert not torch.allclose(short, model.frequency_response(3, 1, seeded(7)), atol=0.1)


@pytest.mark.slow
def test_torchs_global_generator_is_left_alone_even_by_the_first_import():
    code = (
        "import torch; from codec_runtime.channel.tdl import Tdl; torch.manual_seed(5); "
        "Tdl('A').frequency_response(1, 1, torch.Generator().manual_seed(1)); first = torch.rand(1); "
        "torch.manual_seed(5); print(torch.equal(first, torch.rand(1)))"
    )
    assert python(code) == "True"


# -- the mode
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_overhead_is_that_of_the_resource_grid():
    model = Tdl("A")
    grid = model._grid(torch.device("cpu")).resource_grid
    assert (grid.num_pilot_symbols, grid.num_data_symbols) == (144, 12 * 156)
    sent, prefix = unit_power([2], 8, 2)
    received = model(sent, torch.tensor([5.0]), prefix, seeded(1))
    assert received.overhead == pytest.approx(grid.num_pilot_symbols / grid.num_data_symbols)


@pytest.mark.slow
@pytest.mark.parametrize("csi", ["lmmse", "perfect"])
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
@pytest.mark.parametrize("profile", ["A", "E"])
def test_believed_snr_is_the_one_measured(profile, snr_db, csi):
    sent, prefix = unit_power([8] * 100, 32, 8)
    received = Tdl(profile, TdlConfig(csi=csi))(sent, torch.full((100,), snr_db), prefix, seeded(8))
    measured = to_symbols(received.values - sent, prefix).abs().square().mean(dim=1)
    ratio_db = 10 * torch.log10(measured) + received.snr_db
    # A line of sight is not separable in time and frequency, which the estimator's statistics neglect.
    assert ratio_db.mean().item() == pytest.approx(0.0, abs=0.05 if csi == "perfect" else 0.3)


@pytest.mark.slow
def test_knowing_more_of_the_channel_gives_a_higher_snr():
    sent, prefix = unit_power([8] * 32, 32, 8)
    snr = torch.full((32,), 5.0)
    error = {
        csi: (Tdl("C", TdlConfig(csi=csi))(sent, snr, prefix, seeded(9)).values - sent).square().mean().item()
        for csi in ("ls", "lmmse", "perfect")
    }
    assert error["ls"] > error["lmmse"] > error["perfect"]


@pytest.mark.slow
def test_equalised_symbols_are_sionnas_up_to_the_gain():
    from sionna.phy.mimo import StreamManagement
    from sionna.phy.ofdm import LMMSEEqualizer

    from codec_runtime.channel.gaussian import circular_normal
    from codec_runtime.channel.mmse import one_tap

    grid = Tdl("A")._grid(torch.device("cpu"))
    received, estimate = (circular_normal((2, 14, 144), torch.device("cpu"), seeded(s)) for s in (1, 2))
    deviation, variance = torch.full((2, 14, 144), 0.05), torch.tensor([0.1, 0.4])
    theirs, noise = LMMSEEqualizer(grid.resource_grid, StreamManagement([[1]], 1), device="cpu")(
        received[:, None, None], estimate[:, None, None, None, None], deviation[:, None, None, None, None],
        variance,
    )
    ours, error = (
        grid.data(part) for part in one_tap(received, estimate, deviation, variance[:, None, None])
    )
    # Theirs has each symbol's own bias divided out.
    assert torch.allclose(ours / (1 - error), theirs[:, 0, 0], rtol=1e-3, atol=1e-4)
    assert torch.allclose(error / (1 - error), noise[:, 0, 0], rtol=1e-3)


@pytest.mark.slow
def test_the_wiener_filter_estimates_as_well_as_sionnas():
    from sionna.phy.ofdm import LMMSEChannelEstimator, tdl_freq_cov_mat, tdl_time_cov_mat

    config = TdlConfig(resource_blocks=4)
    model = Tdl("C", config)
    grid = model._grid(torch.device("cpu"))
    response = model.frequency_response(20, 1, seeded(1))
    variance = torch.full((20,), 0.1)
    noise = 0.1**0.5 * torch.view_as_complex(torch.randn(20, 14, 48, 2, generator=seeded(2)) * 0.5**0.5)
    received = response * grid.map(torch.zeros(20, config.data_per_slot, dtype=torch.complex64)) + noise
    theirs, _ = LMMSEChannelEstimator(
        grid.resource_grid,
        tdl_time_cov_mat(
            "C", config.speed_mps, config.carrier_hz, config.symbol_duration_s, 14, device="cpu"
        ),
        tdl_freq_cov_mat("C", config.subcarrier_spacing_hz, 48, config.delay_spread_s, device="cpu"),
        order="f-t",
        device="cpu",
    )(received[:, None, None], variance)
    ours, _ = grid.estimate(received, response, variance)
    ours_mse, theirs_mse = (
        (estimate - response).abs().square().mean().item() for estimate in (ours, theirs[:, 0, 0, 0, 0])
    )
    assert ours_mse == pytest.approx(theirs_mse, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CHANNELS if name.startswith("tdl")])
def test_a_tdl_mode_keeps_the_rules_of_every_channel(name):
    sent, prefix = unit_power([2, 6, 1], 16, 6)
    sent.requires_grad_()
    snr = torch.tensor([5.0, 15.0, -5.0])
    model = channel(name)
    first, same, other = (model(sent, snr, prefix, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first.values, same.values)
    assert torch.equal(first.snr_db, same.snr_db)
    assert not torch.equal(first.values, other.values)
    for image, channels in zip(first.values, (2, 6, 1), strict=True):
        assert torch.count_nonzero(image[channels:]) == 0
        assert torch.count_nonzero(image[:channels]) == channels * 256
    changed = sent.detach().clone()
    changed[0] = changed[0].flip(-1)
    after = model(changed, snr, prefix, seeded(1))
    assert torch.equal(first.values[1:], after.values[1:])
    assert torch.equal(first.snr_db, after.snr_db)
    first.values.square().sum().backward()
    for gradient, channels in zip(sent.grad, (2, 6, 1), strict=True):
        assert torch.isfinite(gradient).all()
        assert torch.count_nonzero(gradient[:channels]) == channels * 256
        assert torch.count_nonzero(gradient[channels:]) == 0


@pytest.mark.slow
def test_an_image_over_several_slots_arrives_in_order():
    sent, prefix = unit_power([16], 32, 16)  # 8192 symbols in slots of 1872
    believed = []
    for snr_db in (0.0, 10.0, 20.0, 30.0):
        received = channel("tdl-d")(sent, torch.tensor([snr_db]), prefix, seeded(3))
        measured = -10 * torch.log10(to_symbols(received.values - sent, prefix).abs().square().mean())
        assert measured.item() == pytest.approx(received.snr_db.item(), abs=1.0)
        believed.append(received.snr_db.item())
    assert all(low < high for low, high in pairwise(believed))
