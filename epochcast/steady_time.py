"""Steady time of a run: the mean of its timed epochs without those that something else slowed (stalls).

The rule was found by simulation (`benchmarks/bench_stalls.py`, docs/stalls.md). Noise is the standard deviation of
undisturbed epochs as a share of their mean. A run of four timed epochs can't know its own noise, so the other runs of
the same conditions help where there are any.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from epochcast.schema import WARMUP_EPOCHS
from epochcast.stats import chi2_quantile, chi2_share, f_quantile, t_quantile

LEAST_QUANTILE = 2.0  # Student's t at any level below is more
MOST_EXPONENT = 300.0  # no epoch is slower than e to this times another
RULE = 2  # counts the rules that there were: averages made by another one are out of date
STALL_RATIO = 1.25  # a slower epoch changes the mean of four by 6 %; less is no stall, however sure
JUDGED_RATIO = 2.0  # where only slower epochs would be found, a run with a slow one is unstable
MAX_STALLED_SHARE = 1 / 3
MIN_TIMED = 4  # with fewer a stall must be all but certain
MIN_FREEDOM = 2  # degrees of freedom of the noise; with fewer nothing is excluded
# chance that an undisturbed epoch lies above the limit; chosen on other seeds than the published table
LEVEL_ALONE = 0.005
LEVEL_SURE = 0.001  # with fewer than MIN_TIMED, and for more than a third of the epochs
LEVEL_KNOWN = 0.0075  # with the noise of other runs; LEVEL_KNOWN_TIMES_N / n for a run of few epochs
LEVEL_KNOWN_TIMES_N = 0.085
KNOWN_FREEDOM = 120  # of forty other runs of four timed epochs; with fewer the level is between the two
MAX_NOISE = 0.165  # above the 15 % up to which stalls are to be found: an estimate is off to either side
NOISE_LEVEL = 0.98  # how sure it must be that the noise is above MAX_NOISE
SAME_NOISE_LEVEL = 0.9999  # a run whose noise differs from that of the others by far more than chance counts alone
CALM_LEVEL = 0.975  # a run that varies more than this quantile is no measure of noise
CALM_ROUNDS = 3  # by then the limit is that of the runs left in, not of all


# a run is looked at after each of its epochs, a table's runs have few lengths
_t_quantile = functools.lru_cache(4096)(t_quantile)
_chi2_quantile = functools.lru_cache(4096)(chi2_quantile)
_f_quantile = functools.lru_cache(4096)(f_quantile)


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of a run's undisturbed epochs over their mean, and the degrees of freedom behind it."""

    rel_sd: float
    freedom: int


@dataclass(frozen=True, slots=True)
class SteadyTime:
    """The time of an undisturbed epoch, in the unit of the times it was made from."""

    sec: float
    n_timed: int
    stalled_epochs: tuple[int, ...]  # indices into the times given, the untimed first epoch being 0
    is_unstable: bool  # an epoch may be a stall or noise: nothing is excluded
    limit_sec: float = field(default=float("inf"), compare=False)  # a stall is slower; infinite where there is none

    @property
    def n_stalled(self) -> int:
        return len(self.stalled_epochs)


