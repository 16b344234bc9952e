"""CPU time and correctness of our knapsack solver beside others, on the same instances in one process.

The solvers, and what counts as right, are in `knapsack_comparison`.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.lib.knapsack_comparison import (
    LIMIT_SEC,
    PLAIN_CELL_LIMIT,
    QUICK_LIMIT_SEC,
    Result,
    Target,
    compare,
    ortools_module,
)
from epochcast.cli import run_command
from epochcast.machine.environment import utc_now
from epochcast.output.progress import progress
from epochcast.output.text import table_text
from epochcast.paths import home
from epochcast.storage.files import write_json_atomically


def results_table(results: list[Result]) -> str:
    """One line for each case and solver: shares of draws that it called optimal and that are right, medians, worst."""
    header = (
        *("group", "case", "solver", "draws", "claimed", "right", "CPU ms", "x ours", "worst ms"),
        *("value lost %", "bound %", "peak MB"),
    )
    lines = []
    for (group, case), same_case in groupby(results, key=lambda r: (r.group, r.case)):
        by_solver: dict[str, list[Result]] = {}
        for result in same_case:
            by_solver.setdefault(result.solver, []).append(result)
        for solver, draws in by_solver.items():
            gaps = [
                100 * r.bound_above_fraction
                for r in draws
                if r.bound_above_fraction is not None and not r.is_claimed_optimal
            ]
            n_right = sum(r.is_right for r in draws)
            lines.append(
                (
                    group,
                    case,
                    solver,
                    len(draws),
                    f"{sum(r.is_claimed_optimal for r in draws)}/{len(draws)}",
                    f"{n_right}/{len(draws)}" if n_right == len(draws) else f"{n_right}/{len(draws)} WRONG",
                    1000 * statistics.median(r.cpu_sec_median for r in draws),
                    statistics.median(r.cpu_ratio for r in draws),
                    1000 * max(r.cpu_sec_max for r in draws),
                    100 * max(r.value_lost_fraction for r in draws),
                    max(gaps) if gaps else None,
                    draws[0].peak_mb,
                )
            )
    return table_text(header, lines)


def targets_table(targets: list[Target]) -> str:
    return table_text(
        ("target", "found", "reached"), [(t.what, t.found, "yes" if t.is_reached else "NO") for t in targets]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default_out = home() / "results" / "benchmarks" / "knapsack.json"
    parser.add_argument("--out", type=Path, default=default_out, help="JSON file to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random instances (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one draw of at most 500 items, milp and OR-Tools for 1 s")
    args = parser.parse_args(argv)

    def work() -> int:
        start = time.monotonic()
        results, targets = compare(args.seed, args.quick, progress("knapsacks"))
        has_ortools = ortools_module() is not None
        print(f"{results_table(results)}\n\n{targets_table(targets)}\n")
        print("CPU time of all threads; pareto and the tables use one. A case of several draws: medians over them.")
        print(
            "milp and OR-Tools stop by the wall clock, so other work on this machine takes from what they can prove; "
            f"load average now {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs."
        )
        if not has_ortools:
            print("OR-Tools is not installed and was left out: pip install ortools")
        versions = {name: version(name) for name in ("numpy", "scipy", *(["ortools"] if has_ortools else []))}
        report = {
            "created_utc": utc_now(),
            "python": platform.python_version(),
            **versions,
            "machine": platform.machine(),
            "n_cpu": os.cpu_count(),
            "load_avg_1min": os.getloadavg()[0],
            "seed": args.seed,
            "is_quick": args.quick,
            "limit_sec": QUICK_LIMIT_SEC if args.quick else LIMIT_SEC,
            "plain_cell_limit": PLAIN_CELL_LIMIT,
            "targets": [asdict(target) for target in targets],
            "results": [asdict(result) for result in results],
        }
        write_json_atomically(args.out, report)
        print(f"written: {args.out.resolve()} after {time.monotonic() - start:.0f} s")
        return 0

    return run_command(work)
