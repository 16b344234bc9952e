"""The linear equations of a Gaussian process, solved once for all that is asked of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: with small matrices threads wait for each other."""
    from threadpoolctl import threadpool_limits  # 0.02 s: not at every start

    with threadpool_limits(1):  # type: ignore[no-untyped-call]  # threadpoolctl has no types
        yield


class Solution:
    """The linear equations of the entries, solved."""

    def __init__(self, shared: np.ndarray, noise: np.ndarray, values: np.ndarray) -> None:
        from scipy.linalg import cho_factor, cho_solve  # 0.2 s: not at every start

        self._noise = noise
        total = shared + np.diag(noise)
        self._factor = cho_factor(total, lower=True, overwrite_a=True, check_finite=False)
        self._solved = cho_solve(self._factor, values, check_finite=False)

    def at(self, shared: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances of points with these covariances to the entries, without noise."""
        from scipy.linalg import solve_triangular

        half = solve_triangular(self._factor[0], shared.T, lower=True, check_finite=False)
        return shared @ self._solved, np.maximum(variances - (half**2).sum(axis=0), 0)

    @functools.cached_property
    def _inverse(self) -> np.ndarray:
        return symmetric_inverse(self._factor[0])

    def left_out(self, groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return true less predicted value and its variance without noise, of entries predicted without their group.

        By the inverse of the block of a group in the inverse of all (Rasmussen and Williams, section 5.4.2).
        """
        errors, spread = np.empty(len(self._solved)), np.empty(len(self._solved))
        for rows in groups:
            block = np.linalg.inv(self._inverse[np.ix_(rows, rows)])
            errors[rows] = block @ self._solved[rows]
            spread[rows] = np.maximum(np.diag(block) - self._noise[rows], 0)
        return errors, spread


def symmetric_inverse(lower: np.ndarray) -> np.ndarray:
    """Return the inverse of a matrix from its lower Cholesky factor."""
    from scipy.linalg.lapack import dpotri

    inverse, fault = dpotri(lower, lower=True)
    if fault:
        raise np.linalg.LinAlgError("a covariance that has no inverse")
    inverse = np.tril(inverse)
    return np.asarray(inverse + np.tril(inverse, -1).T)
