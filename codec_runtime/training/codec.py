"""`semcom train codec`: anchor stage, then each further decoder against the frozen encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from codec_runtime.codecs.jscc import AttentionDecoder, ConvDecoder, JsccConfig, JsccEncoder
from codec_runtime.codecs.linear import fit_patch_pca
from codec_runtime.training.data import CropSampler, data_hash, list_images, load_image
from codec_runtime.training.recipe import Progress, TrainConfig, fit


def train_codec(
    folders: Sequence[Path],
    out: Path,
    config: TrainConfig,
    model: JsccConfig,
    *,
    anchor_minutes: float,
    decoder_minutes: float,
    initial: Path | None = None,
) -> None:
    """Train encoder + attention decoder, freeze the encoder, train the convolutional decoder.

    Writes ``encoder.safetensors``, ``attention.safetensors``, ``conv.safetensors`` (fp32, EMA weights),
    ``pca.safetensors`` and ``provenance.json`` (config, seed, data hash, command) into ``out``. A stage
    whose weights are complete in ``out`` is skipped, so an interrupted run resumes at its stage.

    Args:
        initial: folder of an earlier run to continue from in place of the PCA start; its provenance is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    paths = list_images(folders)
    images = [load_image(path) for path in tqdm(paths, desc="pictures", unit="img")]
    pca = fit_patch_pca(
        [image.float() / 255.0 for image in images], components=4 * model.latent_channels
    )
    save_file(
        {"mean": pca.mean, "components": pca.components.contiguous(), "variances": pca.variances},
        out / "pca.safetensors",
    )
    sampler = CropSampler(images, config.crop, config.seed)
    encoder, attention, conv = JsccEncoder(model), AttentionDecoder(model), ConvDecoder(model)
    for module in (encoder, attention, conv):
        module.start_from_pca(pca)
    earlier: dict[str, object] | None = None
    if initial is not None:
        earlier = json.loads((initial / "provenance.json").read_text())
        for name, module in (("encoder", encoder), ("attention", attention), ("conv", conv)):
            weights = initial / f"{name}.safetensors"
            if weights.exists():
                module.load_state_dict(load_file(weights))
    stages_done: list[dict[str, str | int]] = []
    record = {
        "train": asdict(config),
        "model": model.as_dict(),
        "pictures": len(paths),
        "data_sha256": data_hash(paths),
        "folders": [folder.name for folder in folders],
        "anchor_minutes": anchor_minutes,
        "decoder_minutes": decoder_minutes,
        "stages": stages_done,
        "initial": earlier,
    }
    stages = (
        ("anchor", attention, "attention", True, anchor_minutes),
        ("decoder", conv, "conv", False, decoder_minutes),
    )
    for stage, decoder, name, train_encoder, minutes in stages:
        done = out / f"{name}.safetensors"
        if done.exists():
            encoder.load_state_dict(load_file(out / "encoder.safetensors"))
            decoder.load_state_dict(load_file(done))
            continue
        if not train_encoder and not (initial is not None and (initial / done.name).exists()):
            # The encoder has left the PCA start; its own decoder's bypass reads it better than that does.
            decoder.bypass.load_state_dict(attention.bypass.state_dict())
        partial = out / f"{name}.partial.safetensors"
        with tqdm(total=100, desc=f"{stage} ({name})", unit="%") as bar:

            steps = 0

            def show(progress: Progress, bar: tqdm = bar) -> None:
                nonlocal steps
                steps = progress.step
                bar.n = round(100 * progress.fraction, 1)
                bar.set_postfix_str(f"step {progress.step} PSNR {progress.psnr_db:.2f} dB")

            last = None
            for encoder_state, decoder_state in fit(
                encoder, decoder, sampler, replace(config, minutes=minutes),
                train_encoder=train_encoder, on_step=show,
            ):
                last = (encoder_state, decoder_state)
                if train_encoder:
                    save_file(encoder_state, out / "encoder.partial.safetensors")
                save_file(decoder_state, partial)
        assert last is not None
        decoder.load_state_dict(last[1])
        if train_encoder:
            encoder.load_state_dict(last[0])
            save_file(last[0], out / "encoder.safetensors")
        save_file(last[1], done)
        partial.unlink(missing_ok=True)
        stages_done.append({"stage": stage, "decoder": name, "steps": steps})
        (out / "provenance.json").write_text(json.dumps(record, indent=2))
    (out / "encoder.partial.safetensors").unlink(missing_ok=True)
