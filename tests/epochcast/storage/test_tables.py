"""Tables on disk: what is refused and how it is said, and that no finished row is ever lost."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from epochcast.aggregate.checks.report import check_file
from epochcast.live.fits import FitRecord
from epochcast.schema import (
    KNOWN_FLAGS,
    SCHEMA_VERSION,
    AggRow,
    Exclusion,
    FailureRecord,
    RunRecord,
)
from epochcast.storage import locks, table_appends
from epochcast.storage.cells import CellError, columns, csv_reader, format_rows, header_line
from epochcast.storage.files import sha256_of, write_bytes_atomically, write_json_atomically, write_text_atomically
from epochcast.storage.table_appends import DuplicateRunError, append_row, check_appendable
from epochcast.storage.tables import read_runs, read_table, read_table_if_any, write_table
from tests.support.cuts import THOROUGH, cuts
from tests.support.rows import failure_row, fit_row

PUBLISHED = 11
NOBODY = 65534


def record(run_id="run-1", **changes):
    """A whole row, every column filled; the name and the quotes in it need quoting in a CSV."""
    values = {
        "timestamp_utc": "2026-01-02T03:04:05+00:00",
        "tf_version": "2.21.0",
        "depth": 3,
        "base_filters": 32,
        "batch_size": 128,
        "epochs": 3,
        "params": 1_000_000,
        "epoch_times_json": (9.5, 2.25, 3.0000000000000004),
        "avg_time_sec": 2.625,
        "images_per_sec": 19047.6,
        "test_acc": 0.7,
        "schema_version": 1,
        "run_id": run_id,
        "grid_id": "grid-1",
        "device_name": 'GPU "Überschall", 80 GB',
        "backend": "tensorflow",
        "backend_version": "2.21.0",
        "keras_version": "3.13.0",
        "precision": "float32",
        "tf32": "off",
        "pipeline": "tfdata",
        "jit_compile": "on",
        "steps_per_execution": 1,
        "dataset": "cifar10",
        "train_n": 50_000,
        "timing_mode": "full_epoch",
        "window_steps": None,
        "seed": 123,
        "steady_time_sec": 2.25,
        "n_timed": 2,
        "n_stalled": 1,
        "wall_sec": 31.5,
        "overhead_sec": 16.75,
        "cpu_time_sec": 40.0,
        "load_avg": 1.5,
        "flags": ("stalled",),
    }
    return RunRecord(**{**values, **changes})


def random_record(seed):
    """A valid row with random numbers, random unknowns and names that CSV has to quote."""
    rng = random.Random(seed)

    def maybe(value):
        return None if rng.random() < 0.3 else value

    def number():
        return rng.uniform(0.5, 2) * 10 ** rng.randint(-12, 12)

    def name():
        return "".join(rng.choice("abcXYZ,\"';é漢 \t\\=#") for _ in range(rng.randint(1, 20)))

    epochs = rng.randint(2, 6)
    n_stalled = maybe(rng.randint(0, 2))
    flags = {f for f in ("unstable", "diverged") if rng.random() < 0.3} | ({"stalled"} if n_stalled else set())
    is_window = rng.random() < 0.3
    return record(
        run_id=maybe(name()),
        grid_id=maybe(name()),
        device_name=maybe(name()),
        tf_version=maybe("2.21.0"),
        depth=rng.randint(1, 9),
        batch_size=rng.randint(1, 4096),
        epochs=epochs,
        epoch_times_json=tuple(number() for _ in range(epochs)),
        avg_time_sec=number(),
        images_per_sec=number(),
        test_acc=maybe(rng.random()),
        tf32=maybe(rng.choice(["on", "off"])),
        timing_mode="steps_extrapolated" if is_window else maybe("full_epoch"),
        window_steps=rng.randint(1, 50) if is_window else None,
        steady_time_sec=maybe(number()),
        n_stalled=n_stalled,
        load_avg=maybe(0.0),
        flags=tuple(sorted(flags)),
    )


def write_lines(path, header, *lines):
    path.write_text("".join(f"{','.join(cells)}\n" for cells in (header, *lines)), encoding="utf-8")
    return path


def cells_of(row):
    """The row as a list of cells, quoted where CSV needs it, to be joined by commas."""
    return [format_rows([dataclasses.replace(row, device_name="GPU")]).rstrip("\n")]


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs.csv"


@pytest.fixture
def refused(runs):
    """The message with which a table is refused, for reading or by `action`; the file must stay as it was."""

    def message(action=read_table, kind=RunRecord):
        before = runs.read_bytes()
        with pytest.raises(ValueError) as caught:
            action(runs, kind)
        assert runs.read_bytes() == before
        assert str(runs.absolute()) in str(caught.value)
        return str(caught.value)

    return message


# --- reading ---------------------------------------------------------------------------------------------------------


def test_an_unknown_column_is_named_with_the_one_that_was_meant(runs, refused):
    header = ["avg_time_secs" if name == "avg_time_sec" else name for name in columns(RunRecord)]
    write_lines(runs, header)
    assert ":1: " in refused()
    assert "unknown column 'avg_time_secs' (did you mean 'avg_time_sec'?)" in refused()
    assert "missing column avg_time_sec" in refused()
    assert "unknown column 'avg_time_secs'" in refused(check_appendable)


def test_a_table_of_something_else_is_refused_with_the_columns_expected(runs, refused):
    write_lines(runs, ["name", "price"], ["a", "1"])
    assert "not a table of RunRecord rows" in refused()
    assert "unknown column 'name'" in refused()
    assert "Expected timestamp_utc,tf_version,depth," in refused()


def test_a_missing_column_is_named(runs, refused):
    write_lines(runs, [name for name in columns(RunRecord)[:PUBLISHED] if name != "params"])
    assert "missing column params" in refused()


def test_columns_in_another_order_are_refused(runs, refused):
    first, second, *rest = columns(RunRecord)
    write_lines(runs, [second, first, *rest])
    assert "the columns are in another order" in refused()
    assert "the columns are in another order" in refused(check_appendable)


def test_a_column_that_stands_twice_is_named(runs, refused):
    write_lines(runs, [*columns(RunRecord)[:PUBLISHED], "depth"])
    assert "column depth stands twice" in refused()


def test_a_file_that_is_no_csv_is_refused_with_its_first_line(runs, refused):
    runs.write_text('"an open quote\n')
    for action in (read_table, check_appendable):
        assert ":1: not a CSV table" in refused(action)
        assert "an open quote" in refused(action)


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_long_line_of_something_else_is_refused_briefly(runs, refused, ending):
    runs.write_text("x" * 300_000 + ending)
    for action in (read_table, check_appendable):
        assert len(refused(action)) < 2000


def test_a_file_with_old_mac_line_ends_is_not_appended_to(runs, refused):
    runs.write_bytes(b"a,b\r1,2\r")
    assert ":1: not a CSV table" in refused(check_appendable)


def test_the_eleven_published_columns_are_read_as_they_are_and_the_rest_is_unknown(runs):
    row = record()
    published = columns(RunRecord)[:PUBLISHED]
    runs.write_text(",".join(published) + "\n" + f'{cells_of(row)[0].partition("]")[0]}]",2.625,19047.6,\n')
    (read,) = read_table(runs, RunRecord)
    for name in columns(RunRecord):
        unknown = () if name in ("flags", "energy_flags") else None
        expected = getattr(row, name) if name in published and name != "test_acc" else unknown
        assert getattr(read, name) == expected, name


def test_the_published_reference_table_is_read_whole(reference_data):
    rows = read_table(reference_data / "a100" / "runs.csv", RunRecord)
    averages = read_table(reference_data / "a100" / "runs_agg.csv", AggRow)
    assert (len(rows), len({row.config for row in rows})) == (159, 143)
    assert len(averages) == 143
    assert {row.run_id for row in rows} == {None}


def test_an_older_schema_is_never_appended_to(runs, refused):
    write_lines(runs, columns(RunRecord)[:PUBLISHED])
    assert "an older schema: 11 columns" in refused(check_appendable)
    said = refused(lambda path, kind: append_row(path, record()))
    assert said.endswith(f"Lift it: epochcast migrate --runs {runs}")


def test_a_newer_schema_version_is_refused_and_nobody_is_told_to_delete_the_row(runs, refused):
    cells = cells_of(record())[0].replace("0.7,1,run-1", f"0.7,{SCHEMA_VERSION + 1},run-1")
    write_lines(runs, columns(RunRecord), [cells])
    assert f":2, RunRecord.schema_version must be at most {SCHEMA_VERSION}, got {SCHEMA_VERSION + 1}" in refused()
    assert "Update this one" in refused()
    assert "delete" not in refused()


def test_columns_of_a_newer_version_are_named_and_ask_for_an_update(runs, refused):
    write_lines(runs, [*columns(RunRecord), "energy_j"])
    for action in (read_table, check_appendable):
        assert "a newer schema: this version does not know column energy_j. Update Epochcast" in refused(action)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (",3,32,128,3,", ",three,32,128,3,", "column 'depth': expected a whole number, got 'three'"),
        (",3,32,128,3,", ",3.5,32,128,3,", "column 'depth': expected a whole number, got '3.5'"),
        (",3,32,128,3,", ",,32,128,3,", "column 'depth': expected a value, got an empty cell"),
        (
            ",3,32,128,3,",
            f",3,32,1{'0' * 400},3,",
            "column 'batch_size': expected a whole number below 2^63, got '1000",
        ),
        (",3,32,128,3,", ",0,32,128,3,", "RunConfig.depth must be a whole number of at least 1, got 0"),
        (",2.625,", ",quick,", "column 'avg_time_sec': expected a number, got 'quick'"),
        (",2.625,", ",nan,", "column 'avg_time_sec': expected a finite number, got 'nan'"),
        (",2.625,", ",inf,", "column 'avg_time_sec': expected a finite number, got 'inf'"),
        (",2.625,", ",1e999,", "column 'avg_time_sec': expected a finite number, got '1e999'"),
        (",2.625,", ",-2.625,", "RunRecord.avg_time_sec must be between 1e-15 and 1e+15 seconds, got -2.625"),
        (",0.7,", ",nan,", "column 'test_acc': expected a finite number, got 'nan'"),
        (",0.7,", ",70,", "RunRecord.test_acc must be between 0 and 1, or empty, got 70.0"),
        ('"[9.5, ', '"[NaN, ', "column 'epoch_times_json': expected a JSON list of numbers, got '[NaN, "),
        ('"[9.5, ', '"(9.5, ', "column 'epoch_times_json': expected a JSON list of numbers, got '(9.5, "),
        (
            '"[9.5, 2.25, 3.0000000000000004]"',
            "",
            "RunRecord.epoch_times_json must be 3 numbers between 1e-15 and 1e+15 seconds",
        ),
        ('"[9.5, ', '"[', "RunRecord.epoch_times_json must be 3 numbers between 1e-15 and 1e+15 seconds"),
        (",stalled", ",slow", f"RunRecord.flags must be of {', '.join(sorted(KNOWN_FLAGS))}, got ('slow',)"),
    ],
)
def test_a_bad_cell_is_an_error_that_names_file_line_column_and_cell(runs, refused, old, new, complaint):
    good = cells_of(record())[0]
    assert good.count(old) == 1
    write_lines(runs, columns(RunRecord), [good], [good.replace(old, new)], [good])
    assert f"{runs}:3, {complaint}" in refused()
    assert "Correct the cell" in refused()


def test_epoch_times_that_are_no_list_are_refused(runs, refused):
    good = cells_of(record())[0]
    times = good[good.index('"[') : good.index(']"') + 2]
    for other in ("12", '"{""1"": 2, ""3"": 4, ""5"": 6}"', '"""123"""', "true"):
        write_lines(runs, columns(RunRecord), [good.replace(times, other)])
        assert "column 'epoch_times_json': expected a JSON list of numbers" in refused()


def test_a_wrong_number_of_cells_is_an_error_that_names_the_line(runs, refused):
    good = cells_of(record())[0]
    n = len(columns(RunRecord))
    for bad, n_found in ((f"{good},", n + 1), (good.removesuffix(","), n - 1), ("one", 1)):
        write_lines(runs, columns(RunRecord), [good], [bad], [good])
        assert f"{runs}:3, expected {n} columns, got {n_found}" in refused()


def test_a_quote_left_open_is_reported_on_its_own_line_and_swallows_no_other_row(runs, refused):
    good = cells_of(record())[0]
    write_lines(runs, columns(RunRecord), [good], [good.replace(']"', "]")], [good])
    runs.write_text(runs.read_text().removesuffix("\n"))  # a last line without its newline must not excuse line 3
    assert f"{runs}:3, " in refused()


def test_a_file_that_is_not_utf_8_names_line_and_byte(runs, refused):
    good = cells_of(record())[0]
    for mark in (b"", b"\xef\xbb\xbf"):
        write_lines(runs, columns(RunRecord), [good])
        runs.write_bytes(mark + runs.read_bytes() + b"caf\xe9,\n")
        assert f"{runs}:3: not UTF-8 text: byte 0xe9" in refused()


def test_a_byte_order_mark_and_windows_line_ends_are_read(runs):
    row = record()
    append_row(runs, row)
    runs.write_bytes(b"\xef\xbb\xbf" + runs.read_bytes().replace(b"\n", b"\r\n"))
    assert read_table(runs, RunRecord) == [row]
    append_row(runs, record("run-2"))
    assert [r.run_id for r in read_table(runs, RunRecord)] == ["run-1", "run-2"]


def test_an_empty_file_names_the_header_that_was_expected(runs, refused):
    runs.touch()
    assert ":1: the file is empty, expected the header 'timestamp_utc," in refused()


def test_a_missing_file_says_what_to_do(runs):
    with pytest.raises(FileNotFoundError, match=r"no such table\. Measure something first") as caught:
        read_table(runs, RunRecord)
    assert str(runs) in str(caught.value)


def test_a_folder_instead_of_a_file_is_an_error_with_its_path(tmp_path):
    for action in (read_table, check_appendable):
        with pytest.raises(OSError) as caught:
            action(tmp_path, RunRecord)
        assert caught.value.filename is not None
        assert Path(caught.value.filename) == tmp_path


def test_a_folder_below_a_file_is_an_error_that_names_the_file(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for action in (check_appendable, lambda path, kind: write_table(path, [], kind)):
        with pytest.raises(NotADirectoryError, match="a file, not a folder") as caught:
            action(file / "results" / "runs.csv", RunRecord)
        assert Path(caught.value.filename) == file
    assert file.read_text() == "mine"


def test_relative_paths_are_shown_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").touch()
    with pytest.raises(ValueError, match=f"^{tmp_path / 't.csv'}:1"):
        read_table(Path("t.csv"), RunRecord)


# --- appending -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_rows_written_are_the_rows_read(runs, seed):
    rows = [random_record(1000 * seed + i) for i in range(3)]
    append_row(runs, rows[0])
    append_row(runs, rows[1])
    append_row(runs, rows[2])
    assert read_table(runs, RunRecord) == rows
    other = runs.with_name("whole.csv")
    write_table(other, rows, RunRecord)
    assert other.read_bytes() == runs.read_bytes()


def failure(**changes):
    return failure_row(**changes)


def test_failures_and_exclusions_written_are_those_read(tmp_path):
    for row in (failure(), failure(epoch_times_json=(), exit_code=1, signal=None), Exclusion("a", 'why, "so"', "2026")):
        path = tmp_path / f"{type(row).__name__}.csv"
        append_row(path, row)
        assert read_table(path, type(row))[-1] == row


def test_a_text_of_several_lines_becomes_one_so_that_a_row_is_a_line(tmp_path):
    path = tmp_path / "failures.csv"
    append_row(path, failure(message="first\nsecond\r\nthird\rend"))
    assert [row.message for row in read_table(path, FailureRecord)] == ["first second third end"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_run_of_ten_thousand_windows_is_written_and_read(runs):
    long = record(epochs=10_000, epoch_times_json=(1.0123456789012345,) * 10_000)
    append_row(runs, long)
    assert read_table(runs, RunRecord) == [long]
    whole = runs.read_bytes()
    runs.write_bytes(whole[:-9])
    append_row(runs, record("run-2"))
    assert [row.run_id for row in read_table(runs, RunRecord)] == ["run-2"]
    assert runs.with_name("runs.csv.torn").read_bytes() == whole[whole.index(b"\n") + 1 : -9] + b"\n"


WRITER = """
import dataclasses, sys
from pathlib import Path
from epochcast.schema import RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table
template = read_table(Path(sys.argv[1]), RunRecord)[0]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    append_row(Path(sys.argv[2]), dataclasses.replace(template, run_id=f"{sys.argv[3]}-{number}"))
"""


def test_append_keeps_every_row_when_four_processes_write(runs, tmp_path):
    template = tmp_path / "template.csv"
    append_row(template, record())
    command = [sys.executable, "-c", WRITER, str(template), str(runs)]
    writers = [
        subprocess.Popen([*command, str(w), "50"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for w in range(4)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:  # all are imported and wait: they start on a table that does not exist yet
        writer.communicate(b"\n")
        assert writer.returncode == 0
    names = [row.run_id for row in read_table(runs, RunRecord)]
    assert len(names) == 200
    assert set(names) == {f"{w}-{number}" for w in range(4) for number in range(50)}
    for w in range(4):  # and each process's rows are in the order that it wrote them
        assert [name for name in names if name.startswith(f"{w}-")] == [f"{w}-{number}" for number in range(50)]
    assert not runs.with_name("runs.csv.torn").exists()


@pytest.mark.parametrize("held", [fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["a writer", "a reader"])
def test_an_append_that_waits_too_long_for_the_lock_says_so_and_writes_nothing(runs, monkeypatch, held):
    append_row(runs, record())
    before = runs.read_bytes()
    monkeypatch.setattr(locks, "LOCK_TIMEOUT_SEC", 0.05)
    start = time.perf_counter()
    with runs.open("rb") as file:
        fcntl.flock(file, held)
        for action in (lambda: append_row(runs, record("run-2")), lambda: check_appendable(runs, RunRecord)):
            with pytest.raises(TimeoutError, match=r"locked by another process.*try again") as caught:
                action()
            assert str(runs) in str(caught.value)
    assert time.perf_counter() - start < 5
    assert runs.read_bytes() == before


HOLDER = """
import fcntl, sys, time
with open(sys.argv[1], "r+b") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.readline()
    time.sleep(0.2)
    exec(sys.argv[2])
