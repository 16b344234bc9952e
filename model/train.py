"""Train the time model on a table of averages and save it with its card."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
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
    significant,
)
from epochcast.environment import utc_now
from epochcast.files import make_folder, sha256_of, write_json_atomically
from epochcast.paths import models_dir
from epochcast.schema import AggRow, Conditions, RunConfig
from model.cross_validation import ANN, cross_validate, read_config_list, require_enough, rows_sha256
from model.features import FEATURE_NAMES, feature_matrix
from model.predictor import CARD_SCHEMA_VERSION, card_path
from model.time_ann import HIDDEN, MEMBERS, STEPS, fit_ensembles, save_keras


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


def _seconds(values: Sequence[float | None]) -> dict[str, float | int] | None:
    known = [v for v in values if v is not None]
    return {"median": statistics.median(known), "n": len(known)} if known else None


def train(
    rows: Sequence[AggRow],
    path: Path,
    *,
    seed: int = 0,
    held_out: Sequence[RunConfig] = (),
    declared: Mapping[str, str] | None = None,
    credit: str | None = None,
) -> dict[str, Any]:
    """Fit the time model to all rows but those held out, save it as `path` with its card, and return the card.

    The errors on the card are of a 5-fold cross-validation by configuration over the same rows.

    Raises:
        ValueError: if there are too few configurations, or a held-out one is not in the table.
        OSError: if the files can't be written.
    """
    if missing := [str(c) for c in held_out if c not in {row.config for row in rows}]:
        raise ValueError(f"held out, but not in the table: {' '.join(missing)}.")
    rows = [row for row in rows if row.config not in set(held_out)]
    configs = [row.config for row in rows]
    require_enough(configs)
    conditions = declare(rows[0].conditions, declared or {})  # refused before an older model is replaced
    make_folder(path.absolute().parent)
    result = cross_validate(rows, repeats=1, seed=seed, with_baselines=False)
    (errors,) = result.metrics(ANN, as_throughput=False)
    log_time = np.log([row.avg_time_mean for row in rows])
    (model,) = fit_ensembles(feature_matrix(configs), log_time, np.ones((1, len(rows)), np.bool_), seed)
    save_keras(model, path)
    card = {
        "schema_version": CARD_SCHEMA_VERSION,
        "recipe": "log_time_ann",
        "created_utc": utc_now(),
        "conditions": asdict(conditions),
        "declared": sorted(declared or {}),
        "credit": credit,
        "feature_names": list(FEATURE_NAMES),
        "feature_mean": model.feature_mean.tolist(),
        "feature_scale": model.feature_scale.tolist(),
        "law": model.law.tolist(),
        "residual_scale": model.residual_scale,
        "activation": "silu",
        "members": MEMBERS,
        "hidden": list(HIDDEN),
        "steps": STEPS,
        "seed": seed,
        "range": {
            name: [min(getattr(c, name) for c in configs), max(getattr(c, name) for c in configs)]
            for name in ("depth", "base_filters", "batch_size")
        },
        "n_configurations": len(rows),
        "n_runs": sum(row.n for row in rows),
        "rows_sha256": rows_sha256(rows),
        "held_out": [[c.depth, c.base_filters, c.batch_size] for c in held_out],
        "errors": {"split": f"{result.folds}-fold by configuration", "repeats": 1, **asdict(errors)},
        "overhead_sec": _seconds([row.overhead_sec_mean for row in rows]),
        "first_epoch_excess_sec": _seconds(
            [None if r.first_epoch_sec_mean is None else r.first_epoch_sec_mean - r.avg_time_mean for r in rows]
        ),
        "versions": {name: version(name) for name in ("epochcast", "keras", "numpy")},
        "keras_sha256": sha256_of(path),
    }
    write_json_atomically(card_path(path), card)
    return card


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

    def work() -> int:
        print_home()
        table = load_agg(arguments.runs_agg, arguments.frozen)
        rows = one_set_of_conditions(table.rows, arguments.conditions)
        path = arguments.model or default_model_path(declare(rows[0].conditions, arguments.declare or {}))
        held_out = read_config_list(arguments.held_out) if arguments.held_out else []
        card = train(
            rows, path, seed=arguments.seed, held_out=held_out, declared=arguments.declare, credit=arguments.credit
        )
        if arguments.json:
            named = {"table": str(table.path), "table_origin": table.origin, "model": str(path.absolute())}
            print(json.dumps({**named, **card}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        print("\n".join(card_lines(card)))
        print(f"model: {path.absolute()}")
        print(f"card: {card_path(path).absolute()}")
        return 0

    return run_command(work)


def card_lines(card: Mapping[str, Any]) -> list[str]:
    """A model's card for people: what it learned from and how well it predicts."""
    errors = card["errors"]
    ranges = ", ".join(f"{name} {low} to {high}" for name, (low, high) in card["range"].items())
    return [
        f"learned_from: {card['n_configurations']} configurations, {card['n_runs']} runs; {ranges}",
        f"conditions: {Conditions(**card['conditions']).describe()}",
        f"error: MAPE {percent(errors['mape'])}, 90th percentile {percent(errors['p90_ape'])}, "
        f"MAE {significant(errors['mae'])} s ({errors['split']}, n = {errors['n']})",
    ]
