"""Costs of this checkout over those of another, in turn: python benchmarks/bench_before_after.py --before ../old

Appending a row, by one process and by four, and a cold prediction. Each pair is measured one after the other, so that a
machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.flag_types import path_of, positive_int
from epochcast.output.text import table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically

APPENDS = """
import sys
sys.path.insert(0, {checkout!r})
import benchmarks.bench_append as bench
assert bench.__file__.startswith({checkout!r})
print({writers} * {rows} / bench.rows_per_sec("durable", {writers}, {rows}))
"""
PREDICTION = """
import sys
sys.path.insert(0, {checkout!r})
from epochcast.__main__ import predict_perf
predict_perf()
"""


def append_sec(checkout: Path, writers: int, rows: int) -> float:
    """Seconds that `writers` processes of a checkout take to append `rows` rows each to one table."""
    code = APPENDS.format(checkout=str(checkout), writers=writers, rows=rows)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=checkout)
    return float(done.stdout)


def cold_sec(checkout: Path) -> float:
    """Wall seconds of one cold prediction of a checkout."""
    code = PREDICTION.format(checkout=str(checkout))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=checkout)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=path_of, required=True, metavar="CHECKOUT", help="checkout to compare with")
    parser.add_argument("--pairs", type=positive_int, default=15, help="pairs of measurements of each (default: 15)")
    parser.add_argument("--rows", type=positive_int, default=500, help="rows of each writer (default: 500)")
    parser.add_argument("--out", type=path_of, default=home() / "results" / "benchmarks" / "before_after.json")
    arguments = parser.parse_args()
    before = arguments.before.resolve()
    ways = {
        "append, 1 writer": lambda checkout: append_sec(checkout, 1, arguments.rows),
        "append, 4 writers": lambda checkout: append_sec(checkout, 4, arguments.rows),
        "cold predict_perf": cold_sec,
    }
    table, report = [], {}
    for name, seconds in ways.items():
        seconds(before), seconds(CODE_ROOT)  # the first of each warms the disk cache
        pairs = [(seconds(CODE_ROOT), seconds(before)) for _ in range(arguments.pairs)]
        ratios = sorted(now / then for now, then in pairs)
        report[name] = {"pairs_sec": pairs, "ratio_median": statistics.median(ratios)}
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        table.append([name, len(ratios), quartiles[0], quartiles[1], quartiles[2]])
    print(table_text(["this checkout / before", "pairs", "quartile", "median", "quartile"], table))
    write_json_atomically(arguments.out, report)
    print(f"written: {arguments.out.absolute()}")
    return 0
