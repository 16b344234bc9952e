"""What tables say, word for word: a message names the file, what was found, and a remedy that works when pasted."""

from __future__ import annotations

import errno
import fcntl
import gzip
import logging
import os
from pathlib import Path

import pytest

from epochcast.schema import AggRow, Exclusion, FailureRecord, NewerSchemaError, RunRecord
from epochcast.storage import locks, table_appends, tables
from epochcast.storage.cells import columns, format_rows
from epochcast.storage.table_appends import DuplicateRunError, append_row, check_appendable
from epochcast.storage.tables import read_runs, read_table, write_table
from tests.epochcast.storage.test_tables import record
from tests.support.rows import failure_row


@pytest.fixture
def folder(tmp_path):
    """A name that a shell must have in quotes."""
    path = tmp_path / "my runs"
    path.mkdir()
    return path


@pytest.fixture
def runs(folder):
    return folder / "runs.csv"


def said(caplog):
    messages = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    caplog.clear()
    return messages


def refusal(action, *args, kind=ValueError):
    with pytest.raises(kind) as caught:
        action(*args)
    return str(caught.value)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_line_without_its_end_is_shown_in_part_with_a_command_for_a_shell(runs, caplog, is_whole):
    line = format_rows([record("run-2")])[:-1]
    line = line if is_whole else line[:90]
    write_table(runs, [record()], RunRecord)
    runs.write_bytes(runs.read_bytes() + line.encode())
    read_table(runs, RunRecord)
    recover = f"Its run, if it ended, is appended by: epochcast recover --runs '{runs}'"
    end_it = f"If it is whole, end it: echo >> '{runs}'" if is_whole else recover
    assert said(caplog) == [
        f"{runs}:3: the last line has no line end, it may be cut short; left out: {line[:80]!r}. {end_it}"
    ]
    append_row(runs, record("run-3"))
    put_back = f"If it is whole, put it back: tail -n 1 '{runs}.torn' >> '{runs}'" if is_whole else recover
    assert said(caplog) == [
        f"{runs}: the last line had no line end, it may be cut short; moved to {runs}.torn: "
        f"{line[:80].encode()!r}. {put_back}"
    ]


def test_a_cut_line_of_another_table_is_to_be_completed_or_deleted(folder, caplog):
    path = folder / "failures.csv"
    write_table(path, [failure_row()], FailureRecord)
    path.write_text(path.read_text() + "a,b")
    assert read_table(path, FailureRecord) == [failure_row()]
    append_row(path, failure_row())
    remedy = "It lacks cells: complete or delete it."
    assert said(caplog) == [
        f"{path}:3: the last line has no line end, it may be cut short; left out: 'a,b'. {remedy}",
        f"{path}: the last line had no line end, it may be cut short; moved to {path}.torn: b'a,b'. {remedy}",
    ]


def test_a_cut_line_that_ends_within_a_character_is_moved_aside_as_it_is(runs, caplog):
    write_table(runs, [record()], RunRecord)
    line = format_rows([record("run-2")]).encode()
    torn = line[: line.index("Ü".encode()) + 1]
    runs.write_bytes(runs.read_bytes() + torn)
    append_row(runs, record("run-3"))
    assert len(said(caplog)) == 1
    assert Path(f"{runs}.torn").read_bytes() == torn + b"\n"


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        (
            RunRecord,
            "Correct the cell, or delete the row and run epochcast recover --runs '{path}': it appends the run as it "
            "was measured, from logs/<run_id>.json. Where that file is lost, measure it again.",
        ),
        (
            AggRow,
            "Correct the cell, or move the table away and make it anew: epochcast aggregate --runs RUNS --out PATH.",
        ),
        (Exclusion, "Correct the cell, or delete the row."),
    ],
    ids=["runs", "averages", "exclusions"],
)
def test_a_row_that_can_not_be_read_is_named_with_the_remedy_of_its_table(folder, kind, remedy):
    path = folder / "table.csv"
    names = columns(kind)
    path.write_text(",".join(names) + "\n1,2\n")
    expected = f"{path}:2, expected {len(names)} columns, got 2. {remedy.format(path=path)}"
    assert refusal(read_table, path, kind) == expected


def test_a_row_of_a_newer_version_is_named_without_a_remedy_for_the_row(runs):
    write_table(runs, [record()], RunRecord)
    runs.write_text(runs.read_text().replace(",0.7,1,run-1,", ",0.7,999,run-1,"))
    message = refusal(read_table, runs, RunRecord, kind=NewerSchemaError)
    assert message.startswith(f"{runs}:2, ")
    assert "recover" not in message


