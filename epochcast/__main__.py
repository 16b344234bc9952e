"""The one door: `epochcast <sub-command>`, and the two commands that have names of their own.

A sub-command's module is imported only when it is called, after the folder that holds our stages has been put first on
the import path: a user's own `model.py` or `collect/` in the working directory is not mistaken for ours. Everything but
the start of Python happens inside `epochcast.guard`: whatever goes wrong is one sentence and an exit code.
"""

from __future__ import annotations

import gc
import os
import sys

if __name__ == "__main__" and not __package__:  # run by path
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120

from epochcast import STAGES
from epochcast.guard import guarded, interruptible, own_process, say

TYPE_CHECKING = False  # of `typing`, which takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = {  # name: (module, what a user does with it)
    "demo": ("epochcast.planner.demo", "measure a small grid on this box, learn from it, predict and plan (make run)"),
    "run": ("epochcast.collect.run_one", "measure one training run"),
    "grid": ("epochcast.collect.run_grid", "measure a grid of runs, resuming where it was stopped"),
    "recover": ("epochcast.collect.recover", "append finished runs that could not be appended"),
    "doctor": ("epochcast.collect.doctor", "whether this box is fit to measure, and what to do where it is not"),
    "estimate": ("epochcast.commands.estimate", "how long the training in your own script will take"),
    "tune": ("epochcast.commands.tune", "which settings make the training in your own script fastest"),
    "facts": ("epochcast.commands.facts", "GPUs, prices and carbon that estimates rest on, with their sources"),
    "mlperf": ("epochcast.commands.mlperf", "published MLPerf Training results: their logs as a table of runs"),
    "check": ("epochcast.aggregate.check", "check a table of runs by named rules"),
    "aggregate": ("epochcast.aggregate.aggregate_runs", "average the repeats of each configuration"),
    "compare": (
        "epochcast.aggregate.compare",
        "is it faster? two machines, or two conditions, configuration by configuration",
    ),
    "merge": ("epochcast.aggregate.merge", "join tables of runs into a new one"),
    "migrate": ("epochcast.aggregate.migrate", "lift a table of an older schema to the present one"),
    "figures": ("epochcast.aggregate.figures", "draw what was measured"),
    "train": ("epochcast.model.train", "learn seconds per epoch from the averages"),
    "evaluate": ("epochcast.model.evaluate", "how well unseen configurations are predicted"),
    "next_runs": ("epochcast.model.next_runs", "which configurations to measure next"),
    "predict": ("epochcast.model.predict_perf", "predict seconds per epoch (= predict_perf)"),
    "explain": ("epochcast.model.explain", "where an epoch's time goes, layer by layer, and which roof binds"),
    "plan": ("epochcast.planner.dp_budget_planner", "choose runs within a time budget (= dp_budget_planner)"),
    "run_plan": ("epochcast.planner.run_plan", "carry a plan out within its budget; resumes"),
}


def _main_of(module: str) -> Callable[..., int]:
    """The `main` of a module of ours, whatever the working directory holds."""
    from importlib import import_module

    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # before any import
    if sys.path[:1] != [ours]:
        sys.path.insert(0, ours)
    if module not in sys.modules:
        has_collector = gc.isenabled()
        gc.disable()  # an import leaves no garbage; looking for it, here and at the end, takes a fifth of a prediction
        try:
            import_module(module)
        finally:
            gc.freeze()
            if has_collector:
                gc.enable()
    found: Callable[..., int] = sys.modules[module].main
    return found


def predict_perf() -> int:
    """Entry point of the command `predict_perf`."""
    return own_process(lambda: _main_of("epochcast.model.predict_perf")())


def dp_budget_planner() -> int:
    """Entry point of the command `dp_budget_planner`."""
    return own_process(lambda: _main_of("epochcast.planner.dp_budget_planner")())


def run_by_path(script: str) -> int:
    """Entry point of a script that is run by its path, given as `__file__`: the module of that file, as imported."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    parts = os.path.relpath(os.path.splitext(os.path.realpath(script))[0], root).split(os.sep)  # noqa: PTH122, PTH206
    module = ".".join(["epochcast", *parts] if parts[0] in STAGES else parts)
    return own_process(lambda: interruptible(_main_of(module)))


def help_text() -> str:
    """The map of the product: every sub-command in a line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: epochcast <command> [flags]",
            "",
            "How long will this training take on my GPU, and which runs fit into the hours I have?",
            "",
            "commands, in the order that data flows:",
            *lines,
            "",
            "`epochcast <command> --help` shows a command's flags, units, defaults and an example.",
            "Files go below $EPOCHCAST_HOME, else the checkout, else the working directory.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; without `argv` that of this process, whose streams and Ctrl-C are then looked after too."""
    if argv is None:
        return own_process(lambda: _dispatch(sys.argv[1:]))
    return guarded(lambda: _dispatch(list(argv)))


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from epochcast import __version__

        print(f"epochcast {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        say(f"error: no command {arguments[0][:60]!r}; use one of {', '.join(COMMANDS)}.")
        return 2
    return _main_of(COMMANDS[arguments[0]][0])(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
