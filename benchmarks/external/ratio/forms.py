"""The forms of a ratio of two GPUs that are judged side by side."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from benchmarks.external.features import PRECISIONS, Array, Features
from benchmarks.external.forms import SHIPPED
from benchmarks.external.left_out import SOFT, ErrorFactor, Mask, fitted
from benchmarks.external.ratio.pairs import POWER_RUNS, SPEEDS, Pairs, Step
from benchmarks.external.tables import PLAIN
from epochcast.facts.tables import SpeedRow, speed_rows

# of the form before: weight of compute against bandwidth, chosen on published speeds of 14 GPUs
WEIGHT_BEFORE = 0.3
HELD = 0.9  # of pairs, by a range
DENSE, PLAIN_FP32, BANDWIDTH = range(3)  # columns of `rates_of`
Predict = Callable[[Pairs, str | None], Array]


@dataclass(frozen=True)
class RatioForm:
    """A form: log ratios of seconds by what was fitted without a GPU, or to all."""

    name: str
    numbers: int
    predict: Predict  # pairs and the GPU left out; nan where it has no answer


@dataclass(frozen=True)
class JudgedRatio:
    """A form with each pair's errors, as predicted without its first GPU and without its second."""

    form: RatioForm
    pairs: Pairs
    errors: Array  # (2, pairs): natural logs of predicted over measured

    def factor(self, chosen: Mask) -> ErrorFactor:
        return ErrorFactor.of(self.errors[:, chosen].ravel())

    def score(self, chosen: Mask) -> float:
        """Return the sum of the logs of median and 90th percentile: by which forms are compared."""
        found = self.factor(chosen)
        return math.log(found.median) + math.log(found.p90)

    def range_factor(self, chosen: Mask) -> float:
        """Return the factor that holds HELD of the pairs of each precision; nan without any."""
        return _range_factor(self.errors, chosen, self.pairs)

    def held(self, chosen: Mask, factor: float) -> float:
        """Return the share of pairs within a factor."""
        own = self.errors[:, chosen]
        return float(np.mean(np.abs(own[~np.isnan(own)]) <= math.log(factor)))

    def held_by_others(self, chosen: Mask) -> float:
        """Return the share of pairs within the factor that the pairs without their GPU ask for."""
        held = []
        for name in self.pairs.gpu_names:
            has = self.pairs.has_gpu(name)
            factor = _range_factor(self.errors, chosen & ~has, self.pairs)
            if (chosen & has).any() and not math.isnan(factor):
                held.append((self.held(chosen & has, factor), int((chosen & has).sum())))
        if not held:
            return math.nan
        shares, weights = zip(*held, strict=True)
        return float(np.average(shares, weights=weights))


def judged(form: RatioForm, pairs: Pairs) -> JudgedRatio:
    """Return a form's errors on each pair with either of its GPUs left out."""
    errors = np.full((2, len(pairs)), np.nan)
    for name in pairs.gpu_names:
        found = form.predict(pairs, name) - pairs.log_ratio
        for side, of in enumerate((pairs.first, pairs.second)):
            is_own = np.array([pairs.steps[i].gpu.name == name for i in of], bool)
            errors[side, is_own] = found[is_own]
    return JudgedRatio(form, pairs, errors)


def _range_factor(errors: Array, chosen: Mask, pairs: Pairs) -> float:
    factors = []
    for precision in PRECISIONS:
        own = errors[:, chosen & pairs.both(lambda step, of=precision: step.precision == of)]  # type: ignore[misc]  # bound
        if len(own := own[~np.isnan(own)]):
            factors.append(float(np.quantile(np.exp(np.abs(own)), HELD)))
    return max(factors, default=math.nan)


# --- rates ------------------------------------------------------------------------------------------------------------


def rates_of(pairs: Pairs) -> Array:
    """Return the logs of the second GPU's rates over the first's, (pairs, 3)."""
    return pairs.differences(np.log([step.rates for step in pairs.steps]))


