"""Which configurations to measure next, for the largest gain in knowledge per second of measuring.

First a D-optimal start for the terms of the physics law (greedy: the row that the rows so far say least about), then
integrated variance reduction of a Gaussian process on the network's inputs, for what the law leaves over. No measured
time enters the geometry, so the design works on a device that nothing is known of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from epochcast.schema import RunConfig
from model.features import FEATURE_NAMES, feature_matrix
from model.fitting import LAW_ALONE
from model.physics import FORMS, Array, Law, columns_of, fit_law, fit_law_from

D_OPTIMAL_RUNS = len(FORMS[LAW_ALONE]) + 1  # one more than there are coefficients: after that, a flexible model's turn
RIDGE = 1e-4  # of the information matrix before any row
KERNEL_LENGTH = 1.2  # of the Gaussian process, in standard deviations of its inputs
KERNEL_NOISE = 1e-3  # variance of a measurement, the process's own being 1

# what is planned or measured where a user names nothing else
DEFAULT_GRID = {"depth": (2, 3, 4, 5), "base_filters": (16, 32, 64, 128), "batch_size": (64, 128, 256, 512, 1024, 2048)}
Costs = Callable[[list[int]], Array]  # of every candidate, shape (n,), given the indices of those already measured


def information_rows(configs: Sequence[RunConfig], train_n: int) -> Array:
    """What a run says of each coefficient of the law, shape (n, terms): shares of a time of equal terms."""
    columns = columns_of(LAW_ALONE, configs, train_n)
    scaled = columns / columns.mean(axis=0)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def next_indices(
    candidates: Sequence[RunConfig],
    measured: Sequence[int],
    n: int,
    train_n: int,
    costs: Costs | None = None,
) -> list[int]:
    """Indices of the next `n` candidates to measure, in order; fewer if there are no more.

    Args:
        candidates: all configurations that could be measured or have been, each once.
        measured: indices of those that have been.
        costs: seconds of each candidate, given what is measured by then; None: all the same.
    """
    rows = information_rows(candidates, train_n)
    features = feature_matrix(candidates, FEATURE_NAMES, train_n)
    spread = features.std(axis=0)
    x = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    taken = list(measured)
    chosen: list[int] = []
    while len(chosen) < n and len(taken) < len(candidates):
        gain = _d_optimal_gain(rows, taken) if len(taken) < D_OPTIMAL_RUNS else _variance_reduction(x, taken)
        score = gain if costs is None else gain / costs(taken)
        score[taken] = -math.inf
        best = int(np.argmax(score))
        chosen.append(best)
        taken.append(best)
    return chosen


def _d_optimal_gain(rows: Array, taken: Sequence[int]) -> Array:
    """log det gain of the information matrix from each row, given the rows taken."""
    information = RIDGE * np.eye(rows.shape[1]) + rows[taken].T @ rows[taken]
    return np.asarray(np.log1p(np.einsum("ni,ij,nj->n", rows, np.linalg.inv(information), rows)))


def _variance_reduction(x: Array, taken: Sequence[int]) -> Array:
    """How much measuring each candidate lowers the posterior variance, summed over all candidates."""
    square = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)
    kernel = np.exp(-square / (2 * KERNEL_LENGTH**2))
    known = kernel[np.ix_(taken, taken)] + KERNEL_NOISE * np.eye(len(taken))
    posterior = kernel - kernel[:, taken] @ np.linalg.solve(known, kernel[taken])
    return np.asarray((posterior**2).sum(axis=0) / (np.diag(posterior) + KERNEL_NOISE))


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
