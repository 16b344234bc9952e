"""Lifting an older schema: no cell changes, no row is lost, whatever is killed or runs beside it."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from epochcast.aggregate.migrate import main, migrate
from epochcast.paths import CODE_ROOT, excluded_csv, failures_csv
from epochcast.schema import (
    PUBLISHED_RUN_COLUMNS,
    SCHEMA_VERSION,
    Exclusion,
    FailureRecord,
    NewerSchemaError,
    RunRecord,
)
from epochcast.storage.cells import columns
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.tables import read_runs, read_table, write_table
from tests.support.rows import SCHEMA_1_COLUMNS, assert_one_clear_error, run_row, write_old


def rows_of(n, **more):
    device = 'GPU "Überschall", 80 GB'  # needs quotes
    return [
        run_row((9.0, 2.0 + i / 7, 2.0), run_id=f"r{i}", schema_version=1, keras_version=device, **more)
        for i in range(n)
    ]


def cells_of(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def assert_lifted(path, old_cells):
    """Every old cell stands where it stood, and nothing stands behind."""
    lifted = cells_of(path)
    n = len(old_cells[0])
    assert lifted[0] == columns(RunRecord)
    assert [line[:n] for line in lifted] == old_cells
    assert all(set(line[n:]) <= {""} for line in lifted[1:])


@pytest.fixture
def runs(tmp_path):
    return write_old(tmp_path / "results" / "runs.csv", rows_of(5))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("n_columns", "version"), [(PUBLISHED_RUN_COLUMNS, 0), (SCHEMA_1_COLUMNS, 1)])
def test_an_old_table_is_lifted_in_place_and_kept_under_its_version(tmp_path, n_columns, version):
    runs = write_old(tmp_path / "runs.csv", rows_of(4), n_columns)
    before, cells, records = runs.read_bytes(), cells_of(runs), read_table(runs, RunRecord)
    (done,) = migrate(runs)
    assert (done.n_rows, done.old_version, done.n_old_columns) == (4, version, n_columns)
    assert done.kept == runs.with_name(f"runs.csv.schema{version}")
    assert done.kept.read_bytes() == before
    assert_lifted(runs, cells)
    assert read_table(runs, RunRecord) == records  # schema_version too: it says who wrote the row
    assert names_in(tmp_path) == ["runs.csv", f"runs.csv.schema{version}"]
    check_appendable(runs, RunRecord)
    append_row(runs, run_row(run_id="new", schema_version=SCHEMA_VERSION))
    assert [row.run_id for row in read_table(runs, RunRecord)][-1] == "new"
    assert len(read_table(done.kept, RunRecord)) == 4


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_measured_tables_are_lifted_cell_by_cell(tmp_path, name):
    runs = tmp_path / "runs.csv"
    runs.write_bytes((CODE_ROOT / "results" / "cpu" / name / "runs.csv").read_bytes())
    cells = cells_of(runs)
    (done,) = migrate(runs)
    assert done.n_rows == 45
    assert_lifted(runs, cells)


def test_the_reference_table_is_lifted_into_a_new_one(reference_data, tmp_path):
    published = reference_data / "a100" / "runs.csv"
    (done,) = migrate(published, tmp_path / "lifted.csv")
    assert (done.n_rows, done.kept) == (159, None)
    assert_lifted(tmp_path / "lifted.csv", cells_of(published))
    assert read_table(tmp_path / "lifted.csv", RunRecord) == read_table(published, RunRecord)
    assert names_in(tmp_path) == ["lifted.csv"]


def test_a_second_migration_changes_nothing_and_says_so(runs, capsys):
    assert main(["--runs", str(runs)]) == 0
    first = capsys.readouterr().out
    assert f"{runs}: 5 rows lifted from schema 1 ({SCHEMA_1_COLUMNS} columns) to schema 2" in first
    assert f"kept: {runs}.schema1" in first
    before, status = runs.read_bytes(), runs.stat()
    assert main(["--runs", str(runs)]) == 0
    assert capsys.readouterr().out == f"{runs}: 5 rows, already schema 2\n"
    assert runs.read_bytes() == before
    assert (runs.stat().st_ino, runs.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert names_in(runs.parent) == ["runs.csv", "runs.csv.schema1"]


def test_the_answer_as_json(runs, capsys):
    write_table(failures_csv(runs), [], FailureRecord)
    assert main(["--runs", str(runs), "--json"]) == 0
    lifted, failures = json.loads(capsys.readouterr().out)["tables"]
    assert lifted["is_lifted"]
    assert (lifted["n_rows"], lifted["old_version"], lifted["schema"]) == (5, 1, SCHEMA_VERSION)
    assert lifted["kept"] == f"{runs}.schema1"
    assert not failures["is_lifted"]
    assert failures["kept"] is None


def test_an_old_copy_is_never_overwritten(runs):
    other = runs.with_name("runs.csv.schema1")
    other.write_text("of another day\n")
    before = runs.read_bytes()
    (done,) = migrate(runs)
    assert other.read_text() == "of another day\n"
    assert done.kept == runs.with_name("runs.csv.schema1-2")
    assert done.kept.read_bytes() == before


def test_through_a_link_the_table_itself_is_lifted(runs, tmp_path):
    link = tmp_path / "runs.csv"
    link.symlink_to(runs)
    (done,) = migrate(link)
    assert link.is_symlink()
    assert done.path == runs
    check_appendable(link, RunRecord)


def test_rights_of_the_old_table_are_those_of_the_new(runs):
    runs.chmod(0o640)
    migrate(runs)
    assert runs.stat().st_mode & 0o777 == 0o640


def test_a_byte_order_mark_and_windows_line_ends_are_left_behind(runs):
    cells = cells_of(runs)
    runs.write_bytes(b"\xef\xbb\xbf" + runs.read_bytes().replace(b"\n", b"\r\n"))
    migrate(runs)
    assert_lifted(runs, cells)


def test_a_last_line_cut_short_stays_in_the_old_file_and_is_told(runs, capsys):
    whole = cells_of(runs)
    with runs.open("ab") as file:
        file.write(b'2026-01-01T00:00:00+00:00,,3,16,64,3,280218,"[9.0, 2.')
    assert main(["--runs", str(runs)]) == 0
    assert (
        "torn: the last line has no line end and lacks cells; it stands in the old file only" in capsys.readouterr().out
    )
    assert_lifted(runs, whole)
    assert runs.with_name("runs.csv.schema1").read_bytes().endswith(b'"[9.0, 2.')


def refused(runs, match, kind=ValueError):
    before = {path: path.read_bytes() for path in runs.parent.iterdir()}
    with pytest.raises(kind, match=match):
        migrate(runs)
    assert {path: path.read_bytes() for path in runs.parent.iterdir()} == before


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("n_columns", [PUBLISHED_RUN_COLUMNS, SCHEMA_1_COLUMNS])
def test_a_last_row_without_its_line_end_that_may_be_whole_is_not_left_behind(tmp_path, n_columns, ending):
    runs = write_old(tmp_path / "results" / "runs.csv", rows_of(3), n_columns)
    runs.write_bytes(runs.read_bytes().replace(b"\n", ending).removesuffix(ending))
    refused(runs, r"runs.csv:4: the last line has no line end.*If it is, end it: echo >> .*; else delete it")
    with pytest.raises(ValueError, match="no line end"):
        migrate(runs, tmp_path / "lifted.csv")
    subprocess.run(f"echo >> {runs}", shell=True, check=True)
    (done,) = migrate(runs)
    assert (done.n_rows, done.is_torn) == (3, False)


def test_a_newer_or_a_wrong_table_is_refused_and_left_alone(runs):
    old = runs.read_text()
    write_table(runs, rows_of(1), RunRecord)
    header, row = runs.read_text().splitlines()
    runs.write_text(f"{header},joy\n{row},1\n")
    refused(runs, "a newer schema: this version does not know column joy. Update Epochcast", NewerSchemaError)
    runs.write_text(f"{header}\n" + row.replace(",1,r0,", f",{SCHEMA_VERSION + 1},r0,") + "\n")
    refused(runs, "a newer Epochcast wrote this row", NewerSchemaError)
    runs.write_text(old.replace(",2,16,64,", ",two,16,64,", 1))
    refused(runs, "runs.csv:2, column 'depth'")
    runs.write_text("")
    refused(runs, "the file is empty")
    runs.write_text("name,price\na,1\n")
    refused(runs, "unknown column 'name'")


def test_a_missing_table_is_one_line_and_none_is_made(tmp_path, capsys):
    assert main(["--runs", str(tmp_path / "runs.csv")]) == 1
    assert_one_clear_error(capsys.readouterr(), "no such table")
    assert names_in(tmp_path) == []


def test_a_bad_failures_table_stops_it_before_anything_is_changed(runs):
    failures_csv(runs).write_text("name\n")
    refused(runs, "failures.csv:1: not a table of FailureRecord rows")


def test_into_a_new_table_failures_and_exclusions_go_along(runs, tmp_path):
    write_table(excluded_csv(runs), [Exclusion("r1", "slip", "2026-01-02")], Exclusion)
    write_table(failures_csv(runs), [], FailureRecord)
    before = {path.name: path.read_bytes() for path in runs.parent.iterdir()}
    out = tmp_path / "new" / "runs.csv"
    migrate(runs, out)
    assert {path.name: path.read_bytes() for path in runs.parent.iterdir()} == before
    assert names_in(out.parent) == ["excluded.csv", "failures.csv", "runs.csv"]
    assert [row.run_id for row in read_runs(out).rows] == ["r0", "r2", "r3", "r4"]


@pytest.mark.parametrize("which", ["runs.csv", "excluded.csv"])
def test_a_new_table_overwrites_nothing(runs, tmp_path, which):
    taken = tmp_path / which
    taken.write_text("dear data\n")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        migrate(runs, tmp_path / "runs.csv")
    assert taken.read_text() == "dear data\n"
    assert names_in(tmp_path) == sorted(["results", which])
    with pytest.raises(FileExistsError):
        migrate(runs, runs)


def test_a_full_disk_changes_nothing(runs, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    before = runs.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        migrate(runs)
    assert caught.value.filename == str(runs)
    assert runs.read_bytes() == before
    assert names_in(runs.parent) == ["runs.csv"]


def test_what_does_not_read_back_is_not_installed(runs, monkeypatch):
    before = runs.read_bytes()
    monkeypatch.setattr(
        "epochcast.aggregate.migrate.parse_table", lambda *_: []
    )  # as if the rows were lost on the disk
    with pytest.raises(ValueError, match="does not read back as the old one; nothing was changed"):
        migrate(runs)
    assert runs.read_bytes() == before
    assert names_in(runs.parent) == ["runs.csv"]


# --- killed, and beside others ---------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from epochcast.aggregate.migrate import migrate

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function):
    def wrapped(*args, **kwargs):
        function(*args, **kwargs)
        die()
    return wrapped

name, moment = sys.argv[2].split(":")
owner = Path if name == "hardlink_to" else os
setattr(owner, name, die if moment == "before" else after(getattr(owner, name)))
migrate(Path(sys.argv[1]))
"""


