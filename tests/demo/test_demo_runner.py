"""What the runner decides: folder, options, ports, settings, which transmissions to repeat, what to say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
from fake_run import EPOCH_NS, transmission, xapp_state

from codec_runtime.contract.settings import load_settings
from xapp.lab.demo.child import ProcessSpec
from xapp.lab.demo.observer import Observer
from xapp.lab.demo.options import DemoOptions, DemoOptionsError, Timeline
from xapp.lab.demo.processes import DemoProcesses, Ports, update_budget_s
from xapp.lab.demo.replaying import count_updated, read_records, static_share, updated_transmissions
from xapp.lab.demo.runner import adapter_settled, prepare_folder, run_demo
from xapp.lab.demo.summary import RunEvent
from xapp.lab.records import LabState, UserState
from xapp.lab.settings import LabSettings
from xapp.settings import XAppSettings


def lab_state(**values) -> LabState:
    user = UserState(
        user="ue-1", device_class="drone", group="drone", x_m=0, y_m=0, height_m=50, speed_mps=10, los=True,
        snr_db=9.0, cqi=9, rsrp_dbm=-90, attenuation_db=0, drift="", prefix=6, decoder="attention",
        decoder_version=1, psnr_db=25.0,
    )  # fmt: skip
    state = LabState(
        time_ns=EPOCH_NS, elapsed_s=0, users=[user], transmissions=5, requests=10, failed_requests=0,
        retried=0, reports_lost=0, indications_sent=50, e2_connected=True, runtime_reachable=True, pictures=6,
        unreadable_pictures=0, drift_active=False,
    )  # fmt: skip
    return msgspec.structs.replace(state, **values)


def processes(tmp_path: Path, **values) -> DemoProcesses:
    options = DemoOptions(out=tmp_path, **values)
    timeline = Timeline.plan(options.duration_s)
    return DemoProcesses(options, timeline, Ports.choose({}), tmp_path / "root.json")


def test_the_drift_comes_after_a_third_of_the_live_phase():
    assert Timeline.plan(60) == Timeline(drift_s=15.0, live_end_s=45.0, end_s=60)
    assert [update_budget_s(Timeline.plan(d)) for d in (15, 25, 60, 600)] == [10.0, 10.0, 13.5, 15.0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"duration_s": 3}, "duration is 3 s"),
        ({"users": 0}, "users is 0"),
        ({"images": Path("/does/not/exist")}, "images folder"),
        ({"trace": Path("/does/not/exist.csv")}, "trace /does"),
    ],
)
def test_unusable_options_are_named(values, text, capsys):
    assert run_demo(DemoOptions(**values)) == 2
    assert text in capsys.readouterr().err


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DemoOptionsError, match="not empty"):
        prepare_folder(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_folder_of_an_earlier_demo_is_cleared_of_its_results(tmp_path):
    out = tmp_path / "out"
    prepare_folder(out)
    (out / "logs").mkdir()
    (out / "logs" / "lab.log").write_text("old")
    (out / "summary.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    prepare_folder(out)
    assert sorted(p.name for p in out.iterdir()) == [".semcom-demo", "notes.txt"]


def test_ports_are_fixed_where_asked_and_unknown_names_are_refused():
    assert Ports.choose({"runtime": 4711}).runtime == 4711
    with pytest.raises(DemoOptionsError, match="unknown port web"):
        Ports.choose({"web": 80})


def test_settings_files_are_understood_by_the_processes(tmp_path, monkeypatch):
    monkeypatch.delenv("DBAAS_SERVICE_HOST", raising=False)
    plan = processes(tmp_path, users=8)
    groups = [[spec.name for spec in group] for group in plan.groups()]
    assert groups == [["redis"], ["runtime"], ["xapp", "lab"]]
    from codec_runtime.serving.settings import RuntimeSettings

    run = tmp_path / "run"
    plan.groups()[2][1].prepare()
    load_settings(RuntimeSettings, env_prefix="X", file=run / "runtime.json", environ={})
    load_settings(XAppSettings, env_prefix="X", file=run / "xapp.json", section="controls", environ={})
    lab = load_settings(LabSettings, env_prefix="X", file=run / "lab.json", environ={})
    assert lab.drift_at_s == 15.0
    assert {s.env["DBAAS_SERVICE_PORT"] for s in plan.groups()[1]} == {str(plan.ports.redis)}


def test_a_restarted_lab_records_elsewhere_and_drifts_when_it_was_due(tmp_path):
    plan = processes(tmp_path)
    lab = plan.groups()[2][1]
    lab.prepare()
    plan.live_begins()
    plan._live_since -= 14.0
    lab.prepare()
    settings = json.loads((tmp_path / "run" / "lab.json").read_text())
    assert settings["out"].endswith("lab/2")
    assert 0.0 < settings["drift_at_s"] <= 1.0
    assert [p.name for p in plan.lab_dirs] == ["1", "2"]


def test_an_external_redis_is_used_and_none_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("DBAAS_SERVICE_HOST", "redis.example")
    groups = processes(tmp_path).groups()
    assert [[spec.name for spec in group] for group in groups] == [["runtime"], ["xapp", "lab"]]
    assert "DBAAS_SERVICE_HOST" not in groups[0][0].env


@pytest.mark.parametrize("users", [1, 4, 20, 200, 1000])
def test_the_traffic_is_bounded_for_any_number_of_users(tmp_path, users):
    settings = processes(tmp_path, users=users).lab_settings()
    lab = msgspec.convert({**settings, "out": "x"}, LabSettings)
    drones = max(1, users // 4)
    rate = drones / lab.drone_interval_s + (users - drones) / lab.other_interval_s
    assert rate <= 25.0


def test_records_of_two_lab_instances_get_unique_ids(tmp_path):
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        lines = [transmission(1, sample="spread"), transmission(2)]
        text = b"\n".join(msgspec.json.encode(t) for t in lines) + b"\n"
        (tmp_path / name / "transmissions.jsonl").write_bytes(text)
    records = read_records([tmp_path / "1", tmp_path / "2", tmp_path / "3"])
    assert [t.id for t in records.transmissions] == [1, 2, 1_000_001, 1_000_002]
    assert read_records([tmp_path / "1"], since_ns=EPOCH_NS + 1).transmissions == []
    assert records.samples[1_000_001] == tmp_path / "2" / "samples" / "1"


def test_only_transmissions_by_an_updated_decoder_are_decoded_again():
    sent = [
        transmission(1),
        transmission(2, time_s=5, decoder_version=2),
        transmission(3, time_s=4, decoder_version=2),
        transmission(4, time_s=6, decoder_version=2, failed=True),
        transmission(5, time_s=7, decoder_version=3),
        transmission(6, time_s=8, decoder="conv", decoder_version=2),
    ]
    parents = {("attention", 2): 1, ("attention", 3): 2}
    chosen = updated_transmissions(sent, parents, limit=10)
    assert {version: [t.id for t in ts] for version, ts in chosen.items()} == {1: [3, 2], 2: [5]}
    assert sum(map(len, updated_transmissions(sent, parents, limit=2).values())) == 2


def test_a_shipped_version_above_one_is_no_update():
    shipped = [transmission(i, decoder_version=2) for i in range(5)]
    other = [transmission(6, decoder="conv", decoder_version=4)]
    assert count_updated(shipped + other) == 0
    updated = [transmission(7, decoder_version=3), transmission(8, decoder_version=3, failed=True)]
    assert count_updated(shipped + other + updated) == 1


def test_the_static_share_fits_the_time_and_is_reproducible():
    sent = [transmission(i, time_s=i, latency_ms=100.0) for i in range(1, 501)]
    assert len(static_share(sent, 1e9, seed=1)) == 500
    share = static_share(sent, 21.0, seed=1)
    assert len(share) == 350
    assert share == static_share(sent, 21.0, seed=1)
    assert [t.id for t in share] == sorted(t.id for t in share)
    assert len(static_share(sent, 0.0, seed=1)) == 300
    assert static_share([], 1.0, seed=1) == []


def test_the_observer_merges_xapp_lab_and_process_events(tmp_path):
    observer = Observer("http://127.0.0.1:9", lambda: None)
    observer.epoch_ns = EPOCH_NS
    told = [
        {"seq": 1, "time_ns": EPOCH_NS + 2_000_000_000, "kind": "capability", "text": "noise"},
        {"seq": 2, "time_ns": EPOCH_NS + 9_000_000_000, "kind": "bundle_swapped", "text": "attention v2"},
    ]
    for event in observer.xapp.update(xapp_state(events=told)):
        observer._add_xapp_event(event)
    observer._take_lab(lab_state())
    observer._take_lab(lab_state(time_ns=EPOCH_NS + 5_000_000_000, drift_active=True))
    observer._take_lab(lab_state(time_ns=EPOCH_NS + 6_000_000_000, drift_active=True))
    from xapp.lab.demo.supervisor import ProcessEvent

    deaths = [ProcessEvent(9.0, "runtime", "died", "killed by SIGKILL"), ProcessEvent(1.0, "lab", "ready")]
    events = observer.events(deaths, epoch_s=2.0)
    assert [(e.time_s, e.kind) for e in events] == [(5.0, "drift"), (7.0, "died"), (9.0, "bundle_swapped")]
    assert events[1].text == "process runtime died (killed by SIGKILL)"
    shown = observer.snapshot(elapsed_s=1, duration_s=2, phase="x", processes=[], events=events)
    assert shown.users[0].history == (25.0,)
    assert shown.loop_ms == (3.1, 8.0)


def test_a_process_that_cannot_start_ends_the_demo_with_its_log(tmp_path, monkeypatch, capsys):
    broken = ProcessSpec(
        "runtime",
        (sys.executable, "-I", "-S", "-c", "raise SystemExit('no weights')"),
        ready=lambda: False,
    )
    monkeypatch.setattr(DemoProcesses, "groups", lambda self: [[broken]])
    assert run_demo(DemoOptions(out=tmp_path / "out", duration_s=15, live=False)) == 1
    error = capsys.readouterr().err
    assert "runtime ended while starting" in error
    assert "no weights" in error


def test_the_adapters_update_is_waited_for_while_it_goes_on_and_not_for_ever():
    noticed = RunEvent(18.0, "alignment_drift", "", of_adapter=True)
    began = RunEvent(40.0, "round_started", "", of_adapter=True)
    decoder = RunEvent(44.0, "update_done", "")
    assert adapter_settled([decoder], 50.0, 45.0)
    assert not adapter_settled([decoder], 48.0, 45.0)
    assert not adapter_settled([noticed, began, decoder], 90.0, 45.0)
    assert adapter_settled([noticed, began, decoder], 101.0, 45.0)
    failed = RunEvent(60.0, "update_failed", "", of_adapter=True)
    assert [adapter_settled([noticed, began, failed], t, 45.0) for t in (74.0, 76.0)] == [False, True]
    recovered = RunEvent(50.0, "alignment_recovered", "", of_adapter=True)
    assert adapter_settled([noticed, began, recovered], 51.0, 45.0)
    low = RunEvent(50.0, "alignment_low", "", of_adapter=True)
    assert adapter_settled([noticed, began, low], 51.0, 45.0)
    late = RunEvent(340.0, "round_started", "", of_adapter=True)
    assert adapter_settled([late], 346.0, 45.0)


def test_phones_align_and_the_site_keeps_few_of_their_items(tmp_path):
    demo = processes(tmp_path)
    settings = demo.lab_settings()
    assert (settings["aligners"], settings["align_group"], settings["align_interval_s"]) == (4, "mobile", 2.5)
    demo.groups()
    assert json.loads((tmp_path / "run" / "runtime.json").read_text())["items_per_user"] >= 64
