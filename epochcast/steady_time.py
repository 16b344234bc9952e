"""Steady time of a run, the mean of its timed epochs without stalls, and how well it is known.

A stall is an epoch that something else slowed. The rule was found by simulation (`benchmarks/bench_stalls.py`,
docs/stalls.md). Noise is the standard deviation of undisturbed epochs as a share of their mean. A run of four timed
epochs can't know its own noise, so the other runs of the same conditions help where there are any.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from epochcast.interval import OWN_COVERAGE
from epochcast.run_noise import Noise, RunNoise
from epochcast.schema import WARMUP_EPOCHS
from epochcast.stats import chi2_quantile, f_quantile, t_quantile

LEAST_QUANTILE = 1.8  # Student's t at any level below is more
MOST_EXPONENT = 300.0  # no epoch is slower than e to this times another
MOST_F = 1e12  # at a small share of a degree of freedom the quantile is infinite
RULE = 3  # counts the rules that there were: averages made by another one are out of date
STALL_RATIO = 1.25  # a slower epoch changes the mean of four by 6 %; less is no stall, however sure
JUDGED_RATIO = 2.0  # where only slower epochs would be found, a run with a slow one is unstable
MAX_STALLED_SHARE = 1 / 3
MIN_TIMED_FOR_STALLS = 4  # with fewer a stall must be all but certain
MIN_FREEDOM = 2  # degrees of freedom of the noise; with fewer nothing is excluded
# chance that an undisturbed epoch lies above the limit; chosen on other seeds than the published table
LEVEL_ALONE = 0.005  # of a run alone that has few epochs
LEVEL_ALONE_MANY = 0.009  # of a run alone that has MANY_TIMED epochs
FEW_TIMED, MANY_TIMED = 12, 20
LEVEL_SURE = 0.001  # with fewer than MIN_TIMED_FOR_STALLS, and for more than a third of the epochs
LEVEL_KNOWN, LEVEL_KNOWN_TIMES_N = 0.0075, 0.057  # with the noise of other runs: the first, and the second over n
KNOWN_FREEDOM = 40  # degrees of freedom of the others; with fewer the level is between the two
MAX_NOISE = 0.165  # above the 15 % up to which stalls are to be found: an estimate is off to either side
NOISE_LEVEL = 0.98  # how sure it must be that the noise is above MAX_NOISE
# a run whose noise differs from that of the others by more than this quantile counts alone; one of many epochs knows
# its noise well, so it loses little where it does so by chance
SAME_NOISE_LEVELS = ((15, 0.92), (10, 0.97), (6, 0.99), (0, 0.999))  # from so many timed epochs on
MIN_TIMED_EPOCHS = 5  # with fewer, or in less time, a tight interval is often one quiet moment
MIN_TIMED_SEC = 10.0
NOTABLE_SHARE = 0.01  # a change of the epoch time below this is not worth a flag, however certain
TREND_LEVEL = 0.01  # chance that a run without a trend is flagged
WARMUP_LEVEL = 0.005


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
    variance, freedom = (noise.rel_sd**2, noise.freedom) if noise is not None else (0.0, 0.0)
    judged = judge(np.array([timed], float), np.array([variance]), np.array([freedom]))
    slow = frozenset(np.flatnonzero(judged.is_slow[0]).tolist())
    sec = statistics.fmean(seconds for i, seconds in enumerate(timed) if i not in slow)
    stalled = tuple(i + WARMUP_EPOCHS for i in sorted(slow))
    return SteadyTime(sec, n, stalled, bool(judged.is_unstable[0]), float(judged.limit_sec[0]))


@dataclass(frozen=True, slots=True)
class Judged:
    """What is a stall in many runs."""

    is_slow: np.ndarray  # (runs, epochs)
    is_unstable: np.ndarray  # (runs,)
    limit_sec: np.ndarray  # (runs,); infinite where nothing is excluded


def judge(timed: np.ndarray, variance: np.ndarray, freedom: np.ndarray) -> Judged:
    """Judge many runs of equally many timed epochs at once.

    `timed` has a row for each run; `variance` and `freedom` are the noise of its others, freedom 0 where unknown.
    """
    judged = Judged(np.zeros(timed.shape, bool), np.zeros(len(timed), bool), np.full(len(timed), np.inf))
    at = np.flatnonzero(timed.max(1) > STALL_RATIO * timed.min(1))
    if at.size == 0:
        return judged
    n = timed.shape[1]
    order = np.argsort(timed[at], axis=1, kind="stable")
    sides = _Sides(np.take_along_axis(timed[at], order, axis=1), variance[at], freedom[at])
    n_slow, rows = sides.n_slow(), np.arange(at.size)
    bound = sides.bound(rows, np.clip(n_slow, 1, sides.most))
    is_excluded = (n_slow > 0) & (n_slow <= sides.most) & ~bound.is_noisy
    is_vague = bound.is_noisy | (sides.bound(rows, np.ones_like(rows)).ratio > JUDGED_RATIO)
    judged.is_unstable[at] = ~is_excluded & ((sides.has_odd & is_vague) | (n_slow > sides.most))
    judged.limit_sec[at] = np.where(is_excluded, bound.sec, np.inf)
    is_slow = np.arange(n) >= np.where(is_excluded, n - n_slow, n)[:, None]
    in_order = np.zeros_like(is_slow)
    np.put_along_axis(in_order, order, is_slow, axis=1)
    judged.is_slow[at] = in_order
    return judged


@dataclass(frozen=True, slots=True)
class _Bound:
    """Above this the slowest epochs that were set aside are stalls; an array for each."""

    ratio: np.ndarray  # to the mean of the rest; infinite where the noise is not known
    sec: np.ndarray
    is_noisy: np.ndarray  # surely: too noisy for stalls to be found


class _Sides:
    """Epochs in order of their time, for each number m of slowest ones set aside; columns start at m = 1."""

    def __init__(self, ordered: np.ndarray, variance: np.ndarray, freedom: np.ndarray) -> None:
        self._n, self._variance, self._freedom = ordered.shape[1], variance, freedom
        self.most = max(1, int(MAX_STALLED_SHARE * self._n + 1e-9))  # that may be excluded
        fastest = ordered[:, :1]
        above = ordered - fastest  # small numbers: their squares lose no digits
        self._n_rest = n_rest = np.arange(self._n - 1, 0, -1)
        mean_above = np.cumsum(above, axis=1)[:, n_rest - 1] / n_rest
        self._mean_sec = fastest + mean_above
        squares = np.cumsum(above**2, axis=1)[:, n_rest - 1] - n_rest * mean_above**2
        self._squares = np.maximum(squares, 0.0) / self._mean_sec**2
        self._ratio = ordered[:, n_rest] / self._mean_sec  # of the fastest that is set aside
        is_fast = above[:, 1:].mean(1) > (STALL_RATIO - 1) * fastest[:, 0]
        self.has_odd = (self._ratio[:, 0] > STALL_RATIO) | is_fast  # an epoch that is slow, or fast, for the rest

    def n_slow(self) -> np.ndarray:
        """The most epochs of each run that are all above their bound."""
        of_others = self._freedom[:, None]
        variance = self._squares / np.maximum(self._n_rest - 1, 1)
        pooled = self._squares + of_others * self._variance[:, None]
        pooled /= np.maximum(self._n_rest - 1 + of_others, 1e-9)
        variance = np.where(self._n_rest > 1, np.minimum(variance, pooled), pooled)
        least = np.exp(np.minimum(LEAST_QUANTILE * np.sqrt(variance * (1 + 1 / self._n_rest)), MOST_EXPONENT))
        rows, at = np.nonzero(self._ratio > np.maximum(least, STALL_RATIO))  # a quick look, without quantiles
        is_above = self._ratio[rows, at] > self.bound(rows, at + 1).ratio
        n_slow = np.zeros(len(self._ratio), int)
        np.maximum.at(n_slow, rows[is_above], at[is_above] + 1)
        return n_slow

    def bound(self, rows: np.ndarray, m: np.ndarray) -> _Bound:
        """The bound of the m slowest of some runs."""
        n_rest, squares = self._n - m, self._squares[rows, m - 1]
        variance, own = self._variance[rows], n_rest - 1
        of_others = np.where(_is_same(self._n, squares, own, variance, self._freedom[rows]), self._freedom[rows], 0.0)
        squares, freedom = squares + of_others * variance, own + of_others
        least_freedom = np.maximum(freedom, MIN_FREEDOM)
        is_noisy = (freedom > 0) & (squares > MAX_NOISE**2 * chi2_quantile(NOISE_LEVEL, np.maximum(freedom, 1e-3)))
        is_sure = (self._n < MIN_TIMED_FOR_STALLS) | (m > self.most)
        t = t_quantile(1 - np.where(is_sure, LEVEL_SURE, _level(self._n, of_others)), least_freedom)
        exponent = np.minimum(t * np.sqrt(squares / least_freedom * (1 + 1 / n_rest)), MOST_EXPONENT)
        ratio = np.where(freedom >= MIN_FREEDOM, np.maximum(np.exp(exponent), STALL_RATIO), np.inf)
        return _Bound(ratio, ratio * self._mean_sec[rows, m - 1], is_noisy)


def _is_same(
    n_timed: int, squares: np.ndarray, own: np.ndarray, variance: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Whether the noise of the rest may be that of the other runs; too few epochs may be anything but larger."""
    level = next(level for least_timed, level in SAME_NOISE_LEVELS if n_timed >= least_timed)
    expected, freedom = np.maximum(own, 1) * variance, np.where(others > 0, others, 1.0)
    least = np.where(own >= MIN_FREEDOM, f_quantile(1 - level, np.maximum(own, MIN_FREEDOM), freedom), 0.0)
    most = np.minimum(f_quantile(level, np.maximum(own, 1), freedom), MOST_F)
    is_within = (least * expected <= squares) & (squares <= most * expected)
    return np.asarray((others > 0) & ((own == 0) | is_within))


