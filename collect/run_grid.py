"""Measure a grid of runs, one process per run, in a seeded random order, so that drift does not line up with a flag.

A grid that was stopped goes on where it was: finished runs are not measured again, nor those that ran out of memory or
crashed; runs that were killed, interrupted or timed out are. A run that something disturbed, as its row's flags say,
is measured once more at the end where what disturbed it may be gone, and both rows stay. Ctrl-C ends it cleanly.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door, at once
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import argparse
import itertools
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from epochcast.cli import add_config_flags, make_parser, print_home, run_command
from epochcast.collect.grid.config_lists import MAX_CONFIGURATIONS, read_specs
from epochcast.collect.grid.grid_loop import GridOptions, Limits, run_grid
from epochcast.collect.grid.memory_guard import add_memory_flags
from epochcast.collect.grid.specs import grid_runs
from epochcast.collect.run.flags import DEFAULT, HELP, add_data_flags, make_spec, output_printer, place_of
from epochcast.collect.run.listener import Listener
from epochcast.error_text import describe_error
from epochcast.flag_types import choice_list, duration_sec, path_of, positive_sec, repeats_int, seed_int
from epochcast.guard import EXIT_FAILED, EXIT_INTERRUPTED
from epochcast.paths import command_text, excluded_csv
from epochcast.schema import AXES, AXIS_NAMES, SPEC_CHOICES, Exclusion, RunSpec
from epochcast.storage.tables import read_table_if_any

LIST_FLAGS = (*AXIS_NAMES, "pipeline", "precision", "jit_compile", "seed")
MAX_RUNS = 100_000  # years of measuring: more is a slip of the pen


def _seed_list(text: str) -> list[int]:
    return [seed_int(part) for part in text.split(",")]


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[RunSpec]]:
    parser = make_parser(
        "epochcast grid",
        __doc__ or "",
        f"{command_text('grid')} --depth 2:3 --base_filters 16,32 --batch_size 64:512:x2 --repeats 2",
    )
    add_config_flags(
        parser, as_lists=AXIS_NAMES, texts={axis.name: f"{axis.what}, e.g. {axis.example}" for axis in AXES}
    )
    for name in ("pipeline", "precision", "jit_compile"):
        text = f"{HELP[name]}; one or several of {', '.join(SPEC_CHOICES[name])}"
        kind = choice_list(SPEC_CHOICES[name])
        parser.add_argument(f"--{name}", type=kind, default=[getattr(DEFAULT, name)], help=text)
    text = "of weights and shuffling, e.g. 1,2,3"
    parser.add_argument("--seed", type=_seed_list, default=[DEFAULT.seed], metavar="LIST", help=text)
    add_data_flags(parser)
    parser.add_argument(
        "--configs", type=path_of, metavar="PATH", help="CSV or JSON of configurations, instead of the lists"
    )
    parser.add_argument("--repeats", type=repeats_int, default=1, help="runs of each configuration")
    parser.add_argument("--order_seed", type=seed_int, default=0, help="seed of the random order")
    parser.add_argument("--timeout_sec", type=positive_sec, help="a run that takes longer is ended; default: none is")
    flagged = parser.add_mutually_exclusive_group()
    flagged.add_argument(
        "--keep_flagged", action="store_true", help="do not measure flagged runs once more (both rows would stay)"
    )
    flagged.add_argument(
        "--again",
        action="store_true",
        help="measure every flagged run once more; default: at most half of the grid, and only where it may help",
    )
    parser.add_argument(
        "--stop_after", type=duration_sec, metavar="TIME", help="begin no run after this time, e.g. 25m or 2h30m"
    )
    add_memory_flags(parser, "left out")
    parser.add_argument("--retry", action="store_true", help="measure crashed runs once more too, e.g. after a repair")
    parser.add_argument("--dry_run", action="store_true", help="say what would be measured and how long it takes")
    arguments = parser.parse_args(argv)
    values = vars(arguments)
    try:
        if arguments.configs is not None:
            lists_given = [name for name in LIST_FLAGS if values[name] != [getattr(DEFAULT, name)]]
            if several := [name for name in lists_given if len(values[name]) > 1 or name in AXIS_NAMES]:
                parser.error(f"--configs names the configurations: leave out --{', --'.join(several)}")
            first = {name: values[name][0] for name in LIST_FLAGS}
            specs = read_specs(arguments.configs, make_spec(values | first))
            return arguments, _bounded(parser, specs, arguments.repeats)
        lists = [values[name] for name in LIST_FLAGS]
        if (n := math.prod(map(len, lists))) > MAX_CONFIGURATIONS:
            parser.error(f"a grid of {n:,} configurations: at most {MAX_CONFIGURATIONS:,} are taken. Shorten a list.")
        combinations = itertools.product(*lists)
        specs = [make_spec(values | dict(zip(LIST_FLAGS, c, strict=True))) for c in combinations]
        return arguments, _bounded(parser, specs, arguments.repeats)
    except FileNotFoundError as error:
        parser.error(f"{describe_error(error)} {_how_to_make(arguments.configs)}")
    except (ValueError, OSError) as error:
        parser.error(describe_error(error))


def _how_to_make(configs: Path) -> str:
    """The command that writes a list of configurations, to this path where it can."""
    out = f" --out {shlex.quote(str(configs.absolute()))}" if configs.suffix == ".csv" else ""
    return f"Make one: {command_text('next_runs')}{out}"


def _bounded(parser: argparse.ArgumentParser, specs: list[RunSpec], repeats: int) -> list[RunSpec]:
    """The specs, unless they are more runs than anybody waits for."""
    if (n := len(specs) * repeats) > MAX_RUNS:
        parser.error(f"{n:,} runs: at most {MAX_RUNS:,} are taken. Lower --repeats, or name fewer configurations.")
    return specs


def main(argv: Sequence[str] | None = None) -> int:
    arguments, specs = _parse(argv)

    def work() -> int:
        print_home()
        exclusions = excluded_csv(arguments.runs)
        excluded = {e.run_id: e for e in read_table_if_any(exclusions, Exclusion)}
        options = GridOptions(
            order_seed=arguments.order_seed,
            limits=Limits(arguments.timeout_sec, math.inf if arguments.stop_after is None else arguments.stop_after),
            repeats_flagged=not arguments.keep_flagged,
            forces_again=arguments.again,
            retries_crashed=arguments.retry,
            device_memory_bytes=arguments.device_memory,
            ignores_memory=arguments.ignore_memory,
            is_dry=arguments.dry_run,
        )
        planned = grid_runs(specs, arguments.repeats, excluded)
        listener = Listener(report=lambda line: print(line, flush=True), output=output_printer())
        result = run_grid(planned, place_of(arguments), options, listener)
        if result.was_interrupted:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if result.failures or result.n_failed_before else 0

    return run_command(work, outlives_readers=not arguments.dry_run)
