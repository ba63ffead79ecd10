"""The seed's reference networks: the table's shapes and cost, truncation, range, and that they learn."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from codec_runtime.codecs.anchor_encoder import AnchorConfig, AnchorEncoder
from codec_runtime.codecs.conditioning import SnrAttention, SnrGate
from codec_runtime.codecs.cost import macs
from codec_runtime.codecs.padding import pad_to_multiple
from codec_runtime.codecs.registry import KINDS, build_decoder

TINY = AnchorConfig(latent_channels=6, width=8, attention_hidden=4)
SNR, PREFIX = torch.tensor([1.0, 13.0]), torch.tensor([2, 6])


def _decoder(kind, config=TINY):
    torch.manual_seed(1)
    return build_decoder("anchor", kind, config)


def _encoder(config=TINY):
    torch.manual_seed(0)
    return AnchorEncoder(config)


def _pictures(count=2, height=32, width=32, seed=5):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=generator)
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(
    ("size", "latent"), [((64, 48), (16, 12)), ((33, 47), (10, 12)), ((8, 8), (2, 2)), ((1, 25), (2, 8))]
)
def test_picture_of_any_size_comes_back_after_padding_and_cropping(size, latent):
    padded, (height, width) = pad_to_multiple(torch.rand(2, 3, *size))
    sent = _encoder()(padded, SNR, PREFIX)
    assert sent.shape == (2, 6, *latent)
    for kind in KINDS:
        restored = _decoder(kind)(sent, SNR, PREFIX)
        assert restored.shape == padded.shape
        assert restored[:, :, :height, :width].shape[2:] == size


def test_encoder_sends_unit_power_on_the_prefix_and_nothing_beyond():
    sent = _encoder()(_pictures(), SNR, PREFIX)
    for image, prefix in zip(sent, PREFIX.tolist(), strict=True):
        assert torch.count_nonzero(image[prefix:]) == 0
        assert image[:prefix].square().mean().item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_beyond_the_prefix_do_not_influence_the_picture(kind):
    decoder = _decoder(kind).eval()
    received = torch.randn(2, 6, 8, 8)
    changed = received.clone()
    changed[0, 2:] = 1e3 * torch.randn(4, 8, 8)
    with torch.no_grad():
        assert torch.equal(decoder(received, SNR, PREFIX), decoder(changed, SNR, PREFIX))
        changed[0, 1] += 1.0
        assert not torch.equal(decoder(received, SNR, PREFIX)[0], decoder(changed, SNR, PREFIX)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_output_is_a_picture_in_the_unit_range_however_strong_the_input(kind):
    with torch.no_grad():
        restored = _decoder(kind)(100.0 * torch.randn(2, 6, 8, 8), SNR, PREFIX)
    assert restored.min() >= 0.0
    assert restored.max() <= 1.0
    assert restored.std() > 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_sees_snr_and_rate(kind):
    decoder = _decoder(kind).eval()
    received = torch.randn(1, 6, 8, 8)
    received[:, 2:] = 0.0
    with torch.no_grad():
        base = decoder(received, torch.tensor([1.0]), torch.tensor([2]))
        assert not torch.equal(base, decoder(received, torch.tensor([13.0]), torch.tensor([2])))
        assert not torch.equal(base, decoder(received, torch.tensor([1.0]), torch.tensor([3])))


def test_encoder_sees_snr_and_rate():
    encoder, picture = _encoder(), _pictures(1)
    with torch.no_grad():
        base = encoder.analyse(picture, torch.tensor([1.0]), torch.tensor([2]))
        assert not torch.equal(base, encoder.analyse(picture, torch.tensor([13.0]), torch.tensor([2])))
        assert not torch.equal(base, encoder.analyse(picture, torch.tensor([1.0]), torch.tensor([3])))


def test_direction_of_gdn_is_configured_for_each_side():
    def directions(module):
        return {m.inverse for m in module.modules() if hasattr(m, "inverse")}

    mixed = replace(TINY, decoder_gdn="igdn")
    assert directions(_encoder(mixed)) == {False}
    assert directions(_encoder(replace(TINY, encoder_gdn="igdn"))) == {True}
    for kind in ("attention", "conv"):
        assert directions(_decoder(kind)) == {False}
        assert directions(_decoder(kind, mixed)) == {True}


@pytest.mark.parametrize("gate", [SnrAttention(8, 4, ceiling=1.0), SnrGate(8, ceiling=1.0)])
def test_gate_of_the_papers_attenuates_only_and_starts_nearly_open(gate):
    x = torch.ones(2, 8, 4, 4)
    with torch.no_grad():
        scaled = gate(x, torch.tensor([[0.1, 0.3], [1.3, 1.0]]))
    assert scaled.max() < 1.0
    assert scaled.mean() > 0.7


def _run(module, inputs):
    return macs(module, inputs, torch.tensor([7.0]), torch.tensor([6]))


def test_reference_encoder_is_the_seeds_table():
    encoder = AnchorEncoder()
    fc1, fc2 = encoder.stages[0].gate.fc1, encoder.stages[0].gate.fc2
    # The prefix length is one input more than the seed's 257.
    assert (fc1.in_features, fc1.out_features, fc2.in_features, fc2.out_features) == (258, 16, 16, 256)
    rows = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0])
            for c in (*(stage.conv for stage in encoder.stages), encoder.head)]
    inner = (256, 256, 5, 1)
    assert rows == [(3, 256, 9, 2), (256, 256, 5, 2), inner, inner, (256, 16, 5, 1)]
    # By hand for 16x16 pixels: 64 positions at a half, 16 at a quarter.
    first = 64 * 256 * (3 * 81 + 256)  # convolution, then GDN
    others = 3 * 16 * 256 * (256 * 25 + 256)
    head = 16 * 16 * (256 * 25 + 16)
    attention = 4 * (258 * 16 + 16 * 256)
    assert first + others + head + attention == 91_639_936
    assert _run(encoder, torch.rand(1, 3, 16, 16)) == 91_639_936


def test_reference_attention_decoder_is_the_encoders_mirror():
    decoder = build_decoder("anchor", "attention", AnchorConfig())
    rows = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0])
            for c in (*(stage.conv for stage in decoder.stages), decoder.tail[0])]
    inner = (256, 256, 5, 1)
    assert rows == [(16, 256, 5, 1), inner, inner, (256, 256, 5, 2), (256, 3, 9, 2)]
    # A transposed convolution multiplies at the positions of its input, GDN at those of the output.
    first = 16 * 256 * (16 * 25 + 256)
    inner_macs = 2 * 16 * 256 * (256 * 25 + 256)
    upsampling = 16 * 256 * 256 * 25 + 64 * 256 * 256
    tail = 64 * 256 * 3 * 81 + 256 * 3 * 3
    attention = 4 * (258 * 16 + 16 * 256)
    assert _run(decoder, torch.rand(1, 16, 4, 4)) == first + inner_macs + upsampling + tail + attention


def test_residual_decoder_has_the_seeds_five_blocks():
    assert len(_decoder("resnet").stages) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_loss_falls_from_the_first_steps_with_random_prefixes(kind):
    encoder, decoder = _encoder(), _decoder(kind)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    generator = torch.Generator().manual_seed(2)
    pictures = _pictures(4)
    losses = []
    for _ in range(16):
        prefix = torch.randint(1, 7, (4,), generator=generator)
        snr = torch.full((4,), 10.0)
        sent = encoder(pictures, snr, prefix)
        noise = 0.2 * torch.randn(sent.shape, generator=generator)
        loss = F.mse_loss(decoder(sent + noise, snr, prefix), pictures)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in parameters)
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
