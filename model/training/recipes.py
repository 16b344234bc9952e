"""Time models by each recipe, many at once: one for each mask of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.features import FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.physics import Law, fit_gated_law, fit_gated_law_from
from epochcast.model.time_model.time_model import Inputs, Table, TimeModel
from epochcast.model.training.reference_ann import fit_reference
from epochcast.model.training.time_ann import fit_ensembles
from epochcast.output.progress import Say

PHYSICS, PHYSICS_ANN, REFERENCE_ANN = "physics", "physics_ann", "reference_ann"
LAW_ALONE = "physics_6"
LAW_UNDER_NETWORK = "physics_8"  # chosen by the mean error over left-out levels: docs/method.md

REACH = ("depth", 1.0)  # the residual follows depth one block beyond the box, other inputs not at all: decision 7

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What another device's model gives to start from: a law as a prior, and a model whose residual is kept, if any."""

    law: Law
    residual_of: TimeModel | None = None


def fit_time_models(
    form: str,
    table: Table,
    masks: Masks,
    seed: int | Sequence[int],
    *,
    law_form: str | None = None,
    start: Start | None = None,
    say: Say | None = None,
) -> list[TimeModel]:
    """One time model for each mask, each fitted, gated and scaled on its own rows alone.

    Args:
        form: PHYSICS, PHYSICS_ANN or REFERENCE_ANN.
        masks: shape (models, n), True for the rows to learn from.
        seed: of the networks' first weights, or one for each mask (not with REFERENCE_ANN, which draws more than that).
        law_form: of the law, where it shall not be the recipe's own.
        start: only with PHYSICS.
    """
    if form == REFERENCE_ANN:
        assert isinstance(seed, int)
        return fit_reference(table, masks, seed, say)
    law_form = law_form or (LAW_ALONE if form == PHYSICS else LAW_UNDER_NETWORK)
    if form == PHYSICS:
        return [_physics(table.take(mask), law_form, start) for mask in masks]
    seeds = [seed] * len(masks) if isinstance(seed, int) else seed
    return _physics_ann(table, masks, law_form, seeds, say)


def _physics(rows: Table, law_form: str, start: Start | None) -> TimeModel:
    if start is None:
        law, _ = fit_gated_law(law_form, rows.configs, rows.seconds, rows.train_n)
    else:
        law, _ = _law_from(start, rows)
        if start.residual_of is not None:
            return replace(start.residual_of, law=law, train_n=rows.train_n)
    inputs = Inputs.of(feature_matrix(rows.configs, FEATURE_NAMES, rows.train_n), FEATURE_NAMES)
    return TimeModel(law, Ensemble.zero(len(FEATURE_NAMES)), inputs, 1.0, rows.train_n)


def _law_from(start: Start, rows: Table) -> tuple[Law, npt.NDArray[np.bool_]]:
    """The law of what the residual kept leaves of the rows, and the mask of rows that were disturbed."""
    seconds = rows.seconds
    if start.residual_of is not None:
        seconds = seconds / replace(start.residual_of, law=None, train_n=rows.train_n).times(rows.configs)
    return fit_gated_law_from(replace(start.law, train_n=rows.train_n), rows.configs, seconds)


def outliers_of(rows: Table, model: TimeModel, start: Start | None) -> npt.NDArray[np.bool_]:
    """The rows that the gate kept out of this model's fit, shape (n,)."""
    if model.law is None:
        return np.zeros(len(rows), bool)
    if start is not None:
        return _law_from(start, rows)[1]
    return fit_gated_law(model.law.form, rows.configs, rows.seconds, rows.train_n)[1]


def _physics_ann(table: Table, masks: Masks, law_form: str, seeds: Sequence[int], say: Say | None) -> list[TimeModel]:
    features = feature_matrix(table.configs, FEATURE_NAMES, table.train_n)
    log_time = np.log(table.seconds)
    laws: list[Law] = []
    inputs: list[Inputs] = []
    kept = masks.copy()
    for mask, own in zip(masks, kept, strict=True):
        rows = table.take(mask)
        law, disturbed = fit_gated_law(law_form, rows.configs, rows.seconds, rows.train_n)
        own[np.flatnonzero(mask)[disturbed]] = False
        laws.append(law)
        inputs.append(Inputs.of(features[mask], FEATURE_NAMES))
    scales = [float(log_time[own].std()) or 1.0 for own in kept]
    # trained on the residual, not on law + network: adding (n, 1) to (n, members) goes wrong in Keras 3.15 where n =
    # members (its `add` takes that for a bias)
    residuals = [
        (log_time - np.log(law.seconds(table.configs))) / scale for law, scale in zip(laws, scales, strict=True)
    ]
    ensembles = fit_ensembles(
        np.stack([i.standardised(features) for i in inputs]), np.stack(residuals), kept.astype(float), seeds, say
    )
    return [
        TimeModel(law, ensemble, i, scale, table.train_n).reaching(*REACH)
        for law, ensemble, i, scale in zip(laws, ensembles, inputs, scales, strict=True)
    ]
