"""Errors of the time model on the reference A100 table, as README shows them: python benchmarks/bench_accuracy.py

5 x 5-fold cross-validation by configuration beside the baselines; the five configurations of a100_held_out.csv are kept
from all fitting. Writes report, predictions and figures to results/benchmarks/accuracy/.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from aggregate.runs_agg import aggregate
from epochcast.cli import run_command
from epochcast.paths import home, pretrained_dir, reference_data
from epochcast.tables import read_runs
from model.cross_validation import read_config_list
from model.evaluate import evaluate


def main() -> int:
    def work() -> int:
        runs = reference_data() / "a100" / "runs.csv"
        held_out = read_config_list(pretrained_dir() / "a100_held_out.csv")
        out = home() / "results" / "benchmarks" / "accuracy"
        evaluate(aggregate(read_runs(runs)).rows, held_out, out, table="the reference A100 runs")
        print((out / "report.txt").read_text(encoding="utf-8"))
        print(f"written: {out}")
        return 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
