"""What a planner may choose from: runs with the wall seconds that each would take, and where each part is known from.

cost = overhead + first epoch + (epochs - 1) x steady time: measured where the configuration was, else predicted. What
neither knows is taken from the nearest thing that was measured (the other rows, the model's card), else from the
assumptions file; a note says so, never a silent 0.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from epochcast.aggregate.averages.averaging import is_chance
from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.gpus.lookup import box_name_for, is_same_device
from epochcast.interval import COVERAGE, Interval, total
from epochcast.model.selection.experimental_design import DEFAULT_GRID
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS, WITHIN
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.model.time_model.startup import Excess, Overhead, whole_run
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.output.text import significant
from epochcast.paths import command_text
from epochcast.planner.costs.budget import Price
from epochcast.planner.costs.repeat_spread import RepeatSpread
from epochcast.schema import TRAIN_N, AggRow, RunConfig
from epochcast.workload.shape import count_params

UPPER_SHARE = (1 + COVERAGE) / 2  # of runs that cost less than the high end
MOST_COUNT = 10**9  # of epochs or repeats: more is a slip of the pen, and no number to add with
_SEED = 0  # of the folds behind the widths of what stands in for unmeasured parts
_Part = TypeVar("_Part", Overhead, Excess)
_WORDS = {"overhead_sec": "overhead", "first_epoch_excess_sec": "first epoch beyond a steady one"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration that could be run `repeats` times: wall seconds in parts, their error, and what it is worth."""

    config: RunConfig
    params: int
    epochs: int
    overhead: Interval
    first_epoch: Interval
    steady: Interval
    images_per_sec: float
    acc: float | None = None
    acc_epochs: int | None = None
    has_diverged: bool = False
    was_measured: bool = True
    is_predicted: bool = False  # the cost is the model's, not measured
    is_extrapolated: bool = False
    repeats: int = 1
    value: float = 0.0
    price: Price | None = None  # None: the plan counts seconds

    @property
    def run(self) -> Interval:
        """Wall seconds of one run from the start of the process to its exit; errors of the parts as independent."""
        return total([self.overhead, self.first_epoch, self.steady.times(self.epochs - 1)])

    @property
    def total_sec(self) -> float:
        """Wall seconds of all repeats."""
        return self.repeats * self.run.value

    @property
    def sd_sec(self) -> float | None:
        """Standard deviation of `total_sec` about what it will be; None where a part's error is unknown.

        What a model has wrong of a configuration it has wrong in every repeat; measured ones differ by themselves.
        """
        run = self.run
        if run.high is None:
            return None
        shared = self.repeats if self.is_predicted else math.sqrt(self.repeats)
        return shared * (run.high - run.value) / HALF_WIDTH_SDS

    @property
    def cost(self) -> float:
        """What all repeats take of the budget, in its unit."""
        return self.total_sec if self.price is None else self.total_sec * self.price.per_sec.value

    @property
    def cost_sd(self) -> float | None:
        """Standard deviation of `cost`, errors of time and energy as independent; None where the time's is unknown.

        An unknown error of the energy is not in it: whoever plans says so.
        """
        sd_sec = self.sd_sec
        if self.price is None or sd_sec is None:
            return sd_sec
        return math.hypot(sd_sec * self.price.per_sec.value, (self.price.sd or 0.0) * self.cost)

    @property
    def cost_high(self) -> float | None:
        """What `cost` stays within at UPPER_SHARE, all that runs share as expected; None where its error is unknown."""
        sd = self.cost_sd
        is_unknown = sd is None or (self.price is not None and self.price.sd is None)
        return None if sd is None or is_unknown else self.cost + HALF_WIDTH_SDS * sd


@dataclass(frozen=True, slots=True)
class CostRules:
    """How runs are priced: `overhead_sec` given or None (measured); `first_epoch` measured, none, or seconds."""

    epochs: int
    overhead_sec: float | None = None
    first_epoch: str | float = "measured"
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise ValueError(f"epochs must be at least 2, got {self.epochs}: the first is untimed.")
        for name in ("epochs", "repeats"):
            if getattr(self, name) > MOST_COUNT:
                raise ValueError(f"--{name} is at most {MOST_COUNT:,} in a plan. Lower it.")


