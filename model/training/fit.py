"""The best time model that some rows allow, with what is known of its errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.physics import MIN_ROWS, Law, fit_gated_law
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.model.training.calibration import Calibration, fit_calibrated
from epochcast.model.training.cross_validation import (
    CrossValidation,
    cross_validate,
    forms_for,
    gather,
    require_distinct,
    require_enough,
)
from epochcast.model.training.recipes import LAW_ALONE, PHYSICS, PHYSICS_ANN, Start, fit_time_models
from epochcast.model.training.splits import NETWORK_MIN_ROWS
from epochcast.output.progress import Say, quiet
from epochcast.output.text import percent

TRANSFERRED = "transferred"  # the form of a model that started from another device's
SIX_TERMS, WHOLE_MODEL, NOTHING = "six terms", "terms and residual", "nothing"
MIN_ROWS_TO_CHOOSE = 4  # with fewer rows, leaving one out says nothing and the six terms are taken


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A time model with what is known of its errors."""

    model: TimeModel
    form: str
    reason: str | None  # why it is not the network that the recipe aims at
    validation: CrossValidation  # of `form`, by that name
    calibration: Calibration
    outliers: npt.NDArray[np.bool_]  # shape (n,), rows that the gate left out of the fit
    plain_law: Law  # of six terms: what people read, and what another device's few rows start from


def fit(
    table: Table,
    recipe: str = PHYSICS_ANN,
    seed: int = 0,
    start: SavedModel | None = None,
    say: Callable[[str], Say] = quiet,
) -> Fitted:
    """The best model that the rows allow by a recipe, with its intervals.

    Fewer than NETWORK_MIN_ROWS rows get the physics law alone; with more it must lose against the network in the same
    cross-validation.

    Args:
        start: another device's model to start from, if that predicts better; then one row is enough.
        say: makes, from the name of a long part, what is told the share of it that is done.

    Raises:
        ValueError: if there are too few rows, or a configuration stands in two.
    """
    if start is None:
        return _fit_alone(table, recipe, seed, say)
    require_distinct(table.configs)
    moved = _fit_from(table, start, seed, say)
    if moved.form == TRANSFERRED and len(table) < NETWORK_MIN_ROWS:
        return moved
    alone = _fit_alone(table, recipe, seed, say)
    if moved.form == TRANSFERRED and moved.validation.mape(TRANSFERRED) < alone.validation.mape(alone.form):
        return moved
    note = f"these rows predict better by themselves than with {_name(start)} to start from"
    return replace(alone, reason=f"{alone.reason}; {note}" if alone.reason else note)


def _fit_alone(table: Table, recipe: str, seed: int, say: Callable[[str], Say]) -> Fitted:
    require_enough(table.configs)
    forms = forms_for(recipe, len(table))
    validation = cross_validate(table, forms, repeats=1, seed=seed, say=say("cross-validation"))
    form = validation.best_form
    reason = None
    if forms == [PHYSICS]:
        reason = f"{len(table)} configurations; a network needs {NETWORK_MIN_ROWS}"
    elif form == PHYSICS:
        errors = f"{percent(validation.mape(PHYSICS))} against {percent(validation.mape(PHYSICS_ANN))}"
        reason = f"the law alone predicts better ({errors})"
    model, calibration, disturbed = fit_calibrated(table, form, validation.log_errors(form)[0], seed, say=say)
    plain_law, _ = fit_gated_law(LAW_ALONE, table.configs, table.seconds, table.train_n)
    return Fitted(model, form, reason, validation, calibration, disturbed, plain_law)


def _fit_from(table: Table, source: SavedModel, seed: int, say: Callable[[str], Say]) -> Fitted:
    """A law of these rows that starts from what of another device's model predicts them best."""
    chosen = choose_start(table, source.plain_law, source.time_model)
    errors = chosen.validation.log_errors(PHYSICS)[0]
    model, calibration, disturbed = fit_calibrated(table, PHYSICS, errors, seed, start=chosen.start, say=say)
    plain_start = None if chosen.start is None else Start(source.plain_law)
    (plain,) = fit_time_models(PHYSICS, table, np.ones((1, len(table)), bool), seed, start=plain_start)
    assert plain.law is not None
    if chosen.start is None:
        return Fitted(model, PHYSICS, None, chosen.validation, calibration, disturbed, plain.law)
    reason = f"started from the {chosen.name} of {_name(source)}"
    if len(table) <= MIN_ROWS:
        reason += f"; so few rows can't tell whether the devices are alike: {MIN_ROWS + 1} can"
    validation = replace(chosen.validation, predicted={TRANSFERRED: chosen.validation.predicted[PHYSICS]})
    return Fitted(model, TRANSFERRED, reason, validation, calibration, disturbed, plain.law)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The start that predicts best when one row is left out, with those predictions (NaN of a single row)."""

    name: str
    start: Start | None
    validation: CrossValidation  # of PHYSICS, by that name


def choose_start(table: Table, plain_law: Law, model: TimeModel) -> Chosen:
    """Return the start from another device's model that predicts these rows best.

    It is that model's law of six terms, the whole model with its residual, or nothing of it. Nothing is
    a choice only with more than MIN_ROWS rows: a law of six terms takes as many.
    """
    starts: dict[str, Start | None] = {SIX_TERMS: Start(plain_law)}
    if len(table) >= MIN_ROWS_TO_CHOOSE and model.law is not None and not model.ensemble.is_zero:
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


def _name(source: SavedModel) -> str:
    return f"{source.path.name} ({source.device_name or 'an unknown device'})"
