"""The anchor recipe: stage 2 leaves the encoder alone, and training is reproducible."""

import pytest
import torch

from codec_runtime.codecs.jscc import AttentionDecoder, ConvDecoder, JsccConfig, JsccEncoder
from codec_runtime.training.data import CropSampler, data_hash, list_images, load_image
from codec_runtime.training.recipe import TrainConfig, draw_conditions, fit

SMALL = JsccConfig(latent_channels=16, width=8, deep_width=8, refinements=0)


def _pictures(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, 40, 48), dtype=torch.uint8, generator=generator) for _ in range(count)]


def _train(steps: int, *, train_encoder: bool):
    torch.manual_seed(0)
    encoder, decoder = JsccEncoder(SMALL), ConvDecoder(SMALL)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    sampler = CropSampler(_pictures(4), crop=32, seed=3)
    config = TrainConfig(steps=steps, batch=2, crop=32)
    *_, (_, decoder_state) = fit(encoder, decoder, sampler, config, train_encoder=train_encoder)
    return before, encoder.state_dict(), decoder_state


def test_decoder_stage_changes_no_byte_of_the_encoder():
    before, after, _ = _train(3, train_encoder=False)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_anchor_stage_does_train_the_encoder():
    before, after, _ = _train(3, train_encoder=True)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_same_seed_gives_the_same_weights():
    *_, first = _train(4, train_encoder=False)
    *_, second = _train(4, train_encoder=False)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_loss_falls_on_a_single_repeated_picture():
    torch.manual_seed(0)
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), size=(32, 32), mode="bilinear")
    sampler = CropSampler([(picture[0] * 255).to(torch.uint8)], crop=32, seed=1)
    seen: list[float] = []
    config = TrainConfig(steps=40, batch=4, crop=32, learning_rate=3e-3, warmup_steps=1)
    for _ in fit(
        JsccEncoder(SMALL), AttentionDecoder(SMALL), sampler, config, train_encoder=True,
        on_step=lambda progress: seen.append(progress.psnr_db),
    ):
        pass
    assert seen[-1] > seen[0] + 1.0


def test_training_without_a_budget_is_refused():
    sampler = CropSampler(_pictures(1), crop=32, seed=1)
    with pytest.raises(ValueError, match="budget"):
        next(fit(JsccEncoder(SMALL), ConvDecoder(SMALL), sampler, TrainConfig(), train_encoder=True))


def test_conditions_stay_in_the_trained_range():
    snr, effective, prefix = draw_conditions(500, torch.Generator().manual_seed(1))
    assert snr.min() >= -4.0
    assert snr.max() <= 20.0
    assert effective.min() >= -12.0
    assert set(prefix.tolist()) <= set(range(2, 17))


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_images([tmp_path / "nowhere"])


def test_unreadable_picture_is_named(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        load_image(broken)


def test_data_hash_depends_on_the_content(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    first = data_hash([path])
    path.write_bytes(b"2")
    assert data_hash([path]) != first
