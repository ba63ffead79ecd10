"""The demo's account of its aligning users: from records and the xApp's events to summary and report."""

from __future__ import annotations

from typing import Any

import pytest
from fake_run import EPOCH_NS, fake_run

from xapp.lab.alignment_records import ALIGNMENTS_FILE, Alignment
from xapp.lab.captioned import IMAGE_ENCODER, TEXT_ENCODER
from xapp.lab.demo import charts
from xapp.lab.demo.aligning import (
    AdapterVersion,
    AlignedRun,
    alignment_section,
    alignment_summary,
    encoder_bytes,
    is_alignment,
    run_alignments,
)
from xapp.lab.demo.display import progress_line
from xapp.lab.demo.live import Snapshot
from xapp.lab.demo.observer import Observer
from xapp.lab.demo.totals import XAppHistory
from xapp.lab.records import JsonLines


def aligned(time_s: float, confidence: float, **values: Any) -> Alignment:
    fields: dict[str, Any] = {
        "time_ns": EPOCH_NS + int(time_s * 1e9), "elapsed_s": time_s, "user": "ue-1", "skb_version": 1,
        "encoder": IMAGE_ENCODER, "adapter_version": 1, "samples": 6, "drifted": time_s >= 15.0,
    }  # fmt: skip
    return Alignment(**{**fields, **values}, confidence=confidence)


RECORDS = [
    aligned(5.0, 0.44), aligned(6.0, 0.40), aligned(7.0, 0.9, encoder=TEXT_ENCODER), aligned(16.0, 0.2),
    aligned(30.0, 0.3, user="ue-5"), aligned(40.0, 0.42, adapter_version=2),
    aligned(41.0, 0.48, adapter_version=2, samples=12),
]  # fmt: skip


def event(time_s: float, kind: str, **values: Any) -> dict[str, Any]:
    return {"time_ns": EPOCH_NS + int(time_s * 1e9), "kind": kind, "text": kind, **values}


def events(until_s: float = 60.0) -> list[dict[str, Any]]:
    told = [
        event(18.0, "alignment_drift", group="mobile"),
        event(19.0, "drift_detected", group="drone"),
        event(21.0, "round_started", job="x-1", version=2),
        event(24.0, "job_started", job="x-2", decoder="attention", version=4),
        event(26.0, "round_done", job="x-1"),
        event(26.5, "candidate_gated", job="x-1"),
        event(27.0, "rollout_observing", decoder="shared", version=2),
        event(27.5, "bundle_pushed", bundles=["adapter/shared/2"], bytes=81_000)
        | {"text": "adapter/shared/2: 0.08 MB pushed to site-1"},
        event(32.0, "rollout_observing", decoder="shared", version=2),
        event(35.0, "update_done", decoder="shared", version=2),
        event(39.0, "update_done", decoder="attention", version=4),
        event(44.0, "alignment_recovered", version=2),
    ]
    return [one for one in told if one["time_ns"] <= EPOCH_NS + until_s * 1e9]


RUN = AlignedRun(RECORDS, {1: AdapterVersion(90_000), 2: AdapterVersion(91_000, 480.04, 551.0)}, 2_328_376)


def summary_of(run: AlignedRun = RUN, until_s: float = 60.0) -> dict[str, Any]:
    return alignment_summary(run, events(until_s), EPOCH_NS, 15.0)


def test_the_summary_tells_confidence_rsum_times_and_bytes_of_the_update():
    summary = summary_of()
    assert summary["confidence"] == {"before": 0.42, "during": 0.25, "after": 0.46}
    assert summary["rsum"] == {"before": 480.0, "after": 551.0}
    assert (summary["completed"], summary["version"], summary["problem"]) == (True, 2, "")
    assert summary["times_s"] == {
        "drift": 15.0, "noticed": 18.0, "round": 21.0, "trained": 26.0, "accepted": 26.5, "canary": 27.0,
        "rolled_out": 35.0, "recovered": 44.0,
    }  # fmt: skip
    assert summary["bytes"] == {"pushed": 81_000, "adapter": 91_000, "encoder": 2_328_376}
    assert (summary["users"], summary["requests"]) == (2, 7)


