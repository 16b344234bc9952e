"""Cold starts of commands next to that of NumPy, in turn: python benchmarks/bench_cold_start.py [--before COMMIT]"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.flag_types import positive_int
from epochcast.output.text import significant, table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically

NUMPY = "import numpy"
DOOR = "from epochcast.__main__ import {0}; {0}()"
COMMANDS = {  # name: what Python is given
    "predict_perf --batch_size 512": ["-c", DOOR.format("predict_perf"), "--batch_size", "512"],
    "dp_budget_planner --budget_sec 3600": ["-c", DOOR.format("dp_budget_planner"), "--budget_sec", "3600"],
    "epochcast --help": ["-m", "epochcast", "--help"],
}


def seconds_of(command: list[str], tree: Path, home_dir: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of one fresh process, run in the root of a tree of our code."""
    # installed packages are compiled, so a tree is too: the first process of each, which does not count, does it
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["EPOCHCAST_HOME"] = str(home_dir)
    before = os.times()
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tree,
        env=environ,
    )
    wall = time.perf_counter() - start
    after = os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


@contextmanager
def trees_of(commit: str | None, folder: Path) -> Iterator[dict[str, Path]]:
    """Give this checkout and, as `before`, that of a commit, which is removed again."""
    if commit is None:
        yield {"": CODE_ROOT}
        return
    before = folder / "before"
    git = ["git", "-C", str(CODE_ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", str(before), commit], check=True, capture_output=True)
    try:
        yield {"before": before, "after": CODE_ROOT}
    finally:
        subprocess.run([*git, "remove", "--force", str(before)], check=True)


def measure(trees: dict[str, Path], runs: int, home_dir: Path) -> dict[str, list[tuple[float, float]]]:
    """Return wall and CPU seconds of every process, by its name: all in turn, so that a busy box slows all alike."""
    commands = {NUMPY: (["-c", NUMPY], CODE_ROOT)}
    for when, tree in trees.items():
        commands |= {f"{name} {when}".rstrip(): (command, tree) for name, command in COMMANDS.items()}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, (command, tree) in commands.items():
            times = seconds_of(command, tree, home_dir)
            if number:  # the first of each warms the disk cache
                measured[name].append(times)
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=positive_int, default=15, help="fresh processes of each (default: 15)")
    parser.add_argument("--before", metavar="COMMIT", help="also the code of this commit, in a temporary worktree")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "cold_start.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, trees_of(arguments.before, Path(folder)) as trees:
        measured = measure(trees, arguments.runs, Path(folder) / "home")
    rows, report = [], {}
    for name, times in measured.items():
        wall, cpu = ([t[i] for t in times] for i in (0, 1))
        ratio = statistics.median(ours / numpy[0] for ours, numpy in zip(wall, measured[NUMPY], strict=True))
        medians = {"wall_sec_median": statistics.median(wall), "cpu_sec_median": statistics.median(cpu)}
        report[name] = {**medians, "wall_ratio_median": ratio}
        rows.append([name, min(wall), *medians.values(), significant(ratio)])
    header = ["fresh process", "wall min s", "wall median s", "cpu median s", "x NumPy, median of pairs"]
    print(table_text(header, rows))
    write_json_atomically(arguments.out, {"n": arguments.runs, "before": arguments.before, "processes": report})
    print(f"written: {arguments.out.absolute()}")
    return 0
