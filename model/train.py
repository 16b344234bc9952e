"""Train the time model on a table of averages and save it with its card."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from aggregate.agg_table import load_agg, one_set_of_conditions
from epochcast.cli import (
    add_table_flags,
    filter_of,
    make_parser,
    not_negative_int,
    percent,
    print_home,
    run_command,
)
from epochcast.environment import utc_now
from epochcast.files import make_folder, sha256_of, write_json_atomically, write_text_atomically
from epochcast.paths import models_dir
from epochcast.schema import AggRow, Conditions, RunConfig
from model.calibration import Calibration, calibrate, fit_calibrated
from model.card import (
    CARD_SCHEMA_VERSION,
    card_path,
    card_sha256,
    error_text,
    half_width_text,
    markdown,
    markdown_path,
)
from model.cross_validation import (
    NETWORK_MIN_ROWS,
    CrossValidation,
    cross_validate,
    forms_for,
    read_config_list,
    require_enough,
    rows_sha256,
)
from model.fitting import LAW_ALONE, PHYSICS, PHYSICS_ANN, REFERENCE_ANN, Start, fit_time_models
from model.intervals import COVERAGE, Range
from model.levels import levels_of
from model.order import order_violations
from model.physics import MIN_ROWS, Law, disturbed_rows, fit_gated_law
from model.predictor import SavedModel, load_model
from model.progress import Progress, Say
from model.startup import fit_excess, fit_overhead, to_json
from model.time_ann import save_keras
from model.time_model import Table, TimeModel
from model.transfer import choose_start


def default_model_path(conditions: Conditions) -> Path:
    """Where a table's model is kept: a file for each device and set of conditions."""
    device = re.sub(r"[^A-Za-z0-9]+", "-", conditions.device_name or "unknown-device").strip("-")
    digest = hashlib.sha256(json.dumps(asdict(conditions), sort_keys=True).encode()).hexdigest()[:8]
    return models_dir() / f"{device}-{digest}.keras"


def declare(conditions: Conditions, facts: Mapping[str, str]) -> Conditions:
    """Conditions that the table does not hold, stated by whoever knows them.

    Raises:
        ValueError: if a name is no condition, or contradicts what the table says.
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


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A time model with what is known of its errors."""

    model: TimeModel
    form: str
    reason: str | None  # why it is not the network that the recipe aims at
    validation: CrossValidation  # of `form`, by that name
    calibration: Calibration
    plain_law: Law  # of six terms: what people read, and what another device's few rows start from


def fit(
    table: Table, recipe: str = PHYSICS_ANN, seed: int = 0, start: SavedModel | None = None, say: Say | None = None
) -> Fitted:
    """The best model that the rows allow by a recipe, with its intervals.

    Fewer than NETWORK_MIN_ROWS rows get the physics law alone; with more it must lose against the network in the same
    cross-validation.

    Args:
        start: another device's model; its law is the prior of this one's, its residual is kept if that helps.

    Raises:
        ValueError: if there are too few rows.
    """
    if start is not None:
        return _fit_from(table, start, seed)
    forms = forms_for(recipe, len(table))
    validation = cross_validate(table, forms, repeats=1, seed=seed, say=say)
    form = min(forms, key=validation.mape)
    reason = None
    if forms == [PHYSICS]:
        reason = f"{len(table)} configurations; a network needs {NETWORK_MIN_ROWS}"
    elif form == PHYSICS:
        errors = f"{percent(validation.mape(PHYSICS))} against {percent(validation.mape(PHYSICS_ANN))}"
        reason = f"the law alone predicts better ({errors})"
    model, calibration = fit_calibrated(table, form, validation.log_errors(form)[0], seed, say)
    plain_law, _ = fit_gated_law(LAW_ALONE, table.configs, table.seconds, table.train_n)
    return Fitted(model, form, reason, validation, calibration, plain_law)


