"""Rows per second that four processes append to one table, durably: python benchmarks/bench_append.py

Beside it one process doing the same, and four that only open, write and close, without lock, check and fsync: what
durability costs on this disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.flag_types import positive_int
from epochcast.output.text import table_text
from epochcast.paths import home
from epochcast.schema import RunRecord
from epochcast.storage.cells import format_rows
from epochcast.storage.files import write_json_atomically
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.tables import read_table

ROW = RunRecord(
    timestamp_utc="2026-11-22T00:00:00+00:00",
    tf_version="2.21.0",
    depth=2,
    base_filters=8,
    batch_size=128,
    epochs=3,
    params=136_786,
    epoch_times_json=(1.5, 0.40, 0.41),
    avg_time_sec=0.405,
    images_per_sec=50_000 / 0.405,
    test_acc=None,
    run_id="bench",
)


def durable(path: Path, row: RunRecord) -> None:
    append_row(path, row)


def plain(path: Path, row: RunRecord) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(format_rows([row]))


WAYS = {"durable": durable, "plain write": plain}


def write_many(way: str, path: Path, writer: int, rows: int) -> None:
    for number in range(rows):
        WAYS[way](path, replace(ROW, run_id=f"{writer}-{number}"))


def rows_per_sec(way: str, writers: int, rows: int) -> float:
    """Rows per second of `writers` processes that append `rows` each; every row must be there afterwards."""
    with tempfile.TemporaryDirectory(dir=home()) as folder:
        path = Path(folder) / "runs.csv"
        check_appendable(path, RunRecord)
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=write_many, args=(way, path, w, rows)) for w in range(writers)]
        start = time.perf_counter()
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        elapsed = time.perf_counter() - start
        found = {row.run_id for row in read_table(path, RunRecord)}
        if len(found) != writers * rows:
            raise RuntimeError(f"{way}: {writers * rows - len(found)} of {writers * rows} rows are missing")
        return writers * rows / elapsed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=positive_int, default=250, help="rows of each writer (default: 250)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "append.json")
    arguments = parser.parse_args()
    table = []
    report = []
    for way, writers in (("durable", 4), ("durable", 1), ("plain write", 4)):
        rates = sorted(rows_per_sec(way, writers, arguments.rows) for _ in range(3))
        table.append([way, writers, *rates])
        report.append({"way": way, "writers": writers, "rows_per_sec": rates, "rows_of_each": arguments.rows})
    print(table_text(["append", "writers", "rows/s min", "median", "max"], table))
    write_json_atomically(arguments.out, report)
    print(f"written: {arguments.out.absolute()}")
    return 0
