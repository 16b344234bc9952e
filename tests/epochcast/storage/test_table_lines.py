"""One reader of tables: whatever a file looks like, every command reads the same rows or names the same cause."""

from __future__ import annotations

import gzip
import io
import os
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.averages.table import load_agg
from epochcast.aggregate.checks.report import check_file
from epochcast.aggregate.checks.rules import ERROR
from epochcast.aggregate.migrate import migrate
from epochcast.paths import excluded_csv, failures_csv
from epochcast.schema import AggRow, Exclusion, FailureRecord, RunRecord
from epochcast.storage import files, tables
from epochcast.storage.cells import columns, format_rows, header_line
from epochcast.storage.files import read_bytes, refuse_another_kind
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.table_lines import cells_of, lines_of
from epochcast.storage.tables import read_runs, read_table, table_bytes
from tests.support.rows import run_row

ROWS = [run_row(run_id="a"), run_row((9.0, 2.1, 2.1), run_id="b"), run_row((8.0, 3.0, 3.0), config=(3, 16, 64))]
ROWS = [replace(row, images_per_sec=50_000 / row.avg_time_sec) for row in ROWS]
HEADER = header_line(RunRecord)
LINES = [HEADER, *format_rows(ROWS).splitlines(keepends=True)]
TEXT = "".join(LINES)
EMPTY = "," * (len(columns(RunRecord)) - 1) + "\n"


def with_header(change):
    names = HEADER.strip().split(",")
    change(names)
    return ",".join(names) + "\n" + "".join(LINES[1:])


# what every command reads as the three rows
SOUND = {
    "line_feeds": TEXT.encode(),
    "windows": TEXT.replace("\n", "\r\n").encode("utf-8-sig"),
    "windows_twice": TEXT.replace("\n", "\r\r\n").encode(),
    "blank_lines": (HEADER + "\n" + LINES[1] + "  \n\r\n" + LINES[2] + LINES[3] + "\n\n").encode(),
    "empty_cells": (HEADER + EMPTY + LINES[1] + ",,\n" + LINES[2] + '"",""\n' + LINES[3] + EMPTY).encode(),
}
# what every command refuses: the cause, and whether the header alone shows it, which is all that an append reads
ODD = {
    "old_mac": (TEXT.replace("\n", "\r").encode(), "CR alone", True),
    "semicolons": (TEXT.replace(",", ";").encode(), "the columns are separated by ';', expected ','", True),
    "tabs": (TEXT.replace(",", "\t").encode(), "the columns are separated by a tab, expected ','", True),
    "utf_16": (TEXT.encode("utf-16"), "UTF-16 text", True),
    "utf_16_unmarked": (TEXT.encode("utf-16-be"), "UTF-16 text", True),
    "header_quote": (b'"' + TEXT.encode(), "a quote is left open", True),
    "unknown_column": (with_header(lambda n: n.insert(3, "note")).encode(), "unknown column 'note'", True),
    "doubled": (with_header(lambda n: n.__setitem__(3, "depth")).encode(), "column depth stands twice", True),
    "swapped": (with_header(lambda n: n.insert(0, n.pop(1))).encode(), "the columns are in another order", True),
    "newer": (with_header(lambda n: n.append("colour")).encode(), "a newer schema", True),
    "no_header": (b"\n" + TEXT.encode(), "empty", True),
    "a_cr_inside": (TEXT.replace("tensorflow", "tensor\rflow", 1).encode(), "CR alone", False),
    "latin_1": (TEXT.replace("A100", "A\u00b5", 1).encode("latin-1"), "not UTF-8 text", False),
    "open_quote": (TEXT.replace(']"', "]", 1).encode(), "a quote is left open", False),
    "a_cell_short": (TEXT.replace(",float32,", ",", 1).encode(), str(len(columns(RunRecord)) - 1), False),
    "no_number": (TEXT.replace(",2,16,64,", ",2,16,many,", 1).encode(), "'many'", False),
    "deep": (TEXT.replace("[9.0, 2.0", "[" * 10_000 + "9.0, 2.0", 1).encode(), "a JSON list of numbers", False),
}


def read(runs, folder):
    return read_table(runs, RunRecord)