def fitted_exponents(rates: Array, log_ratio: Array) -> Array:
    """Return the exponents of rates with which their products meet ratios best; large errors pull less."""
    start = np.full(rates.shape[1], 0.3)
    found = least_squares(lambda x: -(rates @ x) - log_ratio, start, loss="soft_l1", f_scale=SOFT)
    return np.asarray(found.x)


def exponents(name: str, pairs: Pairs, learned: Mask, columns: tuple[int, ...]) -> RatioForm:
    """Return the form of a product of powers of rates, with fitted exponents."""

    @functools.cache
    def without_gpu(gpu: str | None) -> Array:
        is_in = learned if gpu is None else learned & ~pairs.has_gpu(gpu)
        return fitted_exponents(rates_of(pairs)[:, columns][is_in], pairs.log_ratio[is_in])

    def predict(pairs: Pairs, without: str | None) -> Array:
        return np.asarray(-(rates_of(pairs)[:, columns] @ without_gpu(without)))

    return RatioForm(name, len(columns), predict)


# --- before -----------------------------------------------------------------------------------------------------------


def _rates_before(pairs: Pairs, _: str | None) -> Array:
    rates = rates_of(pairs)
    return np.asarray(-(WEIGHT_BEFORE * rates[:, DENSE] + (1 - WEIGHT_BEFORE) * rates[:, BANDWIDTH]))


@functools.cache
def _speeds(gpu: str, kind: str, precision: str) -> Mapping[str, SpeedRow]:
    return {
        row.task: row
        for row in speed_rows()
        if (row.gpu, row.kind, row.precision, row.gpus) == (gpu, kind, precision, 1)
    }


def _by_speeds(first: Step, second: Step) -> float:
    """Return the log ratio by published speeds of other networks of the kind; nan without."""
    if any(step.arithmetic == PLAIN and step.gpu.tf32_tflops is not None for step in (first, second)):
        return math.nan  # rows called fp32 may be TF32
    ours, theirs = (
        _speeds(step.gpu.name, step.kind, PLAIN if step.precision == PLAIN else "fp16") for step in (first, second)
    )
    common = (ours.keys() & theirs.keys()) - ({first.network} if first.source == SPEEDS else set())
    if not common:
        return math.nan
    return statistics.fmean(math.log(ours[task].throughput / theirs[task].throughput) for task in sorted(common))


def _before(pairs: Pairs, without: str | None) -> Array:
    sides = zip(pairs.first, pairs.second, strict=True)
    by_speeds = np.array([_by_speeds(pairs.steps[i], pairs.steps[j]) for i, j in sides])
    return np.where(np.isnan(by_speeds), _rates_before(pairs, without), by_speeds)


BEFORE = RatioForm("before: published speeds, else rates", 0, _before)
RATES_BEFORE = RatioForm("before: rates alone", 0, _rates_before)


# --- the law of networks ----------------------------------------------------------------------------------------------


def law_of_networks(rows: Features) -> RatioForm:
    """Return the form of both steps' seconds by the law of networks."""
    index = {row: i for i, row in enumerate(rows.rows)}
    names = rows.labels(lambda row: row.gpu.name)
    is_learned = rows.labels(lambda row: row.dataset) != POWER_RUNS

    @functools.cache
    def log_seconds(without: str | None) -> Array:
        learned = rows.take(is_learned & (names != without))
        return np.asarray(np.log(SHIPPED.seconds(fitted(SHIPPED, learned), rows)))

    def predict(pairs: Pairs, without: str | None) -> Array:
        logs = log_seconds(without)
        own = [math.nan if step.row is None else logs[index[step.row]] for step in pairs.steps]
        return pairs.differences(np.array(own))

    return RatioForm("law of networks", len(SHIPPED.start), predict)


def first_known(name: str, first: RatioForm, second: RatioForm) -> RatioForm:
    """Return the form that answers by the first where it does, else by the second."""

    def predict(pairs: Pairs, without: str | None) -> Array:
        found = first.predict(pairs, without)
        return np.where(np.isnan(found), second.predict(pairs, without), found)

    return RatioForm(name, first.numbers + second.numbers, predict)
