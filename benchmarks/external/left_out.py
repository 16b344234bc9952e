"""Fits of a form without groups of rows, and the errors on those."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from benchmarks.external.features import GROUPS, Array, Features
from benchmarks.external.forms import Form

SOFT = 0.15  # natural log: errors above it pull less, so that single odd rows do not decide
STARTS = 2
FEWEST = 30  # rows to fit on
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ErrorFactor:
    """Median and 90th percentile of the larger of predicted and measured over the smaller."""

    median: float
    p90: float
    n: int
    bias: float  # median of predicted over measured

    @classmethod
    def of(cls, errors: Array) -> ErrorFactor:
        """Return the error factors of natural logs of predicted over measured; nan is no answer."""
        known = errors[~np.isnan(errors)]
        if not len(known):
            return cls(math.nan, math.nan, 0, math.nan)
        factors = np.exp(np.abs(known))
        median, p90 = np.quantile(factors, [0.5, 0.9])
        return cls(float(median), float(p90), len(known), float(np.exp(np.median(known))))

    def __str__(self) -> str:
        return f"{self.median:.3f} / {self.p90:.3f}" if self.n else "-"


def fitted(form: Form, rows: Features) -> Array:
    """Return the numbers with which a form meets rows best, by the logs of their seconds."""
    start = np.array(form.start, float)
    if not len(start):
        return start
    random = np.random.default_rng(0)
    known = rows.take(~np.isnan(form.seconds(start, rows)))
    target = np.log(known.seconds)
    best = None
    for number in range(STARTS):
        begin = start + (random.normal(0, 0.3, len(start)) if number else 0.0)
        with np.errstate(all="ignore"):
            found = least_squares(
                lambda x: np.nan_to_num(np.log(form.seconds(x, known)) - target, nan=1e3, posinf=1e3, neginf=-1e3),
                begin,
                loss="soft_l1",
                f_scale=SOFT,
                max_nfev=200,
            )
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    return np.asarray(best.x)


def errors(form: Form, numbers: Array, rows: Features) -> Array:
    """Return the natural logs of predicted over measured."""
    with np.errstate(all="ignore"):
        return np.asarray(np.log(form.seconds(numbers, rows)) - np.log(rows.seconds))


def errors_left_out(form: Form, rows: Features, group_of: Callable[[Any], Any]) -> Array:
    """Return each row's error by the form fitted without its group; nan of too few rows."""
    labels = rows.labels(group_of)
    found = np.full(len(rows), math.nan)
    for label in np.unique(labels):
        is_out: Mask = labels == label
        if (~is_out).sum() >= FEWEST:
            found[is_out] = errors(form, fitted(form, rows.take(~is_out)), rows.take(is_out))
    return found


@dataclass(frozen=True)
class Judged:
    """A form fitted to all kinds of networks, with its errors on groups left out."""

    form: Form
    numbers: Array
    errors: Mapping[str, Array]

    def factor(self, group: str, chosen: Mask) -> ErrorFactor:
        return ErrorFactor.of(self.errors[group][chosen])

    def score(self, chosen: Mask, groups: Sequence[str] = ("GPU", "family", "set")) -> float:
        """Return the sum of the logs of median and 90th percentile: by which forms are compared."""
        factors = [self.factor(group, chosen) for group in groups]
        return sum(math.log(each.median) + math.log(each.p90) for each in factors)


def judged(form: Form, rows: Features, groups: Sequence[str] = tuple(GROUPS)) -> Judged:
    """Return a form with its errors for each kind of group left out."""
    return Judged(form, fitted(form, rows), {name: errors_left_out(form, rows, GROUPS[name]) for name in groups})
