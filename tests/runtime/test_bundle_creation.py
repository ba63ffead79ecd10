"""Bundles are made only of what fits the spec; storage losses are measured; verify tells all that is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from runtime_site import SMALL, write_decoder, write_encoder
from safetensors.torch import load_file

from codec_runtime.adapters.adapter import AdapterConfig, GraphAdapter
from codec_runtime.bundle import errors
from codec_runtime.bundle.creation import BundleSpec, Created, create_bundle, read_spec, wanted_tensors
from codec_runtime.bundle.difference import diff_bundles
from codec_runtime.bundle.layout import convert, parse_rules
from codec_runtime.bundle.manifest_file import manifest_bytes, parse_manifest, read_manifest
from codec_runtime.bundle.partner import with_partner
from codec_runtime.bundle.storage import dequantise, quantise, store_state
from codec_runtime.bundle.store import load_module
from codec_runtime.bundle.verification import verify_bundle
from codec_runtime.codecs.fast import FastEncoder
from codec_runtime.contract.bundle import BundleManifest, CompatibleBundle

ORIGIN = Path("source.safetensors")
SPEC = BundleSpec(
    kind="encoder", name="anchor", version=1, architecture=FastEncoder.architecture,
    hyperparameters=SMALL.as_dict(), recipe="none", data_sha256="none", seed=4,
)


def _state(seed: int = 4) -> dict[str, torch.Tensor]:
    # A fresh network is silent in places; trained ones are not.
    torch.manual_seed(seed)
    return {n: v + 0.1 * torch.randn_like(v) for n, v in FastEncoder(SMALL).state_dict().items()}


def _create(root: Path, state: dict[str, torch.Tensor] | None = None, **options: Any) -> Created:
    spec = msgspec.structs.replace(SPEC, **options.pop("spec", {}))
    return create_bundle(_state() if state is None else state, spec, root, origin=ORIGIN, **options)


def _tuned() -> dict[str, torch.Tensor]:
    return {name: v * 1.01 if name == "head.weight" else v for name, v in _state().items()}


def test_what_is_created_loads_and_says_what_it_needs(tmp_path: Path) -> None:
    created = _create(tmp_path)
    manifest, module = load_module(created.directory)
    parameters = sum(p.numel() for p in module.parameters())
    assert (manifest.schema, manifest.parameters, manifest.memory_bytes) == (2, parameters, 4 * parameters)
    assert manifest.macs_per_pixel > 0
    assert manifest.working_bytes_per_pixel > 3 * 4
    assert manifest.provenance == {"recipe": "none", "data_sha256": "none", "seed": "4"}


def test_the_same_input_gives_the_same_bytes_and_a_version_never_changes(tmp_path: Path) -> None:
    first, second = _create(tmp_path / "a"), _create(tmp_path / "b")
    for name in ("manifest.msgpack", "weights.safetensors"):
        assert (first.directory / name).read_bytes() == (second.directory / name).read_bytes()
    assert (first.written, _create(tmp_path / "a").written) == (True, False)
    with pytest.raises(errors.SpecError, match="higher version"):
        _create(tmp_path / "a", _tuned())


@pytest.mark.parametrize(("change", "error"), [
    (lambda s: s.pop("head.bias"), errors.MissingTensorError),
    (lambda s: s.update({"head.bias": torch.ones(99)}), errors.ShapeMismatchError),
    (lambda s: s.update({"head.bias": s["head.bias"] * float("inf")}), errors.NonFiniteError),
    (lambda s: s.update({"head.bias": s["head.bias"].long()}), errors.DtypeError),
    (lambda s: s.update({"head.bias.more": torch.ones(1)}), errors.UnknownTensorError),
])
def test_a_wrong_tensor_is_named_and_nothing_is_written(tmp_path: Path, change: Any, error: Any) -> None:
    state = _state()
    change(state)
    with pytest.raises(error, match=r"head\.bias"):
        _create(tmp_path, state)
    assert not list(tmp_path.iterdir())


def test_int8_serves_within_half_a_step_and_records_the_loss(tmp_path: Path) -> None:
    created = _create(tmp_path, storage="I8")
    manifest, module = load_module(created.directory)
    served, given = module.state_dict(), _state()
    stored = load_file(created.directory / "weights.safetensors")
    assert manifest.quantised["head.weight"] == "head.weight.scale"
    for name, scale in manifest.quantised.items():
        error = (served[name] - given[name]).abs().flatten(1).amax(1)
        assert torch.all(error <= 0.501 * stored[scale])
        assert float(error.max()) == pytest.approx(manifest.losses[name].max_error, rel=1e-6)
    assert len(created.contents.weights) < len(_create(tmp_path / "f", storage="F16").contents.weights)


def test_channels_of_zeros_and_extremes_quantise() -> None:
    values = torch.tensor([[0.0, 0.0], [1e-30, -1e-30], [3e38, -1.0]])
    q, scale = quantise(values)
    assert q.tolist() == [[0, 0], [127, -127], [127, 0]]
    assert torch.allclose(dequantise(q, scale)[2, 0], values[2, 0])
    with pytest.raises(errors.SpecError, match=r"w\.scale"):
        store_state({"w": torch.ones(2, 2), "w.scale": torch.ones(2)}, "I8")


def test_exact_storage_has_no_loss(tmp_path: Path) -> None:
    assert _create(tmp_path, storage="F32").manifest.losses == {}


def test_a_delta_is_made_against_the_parent_and_verified(tmp_path: Path) -> None:
    parent = _create(tmp_path)
    child = _create(tmp_path, _tuned(), spec={"version": 2}, parent=parent.directory)
    assert child.manifest.delta is not None
    assert (child.manifest.parent, child.manifest.delta.size) == (1, len(child.contents.delta))
    report = verify_bundle(child.directory)
    assert report.sound
    assert [f.outcome for f in report.findings if f.check == "delta"] == ["ok"]
    sizes = diff_bundles(parent.directory, child.directory).sizes
    assert sizes.delta == len(child.contents.delta) < sizes.adapter < sizes.full
    (parent.directory / "manifest.msgpack").write_bytes(b"")
    damaged = verify_bundle(child.directory).findings
    assert [f.error for f in damaged if f.check == "delta"] == ["ManifestError"]


def test_verify_tells_all_that_is_wrong_not_only_the_first(tmp_path: Path) -> None:
    directory = _create(tmp_path, spec={"minimum_runtime": "99.0.0"}).directory
    data = bytearray((directory / "weights.safetensors").read_bytes())
    data[-2:] = b"\x00\x7e"  # an fp16 NaN
    (directory / "weights.safetensors").write_bytes(data)
    (directory / "x.pt").write_bytes(b"")
    wrong = [f.error for f in verify_bundle(directory).findings if f.outcome == "wrong"]
    assert wrong == ["RuntimeTooOldError", "PickleRefusedError", "HashMismatchError", "NonFiniteError"]
    with pytest.raises(errors.RuntimeTooOldError, match=r"99\.0\.0"):
        load_module(directory)


def test_diff_names_what_changed(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path)
    write_decoder(tmp_path, encoder, seed=2)
    write_decoder(tmp_path, encoder, seed=2, version=2, parent=1)
    a, b = (tmp_path / "decoder" / "attention" / version for version in "12")
    difference = diff_bundles(a, b)
    assert {change.change for change in difference.tensors} == {"same"}
    assert difference.fields == {"version": ("1", "2"), "parent": ("None", "1")}
    weights = difference.sizes.full
    assert difference.sizes.adapter < difference.sizes.delta < weights


def test_kinds_without_architectures_are_made_and_checked_but_not_served(tmp_path: Path) -> None:
    base = CompatibleBundle(kind="decoder", sha256="a" * 64)
    spec = {"kind": "entropy-model", "compatible": [base]}
    created = _create(tmp_path, {"w": torch.ones(2, 2)}, spec=spec)
    assert verify_bundle(created.directory).sound
    assert created.manifest.works_with("decoder", "a" * 64)
    assert not created.manifest.works_with("decoder", "b" * 64)
    with pytest.raises(errors.UnknownArchitectureError):
        load_module(created.directory)


def test_an_adapter_must_name_its_base(tmp_path: Path) -> None:
    config = AdapterConfig("a:4", dimension=8)
    spec = {"kind": "adapter", "architecture": "graph-adapter", "hyperparameters": config.as_dict()}
    with pytest.raises(errors.ManifestError, match="base"):
        _create(tmp_path, GraphAdapter(config).state_dict(), spec=spec)


def test_the_partner_fills_the_compatibility_set(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path)
    spec = msgspec.structs.replace(SPEC, kind="decoder")
    filled = with_partner(spec, tmp_path / "encoder" / "anchor" / "1")
    assert filled.encoder_sha256 == encoder.weights_sha256
    with pytest.raises(errors.SpecError, match="names encoder"):
        with_partner(msgspec.structs.replace(spec, encoder_sha256="0" * 64), tmp_path / "encoder/anchor/1")


def test_manifests_of_schema_1_are_read_and_newer_ones_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    manifest = read_manifest(tmp_path / "encoder" / "anchor" / "1")
    fields = msgspec.to_builtins(manifest)
    added = ("schema", "part", "compatible", "storage", "quantised", "losses", "delta", "memory_bytes",
             "working_bytes_per_pixel")
    old = msgspec.msgpack.encode({name: value for name, value in fields.items() if name not in added})
    assert parse_manifest(old, "old") == msgspec.structs.replace(
        manifest, schema=1, storage="", losses={}, memory_bytes=0
    )
    newer: BundleManifest = msgspec.structs.replace(manifest, schema=3)
    with pytest.raises(errors.ManifestError, match="schema 3"):
        parse_manifest(manifest_bytes(newer), "new")


def test_a_spec_names_what_is_wrong_in_it(tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    for text, cause in (("{", "truncated"), ('{"kind": "encoder"}', "name"), ('{"kinds": 1}', "kinds")):
        file.write_text(text)
        with pytest.raises(errors.SpecError, match=cause):
            read_spec(file)


def test_another_layout_is_converted_by_rules_and_prefix() -> None:
    wanted = wanted_tensors(SPEC, ORIGIN)
    state = _state()
    flax = {
        f"params/net/{name.replace('.', '/')}": v.permute(2, 3, 1, 0) if v.dim() == 4 else v
        for name, v in state.items()
    }
    flax = {n.replace("weight", "kernel") if v.dim() in (2, 4) else n: v for n, v in flax.items()}
    flax = {n: v.t() if n.endswith("kernel") and v.dim() == 2 else v for n, v in flax.items()}
    flax["opt/step"] = torch.ones(1)
    found = convert(flax, wanted, parse_rules([], ["opt/.*"], "flax"))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_what_still_does_not_fit_is_named_with_a_hint() -> None:
    wanted = wanted_tensors(SPEC, ORIGIN)
    state = {("first.bias" if n == "head.bias" else n): v for n, v in _state().items()}
    with pytest.raises(errors.UnknownTensorError, match=r"first\.bias .*head\.bias"):
        convert(state, wanted, parse_rules([], [], "torch"))
    with pytest.raises(errors.SpecError, match="joins"):
        convert(state, wanted, parse_rules([".*=x"], [], "torch"))
    with pytest.raises(errors.SpecError, match="regular expression"):
        parse_rules(["(=x"], [], "torch")
    assert convert(state, wanted, parse_rules([r"^first\.=head."], [], "torch")).keys() == wanted.keys()