@dataclass(frozen=True, slots=True)
class _StartUp:
    """What stands in for an overhead or an excess that was not measured, each with the words for where it is from."""

    overhead: Overhead | float
    overhead_words: str
    excess: Excess | float
    excess_words: str

    @classmethod
    def of(cls, rows: Sequence[AggRow], saved: SavedModel | None, device_name: str | None) -> _StartUp:
        """From the rows, else from the model's card, else from the assumptions."""

        def chosen(name: str, own: _Part | None, card: _Part | None) -> tuple[_Part | float, str]:
            if own is not None:
                if own.widths.within is None and card is not None:  # too few rows to tell their error: the card's
                    own = _with_error_of(own, card)
                return own, _of_rows(own, f"{own.n} measured rows")
            if card is not None:
                assert saved is not None
                return card, _of_rows(card, f"{card.n} rows behind {saved.path.name}")
            fact = assumption(name, device_kind_of(device_name))
            words = f"an assumption for a {fact.device_kind}: {fact.source} ({fact.date})"
            return fact.value, f"{significant(fact.value)} s, {words}"

        overhead = chosen("overhead_sec", fit_overhead(rows), None if saved is None else saved.overhead)
        excess = chosen("first_epoch_excess_sec", fit_excess(rows, _SEED), None if saved is None else saved.excess)
        return cls(*overhead, *excess)

    def overhead_of(self, place: str) -> Interval:
        if isinstance(self.overhead, Overhead):
            return self.overhead.interval(place)
        return Interval(self.overhead)

    def first_epoch_of(self, config: RunConfig, steady: Interval, place: str) -> Interval:
        if not isinstance(self.excess, Excess):
            return Interval(self.excess + steady.value)
        first_epoch = whole_run(config, steady, place, self.excess, None).first_epoch
        assert first_epoch is not None
        return first_epoch


def _with_error_of(own: _Part, card: _Part) -> _Part:
    if isinstance(own, Excess) and isinstance(card, Excess):
        return replace(own, widths=card.widths, range=card.range)
    return replace(own, widths=card.widths)


def _of_rows(part: Overhead | Excess, rows: str) -> str:
    if isinstance(part, Excess) and part.law is not None:
        return f"about {significant(part.median)} s, as the {rows} tell for each configuration"
    return f"{significant(part.median)} s, the median of {rows}"


class _Pricer:
    """Prices one configuration after the other, and counts what was not known of them."""

    def __init__(self, rows: Sequence[AggRow], saved: SavedModel | None, rules: CostRules, is_predicted: bool) -> None:
        device_name = rows[0].device_name if rows else None if saved is None else saved.device_name
        self.device_name = device_name
        self.rules, self.saved, self.is_predicted = rules, saved, is_predicted
        self.start_up = _StartUp.of(rows, saved, device_name)
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
            place, steady = WITHIN, self.spread.steady(known)
        else:
            assert self.saved is not None
            forecast = self.saved.forecast(config)
            place, steady, is_extrapolated = forecast.place, forecast.steady, forecast.place != WITHIN
        return Candidate(
            config=config,
            params=count_params(config),
            epochs=self.rules.epochs,
            overhead=self._overhead(known, place),
            first_epoch=self._first_epoch(config, known, steady, place),
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

    def _overhead(self, row: AggRow | None, place: str) -> Interval:
        if self.rules.overhead_sec is not None:
            return Interval.of_relative(self.rules.overhead_sec, 0.0)
        if row is not None and row.overhead_sec_mean is not None:
            return self.spread.overhead(row)
        self.assumed["overhead_sec"] += 1
        return self.start_up.overhead_of(place)

    def _first_epoch(self, config: RunConfig, row: AggRow | None, steady: Interval, place: str) -> Interval:
        if self.rules.first_epoch == "none":
            return steady
        if not isinstance(self.rules.first_epoch, str):
            return Interval.of_relative(self.rules.first_epoch, 0.0)
        if row is not None and row.first_epoch_sec_mean is not None:
            return self.spread.first_epoch(row)
        self.assumed["first_epoch_excess_sec"] += 1
        return self.start_up.first_epoch_of(config, steady, place)


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
    """Candidates, each with its cost and that cost's error.

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
    pricer = _Pricer(rows, saved, rules, is_predicted)
    if saved is not None and saved.train_n != pricer.train_n:
        raise ValueError(
            f"{saved.path} predicts epochs of {saved.train_n} images, the table holds epochs of {pricer.train_n}. "
            "Name another --model, or use --time_source measured."
        )
    candidates = [pricer.candidate(config, by_config.get(config)) for config in wanted]
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
    origins = {"overhead_sec": pricer.start_up.overhead_words, "first_epoch_excess_sec": pricer.start_up.excess_words}
    for name, n in pricer.assumed.items():
        notes.append(f"{_WORDS[name]} unknown for {n} of {len(candidates)} candidates: assumed {origins[name]}")
    return Offer(candidates, notes, pricer.spread.notes if n_predicted < len(candidates) else [], pricer.device_name)


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
