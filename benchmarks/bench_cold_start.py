"""Cold starts of commands next to that of NumPy alone, in turn: python benchmarks/bench_cold_start.py"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.flag_types import positive_int
from epochcast.output.text import significant, table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically

COMMANDS = {
    "import numpy": [sys.executable, "-c", "import numpy"],
    "predict_perf": [sys.executable, "-c", "from epochcast.__main__ import predict_perf; predict_perf()"],
    "dp_budget_planner": [sys.executable, "-m", "epochcast", "plan", "--budget_sec", "3600"],
    "epochcast --help": [sys.executable, "-m", "epochcast", "--help"],
}


def seconds_of(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one fresh process."""
    before = os.times()
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=CODE_ROOT)
    wall = time.perf_counter() - start
    after = os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=positive_int, default=15, help="fresh processes of each (default: 15)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "cold_start.json")
    arguments = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(arguments.runs + 1):
        for name, command in COMMANDS.items():
            times = seconds_of(command)
            if number:  # the first of each warms the disk cache
                measured[name].append(times)
    rows = []
    report: dict[str, dict[str, float]] = {}
    for name, times in measured.items():
        wall, cpu = ([t[i] for t in times] for i in (0, 1))
        report[name] = {"wall_sec_median": statistics.median(wall), "cpu_sec_median": statistics.median(cpu)}
        rows.append([name, min(wall), statistics.median(wall), max(wall), statistics.median(cpu)])
    print(table_text(["fresh process", "wall min s", "wall median s", "wall max s", "cpu median s"], rows))
    first, *others = COMMANDS
    for name in others:
        ratios = [ours[0] / numpy[0] for ours, numpy in zip(measured[name], measured[first], strict=True)]
        report[name]["wall_ratio_median"] = median = statistics.median(ratios)
        print(f"{name}: ratio of wall times, pair by pair: median {significant(median)}, n = {len(ratios)}")
    write_json_atomically(arguments.out, {**report, "n": arguments.runs})
    print(f"written: {arguments.out.absolute()}")
    return 0
