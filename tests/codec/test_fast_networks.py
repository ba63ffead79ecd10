"""Shapes, prefixes, the PCA start and the decoders' independence of what was not sent."""

import pytest
import torch

from codec_runtime.codecs.fast import FastAttentionDecoder, FastConfig, FastEncoder
from codec_runtime.codecs.gdn import GDN
from codec_runtime.codecs.linear import LinearCodec, fit_patch_pca, water_filling_gains
from codec_runtime.codecs.padding import pad_to_multiple
from codec_runtime.codecs.registry import FAMILIES, build_decoder
from codec_runtime.evaluation.metrics import psnr_db, to_uint8

SMALL = FastConfig(latent_channels=8, width=8, blocks=1)


def _smooth_picture(seed: int, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, side // 8, side // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("kind", sorted(FAMILIES["fast"].decoders))
@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_decoder_restores_the_shape_of_any_padded_picture(kind, size):
    images = torch.rand(2, 3, *size)
    snr, prefix = torch.tensor([1.0, 13.0]), torch.tensor([2, 8])
    sent = FastEncoder(SMALL)(images, snr, prefix)
    assert sent.shape == (2, 8, size[0] // 4, size[1] // 4)
    assert build_decoder("fast", kind, SMALL)(sent, snr, prefix).shape == images.shape


GROWN = FastConfig(latent_channels=8, width=8, blocks=3, film_hidden=4, coarse_width=12, coarse_blocks=1)


@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_film_and_the_coarse_branch_start_as_the_identity_at_odd_sides_too(size):
    torch.manual_seed(0)
    plain, grown = FastEncoder(FastConfig(latent_channels=8, width=8, blocks=3)), FastEncoder(GROWN)
    missing, unexpected = grown.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert any("film" in name for name in missing)
    assert any("coarse" in name for name in missing)
    torch.nn.init.normal_(plain.head.weight)
    grown.head.load_state_dict(plain.head.state_dict())
    images, snr, prefix = torch.rand(2, 3, *size), torch.tensor([1.0, 13.0]), torch.tensor([2, 8])
    assert torch.equal(grown(images, snr, prefix), plain(images, snr, prefix))


def test_film_makes_the_same_picture_a_different_code_at_another_snr():
    encoder = FastEncoder(GROWN)
    torch.nn.init.normal_(encoder.head.weight)
    for block in encoder.stages[1:]:
        torch.nn.init.normal_(block.film.fc2.weight)
        torch.nn.init.zeros_(block.gate.fc1.weight)  # the gate's share of the conditioning
    image, prefix = torch.rand(1, 3, 32, 32), torch.tensor([8])
    low, high = (encoder(image, torch.tensor([snr]), prefix) for snr in (0.0, 15.0))
    assert (low - high).abs().max() > 1e-3


def test_padding_records_the_original_size():
    padded, size = pad_to_multiple(torch.rand(1, 3, 321, 481))
    assert padded.shape[2:] == (328, 488)
    assert size == (321, 481)


def test_shorter_prefix_zeroes_the_less_important_channels():
    encoder = FastEncoder(SMALL)
    sent = encoder(torch.rand(1, 3, 32, 32), torch.tensor([7.0]), torch.tensor([3]))
    assert torch.count_nonzero(sent[:, 3:]) == 0
    assert torch.count_nonzero(sent[:, :3]) > 0


def test_training_starts_at_the_linear_codec_and_quality_rises_with_the_prefix():
    torch.manual_seed(0)
    pictures = [_smooth_picture(seed)[0] for seed in range(20)]
    pca = fit_patch_pca(pictures, components=4 * SMALL.latent_channels)
    encoder, decoder = FastEncoder(SMALL), FastAttentionDecoder(SMALL)
    encoder.start_from_pca(pca)
    decoder.start_from_pca(pca)
    picture = _smooth_picture(99)
    snr = torch.tensor([40.0])
    quality = []
    for prefix in (1, 2, 4, 8):
        count = torch.tensor([prefix])
        with torch.no_grad():
            latent = encoder.analyse(picture, snr, count)
            # The power scale of one image is unknown to the decoder; compare without it.
            latent[:, prefix:] = 0
            restored = decoder(latent / 2.0**0.5, snr, count)
        quality.append(psnr_db(to_uint8(restored), to_uint8(picture)).item())
    assert quality == sorted(quality)
    assert quality[-1] > 30.0


def test_water_filling_is_no_worse_than_equal_amplitudes():
    pictures = [_smooth_picture(seed)[0] for seed in range(20)]
    pca = fit_patch_pca(pictures, components=16)
    picture = _smooth_picture(77)
    optimal = LinearCodec(pca, 4).transmit(picture, 10.0, torch.Generator().manual_seed(1))
    gains = water_filling_gains(pca.variances[:16], 0.1)
    assert (gains.square() * pca.variances[:16]).mean().item() == pytest.approx(1.0, rel=1e-3)
    assert psnr_db(to_uint8(optimal), to_uint8(picture)).item() > 20.0


def test_gdn_then_inverse_gdn_keeps_sign_and_finite_values():
    x = torch.randn(2, 8, 4, 4)
    y = GDN(8, inverse=True)(GDN(8)(x))
    assert torch.isfinite(y).all()
    assert torch.equal(torch.sign(y), torch.sign(x))


def test_gdn_parameters_stay_admissible_after_a_wild_step():
    gdn = GDN(4)
    with torch.no_grad():
        gdn.beta.fill_(-5.0)
        gdn.gamma.fill_(-5.0)
    assert torch.isfinite(gdn(torch.randn(1, 4, 3, 3))).all()
