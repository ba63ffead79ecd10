"""Settings that follow the ConfigMap: every swap, atomically, and the old ones stay when the new are bad."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xapp.config_watch import LIVE, MAX_FILE_BYTES, ConfigWatch, classify_change, merge_live
from xapp.settings import E2NodeOptions, XAppSettings
from xapp.split_options import SplitOptions


class ConfigMap:
    """A mounted ConfigMap, updated as kubelet's atomic writer does it."""

    def __init__(self, folder: Path, **controls: Any) -> None:
        self.folder = folder
        self.generation = 0
        self.file = folder / "config-file.json"
        self.swap(**controls)
        self.file.symlink_to("..data/config-file.json")

    def swap(self, text: str | None = None, **controls: Any) -> None:
        """A new dated folder, ``..data`` renamed onto it in one step, the old folder removed."""
        before = (self.folder / "..data").resolve() if self.generation else None
        self.generation += 1
        dated = self.folder / f"..2026_01_01_00_00_0{self.generation}.123"
        dated.mkdir()
        content = json.dumps({"controls": controls}) if text is None else text
        (dated / "config-file.json").write_text(content)
        (self.folder / "..data_tmp").symlink_to(dated.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        if before is not None:
            (before / "config-file.json").unlink()
            before.rmdir()


class Following:
    """A watch and what it told."""

    def __init__(self, file: Path, start: XAppSettings | None = None, **options: Any) -> None:
        self.changes: list[tuple[XAppSettings, frozenset[str]]] = []
        self.refusals: list[str] = []
        self.recoveries = 0
        self.watch = ConfigWatch(
            file,
            start or XAppSettings(),
            lambda new, changed: self.changes.append((new, changed)),
            self.refusals.append,
            **{"on_recovered": self._recovered, "environ": {}, **options},
        )

    def _recovered(self) -> None:
        self.recoveries += 1

    def look_twice(self) -> None:
        """A bad file is refused at the second look."""
        self.watch.look()
        self.watch.look()


def test_every_swap_is_seen(tmp_path: Path) -> None:
    config_map = ConfigMap(tmp_path)
    following = Following(config_map.file)
    following.watch.look()
    for target in (20.0, 21.0, 22.0, 23.0):
        config_map.swap(quality_target_db=target)
        following.watch.look()
    assert [new.quality_target_db for new, _ in following.changes] == [20.0, 21.0, 22.0, 23.0]
    assert following.watch.counters.swaps == 4
    assert following.watch.counters.applied == 4


def test_a_swap_with_the_same_settings_changes_nothing(tmp_path: Path) -> None:
    config_map = ConfigMap(tmp_path, quality_target_db=25.0)
    following = Following(config_map.file)
    following.watch.look()
    config_map.swap(quality_target_db=25.0, budget_prefix=6)
    following.watch.look()
    assert following.changes == []
    assert following.watch.counters.swaps == 1


def test_a_file_replaced_in_place_is_seen_too(tmp_path: Path) -> None:
    file = tmp_path / "config-file.json"
    file.write_text('{"controls": {}}')
    following = Following(file)
    following.watch.look()
    file.write_text('{"controls": {"meids": ["gnb_1"]}}')
    following.watch.look()
    assert following.changes == [(XAppSettings(meids=["gnb_1"]), frozenset({"meids"}))]


BAD = {
    "no JSON": "{",
    "not JSON text": "\x00\x01",
    "no controls": '{"xapp_name": "semcom-xapp"}',
    "a list": "[]",
    "controls of the wrong type": '{"controls": 3}',
    "an unknown setting": '{"controls": {"quality_targt_db": 20}}',
    "a wrong type": '{"controls": {"quality_target_db": "high"}}',
    "out of range": '{"controls": {"quality_target_db": 1000}}',
    "empty": "",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_once_and_the_old_settings_stay(tmp_path: Path, text: str) -> None:
    config_map = ConfigMap(tmp_path, quality_target_db=20.0)
    following = Following(config_map.file)
    following.watch.look()
    before = following.watch.current
    config_map.swap(text)
    for _ in range(5):
        following.watch.look()
    (reason,) = following.refusals
    assert following.watch.refusal == reason
    assert following.watch.current is before
    assert following.watch.counters.refused == 1
    config_map.swap(quality_target_db=21.0)
    following.watch.look()
    assert following.watch.current.quality_target_db == 21.0
    assert following.watch.refusal == ""
    assert following.recoveries == 1


def test_a_refusal_names_the_setting_and_its_range(tmp_path: Path) -> None:
    config_map = ConfigMap(tmp_path, budget_prefix=1000)
    following = Following(config_map.file)
    following.look_twice()
    assert "budget_prefix = 1000.0: 1.0..96.0 is needed" in following.refusals[0]


def test_return_to_the_settings_in_force_is_a_recovery_without_a_change(tmp_path: Path) -> None:
    config_map = ConfigMap(tmp_path)
    following = Following(config_map.file)
    following.watch.look()
    config_map.swap("{")
    following.look_twice()
    config_map.swap()
    following.watch.look()
    assert (following.recoveries, following.changes, following.watch.refusal) == (1, [], "")


def test_a_file_in_the_middle_of_being_written_is_not_refused(tmp_path: Path) -> None:
    file = tmp_path / "config-file.json"
    whole = json.dumps({"controls": {"quality_target_db": 31.0}})
    file.write_text('{"controls": {}}')
    following = Following(file)
    following.watch.look()
    for length in range(0, len(whole) + 1, 7):
        file.write_text(whole[:length])
        following.watch.look()
    file.write_text(whole)
    following.watch.look()
    assert following.refusals == []
    assert following.watch.current.quality_target_db == 31.0


def test_a_file_that_is_gone_or_too_large_is_refused_and_may_come_back(tmp_path: Path) -> None:
    file = tmp_path / "config-file.json"
    file.write_text('{"controls": {}}')
    following = Following(file)
    following.watch.look()
    file.unlink()
    following.look_twice()
    file.write_text(" " * (MAX_FILE_BYTES + 1))
    following.look_twice()
    assert len(following.refusals) == 2
    assert "No such file" in following.refusals[0]
    assert f"more than {MAX_FILE_BYTES} bytes" in following.refusals[1]
    file.write_text('{"controls": {"policy": "static"}}')
    following.watch.look()
    assert following.watch.current.policy == "static"


def test_what_needs_a_restart_is_pending_and_not_applied(tmp_path: Path) -> None:
    config_map = ConfigMap(tmp_path)
    following = Following(config_map.file)
    config_map.swap(http_port=9090, report_period_ms=200)
    following.watch.look()
    ((new, changed),) = following.changes
    assert changed == {"report_period_ms"}
    assert (new.report_period_ms, new.http_port) == (200, XAppSettings().http_port)
    assert following.watch.pending == {"http_port"}
    config_map.swap(report_period_ms=200)
    following.watch.look()
    assert following.watch.pending == frozenset()


def test_settings_whose_live_part_alone_breaks_a_rule_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xapp.config_watch.LIVE", frozenset({"remove_after_s"}))
    start = XAppSettings(stale_after_s=3.0, remove_after_s=30.0)
    with pytest.raises(ValueError, match="at least stale_after_s"):
        merge_live(start, msgspec.structs.replace(start, stale_after_s=1.0, remove_after_s=2.0))
    config_map = ConfigMap(tmp_path, stale_after_s=1.0, remove_after_s=2.0)
    following = Following(config_map.file, start)
    following.watch.look()
    assert following.refusals[0].startswith("needs a restart of the xApp (stale_after_s)")
    assert following.watch.current is start


def test_validation_and_application_can_refuse_and_their_bugs_do_too(tmp_path: Path) -> None:
    def validate(new: XAppSettings) -> None:
        if new.policy == "unheard-of":
            raise ValueError("policy unheard-of: adaptive or static is needed")

    def apply(new: XAppSettings, _changed: frozenset[str]) -> None:
        if new.policy == "buggy":
            raise KeyError("bug")

    config_map = ConfigMap(tmp_path)
    refusals: list[str] = []
    watch = ConfigWatch(
        config_map.file, XAppSettings(), apply, refusals.append, validate=validate, environ={}
    )
    config_map.swap(policy="unheard-of")
    watch.look()
    config_map.swap(policy="buggy")
    watch.look()
    assert refusals == ["policy unheard-of: adaptive or static is needed", "KeyError: 'bug'"]
    assert watch.current == XAppSettings()


def test_environment_and_command_line_keep_winning(tmp_path: Path) -> None:
    config_map = ConfigMap(tmp_path)
    start = XAppSettings(quality_target_db=33.0, policy="static")
    following = Following(
        config_map.file, start,
        environ={"SEMCOM_XAPP_QUALITY_TARGET_DB": "33"}, overrides={"policy": "static"},
    )  # fmt: skip
    config_map.swap(quality_target_db=20.0, policy="adaptive", budget_prefix=7.0)
    following.watch.look()
    assert following.changes == [(msgspec.structs.replace(start, budget_prefix=7.0), {"budget_prefix"})]


def test_it_looks_on_its_own_until_cancelled(tmp_path: Path) -> None:
    config_map = ConfigMap(tmp_path)

    async def scenario() -> None:
        following = Following(config_map.file, period_s=0.005)
        task = asyncio.create_task(following.watch.run())
        for target in (20.0, 21.0):
            config_map.swap(quality_target_db=target)
            async with asyncio.timeout(10.0):
                while following.watch.current.quality_target_db != target:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(scenario())


def test_each_setting_is_either_live_or_needs_a_restart() -> None:
    names = {field.name for field in msgspec.structs.fields(XAppSettings)}
    assert names >= LIVE
    bound_at_start = {"rmr_port", "rmr_host", "http_port", "http_host", "state_dir", "key_dir", "tls_key"}
    assert not bound_at_start & LIVE


@pytest.mark.parametrize("name", sorted(LIVE))
def test_live_settings_are_classified_as_such(name: str) -> None:
    other = {
        "budget_prefix": 7.0, "log_level": "DEBUG", "meids": ["x"], "policy": "static",
        "policy_parameters": {"margin_db": 1.0}, "quality_target_db": 20.0, "remove_after_s": 60.0,
        "report_period_ms": 50, "stale_after_s": 4.0, "cell_prbs": 51, "subcarrier_spacing_khz": 15,
        "picture_pixels": 4096, "radio_resources": True, "slices": {"drone": "00f110/1"},
        "e2_nodes": {"gnb": E2NodeOptions(kpm_version="flexric")}, "split": SplitOptions(band=0.2),
    }  # fmt: skip
    old = XAppSettings()
    new = msgspec.structs.replace(old, **{name: other[name]})
    assert classify_change(old, new) == ({name}, frozenset())
    assert classify_change(old, old) == (frozenset(), frozenset())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200))
def test_no_content_stops_the_watch(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config-file.json"
    file.write_bytes(content)
    following = Following(file)
    following.look_twice()
    assert following.watch.refusal or following.watch.current == XAppSettings()
