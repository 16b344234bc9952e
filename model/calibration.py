"""How wide a model's intervals are, from models that have not seen what they are judged on; a check of order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.fitting import fit_time_models
from model.intervals import Widths, beyond_half_width, conformal_half_width
from model.levels import Level, levels_of
from model.physics import Array
from model.progress import Say
from model.time_model import Table, TimeModel


def log_errors(model: TimeModel, table: Table, mask: npt.NDArray[np.bool_]) -> Array:
    """|log(predicted / measured)| of the rows in the mask."""
    own = table.take(mask)
    return np.asarray(np.abs(np.log(model.times(own.configs) / own.seconds)))


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Half-widths (natural logs) and the errors behind the wider one, |log error| of each level's rows."""

    widths: Widths
    levels: list[Level]
    level_errors: list[Array]


def calibrate(
    table: Table, levels: Sequence[Level], level_models: Sequence[TimeModel], fold_errors: Array
) -> Calibration:
    """The widths within the range and beyond it.

    Args:
        level_models: `level_models[i]` has not seen `levels[i]`.
        fold_errors: out-of-fold |log error| of every row, shape (n,).
    """
    errors = [log_errors(m, table, level.mask) for level, m in zip(levels, level_models, strict=True)]
    within = conformal_half_width(fold_errors)
    pooled = np.concatenate(errors) if errors else np.empty(0)
    widths = Widths(within, beyond_half_width(pooled, within), len(fold_errors), len(levels))
    return Calibration(widths, list(levels), errors)


def fit_calibrated(
    table: Table, form: str, fold_errors: Array, seed: int, say: Say | None = None
) -> tuple[TimeModel, Calibration]:
    """The model of all rows, with its intervals from left-out levels and the folds' errors."""
    # by itself: what is trained beside it for the intervals would move it by rounding
    (model,) = fit_time_models(form, table, np.ones((1, len(table)), bool), seed)
    levels = levels_of(table.configs)
    masks = np.array([~level.mask for level in levels]).reshape(len(levels), len(table))
    level_models = fit_time_models(form, table, masks, seed, say=say) if levels else []
    return model, calibrate(table, levels, level_models, fold_errors)
