"""How the error on the rest falls with the number of measured configurations, drawn at random or designed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epochcast.model.selection.experimental_design import next_indices
from epochcast.model.time_model.physics import MIN_ROWS
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import cross_validate_each, forms_for
from epochcast.model.training.recipes import PHYSICS_ANN, fit_time_models
from epochcast.model.training.splits import NETWORK_MIN_ROWS
from epochcast.output.progress import Say

SIZES = (6, 7, 8, 10, 12, 16, 20, 40, 80)
MIN_REST = 4  # rows that an error is worth computing on
ORDERS = 5
NETWORK_ORDERS = 3  # where a network is compared, each by a cross-validation of its own

Mask = npt.NDArray[np.bool_]


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

    At each size and order the model is of the form that `train` would choose of those rows: the law alone below
    NETWORK_MIN_ROWS, from there on whichever of law and network a cross-validation of them prefers.

    Random orders and the designs' first configurations are drawn from `seed`.
    """
    sizes = [size for size in SIZES if MIN_ROWS <= size <= len(table) - MIN_REST]
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(table)).tolist() for _ in range(ORDERS)]
    longest = max(sizes, default=0)
    designs = [[o[0], *next_indices(table.configs, o[:1], longest - 1, table.train_n)] for o in orders if sizes]
    measured: list[tuple[str, int, Mask]] = []
    for size in sizes:
        n_orders = ORDERS if size < NETWORK_MIN_ROWS else NETWORK_ORDERS
        for design, own in (("random", orders), ("designed", designs)):
            measured += [(design, size, _mask(order[:size], len(table))) for order in own[:n_orders]]
    forms = _forms(table, [mask for _, _, mask in measured], seed, say)
    errors: dict[tuple[str, int], list[float]] = {(design, size): [] for design, size, _ in measured}
    for form in dict.fromkeys(forms):
        own_of_form = [point for point, of in zip(measured, forms, strict=True) if of == form]
        models = fit_time_models(form, table, np.array([mask for _, _, mask in own_of_form]), seed)
        for (design, size, mask), model in zip(own_of_form, models, strict=True):
            rest = table.take(~mask)
            errors[design, size].append(float(np.mean(np.abs(model.times(rest.configs) / rest.seconds - 1))))
    return [CurvePoint(d, n, float(np.mean(e)), max(e), len(e)) for (d, n), e in errors.items()]


def _forms(table: Table, masks: Sequence[Mask], seed: int, say: Say | None) -> list[str]:
    """The form that `train` would choose of the rows of each mask."""
    choices = {i: forms_for(PHYSICS_ANN, int(mask.sum())) for i, mask in enumerate(masks)}
    compared = [i for i, forms in choices.items() if len(forms) > 1]
    chosen = {i: forms[0] for i, forms in choices.items()}
    if compared:
        subsets = np.array([masks[i] for i in compared])
        validations = cross_validate_each(table, subsets, choices[compared[0]], seed, say)
        chosen |= {i: found.best_form for i, found in zip(compared, validations, strict=True)}
    return [chosen[i] for i in range(len(masks))]


def _mask(rows: Sequence[int], n: int) -> Mask:
    mask = np.zeros(n, bool)
    mask[list(rows)] = True
    return mask
