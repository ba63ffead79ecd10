"""Cuts of classifying users: who gets one, what moves them, limits, rejections, what reports teach."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest
from classifying_scene import (
    ALL_ON_DEVICE,
    ALL_ON_EDGE,
    NETWORK,
    QUIET,
    capability,
    graph,
    hear,
    published,
    scene,
)

from codec_runtime.contract.classification import PublishedCut, SplitReport, plain_id, squeezed_name
from codec_runtime.contract.devices import ASSUMED_CLASSES, DEVICES
from xapp.policy.split_control import REJECTED_S, SplitController
from xapp.policy.split_estimates import predicted_bps
from xapp.split_options import SplitOptions
from xapp.telemetry.user_table import UserTable

CUTS = {cut.cut: cut for cut in published()}


def _decided(controller: SplitController, now_s: float) -> dict[str, str]:
    return {directive.user: directive.cut for directive in controller.decide(now_s)}


def _report(user: str, cut: str, /, **changes: object) -> SplitReport:
    report = SplitReport(
        user=user, network=NETWORK, version=1, cut=cut, device_class="phone-mid", time_ns=0, device_ms=1.0,
        network_ms=50.0, edge_ms=5.0, feature_bytes=CUTS[cut].feature_bytes,
    )
    return msgspec.structs.replace(report, **changes)


def test_nothing_is_decided_without_a_published_cut_its_graph_or_a_classifying_user() -> None:
    table, controller = scene({"ue-1": "phone-mid"})
    empty = SplitController(table, QUIET, 3.0)
    assert empty.decide(0.1) == []
    empty.publish(published())
    assert empty.missing_graphs() == [graph().digest]
    assert empty.decide(0.2) == []
    empty.add_graph(graph())
    assert empty.missing_graphs() == []
    assert len(empty.decide(0.3)) == 1
    silent = UserTable()
    hear(silent, ["ue-1"], 10.0, 0.0)
    controller = SplitController(silent, QUIET, 3.0)
    controller.publish(published())
    controller.add_graph(graph())
    assert controller.decide(0.1) == []


def test_a_weak_device_offloads_a_strong_one_computes_itself_and_each_is_told_once() -> None:
    _, controller = scene({"weak": "sensor-small", "strong": "drone"}, snr_db=-5.0)
    first = _decided(controller, 0.1)
    assert CUTS[first["weak"]].feature_bytes > 0
    assert first["strong"] == ALL_ON_DEVICE.cut
    assert _decided(controller, 1.1) == {}
    assert {directive.user: directive.cut for directive in controller.full()} == first
    assert sum(controller.users_by_cut().values()) == 2


def test_a_fading_channel_moves_the_cut_to_fewer_bytes_and_back() -> None:
    table, controller = scene({"ue-1": "phone-low"}, snr_db=22.0)
    sent = [CUTS[_decided(controller, 0.1)["ue-1"]].feature_bytes]
    for snr_db, start in ((-12.0, 1), (22.0, 200)):
        for second in range(start, start + 150):
            hear(table, ["ue-1"], snr_db, float(second))
            controller.decide(float(second))
        key = controller.cut_of(0)
        assert key is not None
        sent.append(CUTS[key[2]].feature_bytes)
    assert sent[1] < sent[0]
    assert sent[2] > sent[1]  # within the band of the best is enough
    assert 2 <= controller.counters.moves <= 6
    assert controller.counters.firsts == 1


def test_a_channel_that_flickers_about_a_threshold_moves_nothing() -> None:
    table, controller = scene({"ue-1": "phone-low"}, snr_db=10.0)
    controller.decide(0.0)
    random = np.random.default_rng(1)
    for second in range(1, 200):
        hear(table, ["ue-1"], 10.0 + float(random.normal(0, 1.0)), float(second))
        controller.decide(float(second))
    assert controller.counters.moves <= 1


def test_stale_users_and_those_of_another_site_keep_what_they_have() -> None:
    table, controller = scene({"ue-1": "phone-mid", "ue-2": "phone-mid"}, site=1)
    hear(table, ["ue-1"], 15.0, 0.0, site=1)
    assert list(_decided(controller, 0.1)) == ["ue-1"]
    assert _decided(controller, 10.0) == {}
    assert [directive.user for directive in controller.full()] == ["ue-1"]
    hear(table, ["ue-1"], 15.0, 11.0, site=0)
    assert controller.full() == []


def test_a_rejected_cut_is_replaced_by_another_and_comes_back_later() -> None:
    table, controller = scene({"ue-1": "sensor-small", "ue-2": "sensor-small"})
    first = _decided(controller, 0.1)
    controller.on_rejected(["ue-1", "nobody"], 0.2)
    second = _decided(controller, 1.1)
    assert set(second) == {"ue-1"}
    assert second["ue-1"] != first["ue-1"]
    assert controller.counters.rejected == 2
    controller.publish(())
    controller.publish(published())
    controller.add_graph(graph())
    for now_s, again in ((REJECTED_S - 1.0, second), (REJECTED_S + 1.0, first)):
        table.cut[:] = -1
        hear(table, ["ue-1"], 15.0, now_s)
        assert _decided(controller, now_s) == {"ue-1": again["ue-1"]}


def test_a_user_whose_every_cut_was_rejected_is_left_alone() -> None:
    table, controller = scene({"ue-1": "phone-mid"})
    for turn in range(len(published())):
        assert len(_decided(controller, 0.1 * turn)) == 1
        controller.on_rejected(["ue-1"], 0.1 * turn)
    assert _decided(controller, 2.0) == {}
    assert controller.full() == []
    assert table.cut[0] == -1


def test_a_new_version_replaces_the_old_one_and_withdrawn_cuts_are_forgotten() -> None:
    table, controller = scene({"ue-1": "phone-mid"})
    controller.decide(0.1)
    controller.publish(published() + published(2))
    directives = controller.decide(1.1)
    assert [(one.user, one.version) for one in directives] == [("ue-1", 2)]
    kept = published(2)[1:]
    controller.publish(kept)
    key = controller.cut_of(0)
    assert key is None or key in {(cut.network, cut.version, cut.cut) for cut in kept}
    controller.publish(())
    assert table.cut[0] == -1
    assert controller.full() == []


def test_cuts_that_do_not_belong_to_their_graph_are_not_offered() -> None:
    _, controller = scene({"ue-1": "sensor-small"})
    good = ALL_ON_EDGE
    wrong = [
        msgspec.structs.replace(good, device=(*good.device[:-1], 10_000)),
        msgspec.structs.replace(published()[1], cut="0" * 16),
    ]
    controller.publish([*wrong, ALL_ON_DEVICE])
    assert _decided(controller, 0.1) == {"ue-1": ALL_ON_DEVICE.cut}
    controller.publish([*wrong, good])
    assert _decided(controller, 0.2) == {"ue-1": good.cut}


def _with_squeezed_cut(agreement: float) -> tuple[PublishedCut, ...]:
    """What the site publishes, and an operating point of one of its cuts: a tenth of the bytes."""
    plain = sorted(published(), key=lambda cut: len(cut.device))[2]
    squeezed = msgspec.structs.replace(
        plain, cut=squeezed_name(plain.cut, 1), feature_bytes=plain.feature_bytes // 10,
        cap_bytes=plain.feature_bytes, agreement=agreement,
    )
    return (*published(), squeezed)


@pytest.mark.parametrize(
    ("snr_db", "options", "agreement", "squeezes"),
    [
        (-8.0, QUIET, 0.95, True),  # a slow link: fewer bytes are worth a wrong answer in twenty
        (25.0, QUIET, 0.95, False),
        (-8.0, SplitOptions(per_joule=0.0, per_disagreement=100.0), 0.95, False),
        (-8.0, SplitOptions(per_joule=0.0, min_agreement=0.97), 0.95, False),
        (-8.0, SplitOptions(per_joule=0.0, per_disagreement=0.0), 0.0, True),
    ],
)
def test_a_squeezed_cut_is_chosen_where_its_bytes_outweigh_its_wrong_answers(
    snr_db: float, options: SplitOptions, agreement: float, squeezes: bool
) -> None:
    _, controller = scene({"ue-1": "sensor-small"}, options, snr_db=snr_db)
    controller.publish(_with_squeezed_cut(agreement))
    chosen = _decided(controller, 0.1)["ue-1"]
    assert (plain_id(chosen) != chosen) is squeezes


def test_privacy_keeps_the_input_on_the_device_whatever_it_costs() -> None:
    _, controller = scene({"ue-1": "sensor-small"}, msgspec.structs.replace(QUIET, min_depth=3), snr_db=25.0)
    cut = CUTS[_decided(controller, 0.1)["ue-1"]]
    depths = {index: node.depth for index, node in enumerate(graph().nodes)}
    device = set(cut.device)
    crossing = {source for source, target in graph().edges if source in device and target not in device}
    assert all(depths[index] >= 3 for index in crossing)


def test_deadline_and_energy_choose_among_those_that_keep_them() -> None:
    _, free = scene({"ue-1": "camera"}, snr_db=0.0)
    _, frugal = scene({"ue-1": "camera"}, SplitOptions(per_joule=0.0, energy_mj=1.0), snr_db=0.0)
    _, hurried = scene({"ue-1": "camera"}, SplitOptions(per_joule=10.0, deadline_ms=1.0), snr_db=0.0)
    _, joules = scene({"ue-1": "camera"}, SplitOptions(per_joule=10.0), snr_db=0.0)
    assert set(_decided(frugal, 0.1)) == {"ue-1"}  # nothing keeps it: the best one counts
    assert _decided(hurried, 0.1) == _decided(joules, 0.1)
    assert set(_decided(free, 0.1)) == {"ue-1"}


def test_an_empty_battery_spares_joules_and_mains_does_not_count_them() -> None:
    costs = {}
    for name, battery in (("mains", None), ("full", 1.0), ("empty", 0.05)):
        table, controller = scene({"ue-1": "wearable"}, SplitOptions(per_joule=1.0), snr_db=8.0)
        table.fold_capability(capability("ue-1", "wearable", battery=battery))
        cut = CUTS[_decided(controller, 0.1)["ue-1"]]
        costs[name] = len(cut.device)
    assert costs["empty"] <= costs["full"]
    assert np.isnan(scene({"a": "camera"})[0].battery[0])


def test_slow_tails_in_reports_send_users_back_to_their_devices() -> None:
    table, controller = scene({"ue-1": "wearable"}, snr_db=25.0)
    first = _decided(controller, 0.1)["ue-1"]
    assert CUTS[first].feature_bytes
    for _ in range(30):
        controller.note_report(_report("ue-1", first, device_class="wearable", edge_ms=9000.0))
    for second in range(1, 30):
        hear(table, ["ue-1"], 25.0, float(second))
        controller.decide(float(second))
    key = controller.cut_of(0)
    assert key is not None
    assert key[2] == ALL_ON_DEVICE.cut
    assert controller.counters.reports == 30
    # Nobody reports of the server any more; in time it is tried again.
    for second in range(30, 600, 2):
        hear(table, ["ue-1"], 25.0, float(second))
        controller.decide(float(second))
    key = controller.cut_of(0)
    assert key is not None
    assert CUTS[key[2]].feature_bytes


def test_what_users_of_one_site_reported_is_not_forgotten_faster_for_other_sites_that_decide() -> None:
    def weight_after(other_sites: int) -> float:
        table, controller = scene({"ue-1": "wearable"}, snr_db=25.0, site=0)
        others = [SplitController(table, QUIET, 3.0, site) for site in range(1, other_sites + 1)]
        cut = _decided(controller, 0.1)["ue-1"]
        for _ in range(10):
            controller.note_report(_report("ue-1", cut, device_class="wearable", network_ms=900.0))
        for second in range(1, 21):
            for each in (controller, *others):
                each.decide(float(second))
        return float(table.net_w[0])

    assert weight_after(0) > 0.0
    assert weight_after(4) == weight_after(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"user": "nobody"}, {"cut": "0" * 16}, {"version": 7}, {"device_class": "toaster"},
        {"network_ms": -1.0}, {"edge_ms": float("nan")}, {"device_ms": 1e9}, {"feature_bytes": -1},
    ],
)  # fmt: skip
def test_reports_out_of_range_are_counted_and_teach_nothing(changes: dict[str, object]) -> None:
    _, controller = scene({"ue-1": "phone-mid"})
    first = _decided(controller, 0.1)["ue-1"]
    controller.note_report(_report("ue-1", first, **changes))
    assert controller.counters.unused_reports == 1
    assert controller.counters.reports == 0
    assert _decided(controller, 1.0) == {}


def test_rates_follow_the_channel_within_what_one_layer_carries() -> None:
    rates = predicted_bps(np.array([-40.0, 0.0, 10.0, 60.0]), 1e6)
    assert rates[0] == 10e3
    assert rates[1] == pytest.approx(0.75e6)
    assert np.all(np.diff(rates) > 0)
    assert rates[3] == pytest.approx(7.4063e6)


def test_unknown_classes_and_senseless_rates_do_not_classify() -> None:
    table = UserTable()
    table.fold_capability(capability("ue-1", "toaster"))
    table.fold_capability(capability("ue-2", rate=float("inf")))
    assert table.classifier.tolist() == [-1, -1]
    assert table.out_of_range["classifier"] == 2
    table.fold_capability(capability("ue-2"))
    assert table.classifier[1] == 0


@pytest.mark.parametrize(
    ("name", "value"), [("edge_class", "cloud"), ("period_s", 0.0), ("band", -1.0), ("min_depth", -1)]
)
def test_options_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        SplitOptions(**{name: value})  # type: ignore[arg-type]


def test_a_thousand_users_of_eight_classes_are_decided_about_in_one_call() -> None:
    names = [one.name for one in ASSUMED_CLASSES]
    users = {f"ue-{index}": names[index % len(names)] for index in range(1000)}
    assert set(users.values()) <= DEVICES.keys()
    table, controller = scene(users)
    random = np.random.default_rng(2)
    hear(table, list(users), random.uniform(-5, 25, 1000).tolist(), 0.0)
    assert len(controller.decide(0.1)) == 1000
    spent = []
    for second in range(1, 6):
        hear(table, list(users), random.uniform(-5, 25, 1000).tolist(), float(second))
        start = time.thread_time()
        controller.decide(float(second))
        spent.append(time.thread_time() - start)
    print(f"1000 users: {1e3 * min(spent):.1f} ms")
    assert sum(controller.users_by_cut().values()) == 1000