def _level(n_timed: int, others_freedom: np.ndarray) -> np.ndarray:
    """The level of a run of so many timed epochs, by how well other runs know the noise."""
    known = LEVEL_KNOWN + LEVEL_KNOWN_TIMES_N / n_timed
    share = min(max((n_timed - FEW_TIMED) / (MANY_TIMED - FEW_TIMED), 0.0), 1.0)
    alone = LEVEL_ALONE + share * (LEVEL_ALONE_MANY - LEVEL_ALONE)
    return np.asarray(alone + np.minimum(others_freedom / KNOWN_FREEDOM, 1.0) * (known - alone))


def steady_times(runs: Sequence[Sequence[float]]) -> list[SteadyTime]:
    """Return the steady time of each run of one set of conditions, judged with the noise of the others."""
    noise = RunNoise(runs)
    return [steady_time(times, noise.of_others(i)) for i, times in enumerate(runs)]


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How well a steady time is known, in shares of it; None for too few timed epochs."""

    rel_spread: float | None  # sample standard deviation of the stall-free timed epochs
    rel_ci95: float | None  # half-width of the 95 % interval of the steady time (Student's t)
    rel_trend: float | None  # change from the first to the last timed epoch along a fitted line; above 0: slower
    has_trend: bool
    n_slow_first: int  # timed epochs at the beginning that are slower than the second half explains
    is_short: bool  # under MIN_TIMED_EPOCHS or MIN_TIMED_SEC


def uncertainty(epoch_times: Sequence[float], noise: Noise | None = None) -> Uncertainty:
    """Return how well a run's steady time is known, from its epochs' seconds, the untimed first included.

    `noise` is what other runs of the same conditions show; stalls are found with it.

    Raises:
        ValueError: if there is no timed epoch.
    """
    return uncertainty_of(epoch_times, steady_time(epoch_times, noise))


def uncertainty_of(epoch_times: Sequence[float], steady: SteadyTime) -> Uncertainty:
    """Return how well a steady time is known that was made from these epochs."""
    timed = epoch_times[WARMUP_EPOCHS:]
    rel_spread, rel_ci95 = spread_and_interval(epoch_times, steady)
    n_slow_first = _slow_first(timed)
    settled = [
        s for i, s in enumerate(epoch_times) if i >= WARMUP_EPOCHS + n_slow_first and i not in steady.stalled_epochs
    ]
    rel_trend, has_trend = _trend(settled, steady.sec)
    return Uncertainty(
        rel_spread=rel_spread,
        rel_ci95=rel_ci95,
        rel_trend=rel_trend,
        has_trend=has_trend,
        n_slow_first=n_slow_first,
        is_short=is_short(timed),
    )


def spread_and_interval(epoch_times: Sequence[float], steady: SteadyTime) -> tuple[float | None, float | None]:
    """Return `rel_spread` and `rel_ci95` of a run whose steady time is known, both None of one clean timed epoch."""
    clean = [s for i, s in enumerate(epoch_times) if i >= WARMUP_EPOCHS and i not in steady.stalled_epochs]
    if len(clean) < 2:
        return None, None
    mean_sec = statistics.fmean(clean)  # `statistics.stdev` is exact and ten times slower, for each row of a table
    spread = math.sqrt(math.fsum((s - mean_sec) ** 2 for s in clean) / (len(clean) - 1))
    rel_spread = spread / steady.sec
    return rel_spread, float(t_quantile((1 + OWN_COVERAGE) / 2, len(clean) - 1)) * rel_spread / math.sqrt(len(clean))


def is_short(timed: Sequence[float]) -> bool:
    """Whether the timed epochs are too few, or took too little time, for their interval to be believed."""
    return len(timed) < MIN_TIMED_EPOCHS or sum(timed) < MIN_TIMED_SEC


def _trend(settled: Sequence[float], steady_sec: float) -> tuple[float | None, bool]:
    """The change along the least-squares line as a share, and whether it is notable and no chance (t-test of slope)."""
    n = len(settled)
    if n < 3:
        return None, False
    mean_i, mean_sec = (n - 1) / 2, statistics.fmean(settled)
    s_ii = sum((i - mean_i) ** 2 for i in range(n))
    slope = sum((i - mean_i) * (sec - mean_sec) for i, sec in enumerate(settled)) / s_ii
    rest = sum((sec - mean_sec - slope * (i - mean_i)) ** 2 for i, sec in enumerate(settled))
    rel_trend = slope * (n - 1) / steady_sec
    if n < MIN_TIMED_EPOCHS or abs(rel_trend) < NOTABLE_SHARE:
        return rel_trend, False
    error = math.sqrt(rest / (n - 2) / s_ii)
    return rel_trend, abs(slope) > t_quantile(1 - TREND_LEVEL / 2, n - 2) * error


def _slow_first(timed: Sequence[float]) -> int:
    """How many epochs at the beginning lie above what the second half lets expect of one more epoch.

    The limit is the upper prediction bound of the second half (Student's t, one-sided), and at least NOTABLE_SHARE
    above its mean. Where the whole first half is slow it is no warm-up but a trend, or a run that changed: none count.
    """
    if len(timed) < MIN_TIMED_EPOCHS:
        return 0
    half = timed[len(timed) // 2 :]
    n, mean_sec = len(half), statistics.fmean(half)
    bound = t_quantile(1 - WARMUP_LEVEL, n - 1) * statistics.stdev(half) * math.sqrt(1 + 1 / n)
    limit = mean_sec + max(bound, NOTABLE_SHARE * mean_sec)
    n_slow = 0
    while n_slow < len(timed) // 2 and timed[n_slow] > limit:
        n_slow += 1
    return n_slow if n_slow < len(timed) // 2 else 0
