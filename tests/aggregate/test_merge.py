"""Joining tables: every row in is a row out or a duplicate, and what disagrees stops everything."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import shlex

import pytest

from epochcast.__main__ import main as call
from epochcast.aggregate.merge import main
from epochcast.aggregate.merging.tables import merge
from epochcast.paths import CODE_ROOT, excluded_csv, failures_csv
from epochcast.schema import PUBLISHED_RUN_COLUMNS, Exclusion, FailureRecord, RunRecord
from epochcast.storage.cells import columns, format_rows, header_line
from epochcast.storage.files import link_new, write_new_file
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_runs, read_table, write_table
from tests.support.rows import assert_one_clear_error, failure_row, run_row

SCHEMA_1_COLUMNS = columns(RunRecord).index("flags") + 1


def run(run_id, second=0, **more):
    row = run_row((9.0, 2.0 + second / 100, 2.0), run_id=run_id, schema_version=2, **more)
    return dataclasses.replace(row, timestamp_utc=f"2026-01-01T00:00:{second:02d}+00:00")


def failure(run_id, second=0, status="oom"):
    return failure_row(
        timestamp_utc=f"2026-01-01T00:00:{second:02d}+00:00", run_id=run_id, status=status, epoch_times_json=()
    )


@pytest.fixture
def table(tmp_path):
    """Writes a table of runs into a folder of its own."""
    numbers = itertools.count()

    def make(*rows, n_columns=None):
        path = tmp_path / f"box{next(numbers)}" / "runs.csv"
        write_table(path, rows, RunRecord)
        if n_columns is not None:
            cut_columns(path, rows, n_columns)
        return path

    return make


def cut_columns(path, rows, n_columns):
    """Rewrite a table as an older schema would have it."""
    plain = [dataclasses.replace(row, device_name="GPU") for row in rows]
    lines = [header_line(RunRecord), *(format_rows([row]) for row in plain)]
    cut = []
    for line in lines:
        cells, quoted = [], False
        for part in line.rstrip("\n").split(","):  # the list of epoch times is the only quoted cell
            if quoted:
                cells[-1] += f",{part}"
            else:
                cells.append(part)
            quoted = cells[-1].startswith('"') and not cells[-1].endswith('"')
        cut.append(",".join(cells[:n_columns]) + "\n")
    path.write_text("".join(cut))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "joined" / "runs.csv"


@pytest.mark.parametrize("seed", range(5))
def test_rows_in_are_rows_out_and_duplicates(table, out, seed):
    rng = random.Random(seed)
    pool = [run(f"r{i}", i) for i in range(20)]
    chosen = [rng.sample(pool, rng.randint(1, 15)) for _ in range(3)]
    result = merge([table(*rows) for rows in chosen], out)
    distinct = {row.run_id for rows in chosen for row in rows}
    written = read_table(out, RunRecord)
    assert sorted(row.run_id for row in written) == sorted(distinct)
    assert {row.run_id: row for row in written} == {row.run_id: row for row in pool if row.run_id in distinct}
    assert result.runs.n_in == sum(map(len, chosen)) == len(written) + result.runs.n_duplicates
    assert list(result.n_read.values()) == [len(rows) for rows in chosen]
    assert [row.timestamp_utc for row in written] == sorted(row.timestamp_utc for row in written)


def test_rows_of_one_moment_keep_the_order_of_the_tables_and_times_without_offset_are_utc(table, out):
    early = dataclasses.replace(run("early"), timestamp_utc="2025-12-31T23:59:59")
    east = dataclasses.replace(run("east"), timestamp_utc="2026-01-01T01:00:30+01:00")  # half past midnight UTC
    nameless = run(None, 5, test_acc=0.5)
    merge([table(run("z"), east, run("y"), nameless), table(run("x"), early, run("q", 40))], out)
    assert [row.run_id for row in read_table(out, RunRecord)] == ["early", "z", "y", "x", None, "east", "q"]


def test_runs_that_disagree_are_listed_and_nothing_is_written(table, out, capsys):
    later = dataclasses.replace(run("other"), timestamp_utc="2026-01-01T00:00:07+00:00")  # with the same epochs
    slower = dataclasses.replace(run("epoch"), epoch_times_json=(9.0, 3.0, 2.0))  # one cell of two
    a = table(run("same"), run("edited"), run("other"), run("epoch"))
    b = table(run("same"), run("edited", test_acc=0.75, wall_sec=3.0), later, slower)
    assert main([str(a), str(b), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert_one_clear_error(captured, "3 rows disagree with another of the same run, nothing is written")
    edited, other, epoch = captured.err.splitlines()[-3:]
    assert "run_id edited" in edited
    assert "test_acc: None and 0.75" in edited
    assert "wall_sec: None and 3.0" in edited
    assert str(a) in edited
    assert str(b) in edited
    assert "run_id other" in other
    assert "timestamp_utc" in other
    assert "epoch_times_json" in epoch
    assert "run_id same" not in captured.err
    assert not out.parent.exists()


def test_a_published_table_merged_with_itself_is_itself(reference_data, out, capsys):
    path = reference_data / "a100" / "runs.csv"
    assert main([str(path), str(path), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == {"read": 318, "written": 159, "duplicates": 159}
    assert told["duplicates_without_run_id"] == 159
    assert read_table(out, RunRecord) == read_table(path, RunRecord)  # they are in the order of time


def test_an_excerpt_without_run_id_is_the_run_that_it_was_taken_from(table, out):
    rows = [run("r1", 1, test_acc=0.5), run("r2", 2)]
    excerpt = table(*rows, n_columns=PUBLISHED_RUN_COLUMNS)
    assert {row.run_id for row in read_table(excerpt, RunRecord)} == {None}
    for i, tables in enumerate(([excerpt, table(*rows)], [table(*rows), excerpt])):
        path = out.with_name(f"joined{i}.csv")
        result = merge(tables, path)
        assert read_table(path, RunRecord) == rows
        assert (result.runs.n_duplicates, result.n_without_run_id) == (2, 2)
    other_box = table(dataclasses.replace(run(None, 1, test_acc=0.5), device_name="another box"))
    with pytest.raises(ValueError, match="1 rows disagree"):
        merge([table(*rows), other_box], out)


def test_an_older_schema_is_lifted_and_its_rows_are_the_same_runs(table, out):
    rows = [dataclasses.replace(run(f"r{i}", i, flags=("unstable",)), device_name="GPU") for i in range(3)]
    old = table(*rows, n_columns=SCHEMA_1_COLUMNS)
    assert old.read_text().partition("\n")[0].endswith(",flags")
    new = table(*rows, run("r9", 9, energy_source="none"))
    result = merge([old, new], out)
    assert (result.runs.n_in, result.runs.n_duplicates) == (7, 3)
    assert read_table(out, RunRecord) == read_table(new, RunRecord)
    assert out.read_text().partition("\n")[0] + "\n" == header_line(RunRecord)
    append_row(out, run("r10", 10))
    assert len(read_table(out, RunRecord)) == 5


# --- other runs under the same run_id --------------------------------------------------------------------------------


def measured(run_id, seed):
    """A run of another box than those of other seeds."""
    rng = random.Random(f"{run_id} {seed}")
    row = run_row((9.0 + rng.random(), 2.0 + rng.random(), 2.0 + rng.random()), run_id=run_id, schema_version=2)
    return dataclasses.replace(row, timestamp_utc=f"2026-01-01T00:{rng.randrange(60):02d}:00+00:00")


def nameless(rows):
    return {dataclasses.replace(row, run_id=None) for row in rows}


def test_runs_of_two_boxes_under_one_run_id_are_both_kept_and_the_later_one_is_renamed(table, out, capsys):
    early, late = run("r1", 1), run("r1", 2)
    a, b = table(late, run("r2", 5)), table(early, run("r1.2", 9))
    write_table(excluded_csv(a), [Exclusion("r1", "the door was open", "2026-01-02")], Exclusion)
    write_table(failures_csv(a), [failure("r1", 0, "killed"), failure("f1", 3)], FailureRecord)
    write_table(failures_csv(b), [failure("r1", 4, "killed"), failure("r1.3", 5)], FailureRecord)
    assert main([str(a), str(b), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "runs: 4 read = 4 written + 0 duplicates" in printed
    assert "renamed: 1 runs" in printed
    assert f"  r1 of {a} -> r1.4" in printed  # r1.2 is another run, r1.3 one that failed
    found = read_table(out, RunRecord)
    assert [(row.run_id, row.epoch_times_json) for row in found[:2]] == [
        ("r1", early.epoch_times_json),
        ("r1.4", late.epoch_times_json),
    ]
    assert [row.run_id for row in found] == ["r1", "r1.4", "r2", "r1.2"]
    assert [row.run_id for row, _ in read_runs(out).excluded] == ["r1.4"]
    assert [f.run_id for f in read_table(failures_csv(out), FailureRecord)] == ["r1.4", "f1", "r1", "r1.3"]


def test_boxes_that_end_a_run_in_the_same_second_measured_two_runs(table, out):
    one, other = run("r1", 1), dataclasses.replace(run("r1", 2), timestamp_utc=run("r1", 1).timestamp_utc)
    one, other = (
        dataclasses.replace(row, epoch_times_json=tuple(t + i / 128 for t in row.epoch_times_json))
        for i, row in enumerate((one, other))
    )
    result = merge([table(one), table(other)], out)
    assert {row.run_id for row in result.runs.rows} == {"r1", "r1.2"}


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 20))])
def test_merging_the_result_again_with_tables_of_it_adds_nothing(table, out, seed):
    rng = random.Random(seed)
    boxes = []
    for box in range(3):
        rows = [measured(f"r{i}", (seed, box)) for i in range(8) if rng.random() < 0.8]
        boxes.append(table(*rows))
        if rows and rng.random() < 0.8:
            write_table(excluded_csv(boxes[-1]), [Exclusion(rows[0].run_id, f"box {box}", "2026-01-02")], Exclusion)
            attempts = [failure(row.run_id, i, "killed") for i, row in enumerate(rows[:3])]
            write_table(failures_csv(boxes[-1]), attempts, FailureRecord)
    pair = out.with_name("pair.csv")
    merge(boxes[1:], pair)
    merge([boxes[0], pair], out)
    whole = read_runs(out)
    every = [row for path in boxes for row in read_table(path, RunRecord)]
    assert nameless(read_table(out, RunRecord)) == nameless(every)
    assert len({row.run_id for row in read_table(out, RunRecord)}) == len(every)
    taken_back = [row for path in boxes for row, _ in read_runs(path).excluded]
    assert nameless(row for row, _ in whole.excluded) == nameless(taken_back)
    for i in range(4):
        more = rng.sample([*boxes, pair], rng.randint(1, 4))
        tables = rng.sample([out, *more], 1 + len(more))
        again = out.with_name(f"again{i}.csv")
        result = merge(tables, again)
        assert result.renamed == []
        for companion in (lambda path: path, excluded_csv, failures_csv):
            if companion(out).exists():
                # rows of one second stand in the order of the tables
                lines = [sorted(companion(path).read_text().splitlines()) for path in (again, out)]
                assert lines[0] == lines[1]


def test_two_published_tables_of_one_box_are_joined(out):
    tables = [CODE_ROOT / "results" / name / "runs.csv" for name in ("cpu/tensorflow", "cpu_repeats")]
    result = merge(tables, out)
    assert (result.runs.n_in, len(result.runs.rows), len(result.renamed)) == (65, 65, 4)
    assert len({row.run_id for row in read_table(out, RunRecord)}) == 65


def test_failures_and_exclusions_go_along(table, out, capsys):
    a, b = table(run("r1", 1), run("bad", 2)), table(run("r3", 3))
    write_table(
        failures_csv(a), [failure("f1", 5), failure("f2", 9, "killed"), failure("f2", 11, "killed")], FailureRecord
    )
    write_table(failures_csv(b), [failure("f1", 5), failure("f3", 1)], FailureRecord)
    write_table(excluded_csv(a), [Exclusion("bad", "the door was open", "2026-01-02")], Exclusion)
    assert main([str(a), str(b), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "runs: 3 read = 3 written + 0 duplicates" in printed
    assert "failures: 5 read = 4 written + 1 duplicates" in printed
    assert "exclusions: 1 read = 1 written + 0 duplicates" in printed
    failures = read_table(failures_csv(out), FailureRecord)
    assert [f.run_id for f in failures] == ["f3", "f1", "f2", "f2"]
    merged = read_runs(out)
    assert [row.run_id for row in merged.rows] == ["r1", "r3"]
    assert [exclusion.reason for _, exclusion in merged.excluded] == ["the door was open"]


def test_a_run_excluded_in_one_table_stays_excluded_where_another_holds_it_too(table, out):
    a, b = table(run("bad", 2)), table(run("bad", 2), run("r3", 3))
    write_table(excluded_csv(a), [Exclusion("bad", "slip", "2026-01-02")], Exclusion)
    merge([a, b], out)
    assert [row.run_id for row in read_runs(out).rows] == ["r3"]


def test_exclusions_of_runs_that_nobody_has_are_refused(table, out):
    a = table(run("r1"))
    write_table(excluded_csv(a), [Exclusion("ghost", "slip", "2026-01-02")], Exclusion)
    with pytest.raises(ValueError, match="neither its table nor exactly one other holds: ghost"):
        merge([a, table(run("r2"))], out)
    assert not out.parent.exists()


def test_no_companions_are_made_where_there_are_none(table, out):
    merge([table(run("r1")), table(run("r2"))], out)
    assert [path.name for path in out.parent.iterdir()] == ["runs.csv"]


@pytest.mark.parametrize("which", ["runs.csv", "failures.csv", "excluded.csv"])
def test_nothing_is_overwritten(table, out, which):
    out.parent.mkdir()
    taken = out.with_name(which)
    taken.write_text("dear data\n")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        merge([table(run("r1")), table(run("r2"))], out)
    assert taken.read_text() == "dear data\n"
    assert list(out.parent.iterdir()) == [taken]


def test_an_input_is_no_output(table):
    a, b = table(run("r1")), table(run("r2"))
    before = a.read_bytes()
    with pytest.raises(FileExistsError, match="is not overwritten"):
        merge([a, b], a)
    assert a.read_bytes() == before


def test_a_file_that_appears_while_it_is_made_is_kept(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("first\n")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        write_new_file(path, b"second\n")
    assert path.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [path]


def test_without_hard_links_a_file_is_copied_and_still_not_overwritten(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("pathlib.Path.hardlink_to", unsupported)
    write_new_file(tmp_path / "runs.csv", b"row\n")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("runs.csv", b"row\n")]
    with pytest.raises(FileExistsError, match="is not overwritten"):
        link_new(tmp_path / "runs.csv", tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_bytes() == b"row\n"


def test_a_bad_table_is_named_and_nothing_is_written(table, out, capsys):
    a, b = table(run("r1")), table(run("r2"))
    b.write_text(b.read_text().replace(",2,16,64,", ",2,sixteen,64,"))
    assert main([str(a), str(b), "--out", str(out)]) == 1
    assert_one_clear_error(capsys.readouterr(), f"{b}:2, column 'base_filters'")
    assert not out.parent.exists()


def test_one_table_is_a_wrong_command(table, out, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(table(run("r1"))), "--out", str(out)])
    assert caught.value.code == 2
    assert "expected two tables or more" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["check", "compare", "merge", "migrate"])
def test_the_example_in_the_help_works_as_printed(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "results").mkdir()
    for folder in ("cpu", "cpu_repeats"):
        (tmp_path / "results" / folder).symlink_to(CODE_ROOT / "results" / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        call([name, "--help"])
    program, *argv = shlex.split(capsys.readouterr().out.rpartition("example:")[2])
    assert program == "epochcast"
    before = {path: path.read_bytes() for path in (CODE_ROOT / "results").glob("cpu*/**/*.csv")}
    assert call(argv) == 0
    assert before == {path: path.read_bytes() for path in (CODE_ROOT / "results").glob("cpu*/**/*.csv")}
