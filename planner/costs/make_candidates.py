"""What a planner may choose from: runs with the wall seconds that each would take, and where each part is known from.

cost = overhead + first epoch + (epochs - 1) x steady time: measured where the configuration was, else predicted. What
neither knows is taken from the nearest thing that was measured (the other rows, the model's card), else from the
assumptions file; a note says so, never a silent 0.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from epochcast.aggregate.averages.averaging import is_chance
from epochcast.gpus.lookup import box_name_for, is_same_device
from epochcast.interval import COVERAGE, Interval
from epochcast.model.time_model.intervals import WITHIN
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.paths import command_text
from epochcast.planner.costs.candidates import Candidate, CostRules
from epochcast.planner.costs.repeat_spread import RepeatSpread
from epochcast.planner.costs.start_up import StartUp
from epochcast.schema import DEFAULT_GRID, TRAIN_N, AggRow, RunConfig
from epochcast.workload.shape import count_params

_WORDS = {"overhead_sec": "overhead", "first_epoch_excess_sec": "first epoch beyond a steady one"}


class _CandidateMaker:
    """Makes one candidate after the other, and counts what was not known of them."""

    def __init__(self, rows: Sequence[AggRow], saved: SavedModel | None, rules: CostRules, is_predicted: bool) -> None:
        device_name = rows[0].device_name if rows else None if saved is None else saved.device_name
        self.device_name = device_name
        self.rules, self.saved, self.is_predicted = rules, saved, is_predicted
        self.start_up = StartUp.of(rows, saved, device_name)
        given = {"overhead"} if rules.overhead_sec is not None else set()
        given |= set() if rules.first_epoch == "measured" else {"first_epoch"}
        self.spread = RepeatSpread.of(rows, device_name, given)
        self.train_n = (rows[0].train_n if rows else saved.train_n if saved else None) or TRAIN_N
        self.assumed: Counter[str] = Counter()

    def candidate(self, config: RunConfig, row: AggRow | None) -> Candidate:
        """The candidate of a configuration; `row` is None where it was not measured."""
        known = None if self.is_predicted else row
        is_extrapolated = False
        if known is not None:
            domain, steady = WITHIN, self.spread.steady(known)
        else:
            assert self.saved is not None
            forecast = self.saved.forecast(config)
            domain, steady, is_extrapolated = forecast.domain, forecast.steady, forecast.domain != WITHIN
        return Candidate(
            config=config,
            params=count_params(config),
            epochs=self.rules.epochs,
            overhead=self._overhead(known, domain),
            first_epoch=self._first_epoch(config, known, steady, domain),
            steady=steady,
            images_per_sec=self.train_n / steady.value,
            acc=None if row is None else row.acc_mean,
            acc_epochs=None if row is None else row.acc_epochs,
            has_diverged=row is not None and has_diverged(row),
            was_measured=row is not None,
            is_predicted=known is None,
            is_extrapolated=is_extrapolated,
            repeats=self.rules.repeats,
        )

    def _overhead(self, row: AggRow | None, domain: str) -> Interval:
        if self.rules.overhead_sec is not None:
            return Interval.of_relative(self.rules.overhead_sec, 0.0)
        if row is not None and row.overhead_sec_mean is not None:
            return self.spread.overhead(row)
        self.assumed["overhead_sec"] += 1
        return self.start_up.overhead_of(domain)

    def _first_epoch(self, config: RunConfig, row: AggRow | None, steady: Interval, domain: str) -> Interval:
        if self.rules.first_epoch == "none":
            return steady
        if not isinstance(self.rules.first_epoch, str):
            return Interval.of_relative(self.rules.first_epoch, 0.0)
        if row is not None and row.first_epoch_sec_mean is not None:
            return self.spread.first_epoch(row)
        self.assumed["first_epoch_excess_sec"] += 1
        return self.start_up.first_epoch_of(config, steady, domain)


def has_diverged(row: AggRow) -> bool:
    """Whether at least half of the runs learned nothing; a table without our columns tells by its accuracy."""
    return is_chance(row.acc_mean) if row.n_diverged is None else 2 * row.n_diverged >= row.n


@dataclass(frozen=True, slots=True)
class Offer:
    """What may be chosen, and what was assumed: for the costs, and for their errors."""

    candidates: list[Candidate]
    notes: list[str]
    error_notes: list[str] = field(default_factory=list)
    device_name: str | None = None  # that the costs are of


def make_candidates(
    rows: Sequence[AggRow],
    saved: SavedModel | None,
    rules: CostRules,
    configs: Sequence[RunConfig] | None = None,
    is_predicted: bool = False,
) -> Offer:
    """Return the candidates, each with its cost and that cost's error.

    Args:
        rows: what was measured, under one set of conditions.
        saved: answers for configurations without a row, with `is_predicted` for all; None: only rows are candidates.
        configs: what may be run; None: what was measured, without any DEFAULT_GRID within the range of `saved`.

    Raises:
        ValueError: if nothing is left to choose from, or `saved` answers for epochs of another length.
    """
    saved = None if saved is None else saved.at_coverage(COVERAGE)  # as the intervals of rows have
    by_config = {row.config: row for row in rows}
    notes: list[str] = []
    if configs is None:
        configs, notes = (list(by_config), []) if rows else _default_grid(saved)
    wanted = list(dict.fromkeys(configs))
    if saved is None:
        known = [config for config in wanted if config in by_config]
        if len(known) < len(wanted):
            notes.append(f"{len(wanted) - len(known)} of {len(wanted)} candidates left out: never measured")
        wanted = known
    if not wanted:
        raise ValueError("none of the candidates was measured. Leave --time_source measured out, to predict them.")
    maker = _CandidateMaker(rows, saved, rules, is_predicted)
    if saved is not None and saved.train_n != maker.train_n:
        raise ValueError(
            f"{saved.path} predicts epochs of {saved.train_n} images, the table holds epochs of {maker.train_n}. "
            "Name another --model, or use --time_source measured."
        )
    candidates = [maker.candidate(config, by_config.get(config)) for config in wanted]
    n_predicted = sum(c.is_predicted for c in candidates)
    if saved is not None and n_predicted:
        device, box = saved.device_name or "an unknown device", box_name_for(saved.device_name)
        other = "" if is_same_device(device, box) else f", NOT this box ({box})"
        which = "" if n_predicted == len(candidates) else f" of {n_predicted} of {len(candidates)} candidates"
        notes.append(f"steady times{which} are predictions for {device}{other}")
        if n_outside := sum(c.is_extrapolated for c in candidates):
            notes.append(
                f"{n_outside} of {n_predicted} predictions extrapolate: outside the range of {saved.path.name}"
            )
    origins = {"overhead_sec": maker.start_up.overhead_words, "first_epoch_excess_sec": maker.start_up.excess_words}
    for name, n in maker.assumed.items():
        notes.append(f"{_WORDS[name]} unknown for {n} of {len(candidates)} candidates: assumed {origins[name]}")
    return Offer(candidates, notes, maker.spread.notes if n_predicted < len(candidates) else [], maker.device_name)


def default_grid() -> tuple[list[RunConfig], str]:
    """What may be run where nobody named anything, and its lists in words."""
    grid = [RunConfig(*values) for values in itertools.product(*DEFAULT_GRID.values())]
    return grid, ", ".join(f"{name} {'/'.join(map(str, values))}" for name, values in DEFAULT_GRID.items())


def _default_grid(saved: SavedModel | None) -> tuple[list[RunConfig], list[str]]:
    """DEFAULT_GRID as far as `saved` was measured, and a note that it is."""
    if saved is None:
        raise ValueError(f"nothing measured to plan from. Measure first: {command_text('grid')}")
    grid, ranges = default_grid()
    configs = [config for config in grid if not saved.outside(config)]
    if not configs:
        raise ValueError(
            f"nothing measured to plan from, and {saved.path} was measured on no configuration of the default "
            f"grid. Measure first: {command_text('grid')}, or name another --model."
        )
    return configs, [
        f"nothing measured to plan from: the default grid ({ranges}), {len(configs)} of {len(grid)} configurations "
        f"within the range of {saved.path.name}"
    ]
