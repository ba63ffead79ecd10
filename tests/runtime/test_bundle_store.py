"""A bundle is refused, by name of the file or tensor, whenever it is not what its manifest says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from runtime_site import SMALL, write_encoder
from safetensors.torch import load_file, save

from codec_runtime.bundle import errors
from codec_runtime.bundle.store import load_module, manifest_bytes, read_manifest, write_bundle
from codec_runtime.codecs.fast import FastEncoder
from codec_runtime.contract.bundle import BundleFile, BundleManifest, TensorSpec

Change = Callable[[Path], None]


def _rewrite(change: Callable[[BundleManifest], BundleManifest]) -> Change:
    def apply(directory: Path) -> None:
        (directory / "manifest.msgpack").write_bytes(manifest_bytes(change(read_manifest(directory))))

    return apply


def _with_weights(change: Callable[[dict[str, torch.Tensor]], None], specs: bool = True) -> Change:
    """Change tensors and make the manifest fit (file hash always, tensor specs if ``specs``)."""

    def apply(directory: Path) -> None:
        import hashlib

        tensors = load_file(directory / "weights.safetensors")
        change(tensors)
        data = save(tensors)
        (directory / "weights.safetensors").write_bytes(data)
        file = BundleFile(
            name="weights.safetensors", sha256=hashlib.sha256(data).hexdigest(), size=len(data)
        )
        names = {torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}
        found = {k: TensorSpec(shape=tuple(v.shape), dtype=names[v.dtype]) for k, v in tensors.items()}
        _rewrite(lambda m: msgspec.structs.replace(m, files=[file], tensors=found if specs else m.tensors))(
            directory
        )

    return apply


def _rename(name: str) -> Callable[[BundleManifest], BundleManifest]:
    return lambda m: msgspec.structs.replace(
        m, files=[BundleFile(name=name, sha256=m.files[0].sha256, size=m.files[0].size)]
    )


def _drop_bias(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["head.bias"]


def _flip_last_byte(directory: Path) -> None:
    path = directory / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _truncate(directory: Path) -> None:
    path = directory / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


REFUSALS: list[tuple[str, Change, type[errors.BundleError], str]] = [
    ("altered", _flip_last_byte, errors.HashMismatchError, "weights.safetensors: sha256"),
    ("truncated", _truncate, errors.SizeLimitError, "the manifest says"),
    ("no weights", lambda d: (d / "weights.safetensors").unlink(), errors.MissingFileError, "weights"),
    ("no manifest", lambda d: (d / "manifest.msgpack").unlink(), errors.MissingFileError, "manifest"),
    ("garbage manifest", lambda d: (d / "manifest.msgpack").write_bytes(b"\xc1"), errors.ManifestError,
     "not a"),
    ("huge manifest", lambda d: (d / "manifest.msgpack").write_bytes(b"x" * (2 << 20)), errors.SizeLimitError,
     "limit"),
    ("pickle named", _rewrite(_rename("weights.pt")), errors.PickleRefusedError, "weights.pt"),
    ("pickle beside", lambda d: (d / "extra.pth").write_bytes(b"x"), errors.PickleRefusedError, "extra.pth"),
    ("path in name", _rewrite(_rename("../weights.safetensors")), errors.ManifestError, "exactly"),
    ("nan", _with_weights(lambda t: t["head.bias"].fill_(float("nan"))), errors.NonFiniteError, "head.bias"),
    ("missing", _with_weights(_drop_bias, specs=False), errors.MissingTensorError,
     "head.bias"),
    ("missing for architecture", _with_weights(_drop_bias),
     errors.MissingTensorError, "head.bias"),
    ("unknown", _with_weights(lambda t: t.update(evil=torch.ones(1))), errors.UnknownTensorError, "evil"),
    ("shape", _with_weights(lambda t: t.update({"head.bias": torch.ones(3)})), errors.ShapeMismatchError,
     "head.bias"),
    ("dtype", _with_weights(lambda t: t.update({"head.bias": t["head.bias"].double()})), errors.DtypeError,
     "head.bias"),
    ("architecture", _rewrite(lambda m: msgspec.structs.replace(m, architecture="x")),
     errors.UnknownArchitectureError, "'x'"),
    ("kind", _rewrite(lambda m: msgspec.structs.replace(m, kind="skb")), errors.UnknownArchitectureError,
     "skb"),
    ("huge width", _rewrite(lambda m: msgspec.structs.replace(m, hyperparameters={"width": 10**9})),
     errors.ManifestError, "width"),
    ("unknown hyper-parameter", _rewrite(lambda m: msgspec.structs.replace(m, hyperparameters={"depth": 3})),
     errors.ManifestError, "depth"),
]


@pytest.mark.parametrize(("change", "error", "text"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_wrong_bundle_is_refused(
    tmp_path: Path, change: Change, error: type[errors.BundleError], text: str
) -> None:
    write_encoder(tmp_path)
    directory = tmp_path / "encoder" / "anchor" / "1"
    change(directory)
    with pytest.raises(error, match=text):
        load_module(directory)


def test_not_safetensors_is_refused(tmp_path: Path) -> None:
    import hashlib

    write_encoder(tmp_path)
    directory = tmp_path / "encoder" / "anchor" / "1"
    data = b"PK\x03\x04 a zip as torch.save writes it"
    (directory / "weights.safetensors").write_bytes(data)
    file = BundleFile(name="weights.safetensors", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    _rewrite(lambda m: msgspec.structs.replace(m, files=[file]))(directory)
    with pytest.raises(errors.PickleRefusedError, match="zip archive"):
        load_module(directory)


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_encoder(tmp_path / name)
    first, second = (tmp_path / name / "encoder" / "anchor" / "1" for name in ("a", "b"))
    for file in ("manifest.msgpack", "weights.safetensors"):
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_loaded_module_is_the_stored_one_rounded_to_fp16(tmp_path: Path) -> None:
    torch.manual_seed(5)
    module = FastEncoder(SMALL)
    write_bundle(
        tmp_path / "x", kind="encoder", name="anchor", version=1, architecture=module.architecture,
        hyperparameters=SMALL.as_dict(), state=module.state_dict(),
    )
    manifest, loaded = load_module(tmp_path / "x")
    assert not loaded.training
    assert manifest.parameters == sum(p.numel() for p in module.parameters())
    for key, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float())


def test_overflow_is_refused_when_writing(tmp_path: Path) -> None:
    with pytest.raises(errors.NonFiniteError, match="big"):
        write_bundle(
            tmp_path, kind="encoder", name="a", version=1, architecture="x", hyperparameters={},
            state={"big": torch.tensor([1e9])},
        )
