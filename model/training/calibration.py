"""How wide a model's intervals are, from models that have not seen what they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.intervals import Widths, beyond_half_width, conformal_half_width
from epochcast.model.time_model.physics import MIN_ROWS, Array
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.model.training.recipes import Start, fit_time_models, outliers_of
from epochcast.model.training.splits import Level, edge_axes, levels_of
from epochcast.output.progress import Say, quiet


def log_errors(model: TimeModel, table: Table, mask: npt.NDArray[np.bool_]) -> Array:
    """|log(predicted / measured)| of the rows in the mask."""
    own = table.take(mask)
    return np.asarray(np.abs(np.log(model.times(own.configs) / own.seconds)))


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Half-widths (natural logs) and the errors behind the wider one, |log error| and MAPE of each level's rows."""

    widths: Widths
    levels: list[Level]
    level_errors: list[Array]
    level_mapes: list[float]

    def levels_json(self) -> list[dict[str, Any]]:
        """The left-out levels as a card and a report hold them."""
        return [
            {"label": level.label, "n": len(errors), "is_edge": level.is_edge, "mape": mape}
            for level, errors, mape in zip(self.levels, self.level_errors, self.level_mapes, strict=True)
        ]


def calibrate(
    table: Table,
    levels: Sequence[Level],
    level_models: Sequence[TimeModel],
    fold_errors: Array,
    outliers: npt.NDArray[np.bool_],
) -> Calibration:
    """The widths within the range and beyond it, of runs that nothing disturbs.

    Args:
        level_models: `level_models[i]` has not seen `levels[i]`.
        fold_errors: out-of-fold |log error| of every row, shape (n,); NaN where there is none.
        outliers: shape (n,), rows that the gate kept out of the fit; their errors say nothing of a steady time.
    """
    judged = np.isfinite(fold_errors) & ~outliers
    pairs = [(v, m) for v, m in zip(levels, level_models, strict=True) if (v.mask & ~outliers).any()]
    levels = [level for level, _ in pairs]
    errors = [log_errors(model, table, level.mask & ~outliers) for level, model in pairs]
    judged_rows = [table.take(level.mask & ~outliers) for level in levels]
    mapes = [
        float(np.abs(model.times(rows.configs) / rows.seconds - 1).mean())
        for rows, (_, model) in zip(judged_rows, pairs, strict=True)
    ]
    within = conformal_half_width(fold_errors[judged])
    pooled = np.concatenate(errors) if errors else np.empty(0)
    beyond = beyond_half_width(pooled, within)
    widths = Widths(within, beyond, int(judged.sum()), len(levels), edge_axes(levels))
    return Calibration(widths, levels, errors, mapes)


def fit_calibrated(
    table: Table,
    form: str,
    fold_errors: Array,
    seed: int,
    *,
    start: Start | None = None,
    say: Callable[[str], Say] = quiet,
) -> tuple[TimeModel, Calibration, npt.NDArray[np.bool_]]:
    """The model of all rows, its intervals from left-out levels and the folds' errors, and the rows left out of it."""
    everything = np.ones((1, len(table)), bool)
    # by itself: what is trained beside it for the intervals would move it by rounding
    (model,) = fit_time_models(form, table, everything, seed, start=start, say=say("training"))
    outliers = outliers_of(table, model, start)
    levels = levels_of(table.configs, min_rest=MIN_ROWS if start is None else 1)
    masks = np.array([~level.mask for level in levels]).reshape(len(levels), len(table))
    level_models = fit_time_models(form, table, masks, seed, start=start, say=say("left-out levels")) if levels else []
    return model, calibrate(table, levels, level_models, fold_errors, outliers), outliers
