"""A decoded message for the terminal: a tree that reads like the specification, and a table of the values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from xapp.ric.asn1 import Bits
from xapp.ric.inspect.message import Message
from xapp.ric.inspect.tree import Embedded
from xapp.ric.kpm.header import ntp_to_unix

_INLINE_CHARACTERS = 72
_HEX_OCTETS = 24
_PLMN_NAMES = frozenset(("pLMNIdentity", "pLMN-Identity", "plmnID", "pLMN-Identity-id"))
_MILLISECONDS = frozenset(("reportingPeriod", "granulPeriod"))


def plmn_text(octets: bytes) -> str:
    """``001-01`` of a PLMN identity (TS 23.003: 3 octets, digits swapped in pairs); hex if it is none."""
    digits = octets.hex()
    mcc, mnc = digits[1] + digits[0] + digits[3], digits[5] + digits[4] + digits[2].replace("f", "")
    return f"{mcc}-{mnc}" if (mcc + mnc).isdecimal() else digits


def _octets(octets: bytes) -> str:
    if len(octets) <= _HEX_OCTETS:
        return octets.hex() or "empty"
    return f"{octets[:_HEX_OCTETS].hex()}... ({len(octets)} bytes)"


def _comment(name: str, value: Any) -> str:
    """What a value means, where that takes a table to see."""
    if name in _PLMN_NAMES and isinstance(value, bytes) and len(value) == 3:
        return plmn_text(value)
    if name == "colletStartTime" and isinstance(value, bytes) and len(value) in (4, 8):
        moment = datetime.fromtimestamp(ntp_to_unix(value), UTC)
        return f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC, as NTP time"
    if name in _MILLISECONDS:
        return "ms"
    return ""


def _scalar(value: Any) -> str | None:  # noqa: PLR0911 - a case a kind
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "-"
        case bytes():
            return _octets(value)
        case Bits():
            return f"{value.value:0{(value.size + 3) >> 2}x} ({value.size} bits)"
        case int() | float():
            return repr(value)
        case str():
            return value or '""'
    return None


def _inline(value: Any) -> str | None:
    """``value`` on one line, None if it takes more."""
    plain = _scalar(value)
    if plain is not None:
        return plain
    text = ""
    match value:
        case dict():
            parts = [(name, _explained(name, part)) for name, part in value.items()]
            if any(part is None for _, part in parts):
                return None
            text = ", ".join(name if part == "true" else f"{name} {part}" for name, part in parts) or "empty"
        case list():
            items = [_inline(part) for part in value]
            if not items or any(item is None for item in items):
                return None if items else "empty"
            text = "; ".join(str(item) for item in items)
        case (str() as name, part):
            inner = _explained(name, part)
            if inner is None:
                return None
            text = name if inner in ("true", "-") else f"{name} {inner}"
        case _:
            return None
    return text if len(text) <= _INLINE_CHARACTERS else None


def _explained(name: str, value: Any) -> str | None:
    """:func:`_inline` with its comment."""
    text, comment = _inline(value), _comment(name, value)
    if text is None or not comment:
        return text
    return f"{text} {comment}" if name in _MILLISECONDS else f"{text} ({comment})"


def _grow(tree: Tree, name: str, value: Any) -> None:
    """Add ``value`` under ``name``."""
    label = f"[bold]{escape(name)}[/]" if not name.startswith("[") else f"[dim]{escape(name)}[/]"
    if isinstance(value, Embedded):
        _grow_embedded(tree, label, value)
        return
    match value:
        case {"id": _, "criticality": _, "value": (str() as choice, content), **rest} if not rest:
            # An information element of E2AP: its type says more than its number.
            _grow(tree, choice, content)
            return
    line = _inline(value)
    if line is not None:
        comment = _comment(name, value)
        tree.add(f"{label} [cyan]{escape(line)}[/]" + (f" [dim]{escape(comment)}[/]" if comment else ""))
        return
    match value:
        case (str() as choice, part):
            branch = tree.add(f"{label} [green]{escape(choice)}[/]")
            _grow_all(branch, part)
        case list():
            branch = tree.add(f"{label} [dim]{len(value)} item{'s' * (len(value) != 1)}[/]")
            for index, part in enumerate(value):
                _grow(branch, f"[{index}]", part)
        case _:
            parts = [name]
            while isinstance(value, dict) and len(value) == 1 and _inline(value) is None:
                ((part, value),) = value.items()
                parts.append(part)
            if len(parts) > 1:
                _grow(tree, " / ".join(parts), value)
            else:
                _grow_all(tree.add(label), value)


def _grow_all(branch: Tree, value: Any) -> None:
    """Add the content of ``value`` to ``branch``, without a name of its own."""
    match value:
        case dict():
            for name, part in value.items():
                _grow(branch, name, part)
        case list():
            for index, part in enumerate(value):
                _grow(branch, f"[{index}]", part)
        case (str() as choice, part):
            _grow(branch, choice, part)
        case Embedded():
            _grow_embedded(branch, "", value)
        case _:
            branch.add(f"[cyan]{escape(str(_inline(value)))}[/]")


def _grow_embedded(tree: Tree, label: str, value: Embedded) -> None:
    if value.error:
        branch = tree.add(f"{label} [cyan]{_octets(value.octets)}[/]")
        branch.add(f"[red]not decoded:[/] {escape(value.error)}")
        return
    version = f" [dim]{value.version}[/]" if value.version else ""
    _grow_all(tree.add(f"{label} [magenta]{value.pdu}[/]{version}"), value.value)


def _table(message: Message) -> Table:
    rows = message.rows or []
    table = Table(box=None, pad_edge=False, header_style="bold")
    periods = any("period" in row for row in rows)
    for title in ("user", "measurement", "label", *(["period"] if periods else [])):
        table.add_column(title, overflow="fold")
    table.add_column("value", justify="right")
    last = None
    for row in rows:
        user = row["ue"] or ""
        cells = ["" if user == last else user, row["measurement"], row["label"]]
        if periods:
            cells.append(str(row.get("period", "")))
        value = row["value"]
        table.add_row(
            *map(Text, cells),
            Text("-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)),
        )
        last = user
    return table


def render(message: Message, where: str = "") -> RenderableType:
    """``message`` to print with rich, its place in the input first."""
    title = f"[bold magenta]{message.pdu}[/]"
    if message.version:
        title += f" [dim]KPM {message.version}[/]"
    if where:
        title += f"  [dim]{escape(where)}[/]"
    tree = Tree(title, guide_style="dim")
    _grow_all(tree, message.tree)
    if not message.rows:
        return tree
    return Group(tree, "", _table(message))
