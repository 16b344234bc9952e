"""The first epoch's excess and the overhead, fitted to measured rows with their ranges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.intervals import Range, Widths, beyond_half_width, conformal_half_width
from epochcast.model.time_model.physics import Array, Law, fit_law
from epochcast.model.time_model.startup import FORM, Excess, Overhead
from epochcast.model.training.splits import edge_axes, fold_masks, folds_for, levels_of
from epochcast.schema import TRAIN_N, AggRow

LAW_MIN_ROWS = 12  # three for each coefficient; with fewer rows their median is taken


def fit_excess(rows: Sequence[AggRow], seed: int) -> Excess | None:
    """Return the excess of the rows that know their first epoch; None if none does.

    Args:
        seed: of the folds that the width comes from.
    """
    own = [row for row in rows if row.first_epoch_sec_mean is not None]
    if not own:
        return None
    configs, train_n = [row.config for row in own], own[0].train_n or TRAIN_N
    first = np.array([row.first_epoch_sec_mean for row in own], float)
    excess = np.maximum(first - np.array([row.avg_time_mean for row in own]), 0.0)
    steady = first - excess
    median = float(np.median(excess))

    has_law = len(own) >= LAW_MIN_ROWS

    def fit(mask: npt.NDArray[np.bool_]) -> tuple[Law | None, Array]:
        """Return the law of some rows, and the excess of all by it, or by their median."""
        if not has_law or excess[mask].max() <= 0:
            return None, np.full(len(own), np.median(excess[mask]))
        kept = [c for c, is_in in zip(configs, mask, strict=True) if is_in]
        law = fit_law(FORM, kept, excess[mask], train_n, scale=first[mask])
        return law, law.seconds(configs)

    def errors(mask: npt.NDArray[np.bool_]) -> Array:
        """Return the relative errors of the first epochs of the rows that are not in the mask."""
        _, predicted = fit(mask)
        return np.asarray(np.abs(predicted - excess) / (predicted + steady))[~mask]

    folds = list(fold_masks(len(own), folds_for(len(own)), 1, seed)) if len(own) > 1 else []
    within_errors = np.concatenate([errors(mask) for mask in folds]) if folds else np.empty(0)
    within = conformal_half_width(within_errors)
    levels = levels_of(configs)
    level_errors = np.concatenate([errors(~level.mask) for level in levels]) if levels else np.empty(0)
    law, _ = fit(np.ones(len(own), bool))
    beyond = beyond_half_width(level_errors, within)
    widths = Widths(within, beyond, len(within_errors), len(levels), edge_axes(levels))
    return Excess(law, median, len(own), Range.of(configs), widths)


def fit_overhead(rows: Sequence[AggRow]) -> Overhead | None:
    """Return the overhead of the rows that know it; None if none does."""
    known = [row.overhead_sec_mean for row in rows if row.overhead_sec_mean is not None]
    if not known:
        return None
    median = float(np.median(known))
    # each judged by the median of the others
    others = [float(np.median(known[:i] + known[i + 1 :])) for i in range(len(known))] if len(known) > 1 else []
    pairs = [(value, other) for value, other in zip(known, others, strict=False) if other > 0]
    errors = [abs(value - other) / other for value, other in pairs]
    width = conformal_half_width(np.array(errors))
    if width is not None and width >= 1:  # as far below as above would be 0 s, or less: factors instead
        factors = [max(value / other, other / value) - 1 for value, other in pairs if value > 0]
        width = max(width, conformal_half_width(np.array(factors)) or width)
    return Overhead(median, len(known), Widths(width, width, len(errors)))
