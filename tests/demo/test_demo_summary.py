"""Arithmetic of the summary, against numbers worked out by hand."""

from __future__ import annotations

import json

import pytest
from fake_run import EPOCH_NS, fake_run, result, transmission, xapp_state

from xapp.lab.demo.summary import RunData, summarise, write_summary
from xapp.lab.demo.totals import CounterTotals, XAppHistory

KEYS = {
    "indications",
    "ue_reports",
    "decode_errors",
    "directives",
    "loop_ms",
    "decode_ms",
    "updates_pushed",
    "bytes_pushed",
    "swaps",
    "requests",
    "failed_requests",
    "bandwidth_ratio_mean",
    "psnr_db",
    "quality_misses",
    "ms_ssim",
    "update_gain_db",
}


def small_run(**values) -> RunData:
    sent = [
        transmission(1, prefix=4, psnr_db=24.0, ms_ssim=0.8, device_class="car"),
        transmission(2, prefix=8, psnr_db=26.0, ms_ssim=0.9, decoder_version=2),
        transmission(3, prefix=12, psnr_db=30.0, ms_ssim=1.0, decoder_version=2),
        transmission(4, prefix=0, psnr_db=None, ms_ssim=None, failed=True, error="away"),
    ]
    static = [result(1, 25.5, 8, 0.85), result(2, 24.5, 8, 0.87), result(3, 24.9, 8, 0.95)]
    parent = [result(2, 25.0, 8), result(3, 29.4, 12)]
    data = RunData(
        duration_s=60, users=2, seed=1, epoch_ns=EPOCH_NS, transmissions=sent, static=static, parent=parent
    )
    data.xapp.update(xapp_state())
    data.lab.update({"requests": 7, "failed_requests": 1})
    for name, value in values.items():
        setattr(data, name, value)
    return data


def test_the_summary_has_the_stable_keys_and_is_json():
    summary = summarise(fake_run())
    assert summary.keys() >= KEYS
    assert summary["loop_ms"].keys() == {"p50", "p99"}
    for key in ("psnr_db", "quality_misses", "ms_ssim"):
        assert summary[key].keys() == {"adaptive", "static_same_bandwidth"}
    assert json.loads(json.dumps(summary)) == summary


def test_means_misses_and_bandwidth_are_over_delivered_transmissions():
    summary = summarise(small_run())
    assert summary["bandwidth_ratio_mean"] == pytest.approx(8 / 96, abs=1e-5)
    assert summary["psnr_db"] == {
        "adaptive": pytest.approx(80 / 3, abs=1e-3),
        "static_same_bandwidth": pytest.approx(74.9 / 3, abs=1e-3),
    }
    assert summary["quality_misses"] == {
        "adaptive": pytest.approx(1 / 3, abs=1e-4),
        "static_same_bandwidth": pytest.approx(2 / 3, abs=1e-4),
    }
    assert summary["ms_ssim"]["adaptive"] == pytest.approx(0.9)
    assert summary["static_prefix_mean"] == 8
    assert (summary["transmissions"], summary["compared_transmissions"]) == (4, 3)
    assert (summary["requests"], summary["failed_requests"]) == (7, 1)
    assert summary["versions"] == {"attention": {"1": 1, "2": 2}}


def test_the_update_gain_is_paired():
    # (26.0 - 25.0 + 30.0 - 29.4) / 2
    assert summarise(small_run())["update_gain_db"] == pytest.approx(0.8)


def test_without_an_update_or_a_replay_the_numbers_are_null():
    summary = summarise(small_run(static=(), parent=()))
    assert summary["update_gain_db"] is None
    assert summary["psnr_db"]["static_same_bandwidth"] is None
    assert summary["psnr_db"]["adaptive"] == pytest.approx(80 / 3, abs=1e-3)


def test_a_partial_replay_compares_the_same_transmissions_only():
    summary = summarise(small_run(static=[result(1, 25.5, 4)]))
    assert summary["psnr_db"] == {"adaptive": 24.0, "static_same_bandwidth": 25.5}
    assert summary["quality_misses"] == {"adaptive": 1.0, "static_same_bandwidth": 0.0}


def test_an_empty_run_is_summarised_without_numbers():
    summary = summarise(RunData(duration_s=60, users=4, seed=1))
    assert summary["indications"] == 0
    assert summary["psnr_db"] == {"adaptive": None, "static_same_bandwidth": None}
    assert summary["loop_ms"] == {"p50": None, "p99": None}


def test_classes_are_told_apart():
    classes = summarise(small_run())["classes"]
    assert list(classes) == ["car", "mobile"]
    assert classes["car"]["quality_misses"] == {"adaptive": 1.0, "static_same_bandwidth": 0.0}
    assert classes["mobile"]["transmissions"] == 2


def test_the_summary_is_written_in_one_piece(tmp_path):
    path = tmp_path / "summary.json"
    write_summary({"a": 1}, path)
    write_summary({"a": 2}, path)
    assert json.loads(path.read_text()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_counters_survive_a_restart_told_by_an_instance_id():
    totals = CounterTotals()
    totals.update({"n": 5}, "a")
    totals.update({"n": 7}, "a")
    totals.update({"n": 2}, "b")
    totals.update({"n": 9}, "b")
    assert totals["n"] == 16
    assert totals["other"] == 0


def test_counters_survive_a_restart_told_by_a_smaller_value():
    totals = CounterTotals()
    for value in (3, 10, 1, 4):
        totals.update({"n": value})
    assert totals["n"] == 14


def test_the_history_sums_instances_and_keeps_the_longer_latency_record():
    history = XAppHistory()
    history.update(xapp_state("a", scale=3, p99=8.0))
    history.update(xapp_state("b", scale=1, p99=99.0))
    assert history.counters["indications"] == 1600
    assert history.latency("loop").p99 == 8.0
    edges, counts = history.loop_histogram()
    assert edges == xapp_state()["latency_histogram"]["loop"]["edges_ms"]
    assert counts == [2 * n for n in xapp_state()["latency_histogram"]["loop"]["counts"]]


def test_events_are_taken_once_and_start_again_with_a_new_instance():
    history = XAppHistory()
    first = [{"seq": 1, "kind": "subscribed"}, {"seq": 2, "kind": "drift_detected"}]
    assert len(history.update(xapp_state("a", events=first))) == 2
    assert history.update(xapp_state("a", events=first)) == []
    assert len(history.update(xapp_state("b", events=[{"seq": 1, "kind": "subscribed"}]))) == 1
    assert len(history.events) == 3
    assert history.instances == ["a", "b"]


def test_a_state_without_anything_is_no_error():
    history = XAppHistory()
    history.update({})
    assert history.counters["indications"] == 0
    assert history.loop_histogram() == ([], [])
