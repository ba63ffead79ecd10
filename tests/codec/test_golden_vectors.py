"""What the networks compute on fixed inputs is what they computed when the vectors were written.

A failure after new weights were shipped, or a network was changed on purpose: `semcom bench golden --write`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codec_runtime.benchmarks.golden import (
    GoldenCase,
    differences,
    golden_cases,
    golden_vector,
    read_vectors,
    write_vectors,
)
from codec_runtime.benchmarks.inputs import picture, uniform

VECTORS = read_vectors(Path(__file__).with_name("golden_vectors.json"))
CASES = list(golden_cases())
BY_NAME = {case.name: case for case in CASES}
SHIPPED_OR_SLOW = [
    pytest.param(case, id=case.name, marks=() if case.shipped else pytest.mark.slow) for case in CASES
]


def test_every_network_has_a_vector_and_every_vector_a_network() -> None:
    assert set(VECTORS) == set(BY_NAME)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_torch_computes_what_it_computed(case: GoldenCase) -> None:
    assert differences(VECTORS[case.name], golden_vector(case)) == []


@pytest.mark.parametrize("case", SHIPPED_OR_SLOW)
def test_openvino_computes_the_same(case: GoldenCase) -> None:
    backend = pytest.importorskip("codec_runtime.serving.backends.openvino_backend")
    build = backend.OpenvinoBackend(precision="fp32").build
    assert differences(VECTORS[case.name], golden_vector(case, build)) == []


@pytest.mark.parametrize("factor", [1.001, 0.999])
def test_a_drift_of_a_thousandth_is_noticed(factor: float) -> None:
    case = BY_NAME["jscc-anchor-encoder"]

    def drifting(module):
        return lambda *inputs: module(*inputs) * factor

    assert differences(VECTORS[case.name], golden_vector(case, drifting))


def test_other_weights_or_inputs_are_told_apart_from_drift() -> None:
    case = BY_NAME["jscc-fast-conv"]
    changed = case.module()
    with torch.no_grad():
        next(changed.parameters()).add_(1e-6)
    got = golden_vector(GoldenCase(case.name, case.architecture, lambda: changed, False))
    assert [line.split(":")[0] for line in differences(VECTORS[case.name], got)] == ["weights_sha256"]


def test_inputs_come_from_the_bit_generators_stable_stream() -> None:
    assert uniform(1, 3).tolist() == [0.5118216247002567, 0.9504636963259353, 0.14415961271963373]
    assert picture(1, 1, 8, 8).sum() == 24161


def test_vectors_survive_their_file(tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.json", list(VECTORS.values()))
    assert read_vectors(tmp_path / "v.json") == VECTORS
