"""Train the time model on rows of averages, and save it with its cards."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from epochcast.gpus.device_names import are_same_conditions, board_name
from epochcast.interval import COVERAGE
from epochcast.machine.environment import utc_now
from epochcast.model.time_model.card import CARD_SCHEMA_VERSION, card_sha256
from epochcast.model.time_model.intervals import Range
from epochcast.model.time_model.monotonicity import order_violations
from epochcast.model.time_model.physics import Law
from epochcast.model.time_model.saved_files import save_model
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.model.time_model.startup import to_json
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import require_distinct, require_enough, rows_sha256
from epochcast.model.training.fit import TRANSFERRED, Fitted, fit
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.model.training.recipes import PHYSICS_ANN
from epochcast.model.training.time_ann import keras_bytes
from epochcast.output.progress import Say, quiet
from epochcast.paths import models_dir
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.storage.files import make_folder


def default_model_path(conditions: Conditions, table: Path) -> Path:
    """Return where a table's model is kept: a file for each device and set of conditions.

    Where no device is named, nothing else tells two machines apart: then it is a file for each table.
    """
    board = board_name(conditions.device_name)  # a driver that renames it finds its model again
    device = re.sub(r"[^A-Za-z0-9]+", "-", board or "unknown-device").strip("-")
    named = {
        **asdict(conditions),
        "device_name": board,
        **({} if conditions.device_name else {"table": str(table.resolve())}),
    }
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:8]
    return models_dir() / f"{device}-{digest}.keras"


def declare(conditions: Conditions, facts: Mapping[str, str]) -> Conditions:
    """Return conditions with what the table does not hold, stated by whoever knows it.

    Raises:
        ValueError: if a name is no condition, or contradicts the table.
    """
    for name, text in facts.items():
        if name not in (known := [f.name for f in fields(Conditions)]):
            raise ValueError(f"--declare {name}: not a condition; use {', '.join(known)}.")
        value: Any = text
        if name in ("steps_per_execution", "train_n", "window_steps"):
            if not text.isdecimal() or int(text) < 1:
                raise ValueError(f"--declare {name}={text}: expected a whole number of at least 1.")
            value = int(text)
        measured = getattr(conditions, name)
        if measured is not None and measured != value:
            raise ValueError(f"--declare {name}={text}: the table says {measured}.")
        conditions = replace(conditions, **{name: value})
    return conditions


def train(
    rows: Sequence[AggRow],
    path: Path,
    *,
    recipe: str = PHYSICS_ANN,
    seed: int = 0,
    held_out: Sequence[RunConfig] = (),
    declared: Mapping[str, str] | None = None,
    credit: str | None = None,
    start: SavedModel | None = None,
    say: Callable[[str], Say] = quiet,
) -> dict[str, Any]:
    """Fit the time model to all rows but those held out, save it as `path` with its cards, and return the JSON card.

    The errors on the card are of a cross-validation by configuration over the same rows.

    Raises:
        ValueError: if there are too few configurations, or a held-out one is not in the table.
        OSError: if the files can't be written.
    """
    rows = _not_held_out(rows, held_out)
    (require_enough if start is None else require_distinct)([row.config for row in rows])
    conditions = declare(rows[0].conditions, declared or {})
    if start is not None:
        _require_other_conditions(start, conditions)
    make_folder(path.absolute().parent)
    fitted = fit(Table.of(rows), recipe, seed, start, say)
    card: dict[str, Any] = {
        "schema_version": CARD_SCHEMA_VERSION,
        "recipe": recipe,
        "form": fitted.form,
        "reason": fitted.reason,
        "started_from": _started_from(start, fitted),
        "created_utc": utc_now(),
        "conditions": asdict(conditions),
        "declared": sorted(declared or {}),
        "credit": credit,
        **_model_json(fitted),
        "seed": seed,
        **_rows_json(rows, held_out, fitted),
        "errors": _errors(fitted),
        "order_violations": order_violations(fitted.model),
        "intervals": {"coverage": COVERAGE, **asdict(fitted.calibration.widths)},
        "levels": fitted.calibration.levels_json(),
        **to_json(fit_excess(rows, seed), fit_overhead(rows)),
        "versions": {name: version(name) for name in ("epochcast", "keras", "numpy", "scikit-learn")},
    }
    network = keras_bytes(fitted.model.ensemble)
    card["keras_sha256"] = hashlib.sha256(network).hexdigest()
    card["card_sha256"] = card_sha256(card)
    save_model(path, network, card)  # last: whatever fails before leaves an older model
    return card


def _not_held_out(rows: Sequence[AggRow], held_out: Sequence[RunConfig]) -> list[AggRow]:
    if missing := [str(c) for c in held_out if c not in {row.config for row in rows}]:
        raise ValueError(f"held out, but not in the table: {' '.join(missing)}.")
    return [row for row in rows if row.config not in set(held_out)]


def _require_other_conditions(start: SavedModel, conditions: Conditions) -> None:
    if are_same_conditions(start.conditions, conditions):
        raise ValueError(
            f"{start.path} was learned under the conditions of these rows: it may have seen them, and starts nothing "
            "new. Train on all of them, without --start_from."
        )


def _started_from(start: SavedModel | None, fitted: Fitted) -> dict[str, Any] | None:
    """Return the model that the fit started from, None where it took nothing of one."""
    if start is None or fitted.form != TRANSFERRED:
        return None
    return {name: start.card[name] for name in ("keras_sha256", "rows_sha256", "conditions")}


def _model_json(fitted: Fitted) -> dict[str, Any]:
    """Return what answers need of the fit: features, laws, and the shape of the network."""
    model = fitted.model
    inputs = model.inputs
    return {
        "feature_names": list(inputs.names),
        "feature_mean": inputs.mean.tolist(),
        "feature_scale": inputs.scale.tolist(),
        "feature_low": inputs.low.tolist() if np.isfinite(inputs.low).all() else None,
        "feature_high": inputs.high.tolist() if np.isfinite(inputs.high).all() else None,
        "law": None if model.law is None else law_json(model.law),
        "plain_law": {**law_json(fitted.plain_law), "readings": fitted.plain_law.readings()},
        "residual_scale": model.residual_scale,
        "activation": model.ensemble.activation,
        "members": len(model.ensemble.kernels[0]),
    }


def _rows_json(rows: Sequence[AggRow], held_out: Sequence[RunConfig], fitted: Fitted) -> dict[str, Any]:
    """Return what the model learned from, and what it did not."""
    configs = [row.config for row in rows]
    return {
        "range": Range.of(configs).to_json(),
        "n_configurations": len(rows),
        "n_runs": sum(row.n for row in rows),
        "rows_sha256": rows_sha256(rows),
        "held_out": [list(astuple(c)) for c in held_out],
        "disturbed": [list(astuple(c)) for c, out in zip(configs, fitted.outliers, strict=True) if out],
    }


def law_json(law: Law) -> dict[str, Any]:
    """Return a law as the card keeps it."""
    return {"form": law.form, "coefficients": law.coefficients.tolist()}


def _errors(fitted: Fitted) -> dict[str, Any]:
    """Return the cross-validated errors as the card keeps them; unknown where one row is all there is."""
    split = fitted.validation.split
    if not np.isfinite(fitted.validation.predicted[fitted.form]).all():
        return {"split": split, "n": 0, "mape": None, "p90_ape": None, "mae": None, "rmse": None, "r2": None}
    (errors,) = fitted.validation.metrics(fitted.form)
    return {"split": split, **asdict(errors)}
