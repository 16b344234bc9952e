"""Predictions for configurations that a model has not seen: repeated K-fold splits, and configurations kept out.

A configuration in the test part of a split is in no row used for fitting, gating or scaling; the shipped recipe stops
nothing early, so there is no third part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.physics import MIN_ROWS, Array
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.model.training.baselines import affine_in_steps, linear_on_logs
from epochcast.model.training.recipes import PHYSICS, PHYSICS_ANN, REFERENCE_ANN, fit_time_models
from epochcast.model.training.splits import NETWORK_MIN_ROWS, fold_masks, folds_for
from epochcast.output.progress import Say
from epochcast.schema import AXES, AggRow, RunConfig
from epochcast.stats import RegressionMetrics, regression_metrics

REPEATS = 5
BASELINES: dict[str, Callable[[list[RunConfig], Array, list[RunConfig], int], Array]] = {
    "linear_on_logs": linear_on_logs,
    "affine_in_steps": affine_in_steps,
}


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """Out-of-fold predictions: `predicted[name]` has shape (repeats, n), NaN where a baseline has no answer."""

    table: Table
    predicted: dict[str, Array]
    folds: int
    masks: npt.NDArray[np.bool_]  # shape (repeats * folds, n), the training rows of each fold

    def metrics(self, name: str, as_throughput: bool = False) -> list[RegressionMetrics]:
        """Metrics of each repeat over all configurations that this model has an answer for."""
        found = []
        for row in self.predicted[name]:
            known = np.isfinite(row)
            measured, predicted = self.table.seconds[known], row[known]
            if as_throughput:
                measured, predicted = self.table.train_n / measured, self.table.train_n / predicted
            if known.any():
                found.append(regression_metrics(measured, predicted))
        return found

    def mape(self, name: str) -> float:
        """Mean absolute relative error over all repeats."""
        return float(np.mean([m.mape for m in self.metrics(name)]))

    def log_errors(self, name: str) -> Array:
        """|log(predicted / measured)|, shape (repeats, n)."""
        return np.asarray(np.abs(np.log(self.predicted[name] / self.table.seconds)))

    def fold_numbers(self) -> npt.NDArray[np.int_]:
        """Which fold each row was predicted in, shape (repeats, n)."""
        return np.asarray(np.argmin(self.masks.reshape(-1, self.folds, len(self.table)), axis=1))

    @property
    def best_form(self) -> str:
        """The model that predicts best, the first of equals."""
        return min(self.predicted, key=self.mape)

    @property
    def split(self) -> str:
        return "leave-one-out" if self.folds == len(self.table) else f"{self.folds}-fold by configuration"


def forms_for(recipe: str, n: int) -> list[str]:
    """What a recipe may become with n rows, to be compared by cross-validation."""
    if recipe == REFERENCE_ANN:
        return [REFERENCE_ANN]
    return [PHYSICS] if n < NETWORK_MIN_ROWS else [PHYSICS_ANN, PHYSICS]


def gather(table: Table, masks: npt.NDArray[np.bool_], repeats: int, models: Sequence[TimeModel]) -> Array:
    """Out-of-fold predictions, shape (repeats, n), of one model for each mask."""
    predicted = np.full((repeats, len(table)), np.nan)
    for number, (mask, model) in enumerate(zip(masks, models, strict=True)):
        test = table.take(~mask).configs
        predicted[number * repeats // len(masks), ~mask] = model.times(test)
    return predicted


def cross_validate(
    table: Table,
    forms: Sequence[str] = (PHYSICS_ANN,),
    repeats: int = REPEATS,
    seed: int = 0,
    baselines: Sequence[str] = (),
    say: Say | None = None,
) -> CrossValidation:
    """Repeated cross-validation by configuration, all models on the same folds.

    Raises:
        ValueError: if there are fewer than MIN_ROWS configurations, or one stands in two rows.
    """
    require_enough(table.configs)
    folds = folds_for(len(table))
    repeats = 1 if folds == len(table) else repeats  # leaving one out has no other order
    masks = fold_masks(len(table), folds, repeats, seed)
    predicted = {
        form: gather(table, masks, repeats, fit_time_models(form, table, masks, seed, say=say)) for form in forms
    }
    for name in baselines:
        predicted[name] = np.full((repeats, len(table)), np.nan)
        for number, mask in enumerate(masks):
            train = table.take(mask)
            answer = BASELINES[name](train.configs, train.seconds, table.take(~mask).configs, table.train_n)
            predicted[name][number // folds, ~mask] = answer
    return CrossValidation(table, predicted, folds, masks)


def cross_validate_each(
    table: Table, subsets: npt.NDArray[np.bool_], forms: Sequence[str], seed: int = 0, say: Say | None = None
) -> list[CrossValidation]:
    """Return what `cross_validate` with one repeat says of each subset of the rows, all models fitted at once.

    Args:
        subsets: shape (subsets, n), True for the rows of each.
    """
    tables = [table.take(subset) for subset in subsets]
    splits = [fold_masks(len(own), folds_for(len(own)), 1, seed) for own in tables]
    everywhere = np.zeros((sum(map(len, splits)), len(table)), bool)
    ends = np.cumsum([len(masks) for masks in splits])
    for subset, masks, end in zip(subsets, splits, ends, strict=True):
        everywhere[end - len(masks) : end, subset] = masks
    models = {form: fit_time_models(form, table, everywhere, seed, say=say) for form in forms}
    found = []
    for own, masks, end in zip(tables, splits, ends, strict=True):
        begin = end - len(masks)
        predicted = {form: gather(own, masks, 1, models[form][begin:end]) for form in forms}
        found.append(CrossValidation(own, predicted, len(masks), masks))
    return found


def require_distinct(configs: Sequence[RunConfig]) -> None:
    """Raise a ValueError if a configuration stands in two rows, which no split could tell apart, or there is none."""
    if not configs:
        raise ValueError("no configuration is left to learn from.")
    if len(set(configs)) < len(configs):
        raise ValueError("a configuration stands in two rows: aggregate the runs first.")


def require_enough(configs: Sequence[RunConfig]) -> None:
    """Raise a ValueError unless there are enough different configurations to fit a law to."""
    require_distinct(configs)
    if len(configs) < MIN_ROWS:
        raise ValueError(
            f"{len(configs)} configurations are too few to learn from: measure at least {MIN_ROWS}; "
            "epochcast next_runs names them, and --start_from another device's model takes fewer."
        )


def kept_out(table: Table, unseen: Sequence[RunConfig]) -> tuple[Table, npt.NDArray[np.bool_]]:
    """The table without some configurations, and the mask, shape (n,), of the rows that are left.

    Raises:
        ValueError: if too few are left.
    """
    named = set(unseen)
    is_in = np.array([config not in named for config in table.configs])
    rest = table.take(is_in)
    require_enough(rest.configs)
    return rest, is_in


def rows_sha256(rows: Sequence[AggRow]) -> str:
    """Hash of what a model learns from: every configuration with its steady time, whatever their order."""
    lines = sorted(f"{','.join(str(axis.of(r)) for axis in AXES)},{r.avg_time_mean!r}" for r in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
