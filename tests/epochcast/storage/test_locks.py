"""Locks are waited for with a word and an end; file systems without them, or with weak ones, are named."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from types import SimpleNamespace

import psutil
import pytest

from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.schema import RunRecord
from epochcast.storage import locks
from epochcast.storage.locks import NoLocksError, local_locks, lock, warn_of_local_locks
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table, write_table
from tests.support.light_child import command, light_spec, starts
from tests.support.rows import run_row


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "results" / "runs.csv"
    append_row(path, run_row(run_id="first"))
    return path


def test_a_lock_that_is_held_is_named_and_waited_for_until_an_end(table, monkeypatch, caplog):
    monkeypatch.setattr(locks, "NOTICE_SEC", 0.02)
    monkeypatch.setattr(locks, "LOCK_TIMEOUT_SEC", 0.1)
    with table.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for action in (lambda: append_row(table, run_row(run_id="second")), lambda: read_table(table, RunRecord)):
            caplog.clear()
            with pytest.raises(TimeoutError, match=f"{table}: locked by another process"):
                action()
            (notice,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
            assert f"{table}: waiting for another process" in notice


@pytest.mark.parametrize("number", sorted(locks.NO_LOCKS))
def test_without_locks_nothing_is_measured_and_everything_is_read(table, monkeypatch, tmp_path, number):
    monkeypatch.setenv("LIGHT_CHILD_TRACE", str(tmp_path / "trace"))

    def has_none(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", has_none)
    with pytest.raises(NoLocksError) as caught:
        run(light_spec(), "a", RunPlace(table, tmp_path / "logs", child=command("ok")))
    assert "no locks" in str(caught.value)
    assert "local disk (--runs PATH --log_dir PATH)" in str(caught.value)
    assert caught.value.filename == str(table)
    assert starts(tmp_path / "trace") == []
    assert read_table(table, RunRecord) == [run_row(run_id="first")]
    write_table(tmp_path / "whole.csv", [run_row(run_id="first")], RunRecord)  # replacing needs none
    assert read_table(tmp_path / "whole.csv", RunRecord) == [run_row(run_id="first")]


def test_another_failure_of_a_lock_names_the_file(table, monkeypatch):
    def fails(descriptor, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fails)
    with table.open("rb") as file, pytest.raises(OSError, match="could not be locked") as caught:
        lock(file.fileno(), table)
    assert caught.value.filename == str(table)


def mounts(monkeypatch, kind, options, point):
    """Have psutil list one further file system below the root."""
    listed = [
        SimpleNamespace(mountpoint="/", fstype="ext4", opts="rw,relatime"),
        SimpleNamespace(mountpoint=str(point), fstype=kind, opts=f"rw,relatime,{options}"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **kwargs: listed)
    monkeypatch.setattr(locks, "_warned", set())
    local_locks.cache_clear()


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("nfs", "vers=3,local_lock=none", None),
        ("nfs", "vers=3,nolock,local_lock=all", "mounted with local_lock=all"),
        ("nfs4", "vers=4.2,local_lock=flock", "mounted with local_lock=flock"),
        ("nfs4", "vers=4.2,local_lock=posix", None),  # of fcntl(2), which is not used
        ("lustre", "flock", None),
        ("lustre", "localflock", "mounted with localflock"),
        ("cifs", "vers=3.1.1,nobrl", "mounted with nobrl"),
        ("fuse.sshfs", "user_id=0", "type fuse.sshfs"),
        ("ext4", "data=ordered", None),
    ],
)
def test_locks_that_work_on_one_machine_only_are_named(tmp_path, monkeypatch, caplog, kind, options, reason):
    share = tmp_path / "a share"
    (share / "results").mkdir(parents=True)
    mounts(monkeypatch, kind, options, share)
    for _ in range(2):  # said once
        warn_of_local_locks(share / "results" / "runs.csv")
    warn_of_local_locks(tmp_path / "beside.csv")  # on another file system
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (reason is not None)
    if reason is not None:
        assert reason in said[0]
        assert str(share / "results") in said[0]
        assert "local disk (--runs PATH)" in said[0]
    local_locks.cache_clear()


def test_where_no_file_systems_are_listed_nothing_is_said_of_locks(tmp_path, monkeypatch):
    local_locks.cache_clear()
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "none"))
    assert local_locks(tmp_path) is None
    local_locks.cache_clear()
