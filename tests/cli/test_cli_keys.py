"""`semcom keys`: what the commands do to a repository, print and refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xapp.cli import app
from xapp.delivery.repository import TufRepository

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power cuts are not tested here; nor is there a passphrase in the environment."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name in ("SEMCOM_KEY_PASSPHRASE", "SEMCOM_KEY_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    (tmp_path / "passphrase").write_text("correct horse\n")
    return tmp_path / "passphrase"


@pytest.fixture
def off_line(tmp_path: Path) -> Path:
    """A repository whose root keys lie elsewhere, in ``stick``."""
    _keys("init", tmp_path / "tuf", "--root-keys", tmp_path / "stick", "--root-key-count", 1,
          "--root-threshold", 1)
    assert not list((tmp_path / "tuf" / "keys").glob("root*"))
    return tmp_path / "tuf"


def _keys(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["keys", *map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def _status(directory: Path, *options: object) -> dict[str, dict[str, object]]:
    rows = json.loads(_keys("status", directory, "--json", *options))["roles"]
    return {row["role"]: row for row in rows}


def test_encrypted_keys_are_made_shown_and_rotated(tmp_path: Path, passphrase: Path) -> None:
    directory = tmp_path / "tuf"
    with_passphrase = ("--passphrase-file", passphrase)
    root = _keys("init", directory, *with_passphrase).strip()
    assert root == str(directory / "trusted_root.json")
    assert "NOT ENCRYPTED" not in root
    before = _status(directory, *with_passphrase)
    assert (before["root"]["threshold"], before["root"]["encrypted"]) == (2, True)
    assert "in force" in _keys("rotate", "decoder", directory, *with_passphrase)
    after = _status(directory, *with_passphrase)
    assert after["decoder"]["keys"] != before["decoder"]["keys"]
    assert after["encoder"]["keys"] == before["encoder"]["keys"]
    shown = _keys("status", directory, *with_passphrase)
    assert re.search(r"^root +v1 .* 2 of 3 +here: 3, encrypted", shown, re.MULTILINE), shown
    assert "SEMCOM_KEY_PASSPHRASE" in _keys("rotate", "decoder", directory, code=2)


def test_plain_keys_are_warned_of(tmp_path: Path) -> None:
    assert "NOT ENCRYPTED" in _keys("init", tmp_path / "tuf")
    assert "NOT ENCRYPTED" in _keys("status", tmp_path / "tuf")


def test_renewing_the_root_keeps_its_keys_and_moves_its_expiry(tmp_path: Path) -> None:
    directory = tmp_path / "tuf"
    _keys("init", directory)
    before = _status(directory)["root"]
    assert "in force; root version 2" in _keys("renew-root", directory)
    after = _status(directory)["root"]
    assert (after["version"], after["keys"]) == (2, before["keys"])
    assert "nothing waits" in _keys("discard", directory)


def test_a_root_that_waits_is_signed_elsewhere_and_merged(tmp_path: Path, off_line: Path) -> None:
    waiting = _keys("rotate", "timestamp", off_line)
    assert "waits for 1 more signature(s)" in waiting
    pending = off_line / "pending" / "2.root.json"
    assert str(pending) in _keys("status", off_line)
    copy = tmp_path / "carried" / "2.root.json"
    copy.parent.mkdir()
    shutil.copyfile(pending, copy)
    assert "waits for 1" in _keys("merge", off_line, copy)  # not signed yet
    assert "1 signature(s) added" in _keys("sign", copy, "--root-keys", tmp_path / "stick")
    assert "in force; root version 2" in _keys("merge", off_line, copy)
    assert not pending.exists()
    assert all(row["verified"] for row in _status(off_line).values())


def test_a_root_that_waits_can_be_given_up(off_line: Path) -> None:
    before = _status(off_line)
    _keys("renew-root", off_line)
    assert "discarded" in _keys("discard", off_line)
    assert _status(off_line) == before
    assert not (off_line / "pending" / "2.root.json").exists()


def test_refresh_signs_only_what_expires(tmp_path: Path) -> None:
    directory = tmp_path / "tuf"
    _keys("init", directory)
    assert "nothing to do" in _keys("refresh", directory)
    assert "signed again" in _keys("refresh", directory, "--within-days", 8)
    versions = TufRepository(directory).versions()
    assert (versions["timestamp"], versions["snapshot"], versions["targets"]) == (2, 2, 1)


def test_the_root_for_new_sites_is_the_one_in_force_or_the_first(tmp_path: Path) -> None:
    directory = tmp_path / "tuf"
    _keys("init", directory)
    first = (directory / "trusted_root.json").read_bytes()
    _keys("renew-root", directory)
    assert "version 2" in _keys("export-root", directory, "--to", tmp_path / "new.json")
    assert (tmp_path / "new.json").read_bytes() == (directory / "metadata" / "2.root.json").read_bytes()
    assert "version 1" in _keys("export-root", directory, "--to", tmp_path / "old.json", "--no-current")
    assert (tmp_path / "old.json").read_bytes() == first


@pytest.mark.parametrize(
    "words", [["status"], ["rotate", "decoder"], ["renew-root"], ["discard"], ["refresh"]]
)
def test_a_directory_without_a_repository_is_named_and_stays_empty(tmp_path: Path, words: list[str]) -> None:
    assert "semcom keys init" in _keys(*words, tmp_path / "none", code=2)
    assert not (tmp_path / "none").exists()


def test_mistakes_are_named(tmp_path: Path, off_line: Path) -> None:
    assert "nonsense" in _keys("rotate", "nonsense", off_line, code=2)
    assert "00000000" in _keys("rotate", "root", off_line, "--replace", "00000000", code=2)
    assert "nowhere" in _keys("refresh", off_line, "--passphrase-file", tmp_path / "nowhere", code=2)
    strange = tmp_path / "strange.json"
    strange.write_text("{}")
    assert str(strange) in _keys("sign", strange, "--root-keys", tmp_path / "stick", code=2)
    missing = tmp_path / "missing.json"
    assert str(missing) in _keys("sign", missing, "--root-keys", tmp_path / "stick", code=2)
    assert "waits" in _keys("merge", off_line, strange, code=2)
    assert "stick" in _keys("export-root", off_line, "--to", tmp_path / "stick", code=2)
