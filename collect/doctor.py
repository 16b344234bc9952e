"""Say whether this box is fit to measure: device, neighbours, load, memory, disk, tables, data, versions.

Nothing is changed, downloaded or trained, and no framework is started unless --deep is given. Exit code 1 means that
measuring is impossible now, or would be untrue; warnings do not fail.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door, at once
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from collections.abc import Sequence
from dataclasses import asdict

from epochcast.cli import add_json_flag, make_parser, path_flag, print_home, run_command
from epochcast.collect.checks.examination import examine, screen
from epochcast.flag_types import path_of
from epochcast.guard import EXIT_FAILED, EXIT_OK
from epochcast.output.text import json_line
from epochcast.paths import logs_dir, runs_csv
from epochcast.schema import RunSpec


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("epochcast doctor", __doc__ or "", "epochcast doctor --device gpu:0 --deep")
    parser.add_argument(
        "--device", default=RunSpec().device, help="the device to measure: auto, cpu, gpu, gpu:N or a UUID"
    )
    parser.add_argument("--deep", action="store_true", help="also start the framework and have it list its devices")
    path_flag(parser, "--runs", runs_csv, "table that runs are appended to")
    path_flag(parser, "--log_dir", logs_dir, "folder for the logs of runs")
    parser.add_argument(
        "--data_dir", type=path_of, metavar="PATH", help="where CIFAR-10 lies (default: as a run looks for it)"
    )
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        RunSpec(device=arguments.device)  # refuses what is no device
        runs, log_dir = arguments.runs.absolute(), arguments.log_dir.absolute()
        checks, environment = examine(arguments.device, runs, log_dir, arguments.data_dir, arguments.deep)
        is_fit = all(check.status != "problem" for check in checks)
        if arguments.json:
            print(json_line({"is_fit": is_fit, "checks": [asdict(c) for c in checks], "environment": environment}))
        else:
            print("\n".join(screen(checks)))
        return EXIT_OK if is_fit else EXIT_FAILED

    return run_command(work)
