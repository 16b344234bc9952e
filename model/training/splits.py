"""Splits by configuration: which rows a fit may see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FOLDS = 5
NETWORK_MIN_ROWS = 20  # from here on a network is worth comparing with the law alone (docs/method.md)


def fold_masks(n: int, folds: int, repeats: int, seed: int) -> npt.NDArray[np.bool_]:
    """Training masks of repeated K-fold splits, shape (repeats * folds, n); each repeat is shuffled anew."""
    random = np.random.default_rng(seed)
    masks = np.ones((repeats * folds, n), bool)
    for repeat in range(repeats):
        order = random.permutation(n)
        for fold in range(folds):
            masks[repeat * folds + fold, order[fold::folds]] = False
    return masks


def folds_for(n: int) -> int:
    """Folds of a cross-validation of n rows; few rows are left out one at a time, so that enough stay."""
    return n if n < NETWORK_MIN_ROWS else FOLDS