def steady_time(epoch_times: Sequence[float], noise: Noise | None = None) -> SteadyTime:
    """Return the mean of the timed epochs without stalls; of all of them where stalls can't be found.

    The m slowest epochs are stalls if the fastest of them is above STALL_RATIO and exp(t x s x sqrt(1 + 1 / n_rest))
    times the mean of the rest; the largest such m counts. t is a quantile of Student's t, s the noise of the rest,
    pooled with `noise`, which other runs of the same conditions show. Nothing is excluded, and the run is unstable,
    where more than a third of the epochs would be stalls; and, where an epoch is STALL_RATIO slower or faster than the
    rest, if the noise is surely above MAX_NOISE, or the bound above JUDGED_RATIO.

    Raises:
        ValueError: if there is no timed epoch.
    """
    timed = epoch_times[WARMUP_EPOCHS:]
    if not timed:
        raise ValueError(f"no timed epoch in {list(epoch_times)}: the first is warm-up, run at least 2.")
    n = len(timed)
    if max(timed) <= STALL_RATIO * min(timed):
        return SteadyTime(statistics.fmean(timed), n, (), False)
    order = sorted(range(n), key=timed.__getitem__)
    sides = _Sides([timed[i] for i in order], noise)
    n_slow = sides.n_slow()
    is_noisy = sides.bound(min(max(n_slow, 1), sides.most)).is_noisy
    if n_slow == 0 or n_slow > sides.most or is_noisy:
        is_doubtful = sides.has_odd and (is_noisy or sides.bound(1).ratio > JUDGED_RATIO)
        return SteadyTime(statistics.fmean(timed), n, (), is_doubtful or n_slow > sides.most)
    slow = frozenset(order[n - n_slow :])
    sec = statistics.fmean(seconds for i, seconds in enumerate(timed) if i not in slow)
    stalled = tuple(sorted(i + WARMUP_EPOCHS for i in slow))
    return SteadyTime(sec, n, stalled, False, sides.bound(n_slow).sec)


@dataclass(frozen=True, slots=True)
class _Bound:
    """Above this the slowest epochs that were set aside are stalls."""

    ratio: float  # to the mean of the rest; infinite where the noise is not known
    sec: float
    is_noisy: bool  # surely: too noisy for stalls to be found


class _Sides:
    """Epochs in order of their time, for each number m of slowest ones set aside; arrays start at m = 1."""

    def __init__(self, ordered: Sequence[float], noise: Noise | None) -> None:
        self._n, self._noise = len(ordered), noise
        self.most = max(1, int(MAX_STALLED_SHARE * self._n + 1e-9))  # that may be excluded
        seconds = np.asarray(ordered, float)
        above = seconds - ordered[0]  # small numbers: their squares lose no digits
        self._n_rest = n_rest = np.arange(self._n - 1, 0, -1)
        mean_above = np.cumsum(above)[n_rest - 1] / n_rest
        self._mean_sec = ordered[0] + mean_above
        squares = np.cumsum(above**2)[n_rest - 1] - n_rest * mean_above**2
        self._squares = np.maximum(squares, 0.0) / self._mean_sec**2
        self._ratio = seconds[n_rest] / self._mean_sec  # of the fastest that is set aside
        is_fast = ordered[0] + above[1:].mean() > STALL_RATIO * ordered[0]
        self.has_odd = bool(self._ratio[0] > STALL_RATIO or is_fast)  # an epoch that is slow, or fast, for the rest

    def n_slow(self) -> int:
        """The most epochs that are all above their bound."""
        variance = self._squares / np.maximum(self._n_rest - 1, 1)
        if (noise := self._noise) is not None:
            pooled = self._squares + noise.freedom * noise.rel_sd**2
            pooled /= self._n_rest - 1 + noise.freedom
            variance = np.where(self._n_rest > 1, np.minimum(variance, pooled), pooled)
        least = np.exp(np.minimum(LEAST_QUANTILE * np.sqrt(variance * (1 + 1 / self._n_rest)), MOST_EXPONENT))
        slow = np.flatnonzero(self._ratio > np.maximum(least, STALL_RATIO))[::-1]  # a quick look, without quantiles
        return next((int(i) + 1 for i in slow if self._ratio[i] > self.bound(int(i) + 1).ratio), 0)

    def bound(self, m: int) -> _Bound:
        """The bound of the m slowest."""
        n_rest, squares = int(self._n_rest[m - 1]), float(self._squares[m - 1])
        freedom, of_others = n_rest - 1, 0
        if (noise := self._noise) is not None and noise.freedom > 0:
            of_others = noise.freedom if _is_same(squares, freedom, noise) else 0
            squares, freedom = squares + of_others * noise.rel_sd**2, freedom + of_others
        mean_sec = float(self._mean_sec[m - 1])
        is_noisy = freedom > 0 and squares > MAX_NOISE**2 * _chi2_quantile(NOISE_LEVEL, freedom)
        if freedom < MIN_FREEDOM:
            return _Bound(math.inf, math.inf, is_noisy)
        is_sure = self._n < MIN_TIMED or m > self.most
        t = _t_quantile(1 - (LEVEL_SURE if is_sure else _level(self._n, of_others)), freedom)
        exponent = min(t * math.sqrt(squares / freedom * (1 + 1 / n_rest)), MOST_EXPONENT)
        ratio = max(math.exp(exponent), STALL_RATIO)
        return _Bound(ratio, ratio * mean_sec, is_noisy)


