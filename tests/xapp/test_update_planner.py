"""Legal and late moves of the update state machine, and the gate."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from xapp_simulated_site import ENCODER_SHA256, make_manifest

from codec_runtime.contract.telemetry import TrainingReport
from codec_runtime.contract.updates import TrainingJob
from xapp.updates.candidates import gate
from xapp.updates.planner import Failure, PlannerSettings, Stage, UpdatePlanner

PARENTS = {("drone", "attention"): 1, ("drone", "conv"): 1, ("car", "attention"): 3}


def planner() -> UpdatePlanner:
    return UpdatePlanner(PlannerSettings(cooldown_s=20.0, job_timeout_s=60.0, collect_s=0.0), "xapp-1")


def report(job: str, state: str, gain: float | None = None, progress: float = 0.0) -> TrainingReport:
    return TrainingReport(
        job=job,
        time_ns=0,
        state=state,
        heldout_gain_db=gain,
        progress=progress,  # type: ignore[arg-type]
    )


def drift(plans: UpdatePlanner, now: float, group: str = "drone", families: str = "attention") -> bool:
    return plans.on_drift(group, Counter(families.split()), ["ue-1", "ue-2"], now)


def trained(plans: UpdatePlanner, now: float) -> str:
    started = plans.next_job(PARENTS, now)
    assert started is not None
    plans.on_training(report(started[1].job, "succeeded", 0.5), now)
    return started[1].job


def test_the_whole_way_of_one_update() -> None:
    plans = planner()
    assert drift(plans, 0.0)
    started = plans.next_job(PARENTS, 1.0)
    assert started is not None
    group, job = started
    assert (group, job.decoder, job.parent_version, job.new_version) == ("drone", "attention", 1, 2)
    assert job.users == ["ue-1", "ue-2"]
    plans.on_training(report(job.job, "running", progress=0.4), 2.0)
    assert plans.plan("drone").progress == 0.4
    plans.on_training(report(job.job, "succeeded", 0.7), 3.0)
    assert plans.plan("drone").stage is Stage.GATING
    assert plans.on_accepted(job.job, 0.7, 4.0)
    assert plans.on_delivered(job.job, 5.0)
    plan = plans.plan("drone")
    assert (plan.stage, plan.updates, plan.last_gain_db, plan.job) == (Stage.STEADY, 1, 0.7, None)


def test_drift_is_ignored_while_an_update_runs_and_during_the_cool_down() -> None:
    plans = planner()
    drift(plans, 0.0)
    assert not drift(plans, 0.5)
    job = trained(plans, 1.0)
    plans.on_accepted(job, 0.5, 2.0)
    plans.on_delivered(job, 3.0)
    assert not drift(plans, 22.9)
    assert drift(plans, 23.1)


def test_families_of_a_group_are_updated_one_after_the_other_most_used_first() -> None:
    plans = planner()
    drift(plans, 0.0, families="conv attention attention")
    job = trained(plans, 1.0)
    assert plans.plan("drone").families == ["attention", "conv"]
    plans.on_accepted(job, 0.5, 2.0)
    plans.on_delivered(job, 3.0)
    assert plans.plan("drone").stage is Stage.DRIFTED
    _, second = plans.next_job(PARENTS, 4.0)
    assert second.decoder == "conv"


def test_one_job_at_a_time_first_come_first_served() -> None:
    plans = planner()
    drift(plans, 0.0, "car")
    drift(plans, 1.0, "drone")
    group, job = plans.next_job(PARENTS, 2.0)
    assert group == "car"
    assert job.new_version == 4
    assert plans.next_job(PARENTS, 2.0) is None
    plans.fail(job.job, "no", 3.0)
    group, second = plans.next_job(PARENTS, 3.0)
    assert group == "drone"
    assert second.new_version == 5  # versions are not used twice


def test_training_waits_until_pictures_of_the_new_kind_have_gathered() -> None:
    plans = UpdatePlanner(PlannerSettings(collect_s=3.0, min_pictures=16), "x")
    plans.on_picture("drone")  # of before the drift
    drift(plans, 0.0)
    for _ in range(16):
        plans.on_picture("drone")
    assert plans.next_job(PARENTS, 2.9) is None
    assert plans.next_job(PARENTS, 3.0) is not None


def test_on_a_slow_machine_training_waits_for_enough_pictures_but_not_for_ever() -> None:
    plans = UpdatePlanner(PlannerSettings(collect_s=3.0, min_pictures=16), "x")
    plans.on_picture("drone")
    drift(plans, 0.0)
    for _ in range(15):
        plans.on_picture("drone")
    assert plans.next_job(PARENTS, 11.9) is None
    assert plans.next_job(PARENTS, 12.0) is not None


def test_pictures_of_a_failed_attempt_count_for_the_next_one() -> None:
    plans = UpdatePlanner(PlannerSettings(collect_s=3.0, min_pictures=16, cooldown_s=5.0), "x")
    drift(plans, 0.0)
    for _ in range(16):
        plans.on_picture("drone")
    _, job = plans.next_job(PARENTS, 3.0)
    plans.fail(job.job, "no gain", 10.0)
    plans.tick(15.0)
    drift(plans, 16.0)
    assert plans.next_job(PARENTS, 19.0) is not None


def test_training_takes_pictures_since_the_drift_also_after_a_failed_attempt() -> None:
    settings = PlannerSettings(collect_s=3.0, min_pictures=0, drift_lag_s=2.0, cooldown_s=5.0)
    plans = UpdatePlanner(settings, "x")
    assert drift(plans, 10.0)
    first = plans.next_job(PARENTS, 13.0)
    assert first is not None
    assert first[1].max_age_s == pytest.approx(5.0)
    plans.fail(first[1].job, "no gain", 20.0)
    plans.tick(25.0)
    assert drift(plans, 26.0)
    second = plans.next_job(PARENTS, 29.0)
    assert second is not None
    assert second[1].max_age_s == pytest.approx(29.0 - 10.0 + 2.0)


def test_the_group_that_lost_most_is_first() -> None:
    plans = planner()
    plans.on_drift("car", Counter(["attention"]), ["ue-1"], 0.0, drop_db=1.0)
    plans.on_drift("drone", Counter(["attention"]), ["ue-2"], 1.0, drop_db=4.0)
    group, _ = plans.next_job(PARENTS, 2.0)
    assert group == "drone"


def test_failures_back_off_longer_each_time_and_success_forgets_them() -> None:
    plans = planner()
    now = 0.0
    for wait in (20.0, 40.0, 80.0):
        assert drift(plans, now)
        _, job = plans.next_job(PARENTS, now)
        failure = plans.on_training(report(job.job, "failed"), now)
        assert isinstance(failure, Failure)
        assert plans.plan("drone").stage is Stage.BACKOFF
        plans.tick(now + wait - 0.1)
        assert plans.plan("drone").stage is Stage.BACKOFF
        now += wait
        plans.tick(now)
        assert plans.plan("drone").stage is Stage.STEADY
    drift(plans, now)
    job_id = trained(plans, now)
    plans.on_accepted(job_id, 0.5, now)
    plans.on_delivered(job_id, now)
    assert plans.plan("drone").attempt == 0


def test_a_job_without_an_end_times_out() -> None:
    plans = planner()
    drift(plans, 0.0)
    plans.next_job(PARENTS, 0.0)
    assert plans.tick(60.0) == []
    failures = plans.tick(60.1)
    assert [f.group for f in failures] == ["drone"]


def test_answers_of_other_jobs_and_late_answers_change_nothing() -> None:
    plans = planner()
    drift(plans, 0.0)
    _, job = plans.next_job(PARENTS, 0.0)
    assert plans.on_training(report("another", "failed"), 1.0) is None
    assert not plans.on_accepted(job.job, 0.5, 1.0)
    assert not plans.on_delivered(job.job, 1.0)
    plans.fail(job.job, "timeout", 2.0)
    assert plans.on_training(report(job.job, "succeeded", 1.0), 3.0) is None
    assert plans.plan("drone").stage is Stage.BACKOFF


def test_a_family_that_is_no_longer_served_is_skipped() -> None:
    plans = planner()
    drift(plans, 0.0, families="gone")
    assert plans.next_job(PARENTS, 1.0) is None
    assert plans.plan("drone").stage is Stage.STEADY


def test_a_snapshot_keeps_versions_and_cool_downs() -> None:
    plans = planner()
    drift(plans, 0.0)
    job = trained(plans, 1.0)
    plans.on_accepted(job, 0.5, 2.0)
    plans.on_delivered(job, 3.0)
    again = planner()
    again.restore(plans.snapshot(10.0), 1000.0)
    assert not drift(again, 1012.9)
    assert drift(again, 1013.1)
    _, second = again.next_job(PARENTS, 1014.0)
    assert second.new_version == 3


JOB = TrainingJob(job="j", users=[], decoder="conv", parent_version=1, new_version=2, budget_s=1.0)


@pytest.mark.parametrize(
    ("changes", "reported", "reason"),
    [
        ({"version": 3}, 0.5, "asked for"),
        ({"parent": 2}, 0.5, "asked for"),
        ({"name": "attention"}, 0.5, "asked for"),
        ({"metrics": {"heldout_gain_db": 0.05}}, 0.5, r"\+0\.05 dB"),
        ({}, 0.01, r"\+0\.01 dB"),
        ({"metrics": {}}, None, "states no"),
        ({"metrics": {"heldout_gain_db": float("nan")}}, None, "states no"),
    ],
)
def test_gate_refuses(changes: dict[str, object], reported: float | None, reason: str) -> None:
    values: dict[str, object] = {
        "name": "conv",
        "version": 2,
        "parent": 1,
        "metrics": {"heldout_gain_db": 0.5},
    }
    values |= changes
    manifest = make_manifest("decoder", weights=b"w", **values)  # type: ignore[arg-type]
    verdict = gate(manifest, JOB, encoder_sha256=ENCODER_SHA256, min_gain_db=0.1, reported_gain_db=reported)
    assert not verdict.accepted
    assert re.search(reason, verdict.reason)


def test_gate_accepts_a_gain_and_refuses_another_encoder() -> None:
    manifest = make_manifest("decoder", "conv", 2, b"w", parent=1, metrics={"heldout_gain_db": 0.5})
    assert gate(manifest, JOB, encoder_sha256=ENCODER_SHA256, min_gain_db=0.1).gain_db == 0.5
    assert not gate(manifest, JOB, encoder_sha256="00", min_gain_db=0.1).accepted
