"""Append the rows of finished runs that could not be appended: a full disk, a kill between measuring and writing."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.cli import make_parser, path_flag, print_home, run_command
from epochcast.collect.records.recovery import recover
from epochcast.flag_types import path_of
from epochcast.guard import EXIT_FAILED, EXIT_OK
from epochcast.paths import logs_dir, runs_csv


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("epochcast recover", __doc__ or "", "epochcast recover --runs results/runs.csv --log_dir logs")
    parser.add_argument(
        "--runs", type=path_of, metavar="PATH", help="table to append to (default: results/runs.csv of this box)"
    )
    path_flag(parser, "--log_dir", logs_dir, "folder that holds <run_id>.json of each finished run")
    parser.add_argument(
        "--log",
        type=path_of,
        action="append",
        default=[],
        metavar="FILE",
        help="also take the LOGGED and FAILED lines of this file of captured output (may be repeated)",
    )
    arguments = parser.parse_args(argv)
    if arguments.log and arguments.runs is None:
        parser.error("--log needs --runs: the table that its rows are for")
    runs = arguments.runs or runs_csv()

    def work() -> int:
        print_home()
        found = recover(runs, arguments.log_dir, takes_orphans=True, logs=arguments.log)
        for record in found.appended:
            print(f"appended: {record.run_id} {record.config}")
        for failure in found.failures:
            print(f"noted: {failure.run_id} {failure.status}")
        for problem in found.unreadable:
            print(f"skipped: {problem}")
        print(f"rows_appended: {len(found.appended)}")
        print(f"rows_of_other_tables: {found.n_elsewhere}")
        print(f"runs: {runs.absolute()}")
        # what was named for recovering, and could not be used, is no success
        return EXIT_FAILED if arguments.log and found.unreadable else EXIT_OK

    return run_command(work)
