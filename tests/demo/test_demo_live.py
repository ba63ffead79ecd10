"""The terminal view at several sizes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from xapp.lab.demo.bandwidth import rate_text
from xapp.lab.demo.display import LineDisplay, closing_table
from xapp.lab.demo.live import DemoView, Snapshot, UserRow, ViewEvent, sparkline
from xapp.lab.demo.supervisor import ProcessStatus


def snapshot(users: int = 20, **values) -> Snapshot:
    classes = ("mobile", "drone", "car", "fixed")
    fields = {
        "elapsed_s": 23.4,
        "duration_s": 60.0,
        "phase": "live: drones drifted",
        "users": [
            UserRow(
                f"ue-{i}",
                classes[i % 4],
                snr_db=8.0 + i % 9,
                prefix=4 + i % 8,
                decoder="attention" if i % 2 else "conv",
                decoder_version=2 if i % 4 == 1 else 1,
                psnr_db=23.0 + i % 7,
                history=tuple(22.0 + (i + k) % 8 for k in range(12)),
            )
            for i in range(users)
        ],
        "processes": [
            ProcessStatus("redis", "up", 0, 1, ""),
            ProcessStatus("runtime", "waiting", 1, 2, ""),
            ProcessStatus("xapp", "up", 0, 3, ""),
            ProcessStatus("lab", "up", 0, 4, ""),
        ],
        "loop_ms": (3.2, 8.9),
        "counters": {"reports": 12_345, "directives": 321, "pictures": 211, "failed": 0, "updates": 1},
        "events": [ViewEvent(float(i), f"event {i}", "good") for i in range(30)],
        "quality_target_db": 25.0,
    }
    return Snapshot(**{**fields, **values})


def draw(shown: Snapshot, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(DemoView(shown))
    return console.export_text().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 24), (80, 50), (140, 50), (40, 15)])
@pytest.mark.parametrize("users", [0, 4, 20, 200])
def test_the_view_fits_the_terminal(width, height, users):
    lines = draw(snapshot(users), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_a_tall_terminal_shows_every_user():
    text = "\n".join(draw(snapshot(20), 140, 50))
    assert all(f"ue-{i} " in text for i in range(20))


def test_a_small_terminal_shows_classes_and_some_users():
    text = "\n".join(draw(snapshot(20), 80, 24))
    assert text.count("5 users") == 4
    assert "ue-19" not in text
    assert "drone" in text


def test_a_dead_process_and_the_newest_events_are_shown():
    text = "\n".join(draw(snapshot(), 80, 24))
    assert "runtime waiting (restarted 1x)" in text
    assert "event 29" in text
    assert "event 3\n" not in text


def test_unknown_values_are_drawn_as_such():
    users = [UserRow("ue-0", "mobile"), UserRow("ue-1", "car", snr_db=float("nan"), history=(float("nan"),))]
    shown = Snapshot(elapsed_s=0, duration_s=0, phase="starting", users=users)
    text = "\n".join(draw(shown, 100, 40))
    assert "ue-1" in text


def test_rates_and_sparklines():
    assert [rate_text(p) for p in (6, 10, 16, None, 0)] == ["1/16", "1/9.6", "1/6", "-", "-"]
    assert sparkline([0.0, 1.0, 5.0, float("nan")], 4, 0.0, 1.0) == "▁██"
    assert sparkline([0.0, 1.0], 1, 0.0, 1.0) == "█"


def test_plain_lines_tell_each_event_once(capsys):
    display = LineDisplay()
    shown = snapshot(events=[ViewEvent(1.0, "drift noticed")])
    display.show(shown)
    display.show(shown)
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.count("drift noticed") == 1
    assert "mean R 1/" in out.err


def test_the_closing_table_takes_a_run_without_measurements(capsys):
    from xapp.lab.demo.summary import RunData, summarise

    Console().print(closing_table(summarise(RunData(duration_s=60, users=4, seed=1))))
    assert "mean PSNR" in capsys.readouterr().out
