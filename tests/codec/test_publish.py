"""From a training run to measured bundles with a model card."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from codec_runtime.bundle.store import bundle_directory, load_module, read_manifest
from codec_runtime.codecs.linear import fit_patch_pca
from codec_runtime.codecs.registry import FAMILIES, build_decoder, build_encoder
from codec_runtime.evaluation.baselines import PCA_FILE, load_pca
from codec_runtime.evaluation.command import EvaluationRequest, evaluate_command, load_codec
from codec_runtime.training import model_card
from codec_runtime.training import publish as publishing
from codec_runtime.training.model_card import command_of, steps_of
from xapp.policy.surface import QualitySurface

FAST = FAMILIES["fast"].config(width=8, blocks=2)
RECORD = {
    "recipe": "anchor", "family": "fast", "model": FAST.as_dict(),
    "networks": {
        "encoder": {"architecture": "jscc-fast-encoder", "hyperparameters": FAST.as_dict()},
        "attention": {"architecture": "jscc-fast-attention", "hyperparameters": FAST.as_dict()},
        "conv-small": {
            "architecture": "jscc-fast-conv",
            "hyperparameters": build_decoder("fast", "conv", FAST, "small").config.as_dict(),
        },
    },
    "train": {"seed": 7}, "data_sha256": "ab" * 32, "folders": ["photos"], "pictures": 3, "initial": None,
    "command": "semcom train codec --images photos --steps 12",
    "stages": [{"stage": "anchor", "decoder": "attention", "steps": 12}], "finished": True,
}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(1)
    for name in ("a", "b"):
        coarse = random.integers(0, 256, (21, 22, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((176, 168), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


def _write_run(folder, record, networks):
    folder.mkdir()
    torch.manual_seed(0)
    pca = fit_patch_pca([torch.rand(3, 64, 64) for _ in range(8)], components=64)
    save_file(
        {"mean": pca.mean, "components": pca.components.contiguous(), "variances": pca.variances},
        folder / "pca.safetensors",
    )
    for name, module in networks.items():
        module.start_from_pca(pca)
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / f"{name}.safetensors")
    (folder / "provenance.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def run(tmp_path):
    networks = {
        "encoder": build_encoder("fast", FAST),
        "attention": build_decoder("fast", "attention", FAST),
        "conv-small": build_decoder("fast", "conv", FAST, "small"),
    }
    return _write_run(tmp_path / "run", RECORD, networks)


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(publishing, "SURFACE_SNRS_DB", (1.0, 13.0))
    monkeypatch.setattr(publishing, "SURFACE_PREFIXES", (6,))
    monkeypatch.setattr(publishing, "CARD_SNRS_DB", (1.0, 13.0))
    monkeypatch.setattr(model_card, "CARD_SNRS_DB", (1.0, 13.0))
    monkeypatch.setattr(publishing, "FADING_SNRS_DB", (7.0,))
    monkeypatch.setattr(publishing, "FADING_PREFIXES", (6,))
    monkeypatch.setattr(publishing, "FADING_SEEDS", 2)


def test_published_bundles_are_measured_loadable_and_belong_together(tmp_path, pictures, run, small_grid):
    out = tmp_path / "weights"
    publishing.publish([run], [pictures], out, 1)
    encoder = read_manifest(bundle_directory(out, "encoder", "anchor", 1))
    for name, tier in (("attention", "medium"), ("conv-small", "small")):
        manifest, module = load_module(bundle_directory(out, "decoder", name, 1))
        assert manifest.encoder_sha256 == encoder.files[0].sha256
        assert module.config.tier == manifest.hyperparameters["tier"] == tier
        cells = {(point.channel, point.prefix, point.snr_db) for point in manifest.quality}
        assert cells == {
            *itertools.product(("awgn",), (6,), (1.0, 13.0)), ("rayleigh_slow_eq", 6, 7.0),
        }
        assert all(point.psnr_spread_db > 0 for point in manifest.quality)
        assert QualitySurface.from_manifest(manifest).snr_db.tolist() == [1.0, 13.0]  # policies read AWGN
        assert manifest.provenance["seed"] == "7"
        assert manifest.macs_per_pixel > 0
    table = evaluate_command(EvaluationRequest(
        [pictures], snrs="1,13", decoder="conv-small", seeds=1, baselines="linear", weights=out
    ))
    rows = {(row["decoder"], row["snr_db"]): row for row in json.loads(table.as_json())["rows"]}
    published = {(p.channel, p.prefix, p.snr_db): p.psnr_db for p in manifest.quality}
    for snr in (1.0, 13.0):
        row = rows["conv-small", snr]
        assert row["psnr_db"] == pytest.approx(published["awgn", 6, snr], abs=1e-3)
        assert row["tier"] == "small"
        assert row["macs_per_pixel"] == pytest.approx(manifest.macs_per_pixel, rel=0.02)
        assert row["ms_per_image"] > 0
    assert rows["linear", 13.0]["psnr_db"] > rows["linear", 1.0]["psnr_db"]
    assert load_pca(out / PCA_FILE).components.shape == (192, 64)
    assert len(table.as_text().splitlines()) == 1 + len(rows) + 1
    card = (out / "README.md").read_text()
    for said in (
        RECORD["command"], "| linear |", "| jpeg+ldpc |", "linear floor", "anchor (attention) 12",
        "### R = 1/16 (k = 6)", "| decoder/conv-small/1 | jscc-fast-conv | small |", "Rayleigh",
    ):
        assert said in card


def _bytes_below(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _run_of(tmp_path, name, trained_in, decoder):
    """A run like ``trained_in``, with the same encoder, that trained ``decoder`` alone."""
    described = {"architecture": decoder.architecture, "hyperparameters": decoder.config.as_dict()}
    record = {
        **RECORD, "networks": {"encoder": RECORD["networks"]["encoder"], name: described},
        "command": f"semcom train codec --decoders {name}", "initial": RECORD,
    }
    folder = _write_run(tmp_path / f"run-{name}", record, {name: decoder})
    shutil.copy(trained_in / "encoder.safetensors", folder)
    return folder


def test_a_decoder_trained_later_is_added_and_what_is_published_stays(
    tmp_path, pictures, run, small_grid, monkeypatch
):
    out = tmp_path / "weights"
    publishing.publish([run], [pictures], out, 1)
    before = _bytes_below(out)
    resnet = _run_of(tmp_path, "resnet", run, build_decoder("fast", "resnet", FAST))
    vgg = _run_of(tmp_path, "vgg", run, build_decoder("fast", "vgg", FAST))
    measured = []
    surface = publishing._surface
    monkeypatch.setattr(
        publishing, "_surface", lambda *args: measured.append(sorted(args[1])) or surface(*args)
    )
    publishing.publish([resnet, vgg, run], [pictures], out, 2)
    after = _bytes_below(out)
    assert measured == [["resnet", "vgg"]]
    assert {path for path in after if path not in before} == {
        Path("decoder", name, "2", file)
        for name in ("resnet", "vgg") for file in ("manifest.msgpack", "weights.safetensors")
    }
    assert {path for path in before if before[path] != after[path]} == {Path("README.md")}
    assert sorted(load_codec(out)[1]) == ["attention", "conv-small", "resnet", "vgg"]
    card = after[Path("README.md")].decode()
    for said in (
        "| decoder/attention/1 |", "| decoder/vgg/2 |", "| resnet |", RECORD["command"],
        "Command after the first: `semcom train codec --decoders resnet`",
        "encoder/anchor/1, decoder/attention/1, decoder/conv-small/1: photos",
    ):
        assert said in card


def test_other_weights_under_a_published_version_or_of_another_encoder_are_refused(
    tmp_path, pictures, run, small_grid
):
    out = tmp_path / "weights"
    publishing.publish([run], [pictures], out, 1)
    before = _bytes_below(out)
    state = build_decoder("fast", "attention", FAST).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, run / "attention.safetensors")
    with pytest.raises(ValueError, match=r"decoder/attention/1 is published .* choose another --version"):
        publishing.publish([run], [pictures], out, 1)
    other = _run_of(tmp_path, "resnet", run, build_decoder("fast", "resnet", FAST))
    state = build_encoder("fast", FAST).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, other / "encoder.safetensors")
    with pytest.raises(ValueError, match="run-resnet is of another encoder"):
        publishing.publish([run, other], [pictures], out, 2)
    again = _run_of(tmp_path, "attention", run, build_decoder("fast", "attention", FAST))
    save_file(
        {k: v.contiguous() + 0.25 for k, v in build_decoder("fast", "attention", FAST).state_dict().items()},
        again / "attention.safetensors",
    )
    with pytest.raises(ValueError, match="two runs train the decoder attention"):
        publishing.publish([run, again], [pictures], out, 2)
    assert _bytes_below(out) == before


def test_unfinished_or_unknown_runs_are_refused_before_anything_is_written(tmp_path, pictures, run):
    (run / "conv-small.safetensors").rename(run / "conv-small.partial.safetensors")
    with pytest.raises(FileNotFoundError, match="conv-small"):
        publishing.publish([run], [pictures], tmp_path / "weights", 1)
    (run / "provenance.json").write_text(json.dumps({**RECORD, "finished": False}))
    with pytest.raises(FileNotFoundError, match="not finished"):
        publishing.publish([run], [pictures], tmp_path / "weights", 1)
    (run / "provenance.json").write_text(json.dumps({**RECORD, "networks": {}}))
    with pytest.raises(ValueError, match="names no encoder"):
        publishing.publish([run], [pictures], tmp_path / "weights", 1)
    assert not (tmp_path / "weights").exists()


def test_command_and_steps_of_a_continued_run_name_both_parts():
    continued = {**RECORD, "command": "semcom train codec --initial first", "initial": RECORD}
    assert command_of(continued) == f"{RECORD['command']}; then semcom train codec --initial first"
    assert steps_of(continued) == "anchor (attention) 12, then anchor (attention) 12"
    assert command_of(RECORD) == RECORD["command"]
