"""The regressor: log times as a Gaussian process over the entries, with robust noise.

Prediction is linear in the entries' log times, as of a ridge regression (covariance.py says of which). The noise of an
entry is Student's t: an entry far from what all others say (a slow software stack, a trial) loses weight. What a model
without some entries would say of them is had in closed form, so that ranges need no further fit.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epochcast.interval import Interval
from epochcast.mlperf.records import round_number
from epochcast.mlperf.regressor.covariance import NOISE, Points, covariance, points_of, variance_of
from epochcast.mlperf.regressor.entries import EntryMedian, Workload
from epochcast.mlperf.regressor.equations import Solution, one_thread
from epochcast.mlperf.regressor.ranges import basis_of, factor_for, groups_of, range_factors
from epochcast.mlperf.regressor.variances import fit_variances

NOISE_FREEDOM = 4.0  # of Student's t
WEIGHINGS = 4  # after which the weights change by less than what they decide
LEAST_ENTRIES = 30
MOST_NEAREST = 5


class UnknownBenchmarkError(ValueError):
    """A benchmark of which no entry was learned; the message lists those that there are."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The numbers that fitting finds; with the entries they are the whole regressor."""

    variances: dict[str, float]  # of each term of the covariance and of the noise
    weights: tuple[float, ...]  # of each entry: its noise has the variance over the weight
    range_factors: dict[str, float]  # by basis
    errors: dict[str, float]  # by benchmark: median relative error of its entries, each learned without


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted log times of several workloads, arrays of one length."""

    log_sec: np.ndarray
    half: np.ndarray  # of the range, in natural logs; NaN: unknown
    bases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    """What is predicted for a workload."""

    seconds: Interval
    basis: str  # one of ranges.BASES
    nearest: tuple[EntryMedian, ...]  # the most alike first
    benchmark_error: float  # median relative error of entries of this benchmark that were not learned from


class TimeRegressor:
    """Predicts the time of published benchmarks on other counts, devices and rounds."""

    def __init__(self, entries: Sequence[EntryMedian], fitted: Fitted) -> None:
        self.entries = tuple(entries)
        self.fitted = fitted
        self.rounds = rounds_of(entries)
        self.benchmarks = tuple(sorted(fitted.errors))
        logs = np.log([each.time_sec for each in entries])
        self._mean = float(logs.mean())
        self._points = points_of([each.workload for each in entries], self.rounds)
        noise = fitted.variances[NOISE] / np.array(fitted.weights)
        with one_thread():
            shared = covariance(self._points, self._points, fitted.variances)
            self._solution = Solution(shared, noise, logs - self._mean)

    def forecast(self, workloads: Sequence[Workload]) -> Forecast:
        """Return log times with half-widths of their ranges.

        Raises:
            UnknownBenchmarkError: if no entry has a workload's benchmark.
        """
        for workload in workloads:
            self.require_benchmark(workload.benchmark)
        points = points_of(workloads, self.rounds)
        with one_thread():
            means, variances = self._solution.at(self._shared(points), variance_of(points, self.fitted.variances))
        bases = tuple(basis_of(workload, self.entries) for workload in workloads)
        factors = [factor_for(basis, self.fitted.range_factors) for basis in bases]
        sd = np.sqrt(variances + self.fitted.variances[NOISE])
        return Forecast(means + self._mean, sd * np.array([np.nan if f is None else f for f in factors]), bases)

    def estimate(self, workload: Workload) -> TimeEstimate:
        """Return the time of a workload with its range, and the entries most like it.

        Raises:
            UnknownBenchmarkError: if no entry has its benchmark.
        """
        forecast = self.forecast([workload])
        half = None if np.isnan(forecast.half[0]) else float(forecast.half[0])
        seconds = Interval.of_log(float(np.exp(forecast.log_sec[0])), half)
        errors = self.fitted.errors
        return TimeEstimate(seconds, forecast.bases[0], self.nearest(workload), errors[workload.benchmark])

    def nearest(self, workload: Workload, most: int = MOST_NEAREST) -> tuple[EntryMedian, ...]:
        """Return entries of this benchmark, the most telling first."""
        points = points_of([workload], self.rounds)
        alike = self._shared(points)[0] / np.sqrt(variance_of(self._points, self.fitted.variances))
        same = [i for i, each in enumerate(self.entries) if each.benchmark == workload.benchmark]
        same.sort(key=lambda i: (self.entries[i].workload.configuration != workload.configuration, -alike[i]))
        return tuple(self.entries[i] for i in same[:most])

    def require_benchmark(self, name: str) -> None:
        """Raise an UnknownBenchmarkError unless entries of a benchmark were learned."""
        if name not in self.benchmarks:
            near = difflib.get_close_matches(name, self.benchmarks, n=1, cutoff=0.6)
            meant = f" Did you mean {near[0]}?" if near else ""
            known = ", ".join(self.benchmarks)
            raise UnknownBenchmarkError(
                f"no published entry of a benchmark {name!r} was learned from.{meant} Known: {known}."
            )

    def _shared(self, points: Points) -> np.ndarray:
        return covariance(points, self._points, self.fitted.variances)


def fit_regressor(entries: Sequence[EntryMedian], seed: int = 0) -> TimeRegressor:
    """Return the regressor learned from entries.

    Args:
        seed: of the entries that the variances are learned from, where they are many.

    Raises:
        ValueError: if the entries are too few.
    """
    if len(entries) < LEAST_ENTRIES:
        raise ValueError(
            f"{len(entries)} entries are too few to learn from; at least {LEAST_ENTRIES} are needed. "
            "Extract more rounds into the table."
        )
    with one_thread():
        return _fitted_to(entries, seed)


def _fitted_to(entries: Sequence[EntryMedian], seed: int) -> TimeRegressor:
    points = points_of([each.workload for each in entries], rounds_of(entries))
    logs = np.log([each.time_sec for each in entries])
    values = logs - logs.mean()
    variances = fit_variances(points, values, seed)
    shared = covariance(points, points, variances)
    weights = np.ones(len(entries))
    solution = Solution(shared, variances[NOISE] / weights, values)
    for _ in range(WEIGHINGS):
        errors, spread = solution.left_out([np.array([i]) for i in range(len(entries))])
        weights = (NOISE_FREEDOM + 1) / (NOISE_FREEDOM + errors**2 / (spread + variances[NOISE]))
        solution = Solution(shared, variances[NOISE] / weights, values)

    def standardised(groups: list[np.ndarray]) -> np.ndarray:
        errors, spread = solution.left_out(groups)
        return np.asarray(errors / np.sqrt(spread + variances[NOISE]))

    errors, _ = solution.left_out(groups_of(entries, lambda each: each.entry))
    off = np.abs(np.expm1(-errors))  # of predicted over true less 1
    return TimeRegressor(
        entries,
        Fitted(
            variances,
            tuple(map(float, weights)),
            range_factors(entries, standardised),
            {
                entries[rows[0]].benchmark: float(np.median(off[rows]))
                for rows in groups_of(entries, lambda each: each.benchmark)
            },
        ),
    )


def rounds_of(entries: Sequence[EntryMedian]) -> list[str]:
    """Return the rounds of entries in time."""
    return sorted({each.round for each in entries}, key=round_number)
