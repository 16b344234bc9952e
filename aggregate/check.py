"""Check a table of runs, and the averages beside it, by named rules; every bad cell, not the first alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from epochcast.aggregate.checks.report import SHOWN, check_file, report_json, report_lines, rule_lines, rules_json
from epochcast.aggregate.checks.rules import ERROR
from epochcast.cli import add_json_flag, make_parser, path_flag, print_home, run_command
from epochcast.flag_types import path_of
from epochcast.guard import EXIT_FAILED, EXIT_OK
from epochcast.output.text import json_line
from epochcast.paths import runs_csv


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast check",
        "Check a table of runs, and the averages beside it, by named rules. Exit code 1 where there is an error.",
        "epochcast check results/cpu_repeats/runs.csv",
    )
    table = parser.add_mutually_exclusive_group()
    table.add_argument("table", nargs="?", type=path_of, metavar="RUNS", help="table of runs to check, as --runs")
    path_flag(table, "--runs", runs_csv, "table of runs to check")
    parser.add_argument(
        "--runs_agg",
        type=path_of,
        metavar="PATH",
        help="table of averages to compare with the runs; default: runs_agg.csv beside them, if there is one",
    )
    parser.add_argument("--all", action="store_true", help=f"show every finding, not the first {SHOWN} of each rule")
    parser.add_argument("--list", action="store_true", help="print the rules and stop")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    runs = arguments.table or arguments.runs
    if not arguments.list:
        for path in filter(None, (runs, arguments.runs_agg)):
            if not os.path.lexists(path):  # a pipe, a folder or a circle of links is refused when it is read
                parser.error(f"{path.absolute()}: no such table. Name one that exists.")

    def work() -> int:
        if arguments.list:
            print(json_line({"rules": rules_json()}) if arguments.json else "\n".join(rule_lines()))
            return EXIT_OK
        print_home()
        report = check_file(runs, arguments.runs_agg)
        if arguments.json:
            print(json_line({"runs": str(runs.absolute()), **report_json(report)}))
        else:
            print("\n".join(report_lines(report, None if arguments.all else SHOWN)))
        return EXIT_FAILED if report.count(ERROR) else EXIT_OK

    return run_command(work)
