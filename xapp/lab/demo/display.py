"""Where progress goes: a live view on a terminal, plain lines elsewhere. Always standard error.

Standard output carries results alone: the closing table, or the JSON summary.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from xapp.lab.demo.bandwidth import rate_text
from xapp.lab.demo.live import DemoView, Snapshot

_LINE_PERIOD_S = 5.0


class Display(Protocol):
    """Shows snapshots; used as a context manager."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the newest snapshot; called a few times a second."""

    def say(self, text: str) -> None:
        """Tell of a step."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveDisplay:
    """The view of :mod:`xapp.lab.demo.live` on the terminal's alternate screen."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, screen=True, auto_refresh=False, transient=True)

    def show(self, snapshot: Snapshot) -> None:
        """Draw it."""
        self._live.update(DemoView(snapshot), refresh=True)

    def say(self, text: str) -> None:
        """The view's phase says it."""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class LineDisplay:
    """A line every five seconds, and one for each new event."""

    def __init__(self) -> None:
        self._next = 0.0
        self._told: set[tuple[float, str]] = set()

    def show(self, snapshot: Snapshot) -> None:
        """Print what is new."""
        for event in snapshot.events:
            if (event.time_s, event.text) not in self._told:
                self._told.add((event.time_s, event.text))
                self.say(f"{event.time_s:6.1f} s  {event.text}")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_PERIOD_S
            self.say(f"{snapshot.elapsed_s:6.1f} s  {progress_line(snapshot)}")

    def say(self, text: str) -> None:
        """Print a line on standard error."""
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def choose_display(live: bool) -> LiveDisplay | LineDisplay:
    """The live view if it is wanted and standard error is a terminal that can draw it."""
    console = Console(stderr=True)
    if live and console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(console)
    return LineDisplay()


def progress_line(snapshot: Snapshot) -> str:
    """One line about a snapshot."""
    prefixes = [user.prefix for user in snapshot.users if user.prefix]
    quality = [user.psnr_db for user in snapshot.users if user.psnr_db is not None]
    parts = [snapshot.phase]
    if prefixes:
        parts.append(f"mean R {rate_text(sum(prefixes) / len(prefixes))}")
    if quality:
        parts.append(f"PSNR {sum(quality) / len(quality):.1f} dB")
    if snapshot.loop_ms:
        parts.append(f"loop p99 {snapshot.loop_ms[1]:.1f} ms")
    if snapshot.alignment is not None:
        parts.append(f"alignment {snapshot.alignment:.2f}")
    if snapshot.users:
        parts += [f"{label} {value:,}" for label, value in snapshot.counters.items()]
    return " · ".join(parts)


def closing_table(summary: Mapping[str, Any]) -> Table:
    """The headline numbers of a summary."""
    table = Table(title="semcom demo", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("adaptive", justify="right")
    table.add_column("static", justify="right")
    target = summary["quality_target_db"]
    for label, key, form in (
        (f"pictures below {target:g} dB", "quality_misses", "{:.1%}"),
        ("mean PSNR (dB)", "psnr_db", "{:.2f}"),
        ("mean MS-SSIM", "ms_ssim", "{:.3f}"),
    ):
        table.add_row(label, *(_form(summary[key][k], form) for k in ("adaptive", "static_same_bandwidth")))
    ratio = summary["bandwidth_ratio_mean"]
    bandwidth = f"1/{1 / ratio:.1f}" if ratio else "-"
    table.add_row("bandwidth ratio R", bandwidth, bandwidth if summary["compared_transmissions"] else "-")
    table.add_section()
    loop = summary["loop_ms"]
    for label, value in (
        ("update gain (dB, same pictures)", _form(summary["update_gain_db"], "{:+.2f}")),
        ("control loop p50 / p99 (ms)", f"{_form(loop['p50'], '{:.1f}')} / {_form(loop['p99'], '{:.1f}')}"),
        ("indications / undecodable", f"{summary['indications']:,} / {summary['decode_errors']:,}"),
        ("requests / failed", f"{summary['requests']:,} / {summary['failed_requests']:,}"),
        ("updates pushed / swaps", f"{summary['updates_pushed']} / {summary['swaps']}"),
    ):
        table.add_row(label, value, "")
    return table


def _form(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
