"""The terminal view: what the system does now, drawn from one snapshot. Pure: the clock is outside.

Two shapes: a row for each user where the terminal is tall enough for at least a few of them, a row for each
device class in a small one (80 columns by 24 lines).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from xapp.lab.demo.bandwidth import rate_text
from xapp.lab.demo.supervisor import ProcessStatus

_BLOCKS = "▁▂▃▄▅▆▇█"
_PSNR_RANGE_DB = (18.0, 36.0)
_SNR_RANGE_DB = (-5.0, 25.0)
_STATE_STYLE = {
    "up": "green",
    "starting": "yellow",
    "waiting": "red",
    "given-up": "bold red",
    "stopped": "dim",
}


@dataclass(frozen=True)
class UserRow:
    """One user as shown. ``history``: recent PSNR values, dB, oldest first; NaN and None are unknown."""

    user: str
    device_class: str
    snr_db: float | None = None
    prefix: int | None = None
    decoder: str = ""
    decoder_version: int | None = None
    psnr_db: float | None = None
    history: tuple[float, ...] = ()


@dataclass(frozen=True)
class ViewEvent:
    """A line of the event list: seconds since start, what happened, tone ``good``, ``bad`` or ``info``."""

    time_s: float
    text: str
    tone: str = "info"


@dataclass(frozen=True)
class Snapshot:
    """Everything that the view shows at one moment.

    Attributes:
        elapsed_s, duration_s: seconds.
        phase: a few plain words.
        loop_ms: (p50, p99) of indication in -> directive applied; None before the first.
        counters: label -> value, in the order of display.
        alignment: confidence of the aligning users' pictures, 0..1; None before the first.
        quality_target_db: PSNR below which a transmission counts as a miss, dB.
    """

    elapsed_s: float
    duration_s: float
    phase: str
    users: Sequence[UserRow] = ()
    processes: Sequence[ProcessStatus] = ()
    loop_ms: tuple[float, float] | None = None
    counters: dict[str, int | float] = field(default_factory=dict)
    events: Sequence[ViewEvent] = ()
    alignment: float | None = None
    quality_target_db: float | None = None


class DemoView:
    """Rich renderable of a :class:`Snapshot`; fits the width and height it is given."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield render(self.snapshot, options.max_width, options.height or console.height)


def render(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """Draw a snapshot for a terminal of ``width`` columns and ``height`` lines."""
    tail_lines = 5 if height <= 26 else 9
    rows_free = height - 6 - tail_lines
    by_user = len(snapshot.users) <= rows_free
    rows = snapshot.users if by_user else _by_class(snapshot.users)
    if not by_user and rows_free - len(rows) > 6:
        # Tall enough for the classes and a sample of single users.
        rows = [*rows, *list(snapshot.users)[: rows_free - len(rows) - 1]]
    parts: list[RenderableType] = [
        _header(snapshot, width),
        _user_table(rows, width, snapshot.quality_target_db),
        _processes(snapshot.processes, width),
        _counters(snapshot, width),
        *_events(snapshot.events, tail_lines - 1, width),
    ]
    return Group(*parts)


def sparkline(values: Sequence[float], width: int, low: float, high: float) -> str:
    """The last ``width`` values as block characters between ``low`` and ``high``."""
    shown = [v for v in values[-width:] if isfinite(v)]
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[max(0, min(top, round((v - low) / (high - low) * top)))] for v in shown)


def _bar(value: float | None, width: int, low: float, high: float) -> str:
    if value is None or not isfinite(value):
        return " " * width
    filled = max(0, min(width, round((value - low) / (high - low) * width)))
    return "━" * filled + "╌" * (width - filled)


def _header(snapshot: Snapshot, width: int) -> RenderableType:
    done = min(1.0, snapshot.elapsed_s / snapshot.duration_s) if snapshot.duration_s > 0 else 0.0
    filled = round(done * width)
    line = Text.assemble(
        ("semcom demo ", "bold"),
        f"{snapshot.elapsed_s:5.1f} / {snapshot.duration_s:.0f} s  ",
        (snapshot.phase, "bold cyan"),
    )
    line.truncate(width, overflow="ellipsis")
    return Group(line, Text.assemble(("━" * filled, "cyan"), ("━" * (width - filled), "grey37")))