def _is_same(squares: float, freedom: int, noise: Noise) -> bool:
    """Whether the noise of the rest may be that of the other runs; too few epochs may be anything but larger."""
    least, most = (
        level_of * freedom * noise.rel_sd**2
        for level_of in (
            _f_quantile(1 - SAME_NOISE_LEVEL, freedom, noise.freedom) if freedom >= MIN_FREEDOM else 0.0,
            _f_quantile(SAME_NOISE_LEVEL, freedom, noise.freedom) if freedom else 0.0,
        )
    )
    return least <= squares <= most


def _level(n_timed: int, others_freedom: int) -> float:
    """The level of a run of so many timed epochs, by how well other runs know the noise."""
    known = min(max(LEVEL_KNOWN, LEVEL_KNOWN_TIMES_N / n_timed), LEVEL_KNOWN_TIMES_N / MIN_TIMED)
    return LEVEL_ALONE + min(others_freedom / KNOWN_FREEDOM, 1.0) * (known - LEVEL_ALONE)


class RunNoise:
    """Noise of the runs of one set of conditions, of all of them or of all but one.

    Runs that vary more than 97.5 % of undisturbed ones do are left out, as they may hold stalls, and the variance
    of the rest is corrected for that: the mean of chi-squared below its quantile q is F(q; n + 2) / F(q; n) of n.
    """

    def __init__(self, runs: Sequence[Sequence[float]]) -> None:
        """`runs` are the seconds of each run's epochs, the untimed first included."""
        freedom = np.array([max(len(times) - WARMUP_EPOCHS - 1, 0) for times in runs])
        self._squares, self._freedom = np.zeros(len(runs)), np.zeros(len(runs), int)
        known = np.flatnonzero(freedom > 0)
        if known.size:
            of_known = freedom[known]
            variance = np.array([_rel_variance(runs[int(i)][WARMUP_EPOCHS:]) for i in known])
            most = chi2_quantile(CALM_LEVEL, of_known)
            kept_share = chi2_share(most, of_known + 2) / chi2_share(most, of_known)
            typical = float(np.median(variance * of_known / chi2_quantile(0.5, of_known)))
            for _ in range(CALM_ROUNDS):
                is_calm = variance * of_known <= most * typical
                squares = np.where(is_calm, variance * of_known / kept_share, 0.0)
                typical = float(squares.sum() / max(of_known[is_calm].sum(), 1))
            self._squares[known], self._freedom[known] = squares, np.where(is_calm, of_known, 0)
        self._sum, self._sum_freedom = float(self._squares.sum()), int(self._freedom.sum())

    def of_all(self) -> Noise | None:
        return _noise(self._sum, self._sum_freedom)

    def of_others(self, index: int) -> Noise | None:
        """The noise of all runs but the one at `index`."""
        return _noise(self._sum - float(self._squares[index]), self._sum_freedom - int(self._freedom[index]))


def _noise(squares: float, freedom: int) -> Noise | None:
    return Noise(float(np.sqrt(max(squares, 0.0) / freedom)), freedom) if freedom > 0 else None


def _rel_variance(timed: Sequence[float]) -> float:
    times = np.asarray(timed, float)
    return float(times.var(ddof=1) / times.mean() ** 2)


def steady_times(runs: Sequence[Sequence[float]]) -> list[SteadyTime]:
    """Return the steady time of each run of one set of conditions, judged with the noise of the others."""
    noise = RunNoise(runs)
    return [steady_time(times, noise.of_others(i)) for i, times in enumerate(runs)]
