"""The commit that measured, in repositories made for the test."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from epochcast.machine import git as checkout
from epochcast.machine.git import git_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, taken for the checkout of this code."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "code.py").write_text("x = 1\n")
    git(folder, "add", "code.py")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "first")
    git(folder, "tag", "v1.0")
    monkeypatch.setattr(checkout, "CODE_ROOT", folder)
    return folder


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_checkout_is_its_commit_whatever_its_tags(repository):
    assert git_commit() == git(repository, "rev-parse", "--short=12", "HEAD")
    assert re.fullmatch(r"[0-9a-f]{12}", git_commit() or "")


def test_changed_tracked_files_make_it_dirty_and_new_ones_do_not(repository):
    commit = git_commit()
    (repository / "notes.txt").write_text("not code\n")
    assert git_commit() == commit
    (repository / "code.py").write_text("x = 2\n")
    assert git_commit() == f"{commit}-dirty"
    (repository / "code.py").write_text("x = 1\n")
    assert git_commit() == commit


def test_looking_writes_nothing_into_the_checkout(repository):
    (repository / "code.py").touch()  # git would refresh its index now
    before = (repository / ".git" / "index").read_bytes()
    assert git_commit() is not None
    assert (repository / ".git" / "index").read_bytes() == before


def test_a_hook_s_repository_is_not_ours(repository, tmp_path, monkeypatch):
    commit = git_commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert git_commit() == commit


def test_code_inside_another_project_s_repository_has_no_commit(repository, monkeypatch):
    installed = repository / "venv" / "site-packages"
    installed.mkdir(parents=True)
    monkeypatch.setattr(checkout, "CODE_ROOT", installed)
    assert git_commit() is None


def test_without_git_or_a_commit_it_is_unknown(repository, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    monkeypatch.setattr(checkout, "CODE_ROOT", empty)
    assert git_commit() is None
    monkeypatch.setattr(checkout, "CODE_ROOT", repository)
    monkeypatch.setenv("PATH", str(empty))
    assert git_commit() is None
