"""Compare two tables of runs, or two conditions within one, configuration by configuration."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.aggregate.comparison.comparison import compare
from epochcast.aggregate.comparison.sides import make_side
from epochcast.aggregate.comparison.text import comparison_json, comparison_lines
from epochcast.cli import (
    add_conditions_flag,
    add_filter_flag,
    add_json_flag,
    add_plot_flag,
    make_parser,
    print_home,
    run_command,
)
from epochcast.flag_types import path_of
from epochcast.output.text import json_line
from epochcast.paths import runs_csv
from epochcast.storage.tables import read_runs


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast compare",
        "Compare two tables of runs, or two conditions within one: ratio b / a of the steady seconds per epoch for "
        "each configuration measured on both sides. What the spread between runs does not support is not named.",
        "epochcast compare results/cpu/tensorflow/runs.csv results/cpu/jax/runs.csv --plot compare.png",
    )
    parser.add_argument("tables", nargs="*", type=path_of, metavar="A.csv B.csv", help="two tables of runs")
    parser.add_argument(
        "--runs", type=path_of, metavar="PATH", help="one table, of which --a and --b choose; default: results/runs.csv"
    )
    for name in ("a", "b"):
        what = f"what side {name} is, e.g. pipeline=arrays, or grid_id=...; any column"
        add_filter_flag(parser, f"--{name}", what)
    add_conditions_flag(parser)
    parser.add_argument("--all", action="store_true", help="print every configuration, not only the first ones")
    add_plot_flag(parser, "the ratios")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if arguments.tables and (arguments.runs or len(arguments.tables) != 2):
        parser.error(f"expected two tables A.csv B.csv, or --runs with --a and --b, got {len(arguments.tables)} tables")
    if not arguments.tables and not (arguments.a and arguments.b):
        parser.error("which two? Name two tables A.csv B.csv, or the sides of one by --a and --b")

    def work() -> int:
        print_home()
        path_a, path_b = arguments.tables or [arguments.runs or runs_csv()] * 2
        table_a = read_runs(path_a)
        table_b = table_a if path_b == path_a else read_runs(path_b)
        result = compare(
            make_side("a", table_a, [arguments.a, [arguments.conditions]]),
            make_side("b", table_b, [arguments.b, [arguments.conditions]]),
        )
        if arguments.plot:
            from epochcast.aggregate.comparison.figure import draw_comparison

            draw_comparison(result, arguments.plot)
        if arguments.json:
            print(json_line(comparison_json(result)))
            return 0
        print("\n".join(comparison_lines(result, shows_all=arguments.all)))
        if arguments.plot:
            print(f"figure: {arguments.plot.absolute()}")
        return 0

    return run_command(work)
