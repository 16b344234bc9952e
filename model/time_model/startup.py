"""What a run takes beside steady epochs: the first epoch's excess (tracing, compiling, autotuning) and the overhead.

Excess = first epoch - steady time: a law of four terms where enough rows know it, else their median. Overhead = wall
time - all epochs: a median. Either is unknown where no row has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from epochcast.interval import Interval, total
from epochcast.model.time_model.intervals import PLACES, Range, Widths, beyond_half_width, conformal_half_width
from epochcast.model.time_model.physics import Array, Law, fit_law
from epochcast.model.training.splits import edge_axes, fold_masks, folds_for, levels_of
from epochcast.output.text import significant
from epochcast.schema import TRAIN_N, AggRow, RunConfig

FORM = "first_epoch_4"
LAW_MIN_ROWS = 12  # three for each coefficient; with fewer the median answers


@dataclass(frozen=True, slots=True, eq=False)
class Excess:
    """Seconds of a first epoch beyond a steady one; `widths` are relative to the predicted first epoch."""

    law: Law | None  # None: `median` answers
    median: float
    n: int
    range: Range  # of the rows that know their first epoch
    widths: Widths

    def seconds(self, configs: Sequence[RunConfig]) -> Array:
        """Shape (n,)."""
        return np.full(len(configs), self.median) if self.law is None else self.law.seconds(configs)


@dataclass(frozen=True, slots=True)
class Overhead:
    """Seconds of a process outside its epochs.

    `widths` are relative to the median; from 1 on they are factors about it.
    """

    median: float
    n: int
    widths: Widths

    def interval(self, place: str) -> Interval:
        """Return the seconds with their range at a place, which never reaches down to 0."""
        half = self.widths.of(place)
        if half is None or half < 1:
            return Interval.of_relative(self.median, half)
        return Interval.of_factor(self.median, half)


def fit_excess(rows: Sequence[AggRow], seed: int) -> Excess | None:
    """The excess of the rows that know their first epoch; None if none does.

    Args:
        seed: of the folds that the width comes from.
    """
    own = [row for row in rows if row.first_epoch_sec_mean is not None]
    if not own:
        return None
    configs, train_n = [row.config for row in own], own[0].train_n or TRAIN_N
    first = np.array([row.first_epoch_sec_mean for row in own], float)
    excess = np.maximum(first - np.array([row.avg_time_mean for row in own]), 0.0)
    steady = first - excess
    median = float(np.median(excess))

    has_law = len(own) >= LAW_MIN_ROWS

    def fit(mask: npt.NDArray[np.bool_]) -> tuple[Law | None, Array]:
        """The law of some rows, and what it or their median says of all."""
        if not has_law or excess[mask].max() <= 0:
            return None, np.full(len(own), np.median(excess[mask]))
        kept = [c for c, is_in in zip(configs, mask, strict=True) if is_in]
        law = fit_law(FORM, kept, excess[mask], train_n, scale=first[mask])
        return law, law.seconds(configs)

    def errors(mask: npt.NDArray[np.bool_]) -> Array:
        """Relative errors of the first epochs of the rows that are not in the mask."""
        _, predicted = fit(mask)
        return np.asarray(np.abs(predicted - excess) / (predicted + steady))[~mask]

    folds = list(fold_masks(len(own), folds_for(len(own)), 1, seed)) if len(own) > 1 else []
    within_errors = np.concatenate([errors(mask) for mask in folds]) if folds else np.empty(0)
    within = conformal_half_width(within_errors)
    levels = levels_of(configs)
    level_errors = np.concatenate([errors(~level.mask) for level in levels]) if levels else np.empty(0)
    law, _ = fit(np.ones(len(own), bool))
    beyond = beyond_half_width(level_errors, within)
    widths = Widths(within, beyond, len(within_errors), len(levels), edge_axes(levels))
    return Excess(law, median, len(own), Range.of(configs), widths)


def fit_overhead(rows: Sequence[AggRow]) -> Overhead | None:
    """The overhead of the rows that know it; None if none does."""
    known = [row.overhead_sec_mean for row in rows if row.overhead_sec_mean is not None]
    if not known:
        return None
    median = float(np.median(known))
    # each judged by the median of the others
    others = [float(np.median(known[:i] + known[i + 1 :])) for i in range(len(known))] if len(known) > 1 else []
    pairs = [(value, other) for value, other in zip(known, others, strict=False) if other > 0]
    errors = [abs(value - other) / other for value, other in pairs]
    width = conformal_half_width(np.array(errors))
    if width is not None and width >= 1:  # as far below as above would be 0 s, or less: factors instead
        factors = [max(value / other, other / value) - 1 for value, other in pairs if value > 0]
        width = max(width, conformal_half_width(np.array(factors)) or width)
    return Overhead(median, len(known), Widths(width, width, len(errors)))


@dataclass(frozen=True, slots=True)
class WholeRun:
    """What a run takes in parts and in all, seconds with 90 % intervals; None is unknown."""

    first_epoch: Interval | None
    overhead: Interval | None
    training: Interval | None  # all epochs
    wall: Interval | None  # overhead and training


def whole_run(
    config: RunConfig,
    steady: Interval,
    place: str,
    excess: Excess | None,
    overhead: Overhead | None,
    epochs: int | None = None,
) -> WholeRun:
    """total = overhead + excess of the first epoch + epochs x steady time; their errors are taken as independent.

    `place` is where the configuration lies, as of `model.time_model.intervals`; without `epochs` there is no total.
    """
    process = None if overhead is None else overhead.interval(place)
    if excess is None:
        return WholeRun(None, process, None, None)
    beyond_steady = float(excess.seconds([config])[0])
    known_place = max(place, excess.range.place(config, excess.widths.axes), key=PLACES.index)
    half = excess.widths.of(known_place)  # calibrated relative to the first epoch as a whole
    start = Interval.of_absolute(beyond_steady, None if half is None else half * (beyond_steady + steady.value))
    training = None if epochs is None else total([start, steady.times(epochs)])
    wall = None if epochs is None or process is None else total([process, start, steady.times(epochs)])
    return WholeRun(total([start, steady]), process, training, wall)


def excess_words(excess: Mapping[str, Any]) -> str:
    """The first epoch beyond a steady one, as a card holds it, in words."""
    words = [words for words in (excess["readings"] or {}).values() if words != "none"]
    return " + ".join(words) or f"{significant(excess['median'])} s, the median of {excess['n']} rows"


def to_json(excess: Excess | None, overhead: Overhead | None) -> dict[str, Any]:
    """The two parts of a model's card."""
    return {
        "first_epoch_excess_sec": None
        if excess is None
        else {
            "median": excess.median,
            "n": excess.n,
            "form": None if excess.law is None else FORM,
            "coefficients": None if excess.law is None else excess.law.coefficients.tolist(),
            "readings": None if excess.law is None else excess.law.readings(),
            "within": excess.widths.within,
            "beyond": excess.widths.beyond,
            "n_errors": excess.widths.n,
            "n_levels": excess.widths.n_levels,
            "range": excess.range.to_json(),
            "axes": list(excess.widths.axes),
        },
        "overhead_sec": None
        if overhead is None
        else {"median": overhead.median, "n": overhead.n, "within": overhead.widths.within},
    }


def from_json(card: dict[str, Any], train_n: int) -> tuple[Excess | None, Overhead | None]:
    """Back from a model's card."""
    first, other = card["first_epoch_excess_sec"], card["overhead_sec"]
    excess = overhead = None
    if first is not None:
        law = None if first["form"] is None else Law(first["form"], np.array(first["coefficients"], float), train_n)
        widths = Widths(first["within"], first["beyond"], first["n_errors"], first["n_levels"], tuple(first["axes"]))
        excess = Excess(law, first["median"], first["n"], Range.from_json(first["range"]), widths)
    if other is not None:
        overhead = Overhead(other["median"], other["n"], Widths(other["within"], other["within"], other["n"]))
    return excess, overhead
