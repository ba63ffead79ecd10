"""Decoder choice and changed directives."""

from __future__ import annotations

import numpy as np
import pytest
from xapp_simulated_site import ENCODER_WEIGHTS, make_manifest, quality_points

from codec_runtime.contract.telemetry import CapabilityReport, QualityReport
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.rate import AdaptiveRate
from xapp.telemetry.user_table import UserTable


def served() -> DecoderCatalog:
    catalog = DecoderCatalog()
    catalog.update(
        [
            make_manifest("encoder", "anchor", 3, ENCODER_WEIGHTS),
            make_manifest("decoder", "attention", 1, b"a1"),
            make_manifest("decoder", "attention", 2, b"a2", parent=1, quality=[]),
            make_manifest("decoder", "conv", 1, b"c1", quality=quality_points(-1.0)),
        ]
    )
    return catalog


def populated(users: int = 6) -> UserTable:
    table = UserTable()
    for i in range(users):
        group, decoders = ("drone", ["attention", "conv"]) if i % 2 else ("fixed", ["conv"])
        table.fold_capability(
            CapabilityReport(
                user=f"ue-{i}",
                time_ns=0,
                device_class="drone",
                group=group,
                decoders=decoders,
                compute_gflops=1,
            )
        )
    snr = np.linspace(0, 15, users)
    table.fold_indication("n", [f"ue-{i}" for i in range(users)], {"SINR": snr}, 0.0)
    return table


def test_best_runnable_decoder_in_the_version_of_the_group() -> None:
    catalog = served()
    assert catalog.choose("drone", ("attention", "conv")).version == 1  # the fine-tuned one is not theirs
    catalog.assign("drone", "attention", 2)
    assert catalog.choose("drone", ("attention", "conv")).version == 2
    assert catalog.choose("car", ("attention", "conv")).version == 1
    assert catalog.choose("fixed", ("unheard-of", "conv")).family == "conv"
    assert catalog.choose("fixed", ("unheard-of",)) is None
    assert catalog.choose("car", ("conv",)).encoder_version == 3


def test_an_assigned_version_that_is_not_served_falls_back_and_is_missing() -> None:
    catalog = served()
    catalog.assign("drone", "attention", 9)
    assert catalog.choose("drone", ("attention",)).version == 1
    assert catalog.missing() == {("drone", "attention"): 9}


def test_a_version_without_surface_borrows_its_parents() -> None:
    catalog = served()
    assert catalog.surface("attention", 2) is catalog.surface("attention", 1)


def test_only_changes_are_sent() -> None:
    table, catalog = populated(), served()
    controller = DirectiveController(table, catalog, AdaptiveRate(), 3.0)
    first = controller.decide(0.1)
    assert {d.user for d in first} == {f"ue-{i}" for i in range(6)}
    assert {d.decoder for d in first if int(d.user[3:]) % 2} == {"attention"}
    assert {d.decoder for d in first if not int(d.user[3:]) % 2} == {"conv"}
    assert all(d.snr_db == round(d.snr_db) for d in first)
    assert controller.decide(0.2) == []
    catalog.assign("drone", "attention", 2)
    changed = controller.decide(0.3)
    assert {d.user for d in changed} == {"ue-1", "ue-3", "ue-5"}
    assert {d.decoder_version for d in changed} == {2}
    assert len(controller.full()) == 6


def test_stale_users_keep_their_directive() -> None:
    table = populated()
    controller = DirectiveController(table, served(), AdaptiveRate(), 3.0)
    controller.decide(0.1)
    assert controller.decide(10.0) == []
    assert len(controller.full()) == 6


def test_nothing_is_decided_while_the_site_serves_nothing() -> None:
    controller = DirectiveController(populated(), DecoderCatalog(), AdaptiveRate(), 3.0)
    assert controller.decide(0.1) == []
    assert controller.full() == []


def test_hard_content_moves_the_rates() -> None:
    table = populated(10)
    controller = DirectiveController(table, served(), AdaptiveRate(), 3.0)
    controller.decide(0.1)
    before = table.prefix.copy()
    for i in range(20):
        report = QualityReport(
            user="ue-9",
            time_ns=0,
            prefix=6,
            decoder="attention",
            decoder_version=1,
            snr_db=15.0,
            psnr_db=24.0,
            ms_ssim=0.9,
            latency_ms=1,
        )
        table.fold_quality(report, 28.5, 0.1 + 0.1 * i)
    controller.decide(2.1)
    assert table.prefix[9] != before[9]


def test_without_any_measured_surface_a_prior_is_used() -> None:
    catalog = DecoderCatalog()
    catalog.update(
        [
            make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS),
            make_manifest("decoder", "conv", 1, b"c", quality=[]),
        ]
    )
    surface = catalog.surface("conv", 1)
    assert surface is not None
    assert surface.at(5.0, 12) - surface.at(5.0, 6) == pytest.approx(1.5)
    assert len(DirectiveController(populated(), catalog, AdaptiveRate(), 3.0).decide(0.1)) == 6
