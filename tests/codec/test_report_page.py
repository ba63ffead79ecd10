"""Plots, tables and the page from made-up measurements: what is shown, what is left out."""

import base64
import json
import re

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from codec_runtime.evaluation import plots
from codec_runtime.evaluation.comparison import busiest_square, compare, separate_scheme, spread_out
from codec_runtime.evaluation.report import build_report, experiment_figures, quality_figures
from codec_runtime.experiments.page import gather
from codec_runtime.experiments.tables import fill, quality_table, table
from xapp.cli import app

SNRS = (1.0, 7.0, 13.0)


def _row(decoder: str, snr: float, rate: str = "1/16", **more) -> dict:
    return {
        "decoder": decoder, "tier": "medium", "channel": "awgn", "rate": rate, "snr_db": snr,
        "psnr_db": 25.0 + 0.1 * snr, "psnr_spread": 2.0, "ms_ssim": 0.9, "images": 24, "seeds": 1,
        "macs_per_pixel": 900.0, **more,
    }


ROWS = [
    _row(name, snr, rate, **more)
    for rate in ("1/16", "1/6") for snr in SNRS
    for name, more in (
        ("attention", {}), ("conv", {"tier": "small"}),
        ("jpeg+ldpc", {"tier": "baseline", "ms_ssim": None, "macs_per_pixel": None}),
    )
]
SCHEMES = {
    "experiment": "schemes", "command": "semcom experiment schemes", "seeds": [1, 2],
    "rows": [
        _row("conv", snr) | {"recipe": recipe, "psnr_seed_spread": 0.1, "ms_ssim_seed_spread": None}
        for recipe in ("anchor", "iterative") for snr in SNRS
    ],
    "verdict": {"awgn": {"decoders": {"conv": {"against": {"iterative": {
        "psnr_db": {"mean": -0.25, "spread": 0.1, "per_seed": [-0.2, -0.3], "seeds_above": 0},
        "ms_ssim": {"mean": -0.002, "spread": 0.001, "per_seed": [-0.001, -0.003], "seeds_above": 0},
        "seed_paper": {"psnr_db": None, "ms_ssim": 0.0063},
    }}}}}},
    "verdict_text": ["awgn: the claim does not hold <here>"],
}
FORGETTING = {
    "experiment": "forgetting", "command": "semcom experiment forgetting", "seeds": [1],
    "rows": [
        _row("attention", snr) | {"recipe": "iterative", "others": others,
                                  "trained_since": ["conv", "resnet", "vgg"][:others]}
        for others in (0, 1, 3) for snr in SNRS
    ],
    "losses": [
        {"recipe": "iterative", "decoder": "attention", "others": others, "psnr_loss_db": 0.5 * others,
         "psnr_loss_spread": None, "ms_ssim_loss": 0.01} for others in (1, 3)
    ],
}
CONFLICT = {
    "experiment": "conflict", "command": "semcom experiment conflict", "seeds": [1],
    "rows": [
        {"recipe": "simultaneous", "pair": "conv-vgg", "step": step, "cosine": -0.1} for step in (0, 20)
    ],
    "pairs": [{"recipe": "simultaneous", "pair": "conv-vgg", "first third": None, "middle third": -0.1,
               "last third": -0.1, "share_negative": 1.0}],
}
RATES = {
    "experiment": "rates", "command": "semcom experiment rates", "seeds": [1],
    "rows": [
        {"decoder": "attention", "channel": "awgn", "rate": rate, "snr_db": snr, "multi_psnr_db": 25.0,
         "single_psnr_db": 25.2, "difference_db": -0.2, "images": 24}
        for rate in ("1/16", "1/6") for snr in SNRS
    ],
}
RESULTS = {"schemes": SCHEMES, "forgetting": FORGETTING, "conflict": CONFLICT, "rates": RATES}


class _Encoder(torch.nn.Module):
    def forward(self, images, snr_db, prefix):
        return torch.nn.functional.avg_pool2d(images, 4)


class _Decoder(torch.nn.Module):
    def forward(self, received, snr_db, prefix):
        return torch.nn.functional.interpolate(received[:, :3], scale_factor=4.0)


