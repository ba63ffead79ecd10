"""Files of a run are read back as written; pictures are kept over its phases, within a bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from xapp.lab.records import (
    JsonLines,
    LabState,
    TimelineSample,
    TimelineUser,
    Transmission,
    read_lab_state,
    read_timeline,
    read_transmissions,
    write_state,
)
from xapp.lab.samples import SampleChoice, save_sample

SENT = Transmission(
    id=1,
    time_ns=1_700_000_000_123_456_789,
    elapsed_s=12.5,
    user="ue-2",
    device_class="drone",
    group="drone",
    picture="coffee.png",
    top=3,
    left=4,
    size=168,
    drift="",
    drifted=False,
    noise_seed=2**53 - 1,
    snr_db=7.123456789,
    fading_gain=0.9,
    effective_snr_db=6.6,
    directive_snr_db=7.0,
    prefix=6,
    decoder="attention",
    decoder_version=1,
    encoder_version=1,
    psnr_db=27.1,
    ms_ssim=0.93,
)


def test_transmissions_read_back_exactly_as_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "transmissions.jsonl"
    failed = replace(SENT, id=2, failed=True, psnr_db=None, ms_ssim=None, error="away")
    with JsonLines(path) as lines:
        lines.write(SENT)
        lines.write(failed)
    assert read_transmissions(path) == [SENT, failed]


def test_a_line_cut_off_at_the_end_is_left_out_but_one_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "transmissions.jsonl"
    with JsonLines(path) as lines:
        lines.write(SENT)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert read_transmissions(path) == [SENT]
    path.write_bytes(whole[:40] + b"\n" + whole)
    with pytest.raises(ValueError, match="line 1"):
        read_transmissions(path)


def test_files_that_are_not_there_yet_are_no_error(tmp_path: Path) -> None:
    assert read_transmissions(tmp_path / "none.jsonl") == []
    assert read_timeline(tmp_path / "none.jsonl") == []
    assert read_lab_state(tmp_path / "none.json") is None


def test_time_line_and_state_read_back(tmp_path: Path) -> None:
    user = TimelineUser(
        user="ue-1", device_class="car", snr_db=3.0, prefix=4, psnr_db=None, decoder="conv", decoder_version=1
    )
    sample = TimelineSample(time_ns=1, elapsed_s=0.5, users=[user])
    with JsonLines(tmp_path / "timeline.jsonl") as lines:
        lines.write(sample)
    assert read_timeline(tmp_path / "timeline.jsonl") == [sample]
    state = LabState(
        time_ns=1,
        elapsed_s=1.0,
        users=[],
        transmissions=3,
        requests=6,
        failed_requests=0,
        retried=1,
        reports_lost=0,
        indications_sent=10,
        e2_connected=True,
        runtime_reachable=True,
        pictures=6,
        unreadable_pictures=0,
        drift_active=False,
    )
    write_state(tmp_path / "lab_state.json", state)
    assert read_lab_state(tmp_path / "lab_state.json") == state
    assert [p.name for p in tmp_path.glob("lab_state*")] == ["lab_state.json"]


def test_phases_of_the_drift_group_each_get_pictures_of_several_users() -> None:
    choice = SampleChoice(limit=12, drift_group="drone", drift_at_s=20.0)
    chosen: list[str] = []
    for second in range(60):
        drifted = second >= 20
        for user in ("ue-2", "ue-6", "ue-10"):
            version = 2 if second >= 40 else 1
            sent = replace(SENT, user=user, elapsed_s=float(second), drifted=drifted, decoder_version=version)
            chosen.append(choice.choose(sent))
    assert {phase: chosen.count(phase) for phase in ("before", "drifted", "updated")} == {
        "before": 2,
        "drifted": 2,
        "updated": 2,
    }
    # Nothing is kept before the last seconds ahead of the drift.
    assert "before" not in chosen[: 3 * 12]


def test_the_rest_is_spread_over_snr_and_time_and_bounded() -> None:
    choice = SampleChoice(limit=10, drift_group="drone", drift_at_s=0.0)
    kept = [
        choice.choose(replace(SENT, user="ue-1", group="car", effective_snr_db=snr, elapsed_s=t))
        for t in np.arange(0.0, 60.0, 1.0)
        for snr in (-4.0, 2.0, 9.0, 14.0, 22.0)
    ]
    assert kept[:5] == ["spread"] * 5
    assert kept.count("spread") == 10


def test_failed_transmissions_keep_no_pictures() -> None:
    assert SampleChoice(10, "drone", 0.0).choose(replace(SENT, failed=True)) == ""


def test_sample_pictures_are_lossless(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    save_sample(tmp_path / "samples", 17, picture, 255 - picture)
    with Image.open(tmp_path / "samples" / "17_restored.png") as image:
        assert (np.asarray(image) == 255 - picture).all()
