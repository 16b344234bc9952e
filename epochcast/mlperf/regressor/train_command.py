"""`epochcast mlperf train`: its flags, and what it answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from epochcast.cli import add_json_flag, path_flag
from epochcast.flag_types import path_of, seed_int
from epochcast.mlperf.records import read_records
from epochcast.mlperf.regressor.entries import Medians, entry_medians
from epochcast.mlperf.regressor.regressor import TimeRegressor, fit_regressor
from epochcast.mlperf.regressor.stored import save_regressor
from epochcast.output.text import json_line, percent, table_text
from epochcast.paths import models_dir

WHAT = (
    "Learn the times of published trainings from a table of runs: the medians of its entries, and the numbers fitted\n"
    "to them."
)
EXAMPLE = "epochcast mlperf train records.csv --out results/models/mlperf"


def default_folder() -> Path:
    """Return the folder of the regressor that a user fits."""
    return models_dir() / "mlperf"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `epochcast mlperf train`."""
    parser.add_argument("records", type=path_of, metavar="RECORDS", help="table of runs, by epochcast mlperf extract")
    path_flag(parser, "--out", default_folder, "folder to write entries.csv and fitted.json to")
    add_seed_flag(parser)
    add_json_flag(parser)


def add_seed_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=seed_int, default=0, help="of random draws of entries and runs")


def answer(arguments: argparse.Namespace) -> str:
    """Fit and write the regressor that is asked for, and return what it was fitted to."""
    medians = entry_medians(read_records(arguments.records))
    regressor = fit_regressor(medians.entries, arguments.seed)
    save_regressor(arguments.out, regressor)
    if arguments.json:
        return json_line(
            {
                "out": str(arguments.out),
                "entries": len(medians.entries),
                "runs": sum(each.runs for each in medians.entries),
                "excluded": medians.excluded,
                "rounds": regressor.rounds,
                "benchmark_errors": regressor.fitted.errors,
                "range_factors": regressor.fitted.range_factors,
                "variances": regressor.fitted.variances,
            }
        )
    return fit_text(medians, regressor, arguments.out)


def fit_text(medians: Medians, regressor: TimeRegressor, out: Path) -> str:
    """Return what was learned from, with the error of each benchmark."""
    n_runs = sum(each.runs for each in medians.entries)
    rows = [
        [name, sum(each.benchmark == name for each in medians.entries), percent(error)]
        for name, error in sorted(regressor.fitted.errors.items())
    ]
    return "\n".join(
        [
            f"{len(medians.entries):,} entries ({n_runs:,} runs) of rounds {', '.join(regressor.rounds)} in {out}",
            *(f"  {n:,} runs excluded: {reason}" for reason, n in medians.excluded.items()),
            "",
            table_text(("benchmark", "entries", "median error"), rows),
            "",
            "Errors are of entries that were each predicted from all others. For more: epochcast mlperf evaluate",
        ]
    )