def averaged(runs, folder):
    write_agg(runs, folder / "averages.csv")
    return read_table(runs, RunRecord)


def lifted(runs, folder):
    migrate(runs, folder / "lifted.csv")
    return read_table(folder / "lifted.csv", RunRecord)


def checked(runs, folder):
    report = check_file(runs)
    if report.count(ERROR):
        raise ValueError("; ".join(f"{f.where}: {f.found}, expected {f.expected}" for f in report.findings))
    return [row.record for row in report.rows]


def appended(runs, folder):
    check_appendable(runs, RunRecord)
    append_row(runs, run_row(run_id="new"))
    return read_table(runs, RunRecord)[:-1]


AVERAGES = header_line(AggRow)
TWICE = HEADER.replace("\n", ",depth\n")
NO_TABLES = {
    "a column twice": (TWICE.encode(), "column depth stands twice"),
    "spaces": (HEADER.replace(",", ", ").encode(), "spaces stand beside the commas"),
    "averages": (AVERAGES.encode(), "it is a table of averages"),
    "failures": (header_line(FailureRecord).encode(), "it is a table of failed runs"),
    "gzip": (gzip.compress(TEXT.encode()), "a gzip file, not a table. Unpack it: gunzip -c "),
}


@pytest.mark.parametrize("reader", [read, averaged, lifted, checked, appended])
@pytest.mark.parametrize("name", NO_TABLES)
def test_every_command_says_what_a_file_is_that_is_no_table_of_runs(tmp_path, name, reader):
    raw, words = NO_TABLES[name]
    (runs := tmp_path / "runs.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        reader(runs, tmp_path)
    assert "newer schema" not in str(refused.value)
    assert runs.read_bytes() == raw


def test_an_empty_table_is_told_the_columns_that_it_needs_alone(tmp_path):
    (tmp_path / "runs.csv").touch()
    with pytest.raises(ValueError, match="the file is empty, expected the header 'timestamp_utc,") as refused:
        read_table(tmp_path / "runs.csv", RunRecord)
    assert len(str(refused.value)) < 400 and ",...'" in str(refused.value)


@pytest.mark.parametrize("reader", [table_bytes, read_bytes, lambda path: refuse_another_kind(path, b"x")])
def test_a_file_whose_data_are_yet_to_come_is_named(tmp_path, reader, monkeypatch):
    class Waiting(io.BytesIO):
        def read(self, n=-1):
            return None

        def fileno(self):
            return descriptor

    descriptor = os.open(tmp_path, os.O_RDONLY)
    for module in (files, tables):
        monkeypatch.setattr(module, "open_regular", lambda path: Waiting())
    with pytest.raises(OSError, match="a source of data to come, not a regular file") as refused:
        reader(tmp_path / "kmsg")
    assert refused.value.filename == str(tmp_path / "kmsg")
    os.close(descriptor)


def test_an_output_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe or a device"):
        refuse_another_kind(tmp_path / "pipe", b"x")


@pytest.mark.parametrize("reader", [read, averaged, lifted, checked, appended])
@pytest.mark.parametrize("name", SOUND)
def test_every_command_reads_the_same_rows_of_a_sound_table(tmp_path, name, reader):
    runs = tmp_path / "runs.csv"
    runs.write_bytes(SOUND[name])
    assert reader(runs, tmp_path) == ROWS


@pytest.mark.parametrize("reader", [read, averaged, lifted, checked, appended])
def test_every_command_leaves_out_a_last_row_without_its_line_end(tmp_path, reader):
    runs = tmp_path / "runs.csv"
    runs.write_text(TEXT.removesuffix("\n"), newline="")
    assert reader(runs, tmp_path) == ROWS[:2]


@pytest.mark.parametrize("reader", [read, averaged, lifted, checked, appended])
@pytest.mark.parametrize("name", ODD)
def test_every_command_names_the_same_cause(tmp_path, name, reader):
    raw, cause, is_in_header = ODD[name]
    runs = tmp_path / "runs.csv"
    runs.write_bytes(raw)
    if reader is appended and not is_in_header:
        reader = read  # an append reads no row but the last
    with pytest.raises(ValueError) as caught:
        reader(runs, tmp_path)
    assert cause in str(caught.value)
    assert str(runs) in str(caught.value) or reader is checked
    assert runs.read_bytes() == raw
    assert not (tmp_path / "lifted.csv").exists()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_rows_of_empty_cells_are_no_rows_of_failures_exclusions_and_averages(tmp_path, ending):
    runs = tmp_path / "runs.csv"
    runs.write_bytes(SOUND["line_feeds"])
    agg = tmp_path / "runs_agg.csv"
    write_agg(runs, agg)
    tables = {
        agg: (AggRow, read_table(agg, AggRow)),
        excluded_csv(runs): (Exclusion, [Exclusion("a", "wrong", "2026-01-01")]),
        failures_csv(runs): (FailureRecord, []),
    }
    for path, (kind, records) in tables.items():
        empty = "," * (len(columns(kind)) - 1) + "\n"
        lines = format_rows(records).splitlines(keepends=True)
        text = header_line(kind) + empty + "".join(line + empty + "\n" for line in lines)
        path.write_bytes(text.replace("\n", ending).encode())
        assert read_table(path, kind) == records
    assert [row.run_id for row in read_runs(runs).rows] == ["b", None]
    assert "excluded" not in {finding.rule for finding in check_file(runs).findings}


@pytest.mark.parametrize("place", ["runs", "excluded", "failures", "averages"])
def test_a_pipe_in_place_of_a_table_is_refused_at_once(tmp_path, place):
    runs = tmp_path / "runs.csv"
    runs.write_bytes(SOUND["line_feeds"])
    pipe = {
        "runs": runs,
        "excluded": excluded_csv(runs),
        "failures": failures_csv(runs),
        "averages": tmp_path / "runs_agg.csv",
    }[place]
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    reads = {"failures": lambda: migrate(runs), "averages": lambda: load_agg(pipe)}
    with pytest.raises(OSError, match="a pipe or a device"):
        reads.get(place, lambda: read_runs(runs))()
    if place in ("runs", "excluded"):
        with pytest.raises(OSError, match="a pipe or a device"):
            check_file(runs)


HOSTILE = ["", "-1", "0", "1e308", "1e-320", "1" + "0" * 400, "9" * 5000, "nan", "-inf", "1e999999999", "[" * 2000]
HOSTILE += [
    "[]",
    "[1e308, 1e308, 1e308]",
    "[1, 2, null]",
    "[true, 2, 3]",
    "[1, 1e-300, 1e-300]",
    '{"a": 1}',
    "\0",
    "\u202e",
]
HOSTILE += ["9223372036854775807", "2026-13-45", "0001-01-01", "9999-12-31T23:59:59+00:00", "a;b;stalled", "x" * 5000]


def attempt(reader, runs, folder):
    """The rows, or None where the table was refused."""
    try:
        return reader(runs, folder)
    except (ValueError, OSError):
        return None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_stands_in_cells_commands_agree_and_raise_nothing_but_refusals(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cells")
    names = columns(RunRecord)
    rows = [cells_of(line) for line in LINES[1:]]
    for _ in range(data.draw(st.integers(1, 2))):
        row = data.draw(st.integers(0, len(rows) - 1))
        rows[row][data.draw(st.integers(0, len(names) - 1))] = data.draw(st.sampled_from(HOSTILE))
    runs = folder / "runs.csv"
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows]
    runs.write_text(HEADER + "".join(quoted), newline="")
    rows_read = attempt(read, runs, folder)
    assert attempt(lifted, runs, folder) == rows_read
    report = check_file(runs)
    of_cells = [finding for finding in report.findings if finding.rule in ("lines", "types", "ranges")]
    assert (rows_read is None) == bool(of_cells)
    attempt(averaged, runs, folder)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(['"', ",", "\n", "\r", "\t", ";", "\0", " ", "a", "\ufeff", "\u2028", "1"]), max_size=12)
)
def test_lines_are_split_at_line_feeds_alone_and_nothing_is_lost(parts):
    text = "".join(parts)
    lines = lines_of(text)
    assert "".join(lines) == text
    assert all(line.count("\n") <= 1 and line.endswith("\n") for line in lines[:-1])
    for line in lines:
        try:
            assert all("\n" not in cell for cell in cells_of(line))
        except ValueError as error:
            assert "\n" not in str(error)
