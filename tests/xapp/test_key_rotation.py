"""Changing keys: what a site with an old pin accepts, what waits for signatures, what a crash leaves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root
from xapp_simulated_site import SimulatedSite, bundle_files, make_manifest

from xapp.delivery.key_status import role_status
from xapp.delivery.keys import KeyStore, SigningKeyError
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import DELEGATED_ROLES, PUBLISH_STEPS, ROTATION_STEPS, THRESHOLD, Layout
from xapp.delivery.rotation import (
    RotationError,
    discard_pending,
    merge,
    migrate,
    pending_root,
    renew_root,
    rotate,
    sign_file,
)

WEIGHTS = b"tuned weights" * 50


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves is not tested here, and waiting for a busy disk takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def publish(repository: TufRepository, version: int, kind: str = "decoder") -> str:
    manifest = make_manifest(kind, "attention", version, WEIGHTS, parent=1)
    return repository.publish(manifest, bundle_files(manifest, WEIGHTS))


def deliver(repository: TufRepository, site: SimulatedSite, bundle: str) -> None:
    files = repository.files()
    site.metadata.clear()
    site.metadata.update(files.metadata)
    site.targets.update({hashed: path.read_bytes() for hashed, _, path in files.targets.values()})
    site._install(bundle)


def new(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "tuf", layout=THRESHOLD)


def test_new_repository_needs_two_of_three_root_keys_and_delegates_by_kind(tmp_path: Path) -> None:
    repository = new(tmp_path)
    rows = {row.role: row for row in role_status(repository)}
    assert (rows["root"].threshold, len(rows["root"].keys), rows["root"].here) == (2, 3, 3)
    assert set(DELEGATED_ROLES) < set(rows)
    assert all(row.verified for row in rows.values())
    assert len({key for row in rows.values() for key in row.keys}) == 3 + 3 + len(DELEGATED_ROLES)
    assert len(Metadata[Root].from_bytes(repository.trusted_root.read_bytes()).signatures) == 3


def test_a_bundle_is_signed_by_the_role_of_its_kind_alone(tmp_path: Path) -> None:
    repository = new(tmp_path)
    before = repository.versions()
    bundle = publish(repository, 2)
    after = repository.versions()
    assert {role for role in after if after[role] != before[role]} == {
        "decoder", "director", "snapshot", "timestamp",
    }
    assert repository.bundles() == [bundle]
    assert repository.load_roles()["targets"].signed.targets == {}
    site = SimulatedSite(repository.trusted_root.read_bytes())
    deliver(repository, site, bundle)
    assert site.installed[f"{bundle}/weights.safetensors"] == WEIGHTS


def test_the_targets_key_may_be_away_while_bundles_are_published(tmp_path: Path) -> None:
    repository = new(tmp_path)
    (tmp_path / "tuf" / "keys" / "targets.pem").unlink()
    publish(repository, 2)
    with pytest.raises(SigningKeyError, match="targets"):
        rotate(repository, "decoder")


def test_a_role_signs_no_path_of_another_kind(tmp_path: Path) -> None:
    repository = new(tmp_path)
    bundle = publish(repository, 2)
    roles = repository.load_roles()
    stolen = roles["decoder"].signed.targets
    for path in list(stolen):
        moved = stolen.pop(path)
        moved.path = path.replace("decoder/attention/2", "encoder/anchor/9")
        stolen[moved.path] = moved
    repository.publish_roles(roles, {"decoder"})
    site = SimulatedSite(repository.trusted_root.read_bytes())
    site.metadata.update(repository.files().metadata)
    for _, _, file in repository.files().targets.values():
        assert not file.exists()  # a thief has the key, not the repository's disk
    with pytest.raises(AssertionError, match=r"encoder/anchor/9/manifest\.msgpack is not signed"):
        site._install("encoder/anchor/9")
    with pytest.raises(AssertionError, match="is not signed"):
        site._install(bundle)


def test_assignment_of_a_site_replaces_and_names_pairs(tmp_path: Path) -> None:
    repository = new(tmp_path)
    first, second = publish(repository, 2), publish(repository, 3)
    repository.assign("site-7", [second])
    repository.assign("site-7", [first])  # a rollback
    assert repository.assignments() == {"_every": [first, second], "site-7": [first]}
    custom = repository.load_roles()["director"].signed.targets["director/site-7.json"].custom
    manifest = make_manifest("decoder", "attention", 2, WEIGHTS)
    assert custom["pairs"] == [[manifest.encoder_sha256, manifest.weights_sha256]]
    for site, bundles in (("../x", [first]), ("site-7", ["decoder/attention/9"])):
        with pytest.raises(ValueError, match=r"site|repository"):
            repository.assign(site, bundles)


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "decoder", "director"])
def test_rotation_is_followed_by_a_site_with_the_first_pin(tmp_path: Path, role: str) -> None:
    repository = new(tmp_path)
    site = SimulatedSite(repository.trusted_root.read_bytes())
    deliver(repository, site, publish(repository, 2))
    old = {row.role: row.keys for row in role_status(repository)}
    assert rotate(repository, role).pending is None
    rows = {row.role: row for row in role_status(repository)}
    assert not set(rows[role].keys) & set(old[role])
    assert rows[role].threshold == (2 if role == "root" else 1)
    assert rows[role].here == len(rows[role].keys) == len(repository.keys.signers(role))
    assert all(row.verified for row in rows.values())
    deliver(repository, site, publish(repository, 3))


def test_one_stolen_root_key_is_replaced_by_name(tmp_path: Path) -> None:
    repository = new(tmp_path)
    old = role_status(repository)[0].keys
    rotate(repository, "root", replace=old[1])
    keys = role_status(repository)[0].keys
    assert len(set(keys) & set(old)) == 2
    assert old[1] not in keys
    with pytest.raises(RotationError, match="8 or more"):
        rotate(repository, "root", replace="zz")
    with pytest.raises(RotationError, match="known are"):
        rotate(repository, "boss")


def test_off_line_root_signs_copies_that_are_merged(tmp_path: Path) -> None:
    sticks = [tmp_path / f"stick-{n}" for n in (1, 2, 3)]
    repository = TufRepository(tmp_path / "tuf", layout=THRESHOLD, root_keys=sticks)
    assert [sorted(p.name for p in stick.iterdir()) for stick in sticks] == [["root.pem"]] * 3
    online = TufRepository(tmp_path / "tuf")  # the sticks are away
    site = SimulatedSite(repository.trusted_root.read_bytes())
    change = rotate(online, "timestamp")
    assert (change.missing_old, change.missing_new) == (2, 2)
    assert change.pending == pending_root(online)
    deliver(online, site, publish(online, 2))  # the old keys count until then
    with pytest.raises(RotationError, match="waits for signatures"):
        rotate(online, "snapshot")
    copies = []
    for stick in sticks[:2]:
        copy = tmp_path / f"{stick.name}.json"
        shutil.copy(change.pending, copy)
        assert sign_file(copy, KeyStore(stick, None)) == 1
        copies.append(copy)
    assert merge(online, copies[:1]).missing_old == 1
    assert merge(online, copies[1:]).pending is None
    assert pending_root(online) is None
    assert online.versions()["root"] == 2
    deliver(online, site, publish(online, 3))
    with pytest.raises(RotationError, match="no root"):
        merge(online, copies)


def test_strange_signatures_and_strange_roots_are_not_merged(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    TufRepository(tmp_path / "tuf", layout=THRESHOLD, root_keys=[stick])
    online = TufRepository(tmp_path / "tuf")
    change = renew_root(online)
    assert change.pending is not None
    stranger = KeyStore(tmp_path / "stranger", None)
    stranger.create("root", 3)
    copy = tmp_path / "copy.json"
    shutil.copy(change.pending, copy)
    sign_file(copy, stranger)
    assert merge(online, [copy]).missing_old == 2
    assert Metadata[Root].from_bytes(change.pending.read_bytes()).signatures == {}
    other = Metadata[Root].from_bytes(copy.read_bytes())
    other.signed.version = 9
    other.to_file(str(copy))
    with pytest.raises(RotationError, match="not the pending"):
        merge(online, [copy])
    with pytest.raises(RotationError, match="not readable"):
        merge(online, [tmp_path / "absent"])
    assert discard_pending(online)
    assert not discard_pending(online)


def test_a_single_key_repository_is_migrated_and_its_sites_keep_their_pin(tmp_path: Path) -> None:
    repository = TufRepository(tmp_path / "tuf")
    site = SimulatedSite(repository.trusted_root.read_bytes())
    first = publish(repository, 2)
    deliver(repository, site, first)
    with pytest.raises(ValueError, match="migrate"):
        repository.assign("site-1", [first])
    assert migrate(repository, THRESHOLD).version == 2
    assert migrate(repository, THRESHOLD).version == 2  # nothing is left to do
    rows = {row.role: row for row in role_status(repository)}
    assert (rows["root"].threshold, len(rows["root"].keys)) == (2, 3)
    assert repository.assignments() == {"_every": [first]}
    second = publish(TufRepository(tmp_path / "tuf"), 3)
    deliver(repository, site, first)
    deliver(repository, site, second)


def test_unencrypted_keys_are_reported_and_encrypted_ones_too(tmp_path: Path) -> None:
    plain = role_status(TufRepository(tmp_path / "plain", layout=Layout()))
    secret = role_status(TufRepository(tmp_path / "secret", passphrase=b"long passphrase"))
    assert {row.encrypted for row in plain} == {False}
    assert {row.encrypted for row in secret} == {True}


@pytest.mark.parametrize(("count", "threshold"), [(0, 0), (2, 3), (3, 0), (10, 2)])
def test_thresholds_that_cannot_be_met_are_refused(count: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Layout(count, threshold)


def killed_at(directory: Path, step: str, change: str) -> int:
    """Exit status of a process that is gone the moment ``step`` is reached; 0 if it never is."""
    child = os.fork()
    if child == 0:  # no test code may run on in the child
        try:
            repository = TufRepository(directory, reached=lambda at: os._exit(9) if at == step else None)
            if change == "publish":
                publish(repository, 3)
            else:
                rotate(repository, change)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("change", "step"),
    [("publish", step) for step in PUBLISH_STEPS]
    + [("timestamp", step) for step in (*ROTATION_STEPS, *PUBLISH_STEPS[1:])]
    + [("decoder", step) for step in ("keys-created", *PUBLISH_STEPS[1:], "old-keys-removed")],
)
def test_repository_killed_at_any_step_goes_on(tmp_path: Path, change: str, step: str) -> None:
    site = SimulatedSite(new(tmp_path).trusted_root.read_bytes())
    deliver(TufRepository(tmp_path / "tuf"), site, publish(TufRepository(tmp_path / "tuf"), 2))
    assert killed_at(tmp_path / "tuf", step, change) == 9
    again = TufRepository(tmp_path / "tuf")
    again.refresh()
    assert not again.unverified_roles()
    deliver(again, site, "decoder/attention/2")
    deliver(again, site, publish(again, 4))
    if pending_root(again) is not None:
        assert merge(again, []).pending is None
    rotate(again, "timestamp")
    deliver(again, site, publish(again, 5))
