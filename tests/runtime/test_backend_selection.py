"""Which engine serves, and what happens when it cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from runtime_site import serve
from torch import nn

from codec_runtime.benchmarks.golden import small_instance
from codec_runtime.contract.settings import SettingsError
from codec_runtime.serving.backends.cpu import cpu_flags, fastest_precision
from codec_runtime.serving.backends.interface import BackendError, Proof
from codec_runtime.serving.backends.selection import build_network, choose, probe_error, select_backend
from codec_runtime.serving.backends.torch_backend import TorchBackend
from codec_runtime.serving.main import build_server
from codec_runtime.serving.registry import ModelRegistry
from codec_runtime.serving.settings import RuntimeSettings

DECODER = "jscc-fast-conv"
AVX2 = {"avx2", "fma"}


@pytest.mark.parametrize(("flags", "precision"), [
    (AVX2, "fp32"), (AVX2 | {"avx512f", "avx512_vnni"}, "fp32"), (AVX2 | {"avx512f", "avx512_bf16"}, "bf16"),
    (AVX2 | {"amx_tile", "amx_bf16"}, "bf16"), (set(), "fp32"),
])
def test_bf16_is_used_exactly_where_the_cpu_multiplies_it(flags: set[str], precision: str) -> None:
    assert fastest_precision(flags) == precision
    pytest.importorskip("openvino")
    assert select_backend("openvino", flags=flags).precision == precision


def test_cpu_flags_are_read_as_linux_writes_them(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: x\nflags\t\t: fpu amx_bf16\n\nprocessor\t: 1\n")
    assert cpu_flags(cpuinfo) == {"fpu", "amx_bf16"}
    assert cpu_flags(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize(("choice", "cuda", "openvino", "name"), [
    ("auto", False, True, "openvino"), ("auto", True, True, "torch"), ("auto", False, False, "torch"),
    ("torch", False, True, "torch"), ("openvino", True, True, "openvino"),
])
def test_auto_is_torch_on_a_gpu_and_openvino_on_a_cpu(
    choice: Any, cuda: bool, openvino: bool, name: str
) -> None:
    assert choose(choice, has_cuda=cuda, has_openvino=openvino) == name


def test_openvino_that_does_not_load_is_an_error_only_if_asked_for(monkeypatch, tmp_path: Path) -> None:
    module = "codec_runtime.serving.backends.openvino_backend"
    monkeypatch.setitem(sys.modules, module, None)  # importing it raises ImportError
    assert select_backend("auto").name == "torch"
    with pytest.raises(BackendError, match="install"):
        select_backend("openvino")
    settings = RuntimeSettings(backend="openvino", port=0, state_dir=str(tmp_path))
    with pytest.raises(SettingsError, match="openvino"):
        build_server(settings)


class _Faulty:
    """A backend that fails in the way it is told."""

    name = "openvino"
    precision = "fp32"

    def __init__(self, fault: str) -> None:
        self._fault = fault

    def build(self, module: nn.Module) -> Any:
        if self._fault == "raises":
            raise RuntimeError("no kernel for this")
        network = TorchBackend(device="cpu").build(module)
        wrong = {
            "slightly wrong": lambda y: y * 1.01, "not finite": lambda y: y * float("nan"),
            "another shape": lambda y: y[:, :, 1:],
        }[self._fault]

        def faulty(*inputs: torch.Tensor) -> torch.Tensor:
            return wrong(network(*inputs))

        return faulty


@pytest.mark.parametrize("fault", ["raises", "slightly wrong", "not finite", "another shape"])
def test_torch_stands_in_for_an_engine_that_fails_or_computes_something_else(fault: str) -> None:
    module = small_instance(DECODER)
    calls: list[None] = []
    network, name = build_network(_Faulty(fault), module, lambda: calls.append(None))
    assert (name, len(calls)) == ("torch", 1)
    assert probe_error(network, module) == 0.0


def test_bundles_are_served_by_torch_when_the_backend_fails(weights: Path) -> None:
    fallbacks: list[None] = []
    registry = ModelRegistry(_Faulty("raises"), lambda: fallbacks.append(None))  # type: ignore[arg-type]
    directories = [weights / "encoder/anchor/1", weights / "decoder/conv/1"]
    registry.publish(registry.prepare(directories))
    assert [bundle.backend for bundle in registry.models.all()] == ["torch", "torch"]
    assert len(fallbacks) == 2


def test_metrics_name_the_backend(weights: Path, tmp_path: Path) -> None:
    with serve(weights, tmp_path / "state", backend="torch") as site:
        text = httpx.get(site.url + "/metrics").text
    assert 'semcom_runtime_backend_info{backend="torch",precision="fp32"} 1.0' in text
    assert 'served_by="torch"' in text
    assert "semcom_runtime_backend_fallbacks_total 0.0" in text


class _Shared:
    """An engine whose networks share a compiled form."""

    name = "openvino"
    precision = "fp32"

    def __init__(self, factors: list[float]) -> None:
        self._factors = factors
        self._proof = Proof()
        self.probed = 0

    def build(self, module: nn.Module) -> Any:
        network, factor = TorchBackend(device="cpu").build(module), self._factors.pop(0)

        def computed(*inputs: torch.Tensor) -> torch.Tensor:
            self.probed += 1
            return factor * network(*inputs)

        computed.proof = self._proof  # type: ignore[attr-defined]
        return computed


def test_a_compiled_form_is_measured_with_its_first_weights_only() -> None:
    module, engine = small_instance(DECODER), _Shared([1.0, 1.0])
    assert [build_network(engine, module)[1] for _ in range(2)] == ["openvino"] * 2  # type: ignore[arg-type]
    assert engine.probed == 1


def test_a_compiled_form_that_computed_wrongly_is_measured_again() -> None:
    module, engine = small_instance(DECODER), _Shared([2.0, 2.0, 1.0])
    names = [build_network(engine, module)[1] for _ in range(3)]  # type: ignore[arg-type]
    assert names == ["torch", "torch", "openvino"]
