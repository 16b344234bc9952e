"""Steady epoch time, spread of repeats, and the error metrics of a regressor."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epochcast.schema import WARMUP_EPOCHS

STALL_RATIO = 1.25  # interference only adds time: an epoch this much slower than an undisturbed one was disturbed
MIN_TIMED_FOR_MEDIAN = 4
MIN_TIMED_FOR_SPREAD = 10  # from here on the fastest epoch is an extreme of the noise, the median is typical
STALL_SDS = 5.0  # robust standard deviations above the median: less may be the run's own noise
MAD_TO_SD = 1.4826  # of normal errors
MAX_STALLED_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class SteadyTime:
    """The time of an undisturbed epoch, in the unit of the times it was made from."""

    sec: float
    n_timed: int
    stalled_epochs: tuple[int, ...]  # indices into the times given, the untimed first epoch being 0
    is_unstable: bool  # more than a third of four or more timed epochs are slow: nothing is left out

    @property
    def n_stalled(self) -> int:
        return len(self.stalled_epochs)


def steady_time(epoch_times: Sequence[float]) -> SteadyTime:
    """Mean of the timed epochs without stalls; the median, with nothing left out, where the run is unstable.

    With fewer than four timed epochs, one slower than 1.25 x the fastest is a stall. With four or more the same,
    unless more than a third are that slow. With ten or more it is slower than 1.25 x the median and than the median
    by five robust standard deviations: the fastest of many is an extreme, and a limit that hangs on it would cut the
    slow half of ordinary noise off.

    Raises:
        ValueError: if there is no timed epoch.
    """
    timed = epoch_times[WARMUP_EPOCHS:]
    if not timed:
        raise ValueError(f"no timed epoch in {list(epoch_times)}: the first is warm-up, run at least 2.")
    limit, is_unstable = stall_limit(timed)
    if is_unstable:
        return SteadyTime(statistics.median(timed), len(timed), (), True)
    slow = tuple(i for i, seconds in enumerate(epoch_times) if i >= WARMUP_EPOCHS and seconds > limit)
    clean = [seconds for i, seconds in enumerate(epoch_times) if i >= WARMUP_EPOCHS and i not in slow]
    return SteadyTime(statistics.fmean(clean), len(timed), slow, False)


def stall_limit(timed: Sequence[float]) -> tuple[float, bool]:
    """The time above which an epoch is a stall, and whether too many are slow for any to be left out."""
    n = len(timed)
    if n < MIN_TIMED_FOR_SPREAD:
        limit = STALL_RATIO * min(timed)
        n_slow = sum(seconds > limit for seconds in timed)
        return limit, n >= MIN_TIMED_FOR_MEDIAN and n_slow > MAX_STALLED_SHARE * n
    typical = statistics.median(timed)
    sd = MAD_TO_SD * statistics.median(abs(seconds - typical) for seconds in timed)
    n_slow = sum(seconds > STALL_RATIO * typical for seconds in timed)
    n_fast = sum(seconds < typical / STALL_RATIO for seconds in timed)  # then the median is one of the slow
    return max(STALL_RATIO * typical, typical + STALL_SDS * sd), max(n_slow, n_fast) > MAX_STALLED_SHARE * n


def mean_and_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where there is no value, or only one for a deviation."""
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """Errors of predictions against measured values; `mape` and `p90_ape` are fractions."""

    n: int
    mae: float
    rmse: float
    r2: float | None  # None where the measured values do not vary
    mape: float
    p90_ape: float


def regression_metrics(measured: Sequence[float] | Any, predicted: Sequence[float] | Any) -> RegressionMetrics:
    """Errors of `predicted` against `measured`, both of shape (n,).

    Raises:
        ValueError: if they are empty, differ in length, hold a value that is not finite, or a measured one not above 0.
    """
    y, p = np.asarray(measured, float), np.asarray(predicted, float)
    if y.shape != p.shape or y.ndim != 1 or not y.size:
        raise ValueError(f"expected two equally long lists of values, got shapes {y.shape} and {p.shape}.")
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise ValueError("measured and predicted values must be finite.")
    if y.min() <= 0:
        raise ValueError(f"measured values must be above 0 for a relative error, got {y.min()}.")
    error = p - y
    variation = float(((y - y.mean()) ** 2).sum())
    relative = np.abs(error) / y
    return RegressionMetrics(
        n=y.size,
        mae=float(np.abs(error).mean()),
        rmse=math.sqrt(float((error**2).mean())),
        r2=1 - float((error**2).sum()) / variation if np.ptp(y) > 0 else None,
        mape=float(relative.mean()),
        p90_ape=float(np.quantile(relative, 0.9)),
    )
