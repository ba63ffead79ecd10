"""From a training run to measured bundles with a model card."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from codec_runtime.bundle.store import bundle_directory, load_module, read_manifest
from codec_runtime.codecs.jscc import AttentionDecoder, ConvDecoder, JsccConfig, JsccEncoder
from codec_runtime.codecs.linear import fit_patch_pca
from codec_runtime.evaluation.command import evaluate_command
from codec_runtime.training import publish as publishing
from codec_runtime.training.codec import train_codec
from codec_runtime.training.recipe import TrainConfig

SMALL = JsccConfig(latent_channels=16, width=8, deep_width=8, refinements=0)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(1)
    for name in ("a", "b"):
        coarse = random.integers(0, 256, (21, 22, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((176, 168), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    pca = fit_patch_pca([torch.rand(3, 64, 64) for _ in range(8)], components=64)
    save_file(
        {"mean": pca.mean, "components": pca.components.contiguous(), "variances": pca.variances},
        folder / "pca.safetensors",
    )
    for name, module in (
        ("encoder", JsccEncoder(SMALL)), ("attention", AttentionDecoder(SMALL)), ("conv", ConvDecoder(SMALL)),
    ):
        module.start_from_pca(pca)
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / f"{name}.safetensors")
    record = {
        "model": SMALL.as_dict(), "train": {"seed": 7, "learning_rate": 1e-3}, "data_sha256": "ab" * 32,
        "folders": ["photos"], "pictures": 3, "anchor_minutes": 2.0, "decoder_minutes": 1.0, "initial": None,
        "stages": [{"stage": "anchor", "decoder": "attention", "steps": 12}],
    }
    (folder / "provenance.json").write_text(json.dumps(record))
    return folder


def test_published_bundles_are_measured_loadable_and_belong_together(tmp_path, pictures, run, monkeypatch):
    monkeypatch.setattr(publishing, "SURFACE_SNRS_DB", (1.0, 13.0))
    monkeypatch.setattr(publishing, "SURFACE_PREFIXES", (6, 16))
    monkeypatch.setattr(publishing, "CARD_SNRS_DB", (1.0, 13.0))
    out = tmp_path / "weights"
    publishing.publish(run, [pictures], out, 1)
    encoder = read_manifest(bundle_directory(out, "encoder", "anchor", 1))
    for name in ("attention", "conv"):
        manifest, _ = load_module(bundle_directory(out, "decoder", name, 1))
        assert manifest.encoder_sha256 == encoder.files[0].sha256
        cells = {(point.prefix, point.snr_db) for point in manifest.quality}
        assert cells == set(itertools.product((6, 16), (1.0, 13.0)))
        assert manifest.provenance["seed"] == "7"
        assert manifest.macs_per_pixel > 0
    card = (out / "README.md").read_text()
    assert "semcom train codec --images photos" in card
    assert "| linear |" in card
    assert "linear floor" in card
    assert "anchor (attention) 12" in card
    assert "### R = 1/16 (k = 6)" in card
    table = evaluate_command(
        folders=[pictures], channel="awgn", snrs="1,13", rates="1/16", decoder="all", seeds=1, weights=out
    )
    rows = json.loads(table.as_json())["rows"]
    assert {(row["decoder"], row["snr_db"]) for row in rows} == {
        ("attention", 1.0), ("attention", 13.0), ("conv", 1.0), ("conv", 13.0),
    }
    published = {(p.prefix, p.snr_db): p.psnr_db for p in manifest.quality}
    conv = [row["psnr_db"] for row in rows if row["decoder"] == "conv"]
    assert conv == pytest.approx([published[(6, 1.0)], published[(6, 13.0)]], abs=1e-3)


def test_training_command_resumes_at_its_stage_and_records_where_it_began(tmp_path, pictures):
    out = tmp_path / "first"
    config = TrainConfig(seed=1, crop=64, batch=2)
    train_codec([pictures], out, config, SMALL, anchor_minutes=0.02, decoder_minutes=0.02)
    before = (out / "encoder.safetensors").read_bytes()
    train_codec([pictures], out, config, SMALL, anchor_minutes=0.02, decoder_minutes=0.02)
    assert (out / "encoder.safetensors").read_bytes() == before
    second = tmp_path / "second"
    train_codec([pictures], second, config, SMALL, anchor_minutes=0.01, decoder_minutes=0.01, initial=out)
    record = json.loads((second / "provenance.json").read_text())
    assert record["initial"]["data_sha256"] == record["data_sha256"]
    assert "--initial first" in publishing._command(record)
