"""Of an update only the delta travels: the site serves the signed weights bit by bit, or refuses by name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest
from directed_site import DELTA, WHOLE, DirectedSite, files_of, fine_tuned

from codec_runtime.bundle.delta import encode_delta
from codec_runtime.bundle.store import BundleContents, read_manifest
from codec_runtime.contract.bundle import (
    DELTA_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    CompatibleBundle,
    DeltaFile,
)
from xapp.delivery import repository as repository_module
from xapp.delivery.roles import FLAT

BUNDLE = "decoder/attention/2"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> DirectedSite:
    return DirectedSite(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def site(empty: DirectedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectedSite:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # power cuts are another test's matter
    return empty.copied(tmp_path)


def installed(site: DirectedSite, bundle: str = BUNDLE) -> Path:
    return site.runtime.activations.store / bundle


def with_delta(contents: BundleContents, delta: bytes, **stated: str) -> BundleContents:
    """``contents`` with another delta that its manifest states: bad content, well signed."""
    assert contents.manifest.delta is not None
    record = DeltaFile(
        name=DELTA_FILE, sha256=hashlib.sha256(delta).hexdigest(), size=len(delta),
        parent_sha256=stated.get("parent_sha256", contents.manifest.delta.parent_sha256),
    )
    manifest = msgspec.structs.replace(contents.manifest, delta=record)
    return BundleContents(manifest, contents.weights, delta)


@pytest.mark.parametrize("layout", ["delegated", "flat"])
def test_weights_are_rebuilt_from_a_shipped_parent_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    site = DirectedSite(tmp_path, FLAT) if layout == "flat" else DirectedSite(tmp_path)
    child = fine_tuned(site.parent, 2)
    site.publish(child)
    assert site.push(BUNDLE, files=DELTA).outcome == "activated"
    assert (installed(site) / WEIGHTS_FILE).read_bytes() == child.weights
    assert {path.name for path in installed(site).iterdir()} == set(WHOLE)
    assert site.runtime.models.decoder("attention", 2).sha256 == child.manifest.weights_sha256
    assert site.push(BUNDLE, files=()).outcome == "already-active"
    assert not [path for path in site.runtime.inbox.targets() if path.startswith(BUNDLE)]


def test_a_delta_applies_to_what_a_delta_made(site: DirectedSite) -> None:
    site.publish(fine_tuned(site.parent, 2))
    assert site.push(BUNDLE, files=DELTA).outcome == "activated"
    grandchild = fine_tuned(installed(site), 3)
    site.publish(grandchild)
    assert site.push("decoder/attention/3", files=DELTA).outcome == "activated"
    site.restart()
    assert site.runtime.models.decoder("attention", 3).sha256 == grandchild.manifest.weights_sha256


def test_the_listing_names_the_weights_that_a_delta_can_apply_to(site: DirectedSite) -> None:
    child = fine_tuned(site.parent, 2)
    site.publish(child)
    shipped = {read_manifest(path.parent).weights_sha256 for path in site.weights.rglob(MANIFEST_FILE)}
    assert set(site.runtime.listing().weights) == shipped
    site.push(BUNDLE, files=DELTA)
    listing = site.runtime.listing()
    assert set(listing.weights) == shipped | {child.manifest.weights_sha256}
    assert listing.targets[f"{BUNDLE}/{WEIGHTS_FILE}"] == child.manifest.weights_sha256
    parent = read_manifest(site.parent).weights_sha256
    assert site.repository.files().parents == {f"{BUNDLE}/{DELTA_FILE}": parent}


def test_whole_weights_win_over_a_delta_beside_them(site: DirectedSite) -> None:
    site.publish(with_delta(fine_tuned(site.parent, 2), b"not a delta"))
    assert site.push(BUNDLE, files=(*WHOLE, DELTA_FILE)).outcome == "activated"


def test_a_parent_that_is_not_here_is_named_and_the_whole_weights_then_do(site: DirectedSite) -> None:
    stranger = site.root / "elsewhere" / "decoder" / "attention" / "2"
    stranger.mkdir(parents=True)
    for name, data in files_of(fine_tuned(site.parent, 2)).items():
        (stranger / name).write_bytes(data)
    site.publish(fine_tuned(stranger, 3))
    report = site.push("decoder/attention/3", files=DELTA)
    assert (report.outcome, report.error) == ("refused", "MissingParentError")
    assert site.served() == ["encoder/anchor/1", "decoder/attention/1"]
    assert site.push("decoder/attention/3").outcome == "activated"


def test_a_damaged_parent_is_no_parent(site: DirectedSite) -> None:
    site.publish(fine_tuned(site.parent, 2))
    (site.parent / WEIGHTS_FILE).write_bytes(b"x")
    report = site.push(BUNDLE, files=DELTA)
    assert report.error == "MissingParentError"
    assert "SizeLimitError" in report.detail or "bytes" in report.detail


def test_an_altered_delta_is_refused_before_it_is_unpacked(site: DirectedSite) -> None:
    child = fine_tuned(site.parent, 2)
    site.publish(child)
    hashed, _, _ = site.repository.files().targets[f"{BUNDLE}/{DELTA_FILE}"]
    site.deliver(BUNDLE, files=DELTA)
    site.runtime.inbox.put("targets", hashed, child.delta[:-1] + bytes([child.delta[-1] ^ 1]))
    report = site.push(BUNDLE, files=(MANIFEST_FILE,))
    assert (report.outcome, report.error) == ("refused", "LengthOrHashMismatchError")


@pytest.mark.parametrize("what", ["other result", "other parent", "no delta", "noise"])
def test_a_signed_delta_that_does_not_give_the_signed_weights_is_refused(
    site: DirectedSite, what: str
) -> None:
    child, other = fine_tuned(site.parent, 2), fine_tuned(site.parent, 2, by=0.02)
    delta = {
        "other result": other.delta,
        "other parent": encode_delta(other.weights, child.weights),
        "no delta": b"\x02" + bytes(7) + b"{}",
        "noise": b"noise",
    }[what]
    site.publish(with_delta(child, delta))
    report = site.push(BUNDLE, files=DELTA)
    assert (report.outcome, report.error) == ("refused", "DeltaError")
    assert not installed(site).exists()
    assert site.push(BUNDLE).outcome == "activated"


def test_a_delta_larger_than_its_weights_is_refused_unread(
    site: DirectedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = fine_tuned(site.parent, 2)
    monkeypatch.setattr(repository_module, "check_files", lambda manifest, files: None)
    site.publish(with_delta(child, bytes(len(child.weights) + 1)))
    assert site.push(BUNDLE, files=DELTA).error == "SizeLimitError"


def test_a_delta_whose_parent_is_not_signed_is_refused(site: DirectedSite) -> None:
    site.publish(with_delta(fine_tuned(site.parent, 2), fine_tuned(site.parent, 2).delta, parent_sha256="?"))
    assert site.push(BUNDLE, files=DELTA).error == "CustomMismatchError"


def test_the_repository_signs_a_delta_only_as_the_manifest_states_it(site: DirectedSite) -> None:
    child = fine_tuned(site.parent, 2)
    files = files_of(child)
    unstated = msgspec.structs.replace(child.manifest, delta=None)
    with pytest.raises(ValueError, match="states no delta"):
        site.repository.publish(unstated, files)
    with pytest.raises(ValueError, match="the manifest states"):
        site.repository.publish(child.manifest, {**files, DELTA_FILE: b"another"})
    large = with_delta(child, bytes(len(child.weights)))
    with pytest.raises(ValueError, match="no less than"):
        site.publish(large)
    assert site.repository.bundles() == []
    del files[DELTA_FILE]
    site.repository.publish(child.manifest, files)
    assert site.repository.files().parents == {}


def test_a_sound_bundle_of_a_kind_that_is_not_served_is_refused_by_name(site: DirectedSite) -> None:
    tensors = fine_tuned(site.parent, 2)
    base = CompatibleBundle(kind="decoder", sha256=read_manifest(site.parent).weights_sha256)
    manifest = msgspec.structs.replace(
        tensors.manifest, kind="entropy-model", name="a", compatible=[base], delta=None
    )
    site.publish(BundleContents(manifest, tensors.weights))
    report = site.push("entropy-model/a/2")
    assert (report.outcome, report.error) == ("refused", "KindNotServedError"), report.detail
    assert "entropy-model" in report.detail
    assert not installed(site, "entropy-model/a/2").exists()
