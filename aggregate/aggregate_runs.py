"""Average the repeats of each configuration, and keep the averages as runs_agg.csv."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.aggregate.averages.averaging import report_json, report_lines
from epochcast.aggregate.averages.source import write_agg
from epochcast.cli import add_json_flag, make_parser, path_flag, print_home, run_command
from epochcast.output.text import json_line
from epochcast.paths import runs_agg_csv, runs_csv


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast aggregate",
        "Average the repeats of each configuration: seconds per epoch, images per second, accuracy, with their spread.",
        "epochcast aggregate --runs results/runs.csv --out results/runs_agg.csv",
    )
    path_flag(parser, "--runs", runs_csv, "table of runs to read")
    path_flag(parser, "--out", runs_agg_csv, "table of averages to write")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        result = write_agg(arguments.runs, arguments.out)
        if arguments.json:
            print(json_line({**report_json(result), "out": str(arguments.out.absolute())}))
        else:
            print("\n".join([*report_lines(result), f"runs_agg: {arguments.out.absolute()}"]))
        return 0

    return run_command(work)
