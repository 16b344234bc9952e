"""Plans replayed on the reference A100 table, with costs predicted by models that have not seen the configuration.

What a run "took" is its measured overhead + first epoch + (epochs - 1) x steady time.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.lib.reference_table import steady_rows
from epochcast.interval import Interval
from epochcast.model.time_model.intervals import WITHIN, conformal_half_width
from epochcast.model.time_model.startup import whole_run
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import REPEATS, gather
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.model.training.recipes import PHYSICS_ANN, fit_time_models
from epochcast.model.training.splits import FOLDS, fold_masks
from epochcast.output.progress import progress
from epochcast.planner.costs.budget import SECONDS, Budget
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import VALUES, Combination
from epochcast.planner.costs.wishes import Wishes, select
from epochcast.planner.execution.schedule import Actual
from epochcast.planner.plan.knapsack import solve
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import Margin
from epochcast.planner.plan.plan import Plan
from epochcast.schema import AggRow

Band = tuple[int, int]  # budgets in seconds, from the first to below the second
Key = TypeVar("Key", Band, tuple[int, str, Band])

EPOCHS = (3, 10, 50)
SUMS = tuple(name for name, value in VALUES.items() if value.combination is Combination.SUM)
CONFIDENCES = (0.8, 0.9, 0.95)
BANDS: tuple[Band, ...] = ((300, 600), (600, 1200), (1200, 2400), (2400, 4800), (4800, 7200))
COMMON_SDS = (0.0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.01)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One configuration: as a model expects it that has not seen it, and what it took."""

    candidate: Candidate
    actual: Actual

    @property
    def actual_sec(self) -> float:
        return self.actual.overhead + self.actual.first_epoch + (self.candidate.epochs - 1) * self.actual.steady


@functools.cache
def unseen_costs() -> list[list[tuple[AggRow, Interval, Interval, Interval]]]:
    """For each of five repeats the rows with overhead, first epoch and steady time from folds without the row."""
    rows = [row for row in steady_rows() if row.overhead_sec_mean is not None]
    table = Table.of(rows)
    masks = fold_masks(len(rows), FOLDS, REPEATS, 0)
    models = fit_time_models(PHYSICS_ANN, table, masks, 0, say=progress("unseen costs"))
    predicted = gather(table, masks, REPEATS, models)
    repeats = []
    for repeat in range(REPEATS):
        errors = np.abs(np.log(predicted[repeat] / table.seconds))
        found: dict[int, tuple[AggRow, Interval, Interval, Interval]] = {}
        for mask in masks[repeat * FOLDS : (repeat + 1) * FOLDS]:
            train = [row for row, is_in in zip(rows, mask, strict=True) if is_in]
            excess, overhead = fit_excess(train, 0), fit_overhead(train)
            half = conformal_half_width(errors[mask])
            for k in np.flatnonzero(~mask):
                steady = Interval.of_log(float(predicted[repeat, k]), half)
                run = whole_run(rows[k].config, steady, WITHIN, excess, overhead)
                assert run.overhead is not None and run.first_epoch is not None
                found[int(k)] = (rows[k], run.overhead, run.first_epoch, steady)
        repeats.append([found[k] for k in range(len(rows))])
    return repeats


@functools.cache
def replayed(repeat: int, epochs: int, value: str, indices: tuple[int, ...] | None = None) -> list[Replayed]:
    """Candidates of one repeat with what each took; `indices` are those of rows."""
    rows = unseen_costs()[repeat]
    found = []
    for k in range(len(rows)) if indices is None else indices:
        row, overhead, first_epoch, steady = rows[k]
        candidate = Candidate(
            row.config,
            row.params,
            epochs,
            overhead,
            first_epoch,
            steady,
            images_per_sec=row.thr_mean,
            acc=row.acc_mean,
            acc_epochs=row.acc_epochs,
        )
        actual = Actual(row.overhead_sec_mean or 0.0, row.first_epoch_sec_mean or 0.0, row.avg_time_mean)
        found.append(Replayed(candidate, actual))
    _, valued, _ = select([r.candidate for r in found], VALUES[value], Wishes(include_diverged=True))
    return [Replayed(candidate, r.actual) for candidate, r in zip(valued, found, strict=True)]


