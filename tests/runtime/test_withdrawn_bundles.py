"""What the signed director assigns no longer stops being served, and never so that nothing is left."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from directed_site import DirectedSite, files_of, fine_tuned
from runtime_site import write_decoder, write_encoder

from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.bundle.store import BundleContents, write_contents
from codec_runtime.contract.bundle import WEIGHTS_FILE, CompatibleBundle
from codec_runtime.contract.directives import Directive, DirectiveBatch
from codec_runtime.contract.updates import ActivationRequest
from codec_runtime.serving.registry import ModelRegistry, UnknownModelError
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import FLAT

SECOND, THIRD = "decoder/attention/2", "decoder/attention/3"
SHIPPED = ["encoder/anchor/1", "decoder/attention/1"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> DirectedSite:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        site = DirectedSite(tmp_path_factory.mktemp("prepared"))
        for version in (2, 3):
            site.push(site.publish(fine_tuned(site.parent, version)))
    return site


@pytest.fixture
def site(prepared: DirectedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectedSite:
    """Serves attention 2 and 3 beside the shipped 1."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # power cuts are another test's matter
    site = prepared.copied(tmp_path)
    assert site.served() == [*SHIPPED, SECOND, THIRD]
    return site


def tell(site: DirectedSite, **versions: int) -> None:
    directives = [
        Directive(user=user, prefix=16, snr_db=7.0, decoder="attention", decoder_version=version)
        for user, version in versions.items()
    ]
    ack = site.runtime.apply(DirectiveBatch(issuer="x", sequence=1, issued_ns=0, directives=directives))
    assert ack.applied == len(directives), ack.rejected


def told(site: DirectedSite, user: str) -> tuple[int, int]:
    directive = site.runtime.directives.in_force(user)
    assert directive is not None
    return directive.decoder_version, directive.encoder_version


def publish_second_pair(site: DirectedSite) -> None:
    """encoder/anchor/2 and decoder/attention/5, which was trained against it."""
    source = site.root / "second"
    encoder = write_encoder(source, seed=9, version=2)
    decoder = write_decoder(source, encoder, version=5, seed=9)
    for manifest in (encoder, decoder):
        place = source / manifest.kind / manifest.name / str(manifest.version)
        site.publish(BundleContents(manifest, (place / WEIGHTS_FILE).read_bytes()))


def test_what_is_assigned_no_longer_is_withdrawn_by_metadata_alone(site: DirectedSite) -> None:
    tell(site, canary=3, other=2, base=1)
    site.repository.assign("_every", [SECOND])
    in_flight = site.runtime.models
    report = site.push()
    assert (report.outcome, report.withdrawn) == ("activated", [THIRD])
    assert site.served() == [*SHIPPED, SECOND]
    assert in_flight.decoder("attention", 3)  # a request that began with it ends with it
    with pytest.raises(UnknownModelError):
        site.runtime.models.decoder("attention", 3)
    assert [told(site, user) for user in ("canary", "other", "base")] == [(2, 1), (2, 1), (1, 1)]
    assert site.counted("directive_fallbacks_total", to="newest version") == 1
    assert site.runtime.activations.installer.installed() == [SECOND]
    again = site.push()
    assert (again.outcome, again.withdrawn) == ("already-active", [])
    site.restart()
    assert site.served() == [*SHIPPED, SECOND]


def test_a_withdrawal_and_its_replacement_are_one_swap(site: DirectedSite) -> None:
    site.publish(fine_tuned(site.parent, 4))
    site.repository.assign("site-1", ["decoder/attention/4"])
    report = site.push("decoder/attention/4")
    assert (report.outcome, report.withdrawn) == ("activated", [SECOND, THIRD])
    assert site.served() == [*SHIPPED, "decoder/attention/4"]


def test_an_assignment_to_another_site_withdraws_nothing_here(site: DirectedSite) -> None:
    site.repository.assign("site-2", [])
    assert site.push().withdrawn == []
    contents = fine_tuned(site.parent, 4)
    site.repository.publish(contents.manifest, files_of(contents), sites=["site-1"])
    assert site.repository.assignments()["site-1"] == [SECOND, THIRD, "decoder/attention/4"]
    assert site.push("decoder/attention/4").withdrawn == []
    site.publish(fine_tuned(site.parent, 5))  # for every site, those with an assignment of their own too
    assert site.push("decoder/attention/5").outcome == "activated"


def test_a_shipped_bundle_is_never_withdrawn(site: DirectedSite) -> None:
    site.repository.assign("_every", [])
    assert site.push().withdrawn == [SECOND, THIRD]
    assert site.served() == SHIPPED


