"""Federated updates in the xApp: the sites' mean, the steps of an update, what is chosen, whom it reaches."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from codec_runtime.adapters.aggregation import holders_mean
from codec_runtime.contract.alignment import AdapterTable, AdapterTableAck, AlignmentReport, AlignmentUpdate
from codec_runtime.contract.telemetry import CapabilityReport, TrainingReport
from codec_runtime.contract.updates import TrainingJob
from xapp.app import XApp
from xapp.process_state import restore_snapshot, take_snapshot
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable
from xapp.settings import XAppSettings
from xapp.site_alignment import SiteAlignment
from xapp.telemetry.user_table import UserTable
from xapp.updates.aggregation import UpdateRefusedError, aggregate, usable
from xapp.updates.candidates import gate_adapter
from xapp.updates.federation import FederatedUpdate, Outcome, RoundSettings
from xapp.updates.planner import AdapterJob, PlannerSettings, Stage, UpdatePlanner

from xapp_simulated_site import make_manifest  # isort: skip

JOB = AdapterJob("x-1", "shared", 1, 2, 10.0)


def update(weights: dict[str, Any], shares: dict[str, float], job: str = "j") -> AlignmentUpdate:
    return AlignmentUpdate(
        job=job, weights=save(weights), shares=shares, samples=10, confidence=0.5, rounds=1, users=2,
        rsum_before=100.0, rsum_after=200.0,
    )  # fmt: skip


def test_the_mean_of_the_sites_means_is_the_mean_over_all_users() -> None:
    generator = np.random.default_rng(3)
    parent = {name: generator.standard_normal(4).astype(np.float32) for name in ("a", "b", "c")}
    users = []
    for holds in ("a", "ab", "b", "a", "ab"):
        moved = {n: generator.standard_normal(4).astype(np.float32) if n in holds else v
                 for n, v in parent.items()}  # fmt: skip
        users.append((moved, float(generator.uniform(1.0, 9.0))))
    torch_parent = {name: torch.from_numpy(value) for name, value in parent.items()}

    def flat(members: list[tuple[dict[str, Any], float]]) -> dict[str, Any]:
        weights = [{n: torch.from_numpy(v) for n, v in w.items()} for w, _ in members]
        return holders_mean(torch_parent, weights, [share for _, share in members])

    updates = {}
    for site, members in (("east", users[:2]), ("west", users[2:])):
        shares: Counter[str] = Counter()
        for moved, share in members:
            shares.update({n: share for n in parent if not np.array_equal(moved[n], parent[n])})
        updates[site] = update({n: v.numpy() for n, v in flat(members).items()}, dict(shares))
    weights, refused = usable(updates)
    mean = load(aggregate(weights, updates))
    assert refused == []
    for name, wanted in flat(users).items():
        np.testing.assert_allclose(mean[name], wanted.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(mean["c"], parent["c"])


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (update({"a": np.array([np.nan], np.float32)}, {"a": 1.0}), "NaN"),
        (update({"a": np.zeros(1, np.float32)}, {"a": -1.0}), "negative"),
        (update({"a": np.zeros(1, np.float32)}, {"z": 1.0}), "unknown tensors: z"),
        (update({"a": np.zeros(2, np.float32)}, {"a": 1.0}), "not those of the other sites"),
    ],
)
def test_a_bad_update_is_left_out_with_its_reason(bad: AlignmentUpdate, text: str) -> None:
    good = update({"a": np.ones(1, np.float32)}, {"a": 1.0})
    weights, refused = usable({"a": good, "b": bad})
    assert list(weights) == ["a"]
    assert text in refused[0]
    assert load(aggregate(weights, {"a": good}))["a"] == 1.0


def test_nothing_changed_anywhere_is_no_update() -> None:
    same = {"a": update({"a": np.ones(1, np.float32)}, {})}
    with pytest.raises(UpdateRefusedError, match="no site has changed"):
        aggregate(usable(same)[0], same)


class Client:
    """A site's runtime: ends each job at the second question."""

    def __init__(self, ends: str = "succeeded", value: float = 1.0) -> None:
        self.ends = ends
        self.value = value
        self.orders: list[Any] = []
        self.away = False

    def _check(self) -> None:
        if self.away:
            raise RuntimeUnavailable("away")

    async def submit_alignment_job(self, job: Any) -> TrainingReport:
        self._check()
        if self.ends == "refused":
            raise RuntimeRefused("unknown version 1 of adapter 'shared'", 400)
        self.orders.append(job)
        return TrainingReport(job=job.job, time_ns=0, state="queued")

    async def job(self, job: str) -> TrainingReport:
        self._check()
        state: Any = self.ends if self.ends in ("succeeded", "failed") else "running"
        return TrainingReport(job=job, time_ns=0, state=state, detail="died" if state == "failed" else "")

    async def alignment_update(self, job: str) -> AlignmentUpdate:
        self._check()
        return update({"a": np.full(1, self.value, np.float32)}, {"a": self.value}, job)


