"""Every attack on an update is refused by name, counted, reported, and leaves the old version serving."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from attacked_site import NEW, OLD, AttackedSite
from directed_site import files_of, fine_tuned
from runtime_site import write_encoder
from security_tables import documented, hold
from tuf.api.metadata import Metadata, Root

from codec_runtime.bundle.delta import encode_delta
from codec_runtime.bundle.store import BundleContents
from codec_runtime.contract.bundle import WEIGHTS_FILE
from codec_runtime.serving.runtime import Runtime
from xapp.delivery.repository import Expiry, TufRepository
from xapp.delivery.roles import THRESHOLD
from xapp.delivery.rotation import rotate

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AttackedSite:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # power cuts are another test's matter
    return AttackedSite(tmp_path)


def rollback(site: AttackedSite) -> str:
    site.publish(3)
    site.activate(OLD, site.repository.files())
    site.deliver(site.first, OLD)
    return NEW


def freeze(site: AttackedSite) -> str:
    stale = TufRepository(site.root / "tuf", expiry=Expiry(online=-1.0))
    site.publish(3, stale)
    site.deliver(stale.files(), NEW)
    return NEW


def mix_and_match(site: AttackedSite) -> str:
    site.publish(3)
    files = site.repository.files()
    versions = site.repository.versions()
    older = dict(site.first.metadata)[f"{versions['decoder'] - 1}.decoder.json"]
    site.deliver(files, NEW)
    site.put("metadata", f"{versions['decoder']}.decoder.json", older)
    return NEW


def endless_metadata(site: AttackedSite) -> str:
    site.publish(3)
    site.deliver(site.repository.files(), NEW)
    site.put("metadata", "timestamp.json", b" " * 900_000)
    return NEW


def endless_upload(site: AttackedSite) -> str:
    async def forever() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    site.put("targets", f"{NEW}/{'0' * 64}.weights.safetensors", forever())
    return NEW


def slow_drip(site: AttackedSite) -> str:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    site.put("metadata", "timestamp.json", drip())
    return NEW


def wrong_keys(site: AttackedSite) -> str:
    stranger = TufRepository(site.root / "stranger", layout=THRESHOLD)
    for version in (2, 3):
        site.publish(version, stranger)
    site.deliver(stranger.files(), NEW)
    return NEW


def one_threshold_key(site: AttackedSite) -> str:
    keyid, stolen = next(iter(site.repository.keys.signers("root").items()))
    own = TufRepository(site.root / "thief", layout=THRESHOLD)
    root = own.store.root()
    root.signed.version = 2
    root.signed.add_key(stolen.public_key, "root")
    for signer in (stolen, *own.keys.signers("root").values()):
        root.sign(signer, append=True)
    assert keyid in Metadata[Root].from_bytes(site.repository.store.read("1.root.json")).signatures
    site.publish(3, own)
    site.deliver(own.files(), NEW)
    site.put("metadata", "2.root.json", root.to_bytes())
    return NEW


def skipped_root(site: AttackedSite) -> str:
    rotate(site.repository, "timestamp")
    rotate(site.repository, "root")
    site.publish(3)
    files = site.repository.files()
    kept = [(name, data) for name, data in files.metadata if name != "2.root.json"]
    site.deliver(type(files)(kept, files.targets), NEW)
    return NEW


def _tampered(site: AttackedSite, change: Callable[[bytes], bytes]) -> str:
    site.publish(3)
    files = site.repository.files()
    site.deliver(files, NEW)
    hashed, _, local = files.targets[f"{NEW}/weights.safetensors"]
    site.put("targets", hashed, change(local.read_bytes()))
    return NEW


def truncated_target(site: AttackedSite) -> str:
    return _tampered(site, lambda data: data[: len(data) // 2])


def altered_target(site: AttackedSite) -> str:
    return _tampered(site, lambda data: data[:-1] + bytes([data[-1] ^ 1]))


def _with_delta(site: AttackedSite, parent: bytes, change: Callable[[bytes], bytes] = bytes) -> str:
    """Sign a decoder with a delta, said to be from the shipped one, made from ``parent``; only it travels."""
    contents = fine_tuned(_shipped(site), 3)
    delta = encode_delta(parent, contents.weights)
    assert contents.manifest.delta is not None
    record = msgspec.structs.replace(
        contents.manifest.delta, sha256=hashlib.sha256(delta).hexdigest(), size=len(delta)
    )
    manifest = msgspec.structs.replace(contents.manifest, delta=record)
    site.repository.publish(manifest, files_of(BundleContents(manifest, contents.weights, delta)))
    files = site.repository.files()
    site.deliver(files)
    for file in ("manifest.msgpack", "delta.safetensors"):
        hashed, _, local = files.targets[f"{NEW}/{file}"]
        site.put("targets", hashed, change(local.read_bytes()) if "delta" in file else local.read_bytes())
    return NEW


def altered_delta(site: AttackedSite) -> str:
    parent = (_shipped(site) / WEIGHTS_FILE).read_bytes()
    return _with_delta(site, parent, lambda data: data[:-1] + bytes([data[-1] ^ 1]))


def delta_of_another_parent(site: AttackedSite) -> str:
    return _with_delta(site, fine_tuned(_shipped(site), 2, by=0.5).weights)


def _shipped(site: AttackedSite) -> Path:
    return site.weights / "decoder" / "attention" / "1"


def traversal_in_file(site: AttackedSite) -> str:
    site.put("targets", "%2e%2e/%2e%2e/%2e%2e/evil", b"x")
    assert not list(site.root.rglob("evil"))
    return NEW


def traversal_in_bundle(site: AttackedSite) -> str:
    return "decoder/../../../evil/1"


def incompatible(site: AttackedSite) -> str:
    stranger = write_encoder(site.root / "elsewhere", seed=77)
    site.publish(3, encoder=stranger)
    site.deliver(site.repository.files(), NEW)
    return NEW


def pair_not_named(site: AttackedSite) -> str:
    site.publish(3, sites=[])
    repository = site.repository
    roles = repository.load_roles()
    repository.set_assignment(roles, "_every", [OLD, NEW])
    target = roles["director"].signed.targets["director/_every.json"]
    target.custom["pairs"] = [pair for pair in target.custom["pairs"] if pair[1] not in _weights(site)]
    repository.publish_roles(roles, {"director"})
    site.deliver(repository.files(), NEW)
    return NEW


def not_for_this_site(site: AttackedSite) -> str:
    site.publish(3, sites=["site-9"])
    site.deliver(site.repository.files(), NEW)
    return NEW


def _weights(site: AttackedSite) -> set[str]:
    return {site.repository.files().targets[f"{NEW}/weights.safetensors"][1]}


ATTACKS: dict[str, tuple[str, Callable[[AttackedSite], str], str, str]] = {
    "rollback": ("older signed metadata, offered again", rollback, "activation", "RollbackError"),
    "freeze": ("signed metadata past its expiry", freeze, "activation", "ExpiredMetadataError"),
    "mix-and-match": (
        "a role's file of another publication", mix_and_match, "activation", "MixAndMatchError",
    ),
    "endless data, metadata": (
        "a timestamp of 900 kB", endless_metadata, "activation", "EndlessDataError",
    ),
    "endless data, upload": ("a body that never ends", endless_upload, "inbox", "BodyTooLargeError"),
    "slow drip": ("a byte every 10 ms, for ever", slow_drip, "inbox", "SlowTransferError"),
    "wrong keys": ("a whole repository of other keys", wrong_keys, "activation", "UnsignedMetadataError"),
    "one of two threshold keys stolen": (
        "a new root signed by one root key of three", one_threshold_key, "activation",
        "UnsignedMetadataError",
    ),
    "root rotation skipped": ("root 3 without root 2", skipped_root, "activation", "RootChainError"),
    "truncated target": (
        "half of the weights", truncated_target, "activation", "LengthOrHashMismatchError",
    ),
    "altered target": (
        "one bit of the weights", altered_target, "activation", "LengthOrHashMismatchError",
    ),
    "altered delta": (
        "one bit of the delta, the weights held back", altered_delta, "activation",
        "LengthOrHashMismatchError",
    ),
    "delta of another parent": (
        "signed, but made from other weights than it says", delta_of_another_parent, "activation",
        "DeltaError",
    ),
    "path traversal, file": (
        "`../../../evil` put into the inbox", traversal_in_file, "inbox", "UnsafePathError",
    ),
    "path traversal, bundle": (
        "`decoder/../../../evil/1` activated", traversal_in_bundle, "activation", "UnsafePathError",
    ),
    "incompatible bundle, validly signed": (
        "a decoder of an encoder that is not here", incompatible, "activation", "MixedPairError",
    ),
    "pair that the director does not name": (
        "all signed, but for the director's pair", pair_not_named, "activation", "IncompatiblePairError",
    ),
    "bundle of another site": (
        "signed and assigned, to site-9", not_for_this_site, "activation", "NotAssignedError",
    ),
}
ORDER = [*ATTACKS, "disk full"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_counted_and_reported_and_the_old_serves(site: AttackedSite, attack: str) -> None:
    how, act, stage, error = ATTACKS[attack]
    before, models = site.served(), site.runtime.models
    bundle = act(site)
    if stage == "inbox":
        assert site.refused is not None
        status, name = site.refused
        report = f"HTTP {status}, `{name}`"
    else:
        assert site.refused is None
        answer = site.activate(bundle)
        assert answer.outcome == "refused", answer
        name, report = answer.error, f"ActivationReport, `{answer.error}`"
        assert answer.detail
    assert name == error
    assert site.refusals(stage, error) == 1
    assert site.runtime.models is models
    assert OLD in before
    assert site.served() == site.served(Runtime(site.settings)) == before  # also after a restart
    hold("attacks", ORDER, {
        "attack": attack, "what is done": how, "refused by": f"`{name}`",
        "metric": f'`{{stage="{stage}",error="{name}"}}` +1', "the xApp is told": report,
        "served afterwards": f"{OLD}, as before",
    })


@pytest.mark.parametrize("attack", ["rollback", "freeze", "mix-and-match", "slow drip", "altered target"])
def test_an_honest_update_gets_through_after_the_attack(site: AttackedSite, attack: str) -> None:
    ATTACKS[attack][1](site)
    site.activate(NEW)
    if NEW not in site.repository.bundles():
        site.publish(3)
    site.repository.refresh(within_days=30.0)
    assert site.activate(NEW, site.repository.files()).outcome == "activated"
    assert NEW in site.served()


def test_a_full_disk_is_counted_and_reported(site: AttackedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(step: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, models = site.served(), site.runtime.models
    site.publish(3)
    files = site.repository.files()
    site.deliver(files, NEW)
    with monkeypatch.context() as patch:
        patch.setattr(site.runtime.activations.installer, "_reached", full)
        assert site.activate(NEW).error == "StorageFullError"
        patch.setattr(site.runtime.inbox, "_reached", full)
        site.put("metadata", "timestamp.json", b"{}")
    assert site.refused == (507, "StorageFullError")
    assert site.refusals("inbox", "StorageFullError") == site.refusals("activation", "StorageFullError") == 1
    assert site.runtime.models is models
    assert site.served(Runtime(site.settings)) == before
    assert site.activate(NEW).outcome == "activated"


def test_document_lists_exactly_these_attacks() -> None:
    assert [line.split("|")[1].strip() for line in documented("attacks")] == ORDER