def _user_table(rows: Sequence[UserRow], width: int, target_db: float | None) -> RenderableType:
    bar = 6 if width < 80 else 10 if width < 110 else 20
    spark = 8 if width < 80 else 12 if width < 110 else 30
    table = Table(box=None, padding=(0, 1, 0, 0), expand=False, header_style="dim")
    table.add_column("user", no_wrap=True, max_width=10)
    if width >= 72:
        table.add_column("class", no_wrap=True)
    table.add_column("SNR dB", no_wrap=True)
    table.add_column("rate R", no_wrap=True, justify="right")
    table.add_column("decoder", no_wrap=True)
    table.add_column("PSNR", no_wrap=True, justify="right")
    table.add_column("trend", no_wrap=True)
    oldest: dict[str | None, int] = {}
    for row in rows:
        if row.decoder_version is not None:
            version = oldest.get(row.decoder, row.decoder_version)
            oldest[row.decoder] = min(row.decoder_version, version)
    for row in rows:
        snr = "    -" if row.snr_db is None else f"{row.snr_db:5.1f}"
        missed = target_db is not None and row.psnr_db is not None and row.psnr_db < target_db
        label = "" if row.decoder_version is None else f" v{row.decoder_version}"
        newer = row.decoder_version is not None and row.decoder_version > oldest[row.decoder]
        cells: list[RenderableType] = [row.user]
        if width >= 72:
            cells.append(row.device_class)
        cells += [
            Text.assemble(snr, " ", (_bar(row.snr_db, bar, *_SNR_RANGE_DB), "cyan")),
            rate_text(row.prefix),
            Text(f"{row.decoder or '-'}{label}", style="bold magenta" if newer else ""),
            Text("-" if row.psnr_db is None else f"{row.psnr_db:.1f}", style="red" if missed else "green"),
            Text(sparkline(row.history, spark, *_PSNR_RANGE_DB), style="blue"),
        ]
        table.add_row(*cells)
    return table


def _by_class(users: Sequence[UserRow]) -> list[UserRow]:
    """One row for each device class: means, the decoder most of its users have, histories averaged."""
    groups: dict[str, list[UserRow]] = {}
    for user in users:
        groups.setdefault(user.device_class, []).append(user)
    rows = []
    for name, members in groups.items():
        prefixes = [m.prefix for m in members if m.prefix is not None]
        decoders = [(m.decoder, m.decoder_version) for m in members if m.decoder]
        decoder, version = max(set(decoders), key=decoders.count) if decoders else ("", None)
        length = min((len(m.history) for m in members if m.history), default=0)
        rows.append(
            UserRow(
                user=f"{len(members)} users",
                device_class=name,
                snr_db=_mean([m.snr_db for m in members]),
                prefix=round(fmean(prefixes)) if prefixes else None,
                decoder=decoder,
                decoder_version=version,
                psnr_db=_mean([m.psnr_db for m in members]),
                history=tuple(
                    fmean(m.history[len(m.history) - length + i] for m in members if m.history)
                    for i in range(length)
                ),
            )
        )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None and isfinite(v)]
    return fmean(known) if known else None


def _processes(processes: Sequence[ProcessStatus], width: int) -> RenderableType:
    line = Text()
    for process in processes:
        style = _STATE_STYLE.get(process.state, "")
        line.append("● ", style=style)
        line.append(process.name)
        if process.state != "up":
            line.append(f" {process.state}", style=style)
        if process.restarts:
            line.append(f" (restarted {process.restarts}x)", style="yellow")
        line.append("  ")
    line.truncate(width, overflow="ellipsis")
    return line


def _counters(snapshot: Snapshot, width: int) -> RenderableType:
    loop = "-" if snapshot.loop_ms is None else f"{snapshot.loop_ms[0]:.1f} / {snapshot.loop_ms[1]:.1f} ms"
    line = Text.assemble(("loop p50/p99 ", "dim"), (loop, "bold"))
    for label, value in snapshot.counters.items():
        text = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        line.append(f"  {label} ", style="dim")
        line.append(text)
    if snapshot.alignment is not None:
        line.append("  alignment ", style="dim")
        line.append(f"{snapshot.alignment:.2f}")
    line.truncate(width * 2 - 2, overflow="ellipsis")
    return line


def _events(events: Sequence[ViewEvent], lines: int, width: int) -> list[RenderableType]:
    styles = {"good": "green", "bad": "red", "info": ""}
    shown: list[RenderableType] = []
    for event in list(events)[-lines:]:
        line = Text.assemble((f"{event.time_s:6.1f} s  ", "dim"), (event.text, styles.get(event.tone, "")))
        line.truncate(width, overflow="ellipsis")
        shown.append(line)
    return shown
