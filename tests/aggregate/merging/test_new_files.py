"""Commands that make several new files: killed anywhere and begun again they end with what they would have made."""

from __future__ import annotations

import itertools

import pytest

from epochcast.aggregate.merging.new_files import write_new_files
from epochcast.aggregate.merging.tables import merge
from epochcast.aggregate.migrate import migrate
from epochcast.paths import excluded_csv, failures_csv
from epochcast.schema import PUBLISHED_RUN_COLUMNS, Exclusion, FailureRecord, RunRecord
from epochcast.storage.tables import read_runs, read_table, write_table
from tests.support.faults import is_failed_at, is_killed_at
from tests.support.rows import failure_row, run_row

pytestmark = pytest.mark.usefixtures("fast_disk")

FAILURE = failure_row()


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "old" / "runs.csv"
    write_table(path, [run_row(run_id="a"), run_row((8.0, 1.0, 1.0), run_id="b")], RunRecord)
    write_table(excluded_csv(path), [Exclusion("b", "wrong", "2026-01-01")], Exclusion)
    write_table(failures_csv(path), [FAILURE], FailureRecord)
    other = tmp_path / "other" / "runs.csv"
    write_table(other, [run_row((7.0, 3.0, 3.0), run_id="c")], RunRecord)
    return path


def merged(runs, out):
    merge([runs, runs.parents[1] / "other" / "runs.csv"], out)


def content_of(folder):
    return {file.name: file.read_bytes() for file in folder.glob("[!.]*")}


@pytest.mark.parametrize("command", [merged, migrate])
@pytest.mark.parametrize("interrupted", [is_killed_at, is_failed_at])
def test_killed_at_any_call_and_begun_again_all_files_are_made(tmp_path, runs, command, interrupted):
    command(runs, tmp_path / "whole" / "runs.csv")
    whole = content_of(tmp_path / "whole")
    assert set(whole) == {"runs.csv", "excluded.csv", "failures.csv"}
    for n in itertools.count(1):
        out = tmp_path / str(n) / "runs.csv"
        is_over = not interrupted(n, lambda out=out: command(runs, out))
        if out.exists():  # the last file: all are there
            assert content_of(out.parent) == whole
            with pytest.raises(FileExistsError, match="exists, and is not overwritten"):
                command(runs, out)
        else:
            command(runs, out)
        assert content_of(out.parent) == whole
        assert next(row.run_id for row in read_runs(out).rows) == "a"
        if is_over:
            assert n > 8
            return


@pytest.mark.parametrize("command", [merged, migrate])
@pytest.mark.parametrize("name", ["excluded.csv", "failures.csv", "runs.csv"])
def test_what_stands_there_already_is_never_overwritten(tmp_path, runs, command, name):
    out = tmp_path / "new" / "runs.csv"
    out.parent.mkdir()
    (out.parent / name).write_text("mine")
    with pytest.raises(FileExistsError, match="exists, and is not overwritten"):
        command(runs, out)
    assert content_of(out.parent) == {name: b"mine"}


def test_a_file_that_must_not_be_there_is_in_the_way(tmp_path):
    (tmp_path / "excluded.csv").write_text("")
    with pytest.raises(FileExistsError, match=r"excluded\.csv exists"):
        write_new_files({tmp_path / "excluded.csv": None, tmp_path / "runs.csv": b"x"})
    assert not (tmp_path / "runs.csv").exists()


def test_a_migration_in_place_killed_at_any_call_leaves_every_row_and_goes_on(tmp_path, runs):
    rows = read_table(runs, RunRecord)
    lines = runs.read_text().splitlines()
    old = "".join(",".join(line.split(",")[:7]) + "\n" for line in lines)
    times = [line[line.index('"[') : line.index(']"') + 2] for line in lines[1:]]
    header = ",".join(lines[0].split(",")[:PUBLISHED_RUN_COLUMNS])
    body = [f"{a},{t},{row.avg_time_sec},1.0," for a, t, row in zip(old.splitlines()[1:], times, rows, strict=True)]
    for n in itertools.count(1):
        path = tmp_path / str(n) / "runs.csv"
        path.parent.mkdir()
        path.write_text("\n".join([header, *body]) + "\n")
        before = read_table(path, RunRecord)
        is_over = not is_killed_at(n, lambda path=path: migrate(path))
        assert read_table(path, RunRecord) == before
        migrate(path)
        assert read_table(path, RunRecord) == before
        assert sorted(content_of(path.parent)) == ["runs.csv", "runs.csv.schema0"]
        if is_over:
            return