@pytest.mark.parametrize("old", [",3,32,128,3,", ",2.625,", ",0.7,1,run-1,"])
def test_a_complaint_about_a_row_ends_in_one_full_stop(runs, old):
    write_table(runs, [record()], RunRecord)
    new = old.replace("3,32", "0,32").replace("2.625", "-1").replace("0.7", "7")
    runs.write_text(runs.read_text().replace(old, new))
    complaint, stop, _ = refusal(read_table, runs, RunRecord).partition(". Correct the cell")
    assert stop and not complaint.endswith(".")


def test_a_reader_waits_for_no_other_reader(runs, monkeypatch):
    append_row(runs, record())
    monkeypatch.setattr(locks, "LOCK_TIMEOUT_SEC", 0.05)
    with runs.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert read_table(runs, RunRecord) == [record()]


def test_a_disk_that_can_not_be_read_is_an_error_that_names_the_table(runs, monkeypatch):
    def fail(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    append_row(runs, record())
    monkeypatch.setattr(tables, "read_some", fail)
    with pytest.raises(OSError) as caught:
        read_table(runs, RunRecord)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(runs))


def test_missing_and_empty_tables_are_named_with_what_was_expected(runs):
    message = refusal(read_table, runs, RunRecord, kind=FileNotFoundError)
    assert message == f"{runs}: no such table. Measure something first, or name another with a flag."
    runs.write_text("")
    message = refusal(read_table, runs, Exclusion)
    assert message == f"{runs}:1: the file is empty, expected the header 'run_id,reason,date'."


def test_runs_taken_back_are_reported_and_unknown_ones_named_in_order(runs, folder, caplog):
    write_table(runs, [record(), record("run-2"), record(None)], RunRecord)
    excluded = folder / "excluded.csv"
    excluded.write_text("run_id,reason,date\nrun-9,why,2026-01-02\nrun-8,why,2026-01-02\n")
    assert refusal(read_runs, runs) == (
        f"{excluded}: run_id run-8, run-9 is not in {runs}. Correct the run_id or delete the line."
    )
    excluded.write_text("run_id,reason,date\nrun-1,too hot,2026-01-02\n")
    table = read_runs(runs)
    assert (table.path, table.rows) == (runs, [record("run-2"), record(None)])
    assert table.excluded == [(record(), Exclusion("run-1", "too hot", "2026-01-02"))]
    assert said(caplog) == [f"{runs}: run run-1 is excluded: too hot"]


def test_an_older_table_is_not_appended_to_and_the_command_that_lifts_it_is_named(runs):
    runs.write_text(",".join(columns(RunRecord)[:11]) + "\n")
    assert refusal(append_row, runs, record()) == (
        f"{runs}:1: an older schema: 11 columns, this version writes {len(columns(RunRecord))}. It can be read as it "
        f"is, but not appended to. Lift it: epochcast migrate --runs '{runs}'"
    )


def test_a_run_that_is_in_the_table_is_named(runs):
    append_row(runs, record())
    assert refusal(append_row, runs, record(), kind=DuplicateRunError) == f"{runs} holds a run run-1 already."


def test_a_pipe_is_refused_by_its_name(runs):
    os.mkfifo(runs)
    with pytest.raises(OSError) as caught:
        append_row(runs, record())
    assert (caught.value.errno, caught.value.strerror, caught.value.filename) == (
        errno.EINVAL,
        "a pipe, not a file: a table can't be kept in it",
        str(runs),
    )


def test_a_device_that_keeps_nothing_is_refused_by_its_name():
    with pytest.raises(OSError) as caught:
        append_row(Path(os.devnull), record())
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value).startswith("[Errno 22] could not append (")
    assert caught.value.filename == os.devnull


def test_a_device_that_keeps_nothing_is_refused_where_pushing_to_it_is_no_error(fast_disk):
    with pytest.raises(OSError) as caught:
        append_row(Path(os.devnull), record())
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, os.devnull)
    assert caught.value.strerror == "could not append (a device that keeps nothing)"


def test_a_row_that_fits_in_part_is_an_error_of_a_full_disk(runs, monkeypatch):
    append_row(runs, record())
    before = runs.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-1]))
    with pytest.raises(OSError) as caught:
        append_row(runs, record("run-2"))
    monkeypatch.undo()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(runs))
    assert caught.value.strerror == "could not append (No space left on device)"
    assert runs.read_bytes() == before


