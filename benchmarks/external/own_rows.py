"""How well a law does with one factor from networks that were measured on the GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.external.features import Array, Features
from benchmarks.external.left_out import ErrorFactor

DRAWS = 20  # of several networks of a box


def corrected_errors(rows: Features, errors: Array, measured: int, seed: int = 0) -> ErrorFactor:
    """Return the errors on a box's other networks after so many of it were measured.

    A box is a GPU in one source, setting and precision; `errors` are of the law fitted without that GPU. Each network
    of a box is the measured one in turn; of several there are DRAWS drawn at random. Boxes count by their rows.
    """
    found, weights = [], []
    for own, draws in _boxes(rows, measured, seed):
        names = rows.labels(lambda row: row.name)[own]
        for drawn in draws:
            is_known = np.isin(names, drawn)
            factor = np.median([np.median(errors[own][names == name]) for name in drawn])
            found.append(errors[own][~is_known] - factor)
            weights.append(np.full((~is_known).sum(), 1 / len(draws)))
    values, shares = np.concatenate(found), np.concatenate(weights)
    order = np.argsort(np.abs(values))
    reached = np.cumsum(shares[order]) / shares.sum()
    median, p90 = (float(np.exp(np.abs(values[order][np.searchsorted(reached, at)]))) for at in (0.5, 0.9))
    return ErrorFactor(median, p90, len(found), float(np.exp(np.median(values))))


def _boxes(rows: Features, measured: int, seed: int) -> Iterator[tuple[Array, list[list[str]]]]:
    """Return each box's rows and its draws of measured networks, where others are left."""
    random = np.random.default_rng(seed)
    labels = rows.labels(lambda row: f"{row.gpu.name}|{row.dataset}|{row.setting}|{row.precision}")
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        names = sorted({rows.rows[i].name for i in own})
        if len(names) <= measured:
            continue
        if measured == 1:
            yield own, [[name] for name in names]
        else:
            yield own, [list(random.choice(names, measured, replace=False)) for _ in range(DRAWS)]
