"""The tables of docs/security.md, from what the tests saw.

A test calls :func:`hold`: the row must be in the document as it is. With ``SEMCOM_WRITE_SECURITY_TABLES=1``
in the environment the row is written to docs/results/security.json and
the document made anew from it instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

_DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENT = _DOCS / "security.md"
RESULTS = _DOCS / "results" / "security.json"
WRITING = os.environ.get("SEMCOM_WRITE_SECURITY_TABLES") == "1"


def hold(table: str, order: Sequence[str], row: dict[str, str]) -> None:
    """Compare a row with the document, or write it.

    Args:
        table: name between the markers. order: every value that the first column takes, in order.
    """
    (first, name), *_ = row.items()
    if WRITING:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        rows = {found[first]: found for found in results.get(table, [])} | {name: row}
        results[table] = [rows[key] for key in order if key in rows]
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        begin, end = _markers(table)
        text = DOCUMENT.read_text()
        before, _, rest = text.partition(begin)
        DOCUMENT.write_text(f"{before}{begin}\n{render(results[table])}\n{end}{rest.partition(end)[2]}")
    assert _line(row) in documented(table), f"{name}: run again with SEMCOM_WRITE_SECURITY_TABLES=1"


def documented(table: str) -> list[str]:
    """Lines of a table of the document, the two of its head left out."""
    begin, end = _markers(table)
    _, found, rest = DOCUMENT.read_text().partition(begin)
    assert found, f"{DOCUMENT.name} lacks {begin}"
    return rest.partition(end)[0].strip().splitlines()[2:]


def render(rows: Sequence[dict[str, str]]) -> str:
    head = list(rows[0])
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *map(_line, rows)])


def _line(row: dict[str, str]) -> str:
    return f"| {' | '.join(row.values())} |"


def _markers(table: str) -> tuple[str, str]:
    return f"<!-- {table}: begin -->", f"<!-- {table}: end -->"