@pytest.mark.parametrize("missing", [0, 1])
def test_a_mebibyte_must_be_free_before_a_run(runs, monkeypatch, missing):
    class Free:
        f_bavail, f_frsize = (1 << 20) - missing, 1

    monkeypatch.setattr(os, "statvfs", lambda path: {runs.parent: Free}[path])
    assert table_appends.MIN_FREE_BYTES == 1 << 20
    if not missing:
        check_appendable(runs, RunRecord)
        return
    with pytest.raises(OSError) as caught:
        check_appendable(runs, RunRecord)
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOSPC, "less than 1 MiB is free")
    assert caught.value.filename == str(runs.parent)


# --- headers as other programs save them, cut short or not -----------------------------------------------------------

HEADER = ",".join(columns(RunRecord)).encode()
QUOTED = b",".join(b'"%s"' % name for name in HEADER.split(b","))
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"t",
        b"\r",
        HEADER[:40],
        HEADER,
        HEADER + b"\r",
        BOM[:1],
        BOM[:2],
        BOM,
        BOM + HEADER[:40],
        BOM + HEADER + b"\r",
        QUOTED,
    ],
    ids=range(12),
)
def test_a_header_without_its_line_end_holds_no_run_and_is_written_again(runs, caplog, start):
    runs.write_bytes(start)
    append_row(runs, record())
    assert runs.read_bytes() == HEADER + b"\n" + format_rows([record()]).encode()
    assert said(caplog) == []


@pytest.mark.parametrize("start", [HEADER + b"\r\n", BOM + HEADER + b"\n", BOM + HEADER + b"\r\n"], ids=range(3))
def test_a_header_as_another_program_saved_it_stays_and_is_appended_to(runs, caplog, start):
    runs.write_bytes(start)
    append_row(runs, record())
    assert runs.read_bytes() == start + format_rows([record()]).encode()
    assert said(caplog) == []


@pytest.mark.parametrize(
    "start",
    [b"who", b"x" + HEADER, HEADER[1:], BOM + b"x", HEADER[:40] + b"\n", b"\n", HEADER[:40] + b" "],
    ids=range(7),
)
def test_what_is_no_beginning_of_a_header_is_refused_and_left_as_it_is(runs, start):
    runs.write_bytes(start)
    message = refusal(append_row, runs, record())
    assert f"{runs}:1" in message
    assert runs.read_bytes() == start


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_torn_row_about_as_long_as_what_is_read_at_once_is_moved_aside_whole(runs, excess):
    append_row(runs, record())
    whole = runs.read_bytes()
    tail = b"9" * (table_appends.END_BYTES + excess)
    runs.write_bytes(whole + tail)
    append_row(runs, record("run-2"))
    assert runs.read_bytes() == whole + format_rows([record("run-2")]).encode()
    assert Path(f"{runs}.torn").read_bytes() == tail + b"\n"


@pytest.mark.parametrize("is_new", [True, False], ids=["header", "row"])
def test_an_append_that_a_full_disk_refuses_names_its_table_and_leaves_it_as_it_was(runs, monkeypatch, is_new):
    if not is_new:
        append_row(runs, record())
    before = runs.read_bytes() if runs.exists() else b""
    monkeypatch.setattr(os, "write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="could not append") as caught:
        append_row(runs, record("run-2"))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(runs))
    assert runs.read_bytes() == before


def test_a_table_is_read_where_there_are_no_locks_too(runs, monkeypatch):
    append_row(runs, record())

    def refuse(*_, **__):
        raise locks.NoLocksError(errno.ENOLCK, "no locks available", str(runs))

    monkeypatch.setattr(tables, "lock", refuse)
    assert read_table(runs, RunRecord) == [record()]


def test_a_packed_table_is_named(runs):
    runs.write_bytes(gzip.compress(HEADER))
    assert refusal(read_table, runs, RunRecord).startswith(f"{runs}: a gzip file, not a table.")


@pytest.mark.parametrize("end", [40, None])
def test_a_header_cut_within_a_line_end_of_windows_is_written_again(runs, end):
    header = HEADER.rstrip(b"\n")
    runs.write_bytes(header[:end] + b"\r")
    append_row(runs, record())
    assert runs.read_bytes() == header + b"\n" + format_rows([record()]).encode()


def test_a_header_that_is_no_text_is_refused_by_name(runs):
    runs.write_bytes(b"\xff\xfe" + HEADER)
    assert refusal(append_row, runs, record()).startswith(f"{runs}")
