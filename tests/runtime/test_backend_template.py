"""What was compiled once serves any weights of its structure; what cannot is compiled each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from codec_runtime.benchmarks.golden import small_instance
from codec_runtime.benchmarks.inputs import fill_weights, picture
from codec_runtime.codecs.registry import DECODERS, ENCODERS
from codec_runtime.serving.backends.rewrite import fold

openvino_backend = pytest.importorskip("codec_runtime.serving.backends.openvino_backend")
template_module = pytest.importorskip("codec_runtime.serving.backends.openvino_template")

QUICK = ("jscc-fast-encoder", "jscc-anchor-resnet")
ARCHITECTURES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in sorted({**ENCODERS, **DECODERS})
]


SNR_AND_PREFIX = torch.tensor([1.0, 9.0]), torch.tensor([1, 2])


def test_second_weights_of_a_structure_are_not_compiled_and_compute_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported = []
    export = openvino_backend.export_folded
    monkeypatch.setattr(openvino_backend, "export_folded", lambda m: exported.append(1) or export(m))
    backend = openvino_backend.OpenvinoBackend(precision="fp32")
    images = torch.from_numpy(picture(5, 2, 16, 40)).float() / 255.0
    inputs = (images, *SNR_AND_PREFIX)
    networks = []
    for seed in (1, 2):
        module = small_instance("jscc-fast-encoder")
        fill_weights(module, seed)
        networks.append((module, backend.build(module)))
    assert len(exported) == 1
    for module, network in networks:  # the first one keeps its own weights
        with torch.no_grad():
            expected = module(*inputs)
        assert float((network(*inputs) - expected).norm() / expected.norm()) <= 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_later_weights_compute_bit_for_bit_what_they_do_compiled(architecture: str, precision: str) -> None:
    backend = openvino_backend.OpenvinoBackend(precision=precision)
    results = []
    for seed in (1, 2):
        module = small_instance(architecture)
        fill_weights(module, seed)
        alone = backend._compile(fold(module, transposed=True))
        results.append(_computed(backend._compiled(module)[0], module))
        torch.testing.assert_close(results[-1], _computed(alone, module), rtol=0, atol=0)
    assert not torch.equal(*results)
    assert all(backend._templates.values())


def _computed(compiled: Any, module: Any) -> torch.Tensor:
    encodes = hasattr(module, "analyse")
    channels = module.config.latent_channels
    values = torch.from_numpy(picture(5, 2, 16, 40)).float() / 255.0
    inputs = (values if encodes else values[:, :1].expand(2, channels, 16, 40), *SNR_AND_PREFIX)
    (result,) = compiled([tensor.contiguous().numpy() for tensor in inputs]).values()
    return torch.tensor(result)


@dataclass(frozen=True)
class _Config:
    scale: float
    latent_channels: int = 4


class _Scaled(nn.Module):
    """Nothing but the factor, which is in no tensor, depends on the configuration."""

    def __init__(self, config: _Config) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Conv2d(4, 3, 1)

    def forward(self, received: torch.Tensor, snr_db: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
        return self.layer(received) * self.config.scale + 0.0 * (snr_db + prefix)[:, None, None, None]


def test_equal_shapes_with_other_hyperparameters_share_no_template() -> None:
    backend = openvino_backend.OpenvinoBackend(precision="fp32")
    inputs = torch.ones(2, 4, 3, 5), torch.ones(2), torch.ones(2, dtype=torch.int64)
    for scale in (1.0, 3.0):
        module = _Scaled(_Config(scale)).eval()
        with torch.no_grad():
            torch.testing.assert_close(backend.build(module)(*inputs), module(*inputs))


def test_a_structure_without_template_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def refuse(*_: object) -> None:
        tries.append(1)
        raise ValueError("some tensor is not a constant")

    monkeypatch.setattr(openvino_backend, "CompiledTemplate", refuse)
    backend = openvino_backend.OpenvinoBackend(precision="fp32")
    for _ in range(2):
        module = _Scaled(_Config(2.0)).eval()
        inputs = torch.ones(2, 4, 3, 5), torch.ones(2), torch.ones(2, dtype=torch.int64)
        with torch.no_grad():
            torch.testing.assert_close(backend.build(module)(*inputs), module(*inputs))
    assert len(tries) == 1


def test_structure_whose_weights_the_compiler_changes_has_no_template() -> None:
    def compiled(network: nn.Module) -> bytes:
        return bytes(4) + (2.0 * network.weight.detach()).numpy().tobytes()

    with pytest.raises(ValueError, match="tensor weight is not in the compiled network"):
        template_module.CompiledTemplate(nn.Linear(3, 1, bias=False), compiled)
