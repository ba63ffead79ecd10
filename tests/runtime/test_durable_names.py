"""Files get their names after their bytes are on disk; what is removed holds nobody up and is gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_site import Repository, write_decoder, write_encoder

from codec_runtime.bundle.durable import NewFiles, flushing_threads, rename_over
from codec_runtime.bundle.errors import RefusalError
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.trust import BundleInstaller
from codec_runtime.contract.ranges import ByteRange

BUNDLE = "decoder/attention/2"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with flushing_threads() as pool:
        yield pool


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(what, inode) of every flush and every rename, as they begin."""
    seen: list[tuple[str, int]] = []
    fsync, replace, lock = os.fsync, Path.replace, threading.Lock()

    def flushed(descriptor: int) -> None:
        with lock:
            seen.append(("flush", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def renamed(place: Path, target: Path) -> Path:
        with lock:
            seen.append(("rename", place.stat().st_ino))
        return replace(place, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    return seen


def _ignore() -> None: ...


@pytest.fixture
def files(tmp_path: Path, threads: ThreadPoolExecutor) -> NewFiles:
    return NewFiles(tmp_path, threads, _ignore)


def test_bytes_are_flushed_before_the_name_and_the_name_after(
    tmp_path: Path, files: NewFiles, events: list[tuple[str, int]]
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    files.write(tmp_path / "a", b"new")
    files.write(tmp_path / "b", b"first")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert not (tmp_path / "b").exists()
    files.keep()
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"new", b"first")
    named = [(tmp_path / name).stat().st_ino for name in "ab"]
    for inode in named:
        assert events.index(("flush", inode)) < events.index(("rename", inode))
    assert events[-1] == ("flush", tmp_path.stat().st_ino)


def test_a_flush_that_failed_gives_no_names_when_it_is_asked_for_again(
    tmp_path: Path, files: NewFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk tells of a failure once."""
    failures = [OSError(5, "the disk failed")]

    def fsync(descriptor: int) -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "a").write_bytes(b"old")
    files.write(tmp_path / "a", b"new")
    with pytest.raises(OSError, match="the disk failed"):
        files.keep()
    files.keep()
    assert (tmp_path / "a").read_bytes() == b"old"


def test_equal_bytes_are_not_written_again(
    tmp_path: Path, files: NewFiles, events: list[tuple[str, int]]
) -> None:
    (tmp_path / "a").write_bytes(b"same")
    files.write(tmp_path / "a", b"same")
    files.keep()
    assert events == [("flush", tmp_path.stat().st_ino)]  # an earlier process may have died before that


@given(contents=st.lists(st.binary(max_size=40), max_size=8))
def test_two_files_take_turns_and_the_last_content_has_the_name(
    contents: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("turns")
    inodes: set[int] = set()
    with flushing_threads() as pool:
        for content in contents:
            files = NewFiles(folder, pool, _ignore)
            files.write(folder / "a", content)
            files.keep()
            assert (folder / "a").read_bytes() == content
            inodes.add((folder / "a").stat().st_ino)
    assert len(inodes) <= 2
    assert {path.name for path in folder.iterdir()} <= {"a", ".a.spare"}


def test_a_copy_by_hard_link_is_never_written_to(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    """As backups make them."""
    for number in range(4):
        files = NewFiles(tmp_path, threads, _ignore)
        files.write(tmp_path / "a", b"content %d" % number)
        files.keep()
        os.link(tmp_path / "a", tmp_path / f"copy{number}")
    assert [(tmp_path / f"copy{n}").read_bytes() for n in range(4)] == [b"content %d" % n for n in range(4)]


def test_what_a_dead_process_left_is_in_nobodys_way(tmp_path: Path, files: NewFiles) -> None:
    place = tmp_path / "a"
    place.write_bytes(b"trusted")
    os.link(place, tmp_path / ".a.old")  # it died between the link and the rename
    (tmp_path / ".a.spare").write_bytes(b"half of something else, and longer")
    files.write(place, b"next")
    assert place.read_bytes() == b"trusted"
    files.keep()
    assert place.read_bytes() == b"next"
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".a.spare"}


def test_a_link_as_the_spare_is_not_followed(tmp_path: Path, files: NewFiles) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / ".a.spare").symlink_to(tmp_path / "victim")
    files.write(tmp_path / "a", b"new")
    files.keep()
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a").is_symlink()


def test_without_hard_links_the_old_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, place: Path) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")
    assert rename_over(tmp_path / "new", tmp_path / "a") == []
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.fixture
def site(tmp_path: Path, repository: Repository) -> tuple[Inbox, BundleInstaller]:
    source = tmp_path / "source"
    write_decoder(source, write_encoder(source), version=2, parent=1)
    repository.add_bundle(source, BUNDLE)
    inbox = Inbox(tmp_path / "inbox", max_file_bytes=1 << 22, max_files=64)
    return inbox, BundleInstaller(inbox, tmp_path / "store", tmp_path / "tuf", tmp_path / "root.json")


def _metadata(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*.json") if path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_trusted_metadata_is_on_disk_before_it_has_its_names_and_before_the_bundle_has_its(
    site: tuple[Inbox, BundleInstaller], repository: Repository, tmp_path: Path, events: list[tuple[str, int]]
) -> None:
    inbox, installer = site
    repository.publish(inbox.put)
    events.clear()
    installer.install([BUNDLE])
    files = [path for path in (tmp_path / "tuf").rglob("*.json") if path.name != "root.json"]
    names = {"timestamp.json", "snapshot.json", "targets.json", "1.root.json"}
    assert {path.name for path in files} == names
    for path in files:
        inode = path.stat().st_ino
        assert events.index(("flush", inode)) < events.index(("rename", inode))
    folders = [tmp_path / "tuf", tmp_path / "tuf/root_history", tmp_path / "store/decoder/attention"]
    last = max(index for index, (what, _) in enumerate(events) if what == "rename")
    assert {("flush", folder.stat().st_ino) for folder in folders} <= {*events[last:]}


@pytest.mark.parametrize("spoil", ["snapshot", "targets"])
def test_metadata_verified_before_a_refusal_is_kept_so_that_nobody_rolls_it_back(
    site: tuple[Inbox, BundleInstaller], repository: Repository, tmp_path: Path, spoil: str
) -> None:
    inbox, installer = site
    repository.publish(inbox.put)
    installer.install([BUNDLE])
    before = _metadata(tmp_path / "tuf")

    def without(area: str, name: str, data: bytes) -> None:
        inbox.put(area, name, b"{}" if name == f"2.{spoil}.json" else data)

    repository.publish(without)
    with pytest.raises(RefusalError):
        installer.install([BUNDLE])
    after = _metadata(tmp_path / "tuf")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"timestamp.json"} | ({"snapshot.json"} if spoil == "targets" else set())
    repository.version = 0
    repository.publish(inbox.put)  # version 1 again
    with pytest.raises(RefusalError, match="version"):
        installer.install([BUNDLE])


def test_an_installation_leaves_an_empty_staging_directory(
    site: tuple[Inbox, BundleInstaller], repository: Repository, tmp_path: Path
) -> None:
    inbox, installer = site
    (tmp_path / "store/.staging/decoder-attention-1").mkdir(parents=True)  # of a process that died
    repository.publish(inbox.put)
    installer.install([BUNDLE])
    assert [*(tmp_path / "store/.staging").iterdir()] == []
    repository.publish(inbox.put)  # the same bundle again: what is staged is not what is kept
    installer.install([BUNDLE])
    assert [*(tmp_path / "store/.staging").iterdir()] == []
    assert installer.installed() == [BUNDLE]


def _push(inbox: Inbox, version: int) -> None:
    name = f"decoder/conv/{version}/{'0' * 64}.weights.safetensors"
    inbox.begin_chunk(name, ByteRange(0, 3, 8)).append(b"half")
    inbox.put("targets", f"decoder/conv/{version}/{'0' * 64}.manifest.msgpack", b"m")


@pytest.mark.parametrize("read", [Inbox.targets, Inbox.partial])
def test_folders_of_what_left_the_inbox_do_not_pile_up(
    tmp_path: Path, read: Callable[[Inbox], object]
) -> None:
    inbox = Inbox(tmp_path, max_file_bytes=64, max_files=64)
    for version in range(1, 6):
        _push(inbox, version)
        inbox.discard_targets(f"decoder/conv/{version}")
    area = "targets" if read is Inbox.targets else "partial"
    assert len([*(tmp_path / area / "decoder/conv").iterdir()]) == 5
    read(inbox)
    assert [*(tmp_path / area).rglob("*/*/[0-9]*")] == []


def test_a_folder_that_a_chunk_is_coming_into_stays(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, max_file_bytes=64, max_files=64)
    (tmp_path / "partial/decoder/conv/2").mkdir(parents=True)
    chunk = inbox.begin_chunk(f"decoder/conv/2/{'0' * 64}.weights.safetensors", ByteRange(0, 7, 8))
    assert inbox.partial() == {}
    assert (tmp_path / "partial/decoder/conv/2").is_dir()
    chunk.close()
    inbox.partial()
    assert not (tmp_path / "partial/decoder/conv/2").exists()
