"""The fast family's decoders start at the linear codec, see all of their inputs and learn."""

import pytest
import torch
from torch.nn import functional as F

from codec_runtime.codecs.fast import FastConfig
from codec_runtime.codecs.linear import PATCH, fit_patch_pca
from codec_runtime.codecs.registry import KINDS, TIERS, build_decoder, build_encoder

TINY = FastConfig(latent_channels=4, width=8, blocks=1)
SNR, PREFIX = torch.tensor([3.0, 9.0]), torch.tensor([2, 4])


def _pictures(count, seed=5, side=32):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=generator)
    return F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def _pair(kind, tier="medium"):
    torch.manual_seed(0)
    pca = fit_patch_pca(list(_pictures(12)), components=16)
    encoder, decoder = build_encoder("fast", TINY), build_decoder("fast", kind, TINY, tier)
    encoder.start_from_pca(pca)
    decoder.start_from_pca(pca)
    return encoder, decoder, pca


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", KINDS)
def test_decoder_starts_at_the_linear_codec(kind, tier):
    encoder, decoder, _ = _pair(kind, tier)
    with torch.no_grad():
        sent = encoder(_pictures(2, seed=6), SNR, PREFIX)
        linear = decoder.bypass.map(F.pixel_unshuffle(sent, 2))
        assert torch.allclose(decoder(sent, SNR, PREFIX), F.pixel_shuffle(linear, PATCH), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_network_beside_the_bypass_sees_latent_snr_and_rate(kind):
    _, decoder, _ = _pair(kind)
    torch.nn.init.normal_(decoder.tail.weight, std=0.1)
    decoder.eval()
    received = torch.randn(1, 4, 8, 8)
    seen = []
    changes = ((received, 3.0, 2), (received, 9.0, 2), (received, 3.0, 4), (-received, 3.0, 2))
    for latent, snr, prefix in changes:
        with torch.no_grad():
            restored = decoder(latent, torch.tensor([snr]), torch.tensor([prefix]))
            linear = decoder.bypass.map(F.pixel_unshuffle(latent, 2))
        seen.append(restored - F.pixel_shuffle(linear, PATCH))
    assert all(not torch.allclose(seen[0], other, atol=1e-6) for other in seen[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_training_improves_on_the_linear_codec(kind):
    encoder, decoder, _ = _pair(kind)
    pictures, snr, prefix = _pictures(4, seed=6), torch.full((4,), 10.0), torch.tensor([1, 2, 3, 4])
    with torch.no_grad():
        sent = encoder(pictures, snr, prefix)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        loss = F.mse_loss(decoder(sent, snr, prefix), pictures)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters() if parameter.dim() > 1)
