"""Settings that change while the xApp runs: the ConfigMap behind ``config-file.json``.

Kubernetes mounts a ConfigMap as ``<dir>/config-file.json -> ..data/config-file.json``, ``..data ->
..2026_01_02_03_04_05.678``; an update writes a new dated folder and renames ``..data`` onto it. A watch on
the file's inode (inotify, as in ricxappframe) dies with the first old folder and so misses the second update.
The file is therefore read once a second through its symbolic links and compared with what was read before: no
event can be lost, and a file that is copied in place works too.

Rules:

- A file is taken whole or not at all: the section ``controls`` goes through
  :func:`codec_runtime.contract.settings.load_settings` (environment and command line keep winning), then
  ``validate``, then ``on_change``; an error at any of the three leaves the old settings in force.
- A bad file is refused once, not each second; what cannot be parsed, only if it is still there at the next
  look: it may have been read in the middle of being written.
- What can be applied live is; the rest waits for a restart and is listed in ``pending``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from codec_runtime.contract.settings import load_settings
from xapp.settings import XAPP_ENV_PREFIX, XAppSettings

MAX_FILE_BYTES: Final = 1 << 20
"""Kubernetes' limit of a ConfigMap."""

LIVE: Final = frozenset(
    {
        "budget_prefix",
        "cell_prbs",
        "e2_nodes",
        "log_level",
        "meids",
        "picture_pixels",
        "policy",
        "policy_parameters",
        "quality_target_db",
        "radio_resources",
        "remove_after_s",
        "report_period_ms",
        "slices",
        "split",
        "stale_after_s",
        "subcarrier_spacing_khz",
    }
)
"""Settings that take effect without a restart; every other one (ports, URLs, folders, keys) needs one."""

_log = logging.getLogger(__name__)