@pytest.fixture(scope="module")
def drawn():
    return quality_figures(ROWS)


@pytest.fixture(scope="module")
def comparison():
    image = torch.zeros(3, 192, 256, dtype=torch.uint8)
    image[:, 96:, 160:] = torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8)
    schemes = {"jpeg+ldpc": separate_scheme("jpeg")}
    return compare("kodim01", image, _Encoder(), {"conv": _Decoder()}, schemes, snr_db=7.0, prefix=6, side=64)


def _labels(figure) -> list[str]:
    return [text for axes in figure.axes for text in axes.get_legend_handles_labels()[1]]


def test_every_measurement_is_drawn(drawn):
    assert set(drawn) == {
        "quality-awgn-1-16", "quality-awgn-1-6", "cost-awgn-1-16", "cost-awgn-1-6", "surface-awgn",
    }
    of_results = [set(experiment_figures(name, result)) for name, result in RESULTS.items()]
    assert of_results == [
        {"schemes-psnr", "schemes-ms-ssim"}, {"forgetting-bars", "forgetting-psnr", "forgetting-ms-ssim"},
        {"conflict-simultaneous"}, {"rates"},
    ]


def test_published_lines_stand_only_beside_their_own_rate_and_channel(drawn):
    assert "SwinJSCC (published)" in _labels(drawn["quality-awgn-1-16"])
    assert not any("published" in label for label in _labels(drawn["quality-awgn-1-6"]))


def test_lines_are_named_by_decoder_and_tier(drawn):
    assert {"attention", "conv (small)", "jpeg+ldpc"} <= set(_labels(drawn["quality-awgn-1-16"]))


def test_a_decoder_that_is_named_by_its_tier_is_not_named_by_it_twice():
    assert plots.line_name({"decoder": "conv-small", "tier": "small"}) == "conv (small)"
    assert plots.line_name({"decoder": "conv", "tier": "medium"}) == "conv"
    assert plots.line_name({"decoder": "jpeg+ldpc", "tier": "baseline"}) == "jpeg+ldpc"


def test_equal_figures_are_equal_bytes():
    def draw() -> bytes:
        return plots.png(plots.rate_comparison(RATES))

    first = draw()
    assert first.startswith(b"\x89PNG")
    assert first == draw()


def test_a_plot_of_nothing_is_refused():
    with pytest.raises(ValueError, match="tdl-a"):
        plots.quality_over_snr(ROWS, channel="tdl-a", rate="1/16")
    with pytest.raises(ValueError, match="two rates"):
        plots.quality_over_rate(plots.select(ROWS, rate="1/6"), channel="awgn", snr_db=7.0)


def test_page_needs_nothing_else_and_holds_every_plot_and_crop(drawn, comparison):
    shown = {name: drawn[name] for name in ("quality-awgn-1-16", "surface-awgn")}
    experiments = {"rates": experiment_figures("rates", RATES)}
    page = build_report(ROWS, RESULTS, [comparison], quality=shown, experiments=experiments)
    assert not re.search(r'(src|href)="(?!data:)', page)
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(sources) == 2 + 1 + 3  # plots,  original, conv, jpeg+ldpc
    assert all(base64.b64decode(source).startswith(b"\x89PNG") for source in sources)
    assert "claim does not hold &lt;here&gt;" in page


def test_page_leaves_out_what_was_not_measured():
    page = build_report([], {"conflict": CONFLICT}, [], quality={}, experiments={})
    assert "Quality over SNR" not in page
    assert "same crop" not in page
    assert "Experiment: conflict" in page


def test_crops_are_of_the_busiest_square_and_show_quality(comparison):
    original, conv, jpeg = comparison.crops
    assert original.psnr_db is None
    assert 10.0 < conv.psnr_db < 60.0
    assert 0.0 < jpeg.ms_ssim <= 1.0
    image = torch.zeros(3, 200, 200, dtype=torch.uint8)
    image[:, 128:160, 64:96] = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    assert busiest_square(image, 32) == (128, 64)
    assert busiest_square(image, 400) == (0, 0)