def run(clients: dict[str, Client], steps: int = 12, deadline_s: float = 5.0) -> Outcome | None:
    now = [0.0]
    users = {site: [f"{site}-{i}" for i in range(3 if site == "west" else 2)] for site in clients}
    found = FederatedUpdate(
        JOB, {**users, "empty": []}, {**clients, "empty": Client()}, RoundSettings(4, 9.0, deadline_s),
        lambda: now[0],
    )  # fmt: skip

    async def main() -> Outcome | None:
        for _ in range(steps):
            outcome = await found.step()
            if outcome is not None:
                return outcome
            now[0] += 1.0
        return None

    return asyncio.run(main())


def test_one_sites_candidate_is_the_outcome() -> None:
    client = Client()
    assert run({"east": client}) == Outcome("east", "x-1.0", sites=["east"], refused=[])
    (order,) = client.orders
    assert (order.rounds, order.weights, order.users) == (4, b"", ["east-0", "east-1"])


def test_the_mean_of_several_sites_is_measured_where_most_users_are() -> None:
    clients = {"east": Client(value=1.0), "west": Client(value=3.0)}
    outcome = run(clients)
    assert outcome is not None
    assert (outcome.site, outcome.job, sorted(outcome.sites)) == ("west", "x-1.2", ["east", "west"])
    order = clients["west"].orders[-1]
    assert (order.rounds, order.new_version) == (0, 2)
    assert load(order.weights)["a"] == pytest.approx((1.0 * 1.0 + 3.0 * 3.0) / 4.0)


@pytest.mark.parametrize("ends", ["failed", "refused", "hangs"])
def test_a_site_that_gives_nothing_is_left_out_and_named(ends: str) -> None:
    outcome = run({"east": Client(), "west": Client(ends)})
    assert outcome is not None
    assert (outcome.site, outcome.failed) == ("east", "")
    assert outcome.refused[0].startswith("west: ")


def test_without_any_part_the_update_fails_and_nothing_hangs() -> None:
    away = Client()
    away.away = True
    outcome = run({"east": away, "west": Client("failed")})
    assert outcome is not None
    assert "east: no end within 5 s" in outcome.failed
    assert "west: died" in outcome.failed


def plans() -> UpdatePlanner:
    return UpdatePlanner(PlannerSettings(collect_s=2.0, cooldown_s=20.0, min_pictures=0), "x")


ADAPTERS = {("drone", "shared"): 1}
DECODERS = {("drone", "conv"): 4}


def quality_drift(planner: UpdatePlanner, now: float) -> bool:
    return planner.on_drift("drone", Counter(["conv"]), ["u"], now)


