"""Files of 5 MB of whatever content: every reader answers or refuses in time, in little memory, in a short message."""

from __future__ import annotations

import json
import time

import pytest

from epochcast.aggregate import check, migrate
from epochcast.aggregate.averages.table import load_agg
from epochcast.collect.grid.config_lists import read_configs, read_specs
from epochcast.collect.records.recovery import recover
from epochcast.model.time_model.card import read_card
from epochcast.planner.execution.ledger import looked_at
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.schema import AggRow, FailureRecord, RunRecord, RunSpec
from epochcast.storage.cells import columns, format_rows, header_line
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_runs, read_table
from tests.support.peaks import at_most
from tests.support.rows import agg_row, run_row

SIZE = 5_000_000
MOST_MIB = 1024
MOST_SEC = 20
LONGEST = 2_000  # characters of a message: a header's faults and what is expected in its place
OWN = run_row(run_id="r-1")


def whole_table(*rows):
    return (header_line(type(rows[0])) + format_rows(rows)).encode()


def many(text):
    """Lines, made of their number, that fill the file."""
    line = text.format(0)
    return "".join(text.format(i) for i in range(SIZE // (len(line) + 4))).encode()


def with_many_epochs():
    """A row of some 800,000 epochs."""
    times = [0.25 + i % 7 / 100 for i in range(SIZE // 6)]
    row = format_rows([run_row(times=(9.0, 2.0, 2.0), run_id="r-1")])
    return row.replace('"[9.0, 2.0, 2.0]"', f'"{json.dumps(times)}"').replace(",3,", f",{len(times)},", 1)


HEADER = header_line(RunRecord).encode()
TABLES = {  # made when they are asked for: all of them take 150 MB
    "one word": lambda: b"x" * SIZE,
    "line ends": lambda: b"\n" * SIZE,
    "old line ends": lambda: b"\r" * SIZE,
    "commas": lambda: b"," * SIZE,
    "quotes": lambda: b'"' * SIZE,
    "nothing": lambda: b"\0" * SIZE,
    "names": lambda: b",".join(b"n%d" % i for i in range(SIZE // 8)) + b"\n",
    "names like ours": lambda: b",".join([b"batch_siz"] * (SIZE // 10)) + b"\n",
    "one name": lambda: b",".join([b"depth"] * (SIZE // 6)) + b"\n",
    "a newer header": lambda: HEADER[:-1] + b"," + b",".join(b"n%d" % i for i in range(SIZE // 8)) + b"\n",
    "a long row": lambda: HEADER + b"," * SIZE + b"\n",
    "a long cell": lambda: HEADER + b"1" * SIZE + b"," * (len(columns(RunRecord)) - 1) + b"\n",
    "blank lines": lambda: HEADER + b"\n" * SIZE,
    "short rows": lambda: HEADER + b"1,\n" * (SIZE // 3),
    "empty rows": lambda: HEADER + (b"," * (len(columns(RunRecord)) - 1) + b"\n") * (SIZE // len(columns(RunRecord))),
    "rows": lambda: HEADER + format_rows([OWN]).encode() * (SIZE // 500),
    "epochs": lambda: (header_line(RunRecord) + with_many_epochs()).encode(),
    "configurations": lambda: b"depth,base_filters\n" + many("3,{}\n"),
    "a configuration": lambda: b"depth,base_filters\n" + b"3,16\n" * (SIZE // 5),
    "empty configurations": lambda: b"depth,base_filters\n" + b",\n" * (SIZE // 2),
}
JSON = {
    "lists in lists": lambda: b"[" * SIZE,
    "numbers": lambda: b"[" + b"0," * (SIZE // 2) + b"0]",
    "objects": lambda: b"[" + b"{}," * (SIZE // 3) + b"{}]",
    "lists": lambda: b"[" + b"[]," * (SIZE // 3) + b"[]]",
    "names": lambda: b"{" + many('"{}":0,') + b'"a":0}',
    "one name": lambda: b"{" + b'"a":0,' * (SIZE // 6) + b'"a":0}',
    "a text": lambda: b'"' + b"x" * SIZE + b'"',
    "digits": lambda: b"9" * SIZE,
    "configurations": lambda: b"[" + many('{{"depth":3,"base_filters":{}}},') + b'{"depth":3}]',
}
LEDGERS = {
    "lines of a plan": lambda: (
        b'{"event":"begun","utc":"2026-01-01T00:00:00+00:00","used_sec":0,"plan_id":"p"}\n'
        + b'{"event":"alive","utc":"2026-01-01T00:00:00+00:00","used_sec":1}\n' * (SIZE // 66)
    ),
    "line ends": lambda: b"\n" * SIZE,
}


def kept(path):
    """`recover` of a kept run, which it names."""
    table = path.with_name("runs.csv")
    table.write_bytes(whole_table(OWN))
    logs = path.with_name("logs")
    logs.mkdir()
    path.rename(logs / "r-2.json")
    found = recover(table, logs)
    raise ValueError("; ".join(found.unreadable))


def excluded(path):
    table = path.with_name("runs.csv")
    table.write_bytes(whole_table(OWN))
    path.rename(path.with_name("excluded.csv"))
    return read_runs(table)


TABLE_READERS = {
    **{kind.__name__: lambda path, kind=kind: read_table(path, kind) for kind in (RunRecord, AggRow, FailureRecord)},
    "excluded": excluded,
    "append": lambda path: append_row(path, run_row(run_id="new")),
    "check": lambda path: check.main(["--runs", str(path)]),
    "migrate": lambda path: migrate.main(["--runs", str(path), "--out", str(path.with_name("lifted.csv"))]),
    "averages": load_agg,
    "specs": lambda path: read_specs(path, RunSpec()),
    "configurations": read_configs,
}
JSON_READERS = {
    "card": read_card,
    "plan": read_plan,
    "ledger": lambda path: looked_at(path, "p"),
    "kept run": kept,
    "specs": lambda path: read_specs(path, RunSpec()),
}
QUICK = {
    ("RunRecord", "names"), ("RunRecord", "epochs"), ("RunRecord", "a newer header"), ("excluded", "one name"),
    ("append", "names like ours"), ("check", "a long row"), ("averages", "commas"), ("specs", "short rows"),
    ("configurations", "a configuration"), ("card", "one name"), ("plan", "lists in lists"), ("ledger", "line ends"),
    ("kept run", "names"), ("specs", "objects"),
}  # fmt: skip
CASES = [
    *((reader, "csv", content) for reader in TABLE_READERS for content in TABLES),
    *((reader, "json", content) for reader in JSON_READERS for content in JSON),
    *(("ledger", "json", content) for content in LEDGERS),
]


@pytest.mark.parametrize(
    ("reader", "suffix", "content"),
    [
        pytest.param(*case, marks=[] if (case[0], case[2]) in QUICK else pytest.mark.slow, id=" ".join(case))
        for case in CASES
    ],
)
def test_a_reader_ends_soon_and_in_little_memory(home, capsys, caplog, reader, suffix, content):
    path = home / f"x.{suffix}"
    path.write_bytes({**JSON, **LEDGERS}[content]() if suffix == "json" else TABLES[content]())
    read = (JSON_READERS if suffix == "json" else TABLE_READERS)[reader]
    start = time.process_time()
    message = ""
    with at_most(MOST_MIB):
        try:
            read(path)
        except (ValueError, OSError) as error:
            message = str(error)
    assert time.process_time() - start < MOST_SEC
    assert len(message.replace(str(home), "")) < LONGEST
    assert len(capsys.readouterr().err) < 100 * LONGEST


@pytest.mark.slow
def test_averages_that_fill_a_file_are_read_in_time(tmp_path):
    rows = [agg_row(1 + i % 6, 1 + i // 6) for i in range(60_000)]
    (tmp_path / "runs_agg.csv").write_bytes(whole_table(*rows))
    start = time.process_time()
    with at_most(MOST_MIB):
        assert len(load_agg(tmp_path / "runs_agg.csv").rows) == len(rows)
    assert time.process_time() - start < MOST_SEC
