"""Whole files: what is read at all, what replaces what, what a dead process leaves and who removes it."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from epochcast.storage import files
from epochcast.storage.files import (
    TEMPORARY,
    host_and_boot,
    make_folder,
    open_regular,
    read_text,
    remove_leftovers,
    temporary_beside,
    write_bytes_atomically,
    write_text_atomically,
)


@pytest.fixture(autouse=True)
def _look_anew(monkeypatch):
    monkeypatch.setattr(files, "_swept", set())


def leftover(folder, mark, name="0123"):
    path = folder / f"{TEMPORARY}{mark}-{name}"
    path.write_text("what a killed process had written so far")
    return path


# --- leftovers -------------------------------------------------------------------------------------------------------


def test_what_a_dead_process_left_is_removed_by_the_next_writer_and_reader(tmp_path, monkeypatch):
    (tmp_path / "there").write_text("x")
    for action in (lambda: write_text_atomically(tmp_path / "new", "x"), lambda: read_text(tmp_path / "there")):
        monkeypatch.setattr(files, "_swept", set())
        left = leftover(tmp_path, host_and_boot())
        action()
        assert not left.exists()


def test_what_somebody_holds_or_another_host_or_boot_made_stays(tmp_path):
    held = leftover(tmp_path, host_and_boot())
    others = [leftover(tmp_path, mark) for mark in ("000000000000", "unknown")]
    others += [tmp_path / ".epochcast", tmp_path / f"{TEMPORARY}notes", tmp_path / f"x{TEMPORARY}{host_and_boot()}-1"]
    for path in others[2:]:
        path.write_text("a user's own")
    link = tmp_path / f"{TEMPORARY}{host_and_boot()}-link"
    target = tmp_path / "target"
    target.write_text("precious")
    link.symlink_to(target)
    folder = tmp_path / f"{TEMPORARY}{host_and_boot()}-folder"
    folder.mkdir()
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        remove_leftovers(tmp_path)
    assert all(path.exists() for path in [held, *others, link, target, folder])


def test_a_host_without_a_boot_mark_removes_nothing(tmp_path, monkeypatch):
    left = [leftover(tmp_path, mark) for mark in (host_and_boot(), "unknown")]
    monkeypatch.setattr(files, "BOOT_ID", tmp_path / "none")
    host_and_boot.cache_clear()
    remove_leftovers(tmp_path)
    host_and_boot.cache_clear()
    assert all(path.exists() for path in left)


def test_a_temporary_file_is_locked_while_it_is_written_and_gone_afterwards(tmp_path):
    with temporary_beside(tmp_path / "a") as (_, name):
        assert name.name.startswith(f"{TEMPORARY}{host_and_boot()}-")
        with name.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files._swept.clear()
        remove_leftovers(tmp_path)
        assert name.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_sweeper_that_has_the_lock_first_costs_no_write(tmp_path, monkeypatch, is_removed):
    """It may hold the lock for a moment, and remove the file only after we have looked whether it is there."""
    swept = []

    def lock_of_a_sweeper(descriptor, path, **flags):
        if swept:
            return True
        swept.append(path)
        if is_removed:
            path.unlink()
        return False

    monkeypatch.setattr(files, "try_lock", lock_of_a_sweeper)
    with temporary_beside(tmp_path / "a") as (file, name):
        file.write(b"x")
        assert name not in swept
    assert len(swept) == 1


# --- the disk --------------------------------------------------------------------------------------------------------


def test_the_name_of_a_new_file_and_of_each_new_folder_is_pushed_to_the_disk(tmp_path, monkeypatch):
    pushed = []
    fsync = os.fsync

    def noting(descriptor):
        pushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    write_bytes_atomically(tmp_path / "a" / "b" / "file", b"x")
    folders = [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    assert [path for path in pushed if path in folders] == [folders[1], folders[0], folders[2]]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError) as caught:
        make_folder(tmp_path / "file" / "below" / "it")
    assert caught.value.filename == str(tmp_path / "file")


# --- reading ---------------------------------------------------------------------------------------------------------


def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "loop", "socket", "none", "."):
            with pytest.raises(OSError) as caught:  # of five kinds
                open_regular(tmp_path / name)
            assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(OSError, match="a pipe or a device"):
        open_regular(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("text".encode("utf-16"), ":1: UTF-16 text. Save the file as UTF-8."),
        (b"a\nb\nc\xff", ":3: not UTF-8 text: byte 0xff at offset 5."),
        (b"\xef\xbb\xbfa\n\xe9", ":2: not UTF-8 text: byte 0xe9 at offset 5."),
    ],
)
def test_text_of_another_encoding_is_named_with_line_and_cause(tmp_path, raw, words):
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.txt") as caught:
        read_text(tmp_path / "a.txt")
    assert words in str(caught.value)
