"""Splits by configuration: repeated folds, and levels of an axis that are left out of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.physics import MIN_ROWS
from epochcast.schema import NETWORK_AXES, RunConfig

FOLDS = 5
NETWORK_MIN_ROWS = 20  # from here on a network is worth comparing with the law alone (docs/method.md)
BATCH_GROUP = 1.5  # batch sizes within this factor of the smallest, or of the largest, are left out together


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


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Rows that share a value of one axis; `is_edge` where leaving them out makes the rest a smaller box."""

    axis: str
    label: str
    mask: npt.NDArray[np.bool_]  # shape (n,), True for the rows in it
    is_edge: bool


def edge_axes(levels: Sequence[Level]) -> tuple[str, ...]:
    """Return the axes whose smallest or largest value is among the levels."""
    return tuple(dict.fromkeys(level.axis for level in levels if level.is_edge))


def levels_of(configs: Sequence[RunConfig], min_rest: int = MIN_ROWS) -> list[Level]:
    """Return the levels of every axis that leave enough rows.

    These are all values of the network's axes, and the smallest and the largest batch sizes. An axis with one
    value has no level.
    """
    levels = []
    for axis in (axis.name for axis in NETWORK_AXES):
        values = np.array([getattr(c, axis) for c in configs])
        if len(present := np.unique(values)) < 2:
            continue
        for value in present:
            is_edge = value in (present[0], present[-1])
            levels.append(Level(axis, f"{axis} {value}", values == value, bool(is_edge)))
    batches = np.array([c.batch_size for c in configs])
    low, high = BATCH_GROUP * batches.min(), batches.max() / BATCH_GROUP
    small, large = batches <= low, batches >= high
    if not (small & large).any():
        levels.append(Level("batch_size", f"batch_size <= {batches[small].max()}", small, True))
        levels.append(Level("batch_size", f"batch_size >= {batches[large].min()}", large, True))
    return [level for level in levels if (~level.mask).sum() >= min_rest]
