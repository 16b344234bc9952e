"""Train the time model on a table of averages and save it with its card."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from epochcast.aggregate.averages.condition_sets import one_set_of_conditions
from epochcast.aggregate.averages.repeats import spread_warning
from epochcast.aggregate.averages.table import load_agg
from epochcast.cli import (
    add_json_flag,
    add_pairs_flag,
    add_table_flags,
    json_line,
    make_parser,
    print_home,
    print_notes,
    run_command,
)
from epochcast.collect.grid.config_lists import read_configs
from epochcast.flag_types import path_of, seed_int
from epochcast.gpus.device_names import are_same_conditions, board_name
from epochcast.machine.environment import utc_now
from epochcast.model.card_text import card_lines
from epochcast.model.fit_startup import fit_excess, fit_overhead
from epochcast.model.time_model.card import CARD_SCHEMA_VERSION, card_path, card_sha256, markdown_path
from epochcast.model.time_model.intervals import COVERAGE, Range
from epochcast.model.time_model.monotonicity import order_violations
from epochcast.model.time_model.physics import Law
from epochcast.model.time_model.saved_files import save_model
from epochcast.model.time_model.saved_model import SavedModel, load_model
from epochcast.model.time_model.startup import to_json
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import require_distinct, require_enough, rows_sha256
from epochcast.model.training.fit import TRANSFERRED, Fitted, fit
from epochcast.model.training.recipes import PHYSICS_ANN, REFERENCE_ANN
from epochcast.model.training.time_ann import keras_bytes
from epochcast.output.progress import Say, progress, quiet
from epochcast.paths import models_dir
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.storage.files import make_folder

logger = logging.getLogger(__name__)


def default_model_path(conditions: Conditions, table: Path) -> Path:
    """Where a table's model is kept: a file for each device and set of conditions.

    Where no device is named, nothing else tells two machines apart: then it is a file for each table.
    """
    board = board_name(conditions.device_name)  # a driver that renames it finds its model again
    device = re.sub(r"[^A-Za-z0-9]+", "-", board or "unknown-device").strip("-")
    told = {
        **asdict(conditions),
        "device_name": board,
        **({} if conditions.device_name else {"table": str(table.resolve())}),
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
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
    if missing := [str(c) for c in held_out if c not in {row.config for row in rows}]:
        raise ValueError(f"held out, but not in the table: {' '.join(missing)}.")
    rows = [row for row in rows if row.config not in set(held_out)]
    configs = [row.config for row in rows]
    (require_enough if start is None else require_distinct)(configs)
    conditions = declare(rows[0].conditions, declared or {})
    if start is not None and are_same_conditions(start.conditions, conditions):
        raise ValueError(
            f"{start.path} was learned under the conditions of these rows: it may have seen them, and starts nothing "
            "new. Train on all of them, without --start_from."
        )
    make_folder(path.absolute().parent)
    table = Table.of(rows)
    fitted = fit(table, recipe, seed, start, say)
    model = fitted.model
    card: dict[str, Any] = {
        "schema_version": CARD_SCHEMA_VERSION,
        "recipe": recipe,
        "form": fitted.form,
        "reason": fitted.reason,
        "started_from": None
        if start is None or fitted.form != TRANSFERRED
        else {name: start.card[name] for name in ("keras_sha256", "rows_sha256", "conditions")},
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
        "disturbed": [list(astuple(c)) for c, out in zip(configs, fitted.disturbed, strict=True) if out],
        "errors": _errors(fitted),
        "order_violations": order_violations(model),
        "intervals": {"coverage": COVERAGE, **asdict(fitted.calibration.widths)},
        "levels": fitted.calibration.levels_json(),
        **to_json(fit_excess(rows, seed), fit_overhead(rows)),
        "versions": {name: version(name) for name in ("epochcast", "keras", "numpy", "scikit-learn")},
    }
    network = keras_bytes(model.network)
    card["keras_sha256"] = hashlib.sha256(network).hexdigest()
    card["card_sha256"] = card_sha256(card)
    save_model(path, network, card)  # last: whatever fails before leaves an older model
    return card


def law_json(law: Law) -> dict[str, Any]:
    """A law as the card holds it."""
    return {"form": law.form, "coefficients": law.coefficients.tolist()}


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
        "Learn seconds per epoch from the averages and save the model with its cards.",
        "epochcast train --runs_agg results/runs_agg.csv",
    )
    add_table_flags(parser)
    parser.add_argument(
        "--model",
        type=path_of,
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
        type=path_of,
        metavar="PATH",
        help="another device's .keras model whose law and residual a few rows of this one are added to",
    )
    parser.add_argument("--seed", type=seed_int, default=0, help="of the splits and the first weights")
    parser.add_argument("--held_out", type=path_of, metavar="CSV", help="configurations to keep from all fitting")
    what = "conditions that the table lacks, e.g. device_name=...; the card says that they were declared"
    add_pairs_flag(parser, "--declare", what)
    parser.add_argument("--credit", metavar="TEXT", help="whose measurements these are, for the card")
    add_json_flag(parser, "print the card as one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.model is not None and arguments.model.suffix != ".keras":
        parser.error(f"--model {arguments.model}: the name must end in .keras")
    if arguments.start_from is not None and arguments.recipe != PHYSICS_ANN:
        parser.error(f"--start_from needs --recipe {PHYSICS_ANN}")

    def work() -> int:
        print_home()
        import h5py  # noqa: F401  # Keras saves by it: missing, it is named before the training and not after

        table = load_agg(arguments.runs_agg, arguments.frozen)
        chosen = one_set_of_conditions(table.rows, [arguments.conditions], table.source)
        print_notes(chosen.notes)
        rows = chosen.rows
        if words := spread_warning(rows, table.source):
            logger.warning("%s: %s", table.path, words)
        conditions = declare(rows[0].conditions, arguments.declare)
        path = arguments.model or default_model_path(conditions, table.path)
        held_out = read_configs(arguments.held_out) if arguments.held_out else []
        card = train(
            rows,
            path,
            recipe=arguments.recipe,
            seed=arguments.seed,
            held_out=held_out,
            declared=arguments.declare,
            credit=arguments.credit,
            start=load_model(arguments.start_from) if arguments.start_from else None,
            say=progress,
        )
        if arguments.json:
            named = {"table": str(table.path), "table_origin": table.origin, "model": str(path.absolute())}
            print(json_line({**named, **chosen.to_json(), **card}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        print("\n".join(card_lines(card)))
        print(f"model: {path.absolute()}")
        print(f"card: {card_path(path).absolute()}")
        print(f"card for people: {markdown_path(path).absolute()}")
        return 0

    return run_command(work)
