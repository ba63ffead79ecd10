"""The TUF repository: keys, versions, persistence, and what a site needs to verify it."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata
from xapp_simulated_site import SimulatedSite, bundle_files, make_manifest

from xapp.delivery.keys import SigningKeyError
from xapp.delivery.repository import Expiry, RepositoryStateError, TufRepository, init_repository

WEIGHTS = b"tuned weights" * 50


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves is not tested here, and waiting for a busy disk takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def published(directory: Path, version: int = 2) -> tuple[TufRepository, str]:
    repository = TufRepository(directory)
    manifest = make_manifest("decoder", "attention", version, WEIGHTS, parent=1)
    return repository, repository.publish(manifest, bundle_files(manifest, WEIGHTS))


def deliver(repository: TufRepository, site: SimulatedSite) -> None:
    files = repository.files()
    site.metadata.update(files.metadata)
    site.targets.update({hashed: path.read_bytes() for hashed, _, path in files.targets.values()})


def test_first_use_creates_keys_for_the_owner_only(tmp_path: Path) -> None:
    root = init_repository(tmp_path / "tuf")
    assert root.name == "trusted_root.json"
    keys = sorted((tmp_path / "tuf" / "keys").iterdir())
    assert [key.stem for key in keys] == ["root", "snapshot", "targets", "timestamp"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((tmp_path / "tuf" / "keys").stat().st_mode) == 0o700


def test_second_use_changes_nothing(tmp_path: Path) -> None:
    first = init_repository(tmp_path / "tuf").read_bytes()
    assert init_repository(tmp_path / "tuf").read_bytes() == first
    assert TufRepository(tmp_path / "tuf").versions() == {
        "root": 1,
        "targets": 1,
        "snapshot": 1,
        "timestamp": 1,
    }


def test_a_site_with_the_pinned_root_verifies_a_published_bundle(tmp_path: Path) -> None:
    repository, bundle = published(tmp_path / "tuf")
    site = SimulatedSite(repository.trusted_root.read_bytes())
    deliver(repository, site)
    site._install(bundle)
    assert site.installed[f"{bundle}/weights.safetensors"] == WEIGHTS


def test_a_restarted_repository_goes_on_with_the_next_version(tmp_path: Path) -> None:
    repository, _ = published(tmp_path / "tuf")
    site = SimulatedSite(repository.trusted_root.read_bytes())
    deliver(repository, site)
    site._install("decoder/attention/2")
    again, bundle = published(tmp_path / "tuf", version=3)
    assert again.versions() == {"root": 1, "targets": 3, "snapshot": 3, "timestamp": 3}
    assert again.bundles() == ["decoder/attention/2", "decoder/attention/3"]
    deliver(again, site)
    site._install(bundle)


def test_a_crash_before_the_timestamp_does_not_reuse_version_numbers(tmp_path: Path) -> None:
    repository, _ = published(tmp_path / "tuf")
    timestamp = (tmp_path / "tuf" / "metadata" / "timestamp.json").read_bytes()
    published(tmp_path / "tuf", version=3)
    (tmp_path / "tuf" / "metadata" / "timestamp.json").write_bytes(timestamp)  # as if it was never written
    assert repository.bundles() == ["decoder/attention/2"]
    again, _ = published(tmp_path / "tuf", version=4)
    assert again.versions()["targets"] == 4
    assert again.bundles() == ["decoder/attention/2", "decoder/attention/4"]


def test_custom_metadata_carries_the_compatibility_set(tmp_path: Path) -> None:
    repository, bundle = published(tmp_path / "tuf")
    name = f"{repository.versions()['targets']}.targets.json"
    targets = Metadata.from_bytes(dict(repository.files().metadata)[name])
    custom = targets.signed.targets[f"{bundle}/weights.safetensors"].custom
    assert (custom["kind"], custom["name"], custom["version"], custom["parent"]) == (
        "decoder",
        "attention",
        2,
        1,
    )
    assert len(custom["encoder_sha256"]) == 64


def test_encrypted_keys_need_the_passphrase(tmp_path: Path) -> None:
    init_repository(tmp_path / "tuf", passphrase=b"correct")
    assert b"ENCRYPTED" in (tmp_path / "tuf" / "keys" / "root.pem").read_bytes()
    manifest = make_manifest("decoder", "conv", 2, WEIGHTS)
    files = bundle_files(manifest, WEIGHTS)
    for passphrase, text in ((b"wrong", "wrong passphrase"), (None, "SEMCOM_KEY_PASSPHRASE")):
        with pytest.raises(SigningKeyError, match=text):
            TufRepository(tmp_path / "tuf", passphrase=passphrase).publish(manifest, files)
    TufRepository(tmp_path / "tuf", passphrase=b"correct").publish(manifest, files)


def test_passphrase_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMCOM_KEY_PASSPHRASE", "secret")
    init_repository(tmp_path / "tuf")
    assert b"ENCRYPTED" in (tmp_path / "tuf" / "keys" / "targets.pem").read_bytes()


def test_incomplete_bundles_are_refused_and_leave_no_trace(tmp_path: Path) -> None:
    repository = TufRepository(tmp_path / "tuf")
    manifest = make_manifest("decoder", "conv", 2, WEIGHTS)
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        repository.publish(manifest, {"manifest.msgpack": b"x"})
    assert repository.versions()["targets"] == 1


def test_metadata_is_signed_again_before_it_expires(tmp_path: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    repository = TufRepository(tmp_path / "tuf", expiry=Expiry(online=2.0), now=lambda: now)
    assert not repository.refresh(within_days=1.0)
    now += timedelta(days=1.5)
    assert repository.refresh(within_days=1.0)
    assert repository.versions() == {"root": 1, "targets": 1, "snapshot": 2, "timestamp": 2}
    now += timedelta(days=100)
    assert repository.refresh()
    assert repository.versions()["targets"] == 2


def test_damaged_metadata_is_named(tmp_path: Path) -> None:
    repository, _ = published(tmp_path / "tuf")
    (tmp_path / "tuf" / "metadata" / "timestamp.json").write_bytes(b"{")
    with pytest.raises(RepositoryStateError, match=r"timestamp\.json"):
        repository.versions()
