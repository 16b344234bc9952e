"""`epochcast evaluate`: how well the time model predicts configurations that it has not seen."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from epochcast.aggregate.averages.condition_sets import one_set_of_conditions
from epochcast.aggregate.averages.table import load_agg
from epochcast.cli import add_json_flag, add_table_flags, make_parser, path_flag, print_home, print_notes, run_command
from epochcast.collect.grid.config_lists import read_configs
from epochcast.flag_types import path_of, repeats_int, seed_int
from epochcast.model.evaluation.evaluation import evaluate
from epochcast.model.evaluation.report_text import report_text
from epochcast.model.training.cross_validation import REPEATS
from epochcast.model.training.recipes import PHYSICS_ANN, REFERENCE_ANN
from epochcast.output.progress import progress
from epochcast.output.text import json_line
from epochcast.paths import home


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast evaluate",
        "How well the time model predicts configurations it has not seen, beside plain baselines.",
        "epochcast evaluate --runs_agg results/runs_agg.csv --repeats 5",
    )
    add_table_flags(parser)
    parser.add_argument("--unseen", type=path_of, metavar="CSV", help="configurations to keep from all fitting")
    parser.add_argument("--recipe", choices=(PHYSICS_ANN, REFERENCE_ANN), default=PHYSICS_ANN, help="as of train")
    parser.add_argument("--repeats", type=repeats_int, default=REPEATS, help="repeats of the 5-fold split")
    parser.add_argument("--seed", type=seed_int, default=0, help="of the splits and the first weights")
    path_flag(parser, "--out", lambda: home() / "results" / "evaluation", "folder for report and figures")
    add_json_flag(parser, "print the report as one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        print_home()
        table = load_agg(arguments.runs_agg, arguments.frozen)
        chosen = one_set_of_conditions(table.rows, [arguments.conditions], table.source)
        print_notes(chosen.notes)
        rows = chosen.rows
        unseen = read_configs(arguments.unseen) if arguments.unseen else []
        report, paths = evaluate(
            rows, unseen, arguments.out, arguments.repeats, arguments.seed, str(table.path), arguments.recipe, progress
        )
        if arguments.json:
            origin = {"table": str(table.path), "table_origin": table.origin, **chosen.to_json()}
            print(json_line({**origin, **report.to_json()}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        print(f"conditions: {rows[0].conditions.describe()}")
        print(report_text(report))
        for path in paths:
            print(f"file: {path}")
        return 0

    return run_command(work)
