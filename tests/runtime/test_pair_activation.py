"""Encoder and decoders change together; an old pair stays while somebody needs it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from directed_site import DirectedSite, fine_tuned
from runtime_site import write_decoder, write_encoder

from codec_runtime.bundle.store import BundleContents
from codec_runtime.contract.bundle import WEIGHTS_FILE, BundleManifest
from codec_runtime.contract.directives import ConventionalCodec, Directive, DirectiveBatch
from codec_runtime.contract.telemetry import CapabilityReport, HeldDecoder
from codec_runtime.serving.directives import NoUsablePairError
from codec_runtime.serving.registry import Models

SHIPPED = ["encoder/anchor/1", "decoder/attention/1"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectedSite:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # power cuts are another test's matter
    return DirectedSite(tmp_path)


def publish(site: DirectedSite, manifest: BundleManifest, root: Path) -> str:
    place = root / manifest.kind / manifest.name / str(manifest.version)
    return site.publish(BundleContents(manifest, (place / WEIGHTS_FILE).read_bytes()))


def publish_pair(site: DirectedSite, version: int) -> tuple[str, str]:
    """Encoder and attention decoder of one version; they fit each other only."""
    root = site.root / f"pair{version}"
    encoder = write_encoder(root, seed=version, version=version)
    decoder = write_decoder(root, encoder, version=version, seed=version)
    return publish(site, encoder, root), publish(site, decoder, root)


def device(
    site: DirectedSite, user: str, *versions: int, fallbacks: tuple[ConventionalCodec, ...] = ()
) -> None:
    site.runtime.publish(
        CapabilityReport(
            user=user, time_ns=0, device_class="car", group="car", decoders=["attention"], compute_gflops=1,
            holds=[HeldDecoder(family="attention", version=v) for v in versions], fallbacks=list(fallbacks),
        )
    )


def tell(site: DirectedSite, sequence: int = 1, **pairs: tuple[int, int]) -> list[str]:
    """(encoder, decoder) version of each user; returns the reasons of those rejected."""
    named = [
        Directive(
            user=user, prefix=6, snr_db=7.0, decoder="attention", decoder_version=decoder,
            encoder_version=encoder,
        )
        for user, (encoder, decoder) in pairs.items()
    ]
    batch = DirectiveBatch(issuer="x", sequence=sequence, issued_ns=0, directives=named)
    return [rejected.reason for rejected in site.runtime.apply(batch).rejected]


def of_user(site: DirectedSite, user: str) -> tuple[str, int, int]:
    directive = site.runtime.directives.for_user(user, site.runtime.models)
    return directive.codec, directive.encoder_version, directive.decoder_version


def test_an_encoder_and_its_decoder_arrive_in_one_swap(
    site: DirectedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Models] = []
    publish_models = site.runtime.registry.publish

    def seen(*arguments: object) -> float:
        took = publish_models(*arguments)  # type: ignore[arg-type]
        published.append(site.runtime.models)
        return took

    monkeypatch.setattr(site.runtime.registry, "publish", seen)
    assert site.push(*publish_pair(site, 2)).outcome == "activated"
    assert len(published) == 1
    assert site.served() == ["encoder/anchor/1", "encoder/anchor/2", *SHIPPED[1:], "decoder/attention/2"]
    assert tell(site, new=(2, 2), old=(1, 1)) == []
    (reason,) = tell(site, 2, mixed=(1, 2))
    assert "mixed pair" in reason


def test_a_decoder_without_its_encoder_is_refused_whole(site: DirectedSite) -> None:
    _, decoder = publish_pair(site, 2)
    report = site.push(decoder)
    assert (report.outcome, report.error) == ("refused", "MixedPairError")
    assert site.served() == SHIPPED


def test_both_are_served_again_after_a_restart(site: DirectedSite) -> None:
    site.push(*publish_pair(site, 2))
    before = site.served()
    site.restart()
    assert site.served() == before


def test_a_version_stays_while_it_is_the_only_one_of_a_device(site: DirectedSite) -> None:
    site.settings = msgspec.structs.replace(site.settings, max_versions=3)
    site.restart()
    for version in (2, 3):
        site.push(site.publish(fine_tuned(site.parent, version)))
    device(site, "old", 2)
    site.push(site.publish(fine_tuned(site.parent, 4)))
    assert site.served() == [*SHIPPED, "decoder/attention/2", "decoder/attention/4"]
    device(site, "old", 2, 4)
    site.push(site.publish(fine_tuned(site.parent, 5)))
    assert site.served() == [*SHIPPED, "decoder/attention/4", "decoder/attention/5"]


def test_encoders_go_only_when_nothing_needs_them(site: DirectedSite) -> None:
    site.settings = msgspec.structs.replace(site.settings, max_versions=2)
    site.restart()
    site.push(*publish_pair(site, 2))
    alone = [publish_pair(site, version)[0] for version in (3, 4)]
    for encoder in alone:
        site.push(encoder)
    site.push(*publish_pair(site, 5))
    encoders = [path for path in site.served() if path.startswith("encoder")]
    assert encoders == ["encoder/anchor/1", "encoder/anchor/2", "encoder/anchor/4", "encoder/anchor/5"]
    assert len(site.runtime.models.all()) == len(encoders) + 3


def test_users_of_a_withdrawn_version_get_what_their_device_holds(site: DirectedSite) -> None:
    second, third = (site.publish(fine_tuned(site.parent, version)) for version in (2, 3))
    site.push(second, third)
    device(site, "both", 1, 3)
    device(site, "bytes", 3, fallbacks=("jpeg",))
    device(site, "nothing", 3)
    assert tell(site, any=(1, 3), both=(1, 3), bytes=(1, 3), nothing=(1, 3)) == []
    site.repository.assign("_every", [second])
    assert site.push().withdrawn == [third]
    assert of_user(site, "any") == ("semantic", 1, 2)
    assert of_user(site, "both") == ("semantic", 1, 1)
    assert of_user(site, "bytes")[0] == "jpeg"
    with pytest.raises(NoUsablePairError):
        of_user(site, "nothing")


def test_a_withdrawn_pair_leaves_the_old_one(site: DirectedSite) -> None:
    encoder, decoder = publish_pair(site, 2)
    site.push(encoder, decoder)
    tell(site, new=(2, 2))
    site.repository.assign("_every", [])
    assert site.push().withdrawn == sorted([decoder, encoder])
    assert site.served() == SHIPPED
    assert of_user(site, "new") == ("semantic", 1, 1)
