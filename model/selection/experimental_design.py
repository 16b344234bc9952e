"""Which configurations to measure next, for the largest gain in knowledge per second of measuring.

First a D-optimal start for the terms of the physics law (greedy: the row that the rows so far say least about), then
integrated variance reduction of a Gaussian process on the network's inputs, for what the law leaves over. No measured
time enters the geometry, so the design works on a device that nothing is known of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.features import FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.physics import FORMS, Array, Law, columns_of, fit_law, fit_law_from
from epochcast.model.training.recipes import LAW_ALONE
from epochcast.schema import RunConfig

D_OPTIMAL_RUNS = len(FORMS[LAW_ALONE]) + 1  # one more than there are coefficients: after that, a flexible model's turn
RIDGE = 1e-4  # of the information matrix before any row
KERNEL_LENGTH = 1.2  # of the Gaussian process, in standard deviations of its inputs
KERNEL_NOISE = 1e-3  # variance of a measurement, the process's own being 1

Costs = Callable[[list[int]], Array]  # of every candidate, shape (n,), given the indices of those already measured
Fits = Callable[[list[int]], npt.NDArray[np.bool_]]  # which candidates still fit, given those chosen so far


def information_rows(configs: Sequence[RunConfig], train_n: int) -> Array:
    """What a run says of each coefficient of the law, shape (n, terms): shares of a time of equal terms."""
    columns = columns_of(LAW_ALONE, configs, train_n)
    scaled = columns / columns.mean(axis=0)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


class Field:
    """The design's Gaussian process over all candidates: what is still uncertain after those measured."""

    def __init__(self, candidates: Sequence[RunConfig], measured: Sequence[int], train_n: int) -> None:
        features = feature_matrix(candidates, FEATURE_NAMES, train_n)
        spread = features.std(axis=0)
        x = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        square = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
        self._covariance = np.exp(-square / (2 * KERNEL_LENGTH**2))  # each candidate has variance 1 at first
        for i in measured:
            self.measure(i)

    @property
    def known(self) -> float:
        """The share of the candidates' variance that the measured ones explain, 0 to 1."""
        return float(1 - np.diag(self._covariance).mean())

    def gains(self) -> Array:
        """How much more of it each candidate would explain if it were measured next, shape (n,)."""
        own = np.diag(self._covariance) + KERNEL_NOISE
        return np.asarray((self._covariance**2).sum(axis=0) / own / len(own))

    def measure(self, i: int) -> None:
        """Candidate `i` is measured."""
        row = self._covariance[i]
        self._covariance = self._covariance - np.outer(row, row) / (row[i] + KERNEL_NOISE)


def next_indices(
    candidates: Sequence[RunConfig],
    measured: Sequence[int],
    n: int,
    train_n: int,
    costs: Costs | None = None,
    fits: Fits | None = None,
) -> list[int]:
    """Indices of the next `n` candidates to measure, in order; fewer if there are no more, or no more that fit.

    Args:
        candidates: all configurations that could be measured or have been, each once.
        measured: indices of those that have been.
        costs: seconds of each candidate, given what is measured by then; None: all the same.
        fits: which candidates fit beside those chosen; None: all.
    """
    rows = information_rows(candidates, train_n)
    field = Field(candidates, measured, train_n)
    taken = list(measured)
    chosen: list[int] = []
    while len(chosen) < n and len(taken) < len(candidates):
        gain = _d_optimal_gain(rows, taken) if len(taken) < D_OPTIMAL_RUNS else field.gains()
        score = gain if costs is None else gain / costs(taken)
        score[taken] = -math.inf
        if fits is not None:
            score[~fits(chosen)] = -math.inf
        best = int(np.argmax(score))
        if score[best] == -math.inf:
            break
        chosen.append(best)
        taken.append(best)
        field.measure(best)
    return chosen


def _d_optimal_gain(rows: Array, taken: Sequence[int]) -> Array:
    """log det gain of the information matrix from each row, given the rows taken."""
    information = RIDGE * np.eye(rows.shape[1]) + rows[taken].T @ rows[taken]
    return np.asarray(np.log1p(np.einsum("ni,ij,nj->n", rows, np.linalg.inv(information), rows)))


def guessed_law(
    form: str, configs: Sequence[RunConfig], seconds: Array, train_n: int, over: Sequence[RunConfig]
) -> Law:
    """A law from as few as one row, for a guess at what other runs cost.

    With as many rows as terms it is fitted; with fewer, terms begin with equal parts of the time, on average of `over`.
    """
    if len(configs) >= len(FORMS[form]):
        return fit_law(form, configs, seconds, train_n)
    equal = Law(form, 1 / columns_of(form, over, train_n).mean(axis=0), train_n)
    return fit_law_from(equal, configs, seconds)