def test_pictures_shown_are_spread_over_the_folder():
    names = [str(index) for index in range(24)]
    assert spread_out(names, 3) == [4, 12, 20]
    assert spread_out(names[:2], 3) == [0, 1]


def test_tables_go_into_their_places_and_others_stay():
    document = "a\n<!-- table rates -->\nold\n<!-- end -->\nb\n<!-- table absent -->\n<!-- end -->\n"
    once = fill(document, RESULTS)
    assert "25.00 / 25.20 (-0.20)" in once
    assert "old" not in once
    assert once.endswith("b\n<!-- table absent -->\n<!-- end -->\n")
    assert fill(once, RESULTS) == once


def test_tables_name_their_command_and_seeds():
    for result in RESULTS.values():
        assert f"Made by `{result['command']}`" in table(result)
    text = table(SCHEMES)
    assert "Seeds: 1, 2." in text
    assert "| conv | iterative | -0.25 ± 0.10 | -0.0020 ± 0.0010 | 0 of 2 | +0.0063 |" in text
    assert "+0.50 / +0.0100 | +1.50 / +0.0100" in table(FORGETTING)


def test_a_baseline_without_ms_ssim_shows_psnr_alone():
    lines = quality_table({"rows": ROWS})
    assert "| jpeg+ldpc | 25.10 | 25.70 | 26.30 |" in lines
    assert "| conv (small) | 25.10 / 0.9000 | 25.70 / 0.9000 | 26.30 / 0.9000 |" in lines


def test_a_result_of_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="adapter-nothing"):
        table({"experiment": "adapter-nothing", "rows": []})


def test_files_of_other_experiments_are_passed_over(tmp_path):
    (tmp_path / "adapter_noise.json").write_text(json.dumps({"rsum": {}}))
    (tmp_path / "bench.json").write_text(json.dumps({"rows": [{"ms": 1.0}]}))
    (tmp_path / "quality.json").write_text(json.dumps({"command": "semcom eval codec", "rows": ROWS}))
    (tmp_path / "rates.json").write_text(json.dumps(RATES))
    rows, experiments, tables = gather((), tmp_path)
    assert len(rows) == len(ROWS)
    assert set(experiments) == {"rates"}
    assert set(tables) == {"quality", "rates"}


def test_report_command_writes_page_plots_and_tables(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "rates.json").write_text(json.dumps(RATES))
    document = tmp_path / "codec.md"
    document.write_text("<!-- table rates -->\n<!-- end -->\n")
    out = tmp_path / "report.html"
    result = CliRunner().invoke(
        app, ["experiment", "report", "--results", str(results), "--figures", str(tmp_path / "images"),
              "--document", str(document), "--out", str(out)],
    )
    assert result.exit_code == 0, result.output
    assert out.read_text().startswith("<!doctype html>")
    assert (tmp_path / "images" / "codec-rates.png").is_file()
    assert "(-0.20)" in document.read_text()


@pytest.mark.parametrize(("text", "told"), [("{", "not JSON"), ('{"rows": []}', "holds no rows")])
def test_report_of_a_file_without_rows_is_refused(text, told, tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(text)
    result = CliRunner().invoke(
        app, ["experiment", "report", "--results", str(tmp_path), "--rows", str(file)]
    )
    assert result.exit_code == 2
    assert told in result.output


def test_report_of_nothing_says_what_to_give(tmp_path):
    result = CliRunner().invoke(app, ["experiment", "report", "--results", str(tmp_path)])
    assert result.exit_code == 2
    assert "--rows" in result.output


@pytest.mark.slow
def test_shipped_codec_sends_pictures_into_the_page(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.effect_mandelbrot((200, 176), (-2, -1.2, 1, 1.2), 40).convert("RGB").save(folder / "set.png")
    (tmp_path / "quality.json").write_text(json.dumps({"rows": ROWS}))
    out = tmp_path / "report.html"
    result = CliRunner().invoke(
        app, ["experiment", "report", "--results", str(tmp_path), "--images", str(folder), "--out", str(out),
              "--snr", "7"],
    )
    assert result.exit_code == 0, result.output
    for scheme in ("original", "attention", "jpeg+ldpc", "heic+ldpc"):
        assert f'alt="{scheme}"' in out.read_text()
