"""Temporary files: what a dead process leaves and who removes it."""

from __future__ import annotations

import fcntl

import pytest

from epochcast.storage import temporary_files
from epochcast.storage.files import read_text, write_text_atomically
from epochcast.storage.temporary_files import TEMPORARY, host_and_boot, remove_leftovers, temporary_file_for


@pytest.fixture(autouse=True)
def _look_anew(monkeypatch):
    monkeypatch.setattr(temporary_files, "_swept", set())


def leftover(folder, mark, name="0123"):
    path = folder / f"{TEMPORARY}{mark}-{name}"
    path.write_text("what a killed process had written so far")
    return path


def test_what_a_dead_process_left_is_removed_by_the_next_writer_and_reader(tmp_path, monkeypatch):
    (tmp_path / "there").write_text("x")
    for action in (lambda: write_text_atomically(tmp_path / "new", "x"), lambda: read_text(tmp_path / "there")):
        monkeypatch.setattr(temporary_files, "_swept", set())
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
    monkeypatch.setattr(temporary_files, "BOOT_ID", tmp_path / "none")
    host_and_boot.cache_clear()
    remove_leftovers(tmp_path)
    host_and_boot.cache_clear()
    assert all(path.exists() for path in left)


def test_a_temporary_file_is_locked_while_it_is_written_and_gone_afterwards(tmp_path):
    with temporary_file_for(tmp_path / "a") as (_, name):
        assert name.name.startswith(f"{TEMPORARY}{host_and_boot()}-")
        with name.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary_files._swept.clear()
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

    monkeypatch.setattr(temporary_files, "try_lock", lock_of_a_sweeper)
    with temporary_file_for(tmp_path / "a") as (file, name):
        file.write(b"x")
        assert name not in swept
    assert len(swept) == 1
