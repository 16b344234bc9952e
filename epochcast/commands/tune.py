"""`epochcast tune`: which settings make the training in a user's own script fastest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from epochcast.cli import add_json_flag, make_parser, print_notes, run_command
from epochcast.flag_types import choice_list, int_list, positive_float
from epochcast.live.scripts.flags import add_script_flags, begin_note, script_of
from epochcast.live.scripts.tuned import tuned
from epochcast.live.scripts.works import Request
from epochcast.live.tuning.settings import INPUTS, NAMES
from epochcast.live.tuning.text import candidate_lines, tuned_lines, tuned_notes
from epochcast.output.text import json_line
from epochcast.schema import PRECISIONS

DEFAULT_BUDGET_SEC = 120.0
ON_OFF = ("on", "off")


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast tune",
        "Which settings make the training in your own script fastest. The script runs as it is until it calls `fit`,\n"
        "whose own model, data and options are then trained with one setting after another; the process ends with the\n"
        "answer. Whatever the script does before its fit (files, downloads, trackers) is done for real.",
        "epochcast tune --budget_sec 120 train.py",
    )
    add_script_flags(parser, "tune")
    parser.add_argument(
        "--budget_sec",
        type=positive_float,
        default=DEFAULT_BUDGET_SEC,
        metavar="SEC",
        help="seconds to measure for; building and compiling come on top, at most about twice as long",
    )
    tried = parser.add_argument_group("values to try besides the script's own, one or several")
    tried.add_argument(
        "--jit_compile",
        type=choice_list(ON_OFF),
        metavar="LIST",
        help="XLA, on PyTorch torch.compile: on,off (default: both)",
    )
    tried.add_argument(
        "--steps_per_execution", type=int_list, metavar="LIST", help="steps of one call (default: 1,4,16)"
    )
    tried.add_argument(
        "--precision",
        type=choice_list(PRECISIONS),
        metavar="LIST",
        help=f"{', '.join(PRECISIONS)}; the script runs once more for each (default: those that the GPU is faster in)",
    )
    tried.add_argument(
        "--input",
        type=choice_list(INPUTS),
        metavar="LIST",
        help=f"forms of the data: {', '.join(INPUTS)} (default: all that these data have)",
    )
    tried.add_argument(
        "--batch_size", type=int_list, metavar="LIST", help="samples of a step (default: the script's own only)"
    )
    tried.add_argument(
        "--keep_result",
        action="store_true",
        help="only what leaves the training's result as it is, but for rounding and the order of samples",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print all settings, too")
    add_json_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> int:
        script, function = script_of(parser, arguments)
        wanted = {name: values for name in NAMES if (values := getattr(arguments, name)) is not None}
        request = Request(
            script,
            tuple(arguments.arguments),
            function,
            arguments.fit,
            arguments.budget_sec,
            work="tune",
            wanted=wanted,
            keep_result=arguments.keep_result,
        )
        print_notes([begin_note(request)])
        caught, found = tuned(request, arguments.script_sec, lambda note: print_notes([note]))
        if arguments.json:
            print(json_line({"caught": caught, **found.to_json()}))
            return 0
        for line in [*tuned_lines(found), *(candidate_lines(found) if arguments.verbose else ())]:
            print(line)
        print_notes(tuned_notes(found))
        return 0

    return run_command(work)
