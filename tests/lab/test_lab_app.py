"""The whole lab in one loop, with the xApp and the runtime away: it goes on, says so, and ends when asked."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import msgspec
import pytest
from lab_doubles import FlatModel, small_library
from prometheus_client import generate_latest

from codec_runtime.contract.settings import SettingsError, load_settings
from xapp.lab.app import Lab, run_lab
from xapp.lab.cell import Cell
from xapp.lab.channel import LinkBudget, ModelChannel
from xapp.lab.mobility import Mobility, assign_classes
from xapp.lab.peers import Peer
from xapp.lab.records import read_lab_state, read_timeline, read_transmissions
from xapp.lab.settings import LAB_ENV_PREFIX, LabSettings


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def lab_of(settings: LabSettings) -> Lab:
    mobility = Mobility(assign_classes(settings.users), settings.cell_radius_m, settings.seed)
    cell = Cell(settings, ModelChannel(mobility, FlatModel(), LinkBudget(), settings.seed))
    return Lab(settings, cell=cell, library=small_library())


def test_alone_the_lab_keeps_time_records_failures_and_ends_by_itself(tmp_path: Path) -> None:
    settings = LabSettings(
        users=4,
        out=str(tmp_path),
        submgr_port=0,
        runtime_url=f"http://127.0.0.1:{closed_port()}",
        drone_interval_s=0.1,
        other_interval_s=0.1,
        retry_budget_s=0.0,
        duration_s=1.2,
    )
    lab = lab_of(settings)
    asyncio.run(lab.run())
    assert not lab.broken
    state = read_lab_state(tmp_path / "lab_state.json")
    assert state is not None
    assert state.failed_requests == state.transmissions > 0
    assert not state.runtime_reachable
    assert [u.user for u in state.users] == ["ue-1", "ue-2", "ue-3", "ue-4"]
    assert len(read_timeline(tmp_path / "timeline.jsonl")) >= 2
    assert all(t.failed for t in read_transmissions(tmp_path / "transmissions.jsonl"))
    text = generate_latest(lab.metrics.registry).decode()
    assert 'semcom_lab_peer_up{peer="runtime"} 0.0' in text
    assert "semcom_lab_channel_step_seconds_count" in text


def test_stop_ends_a_lab_without_a_duration(tmp_path: Path) -> None:
    async def run() -> Lab:
        lab = lab_of(LabSettings(users=2, out=str(tmp_path), submgr_port=0, traffic=False))
        asyncio.get_running_loop().call_later(0.2, lab.stop)
        async with asyncio.timeout(20.0):
            await lab.run()
        return lab

    assert not asyncio.run(run()).broken


def test_an_address_already_taken_is_an_orderly_refusal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = LabSettings(
            users=2, out=str(tmp_path), submgr_port=taken.getsockname()[1], metrics_port=0, traffic=False
        )
        monkeypatch.setattr("xapp.lab.app.Lab", lab_of)
        assert run_lab(settings) == 2
    assert "cannot start" in caplog.text


def test_a_trace_that_is_not_there_is_an_orderly_refusal(tmp_path: Path) -> None:
    assert run_lab(LabSettings(trace=str(tmp_path / "absent.csv"), metrics_port=0)) == 2


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    lab = lab_of(LabSettings(users=1, out=str(tmp_path), submgr_port=0))
    peer = Peer("neighbour", lab.metrics)
    for up in (False, False, True, True, False, False, False, True):
        peer.note(up, "because")
    told = [record.message for record in caplog.records if record.name == "xapp.lab.peers"]
    assert told == ["peer is not there yet", "peer is there", "peer went away", "peer is there"]
    text = generate_latest(lab.metrics.registry).decode()
    assert 'semcom_lab_peer_outages_total{peer="neighbour"} 1.0' in text


def test_settings_come_from_the_environment_and_are_checked() -> None:
    settings = load_settings(
        LabSettings, env_prefix=LAB_ENV_PREFIX, environ={"SEMCOM_LAB_USERS": "7", "SEMCOM_LAB_FADING": "none"}
    )
    assert (settings.users, settings.fading) == (7, "none")
    for name, value in (("USERS", "0"), ("PICTURE_SIZE", "128"), ("FADING", "deep"), ("PLMN", "1")):
        with pytest.raises(SettingsError):
            load_settings(LabSettings, env_prefix=LAB_ENV_PREFIX, environ={f"SEMCOM_LAB_{name}": value})


def test_settings_are_plain_data_that_a_file_can_hold() -> None:
    settings = LabSettings(users=3)
    assert msgspec.convert(msgspec.to_builtins(settings), LabSettings) == settings
