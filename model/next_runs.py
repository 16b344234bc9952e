"""`epochcast next_runs`: the configurations to measure next, in a file that `collect/run_grid.py --configs` takes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from epochcast.aggregate.averages.condition_sets import ChosenSet, one_set_of_conditions
from epochcast.aggregate.averages.table import load_agg_if_any
from epochcast.cli import (
    add_config_flags,
    add_json_flag,
    add_table_flags,
    config_lists,
    configs_of,
    make_parser,
    path_flag,
    print_home,
    print_notes,
    run_command,
)
from epochcast.collect.grid.wall_estimate import WallEstimate
from epochcast.flag_types import path_of, positive_int
from epochcast.machine.gpu_driver import refusal_notes
from epochcast.model.selection.experimental_design import D_OPTIMAL_RUNS
from epochcast.model.selection.next_runs import MAX_CANDIDATES, configs_csv, next_runs_lines, plan_next
from epochcast.model.time_model.intervals import MIN_ERRORS
from epochcast.output.text import json_line
from epochcast.paths import home, runs_csv
from epochcast.schema import DEFAULT_GRID, EXAMPLE_LISTS, RunRecord
from epochcast.storage.files import write_text_atomically
from epochcast.storage.tables import read_table_if_any

DEFAULT_RUNS = max(D_OPTIMAL_RUNS, MIN_ERRORS)  # enough for a law, and for a range about what it predicts


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast next_runs",
        "Which configurations to measure next, for the largest gain in knowledge per second of measuring.\n\n"
        "From nothing, seven runs are enough for a first model, and nine for one that knows its range. What is\n"
        "measured already is taken into account.",
        f"epochcast next_runs {EXAMPLE_LISTS} --n 9",
    )
    lists = {name: list(values) for name, values in DEFAULT_GRID.items()}
    add_config_flags(parser, as_lists=lists, defaults=lists, texts=dict.fromkeys(lists, "of the candidates"))
    parser.add_argument("--n", type=positive_int, default=DEFAULT_RUNS, help="how many to name")
    parser.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        help="exactly N epochs each, the untimed first included (default: until the steady time is known)",
    )
    parser.add_argument(
        "--model",
        type=path_of,
        metavar="PATH",
        help="a .keras model whose times guide the first choice; default: chosen",
    )
    add_table_flags(parser, is_optional=True)
    path_flag(parser, "--out", lambda: home() / "results" / "next_runs.csv", "file for run_grid --configs")
    add_json_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.epochs is not None and arguments.epochs < 2:
        parser.error("--epochs must be at least 2: the first is untimed")
    if (n_grid := math.prod(map(len, config_lists(arguments)))) > MAX_CANDIDATES:
        parser.error(f"{n_grid:,} candidates: at most {MAX_CANDIDATES:,} are taken. Shorten a list.")

    def work() -> int:
        print_home()
        print_notes(refusal_notes())
        table = load_agg_if_any(arguments.runs_agg, arguments.frozen)
        chosen = ChosenSet([])
        if table is not None:
            chosen = one_set_of_conditions(table.rows, [arguments.conditions], table.source)
        print_notes(chosen.notes)
        grid = configs_of(arguments)
        estimate = WallEstimate(read_table_if_any(runs_csv(), RunRecord))  # as `grid` without --runs does
        found = plan_next(chosen.rows, grid, arguments.n, arguments.epochs, arguments.model, estimate)
        write_text_atomically(arguments.out, configs_csv(found.runs, found.epochs, found.conditions))
        out = arguments.out.absolute()
        if arguments.json:
            print(json_line({**found.to_json(), **chosen.to_json(), "out": str(out)}))
            return 0
        print("\n".join(next_runs_lines(found, None if table is None else table.path, arguments.n, out)))
        return 0

    return run_command(work)
