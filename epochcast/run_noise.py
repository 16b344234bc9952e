"""Noise of the runs of one set of conditions, and how much it differs from run to run.

Noise is the standard deviation of undisturbed epochs as a share of their mean. Where the runs' variances spread more
than chance allows, the others say less of a run's own noise: their variance then has only the degrees of freedom of a
prior (d0), found from the spread of the log variances by the method of moments of limma's fitFDist (G. K. Smyth, Linear
models and empirical Bayes methods for assessing differential expression in microarray experiments, Statistical
Applications in Genetics and Molecular Biology 3(1), article 3, 2004, section 6.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epochcast.schema import WARMUP_EPOCHS
from epochcast.stats import chi2_quantile, chi2_share, log_variance_moments, trigamma_inverse

CALM_LEVEL = 0.975  # a run that varies more than this quantile may hold a stall
CALM_ROUNDS = 3  # by then the limit is that of the runs left in, not of all
LEAST_VARIANCE = 1e-5  # of the median of all; equal times have no logarithm of a variance
SPREAD_SDS = (
    2.0  # standard errors that the spread of log variances must be above chance; they are taken off; by simulation
)
MIN_SPREAD_RUNS = 3  # two runs show no spread


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of a run's undisturbed epochs over their mean, and the degrees of freedom behind it."""

    rel_sd: float
    freedom: float


class RunNoise:
    """Noise of the runs of one set of conditions, of all of them or of all but one.

    Runs that vary more than 97.5 % of undisturbed ones do are left out of the variance, as they may hold stalls, and
    the variance of the rest is corrected for that: the mean of chi-squared below its quantile q is F(q; n + 2) /
    F(q; n) of n. In the spread of variances such a run counts without its slowest epoch.
    """

    def __init__(self, runs: Sequence[Sequence[float]]) -> None:
        """`runs` are the seconds of each run's epochs, the untimed first included."""
        lengths = np.array([len(times) - WARMUP_EPOCHS for times in runs], int)
        freedom = np.maximum(lengths - 1, 0)
        squares, rest_squares = np.zeros(len(runs)), np.zeros(len(runs))
        for length in np.unique(lengths[lengths > 1]):
            at = np.flatnonzero(lengths == length)
            timed = np.sort(np.array([runs[int(i)][WARMUP_EPOCHS:] for i in at], float), axis=1)
            squares[at], rest_squares[at] = _rel_squares(timed), _rel_squares(timed[:, :-1])
        self._squares, self._freedom = np.zeros(len(runs)), np.zeros(len(runs))
        self._logs = np.zeros((len(runs), 5))  # one, log variance less its bias, its square, and what chance gives
        known = np.flatnonzero(freedom > 0)
        if known.size:
            of_known, of_squares = freedom[known], squares[known]
            most = chi2_quantile(CALM_LEVEL, of_known)
            kept_share = chi2_share(most, of_known + 2) / chi2_share(most, of_known)
            typical = float(np.median(of_squares / chi2_quantile(0.5, of_known)))
            for _ in range(CALM_ROUNDS):
                is_calm = of_squares <= most * typical
                kept = np.where(is_calm, of_squares / kept_share, 0.0)
                typical = float(kept.sum() / max(of_known[is_calm].sum(), 1))
            self._squares[known], self._freedom[known] = kept, np.where(is_calm, of_known, 0)
            counted = np.where(is_calm, of_known, of_known - 1)
            self._logs[known] = _logs(np.where(is_calm, of_squares, rest_squares[known]), counted)
        self._sums = (self._squares.sum(), self._freedom.sum(), self._logs.sum(0))

    def of_all(self) -> Noise | None:
        (variance,), (freedom,) = _moderated(*(np.asarray(each)[None] for each in self._sums))
        return _noise(variance, freedom)

    def of_others(self, index: int) -> Noise | None:
        """The noise of all runs but the one at `index`."""
        variance, freedom = self.without_each(slice(index, index + 1))
        return _noise(variance[0], freedom[0])

    def without_each(self, chosen: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return the variance of the others and its degrees of freedom, 0 where unknown, for each chosen run."""
        squares, freedom, logs = self._sums
        return _moderated(squares - self._squares[chosen], freedom - self._freedom[chosen], logs - self._logs[chosen])


def _rel_squares(timed: np.ndarray) -> np.ndarray:
    """The sum of squares around the mean of each row, over the mean squared."""
    above = timed - timed[:, :1]  # small numbers: their squares lose no digits
    return np.asarray(((above - above.mean(1, keepdims=True)) ** 2).sum(1) / timed.mean(1) ** 2)


def _logs(squares: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """What each run adds to the sums that the spread of log variances is made of; zeros without freedom."""
    made_of = np.zeros((len(squares), 5))
    known = np.flatnonzero(freedom > 0)
    variance = squares[known] / freedom[known]
    least = LEAST_VARIANCE * float(np.median(variance)) if known.size else 0.0
    if least > 0:
        mean, of_chance, fourth = log_variance_moments(freedom[known])
        logs = np.log(np.maximum(variance, least)) - mean
        made_of[known] = np.stack([np.ones(known.size), logs, logs**2, of_chance, fourth], axis=1)
    return made_of


def _moderated(squares: np.ndarray, freedom: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The variance that a further run may have, and its degrees of freedom, from sums over the known runs."""
    known = freedom > 0.5  # whole numbers
    freedom = np.where(known, freedom, 0.0)
    variance = np.where(known, np.maximum(squares, 0.0) / np.maximum(freedom, 1.0), 0.0)
    n, total, of_squares, of_chance, fourth = logs.T
    at = np.flatnonzero((n >= MIN_SPREAD_RUNS) & known)
    mean, chance = total[at] / n[at], of_chance[at] / n[at]
    chance_sd = np.sqrt((fourth[at] / n[at] + 2 * chance**2) / n[at])
    spread = (of_squares[at] - n[at] * mean**2) / (n[at] - 1) - chance - SPREAD_SDS * chance_sd
    differs = spread > 0
    at = at[differs]
    if at.size:
        prior = 2 * trigamma_inverse(spread[differs])
        variance[at] = np.exp(mean[differs] + log_variance_moments(prior)[0])
        freedom[at] = 1 / (1 / prior + 1 / freedom[at])  # the prior's mean is known by the runs there are
    return variance, freedom


def _noise(variance: float, freedom: float) -> Noise | None:
    return Noise(math.sqrt(variance), float(freedom)) if freedom > 0 else None
