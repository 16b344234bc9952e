"""`dp_budget_planner`: which runs to do with the time, energy, money or CO2 there is, by an exact 0/1 knapsack."""

from __future__ import annotations

import argparse
import functools
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from epochcast.cli import print_home, print_notes, run_command
from epochcast.machine.gpu_driver import refusal_notes
from epochcast.machine.packages import backend_words
from epochcast.output.text import json_line
from epochcast.paths import command_text
from epochcast.planner.output.text import excluded_json, front_json, front_lines, plan_lines
from epochcast.planner.request.flags import parse, request_of
from epochcast.planner.request.plan_budget import plan_budget
from epochcast.planner.request.request import Answer
from epochcast.storage.files import write_json_atomically, write_text_atomically


def _write(answer: Answer, as_json: Callable[[], dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Path]:
    """Write what the flags ask for, and return the files by the name of their flag; nothing else is imported."""
    written: dict[str, Path] = {}
    if arguments.out is not None:
        from epochcast.planner.plan.plan_file import is_begun, ledger_of

        if is_begun(ledger := ledger_of(arguments.out.absolute())):
            raise ValueError(f"{arguments.out}: this plan was begun ({ledger} exists). Write to another --out.")
        write_json_atomically(arguments.out, as_json())
        written["plan"] = arguments.out
    exports = {name: path for name in ("csv", "sh", "optuna") if (path := getattr(arguments, name)) is not None}
    if exports:
        from epochcast.planner.output.exports import optuna_trials, plan_csv, plan_sh

        texts: dict[str, Callable[[], str]] = {
            "csv": lambda: plan_csv(as_json()),
            "sh": lambda: plan_sh(as_json()),
            "optuna": lambda: json.dumps(optuna_trials(as_json()), indent=1) + "\n",
        }
        for name, path in exports.items():
            write_text_atomically(path, texts[name]())
            written[name] = path
    if arguments.plot is not None or arguments.front is not None:
        from epochcast.output.figures import save_figure_as
        from epochcast.planner.output.figures import front_figure, timeline
        from epochcast.planner.output.value_curve import value_curve

        if arguments.plot is not None:
            save_figure_as(timeline(answer.plan), arguments.plot)
            written["plot"] = arguments.plot
        if arguments.front is not None:
            curve = value_curve(answer, 2 * answer.plan.budget.amount)
            save_figure_as(front_figure(answer.plan, curve), arguments.front)
            written["front"] = arguments.front
    return written


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)

    def work() -> int:
        print_home()
        print_notes(refusal_notes())
        answer = plan_budget(request_of(arguments))
        as_json = functools.cache(answer.to_json)  # only where a flag asks for it
        written = _write(answer, as_json, arguments)
        if arguments.json:
            front = {} if arguments.front is None else {"front": front_json(answer)}
            print(json_line({**as_json(), "best_left_out": excluded_json(answer.plan), **front}))
            return 0
        print("\n".join(plan_lines(answer)))
        if arguments.front is not None:
            print("\n".join(front_lines(answer)))
        for name, path in written.items():
            print(f"{name}: {path.absolute()}")
        if arguments.out is not None:
            under = backend_words(answer.conditions.backend)
            print(f"next: {under}{command_text('run_plan')} {shlex.quote(str(arguments.out.absolute()))}")
        return 0

    return run_command(work)
