"""The variances of the terms: those under which the entries are most likely."""

from __future__ import annotations

import math

import numpy as np

from epochcast.mlperf.regressor.covariance import NOISE, NOISE_VARIANCE, TERMS, Points, term_matrices
from epochcast.mlperf.regressor.equations import symmetric_inverse

MOST_ROWS = 800  # that variances are learned from; a step takes the cube of them
MOST_STEPS = 60
PRIOR_SD = 3.0  # of the log of a variance around its guess: keeps those that entries say nothing of


def fit_variances(points: Points, values: np.ndarray, seed: int) -> dict[str, float]:
    """Return the variance of each term and of the noise, by marginal likelihood.

    Args:
        points: of which MOST_ROWS are drawn by `seed`, if there are more.
        values: the logs of their times less the mean, shape (n,).
    """
    from scipy.linalg import cho_factor, cho_solve  # 0.2 s: not at every start
    from scipy.optimize import minimize

    if points.n > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).permutation(points.n)[:MOST_ROWS])
        points, values = points.chosen(rows), values[rows]
    matrices = [matrix for _, matrix in term_matrices(points, points)]
    guess = np.log([*TERMS.values(), NOISE_VARIANCE])

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the negative log likelihood with its gradient, each with the prior's."""
        sizes = np.exp(logs)
        total = np.diag(np.full(points.n, sizes[-1]))
        for size, matrix in zip(sizes, matrices, strict=False):  # the last size is the noise's
            total += size * matrix
        factor = cho_factor(total, lower=True, overwrite_a=True, check_finite=False)
        solved = cho_solve(factor, values, check_finite=False)
        slack = symmetric_inverse(factor[0]) - np.outer(solved, solved)
        slopes = np.array([*(float(np.vdot(slack, matrix)) for matrix in matrices), float(np.trace(slack))])
        off = (logs - guess) / PRIOR_SD
        likelihood = 0.5 * float(values @ solved) + float(np.log(np.diag(factor[0])).sum())
        return likelihood + 0.5 * float(off @ off), 0.5 * sizes * slopes + off / PRIOR_SD

    found = minimize(loss, guess, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS})
    return {name: math.exp(log) for name, log in zip([*TERMS, NOISE], found.x, strict=True)}
