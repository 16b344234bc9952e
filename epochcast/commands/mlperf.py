"""`epochcast mlperf <command>`: published results of MLPerf Training.

Each sub-command is a module with WHAT and EXAMPLE for its help, `add_flags` for its parser, and `answer`, which does
the work and returns the text to print. It is imported only when it is called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from epochcast.cli import make_parser, run_command


def _extract() -> ModuleType:
    from epochcast.mlperf.logs import command

    return command


def _train() -> ModuleType:
    from epochcast.mlperf.regressor import train_command

    return train_command


def _evaluate() -> ModuleType:
    from epochcast.mlperf.regressor import evaluate_command

    return evaluate_command


def _predict() -> ModuleType:
    from epochcast.mlperf.answers import command

    return command


SUBCOMMANDS: dict[str, tuple[Callable[[], ModuleType], str]] = {  # name: (its module, what a user does with it)
    "extract": (_extract, "read result logs into a table of runs"),
    "predict": (_predict, "answer a question: time, range, nearest entries"),
    "train": (_train, "learn the times of trainings from a table of runs"),
    "evaluate": (_evaluate, "judge the predicted times, on splits by what is known"),
}


def _choose(words: list[str]) -> str:
    """Return the sub-command that a command line names; argparse shows the help or refuses the rest."""
    if words and words[0] in SUBCOMMANDS:
        return words[0]
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (_, what) in SUBCOMMANDS.items()]
    parser = make_parser(
        "epochcast mlperf",
        "\n".join(["Published results of MLPerf Training. Commands:", *lines]),
        "epochcast mlperf extract --help",
    )
    parser.add_argument("command", choices=list(SUBCOMMANDS), metavar="command", help=", ".join(SUBCOMMANDS))
    chosen: str = parser.parse_args(words).command
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    name = _choose(words)
    command = SUBCOMMANDS[name][0]()
    parser = make_parser(f"epochcast mlperf {name}", command.WHAT, command.EXAMPLE)
    command.add_flags(parser)
    arguments = parser.parse_args(words[1:])

    def work() -> int:
        try:
            print(command.answer(arguments))
        except argparse.ArgumentTypeError as error:  # a wrong value, which only the work itself could see
            parser.error(str(error))
        return 0

    return run_command(work)