def _fit_from(table: Table, source: SavedModel, seed: int) -> Fitted:
    """A law of these rows that starts from what of another device's model predicts them best."""
    chosen = choose_start(table, source.plain_law, source.time_model)
    everything = np.ones((1, len(table)), bool)
    (model,) = fit_time_models(PHYSICS, table, everything, seed, start=chosen.start)
    (plain,) = fit_time_models(PHYSICS, table, everything, seed, start=chosen.start and Start(source.plain_law))
    assert plain.law is not None
    levels = levels_of(table.configs, min_rest=1 if chosen.start else MIN_ROWS)
    masks = np.array([~level.mask for level in levels]).reshape(len(levels), len(table))
    level_models = fit_time_models(PHYSICS, table, masks, seed, start=chosen.start)
    errors = chosen.validation.log_errors(PHYSICS)[0]
    found = calibrate(table, levels, level_models, errors[np.isfinite(errors)])
    other = f"{source.path.name} ({source.device_name or 'an unknown device'})"
    reason = f"started from the {chosen.name} of {other}"
    if chosen.start is None:
        reason = f"nothing of {other} helps: these rows alone predict better"
    return Fitted(model, PHYSICS, reason, chosen.validation, found, plain.law)


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
    say: Say | None = None,
) -> dict[str, Any]:
    """Fit the time model to all rows but those held out, save it as `path` with its cards, and return the JSON card.

    The errors on the card are of a cross-validation by configuration over the same rows.

    Raises:
        ValueError: if there are too few configurations, or a held-out one is not in the table.
        OSError: if the files can't be written.
    """
    if missing := [str(c) for c in held_out if c not in {row.config for row in rows}]:
        raise ValueError(f"held out, but not in the table: {' '.join(missing)}.")
    rows = [row for row in rows if row.config not in set(held_out)]
    if start is None:
        require_enough([row.config for row in rows])
    elif not rows:
        raise ValueError("no configuration is left to learn from.")
    conditions = declare(rows[0].conditions, declared or {})  # refused before an older model is replaced
    make_folder(path.absolute().parent)
    table = Table.of(rows)
    fitted = fit(table, recipe, seed, start, say)
    model = fitted.model
    save_keras(model.network, path)
    disturbed = _disturbed(table, fitted)
    widths = fitted.calibration.widths
    card = {
        "schema_version": CARD_SCHEMA_VERSION,
        "recipe": recipe,
        "form": fitted.form,
        "reason": fitted.reason,
        "started_from": None
        if start is None
        else {"path": str(start.path), "keras_sha256": start.card["keras_sha256"]},
        "created_utc": utc_now(),
        "conditions": asdict(conditions),
        "declared": sorted(declared or {}),
        "credit": credit,
        "feature_names": list(model.inputs.names),
        "feature_mean": model.inputs.mean.tolist(),
        "feature_scale": model.inputs.scale.tolist(),
        "feature_low": model.inputs.low.tolist() if np.isfinite(model.inputs.low).all() else None,
        "feature_high": model.inputs.high.tolist() if np.isfinite(model.inputs.high).all() else None,
        "law": None if model.law is None else law_json(model.law),
        "plain_law": {**law_json(fitted.plain_law), "readings": fitted.plain_law.readings()},
        "residual_scale": model.residual_scale,
        "activation": model.network.activation,
        "members": len(model.network.kernels[0]),
        "seed": seed,
        "range": Range.of(table.configs).to_json(),
        "n_configurations": len(rows),
        "n_runs": sum(row.n for row in rows),
        "rows_sha256": rows_sha256(rows),
        "held_out": [list(astuple(c)) for c in held_out],
        "disturbed": [list(astuple(c)) for c in disturbed],
        "errors": _errors(fitted),
        "order_violations": order_violations(model),
        "intervals": {"coverage": COVERAGE, **asdict(widths)},
        "levels": [
            {
                "label": level.label,
                "n": int(level.mask.sum()),
                "is_edge": level.is_edge,
                "mape": float(np.expm1(e).mean()),
            }
            for level, e in zip(fitted.calibration.levels, fitted.calibration.level_errors, strict=True)
        ],
        **to_json(fit_excess(rows, seed), fit_overhead(rows)),
        "versions": {name: version(name) for name in ("epochcast", "keras", "numpy", "scikit-learn")},
        "keras_sha256": sha256_of(path),
    }
    card["card_sha256"] = card_sha256(card)
    write_json_atomically(card_path(path), card)
    write_text_atomically(markdown_path(path), markdown(card, path.stem))
    return card


def law_json(law: Law) -> dict[str, Any]:
    """A law as the card holds it."""
    return {"form": law.form, "coefficients": law.coefficients.tolist()}


def _disturbed(table: Table, fitted: Fitted) -> list[RunConfig]:
    """Configurations that the gate kept out of the fit."""
    if fitted.model.law is None:
        return []
    out = disturbed_rows(fitted.model.law, table.configs, table.seconds)
    return [c for c, is_out in zip(table.configs, out, strict=True) if is_out]


