"""A folder is private where nobody else can write, on the whole way to it."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace

import pytest

from epochcast.storage import private_folder
from epochcast.storage.private_folder import (
    NotPrivateError,
    check_private_folder,
    make_private_folder,
    open_private,
    private_lock_file,
    read_private,
)

SOMEBODY = 12_345


@pytest.fixture
def folder(tmp_path):
    make_private_folder(made := tmp_path / "a" / "b" / "c")
    return made


@pytest.fixture
def belongs_to_somebody(monkeypatch):
    """Makes paths belong to another user: a test can't give files away unless it is root."""
    theirs = set()
    real = private_folder.Path.lstat

    def lstat(path):
        info = real(path)
        return SimpleNamespace(st_mode=info.st_mode, st_uid=SOMEBODY, st_gid=info.st_gid) if path in theirs else info

    monkeypatch.setattr(private_folder.Path, "lstat", lstat)
    return theirs


def test_a_new_folder_and_those_above_it_are_their_users_alone(folder):
    for made in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    make_private_folder(folder)  # once more
    (folder / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_private_folder(folder / "file" / "below")


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o1777])
@pytest.mark.parametrize("level", range(3))
def test_a_way_that_others_can_write_is_refused_unless_they_can_only_add(folder, mode, level):
    part = (folder, *folder.parents)[level]
    part.chmod(mode)
    if level and mode & stat.S_ISVTX:
        check_private_folder(folder)
        return
    with pytest.raises(NotPrivateError, match=f"{part} can be written by others: chmod go-w {part}"):
        check_private_folder(folder)
    part.chmod(mode & 0o755)
    check_private_folder(folder)


@pytest.mark.parametrize("level", range(3))
def test_another_users_folder_is_refused(folder, belongs_to_somebody, level):
    belongs_to_somebody.add(part := (folder, *folder.parents)[level])
    with pytest.raises(NotPrivateError, match=f"{part} belongs to user {SOMEBODY}"):
        check_private_folder(folder)


def test_ones_own_link_is_followed_and_anothers_is_not(folder, tmp_path, belongs_to_somebody):
    own, middle = tmp_path / "own", tmp_path / "middle"
    middle.symlink_to(folder.parent)
    own.symlink_to("middle/c")  # relative, through another link
    check_private_folder(own)
    folder.chmod(0o777)
    with pytest.raises(NotPrivateError):
        check_private_folder(own)
    folder.chmod(0o700)
    belongs_to_somebody.add(middle)
    with pytest.raises(NotPrivateError, match=f"middle belongs to user {SOMEBODY}"):
        check_private_folder(own)


def test_links_in_a_circle_and_to_nothing_are_errors_of_the_system(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / "y")
    (tmp_path / "y").symlink_to(tmp_path / "x")
    (tmp_path / "nothing").symlink_to(tmp_path / "missing")
    for name in ("x", "nothing"):
        with pytest.raises(OSError, match=r"symbolic links|No such file"):
            make_private_folder(tmp_path / name)


def test_what_lies_above_the_home_is_taken_as_it_is(folder, monkeypatch):
    folder.parent.parent.chmod(0o777)
    monkeypatch.setenv("HOME", str(folder.parent))
    check_private_folder(folder)
    folder.parent.chmod(0o777)
    with pytest.raises(NotPrivateError, match=f"chmod go-w {folder.parent}"):
        check_private_folder(folder)


@pytest.mark.parametrize(
    ("name", "members", "is_own"), [("me", [], True), ("me", ["you"], False), ("staff", [], False)]
)
def test_a_group_of_the_user_alone_may_write(folder, monkeypatch, name, members, is_own):
    monkeypatch.setattr(private_folder.pwd, "getpwuid", lambda uid: SimpleNamespace(pw_gid=os.getgid(), pw_name="me"))
    group = SimpleNamespace(gr_gid=os.getgid(), gr_name=name, gr_mem=members)
    monkeypatch.setattr(private_folder.grp, "getgrgid", lambda gid: group)
    folder.chmod(0o770)
    if is_own:
        check_private_folder(folder)
    else:
        with pytest.raises(NotPrivateError):
            check_private_folder(folder)


def test_only_regular_files_of_ones_own_are_opened(folder, tmp_path):
    file = folder / "file"
    file.write_bytes(b"x")
    assert read_private(file) == b"x"
    file.chmod(0o646)
    with pytest.raises(NotPrivateError, match="can be written by others"):
        open_private(file)
    file.chmod(0o600)
    (folder / "link").symlink_to(file)
    with pytest.raises(NotPrivateError, match="is a link"):
        open_private(folder / "link")
    os.mkfifo(folder / "pipe")
    for odd in (folder, folder / "pipe"):
        with pytest.raises(OSError, match="not a"):
            open_private(odd)
    with pytest.raises(FileNotFoundError):
        open_private(folder / "missing")


def test_a_file_to_lock_is_made_and_never_through_a_link(folder, tmp_path):
    with private_lock_file(folder / "lock") as descriptor:
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
    (tmp_path / "elsewhere").write_text("precious")
    (folder / "planted").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), private_lock_file(folder / "planted"):
        pass
    assert (tmp_path / "elsewhere").read_text() == "precious"