def test_what_drifted_decides_what_is_updated() -> None:
    alone, other, both = plans(), plans(), plans()
    assert alone.on_alignment_drift("drone", "shared", 0.0)
    assert quality_drift(other, 0.0)
    assert both.on_alignment_drift("drone", "shared", 0.0)
    assert quality_drift(both, 1.0)
    assert [p.plan("drone").choice for p in (alone, other, both)] == ["adapter", "decoder", "full"]
    assert not both.on_alignment_drift("drone", "shared", 1.5)
    started = both.next_job(DECODERS, 2.0, ADAPTERS)
    assert started is not None
    assert isinstance(started[1], AdapterJob)
    assert (started[1].parent_version, started[1].new_version) == (1, 2)
    assert not quality_drift(both, 2.5), "training has begun"
    job = started[1].job
    both.on_training(TrainingReport(job=job, time_ns=0, state="succeeded"), 3.0)
    both.on_accepted(job, 40.0, 4.0)
    both.on_delivered(job, 5.0)
    assert both.plan("drone").last_gain_rsum == 40.0
    assert both.plan("drone").stage is Stage.DRIFTED
    second = both.next_job(DECODERS, 7.0, ADAPTERS)
    assert second is not None
    assert isinstance(second[1], TrainingJob)
    assert second[1].new_version == 5


def test_a_decoder_drift_is_widened_too_and_an_adapter_that_nobody_serves_is_left_out() -> None:
    planner = plans()
    quality_drift(planner, 0.0)
    assert planner.on_alignment_drift("drone", "shared", 0.5)
    assert planner.plan("drone").choice == "full"
    started = planner.next_job(DECODERS, 2.0, {})
    assert started is not None
    assert isinstance(started[1], TrainingJob)


def test_an_adapter_is_judged_by_retrieval_and_its_knowledge_base() -> None:
    manifest: Any = make_manifest("adapter", "shared", 2, b"w", parent=1)
    verdict = gate_adapter(manifest, JOB, skb_sha256="", min_gain_rsum=2.0)
    assert "states no heldout_gain_rsum" in verdict.reason
    for gain, accepted in ((1.0, False), (30.0, True)):
        manifest.metrics["heldout_gain_rsum"] = gain
        assert gate_adapter(manifest, JOB, skb_sha256="", min_gain_rsum=2.0).accepted is accepted
    assert "another knowledge base" in gate_adapter(manifest, JOB, skb_sha256="c", min_gain_rsum=0).reason


def test_the_table_names_whom_the_sites_own_choice_is_wrong_for_until_it_is_acknowledged() -> None:
    now, sent = [0.0], list[AdapterTable]()
    answers: list[Any] = [RuntimeUnavailable("away"), AdapterTableAck(instance="i", applied=1)]

    async def put(table: AdapterTable) -> AdapterTableAck:
        sent.append(table)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    table = UserTable()
    site = SiteAlignment(put, table, "x", lambda: now[0])
    for user, group in (("a", "drone"), ("b", "drone"), ("c", "car")):
        table.fold_capability(CapabilityReport(
            user=user, time_ns=0, device_class="drone", group=group, decoders=["conv"], compute_gflops=1.0
        ))  # fmt: skip
        site.note_report(AlignmentReport(
            user=user, time_ns=0, encoder="e", adapter_version=1, skb_version=1, samples=1, confidence=0.5
        ))  # fmt: skip
    site.publish([
        make_manifest("adapter", "shared", 1, b"1"), make_manifest("adapter", "shared", 2, b"2", parent=1)
    ])  # fmt: skip
    assert site.assignments() == []
    site.catalog.set_canary("drone", "shared", 2, frozenset({"b"}))
    assert [(item.user, item.version) for item in site.assignments()] == [("b", 2)]
    assert not asyncio.run(site.send())
    assert asyncio.run(site.send())
    assert asyncio.run(site.send())
    assert [t.sequence for t in sent] == [1, 2], "acknowledged: not sent again"
    site.catalog.clear_canary("drone", "shared")
    site.catalog.assign("drone", "shared", 2)
    assert [item.user for item in site.assignments()] == ["a", "b"]
    assert site.users_of("drone", "shared") == ["a", "b"]
    now[0] = 100.0
    assert site.users_of("drone", "shared") == []


def test_assigned_adapters_survive_a_restart_of_the_xapp(tmp_path: Path) -> None:
    def process(place: str) -> XApp:
        return XApp(XAppSettings(state_dir=str(tmp_path / place), rmr_transport="wire", discover=False))

    first, second = process("a"), process("b")
    first.sites.links[0].adapters.assign("drone", "shared", 3)
    restore_snapshot(second, take_snapshot(first))
    assert second.sites.links[0].adapters.assigned == {("drone", "shared"): 3}