def classify_change(old: XAppSettings, new: XAppSettings) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the settings that differ: (those that apply live, those that need a restart)."""
    changed = {
        field.name
        for field in msgspec.structs.fields(XAppSettings)
        if getattr(old, field.name) != getattr(new, field.name)
    }
    return frozenset(changed & LIVE), frozenset(changed - LIVE)


def merge_live(old: XAppSettings, new: XAppSettings) -> XAppSettings:
    """``old`` with the live settings of ``new``: what a running process can follow.

    Raises:
        ValueError: the mixture breaks a rule that both of them keep; only a restart can follow ``new``.
    """
    live, _ = classify_change(old, new)
    return msgspec.structs.replace(old, **{name: getattr(new, name) for name in live})


@dataclass(slots=True)
class ConfigCounters:
    """Each only grows: files taken, files refused, folders swapped by Kubernetes."""

    applied: int = 0
    refused: int = 0
    swaps: int = 0


class ConfigWatch:
    """Follows one settings file (module docstring).

    Args:
        path: the file, e.g. ``/opt/ric/config/config-file.json``.
        current: settings in force.
        on_change: called with the settings now in force and the names that changed. It applies all or raises
            ValueError, which refuses the file.
        on_refused: called with the reason, once for each bad file.
        on_recovered: called when the file is good again after a bad one.
        on_taken: called whenever the file's content was taken, its other sections may have changed.
        validate: further checks of the new settings (a policy's name and parameters); raises ValueError.
        environ, overrides: as of ``load_settings``, which win over the file as they did at the start.
        period_s: time between two looks.

    Attributes:
        current: settings in force.
        pending: names of settings that the file changes and only a restart applies.
        refusal: why the file is not followed; empty when it is.
    """

    def __init__(
        self,
        path: Path,
        current: XAppSettings,
        on_change: Callable[[XAppSettings, frozenset[str]], None],
        on_refused: Callable[[str], None],
        *,
        on_recovered: Callable[[], None] | None = None,
        on_taken: Callable[[], None] | None = None,
        validate: Callable[[XAppSettings], None] | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        section: str = "controls",
        period_s: float = 1.0,
    ) -> None:
        self.current = current
        self.pending: frozenset[str] = frozenset()
        self.refusal = ""
        self.counters = ConfigCounters()
        self._path = path
        self._on_change = on_change
        self._on_refused = on_refused
        self._on_recovered = on_recovered
        self._on_taken = on_taken
        self._validate = validate
        self._environ = environ
        self._overrides = overrides
        self._section = section
        self._period_s = period_s
        self._seen: bytes | None = None
        self._suspect: bytes | None = None
        self._folder: Path | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._period_s)

    def look(self) -> bool:
        """Look once; True if the file's content was taken or refused now."""
        content = self._content()
        fingerprint = hashlib.sha256(content if isinstance(content, bytes) else content.encode()).digest()
        if fingerprint == self._seen:
            self._suspect = None
            return False
        outcome = self._parse(content) if isinstance(content, bytes) else content
        if isinstance(outcome, XAppSettings):
            reason = self._take(outcome)
        elif fingerprint != self._suspect:
            self._suspect = fingerprint
            return False
        else:
            reason = outcome
        self._seen, self._suspect = fingerprint, None
        if reason:
            self._refuse(reason)
        else:
            self._accept()
        return True

    def _content(self) -> bytes | str:
        """The file's bytes, or why there are none; follows the symbolic links anew."""
        try:
            folder = self._path.resolve(strict=True).parent
            if self._folder not in (None, folder):
                self.counters.swaps += 1
            self._folder = folder
            return _bounded(self._path)
        except OSError as error:
            return f"{self._path}: {error.strerror or error}"
        except ValueError as error:
            return str(error)

    def _parse(self, content: bytes) -> XAppSettings | str:
        """The settings in ``content``, or what is wrong with it."""
        try:
            document: Any = msgspec.json.decode(content)
            # Without the section every setting would silently be its default.
            if not isinstance(document, dict) or not isinstance(document.get(self._section), dict):
                return f"{self._path}: an object {self._section!r} is needed"
            settings = load_settings(
                XAppSettings,
                env_prefix=XAPP_ENV_PREFIX,
                file=self._path,
                section=self._section,
                environ=self._environ,
                overrides=self._overrides,
            )
            # The file was read twice: the settings are those of `content` only if it is still there.
            return settings if _bounded(self._path) == content else f"{self._path} is being written"
        except msgspec.DecodeError as error:
            return f"{self._path} is not JSON: {error}"
        except (ValueError, OSError) as error:
            return str(error)

    def _take(self, new: XAppSettings) -> str:
        """Apply ``new``; the reason why not, empty if it was."""
        live, restart = classify_change(self.current, new)
        try:
            if self._validate is not None:
                self._validate(new)
            try:
                merged = merge_live(self.current, new)
            except ValueError as error:
                return f"needs a restart of the xApp ({', '.join(sorted(restart))}): {error}"
            if live:
                self._on_change(merged, live)
        except ValueError as error:
            return str(error)
        except Exception as error:
            _log.exception("new settings could not be applied")
            return f"{type(error).__name__}: {error}"
        self.current = merged
        if live or restart != self.pending:
            self.counters.applied += 1
            _log.info(
                "settings changed",
                extra={"applied": sorted(live), "restart_needed": sorted(restart)},
            )
        self.pending = restart
        return ""

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self.counters.refused += 1
        _log.warning("settings refused, the old ones stay in force: %s", reason)
        self._on_refused(reason)

    def _accept(self) -> None:
        if self._on_taken is not None:
            self._on_taken()
        if not self.refusal:
            return
        self.refusal = ""
        if self._on_recovered is not None:
            self._on_recovered()


def _bounded(file: Path) -> bytes:
    """Content of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than :data:`MAX_FILE_BYTES`.
    """
    with file.open("rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{file}: more than {MAX_FILE_BYTES} bytes")
    return content
