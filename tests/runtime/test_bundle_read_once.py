"""What was hashed is what is loaded: targets are read once, modules built from the tensors checked."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import torch
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from codec_runtime.bundle.checks import architecture_problems, build_blank
from codec_runtime.bundle.durable import Flushing, flushing_threads, make_durable, make_folder
from codec_runtime.bundle.errors import EndlessDataError, LengthOrHashMismatchError, ManifestError
from codec_runtime.bundle.fetcher import InboxFetcher
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.signed_targets import SignedTargets
from codec_runtime.bundle.store import load_module, read_verified, write_bundle
from codec_runtime.codecs.fast import FastConfig, FastEncoder

CONTENT = b"weights " * 1000
NAME = f"encoder/anchor/1/{hashlib.sha256(CONTENT).hexdigest()}.weights.safetensors"


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", max_file_bytes=1 << 20, max_files=8)


def _targets(inbox: Inbox, tmp_path: Path) -> SignedTargets:
    return SignedTargets(cast(Any, None), InboxFetcher(inbox, tmp_path / "store"), inbox)


def _signed(content: bytes = CONTENT) -> TargetFile:
    return TargetFile.from_data("encoder/anchor/1/weights.safetensors", content, ["sha256"])


def test_a_target_gets_its_place_without_being_copied(inbox: Inbox, tmp_path: Path) -> None:
    inbox.put("targets", NAME, CONTENT)
    assert _targets(inbox, tmp_path).take(_signed(), tmp_path / "staged").data == CONTENT
    assert (tmp_path / "staged").samefile(inbox.directory / "targets" / NAME)


def test_a_file_replaced_after_it_was_read_is_not_what_gets_its_place(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.put("targets", NAME, CONTENT)
    link = Path.hardlink_to

    def replaced_first(place: Path, source: Path) -> None:
        inbox.put("targets", NAME, b"evil" * 2000)
        link(place, source)

    monkeypatch.setattr(Path, "hardlink_to", replaced_first)
    assert _targets(inbox, tmp_path).take(_signed(), tmp_path / "staged").data == CONTENT
    assert (tmp_path / "staged").read_bytes() == CONTENT


def test_without_hard_links_the_checked_bytes_are_written(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.put("targets", NAME, CONTENT)

    def refuse(place: Path, source: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    _targets(inbox, tmp_path).take(_signed(), tmp_path / "staged")
    assert (tmp_path / "staged").read_bytes() == CONTENT
    assert not (tmp_path / "staged").samefile(inbox.directory / "targets" / NAME)


@pytest.mark.parametrize(
    ("content", "refusal"),
    [(CONTENT + b"x", EndlessDataError), (CONTENT[:-1] + b"x", LengthOrHashMismatchError)],
)
def test_other_bytes_get_no_place(
    inbox: Inbox, tmp_path: Path, content: bytes, refusal: type[Exception]
) -> None:
    inbox.put("targets", NAME, content)
    with pytest.raises(refusal):
        _targets(inbox, tmp_path).take(_signed(), tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


@pytest.fixture(params=["F16", "F32", "I8"])
def encoder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    config = FastConfig(width=16, blocks=3)
    write_bundle(
        tmp_path / "encoder/anchor/1", kind="encoder", name="anchor", version=1, dtype=request.param,
        architecture=FastEncoder.architecture,
        hyperparameters=config.as_dict(), state=FastEncoder(config).state_dict(),
    )
    return tmp_path / "encoder/anchor/1"


def test_a_verified_bundle_builds_the_module_of_its_files_after_they_are_gone(encoder: Path) -> None:
    _, expected = load_module(encoder)
    verified = read_verified(encoder)
    for path in encoder.iterdir():
        path.write_bytes(b"")
    built = verified.build()
    assert built.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in built.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
        assert tensor.dtype == torch.float32
        assert tensor.data_ptr() % 16 == 0
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_remembered_shapes_do_not_let_a_parameter_of_another_type_pass(encoder: Path) -> None:
    verified = read_verified(encoder)
    shapes = {name: tensor.shape for name, tensor in verified.build().state_dict().items()}
    assert not list(architecture_problems(shapes, verified.manifest, encoder))
    wrong = msgspec.structs.replace(
        verified.manifest, hyperparameters={**verified.manifest.hyperparameters, "width": 16.0}
    )
    with pytest.raises(ManifestError):
        list(architecture_problems(shapes, wrong, encoder))


def test_building_a_blank_draws_no_random_numbers(encoder: Path) -> None:
    manifest = read_verified(encoder).manifest
    before = torch.get_rng_state()
    build_blank(manifest.kind, manifest.architecture, manifest.hyperparameters, encoder)
    assert torch.equal(torch.get_rng_state(), before)
    torch.nn.Linear(2, 2)  # and only there
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_flush_that_fails_is_raised(tmp_path: Path) -> None:
    make_durable([tmp_path])
    with flushing_threads() as threads, Flushing(threads) as flushing:
        flushing.begin([tmp_path, tmp_path / "gone"])
        with pytest.raises(FileNotFoundError):
            flushing.finish()


def test_a_new_folder_names_the_directories_to_flush(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a/b") == [tmp_path / "a", tmp_path]
    assert make_folder(tmp_path / "a/b") == []
