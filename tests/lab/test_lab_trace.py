"""Drive-test traces: gaps are carried forward, mistakes are named by line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.lab.trace import TraceChannel, TraceError, load_traces, parse_trace

HEADER = "Timestamp,Speed,RSRP,SNR,CQI,DL_bitrate"
ROWS = (
    "2019.12.01_12.11.21,0,-92,-,8,29",
    "2019.12.01_12.11.22,10,-93,4.0,9,100",
    "2019.12.01_12.11.24,20,-200,8.0,-,300",
)
REAL = Path(__file__).resolve().parents[2].parent / "shared/data/traces/ucc-5g"


def csv(*rows: str, header: str = HEADER) -> str:
    return "\n".join((header, *rows)) + "\n"


def test_missing_values_are_carried_forward_and_leading_ones_take_the_first_measured() -> None:
    trace = parse_trace(csv(*ROWS))
    assert trace.seconds.tolist() == [0.0, 1.0, 3.0]
    assert trace.values["SNR"].tolist() == [4.0, 4.0, 8.0]
    assert trace.values["RSRP"].tolist() == [-92.0, -93.0, -93.0]
    assert trace.values["CQI"].tolist() == [8.0, 9.0, 9.0]


def test_values_between_rows_are_interpolated_and_the_end_turns_back() -> None:
    trace = parse_trace(csv(*ROWS))
    assert trace.at("SNR", 2.0) == pytest.approx(6.0)
    assert trace.at("SNR", 4.0) == pytest.approx(trace.at("SNR", 2.0))
    assert trace.at("SNR", 6.0) == pytest.approx(trace.at("SNR", 0.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (csv(ROWS[0], header="Timestamp,Speed,RSRP,Q,CQI,DL_bitrate"), "line 1: column SNR is missing"),
        (csv(ROWS[0], "2019.12.01_12.11.22,0,-92,strong,8,29"), "line 3, column SNR: 'strong'"),
        (csv(ROWS[0], "2019.12.01_12.11.22,0,-92,400,8,29"), "line 3, column SNR: 400 is outside"),
        (csv(ROWS[0], "yesterday,0,-92,4,8,29"), "line 3, column Timestamp"),
        (csv(ROWS[1], "2019.12.01_12.10.22,0,-92,4,8,29"), "goes back 60 s"),
        (csv(ROWS[0], "2019.12.01_12.11.22,0,-92"), "line 3: 3 columns"),
        (csv(ROWS[1]), "at least two"),
        (csv(ROWS[0], "2019.12.01_12.11.22,0,-92,-,8,29"), "column SNR: no measurement"),
        (csv(ROWS[0], "2019.12.01_12.11.22,0,nan,4,8,29"), "column RSRP: nan is outside"),
    ],
)
def test_a_bad_trace_is_refused_with_line_and_column(text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        parse_trace(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet='0123456789.,-_\n"ab', max_size=60), max_size=5))
def test_no_text_does_anything_but_parse_or_raise_a_trace_error(rows: list[str]) -> None:
    try:
        trace = parse_trace(csv(*ROWS[:2], *rows))
    except TraceError:
        return
    assert (np.diff(trace.seconds) > 0).all()


def test_a_phone_clock_corrected_by_a_second_is_no_error() -> None:
    rows = (ROWS[1], "2019.12.01_12.11.23,0,-92,5,8,29", "2019.12.01_12.11.22,0,-92,6,8,29", ROWS[2])
    assert parse_trace(csv(*rows)).values["SNR"].tolist() == [4.0, 6.0, 8.0]


def test_users_start_at_different_offsets_and_attenuation_lowers_snr_and_cqi() -> None:
    trace = parse_trace(csv(*ROWS[1:], "2019.12.01_12.13.30,0,-80,20,15,9"))
    clear = TraceChannel([trace], 5, seed=1).step(0.1, np.zeros(5))
    weak = TraceChannel([trace], 5, seed=1).step(0.1, np.full(5, 6.0))
    assert len(set(clear.sinr_db)) == 5
    assert (weak.sinr_db <= clear.sinr_db).all()
    assert (weak.cqi < clear.cqi).any()


def test_a_folder_leaves_out_files_that_are_no_traces(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv(*ROWS))
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    assert [trace.name for trace in load_traces(tmp_path)] == ["a.csv"]
    with pytest.raises(TraceError, match="line 1"):
        load_traces(tmp_path / "b.csv")
    with pytest.raises(TraceError, match="cannot be read"):
        load_traces(tmp_path / "absent.csv")


def test_the_published_drive_tests_can_be_read() -> None:
    if not REAL.is_dir():
        pytest.skip("the UCC 5G drive tests are not beside this checkout")
    traces = [
        trace for file in sorted(REAL.glob("Netflix__Driving__*.csv"))[:6] for trace in load_traces(file)
    ]
    assert len(traces) == 6
    link = TraceChannel(traces, 20, seed=1).step(0.1, np.zeros(20))
    assert ((link.sinr_db >= -5.0) & (link.sinr_db <= 25.0)).all()