"""


def while_another_process_does(runs, what, action):
    """What `action` gives, begun while another process holds the table's lock and does `what` before it lets go."""
    command = [sys.executable, "-c", HOLDER, str(runs), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        start = time.perf_counter()
        action()
        assert time.perf_counter() - start > 0.15
    assert holder.returncode == 0


def test_the_header_is_checked_under_the_lock_and_not_before(runs):
    append_row(runs, record())
    foreign = "file.truncate(0); file.write(b'name,price\\n'); file.flush()"

    def refused_append():
        with pytest.raises(ValueError, match="unknown column 'name'"):
            append_row(runs, record("run-2"))

    while_another_process_does(runs, foreign, refused_append)
    assert runs.read_bytes() == b"name,price\n"


def test_an_append_lands_in_the_table_that_replaced_the_one_it_waited_for(runs):
    append_row(runs, record())
    replacement = runs.with_name("new.csv")
    append_row(replacement, record("run-0"))
    replace = f"import os; os.replace({str(replacement)!r}, sys.argv[1])"
    while_another_process_does(runs, replace, lambda: append_row(runs, record("run-2")))
    assert [row.run_id for row in read_table(runs, RunRecord)] == ["run-0", "run-2"]


def test_an_append_makes_the_table_anew_where_it_was_removed_while_it_waited(runs):
    append_row(runs, record())
    remove = "import os; os.unlink(sys.argv[1])"
    while_another_process_does(runs, remove, lambda: append_row(runs, record("run-2")))
    assert [row.run_id for row in read_table(runs, RunRecord)] == ["run-2"]


# --- torn lines ------------------------------------------------------------------------------------------------------


def warnings_of(caplog):
    messages = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    caplog.clear()
    return messages


@THOROUGH
@pytest.mark.parametrize("n_before", [0, 2])
def test_a_row_cut_short_anywhere_costs_no_other_row_and_is_reported_and_moved_aside(
    tmp_path, caplog, n_before, thorough
):
    rows = [record(f"run-{i}") for i in range(n_before)]
    kept = tmp_path / "kept.csv"
    write_table(kept, rows, RunRecord)
    start = kept.read_bytes()
    last = format_rows([record("run-last")]).encode()
    for length in cuts(last, thorough)[1:-1]:  # not empty, not whole
        path = tmp_path / f"{length}.csv"
        torn = tmp_path / f"{length}.csv.torn"
        path.write_bytes(start + last[:length])
        assert read_table(path, RunRecord) == rows
        (warning,) = warnings_of(caplog)
        assert f"{path}:{n_before + 2}: the last line has no line end, it may be cut short" in warning
        assert path.read_bytes() == start + last[:length]  # a reader never writes
        append_row(path, record("run-next"))
        (warning,) = warnings_of(caplog)
        assert f"{path}: the last line had no line end, it may be cut short; moved to {torn}" in warning
        assert read_table(path, RunRecord) == [*rows, record("run-next")]
        assert torn.read_bytes() == last[:length] + b"\n"


@pytest.mark.parametrize("length", [5, 40, -2, -1])
def test_a_run_moves_a_torn_row_aside_before_it_measures(runs, length):
    append_row(runs, record())
    whole = runs.read_bytes()
    runs.write_bytes(whole + format_rows([record("run-2")]).encode()[:length])
    check_appendable(runs, RunRecord)
    assert runs.read_bytes() == whole


def test_every_torn_row_is_kept_in_the_torn_file(runs):
    for text in (b"first", b"second"):
        append_row(runs, record(f"before {text!r}"))
        with runs.open("ab") as file:
            file.write(text)
    check_appendable(runs, RunRecord)
    assert runs.with_name("runs.csv.torn").read_bytes() == b"first\nsecond\n"


def test_what_a_power_cut_fills_with_zeros_is_moved_aside(runs):
    append_row(runs, record())
    whole = runs.read_bytes()
    runs.write_bytes(whole + bytes(4000))
    assert read_table(runs, RunRecord) == [record()]
    append_row(runs, record("run-2"))
    assert [row.run_id for row in read_table(runs, RunRecord)] == ["run-1", "run-2"]


def test_a_torn_row_longer_than_what_is_read_at_once_is_moved_aside_whole(runs):
    append_row(runs, record())
    whole = runs.read_bytes()
    tail = b"9" * (3 * table_appends.END_BYTES)
    runs.write_bytes(whole + tail)
    check_appendable(runs, RunRecord)
    assert runs.read_bytes() == whole
    assert runs.with_name("runs.csv.torn").read_bytes() == tail + b"\n"


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_is_said_of_a_line_without_its_end_works(runs, caplog, is_whole):
    append_row(runs, record())
    before = runs.read_bytes()
    line = format_rows([record("run-2")]).encode()
    runs.write_bytes(before + (line[:-1] if is_whole else line[:40]))
    read_table(runs, RunRecord)
    (said,) = warnings_of(caplog)
    assert ("end it: echo >> " in said, "epochcast recover --runs" in said) == (is_whole, not is_whole)
    append_row(runs, record("run-3"))
    (said,) = warnings_of(caplog)
    assert ("put it back: tail" in said, "epochcast recover --runs" in said) == (is_whole, not is_whole)
    found = [(finding.rule, finding.file) for finding in check_file(runs).findings if finding.rule == "torn"]
    assert found == [("torn", "runs.csv.torn")]
    if is_whole:
        subprocess.run(said.partition("put it back: ")[2], shell=True, check=True)
        assert read_table(runs, RunRecord) == [record(), record("run-3"), record("run-2")]


def written_elsewhere(data, kind):
    """A table as other programs save it."""
    if kind == "quoted":
        header, rows = data.split(b"\n", 1)
        return b",".join(b'"%s"' % name for name in header.split(b",")) + b"\n" + rows
    return {"lf": data, "crlf": data.replace(b"\n", b"\r\n"), "bom": table_appends.BYTE_ORDER_MARK + data}[kind]


@THOROUGH
@pytest.mark.parametrize("kind", ["lf", "crlf", "bom", "quoted"])
def test_a_table_cut_at_any_byte_is_appended_to_and_read_or_refused_as_it_was(tmp_path, caplog, kind, thorough):
    caplog.set_level(logging.CRITICAL)
    rows = [record("a"), record("b")]
    write_table(tmp_path / "whole.csv", rows, RunRecord)
    data = written_elsewhere((tmp_path / "whole.csv").read_bytes(), kind)
    path = tmp_path / "cut.csv"
    for n in cuts(data, thorough):
        path.write_bytes(data[:n])
        try:
            append_row(path, record("next"))
        except ValueError as error:
            assert str(path) in str(error) and path.read_bytes() == data[:n]
            assert kind == "quoted" and n < data.index(b"\n")
            continue
        n_whole = max(0, data[:n].count(b"\n") - 1)
        assert read_table(path, RunRecord) == [*rows[:n_whole], record("next")], n


def test_a_list_of_exclusions_may_lack_its_last_line_end(tmp_path):
    path = tmp_path / "excluded.csv"  # by an editor that writes none: no row of ours was cut
    path.write_text("run_id,reason,date\nrun-1,why,2026-01-02")
    assert read_table(path, Exclusion) == [Exclusion("run-1", "why", "2026-01-02")]


@pytest.mark.parametrize("n_columns", [11, 72])
def test_a_row_without_its_line_end_is_known_as_torn_whatever_its_last_cell_holds(tmp_path, caplog, n_columns):
    """A published table ends in test_acc, of which a cut leaves a number that can be read."""
    path = tmp_path / "runs.csv"
    lines = csv_reader(format_rows([record(f"run-{i}", test_acc=0.7123) for i in range(2)]).splitlines())
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(cells[:n_columns] for cells in [columns(RunRecord), *lines])
    whole = path.read_bytes()
    kept = read_table(path, RunRecord)
    for length in range(whole.rindex(b"\n", 0, -1) + 2, len(whole)):
        path.write_bytes(whole[:length])
        assert read_table(path, RunRecord) == kept[:1]
        (warning,) = warnings_of(caplog)
        assert f"{path}:3: the last line has no line end, it may be cut short" in warning
        assert (f"If it is whole, end it: echo >> {path}" in warning) == (length > whole.rindex(b","))
    with path.open("a") as file:
        file.write("\n")  # the remedy
    path.write_bytes(whole)
    assert read_table(path, RunRecord) == kept


@THOROUGH
@pytest.mark.parametrize(
    "row", [record(), failure(), fit_row(), Exclusion("run-1", "why", "2026-01-02")], ids=lambda r: type(r)
)
def test_a_header_cut_short_anywhere_is_written_again(tmp_path, row, thorough):
    whole = tmp_path / "whole.csv"
    append_row(whole, row)
    header = whole.read_bytes().partition(b"\n")[0]
    for length in cuts(header, thorough):
        path = tmp_path / f"{length}.csv"
        path.write_bytes(header[:length])
        append_row(path, row)
        assert path.read_bytes() == whole.read_bytes()
        assert not path.with_name(path.name + ".torn").exists()


def test_a_run_id_is_appended_once_whoever_appended_it_before(runs):
    append_row(runs, record("run-1"))
    before = runs.read_bytes()
    with pytest.raises(DuplicateRunError, match="holds a run run-1 already"):
        append_row(runs, record("run-1"))
    assert runs.read_bytes() == before
    for number in range(2, 6):  # by others, between our looks: known all the same
        with runs.open("a") as file:
            file.write(format_rows([record(f"run-{number}", device_name='one, "two"')]))
        with pytest.raises(DuplicateRunError):
            append_row(runs, record(f"run-{number}"))
        append_row(runs, record(f"own-{number}"))
    assert len({row.run_id for row in read_table(runs, RunRecord)}) == 9


def test_a_table_that_was_made_anew_forgets_its_run_ids(runs):
    for _ in range(3):
        append_row(runs, record("run-1"))
        runs.unlink()
        append_row(runs, record("run-1"))
        runs.write_text(header_line(RunRecord))  # in place: the same inode
    append_row(runs, record("run-1"))
    assert read_table(runs, RunRecord) == [record("run-1")]


@pytest.mark.parametrize("changes", [{"device_name": 5}, {"energy_estimated": True}, {"flags": ()}, {"seed": 1.5}])
def test_a_row_that_would_not_be_read_back_is_not_written(runs, changes):
    append_row(runs, record())
    before = runs.read_bytes()
    row = record("run-2")
    for name, value in changes.items():
        object.__setattr__(row, name, value if name != "flags" else ("a;b",))  # past the checks of the record
    with pytest.raises(CellError, match=next(iter(changes))):
        append_row(runs, row)
    assert runs.read_bytes() == before


@pytest.mark.parametrize("kind", [RunRecord, FailureRecord, FitRecord])
def test_a_table_whose_first_header_was_cut_short_has_no_rows_yet(tmp_path, kind):
    """A grid that was killed as it made failures.csv goes on."""
    path = tmp_path / "table.csv"
    assert read_table_if_any(path, kind) == []
    header = header_line(kind)
    for length in range(len(header) + 1):
        path.write_text(header[:length])
        assert read_table_if_any(path, kind) == []
    path.write_text("who,what\n")
    with pytest.raises(ValueError, match=r"table\.csv:1"):
        read_table_if_any(path, kind)


# --- disks that are full, files that are not ours --------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("row", [record(), fit_row()], ids=lambda r: type(r))
def test_a_full_disk_is_an_error_that_names_the_table(row):
    full = Path("/dev/full")
    for action in (lambda: check_appendable(full, type(row)), lambda: append_row(full, row)):
        with pytest.raises(OSError, match=r"could not append \(No space left on device\)") as caught:
            action()
        assert caught.value.filename == "/dev/full"


@contextlib.contextmanager
def largest_file(n_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("row", [record(), fit_row(source="x" * 200)], ids=lambda r: type(r))
@pytest.mark.parametrize("n_written", [0, 1, 20, 200])
def test_a_row_that_could_be_written_only_in_part_is_taken_back(runs, n_written, row):
    append_row(runs, row)
    before, second = runs.read_bytes(), dataclasses.replace(row, run_id="run-2")
    with largest_file(len(before) + n_written), pytest.raises(OSError, match="could not append") as caught:
        append_row(runs, second)
    assert caught.value.filename == str(runs)
    assert runs.read_bytes() == before
    append_row(runs, second)
    assert read_table(runs, type(row)) == [row, second]


def test_a_torn_row_stays_where_it_is_when_it_can_not_be_moved_aside(runs):
    append_row(runs, record())
    before = runs.read_bytes() + b"torn"
    runs.write_bytes(before)
    runs.with_name("runs.csv.torn").mkdir()
    with pytest.raises(IsADirectoryError):
        append_row(runs, record("run-2"))
    assert runs.read_bytes() == before


def test_too_little_free_space_is_found_before_a_run(runs, monkeypatch):
    monkeypatch.setattr(table_appends, "MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(OSError, match="is free") as caught:
        check_appendable(runs, RunRecord)
    assert caught.value.filename == str(runs.parent)


@pytest.fixture
def open_folder():
    """A folder that another user can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def as_someone_without_rights():
    """Root may write anywhere: be nobody for the while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_table_without_the_right_to_write_is_found_before_a_run(open_folder):
    path = open_folder / "runs.csv"
    append_row(path, record())
    before = path.read_bytes()
    path.chmod(0o444)
    with as_someone_without_rights():
        for action in (lambda: check_appendable(path, RunRecord), lambda: append_row(path, record("run-2"))):
            with pytest.raises(PermissionError) as caught:
                action()
            assert caught.value.filename is not None
            assert Path(caught.value.filename) == path
        assert read_table(path, RunRecord) == [record()]
    assert path.read_bytes() == before


def test_a_folder_without_the_right_to_write_is_found_before_a_run_and_named(open_folder):
    path = open_folder / "results" / "runs.csv"
    path.parent.mkdir()
    path.parent.chmod(0o555)
    with as_someone_without_rights():
        for action in (check_appendable, lambda path, kind: write_table(path, [], kind)):
            with pytest.raises(PermissionError, match="Permission denied") as caught:
                action(path, RunRecord)
            assert caught.value.filename is not None
            assert Path(caught.value.filename) == path
    path.parent.chmod(0o755)
    assert list(path.parent.iterdir()) == []


def test_a_table_without_the_right_to_read_is_an_error_with_its_path(open_folder):
    path = open_folder / "runs.csv"
    append_row(path, record())
    path.chmod(0o000)
    with as_someone_without_rights(), pytest.raises(PermissionError) as caught:
        read_table(path, RunRecord)
    assert Path(caught.value.filename) == path


def test_a_table_that_does_not_exist_is_made_with_its_header_before_a_run(tmp_path):
    path = tmp_path / "new" / "folder" / "runs.csv"
    check_appendable(path, RunRecord)
    assert path.read_text() == ",".join(columns(RunRecord)) + "\n"
    assert read_table(path, RunRecord) == []
    before = path.stat().st_mtime_ns
    check_appendable(path, RunRecord)
    assert path.stat().st_mtime_ns == before


# --- replacing -------------------------------------------------------------------------------------------------------


def test_replacing_a_table_leaves_the_new_rows_and_no_other_file(runs):
    write_table(runs, [record("old")], RunRecord)
    write_table(runs, [record("new")], RunRecord)
    assert [row.run_id for row in read_table(runs, RunRecord)] == ["new"]
    assert list(runs.parent.iterdir()) == [runs]


def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


CRASH = """
import os, sys
from pathlib import Path
from epochcast.storage.tables import write_text_atomically
Path.replace = lambda *_: os._exit(9)  # the power fails between writing and replacing
write_text_atomically(Path(sys.argv[1]), "new")
"""


def test_a_crash_between_writing_and_replacing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", CRASH, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"
    write_text_atomically(path, "newer")
    assert path.read_text() == "newer"


def test_a_replacement_that_fails_leaves_the_old_file_and_no_other_and_names_it(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with largest_file(10), pytest.raises(OSError, match="could not write") as caught:
        write_bytes_atomically(path, b"x" * 100)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_regular_files_are_replaced(tmp_path):
    with pytest.raises(OSError, match="not a regular file"):
        write_bytes_atomically(tmp_path, b"")
    with pytest.raises(OSError, match="not a regular file"):
        write_bytes_atomically(Path("/dev/null"), b"")
    assert Path("/dev/null").is_char_device()


def test_json_is_written_for_other_programs_to_read_and_nan_is_refused(tmp_path):
    path = tmp_path / "value.json"
    write_json_atomically(path, {"seconds": 0.1, "unknown": None})
    assert json.loads(path.read_text()) == {"seconds": 0.1, "unknown": None}
    with pytest.raises(ValueError):
        write_json_atomically(path, {"seconds": float("nan")})
    assert json.loads(path.read_text()) == {"seconds": 0.1, "unknown": None}


def test_the_hash_of_a_table_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- runs taken back -------------------------------------------------------------------------------------------------


def test_excluded_runs_are_left_out_counted_and_reported(runs, caplog):
    for name in ("a", "b", "c"):
        append_row(runs, record(name))
    append_row(runs.with_name("excluded.csv"), Exclusion("b", "the fan stood still", "2026-01-02"))
    table = read_runs(runs)
    assert [row.run_id for row in table.rows] == ["a", "c"]
    assert [(row.run_id, exclusion.reason) for row, exclusion in table.excluded] == [("b", "the fan stood still")]
    assert len(table.rows) + len(table.excluded) == len(read_table(runs, RunRecord))
    (warning,) = warnings_of(caplog)
    assert "run b is excluded: the fan stood still" in warning


def test_without_exclusions_every_row_counts_also_those_without_a_name(runs):
    append_row(runs, record(None))
    append_row(runs, record(None))
    table = read_runs(runs)
    assert (len(table.rows), table.excluded) == (2, [])


def test_an_excluded_run_that_is_not_in_the_table_is_an_error_that_names_both_files(runs):
    append_row(runs, record("a"))
    excluded = runs.with_name("excluded.csv")
    append_row(excluded, Exclusion("aa", "a slip of the pen", "2026-01-02"))
    with pytest.raises(ValueError, match="run_id aa is not in") as caught:
        read_runs(runs)
    assert str(excluded) in str(caught.value)
    assert str(runs) in str(caught.value)


def test_exclusions_of_a_table_with_another_name_are_its_own(tmp_path):
    path = tmp_path / "mine.csv"
    append_row(path, record("a"))
    append_row(tmp_path / "excluded.csv", Exclusion("other", "of another table", "2026"))
    assert len(read_runs(path).rows) == 1
    append_row(tmp_path / "mine_excluded.csv", Exclusion("a", "wrong", "2026"))
    assert read_runs(path).rows == []