def took_sec(plan: Plan, runs: Sequence[Replayed]) -> float:
    """What the plan's runs took together."""
    actual = {r.candidate.config: r.actual_sec for r in runs}
    return sum(actual[c.config] for c in plan.chosen)


def oracle_value(runs: Sequence[Replayed], budget_sec: float, value: str) -> float:
    """The exact plan's value if everybody knew what each run takes."""
    costs = [SECONDS.up(r.actual_sec) for r in runs]
    values = [VALUES[value].whole(r.candidate) for r in runs]
    return solve(costs, values, SECONDS.down(budget_sec)).value / VALUES[value].scale


@dataclass(frozen=True, slots=True)
class Case:
    """One plan replayed."""

    epochs: int
    value: str
    budget_sec: int
    took_sec: float
    value_share: float  # of the oracle's
    is_binding: bool  # the plan leaves something out

    @property
    def is_kept(self) -> bool:
        return self.took_sec <= self.budget_sec

    @property
    def band(self) -> Band:
        return next(b for b in BANDS if b[0] <= self.budget_sec < b[1] or self.budget_sec == BANDS[-1][1] == b[1])


@dataclass(frozen=True, slots=True)
class Shares:
    """How a group of plans did."""

    kept: float  # percent that kept their budget
    value: float  # percent of the oracle's, mean
    n: int

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Shares:
        kept, value = np.mean([c.is_kept for c in cases]), np.mean([c.value_share for c in cases])
        return cls(100 * float(kept), 100 * float(value), len(cases))

    def __str__(self) -> str:
        return f"{self.kept:.1f} %, {self.value:.1f} %"


def by_band(cases: Iterable[Case]) -> dict[Band, Shares]:
    """The shares of each band of budgets that has a plan."""
    return {band: Shares.of(own) for band, own in grouped(cases, lambda c: c.band).items()}


def grouped(cases: Iterable[Case], key: Callable[[Case], Key]) -> dict[Key, list[Case]]:
    """The cases by a key, in the order of the keys."""
    groups: dict[Key, list[Case]] = defaultdict(list)
    for case in cases:
        groups[key(case)].append(case)
    return dict(sorted(groups.items()))


@functools.cache  # calibrating asks for the same plans again
def replayed_case(
    margin: Margin, repeat: int, epochs: int, value: str, budget: int, indices: tuple[int, ...] | None
) -> Case:
    """One plan made with a margin, and what came of it."""
    runs = replayed(repeat, epochs, value, indices)
    plan = make_plan([r.candidate for r in runs], Budget(budget), VALUES[value], margin)
    share = plan.value_dp / _best_value(epochs, value, budget, indices)
    return Case(epochs, value, budget, took_sec(plan, runs), share, bool(plan.excluded))


@functools.cache
def _best_value(epochs: int, value: str, budget: int, indices: tuple[int, ...] | None) -> float:
    return oracle_value(
        replayed(0, epochs, value, indices), budget, value
    )  # what runs took is the same in every repeat


def replay(
    margin: Margin,
    budgets: Iterable[int],
    repeats: Iterable[int] = range(REPEATS),
    indices: tuple[int, ...] | None = None,
) -> list[Case]:
    """Plans of all epochs, values and budgets, made with a margin; `indices` are those of rows."""
    cases = itertools.product(repeats, EPOCHS, SUMS, budgets)
    return [replayed_case(margin, repeat, epochs, value, budget, indices) for repeat, epochs, value, budget in cases]


def calibrated(budgets: Sequence[int], indices: tuple[int, ...] | None = None, repeats: Sequence[int] = (0,)) -> float:
    """The smallest of COMMON_SDS with which plans keep their budgets in every band as often as they promise."""
    for common in COMMON_SDS:
        for confidence in CONFIDENCES:
            bands = by_band(replay(Margin.of_confidence(confidence, common), budgets, repeats, indices))
            if min(shares.kept for shares in bands.values()) < 100 * confidence:
                break
        else:
            return common
    return COMMON_SDS[-1]