def child(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=CODE_ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **options)


MOMENTS = [f"{name}:{moment}" for name in ("fsync", "hardlink_to", "replace") for moment in ("before", "after")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_leaves_a_whole_table_and_goes_on_when_begun_again(runs, moment):
    before, cells = runs.read_bytes(), cells_of(runs)
    with child(KILLED, runs, moment) as killed:
        killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    if moment == "replace:after":
        assert_lifted(runs, cells)
    else:
        assert runs.read_bytes() == before
    migrate(runs)
    assert_lifted(runs, cells)
    copies = list(runs.parent.glob("runs.csv.schema*"))
    assert [path.name for path in copies] == ["runs.csv.schema1"]
    assert copies[0].read_bytes() == before


APPENDER = """
import dataclasses, sys, time
from pathlib import Path
from epochcast.schema import RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table

path = Path(sys.argv[1])
(row,) = read_table(Path(sys.argv[2]), RunRecord)
print("ready", flush=True)
sys.stdin.readline()
n, start = 0, time.monotonic()
while n < 50 and time.monotonic() - start < 30:
    try:
        append_row(path, dataclasses.replace(row, run_id=f"new-{n}"))
        n += 1
        print("appended", flush=True)
    except ValueError as error:
        assert "epochcast migrate --runs" in str(error), error
"""


def test_a_process_that_appends_meanwhile_loses_no_row(runs, tmp_path):
    row = tmp_path / "row.csv"
    write_table(row, [run_row(run_id="new", schema_version=SCHEMA_VERSION)], RunRecord)
    old = cells_of(runs)
    with child(APPENDER, runs, row) as appender:
        assert appender.stdin is not None and appender.stdout is not None
        assert appender.stdout.readline() == "ready\n"
        appender.stdin.write("go\n")
        appender.stdin.flush()
        migrate(runs)
        told, _ = appender.communicate(timeout=60)
    assert appender.returncode == 0
    n_appended = told.count("appended")
    assert n_appended == 50
    records = read_table(runs, RunRecord)
    assert [record.run_id for record in records] == [f"r{i}" for i in range(5)] + [f"new-{n}" for n in range(50)]
    assert cells_of(runs.with_name("runs.csv.schema1")) == old


HOLDER = """
import fcntl, sys, time
with open(sys.argv[1], "ab") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.readline()
    time.sleep(0.2)
    file.write(sys.argv[2].encode())
"""


def test_a_row_that_an_older_version_appends_under_the_lock_is_lifted_too(runs):
    records = read_table(runs, RunRecord)
    line = runs.read_text().splitlines()[-1].replace("r4", "late")
    with child(HOLDER, runs, line + "\n") as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        holder.stdin.write("go\n")
        holder.stdin.flush()
        start = time.perf_counter()
        (done,) = migrate(runs)
        assert time.perf_counter() - start > 0.15
        holder.wait(timeout=60)
    assert done.n_rows == 6
    lifted = read_table(runs, RunRecord)
    assert lifted[:5] == records
    assert lifted[5] == dataclasses.replace(records[4], run_id="late")


MIGRATOR = """
import sys
from pathlib import Path
from epochcast.aggregate.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
(done,) = migrate(Path(sys.argv[1]))
print(done.is_lifted)
"""


def test_of_two_migrations_at_once_one_lifts_and_the_other_finds_it_done(runs):
    cells = cells_of(runs)
    both = [child(MIGRATOR, runs) for _ in range(2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    answers = []
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        answers.append(process.communicate(timeout=60)[0].strip())
        assert process.returncode == 0
    assert sorted(answers) == ["False", "True"]
    assert_lifted(runs, cells)
    assert names_in(runs.parent) == ["runs.csv", "runs.csv.schema1"]
