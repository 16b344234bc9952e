"""The configurations to measure next, what weighed them, and the file that a grid takes."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epochcast.collect.grid.specs import SPEC_CONDITIONS, spec_under
from epochcast.collect.grid.wall_estimate import WallEstimate, least_epochs
from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.machine.packages import backend_words
from epochcast.model.selection.experimental_design import D_OPTIMAL_RUNS, guessed_law, next_indices
from epochcast.model.time_model.physics import Array
from epochcast.model.time_model.saved_model import choose_model
from epochcast.model.time_model.startup import FORM
from epochcast.model.training.recipes import LAW_ALONE
from epochcast.output.text import clock, significant, table_text
from epochcast.paths import command_text
from epochcast.schema import AXIS_NAMES, TRAIN_N, AggRow, Conditions, RunConfig, RunSpec

MAX_CANDIDATES = 2_000  # the distances of each pair of them are kept in memory


@dataclass(frozen=True, slots=True)
class NextRun:
    """One configuration to measure; the seconds are those that `grid` expects of it on this box."""

    config: RunConfig
    by: str  # D-optimal | variance reduction
    expected_sec: float


@dataclass(frozen=True, slots=True)
class NextRuns:
    """The configurations to measure next, in this order."""

    runs: tuple[NextRun, ...]
    n_measured: int  # configurations
    conditions: Conditions  # of what is measured already
    epochs: int | None
    ratios_from: str  # what the gain of a run per second was weighed by
    seconds_from: str  # what the seconds expected rest on

    @property
    def total_sec(self) -> float:
        return sum(run.expected_sec for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        listed = [{**asdict(r.config), "by": r.by, "expected_sec": r.expected_sec} for r in self.runs]
        return {
            "measured": self.n_measured,
            "runs": listed,
            "total_sec": self.total_sec,
            "seconds_from": self.seconds_from,
            "ratios_from": self.ratios_from,
        }


def training_sec(steady_sec: Array, epochs: int | None) -> Array:
    """Return the seconds of all epochs at their steady time, shape (n,).

    Without a count of epochs it is the least number that makes the steady time known.
    """
    counts = [least_epochs(RunSpec(epochs=epochs), float(sec)) for sec in steady_sec]
    return np.asarray(counts * np.asarray(steady_sec))


def measured_costs(rows: Sequence[AggRow], candidates: Sequence[RunConfig], epochs: int | None) -> Array:
    """Return the seconds of a run of each candidate, shape (n,), from as few as one measured row.

    overhead + first epoch + (epochs - 1) x steady time; an overhead or first epoch that no row knows is of
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
) -> NextRuns:
    """Return the next `n` configurations of the grid, for the largest gain of knowledge per second.

    Args:
        model: whose times weigh the gains without a measured row; of another device's only their ratios count.
        estimate: the clock of this box that `grid` goes by: it gives the seconds expected of each run.

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
    if rows:
        train_n, seconds = rows[0].train_n or TRAIN_N, measured_costs(rows, candidates, epochs)
        source = f"a law through the {len(rows)} measured configurations"
    else:
        train_n, seconds, source = _model_costs(candidates, epochs, model)
    chosen = next_indices(candidates, measured, n, train_n, lambda taken: seconds)
    by = ["D-optimal" if len(measured) + k < D_OPTIMAL_RUNS else "variance reduction" for k in range(len(chosen))]
    clock_of_box = estimate or WallEstimate(())
    conditions = rows[0].conditions if rows else Conditions()
    specs = _specs([candidates[i] for i in chosen], epochs, conditions)
    expected = map(clock_of_box.expected_sec, specs)
    runs = tuple(NextRun(spec.config, how, sec) for spec, how, sec in zip(specs, by, expected, strict=True))
    return NextRuns(runs, len(rows), conditions, epochs, source, clock_of_box.basis)


def _model_costs(candidates: Sequence[RunConfig], epochs: int | None, model: Path | None) -> tuple[int, Array, str]:
    """Return a model's images per epoch, its seconds of each candidate's run, and both in words."""
    saved = choose_model(model).model
    kind = device_kind_of(saved.device_name)
    excess = saved.excess.seconds(candidates) if saved.excess else assumption("first_epoch_excess_sec", kind).value
    overhead = saved.overhead.median if saved.overhead else assumption("overhead_sec", kind).value
    seconds = overhead + excess + training_sec(saved.time_model.times(candidates), epochs)
    device = saved.device_name or "an unknown device"
    whose = f"this box: {device}" if saved.is_of_this_box else f"{device}, another device: only their ratios count"
    return saved.train_n, seconds, f"{saved.path.name} ({whose}; epochs of {saved.train_n:,} images)"


def _specs(configs: Sequence[RunConfig], epochs: int | None, conditions: Conditions) -> list[RunSpec]:
    """Return the runs as a grid does them, under the conditions of what is measured already."""
    return [spec_under(config, epochs, conditions, in_windows=True) for config in configs]


def configs_csv(runs: Sequence[NextRun], epochs: int | None, conditions: Conditions) -> str:
    """Return the runs as `run_grid --configs` reads them, under these conditions.

    What the conditions leave open has no column, so that the grid's own flags decide it.
    """
    specs = list(map(asdict, _specs([run.config for run in runs], epochs, conditions)))
    default = asdict(RunSpec())
    own = [*asdict(RunConfig()), *(name for name in SPEC_CONDITIONS if getattr(conditions, name) is not None)]
    names = [name for name in default if name in own or any(spec[name] != default[name] for spec in specs)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(specs)
    return text.getvalue()


def next_runs_lines(found: NextRuns, table: Path | None, n: int, out: Path) -> list[str]:
    """Return the lines of a screen; `n` is how many were asked for, `out` the file for a grid."""
    header = ["", *AXIS_NAMES, "chosen by", "expected s"]
    rows = [[k, *asdict(r.config).values(), r.by, significant(r.expected_sec)] for k, r in enumerate(found.runs, 1)]
    n_found = len(found.runs)
    grid = f"{backend_words(found.conditions.backend)}{command_text('grid')}"
    return [
        "measured: " + (f"{found.n_measured} configurations in {table}" if table else "nothing yet"),
        table_text(header, rows),
        *([f"left_in_grid: {n_found}, fewer than --n {n}"] if n_found < n else []),
        f"chosen: most gain per second, weighed by {found.ratios_from}",
        f"expected: {clock(found.total_sec)} in all; {found.seconds_from}",
        f"next: {grid} --configs {shlex.quote(str(out))}",
    ]
