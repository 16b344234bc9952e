"""Carry a plan out within its budget: run after run, each in a process of its own, with a ledger beside the plan.

Stopped by Ctrl-C, a kill or a power cut, the same command goes on where it was; only time really used counts. A run
that would break the budget is not started. With --replan the rest is planned again after every run, by what the runs so
far took: one factor each for overhead, first epoch and steady time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from epochcast.cli import add_json_flag, make_parser, path_flag, print_home, run_command
from epochcast.collect.grid.memory_guard import add_memory_flags
from epochcast.collect.run.flags import add_sharing_flags, output_printer, sharing_of
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.flag_types import path_of
from epochcast.guard import EXIT_FAILED, EXIT_INTERRUPTED
from epochcast.output.text import json_line
from epochcast.paths import logs_dir, runs_csv
from epochcast.planner.execution.carry_out import carry_out, expect, refuse_another_box
from epochcast.planner.execution.result import dry_json, dry_lines, result_json, result_lines
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.schema import Conditions


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast run_plan", __doc__ or "", "epochcast run_plan results/plans/hour.json --replan --hard"
    )
    parser.add_argument("plan", type=path_of, metavar="PLAN", help="what dp_budget_planner --out wrote")
    parser.add_argument("--replan", action="store_true", help="choose the rest again after every run")
    parser.add_argument("--hard", action="store_true", help="end a run that still goes on when the budget is used up")
    parser.add_argument("--dry_run", action="store_true", help="say what would be run")
    parser.add_argument(
        "--any_conditions", action="store_true", help="run a plan that was made for another device, backend, ..."
    )
    parser.add_argument(
        "--data_dir",
        type=path_of,
        metavar="PATH",
        help="where the images are, as for epochcast run; $EPOCHCAST_DATA_DIR",
    )
    path_flag(parser, "--runs", runs_csv, "table to append to")
    path_flag(parser, "--log_dir", logs_dir, "folder for the log and JSON of each run")
    add_memory_flags(parser, "refused")
    add_sharing_flags(parser)
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        plan = read_plan(arguments.plan)
        if arguments.dry_run:
            told = (plan, *expect(plan, arguments.runs))
            print(json_line(dry_json(*told)) if arguments.json else "\n".join(dry_lines(*told)))
            if arguments.replan and not arguments.json:
                print("--replan may choose others after the first run")
            return 0
        if arguments.any_conditions:
            plan = replace(plan, conditions=Conditions())
        refuse_another_box(plan)
        if arguments.data_dir is not None:
            plan = plan.with_images_in(arguments.data_dir)
        result = carry_out(
            plan,
            RunPlace(arguments.runs, arguments.log_dir, sharing=sharing_of(arguments)),
            Listener(
                lambda line: print(line, file=sys.stderr if arguments.json else sys.stdout, flush=True),
                output=output_printer(),
            ),
            replans=arguments.replan,
            is_hard=arguments.hard,
            device_memory_bytes=arguments.device_memory,
            ignores_memory=arguments.ignore_memory,
        )
        print(json_line(result_json(result)) if arguments.json else "\n".join(result_lines(result)))
        if result.taken.was_interrupted:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if result.has_failures else 0

    return run_command(work, outlives_readers=not arguments.dry_run)
