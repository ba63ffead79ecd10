"""Only what TUF vouches for is installed; every attack is refused by name and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from runtime_site import Repository, write_decoder, write_encoder
from securesystemslib.signer import CryptoSigner

from codec_runtime.bundle import errors
from codec_runtime.bundle.inbox import Inbox, check_name
from codec_runtime.bundle.trust import BundleInstaller

BUNDLE = "decoder/attention/2"


class Setup:
    def __init__(self, root: Path, repository: Repository) -> None:
        self.root = root
        self.repository = repository
        self.source = root / "source"
        encoder = write_encoder(self.source)
        write_decoder(self.source, encoder, version=2, parent=1)
        repository.add_bundle(self.source, BUNDLE)
        self.inbox = Inbox(root / "inbox", max_file_bytes=1 << 22, max_files=64)
        self.store = root / "store"
        self.installer = self.client()

    def client(self, trusted: Path | None = None) -> BundleInstaller:
        return BundleInstaller(
            self.inbox, self.store, self.root / "tuf", trusted or self.root / "root.json"
        )

    def put(self, area: Any, name: str, data: bytes) -> None:
        self.inbox.put(area, name, data)


@pytest.fixture
def setup(tmp_path: Path, repository: Repository) -> Setup:
    return Setup(tmp_path, repository)


def test_signed_bundle_is_installed_and_leaves_the_inbox(setup: Setup) -> None:
    setup.repository.publish(setup.put)
    assert BUNDLE + "/weights.safetensors" in setup.inbox.targets()
    (place,) = setup.installer.install([BUNDLE]).places
    assert place == setup.store / BUNDLE
    assert (place / "weights.safetensors").read_bytes() == (
        setup.source / BUNDLE / "weights.safetensors"
    ).read_bytes()
    assert setup.inbox.targets() == {}
    assert setup.client().install([BUNDLE]).places == [place]  # again, from the installed copy


def _lower_version(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.version = 4
    setup.repository.publish(put)
    setup.installer.install([BUNDLE])
    setup.repository.version = 2
    setup.repository.publish(put)


def _expired(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.expires["timestamp"] = datetime.now(UTC) - timedelta(hours=1)
    setup.repository.publish(put)


def _wrong_key(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.publish(put, signer=CryptoSigner.generate_ed25519())


def _altered(setup: Setup, put: Callable[..., None]) -> None:
    def alter(area: str, name: str, data: bytes) -> None:
        if name.endswith("safetensors"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        put(area, name, data)

    setup.repository.publish(alter)


def _longer(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.publish(lambda a, n, d: put(a, n, d + b"x" if n.endswith("safetensors") else d))


def _not_sent(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.publish(lambda a, n, d: None if n.endswith("safetensors") else put(a, n, d))


def _no_metadata(setup: Setup, put: Callable[..., None]) -> None:
    pass


def _garbage(setup: Setup, put: Callable[..., None]) -> None:
    put("metadata", "timestamp.json", b"{}")


def _not_a_target(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.targets.clear()
    setup.repository.publish(put)


def _custom_differs(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.add_bundle(setup.source, BUNDLE, encoder_sha256="0" * 64)
    setup.repository.publish(put)


def _conflict(setup: Setup, put: Callable[..., None]) -> None:
    setup.repository.publish(put)
    setup.installer.install([BUNDLE])
    write_decoder(setup.source, write_encoder(setup.source), version=2, parent=1, seed=99)
    setup.repository.add_bundle(setup.source, BUNDLE)
    setup.repository.publish(put)


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (_lower_version, errors.RollbackError),
        (_expired, errors.ExpiredMetadataError),
        (_wrong_key, errors.UnsignedMetadataError),
        (_altered, errors.LengthOrHashMismatchError),
        (_longer, errors.LengthOrHashMismatchError),
        (_not_sent, errors.MissingFileError),
        (_no_metadata, errors.MissingFileError),
        (_garbage, errors.InvalidMetadataError),
        (_not_a_target, errors.MissingTargetError),
        (_custom_differs, errors.CustomMismatchError),
        (_conflict, errors.VersionConflictError),
    ],
)
def test_attack_is_refused_by_name(
    setup: Setup, attack: Callable[..., None], error: type[Exception]
) -> None:
    attack(setup, setup.put)
    before = sorted(p for p in setup.store.rglob("*") if p.is_file())
    with pytest.raises(error):
        setup.client().install([BUNDLE])
    assert sorted(p for p in setup.store.rglob("*") if p.is_file()) == before


def test_refused_update_can_be_repaired(setup: Setup) -> None:
    _not_sent(setup, setup.put)
    with pytest.raises(errors.MissingFileError):
        setup.installer.install([BUNDLE])
    setup.repository.publish(setup.put)
    assert setup.installer.install([BUNDLE]).places


def test_root_may_appear_later_but_must_be_there(setup: Setup, tmp_path: Path) -> None:
    setup.repository.publish(setup.put)
    late = setup.client(tmp_path / "late.json")
    with pytest.raises(errors.NoTrustedRootError):
        late.install([BUNDLE])
    (tmp_path / "late.json").write_bytes(setup.repository.root)
    assert late.install([BUNDLE]).places
    with pytest.raises(errors.NoTrustedRootError):
        BundleInstaller(setup.inbox, setup.store, tmp_path / "tuf2", None).install([BUNDLE])


@pytest.mark.parametrize(
    "bundle", ["../x/1", "decoder/../1", "decoder/attention/0", "decoder/attention", "poster/a/1", "a" * 999]
)
def test_unsafe_bundle_paths_are_refused(setup: Setup, bundle: str) -> None:
    with pytest.raises(errors.UnsafePathError):
        setup.installer.install([bundle])


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../b", "a//b", "a/./b", ".hidden", "a\\b", "a\0b", "ä", "x" * 257, "a/"]
)
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(errors.UnsafePathError):
        check_name(name)


def test_inbox_is_bounded(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, max_file_bytes=100, max_files=3)
    with pytest.raises(errors.FileTooLargeError):
        inbox.put("targets", "a", b"x" * 101)
    inbox.put("targets", "a", b"x")
    with pytest.raises(errors.UnsafePathError):
        inbox.put("targets", "a/b", b"x")
    inbox.put("targets", "b", b"x")
    inbox.put("targets", "c", b"x")
    inbox.put("targets", "c", b"y")  # replacing is not adding
    with pytest.raises(errors.InboxFullError):
        inbox.put("metadata", "d", b"x")


def test_symbolic_link_in_the_inbox_is_not_followed(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", max_file_bytes=100, max_files=3)
    (tmp_path / "inbox" / "targets" / "out").symlink_to(tmp_path)
    with pytest.raises(errors.UnsafePathError):
        inbox.put("targets", "out/x", b"x")
