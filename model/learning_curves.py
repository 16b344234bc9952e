"""How the error on the rest falls with the number of measured configurations, drawn at random or designed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.design import next_indices
from model.fitting import PHYSICS, PHYSICS_ANN, fit_time_models
from model.physics import MIN_ROWS
from model.progress import Say
from model.splits import NETWORK_MIN_ROWS
from model.time_model import Table

SIZES = (6, 7, 8, 10, 12, 16, 20, 40, 80)
MIN_REST = 4  # rows that an error is worth computing on
ORDERS = 5


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """MAPE on the rows left when `n` configurations are measured, over orders that begin anywhere."""

    design: str  # random | designed
    n: int
    mape_mean: float
    mape_worst: float
    orders: int


def learning_curves(table: Table, seed: int = 0, say: Say | None = None) -> list[CurvePoint]:
    """Points of both curves; none of a table too small to spare rows.

    Below NETWORK_MIN_ROWS the law alone, from there on the network, whichever predicts better.

    Random orders and the designs' first configurations are drawn from `seed`.
    """
    sizes = [size for size in SIZES if MIN_ROWS <= size <= len(table) - MIN_REST]
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(table)).tolist() for _ in range(ORDERS)]
    longest = max(sizes, default=0)
    designs = [[o[0], *next_indices(table.configs, o[:1], longest - 1, table.train_n)] for o in orders if sizes]
    masks: dict[tuple[str, int], list[list[int]]] = {}
    for size in sizes:
        masks["random", size] = [order[:size] for order in orders]
        masks["designed", size] = [order[:size] for order in designs]
    errors: dict[tuple[str, int], list[float]] = {key: [] for key in masks}
    for form, keys in (
        (PHYSICS, [key for key in masks if key[1] < NETWORK_MIN_ROWS]),
        (PHYSICS_ANN, [key for key in masks if key[1] >= NETWORK_MIN_ROWS]),
    ):
        chosen = [(key, _mask(rows, len(table))) for key in keys for rows in masks[key]]
        if not chosen:
            continue
        models = fit_time_models(form, table, np.array([mask for _, mask in chosen]), seed, say=say)
        for (key, mask), model in zip(chosen, models, strict=True):
            rest = table.take(~mask)
            errors[key].append(float(np.mean(np.abs(model.times(rest.configs) / rest.seconds - 1))))
    return [CurvePoint(d, n, float(np.mean(e)), max(e), len(e)) for (d, n), e in errors.items()]


def _mask(rows: Sequence[int], n: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(n, bool)
    mask[list(rows)] = True
    return mask
