"""Measure a grid of runs, one process per run, in a seeded random order, so that drift does not line up with a flag.

A grid that was stopped goes on where it was: finished runs are not measured again, nor those that ran out of memory or
crashed; runs that were killed, interrupted or timed out are. Ctrl-C ends it cleanly.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from collect.child import CHILD
from collect.estimate import WallEstimate
from collect.grid import PlannedRun, grid_name, grid_runs, read_configs
from collect.run_one import DEFAULT, HELP, add_data_flags, make_spec, output_printer
from collect.turns import Taken, Turn, make_ready, outcome_text, take_turns
from epochcast.cli import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    clock,
    int_list,
    make_parser,
    not_negative_int,
    positive_float,
    positive_int,
    print_home,
    run_command,
)
from epochcast.paths import excluded_csv, failures_csv
from epochcast.schema import REPEATED_STATUSES, SPEC_CHOICES, Exclusion, FailureRecord, RunRecord, RunSpec
from epochcast.tables import read_table

LIST_FLAGS = ("depth", "base_filters", "batch_size", "pipeline", "precision", "jit_compile", "seed")
MAX_CONFIGURATIONS = 10_000  # years of measuring: more is a slip of the pen
LIST_HELP = {
    "depth": "blocks of two convolutions and a pool, e.g. 2:5",
    "base_filters": "filters of the first block, e.g. 16,32,64",
    "batch_size": "images per step, e.g. 64:2048:x2",
    "seed": "of weights and shuffling, e.g. 1,2,3",
}


@dataclass(slots=True)
class GridResult(Taken):
    """What a grid did, and how many of its runs were measured before, or failed for good."""

    n_done_before: int = 0
    n_failed_before: int = 0


class _Shuffled:
    """The runs left to do, in random order, with the time that is left."""

    def __init__(
        self,
        waiting: Sequence[PlannedRun],
        estimate: WallEstimate,
        timeout_sec: float | None,
        say: Callable[[str], None],
    ) -> None:
        self._waiting, self._estimate, self._timeout_sec, self._say = waiting, estimate, timeout_sec, say
        self._number = 0

    def next_turn(self) -> Turn | None:
        if self._number == len(self._waiting):
            return None
        self._number += 1
        return Turn(self._waiting[self._number - 1], self._timeout_sec)

    def ended(self, planned: PlannedRun, outcome: RunRecord | FailureRecord) -> None:
        if isinstance(outcome, RunRecord):
            self._estimate.add(planned.spec, outcome.wall_sec or 0.0)
        left_sec = sum(self._estimate.expected_sec(later.spec) for later in self._waiting[self._number :])
        self._say(f"{self._place()} {outcome_text(outcome)}; {clock(left_sec)} left")

    def left_to_another(self, planned: PlannedRun) -> None:
        self._say(f"{self._place()} {planned.spec.config} is measured by another process: left to it")

    def _place(self) -> str:
        return f"[{self._number}/{len(self._waiting)}]"


def run_grid(
    planned: Sequence[PlannedRun],
    *,
    runs: Path,
    log_dir: Path,
    order_seed: int = 0,
    timeout_sec: float | None = None,
    is_dry: bool = False,
    retries_crashed: bool = False,
    child: Sequence[str] = CHILD,
    say: Callable[[str], None] = lambda line: None,
    on_output: Callable[[bytes], None] = lambda data: None,
) -> GridResult:
    """Measure what is not measured yet. `say` gets the lines a person should see.

    Raises:
        RunRefusedError: if a run can't be measured here as asked; the others would be refused as well.
        ValueError, OSError: if a table can't be read or appended to.
    """
    grid_id = grid_name(planned)
    if not is_dry:
        make_ready(runs, log_dir, say)
    rows = read_table(runs, RunRecord) if runs.exists() else []
    result = GridResult()
    repeated = {*REPEATED_STATUSES, "crash"} if retries_crashed else set(REPEATED_STATUSES)
    waiting = _left_to_do(planned, rows, failures_csv(runs), repeated, result)
    random.Random(order_seed).shuffle(waiting)
    estimate = WallEstimate(rows)
    say(_opening_line(grid_id, planned, waiting, estimate, result))
    if is_dry:
        return result
    start = time.monotonic()
    shuffled = _Shuffled(waiting, estimate, timeout_sec, say)
    take_turns(shuffled, result, runs=runs, log_dir=log_dir, grid_id=grid_id, child=child, on_output=on_output)
    say(_closing_line(result, waiting, time.monotonic() - start, runs))
    return result


def _left_to_do(
    planned: Sequence[PlannedRun],
    rows: Sequence[RunRecord],
    failures: Path,
    repeated: set[str],
    result: GridResult,
) -> list[PlannedRun]:
    """The runs without a row, less those that last ended in a way that is not repeated; counts them in `result`."""
    finished = {row.run_id for row in rows}
    last_status = {f.run_id: f.status for f in read_table(failures, FailureRecord)} if failures.exists() else {}
    waiting = []
    for item in planned:
        if item.run_id in finished:
            result.n_done_before += 1
        elif item.run_id in last_status and last_status[item.run_id] not in repeated:
            result.n_failed_before += 1
        else:
            waiting.append(item)
    return waiting


def _opening_line(
    grid_id: str,
    planned: Sequence[PlannedRun],
    waiting: Sequence[PlannedRun],
    estimate: WallEstimate,
    result: GridResult,
) -> str:
    left_out = []
    if result.n_done_before:
        left_out.append(f"{result.n_done_before} measured before")
    if result.n_failed_before:
        left_out.append(f"{result.n_failed_before} out of memory or crashed before")
    line = f"{grid_id}: {len(planned)} run{'s' if len(planned) > 1 else ''}" + (
        f" ({', '.join(left_out)})" if left_out else ""
    )
    if not waiting:
        return f"{line}, nothing left to measure"
    expected_sec = sum(estimate.expected_sec(item.spec) for item in waiting)
    until = datetime.now().astimezone() + timedelta(seconds=expected_sec)
    basis = f"scaled by {estimate.n_runs} runs of this box" if estimate.n_runs else "rough: nothing measured here yet"
    return f"{line}, {len(waiting)} to measure, about {clock(expected_sec)}, until {until:%Y-%m-%d %H:%M} ({basis})"


def _closing_line(result: GridResult, waiting: Sequence[PlannedRun], elapsed_sec: float, runs: Path) -> str:
    parts = [f"{len(result.measured)} of {len(waiting)} runs measured in {clock(elapsed_sec)}"]
    parts += [f"{n} {status}" for status, n in Counter(f.status for f in result.failures).items()]
    if result.n_elsewhere:
        parts.append(f"{result.n_elsewhere} left to another process")
    flagged = sum(bool(row.flags) for row in result.measured)
    parts.append(f"{flagged} flagged" if flagged else "none flagged")
    tables = f"rows in {runs.absolute()}"
    if result.failures:
        tables += f", failures in {failures_csv(runs).absolute()}"
    if result.was_interrupted:
        parts.append("interrupted: the same command goes on from here")
    return f"{', '.join(parts)}; {tables}"


def _choice_list(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        values = [part.strip() for part in text.split(",")]
        for value in values:
            if value not in choices:
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(choices)}, got {value!r}")
        return values

    return parse


def _seed_list(text: str) -> list[int]:
    return [not_negative_int(part) for part in text.split(",")]


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[RunSpec]]:
    parser = make_parser(
        "epochcast grid",
        __doc__ or "",
        "python collect/run_grid.py --depth 2:3 --base_filters 16,32 --batch_size 64:512:x2 --repeats 2",
    )
    for name in LIST_FLAGS:
        default = [getattr(DEFAULT, name)]
        if name in SPEC_CHOICES:
            text = f"{HELP[name]}; one or several of {', '.join(SPEC_CHOICES[name])}"
            parser.add_argument(f"--{name}", type=_choice_list(SPEC_CHOICES[name]), default=default, help=text)
        else:
            kind = _seed_list if name == "seed" else int_list
            parser.add_argument(f"--{name}", type=kind, default=default, metavar="LIST", help=LIST_HELP[name])
    add_data_flags(parser)
    parser.add_argument(
        "--configs", type=Path, metavar="PATH", help="CSV or JSON of configurations, instead of the lists"
    )
    parser.add_argument("--repeats", type=positive_int, default=1, help="runs of each configuration")
    parser.add_argument("--order_seed", type=not_negative_int, default=0, help="seed of the random order")
    parser.add_argument("--timeout_sec", type=positive_float, help="a run that takes longer is ended; default: none is")
    parser.add_argument("--retry", action="store_true", help="measure crashed runs once more too, e.g. after a repair")
    parser.add_argument("--dry_run", action="store_true", help="say what would be measured and how long it takes")
    arguments = parser.parse_args(argv)
    values = vars(arguments)
    try:
        if arguments.configs is not None:
            lists_given = [name for name in LIST_FLAGS if values[name] != [getattr(DEFAULT, name)]]
            if several := [name for name in lists_given if len(values[name]) > 1 or name in LIST_FLAGS[:3]]:
                parser.error(f"--configs names the configurations: leave out --{', --'.join(several)}")
            first = {name: values[name][0] for name in LIST_FLAGS}
            return arguments, read_configs(arguments.configs, make_spec(values | first))
        lists = [values[name] for name in LIST_FLAGS]
        if (n := math.prod(map(len, lists))) > MAX_CONFIGURATIONS:
            parser.error(f"a grid of {n:,} configurations: at most {MAX_CONFIGURATIONS:,} are taken. Shorten a list.")
        combinations = itertools.product(*lists)
        return arguments, [make_spec(values | dict(zip(LIST_FLAGS, c, strict=True))) for c in combinations]
    except (ValueError, OSError) as error:
        parser.error(str(error))


def main(argv: Sequence[str] | None = None) -> int:
    arguments, specs = _parse(argv)

    def work() -> int:
        print_home()
        exclusions = excluded_csv(arguments.runs)
        excluded = {e.run_id: e for e in read_table(exclusions, Exclusion)} if exclusions.exists() else {}
        result = run_grid(
            grid_runs(specs, arguments.repeats, excluded),
            runs=arguments.runs,
            log_dir=arguments.log_dir,
            order_seed=arguments.order_seed,
            timeout_sec=arguments.timeout_sec,
            is_dry=arguments.dry_run,
            retries_crashed=arguments.retry,
            say=lambda line: print(line, flush=True),
            on_output=output_printer(),
        )
        if result.was_interrupted:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if result.failures or result.n_failed_before else 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