@pytest.mark.parametrize(
    ("until_s", "text"),
    [
        (17.0, "the drift was not noticed in the time"),
        (22.0, "time was over after federated rounds began"),
        (33.0, "time was over after the roll-out began"),
    ],
)
def test_an_update_cut_short_says_how_far_it_came(until_s, text):
    summary = summary_of(until_s=until_s)
    assert (summary["completed"], summary["problem"], summary["version"]) == (False, text, None)
    assert summary["confidence"]["after"] is None
    assert f"not completed: {text}." in alignment_section({"alignment": summary}, "")


def test_a_refused_candidate_and_its_next_attempt_are_told_apart():
    failed = event(27.0, "candidate_refused", job="x-1") | {"text": "mobile: held-out RSUM +0.1"}
    again = [*events(26.0), failed]
    assert alignment_summary(RUN, again, EPOCH_NS, 15.0)["problem"] == "mobile: held-out RSUM +0.1"
    second = [*again, event(34.0, "round_started", job="x-3", version=3)]
    times = alignment_summary(RUN, second, EPOCH_NS, 15.0)["times_s"]
    assert (times["noticed"], times["round"], times["trained"]) == (18.0, 34.0, None)


def test_an_attempt_after_the_one_rolled_out_does_not_hide_it():
    more = [*events(), event(50.0, "alignment_drift"), event(53.0, "round_started", job="x-4", version=3)]
    summary = alignment_summary(RUN, more, EPOCH_NS, 15.0)
    assert summary == summary_of()


def test_nobody_aligning_gives_a_reason_and_no_section():
    summary = alignment_summary(AlignedRun(problem="refused"), [], EPOCH_NS, None)
    assert (summary["problem"], summary["confidence"]["before"]) == ("refused", None)
    assert alignment_section({"alignment": summary}, "") == ""
    assert alignment_section({}, "") == ""
    assert summary_of(AlignedRun())["users"] == 0


def test_events_of_decoders_are_not_taken_for_the_adapters():
    jobs: set[str] = set()
    told = [one for one in events() if is_alignment(one, jobs)]
    assert jobs == {"x-1"}
    assert [one["kind"] for one in events() if one not in told] == [
        "drift_detected", "job_started", "update_done",
    ]  # fmt: skip


def test_records_of_all_lab_instances_come_in_order_from_the_live_phase_on(tmp_path):
    for number, records in enumerate((RECORDS[3:], RECORDS[:3])):
        with JsonLines(tmp_path / str(number) / ALIGNMENTS_FILE) as lines:
            for record in records:
                lines.write(record)
    found = run_alignments([tmp_path / "0", tmp_path / "1", tmp_path / "2"], EPOCH_NS + int(5.5e9))
    assert found == RECORDS[1:]


def test_the_chart_marks_drift_rounds_and_roll_out():
    data = fake_run()
    data.aligned = RUN
    svg = charts.confidence_timeline(data, summary_of()["times_s"])
    for text in ("pictures", "sentences", "drift", "noticed", "rounds", "canary", "rolled out"):
        assert f">{text}<" in svg
    data.aligned = AlignedRun()
    assert charts.confidence_timeline(data, {}) == ""


def test_a_real_encoder_is_there_to_compare_with():
    assert encoder_bytes() > 1_000_000


def test_the_progress_line_tells_confidence_and_the_observer_marks_the_adapters_events(monkeypatch):
    observer = Observer("http://127.0.0.1:1", lambda: None)
    observer.epoch_ns = EPOCH_NS
    told = [one | {"seq": place} for place, one in enumerate(events(), 1)]
    source = {"group": "mobile", "encoder": IMAGE_ENCODER, "what": "confidence", "value": 0.43}
    state = {"instance": "a", "events": told, "alignment": {"sources": [source]}}
    monkeypatch.setattr(observer, "_xapp_state", lambda: state)
    observer.poll()
    decoders = [(e.kind, e.time_s) for e in observer.events() if not e.of_adapter]
    assert decoders == [("drift_detected", 19.0), ("job_started", 24.0), ("update_done", 39.0)]
    snapshot: Snapshot = observer.snapshot(
        elapsed_s=1.0, duration_s=60.0, phase="live", processes=[], events=[]
    )
    assert "alignment 0.43" in progress_line(snapshot)
    observer.close()


def test_a_state_without_alignment_is_no_error():
    history = XAppHistory()
    history.update({"instance": "a"})
    assert history.confidence == {}
