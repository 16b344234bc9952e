"""What of another device's model a few rows of a new one should start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epochcast.model.time_model.physics import MIN_ROWS, Law
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.model.training.cross_validation import CrossValidation, gather
from epochcast.model.training.recipes import PHYSICS, Start, fit_time_models

SIX_TERMS, WHOLE_MODEL, NOTHING = "six terms", "terms and residual", "nothing"
MIN_ROWS_TO_CHOOSE = 4  # with fewer, leaving one out says nothing and the six terms are taken


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The start that predicts best when one row is left out, and its predictions then (NaN of a single row)."""

    name: str
    start: Start | None
    validation: CrossValidation  # of PHYSICS, by that name


def choose_start(table: Table, plain_law: Law, model: TimeModel) -> Chosen:
    """The other device's law of six terms, its whole model with the residual, or nothing of it, whichever fits best.

    Nothing of it is a choice only with more than MIN_ROWS rows: a law of six terms takes as many.
    """
    starts: dict[str, Start | None] = {SIX_TERMS: Start(plain_law)}
    if len(table) >= MIN_ROWS_TO_CHOOSE and model.law is not None and not model.network.is_zero:
        starts[WHOLE_MODEL] = Start(model.law, model)
    if len(table) > MIN_ROWS:
        starts[NOTHING] = None
    masks = ~np.eye(len(table), dtype=bool)
    predicted = {name: np.full((1, len(table)), np.nan) for name in starts}
    if len(table) > 1:
        for name, start in starts.items():
            predicted[name] = gather(table, masks, 1, fit_time_models(PHYSICS, table, masks, 0, start=start))
    judged = CrossValidation(table, predicted, len(table), masks)
    name = min(starts, key=judged.mape) if len(starts) > 1 else SIX_TERMS
    return Chosen(name, starts[name], CrossValidation(table, {PHYSICS: predicted[name]}, len(table), masks))
