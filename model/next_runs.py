"""`epochcast next_runs`: the configurations to measure next, in a file that `collect/run_grid.py --configs` takes."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from epochcast.aggregate.averages.condition_sets import ChosenSet, one_set_of_conditions
from epochcast.aggregate.averages.table import load_agg_if_any
from epochcast.cli import (
    add_config_flags,
    add_json_flag,
    add_table_flags,
    config_lists,
    configs_of,
    json_line,
    make_parser,
    path_flag,
    print_home,
    print_notes,
    run_command,
)
from epochcast.collect.grid.specs import CARRIED_CONDITIONS, spec_under
from epochcast.collect.grid.wall_estimate import WallEstimate, least_epochs
from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.flag_types import path_of, positive_int
from epochcast.machine.gpu_driver import refusal_notes
from epochcast.machine.packages import backend_words
from epochcast.model.selection.experimental_design import D_OPTIMAL_RUNS, DEFAULT_GRID, guessed_law, next_indices
from epochcast.model.time_model.intervals import MIN_ERRORS
from epochcast.model.time_model.physics import Array
from epochcast.model.time_model.saved_model import choose_model
from epochcast.model.time_model.startup import FORM
from epochcast.model.training.recipes import LAW_ALONE
from epochcast.output.text import clock, significant, table_text
from epochcast.paths import command_text, home, runs_csv
from epochcast.schema import AXIS_NAMES, EXAMPLE_LISTS, TRAIN_N, AggRow, Conditions, RunConfig, RunRecord, RunSpec
from epochcast.storage.files import write_text_atomically
from epochcast.storage.tables import read_table_if_any

DEFAULT_RUNS = max(D_OPTIMAL_RUNS, MIN_ERRORS)  # enough for a law, and for a range about what it predicts
MAX_CANDIDATES = 2_000  # their distances are held in memory, pair by pair


@dataclass(frozen=True, slots=True)
class NextRun:
    """One configuration to measure, in this order; the seconds are those that `grid` expects of it on this box."""

    config: RunConfig
    by: str  # D-optimal | variance reduction
    expected_sec: float


def training_sec(steady_sec: Array, epochs: int | None) -> Array:
    """Seconds of all epochs at their steady time, shape (n,); without a count, until the time is known at the least."""
    counts = [least_epochs(RunSpec(epochs=epochs), float(sec)) for sec in steady_sec]
    return np.asarray(counts * np.asarray(steady_sec))


def measured_costs(rows: Sequence[AggRow], candidates: Sequence[RunConfig], epochs: int | None) -> Array:
    """Seconds that a run of each candidate will take, shape (n,), from as few as one measured row.

    overhead + first epoch + (epochs - 1) x steady time; an overhead or first epoch that no row knows is left to
    `epochcast/data/assumptions.csv`.
    """
    train_n = rows[0].train_n or TRAIN_N
    configs, steady = [r.config for r in rows], np.array([r.avg_time_mean for r in rows])
    seconds = training_sec(guessed_law(LAW_ALONE, configs, steady, train_n, candidates).seconds(candidates), epochs)
    kind = device_kind_of(rows[0].device_name)
    known = [r for r in rows if r.first_epoch_sec_mean is not None and r.first_epoch_sec_mean > r.avg_time_mean]
    if known:
        excess = np.array([(r.first_epoch_sec_mean or 0.0) - r.avg_time_mean for r in known])
        seconds = seconds + guessed_law(FORM, [r.config for r in known], excess, train_n, candidates).seconds(
            candidates
        )
    else:
        seconds = seconds + assumption("first_epoch_excess_sec", kind).value
    overheads = [r.overhead_sec_mean for r in rows if r.overhead_sec_mean is not None]
    overhead = float(np.median(overheads)) if overheads else assumption("overhead_sec", kind).value
    return np.asarray(seconds + overhead)


def plan_next(
    rows: Sequence[AggRow],
    grid: Sequence[RunConfig],
    n: int,
    epochs: int | None,
    model: Path | None = None,
    estimate: WallEstimate | None = None,
) -> tuple[list[NextRun], str]:
    """The next `n` configurations of the grid, and in words what their gain per second was weighed by.

    That may be another device's model, of which only the ratios count; the seconds expected of each run are those of
    `estimate`, the clock of this box that `grid` goes by.

    Raises:
        ValueError: if every configuration of the grid is measured, or `model` is no sound model.
    """
    done = {row.config for row in rows}
    candidates = list(dict.fromkeys([*grid, *(row.config for row in rows)]))
    measured = [i for i, config in enumerate(candidates) if config in done]
    if rows and model is not None:
        raise ValueError("--model guides a start from nothing; this table has measured rows. Leave it out.")
    if len(measured) == len(candidates):
        raise ValueError("every configuration of the grid is measured: name more with --depth, --batch_size, ...")
    train_n = (rows[0].train_n if rows else None) or TRAIN_N
    if rows:
        seconds = measured_costs(rows, candidates, epochs)
        source = f"a law through the {len(rows)} measured configurations"
    else:
        saved = choose_model(model).model
        train_n = saved.train_n
        kind = device_kind_of(saved.device_name)
        excess = saved.excess.seconds(candidates) if saved.excess else assumption("first_epoch_excess_sec", kind).value
        overhead = saved.overhead.median if saved.overhead else assumption("overhead_sec", kind).value
        seconds = overhead + excess + training_sec(saved.time_model.times(candidates), epochs)
        device = saved.device_name or "an unknown device"
        whose = f"this box: {device}" if saved.is_of_this_box else f"{device}, another device: only their ratios count"
        source = f"{saved.path.name} ({whose}; epochs of {train_n:,} images)"
    chosen = next_indices(candidates, measured, n, train_n, lambda taken: seconds)
    by = ["D-optimal" if len(measured) + k < D_OPTIMAL_RUNS else "variance reduction" for k in range(len(chosen))]
    clock_of_box = estimate or WallEstimate(())
    specs = _specs([candidates[i] for i in chosen], epochs, rows[0].conditions if rows else Conditions())
    expected = map(clock_of_box.expected_sec, specs)
    return [NextRun(spec.config, how, sec) for spec, how, sec in zip(specs, by, expected, strict=True)], source


def _specs(configs: Sequence[RunConfig], epochs: int | None, conditions: Conditions) -> list[RunSpec]:
    """The runs as a grid does them, under the conditions of what is measured already."""
    return [spec_under(config, epochs, conditions, in_windows=True) for config in configs]


def configs_csv(runs: Sequence[NextRun], epochs: int | None, conditions: Conditions) -> str:
    """The runs as `run_grid --configs` reads them, under the conditions of what is measured already.

    What those leave open has no column, so that the grid's own flags decide it.
    """
    specs = list(map(asdict, _specs([run.config for run in runs], epochs, conditions)))
    default = asdict(RunSpec())
    own = [*asdict(RunConfig()), *(name for name in CARRIED_CONDITIONS if getattr(conditions, name) is not None)]
    names = [name for name in default if name in own or any(spec[name] != default[name] for spec in specs)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(specs)
    return text.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast next_runs",
        "Which configurations to measure next, for the largest gain in knowledge per second of measuring.\n\n"
        "From nothing, seven runs are enough for a first model, and nine for one that knows its range. What is\n"
        "measured already is taken into account.",
        f"epochcast next_runs {EXAMPLE_LISTS} --n 9",
    )
    lists = {name: list(values) for name, values in DEFAULT_GRID.items()}
    add_config_flags(parser, as_lists=lists, defaults=lists, texts=dict.fromkeys(lists, "of the candidates"))
    parser.add_argument("--n", type=positive_int, default=DEFAULT_RUNS, help="how many to name")
    parser.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        help="exactly N epochs each, the untimed first included (default: until the steady time is known)",
    )
    parser.add_argument(
        "--model",
        type=path_of,
        metavar="PATH",
        help="a .keras model whose times guide the first choice; default: chosen",
    )
    add_table_flags(parser, is_optional=True)
    path_flag(parser, "--out", lambda: home() / "results" / "next_runs.csv", "file for run_grid --configs")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if arguments.epochs is not None and arguments.epochs < 2:
        parser.error("--epochs must be at least 2: the first is untimed")
    if (n_grid := math.prod(map(len, config_lists(arguments)))) > MAX_CANDIDATES:
        parser.error(f"{n_grid:,} candidates: at most {MAX_CANDIDATES:,} are taken. Shorten a list.")

    def work() -> int:
        print_home()
        print_notes(refusal_notes())
        table = load_agg_if_any(arguments.runs_agg, arguments.frozen)
        chosen = ChosenSet([])
        if table is not None:
            chosen = one_set_of_conditions(table.rows, [arguments.conditions], table.source)
        print_notes(chosen.notes)
        rows = chosen.rows
        grid = configs_of(arguments)
        estimate = WallEstimate(read_table_if_any(runs_csv(), RunRecord))  # as `grid` without --runs does
        runs, source = plan_next(rows, grid, arguments.n, arguments.epochs, arguments.model, estimate)
        conditions = rows[0].conditions if rows else Conditions()
        write_text_atomically(arguments.out, configs_csv(runs, arguments.epochs, conditions))
        out = arguments.out.absolute()
        total_sec = sum(run.expected_sec for run in runs)
        if arguments.json:
            listed = [{**asdict(r.config), "by": r.by, "expected_sec": r.expected_sec} for r in runs]
            answer = {"measured": len(rows), "runs": listed, "total_sec": total_sec}
            answer |= {"seconds_from": estimate.basis, "ratios_from": source}
            print(json_line({**answer, **chosen.to_json(), "out": str(out)}))
            return 0
        print("measured: " + (f"{len(rows)} configurations in {table.path}" if table else "nothing yet"))
        header = ["", *AXIS_NAMES, "chosen by", "expected s"]
        lines = [
            [k, *asdict(r.config).values(), r.by, significant(r.expected_sec)] for k, r in enumerate(runs, start=1)
        ]
        print(table_text(header, lines))
        if len(runs) < arguments.n:
            print(f"left_in_grid: {len(runs)}, fewer than --n {arguments.n}")
        print(f"chosen: most gain per second, weighed by {source}")
        print(f"expected: {clock(total_sec)} in all; {estimate.basis}")
        print(f"next: {backend_words(conditions.backend)}{command_text('grid')} --configs {shlex.quote(str(out))}")
        return 0

    return run_command(work)
