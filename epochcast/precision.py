"""How well a run's steady time is known, from its own epochs: spread, interval, trend, and a warm-up that goes on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from epochcast.run_noise import Noise
from epochcast.schema import WARMUP_EPOCHS
from epochcast.stats import t_quantile
from epochcast.steady_time import SteadyTime, steady_time

MIN_TIMED_EPOCHS = 5  # with fewer, or in less time, a tight interval is often one quiet moment
MIN_TIMED_SEC = 10.0
NOTABLE_SHARE = 0.01  # a change of the epoch time below this is not worth a flag, however certain
TREND_LEVEL = 0.01  # chance that a run without a trend is flagged
WARMUP_LEVEL = 0.005


@dataclass(frozen=True, slots=True)
class Precision:
    """Shares of the steady time; None where there are too few timed epochs to tell."""

    rel_spread: float | None  # sample standard deviation of the stall-free timed epochs
    rel_ci95: float | None  # half-width of the 95 % interval of the steady time (Student's t)
    rel_trend: float | None  # change from the first to the last timed epoch along a fitted line; above 0: slower
    has_trend: bool
    n_slow_first: int  # timed epochs at the beginning that are slower than the second half explains
    is_short: bool  # under MIN_TIMED_EPOCHS or MIN_TIMED_SEC


def precision(epoch_times: Sequence[float], noise: Noise | None = None) -> Precision:
    """Return how well a run's steady time is known, from its epochs' seconds, the untimed first included.

    `noise` is what other runs of the same conditions show; stalls are found with it.

    Raises:
        ValueError: if there is no timed epoch.
    """
    return precision_of(epoch_times, steady_time(epoch_times, noise))


def precision_of(epoch_times: Sequence[float], steady: SteadyTime) -> Precision:
    """Return how well a steady time is known that was made from these epochs."""
    timed = epoch_times[WARMUP_EPOCHS:]
    rel_spread, rel_ci95 = spread_and_interval(epoch_times, steady)
    n_slow_first = _slow_first(timed)
    settled = [
        s for i, s in enumerate(epoch_times) if i >= WARMUP_EPOCHS + n_slow_first and i not in steady.stalled_epochs
    ]
    rel_trend, has_trend = _trend(settled, steady.sec)
    return Precision(
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
    return rel_spread, float(t_quantile(0.975, len(clean) - 1)) * rel_spread / math.sqrt(len(clean))


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