def test_the_last_decoder_is_not_withdrawn(site: DirectedSite) -> None:
    for name in ("manifest.msgpack", "weights.safetensors"):
        (site.parent / name).unlink()  # a site that was shipped with an encoder alone
    site.restart()
    served = site.served()
    assert served == ["encoder/anchor/1", SECOND, THIRD]
    site.repository.assign("_every", [])
    report = site.push()
    assert (report.outcome, report.error, report.withdrawn) == ("refused", "NothingLeftError", [])
    assert site.served() == served
    site.restart()
    assert site.served() == served
    site.repository.assign("_every", [THIRD])
    assert site.push().withdrawn == [SECOND]


def test_an_encoder_is_not_withdrawn_from_under_its_decoders(site: DirectedSite) -> None:
    publish_second_pair(site)
    assert site.push("encoder/anchor/2", "decoder/attention/5").outcome == "activated"
    tell(site, user=2)
    site.repository.assign("_every", [SECOND, "decoder/attention/5"])
    assert site.push().error == "MixedPairError"
    assert "encoder/anchor/2" in site.served()
    site.repository.assign("_every", [SECOND])
    assert set(site.push().withdrawn) == {"encoder/anchor/2", "decoder/attention/5", THIRD}


def test_a_user_goes_over_to_the_encoder_of_the_version_that_is_left(site: DirectedSite) -> None:
    publish_second_pair(site)
    site.push("encoder/anchor/2", "decoder/attention/5")
    tell(site, user=3)
    site.repository.assign("_every", [SECOND, "encoder/anchor/2", "decoder/attention/5"])
    assert site.push().withdrawn == [THIRD]
    assert told(site, "user") == (5, 2)


def test_users_of_a_family_that_is_gone_get_the_default(site: DirectedSite) -> None:
    models = site.runtime.models
    directive = Directive(user="u", prefix=4, snr_db=7.0, decoder="attention", decoder_version=2)
    table = site.runtime.directives
    table.apply(DirectiveBatch(issuer="x", sequence=1, issued_ns=0, directives=[directive]), models)
    kept = msgspec.structs.replace(directive, user="v", codec="jpeg")
    table._by_user["v"] = kept  # decodes no semantic symbols: no decoder of it can be withdrawn
    assert table.fall_back(type(models)(models.encoders, {})) == (0, 1)
    assert table.in_force("u") is None
    assert table.in_force("v") == kept


def test_expired_metadata_neither_withdraws_nor_stops_serving(site: DirectedSite) -> None:
    late = TufRepository(site.root / "tuf", now=lambda: datetime.now(UTC) - timedelta(days=30))
    late.assign("_every", [])
    assert site.push().error == "ExpiredMetadataError"
    site.restart()
    assert site.served() == [*SHIPPED, SECOND, THIRD]
    assert site.runtime.ready


def test_a_repository_without_a_director_withdraws_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    site = DirectedSite(tmp_path, FLAT)
    site.push(site.publish(fine_tuned(site.parent, 2)))
    site.publish(fine_tuned(site.parent, 3))
    assert site.push("decoder/attention/3").withdrawn == []
    assert site.push().outcome == "already-active"
    assert site.served() == [*SHIPPED, SECOND, THIRD]


def test_a_record_that_could_not_be_written_keeps_the_withdrawn_on_disk(
    site: DirectedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    site.repository.assign("_every", [SECOND])
    with monkeypatch.context() as patch:
        patch.setattr(site.runtime.activations, "_record_active", full)
        assert site.push().withdrawn == [THIRD]
    assert site.served() == [*SHIPPED, SECOND]
    assert site.runtime.activations.installer.installed() == [SECOND, THIRD]
    request = ActivationRequest(bundles=[])
    assert asyncio.run(site.runtime.activate(request)).withdrawn == [THIRD]
    assert site.runtime.activations.installer.installed() == [SECOND]


def test_a_compatibility_set_that_excludes_the_pair_keeps_it_out(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path)
    write_decoder(tmp_path, encoder)
    place = tmp_path / "encoder" / "anchor" / "1"
    pair = [place, tmp_path / "decoder" / "attention" / "1"]
    registry = ModelRegistry()
    registry.prepare(pair)
    narrow = msgspec.structs.replace(encoder, compatible=[CompatibleBundle(kind="decoder", sha256="0" * 64)])
    write_contents(place, BundleContents(narrow, (place / WEIGHTS_FILE).read_bytes()))
    with pytest.raises(MixedPairError, match="compatibility set of encoder anchor"):
        registry.prepare(pair)
