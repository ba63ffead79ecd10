"""From cells to verdicts: pairing by seed, counting decoders, losses, monotonicity. No network is run."""

import pytest

from codec_runtime.evaluation.references import (
    KODAK_AWGN_1_16,
    SEED_TABLE_III,
    SEED_TABLE_IV,
    seed_mean_difference,
)
from codec_runtime.experiments.conflict import ConflictSettings, conflict_result
from codec_runtime.experiments.forgetting import ForgettingSettings, forgetting_result
from codec_runtime.experiments.rates import RateSettings, monotonicity, rate_result
from codec_runtime.experiments.schemes import SchemeSettings, scheme_result, scheme_trials
from codec_runtime.experiments.trial import TrialSettings, iterative_epochs

DECODERS = ("attention", "conv", "resnet", "vgg")
LEVEL = {
    "anchor": 25.0, "iterative": 24.5, "simultaneous": 24.0, "joint-single": 25.5, "iterative-final": 23.0,
}


def _row(decoder: str, snr: float, psnr: float, **more) -> dict:
    return {
        "decoder": decoder, "prefix": 6, "snr_db": snr, "psnr_db": psnr, "psnr_spread": 2.0,
        "ms_ssim": psnr / 30.0, "images": 24, **more,
    }


def _cell(recipe: str, seed: int, channel: str = "awgn", better: dict[str, float] | None = None) -> dict:
    def quality(decoder: str, snr: float) -> float:
        return LEVEL[recipe] + 0.1 * snr + 0.01 * seed + (better or {}).get(decoder, 0.0)

    return {
        "recipe": recipe, "channel": channel, "seed": seed, "updates": [], "train_s": 1.0, "test_s": 1.0,
        "rows": [
            _row(decoder, snr, quality(decoder, snr), recipe=recipe)
            for decoder in DECODERS for snr in (1.0, 13.0)
        ],
    }


def _schemes(cells: list[dict], seeds: tuple[int, ...] = (1, 2)) -> dict:
    settings = SchemeSettings(channels=("awgn",), seeds=seeds)
    return scheme_result(settings, cells, command="semcom experiment schemes", data_sha256={})


def test_anchor_above_both_for_every_decoder_upholds_the_claim():
    result = _schemes([_cell(r, s) for r in ("anchor", "iterative", "simultaneous") for s in (1, 2)])
    verdict = result["verdict"]["awgn"]
    assert verdict["claim_holds"]
    assert verdict["decoders_above_both"] == 4
    against = verdict["decoders"]["conv"]["against"]["iterative"]["psnr_db"]
    assert against == {"mean": 0.5, "spread": 0.0, "per_seed": [0.5, 0.5], "seeds_above": 2}
    assert "claim holds" in result["verdict_text"][-1]


def test_claim_is_refuted_when_two_decoders_are_better_otherwise():
    ahead = {"conv": 0.6, "vgg": 0.7}
    cells = [_cell("anchor", 1), _cell("iterative", 1, better=ahead), _cell("simultaneous", 1)]
    verdict = (result := _schemes(cells, (1,)))["verdict"]["awgn"]
    assert verdict["decoders_above_both"] == 2
    assert not verdict["claim_holds"]
    assert verdict["decoders"]["vgg"]["against"]["iterative"]["psnr_db"]["mean"] == pytest.approx(-0.2)
    assert "does not hold" in result["verdict_text"][-1]


def test_differences_pair_only_seeds_that_both_recipes_have():
    cells = [_cell("anchor", 1), _cell("anchor", 2), _cell("iterative", 2), _cell("simultaneous", 2)]
    against = _schemes(cells)["verdict"]["awgn"]["decoders"]["conv"]["against"]
    assert against["iterative"]["psnr_db"]["per_seed"] == [0.5]


def test_no_verdict_without_both_competitors():
    result = _schemes([_cell("anchor", 1), _cell("iterative", 1)], (1,))
    assert not result["verdict"]["awgn"]["complete"]
    assert "no verdict" in result["verdict_text"][-1]
    assert not result["verdict"]["awgn"]["claim_holds"]


def test_upper_reference_and_the_final_encoder_are_reported_but_do_not_decide():
    names = ("anchor", "iterative", "simultaneous", "joint-single", "iterative-final")
    verdict = _schemes([_cell(name, 1) for name in names], (1,))["verdict"]["awgn"]
    assert verdict["claim_holds"]
    against = verdict["decoders"]["resnet"]["against"]
    assert against["joint-single"]["psnr_db"]["mean"] == pytest.approx(-0.5)
    assert against["iterative-final"]["psnr_db"]["mean"] == pytest.approx(2.0)


def test_rows_hold_mean_and_spread_over_seeds():
    rows = _schemes([_cell("anchor", 1), _cell("anchor", 3)], (1, 3))["rows"]
    row = next(r for r in rows if (r["decoder"], r["snr_db"]) == ("vgg", 13.0))
    assert row["psnr_db"] == pytest.approx(26.32)
    assert row["psnr_seed_spread"] == pytest.approx(0.0141)
    assert (row["rate"], row["seeds"], row["images"]) == ("1/16", 2, 24)


