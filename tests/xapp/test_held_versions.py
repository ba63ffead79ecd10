"""A user gets the newest pair that its device holds, else a conventional codec, else no directive."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from xapp_simulated_site import ENCODER_WEIGHTS, make_manifest

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.directives import ConventionalCodec, Directive
from codec_runtime.contract.telemetry import CapabilityReport, HeldDecoder
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.pair_watch import PairWatch
from xapp.policy.rate import AdaptiveRate
from xapp.telemetry.columns import NO_PAIR
from xapp.telemetry.holdings import MOST_HELD, UNKNOWN, HeldSets, Holdings
from xapp.telemetry.user_table import UserTable

NEW_ENCODER = b"encoder weights 2"


def of_new_encoder(family: str, version: int) -> BundleManifest:
    import msgspec

    manifest = make_manifest("decoder", family, version, f"{family}{version}".encode())
    return msgspec.structs.replace(manifest, encoder_sha256=hashlib.sha256(NEW_ENCODER).hexdigest())


OLD_PAIR = [
    make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS),
    make_manifest("decoder", "attention", 1, b"a1"),
]
NEW_PAIR = [make_manifest("encoder", "anchor", 2, NEW_ENCODER), of_new_encoder("attention", 2)]


def report(
    user: str, holds: list[tuple[str, int]] | None, fallbacks: tuple[ConventionalCodec, ...] = ()
) -> CapabilityReport:
    return CapabilityReport(
        user=user, time_ns=0, device_class="car", group="car", decoders=["attention"], compute_gflops=1,
        holds=None if holds is None else [HeldDecoder(family=f, version=v) for f, v in holds],
        fallbacks=list(fallbacks),
    )


class Cell:
    """Users with channels, a catalog and a controller."""

    def __init__(self, *reports: CapabilityReport) -> None:
        self.table, self.catalog = UserTable(), DecoderCatalog()
        self.controller = DirectiveController(self.table, self.catalog, AdaptiveRate(), 3.0)
        self.now = 0.0
        for each in reports:
            self.table.fold_capability(each)
        users = [each.user for each in reports]
        self.table.fold_indication("n", users, {"SINR": np.full(len(users), 9.0)}, 0.0)

    def decide(self) -> dict[str, Directive]:
        self.now += 0.01
        return {d.user: d for d in self.controller.decide(self.now)}


def pair(directive: Directive) -> tuple[int, int]:
    return directive.encoder_version, directive.decoder_version


def test_each_user_switches_when_its_own_device_holds_the_new_pair() -> None:
    cell = Cell(report("ready", [("attention", 1), ("attention", 2)]), report("late", [("attention", 1)]))
    cell.catalog.update(OLD_PAIR)
    assert {pair(d) for d in cell.decide().values()} == {(1, 1)}
    cell.catalog.update(OLD_PAIR + NEW_PAIR)
    assert {user: pair(d) for user, d in cell.decide().items()} == {"ready": (2, 2)}
    cell.table.fold_capability(report("late", [("attention", 2)]))
    assert {user: pair(d) for user, d in cell.decide().items()} == {"late": (2, 2)}


def test_a_device_that_names_no_versions_takes_what_is_served() -> None:
    cell = Cell(report("any", None))
    cell.catalog.update(OLD_PAIR + NEW_PAIR)
    assert pair(cell.decide()["any"]) == (2, 2)


def test_a_decoder_whose_encoder_is_not_loaded_is_never_chosen() -> None:
    cell = Cell(report("u", [("attention", 1), ("attention", 2)]))
    cell.catalog.update([*OLD_PAIR, of_new_encoder("attention", 2)])
    assert pair(cell.decide()["u"]) == (1, 1)


def test_without_a_held_decoder_the_first_common_codec_stands_in() -> None:
    cell = Cell(report("old", [("attention", 9)], ("heic", "jpeg")))
    cell.catalog.update(OLD_PAIR, ("jpeg",))
    directive = cell.decide()["old"]
    assert (directive.codec, directive.decoder, *pair(directive)) == ("jpeg", "", 0, 0)
    assert cell.table.expected_psnr_db[0] == pytest.approx(
        cell.catalog.surfaces[cell.catalog.fallbacks["jpeg"].surface].at(9.0, directive.prefix), abs=0.5
    )
    cell.catalog.update(OLD_PAIR, ("jpeg", "heic"))
    assert cell.decide()["old"].codec == "heic"
    cell.table.fold_capability(report("old", [("attention", 1)], ("heic",)))
    back = cell.decide()["old"]
    assert (back.codec, *pair(back)) == ("semantic", 1, 1)


def test_a_user_that_can_take_nothing_has_no_directive_and_is_told_of() -> None:
    cell = Cell(report("lost", [("attention", 1)]), report("fine", None))
    events: list[str] = []
    registry = CollectorRegistry()
    watch = PairWatch(cell.table, lambda kind, text, **details: events.append(text), registry)
    cell.catalog.update(OLD_PAIR)
    cell.decide()
    watch.look()
    assert events == []
    cell.catalog.update(NEW_PAIR)
    assert {user: pair(d) for user, d in cell.decide().items()} == {"fine": (2, 2)}
    watch.look()
    watch.look()
    assert [text.partition(":")[0] for text in events] == ["lost"]
    assert [d.user for d in cell.controller.full()] == ["fine"]
    assert cell.table.codec[0] == NO_PAIR
    text = generate_latest(registry).decode()
    assert "semcom_xapp_users_without_pair 1.0" in text
    line = 'semcom_xapp_users_on_pair{decoder="attention",decoder_version="2",encoder_version="2"} 1.0'
    assert line in text
    cell.table.fold_capability(report("lost", [("attention", 2)]))
    assert list(cell.decide()) == ["lost"]
    watch.look()
    assert len(events) == 2


def test_a_site_that_serves_nothing_for_a_moment_costs_nobody_the_directive() -> None:
    cell = Cell(report("u", None))
    cell.catalog.update(OLD_PAIR)
    cell.decide()
    cell.catalog.update([])
    assert cell.decide() == {}
    assert len(cell.controller.full()) == 1


def test_the_newest_held_ancestor_of_an_assigned_version_comes_before_the_base() -> None:
    catalog = DecoderCatalog()
    tuned = [make_manifest("decoder", "attention", v, b"t%d" % v, parent=v - 1) for v in (2, 3)]
    catalog.update(OLD_PAIR + tuned)
    catalog.assign("car", "attention", 3)

    def version(*held: int) -> int:
        chosen = catalog.choose(
            "car", ("attention",), Holdings(frozenset(("attention", v) for v in held), ())
        )
        assert chosen is not None
        return chosen.version

    assert (version(1, 2, 3), version(1, 2), version(1)) == (3, 2, 1)


def test_reported_entries_out_of_range_are_counted_and_left_out() -> None:
    table = UserTable()
    table.fold_capability(report("u", [("", 1), ("x" * 65, 1), ("attention", 0), ("attention", 4)]))
    assert table.out_of_range["holds"] == 3
    assert table.held.at(int(table.held_set[0])).decoders == {("attention", 4)}
    table.fold_capability(report("u", [("attention", v) for v in range(1, MOST_HELD + 11)]))
    assert table.out_of_range["holds"] == 13
    assert len(table.held.at(int(table.held_set[0])).decoders or ()) == MOST_HELD


def test_what_devices_held_long_ago_is_forgotten() -> None:
    table = UserTable()
    for version in range(1, 2000):
        table.fold_capability(report("u", [("attention", version)]))
    assert len(table.held.sets) < 100
    assert table.held.at(int(table.held_set[0])).holds("attention", 1999)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([UNKNOWN, *(Holdings(frozenset({("a", v)})) for v in range(5))]), max_size=8))
def test_compacting_keeps_what_each_user_holds(held: list[Holdings]) -> None:
    sets = HeldSets()
    for version in range(5):
        sets.index(Holdings(frozenset({("a", version)})))
    column = np.array([sets.index(one) for one in held], np.int64)
    sets.compact(column)
    assert [sets.at(int(index)) for index in column] == held
    assert len(sets.sets) == len(set(held) - {UNKNOWN})
