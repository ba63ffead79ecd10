"""What is split by site: users, decisions, policies, alarms and assignments."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest
from policy_instances import CONFIGURED, DRONES, VIEW, in_force, observation, policy
from test_ingest import indication
from two_site_laboratory import BERLIN, MEIDS, TOKYO
from xapp_laboratory import settings_for
from xapp_simulated_site import SimulatedSite

from codec_runtime.contract.directives import RejectedDirective
from codec_runtime.contract.telemetry import CapabilityReport, QualityReport
from codec_runtime.contract.updates import SiteStatus
from xapp.alarm_rules import PATIENCE_S, AlarmRules
from xapp.app import XApp
from xapp.ingest import IndicationIngest
from xapp.persistence import Snapshot
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.decision import UnknownPolicyError
from xapp.policy.objectives import UsersView
from xapp.policy.pools import ConfiguredPolicy
from xapp.policy.rate import FixedRate
from xapp.policy.site_pools import SitePools
from xapp.process_state import restore_snapshot, take_snapshot
from xapp.ric.measurement_choice import configured_plan
from xapp.site_watch import ONLY_SITE, SiteWatch
from xapp.status import Status
from xapp.telemetry.columns import LINK_SUMS
from xapp.telemetry.user_table import UserTable


def apart(tmp_path: Path) -> XApp:
    """An xApp with two sites that does not run."""
    names = (BERLIN, TOKYO)
    return XApp(
        settings_for(
            tmp_path,
            "http://127.0.0.1:1",
            "http://127.0.0.1:1",
            sites={name: {"url": f"http://{name}:1", "meids": [MEIDS[name]]} for name in names},
        )
    )


def test_assignments_are_kept_by_site_and_those_of_the_one_site_before_hold_at_each(tmp_path: Path) -> None:
    key, number = ("drone", "attention"), 7
    one, other = (apart(tmp_path) for _ in range(2))
    one.sites[TOKYO].catalog.assign(*key, number)
    snapshot = msgspec.msgpack.encode(take_snapshot(one))
    restore_snapshot(other, msgspec.msgpack.decode(snapshot, type=Snapshot))
    assert other.sites[TOKYO].catalog.assigned == {key: number}
    assert other.sites[BERLIN].catalog.assigned == {}
    earlier = msgspec.msgpack.decode(snapshot)
    del earlier["site_assigned"]
    earlier["assigned"] = [(*key, number)]
    one.sites[TOKYO].catalog.assigned.clear()
    restore_snapshot(one, msgspec.convert(earlier, Snapshot))
    assert [link.catalog.assigned for link in one.sites.links] == [{key: number}] * 2


def test_a_group_is_trained_for_where_most_of_its_measured_users_are(tmp_path: Path) -> None:
    xapp = apart(tmp_path)
    table, rng = xapp.table, random.Random(1)
    users = ["a", "b", "c", "d"]
    for user in users:
        table.fold_capability(
            CapabilityReport(
                user=user, time_ns=0, device_class="drone", group="drone", decoders=[], compute_gflops=1.0
            )
        )
    table.fold_indication(MEIDS[TOKYO], ["a", "b", "c"], {"SINR": [9.0] * 3}, 0.0, 1)
    table.fold_indication(MEIDS[BERLIN], ["d"], {"SINR": [9.0]}, 0.0, 0)
    table.decoder[:] = table.decoders.index("conv")
    for drop_db in [0.0] * 12 + [5.0] * 12:
        for row, user in enumerate(users):
            report = QualityReport(
                user=user, time_ns=0, prefix=6, decoder="conv", decoder_version=1, snr_db=9.0,
                psnr_db=28.0 + rng.gauss(0, 0.5) - drop_db, ms_ssim=0.9, latency_ms=1.0,
            )  # fmt: skip
            table.fold_quality(report, 28.0, 0.0)
            xapp.coordinator.on_quality(report, 28.0, row)
    assert xapp.planner.plan("drone").users == ["a", "b", "c"]
    (drift,) = [event for event in xapp.status.events.after(0) if event["kind"] == "drift_detected"]
    assert drift["site"] == TOKYO


def test_each_site_has_its_nodes_and_its_alarm(tmp_path: Path) -> None:
    xapp = apart(tmp_path)
    assert list(xapp.sites) == [BERLIN, TOKYO]
    assert xapp.sites.by_meid(MEIDS[TOKYO]) is xapp.sites[TOKYO]
    assert xapp.sites.by_meid(MEIDS["nowhere"]) is None
    now = [0.0]
    rules = AlarmRules(xapp.platform.alarms, xapp.status, xapp.table, lambda: now[0])
    no_nodes: Any = SimpleNamespace(clients={})
    xapp.status.peers.up("runtime", BERLIN)
    rules.look(no_nodes, None)
    now[0] = PATIENCE_S
    rules.look(no_nodes, None)
    rules.on_event("site_refused", "bad signature", BERLIN)
    rules.on_event("bundle_swapped", "conv 3", TOKYO)
    active = {(alarm["text"], alarm["identifying_info"]) for alarm in xapp.platform.alarms.active()}
    assert active == {("CODEC RUNTIME UNREACHABLE", TOKYO), ("CODEC UPDATE REFUSED", BERLIN)}


@pytest.mark.parametrize(
    ("label", "called", "name", "told"),
    [("", "osaka", "osaka", 0), (TOKYO, TOKYO, TOKYO, 0), (TOKYO, "osaka", TOKYO, 1)],
)
def test_the_one_site_is_called_as_it_calls_itself_and_a_wrong_name_is_told(
    label: str, called: str, name: str, told: int
) -> None:
    class Client:
        async def site(self) -> SiteStatus:
            return SiteStatus(instance="i", site=called, telemetry_seq=0, models=SimulatedSite().models)

    async def main() -> None:
        status, listener = Status(), Mock()
        parts: Any = (Client(), DecoderCatalog(), UserTable(), status, {}, listener, Mock())
        adapters = Mock(**{"publish.return_value": False})
        watch = SiteWatch(label, 0, *parts, alignment=adapters, on_restart=lambda: None)
        assert watch.name == (label or ONLY_SITE)
        for _ in range(2):
            await watch.refresh()
        assert watch.name == name
        assert [event["kind"] for event in status.events.after(0)] == ["site_misnamed"] * told
        assert {call.args[0] for call in listener.on_served.call_args_list} == {name}

    asyncio.run(main())


def populated() -> UserTable:
    table = UserTable()
    table.fold_indication("west", ["a", "b"], {"SINR": [1.0, 12.0]}, 0.0, 0)
    table.fold_indication("east", ["c"], {"SINR": [5.0]}, 0.0, 1)
    return table


def controllers(table: UserTable) -> list[DirectiveController]:
    catalog = DecoderCatalog()
    catalog.update(SimulatedSite().models)
    policy = FixedRate(budget_prefix=4.0)
    return [DirectiveController(table, catalog, policy, 3.0, site=site) for site in (0, 1)]


def test_a_controller_decides_for_its_site_alone() -> None:
    table = populated()
    west, east = controllers(table)
    assert [directive.user for directive in west.decide(0.1)] == ["a", "b"]
    assert east.full() == []
    assert [directive.user for directive in east.decide(0.1)] == ["c"]
    assert [directive.user for directive in west.full()] == ["a", "b"]


def test_a_user_that_comes_to_another_site_gets_a_directive_there_and_keeps_what_was_learnt() -> None:
    table = populated()
    west, east = controllers(table)
    west.decide(0.1)
    east.decide(0.1)
    table.offset_db[0] = -3.0
    table.fold_indication("east", ["a"], {"SINR": [1.0]}, 0.2, 1)
    assert table.departures == {0: 1}
    assert west.decide(0.2) == []
    assert [directive.user for directive in west.full()] == ["b"]
    assert [directive.user for directive in east.decide(0.2)] == ["a"]
    assert table.offset_db[0] == -3.0
    # To a node that no site serves: nobody decides.
    table.fold_indication("south", ["a"], {"SINR": [1.0]}, 0.3, -1)
    assert table.departures == {0: 1, 1: 1}
    assert east.decide(0.3) == []
    assert [directive.user for directive in east.full()] == ["c"]


def test_what_a_user_measured_of_its_old_link_is_not_believed_of_the_new_one() -> None:
    table = populated()
    for name in LINK_SUMS:
        getattr(table, name)[:2] = 5.0
    table.bit_s[:2] = table.bit_long_s[:2] = 1e-6
    table.fold_indication("east", ["a"], {"SINR": [1.0]}, 0.2, 1)
    sums = [[float(getattr(table, name)[row]) for name in LINK_SUMS] for row in (0, 1)]
    assert sums == [[0.0] * 5, [5.0] * 5]
    assert np.isnan([table.bit_s[0], table.bit_long_s[0]]).all()
    assert table.bit_s[1] == table.bit_long_s[1] == 1e-6  # who stays keeps it


def test_a_late_rejection_of_the_old_site_leaves_the_decision_of_the_new_one() -> None:
    table = populated()
    _, east = controllers(table)
    east.decide(0.1)
    watches = [
        SiteWatch(
            str(site), site, Mock(), DecoderCatalog(), table, Status(), {}, Mock(), Mock(),
            alignment=Mock(), on_restart=Mock(),
        )
        for site in (0, 1)
    ]
    rejected = [RejectedDirective(user="c", reason="unknown version")]
    watches[0].on_rejected(rejected)
    assert table.prefix[2] == 4
    watches[1].on_rejected(rejected)
    assert table.prefix[2] == 0


def test_reports_of_a_node_of_no_site_are_kept_counted_and_told_once() -> None:
    table, status = UserTable(), Status()
    plan = configured_plan("south", period_ms=100)
    ingest = IndicationIngest(
        table, status, site_of=lambda meid: None, plan_of={"south": plan}.get, on_indication=lambda *_: True
    )
    for _ in range(3):
        ingest.on_message(replace(indication(2), meid="south"), 0)
    assert ingest.without_site == {"south": 6}
    assert table.site.tolist() == [-1, -1]
    assert [event["kind"] for event in status.events.after(0)].count("site_missing") == 1


def test_policies_of_one_site_keep_their_state_while_another_decides() -> None:
    pools = SitePools(CONFIGURED, 2)
    pools.replace(in_force(policy(DRONES, constraints={"max_prefix": 3})))
    pools[0].decide(observation(), VIEW)
    seen = pools[0].last
    pools[1].decide(observation(users=1), UsersView(["ue-99"], {"group": [(np.zeros(1, int), ["drone"])]}))
    pools[0].decide(observation(), VIEW)
    assert pools[0].last is seen
    assert [entry["users"] for entry in pools.describe()] == [10 + 1]


def test_a_policy_that_does_not_exist_is_taken_by_no_site() -> None:
    pools = SitePools(CONFIGURED, 2)
    with pytest.raises(UnknownPolicyError):
        pools.configure(ConfiguredPolicy("no such policy"))
    for site in (0, 1):
        assert len(pools[site].decide(observation()).prefix) == 20