def test_upper_reference_gets_its_own_number_of_seeds():
    names = scheme_trials(SchemeSettings(seeds=(1, 2, 3), upper_seeds=1))
    assert sum(name.startswith("joint-single") for name in names) == 2  # one a channel
    assert sum(name.startswith("anchor") for name in names) == 6
    assert next(iter(names)).endswith("seed1")


@pytest.mark.parametrize(("updates", "turn", "epochs"), [(400, 50, 32), (10, 4, 12), (1, 100, 4)])
def test_turns_of_iterative_training_are_counted_with_the_shorter_round(updates, turn, epochs):
    assert iterative_epochs(TrialSettings(decoder_updates=updates, epoch_steps=turn)) == epochs


def test_losses_are_paired_with_the_users_own_turn():
    def cell(seed: int, lost: float) -> dict:
        rows = [
            _row("attention", snr, 25.0 + snr - lost * others, recipe="iterative", others=others,
                 trained_since=list(DECODERS[1 : 1 + others]))
            for snr in (1.0, 7.0) for others in (0, 1, 3)
        ]
        return {"recipe": "iterative", "seed": seed, "rows": rows}

    result = forgetting_result(
        ForgettingSettings(seeds=(1, 2)), [cell(1, 0.5), cell(2, 0.7)], command="", data_sha256={}
    )
    losses = {row["others"]: row for row in result["losses"]}
    assert losses[1]["psnr_loss_db"] == pytest.approx(0.6)
    assert losses[3]["psnr_loss_per_seed"] == [1.5, 2.1]
    assert losses[1]["psnr_loss_spread"] == pytest.approx(0.1414, abs=1e-4)
    assert "attention loses +0.60 dB after 1" in result["verdict_text"][0]


def test_forgetting_budget_lets_the_last_user_be_forgotten_too():
    settings = ForgettingSettings(trial=TrialSettings(epoch_steps=10), rounds=3).budgeted()
    assert (settings.decoder_updates, settings.encoder_updates) == (40, 160)


def test_conflict_is_summed_up_by_pair_and_third():
    cells = [
        {"recipe": "simultaneous", "seed": seed,
         "rows": [{"step": step, "pair": "conv-vgg", "cosine": 0.9 - 0.3 * step} for step in range(6)]}
        for seed in (1, 2)
    ]
    result = conflict_result(ConflictSettings(seeds=(1, 2)), cells, command="", data_sha256={})
    (pair,) = result["pairs"]
    assert pair["first third"] == pytest.approx(0.75)
    assert pair["last third"] == pytest.approx(-0.45)
    assert pair["share_negative"] == pytest.approx(2 / 6, abs=1e-4)
    assert pair["measurements"] == 12
    assert "33.3% of 12 cosines are negative" in result["verdict_text"][0]


def _rate_cells(loss: float) -> list[dict]:
    def row(prefix: int, snr: float, psnr: float) -> dict:
        return _row("attention", snr, psnr) | {"prefix": prefix}

    multi = [row(k, snr, 20.0 + k + snr) for k in (2, 6) for snr in (1.0, 7.0)]
    single = [
        {"seed": 1, "prefix": k, "rows": [row(k, s, 20.0 + k + s + loss * k / 6) for s in (1.0, 7.0)]}
        for k in (2, 6)
    ]
    return [{"seed": 1, "prefix": None, "rows": multi}, *single]


@pytest.mark.parametrize(("loss", "within"), [(0.2, True), (0.4, False)])
def test_one_model_is_held_against_a_model_for_each_rate(loss, within):
    result = rate_result(RateSettings(), _rate_cells(loss), command="", data_sha256={})
    verdict = result["verdict"]
    assert verdict["within_allowed"] is within
    assert verdict["worst_difference_db"] == pytest.approx(-loss)
    assert verdict["worst_rate"] == "1/16"
    assert verdict["monotone"] == {"prefix": [], "snr": []}


def test_a_fall_with_a_longer_prefix_or_a_better_snr_is_found():
    falls = monotonicity({(2, 1.0): 20.0, (2, 7.0): 22.0, (6, 1.0): 19.5, (6, 7.0): 19.0})
    assert falls["prefix"] == [
        {"from": 2, "to": 6, "at": 1.0, "change_db": -0.5},
        {"from": 2, "to": 6, "at": 7.0, "change_db": -3.0},
    ]
    assert falls["snr"] == [{"from": 1.0, "to": 7.0, "at": 6, "change_db": -0.5}]


def test_published_lines_are_the_printed_ones():
    assert len(SEED_TABLE_III) == 12
    assert len(SEED_TABLE_IV) == 24
    assert all(len(line.values) == 5 for line in (*SEED_TABLE_III, *SEED_TABLE_IV, *KODAK_AWGN_1_16))
    attention = seed_mean_difference("psnr_db", "rayleigh", "attention", "iterative")
    assert attention == pytest.approx(0.627, abs=1e-3)
    assert seed_mean_difference("ms_ssim", "awgn", "vgg", "simultaneous") == pytest.approx(0.00778, abs=1e-5)
    with pytest.raises(KeyError):
        seed_mean_difference("psnr_db", "awgn", "conv", "iterative")


def test_published_quality_rises_with_snr():
    for line in (*SEED_TABLE_III, *SEED_TABLE_IV, *KODAK_AWGN_1_16):
        assert list(line.values) == sorted(line.values), line.name
