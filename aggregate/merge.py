"""Join several tables of runs into a new one."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.aggregate.merging.tables import merge, report_json, report_lines
from epochcast.cli import add_json_flag, make_parser, print_home, run_command
from epochcast.flag_types import path_of
from epochcast.output.text import json_line


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast merge",
        "Join tables of runs, with their failures.csv and excluded.csv, into a new one. Nothing is overwritten.",
        "epochcast merge results/cpu/tensorflow/runs.csv results/cpu_repeats/runs.csv --out results/both/runs.csv",
    )
    parser.add_argument("tables", nargs="+", type=path_of, metavar="TABLE", help="two or more tables of runs")
    parser.add_argument("--out", type=path_of, required=True, metavar="PATH", help="table to make; must not exist")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if len(arguments.tables) < 2:
        parser.error(f"expected two tables or more, got {len(arguments.tables)}")

    def work() -> int:
        print_home()
        result = merge(arguments.tables, arguments.out)
        print(json_line(report_json(result)) if arguments.json else "\n".join(report_lines(result)))
        return 0

    return run_command(work)
