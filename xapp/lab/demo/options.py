"""Options of a demo run and the plan of its time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PROCESSES = ("redis", "runtime", "xapp", "lab")

MINIMUM_DURATION_S = 15.0
_LIVE_SHARE = 0.75


class DemoOptionsError(ValueError):
    """An option is out of range or names something that does not exist; the message says which and why."""


@dataclass(frozen=True)
class DemoOptions:
    """What the person who starts the demo may choose.

    Attributes:
        duration_s: wall time of live phase, replay and report together, seconds, at least 15. Starting the
            processes comes before it.
        users: emulated users, 1..1000.
        seed: of user placement, channel draws, pictures and training.
        out: folder for ``report.html``, ``summary.json``, ``logs/`` and ``run/``.
        images: folder of photographs; None for those that come with scikit-image.
        trace: CSV of a drive test that drives the channel; None for the channel model.
        with_old_devices: cars keep the decoders they came with, fixed boxes have none and get JPEG bytes.
        live: draw the terminal view, if standard error is a terminal.
        json: print the summary, and nothing else, on standard output.
        ports: fixed ports by name (see :class:`xapp.lab.demo.processes.Ports`); the others are chosen free.
    """

    duration_s: float = 60.0
    users: int = 20
    seed: int = 1
    out: Path = Path("demo-out")
    images: Path | None = None
    trace: Path | None = None
    with_old_devices: bool = False
    live: bool = True
    json: bool = False
    ports: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raises: DemoOptionsError naming the first option that cannot work."""
        if not MINIMUM_DURATION_S <= self.duration_s <= 86_400:
            raise DemoOptionsError(f"duration is {self.duration_s:g} s; 15 s to 86400 s make sense")
        if not 1 <= self.users <= 1000:
            raise DemoOptionsError(f"users is {self.users}; 1 to 1000 can be emulated")
        if self.images is not None and not self.images.is_dir():
            raise DemoOptionsError(f"images folder {self.images} does not exist")
        if self.trace is not None and not self.trace.exists():
            raise DemoOptionsError(f"trace {self.trace} does not exist")


@dataclass(frozen=True)
class Timeline:
    """When what happens, seconds from the moment that every process is ready.

    Attributes:
        drift_s: channel and content of one user group change.
        live_end_s: traffic ends; replay and report follow.
        end_s: the demo should be over.
    """

    drift_s: float
    live_end_s: float
    end_s: float

    @classmethod
    def plan(cls, duration_s: float) -> Timeline:
        """Three quarters of the time are live; the drift comes after a third of those."""
        live = _LIVE_SHARE * duration_s
        return cls(drift_s=live / 3, live_end_s=live, end_s=duration_s)
