"""Spread of repeats, quantiles of distributions, and the error metrics of a regressor."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MAD_TO_SD = 1.4826  # of normal errors
MIN_RUNS = 5  # whose spread is taken; of fewer the median absolute deviation may be 0 by chance


def t_quantile(level: Any, freedom: Any) -> Any:
    """Return the quantile of Student's t that lies above a share `level` of it; floats, or arrays."""
    from scipy.special import stdtrit  # 0.2 s: not at every start

    return _plain(stdtrit(freedom, level))


def chi2_quantile(level: float, freedom: Any) -> Any:
    """Return the quantile of chi-squared that lies above a share `level` of it; `freedom` a number or an array."""
    from scipy.special import chdtri

    return _plain(chdtri(freedom, 1 - level))


def chi2_share(value: Any, freedom: Any) -> Any:
    """Return the share of chi-squared that lies below a value; numbers, or arrays."""
    from scipy.special import chdtr

    return _plain(chdtr(freedom, value))


def log_variance_moments(freedom: Any) -> tuple[Any, Any, Any]:
    """Return mean, variance and fourth cumulant of the logarithm of a sample variance whose true value is 1."""
    from scipy.special import polygamma, psi

    half = np.asarray(freedom, float) / 2
    return psi(half) - np.log(half), polygamma(1, half), polygamma(3, half)


def trigamma_inverse(value: np.ndarray) -> np.ndarray:
    """Return where the trigamma function has each value, by Newton's method (limma's trigammaInverse)."""
    from scipy.special import polygamma

    value = np.clip(np.asarray(value, float), 1e-6, 1e7)
    at = 0.5 + 1 / value
    for _ in range(12):
        trigamma = polygamma(1, at)
        at = at + trigamma * (1 - trigamma / value) / polygamma(2, at)
    return np.asarray(at)


def f_quantile(level: float, freedom: Any, other_freedom: Any) -> Any:
    """Return the quantile of the F distribution that lies above a share `level` of it; numbers, or arrays."""
    from scipy.special import fdtri

    return _plain(fdtri(freedom, other_freedom, level))


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation, with the probability of one as strong by chance (two-sided, by Student's t)."""

    rho: float
    p: float
    n: int


def spearman(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Return the rank correlation of two lists, equal values at their mean rank; None where it is not defined.

    It is not of fewer than three pairs, nor where one list is constant.
    """
    n = len(x)
    if n < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    rho = float(np.clip(np.corrcoef(_mid_ranks(x), _mid_ranks(y))[0, 1], -1, 1))
    if abs(rho) > 1 - 1e-12:
        return Correlation(rho, 0.0, n)
    from scipy.special import stdtr  # 0.2 s: not at every start

    return Correlation(rho, float(2 * stdtr(n - 2, -abs(rho) * np.sqrt((n - 2) / (1 - rho * rho)))), n)


def _mid_ranks(values: Sequence[float]) -> np.ndarray:
    _, place, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _plain(value: Any) -> Any:
    """A float where the value is a single number; an array as it is."""
    return value if np.ndim(value) else float(value)


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
