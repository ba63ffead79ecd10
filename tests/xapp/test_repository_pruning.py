"""Versions that no site is assigned leave the signed metadata once enough newer ones are there."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from xapp_simulated_site import bundle_files, make_manifest

from xapp.delivery import pruning
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import DIRECTED, FLAT, Layout


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(pruning, "VERSIONS_KEPT", 3)


def repository_at(place: Path, layout: Layout = DIRECTED) -> TufRepository:
    return TufRepository(place, layout=layout)


def publish(repository: TufRepository, version: int, name: str = "conv") -> str:
    weights = f"{name} {version}".encode()
    manifest = make_manifest("decoder", name, version, weights)
    return repository.publish(manifest, bundle_files(manifest, weights), sites=[])


def test_only_old_versions_that_nobody_is_assigned_are_forgotten(tmp_path: Path) -> None:
    repository = repository_at(tmp_path)
    first = publish(repository, 1)
    repository.assign("site-1", [first])
    for version in range(2, 7):
        publish(repository, version)
    publish(repository, 1, "attention")
    assert repository.bundles() == [
        "decoder/attention/1", first, *(f"decoder/conv/{version}" for version in (4, 5, 6))
    ]
    kept = {local for _, _, local in repository.files().targets.values()}
    assert {path for path in (tmp_path / "targets" / "decoder").rglob("*") if path.is_file()} == kept


def test_the_metadata_of_many_updates_stays_small(tmp_path: Path) -> None:
    repository = repository_at(tmp_path)

    def size() -> int:
        return sum(len(data) for _, data in repository.files().metadata)

    for version in range(1, 10):
        repository.assign("site-1", [publish(repository, version)])
    before = size()
    for version in range(10, 20):
        repository.assign("site-1", [publish(repository, version)])
    assert size() < before + 100  # of digits
    assert repository.assignments()["site-1"] == ["decoder/conv/19"]


def test_a_version_that_was_kept_can_be_gone_back_to(tmp_path: Path) -> None:
    repository = repository_at(tmp_path)
    for version in range(1, 5):
        repository.assign("site-1", [publish(repository, version)])
    repository.assign("site-1", ["decoder/conv/2"])
    assert repository.assignments()["site-1"] == ["decoder/conv/2"]
    with pytest.raises(ValueError, match="decoder/conv/1"):
        repository.assign("site-1", ["decoder/conv/1"])


def test_an_encoder_stays_as_long_as_a_decoder_that_stays_needs_it(tmp_path: Path) -> None:
    repository = repository_at(tmp_path)
    encoders = {version: f"encoder {version}".encode() for version in range(1, 7)}
    for version, weights in encoders.items():
        manifest = make_manifest("encoder", "anchor", version, weights)
        repository.publish(manifest, bundle_files(manifest, weights), sites=[])
        if version == 1:
            decoder = msgspec.structs.replace(
                make_manifest("decoder", "conv", 1, b"decoder"), encoder_sha256=manifest.weights_sha256
            )
            repository.publish(decoder, bundle_files(decoder, b"decoder"), sites=[])
    assert [bundle for bundle in repository.bundles() if bundle.startswith("encoder")] == [
        f"encoder/anchor/{version}" for version in (1, 4, 5, 6)
    ]


def test_without_a_director_every_version_may_be_served_and_stays(tmp_path: Path) -> None:
    repository = repository_at(tmp_path, FLAT)
    for version in range(1, 7):
        publish(repository, version)
    assert len(repository.bundles()) == 6