def _errors(fitted: Fitted) -> dict[str, Any]:
    """The cross-validated errors as the card holds them; unknown where one row is all there is."""
    split = fitted.validation.split
    if not np.isfinite(fitted.validation.predicted[fitted.form]).all():
        return {"split": split, "n": 0, "mape": None, "p90_ape": None, "mae": None, "rmse": None, "r2": None}
    (errors,) = fitted.validation.metrics(fitted.form)
    return {"split": split, **asdict(errors)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast train",
        "Train the network that predicts seconds per epoch and save it with its card.",
        "epochcast train --runs_agg results/runs_agg.csv",
    )
    add_table_flags(parser)
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="a .keras file to write; default: below results/models/",
    )
    parser.add_argument(
        "--recipe",
        choices=(PHYSICS_ANN, REFERENCE_ANN),
        default=PHYSICS_ANN,
        help="physics law and network (the law alone with few rows), or the original network for comparison",
    )
    parser.add_argument(
        "--start_from",
        type=Path,
        metavar="PATH",
        help="another device's .keras model whose law and residual a few rows of this one are added to",
    )
    parser.add_argument("--seed", type=not_negative_int, default=0, help="of the splits and the first weights")
    parser.add_argument("--held_out", type=Path, metavar="CSV", help="configurations to keep from all fitting")
    parser.add_argument(
        "--declare",
        type=filter_of,
        default=None,
        metavar="NAME=VALUE[,...]",
        help="conditions that the table lacks, e.g. device_name=...; the card says that they were declared",
    )
    parser.add_argument("--credit", metavar="TEXT", help="whose measurements these are, for the card")
    parser.add_argument("--json", action="store_true", help="print the card as one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.model is not None and arguments.model.suffix != ".keras":
        parser.error(f"--model {arguments.model}: the name must end in .keras")
    if arguments.start_from is not None and arguments.recipe != PHYSICS_ANN:
        parser.error(f"--start_from needs --recipe {PHYSICS_ANN}")

    def work() -> int:
        print_home()
        table = load_agg(arguments.runs_agg, arguments.frozen)
        rows = one_set_of_conditions(table.rows, arguments.conditions)
        path = arguments.model or default_model_path(declare(rows[0].conditions, arguments.declare or {}))
        held_out = read_config_list(arguments.held_out) if arguments.held_out else []
        card = train(
            rows,
            path,
            recipe=arguments.recipe,
            seed=arguments.seed,
            held_out=held_out,
            declared=arguments.declare,
            credit=arguments.credit,
            start=load_model(arguments.start_from) if arguments.start_from else None,
            say=Progress("training"),
        )
        if arguments.json:
            named = {"table": str(table.path), "table_origin": table.origin, "model": str(path.absolute())}
            print(json.dumps({**named, **card}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        print("\n".join(card_lines(card)))
        print(f"model: {path.absolute()}")
        print(f"card: {card_path(path).absolute()}")
        print(f"card for people: {markdown_path(path).absolute()}")
        return 0

    return run_command(work)


def order_warning(violations: int) -> str | None:
    """What to say of a model by which bigger networks are sometimes faster; None of one by which they never are."""
    if not violations:
        return None
    return f"{violations} predicted times fall where depth or filters grow: measure more, or more evenly"


def card_lines(card: Mapping[str, Any]) -> list[str]:
    """A model's card for people: what it learned from and how well it predicts."""
    errors, intervals = card["errors"], card["intervals"]
    ranges = ", ".join(f"{name} {low} to {high}" for name, (low, high) in card["range"].items())
    disturbed = " ".join("(" + ",".join(map(str, config)) + ")" for config in card["disturbed"])
    return [
        f"learned_from: {card['n_configurations']} configurations, {card['n_runs']} runs; {ranges}",
        f"conditions: {Conditions(**card['conditions']).describe()}",
        f"form: {card['form']}" + (f" ({card['reason']})" if card["reason"] else ""),
        *([f"left_out_as_disturbed: {disturbed}"] if disturbed else []),
        f"plain_law: {'; '.join(w for w in card['plain_law']['readings'].values() if w != 'none')}",
        f"error: {error_text(errors)}",
        *([f"warning: {words}"] if (words := order_warning(card["order_violations"])) else []),
        f"interval_90: within the range {half_width_text(intervals['within'])}, one step beyond it "
        f"{half_width_text(intervals['beyond'])}",
    ]
