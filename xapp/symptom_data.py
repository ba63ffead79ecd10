"""What the xApp shows the platform of itself: its configuration and, for support, its state in one archive.

``GET /ric/v1/config`` (``appconfigHandler`` of ric-plt/xapp-frame): a list with one entry ``{"metadata":
{"xappName", "configType"}, "config": TEXT}``. appmgr parses TEXT as the descriptor, so it must be a string,
and must hold ``messaging``.

``GET /ric/v1/symptomdata`` (``SendSymptomDataFile`` there, ``xapp_symptomdata.py`` of ric-plt/xapp-frame-py):
a ZIP archive as an attachment; the query's ``fromtime`` and ``totime`` are seconds since the epoch. The
archive is bounded, member by member and as a whole, and holds no secret: values under telling names and
passwords in URLs are masked, and of the environment only the platform's own variables are taken.
"""

from __future__ import annotations

import asyncio
import io
import json
import platform
import re
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import msgspec

from xapp.settings import XAppSettings

MAX_MEMBER_BYTES: Final = 4 << 20
MAX_ARCHIVE_BYTES: Final = 16 << 20
"""Both before compression."""

MASK: Final = "***"
PACKAGES: Final = (
    "semcom-xapp", "ricxappframe", "ricsdl", "redis", "msgspec", "numpy", "scipy", "httpx", "starlette",
    "uvicorn", "tuf",
)  # fmt: skip

_SECRET_NAME = re.compile(
    r"pass(word|phrase|wd)?$|secret|token|credential|private|authorization", re.IGNORECASE
)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s]+@")
_PLATFORM_VARIABLE = re.compile(
    r"(RMR_[A-Z_]+|CONFIG_FILE|XAPP_DESCRIPTOR_PATH|(PLT|APP)_NAMESPACE|HOSTNAME|DBAAS_[A-Z0-9_]+|ALARM_MGR_[A-Z_]+"
    r"|SERVICE_RICXAPP_[A-Z0-9_]+|SEMCOM_XAPP_[A-Z0-9_]+)"
)


@dataclass(frozen=True, slots=True)
class SymptomData:
    """One answer: the attachment's name, its media type and its bytes."""

    filename: str
    media_type: str
    body: bytes


def redact(value: Any) -> Any:
    """A copy of plain values in which secrets are masked."""
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(key, str) and _SECRET_NAME.search(key) and item else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, str):
        return _URL_LOGIN.sub(f"{MASK}@", value)
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def build_config_answer(descriptor: Mapping[str, Any], settings: XAppSettings) -> list[dict[str, Any]]:
    """Answer of ``GET /ric/v1/config`` (module docstring): the descriptor with the settings in force."""
    name = descriptor.get("xapp_name", "semcom-xapp")
    document = redact({**descriptor, "controls": msgspec.to_builtins(settings)})
    return [
        {
            "metadata": {"xappName": name, "configType": "json"},
            "config": json.dumps(document, separators=(",", ":")),
        }
    ]


def parse_time_range(query: Mapping[str, str]) -> tuple[int, int]:
    """``fromtime`` and ``totime`` of the query, seconds since the epoch; 0 where there is none.

    Raises:
        ValueError: one of them is no whole number.
    """
    values = []
    for name in ("fromtime", "totime"):
        text = query.get(name) or "0"
        if not text.isdecimal() or len(text) > 12:
            raise ValueError(f"{name}={text[:20]}: whole seconds since the epoch are needed")
        values.append(int(text))
    return values[0], values[1]


def build_symptom_data(
    *,
    settings: XAppSettings,
    state: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    metrics: bytes,
    tasks: Sequence[str],
    versions: Mapping[str, str],
    environ: Mapping[str, str],
    texts: Mapping[str, str] | None = None,
    from_s: int = 0,
    to_s: int = 0,
    now_s: float | None = None,
) -> SymptomData:
    """The archive of ``GET /ric/v1/symptomdata``.

    Args:
        settings: in force.
        state: document of ``GET /semcom/v1/state``.
        events: oldest first, each with ``time_ns``; those outside ``from_s``..``to_s`` (0: open) are left
            out.
        metrics: Prometheus exposition.
        tasks: lines of :func:`running_tasks`.
        versions: of :func:`installed_versions`.
        environ: of which the platform's variables are taken.
        texts: further members by name, e.g. the route table.
        now_s: seconds since the epoch.
    """
    now = time.gmtime(time.time() if now_s is None else now_s)
    chosen = [
        event
        for event in events
        if (not from_s or int(event.get("time_ns", 0)) >= from_s * 10**9)
        and (not to_s or int(event.get("time_ns", 0)) <= to_s * 10**9)
    ]
    members: dict[str, bytes] = {
        "information.json": _json({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", now), "versions": versions}),
        "settings.json": _json(redact(msgspec.to_builtins(settings))),
        "environment.json": _json(platform_variables(environ)),
        "tasks.txt": "\n".join(tasks).encode(),
        "events.jsonl": _newest_lines(chosen),
        "metrics.txt": metrics,
        "state.json": _json(redact(state)),
    }
    for name, text in (texts or {}).items():
        members[name.replace("/", "_").lstrip(".") or "text"] = _URL_LOGIN.sub(f"{MASK}@", text).encode()
    stamp = time.strftime("%Y%m%d-%H%M%S", now)
    return SymptomData(f"semcom-xapp-{stamp}.zip", "application/zip", _archive(members, now))


def platform_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The platform's and this xApp's variables of the environment, secrets masked; no others."""
    chosen = {name: value for name, value in sorted(environ.items()) if _PLATFORM_VARIABLE.fullmatch(name)}
    masked: dict[str, str] = redact(chosen)
    return masked


def installed_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python, the kernel and these packages; those not installed are left out."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def running_tasks() -> list[str]:
    """One line for each asyncio task of the running loop, with where it waits, and for each thread."""
    lines = []
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        stack = task.get_stack(limit=1)
        where = f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else "-"
        coroutine = getattr(task.get_coro(), "__qualname__", "?")
        lines.append(f"task {task.get_name()} {coroutine} {where}")
    for thread in threading.enumerate():
        lines.append(f"thread {thread.name} {'daemon' if thread.daemon else 'waited for'}")
    return lines


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, default=str).encode()


def _newest_lines(events: Sequence[Mapping[str, Any]]) -> bytes:
    """The events as JSON lines, oldest first; if they are too many, the newest of them."""
    lines: list[bytes] = []
    size = 0
    for event in reversed(events):
        line = json.dumps(redact(dict(event)), default=str).encode()
        size += len(line) + 1
        if size > MAX_MEMBER_BYTES:
            break
        lines.append(line)
    return b"\n".join(reversed(lines))


def _archive(members: Mapping[str, bytes], now: time.struct_time) -> bytes:
    """The members, in order, cut where they exceed a bound; ``truncated.txt`` names those that were."""
    target = io.BytesIO()
    left = MAX_ARCHIVE_BYTES
    cut = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            bound = min(MAX_MEMBER_BYTES, left)
            if len(content) > bound:
                cut.append(f"{name}: {bound} of {len(content)} bytes")
            left -= min(bound, len(content))
            archive.writestr(_entry(name, now), content[:bound])
        if cut:
            archive.writestr(_entry("truncated.txt", now), "\n".join(cut))
    return target.getvalue()


def _entry(name: str, now: time.struct_time) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(max(now.tm_year, 1980), *now[1:6]))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
