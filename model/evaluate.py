"""Honest errors of the time model, for people and for files: tables, every prediction, figures.

Splits are by configuration, repeated, beside plain baselines. Configurations named by --unseen are kept from all
fitting and reported one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aggregate.agg_table import load_agg, one_set_of_conditions
from aggregate.figures import COLOURS, new_figure, plain_ticks, save_figure
from epochcast.cli import (
    add_table_flags,
    make_parser,
    not_negative_int,
    path_flag,
    percent,
    positive_int,
    print_home,
    run_command,
    significant,
    table_text,
)
from epochcast.environment import utc_now
from epochcast.files import write_json_atomically, write_text_atomically
from epochcast.paths import home
from epochcast.schema import AggRow, RunConfig
from epochcast.stats import RegressionMetrics, mean_and_std
from model.cross_validation import (
    ANN,
    REPEATS,
    CrossValidation,
    UnseenResult,
    cross_validate,
    evaluate_unseen,
    read_config_list,
    rows_sha256,
)
from model.predictor import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {ANN: "time model", "linear_on_logs": "linear on logs", "affine_in_steps": "affine in steps"}
STYLES = {  # colour, marker, opacity; the model of interest is drawn last, on top
    "linear_on_logs": (COLOURS[1], "^", 0.45),
    "affine_in_steps": (COLOURS[2], "s", 0.45),
    ANN: (COLOURS[0], "o", 0.9),
}


def summarise(metrics: Sequence[RegressionMetrics]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over repeats of every metric."""
    summary = {}
    for name in ("mae", "rmse", "r2", "mape", "p90_ape"):
        mean, std = mean_and_std([v for m in metrics if (v := getattr(m, name)) is not None])
        summary[name] = {"mean": mean, "std": std}
    return summary


def report_of(result: CrossValidation, unseen: Sequence[UnseenResult]) -> dict[str, Any]:
    """The whole evaluation as plain JSON values."""
    models: dict[str, Any] = {}
    for name, predicted in result.predicted.items():
        time, throughput = result.metrics(name, False), result.metrics(name, True)
        models[name] = {
            "n_answered": int(np.isfinite(predicted).sum(axis=1).min()),
            "time_sec": summarise(time),
            "images_per_sec": summarise(throughput),
        }
    return {
        "split": f"{result.folds}-fold by configuration",
        "repeats": len(result.predicted[ANN]),
        "n": len(result.configs),
        "models": models,
        "unseen": [
            {**asdict(u.config), "measured_sec": u.measured_sec, "predicted_sec": u.predicted_sec, "error": u.error}
            for u in unseen
        ],
    }


def _spread(cell: dict[str, float | None], scale: float = 1.0) -> str:
    if cell["mean"] is None:
        return "-"
    mean = significant(cell["mean"] * scale) if abs(cell["mean"]) < 0.99 or scale != 1 else significant(cell["mean"], 4)
    return mean if cell["std"] is None else f"{mean} ± {significant(cell['std'] * scale, 2)}"


def report_text(report: dict[str, Any]) -> str:
    """The report for people: one table for time, one for derived throughput, the unseen configurations."""
    lines = [
        f"Split: {report['split']}, {report['repeats']} repeats, {report['n']} configurations; "
        "mean ± standard deviation over repeats.",
    ]
    for title, key, unit in (
        ("Seconds per epoch", "time_sec", "s"),
        ("Derived throughput", "images_per_sec", "images/s"),
    ):
        table = []
        for name, model in report["models"].items():
            cells = model[key]
            table.append(
                [
                    NAMES[name],
                    f"{model['n_answered']}/{report['n']}",
                    *(_spread(cells[metric], 100) for metric in ("mape", "p90_ape")),
                    *(_spread(cells[metric]) for metric in ("mae", "rmse", "r2")),
                ]
            )
        header = ["model", "answered", "MAPE %", "P90 %", f"MAE {unit}", f"RMSE {unit}", "R2"]
        lines += ["", title, table_text(header, table)]
    if report["unseen"]:
        listed: list[list[str | float | None]] = [
            [
                f"({u['depth']},{u['base_filters']},{u['batch_size']})",
                u["measured_sec"],
                u["predicted_sec"],
                None if u["error"] is None else f"{100 * u['error']:+.2f} %",
            ]
            for u in report["unseen"]
        ]
        header = ["configuration", "measured s", "predicted s", "error"]
        lines += ["", "Kept from all fitting", table_text(header, listed)]
        errors = [abs(u["error"]) for u in report["unseen"] if u["error"] is not None]
        if errors:
            lines.append(f"mean absolute error of {len(errors)}: {percent(float(np.mean(errors)))}")
    return "\n".join(lines)


def draw_evaluation(result: CrossValidation, folder: Path) -> list[Path]:
    """Predicted against measured, for time and for derived throughput; no point was seen by the model behind it."""
    title = f"{result.folds}-fold by configuration, n = {len(result.configs)}, first repeat"
    measured, predicted = result.measured, {name: repeats[0] for name, repeats in result.predicted.items()}
    time = _scatter(measured, predicted, "time (s/epoch)", title)
    derived = {name: result.train_n / times for name, times in predicted.items()}
    throughput = _scatter(result.train_n / measured, derived, "throughput (images/s)", title)
    return [
        *save_figure(time, folder, "predicted_against_measured_time"),
        *save_figure(throughput, folder, "predicted_against_measured_throughput"),
    ]


def _scatter(measured: Array, predicted: Mapping[str, Array], label: str, title: str) -> Figure:
    figure, axes = new_figure(6.6, 5.6)
    for name, (colour, marker, alpha) in STYLES.items():
        if name in predicted:
            axes.plot(measured, predicted[name], marker, color=colour, label=NAMES[name], markersize=5, alpha=alpha)
    limits = [float(measured.min()), float(measured.max())]
    axes.plot(limits, limits, "--", color="0.3", linewidth=1, label="equal")
    axes.set(xscale="log", yscale="log", xlabel=f"measured {label}", ylabel=f"predicted {label}", title=title)
    plain_ticks(axes)
    axes.legend(loc="upper left", frameon=False)
    return figure


def predictions_csv(result: CrossValidation) -> str:
    """Every out-of-fold prediction as CSV: a line for each configuration and repeat, empty where there is no answer."""
    import pandas as pd

    configs = pd.DataFrame([asdict(config) for config in result.configs]).assign(measured_sec=result.measured)
    repeats = [
        configs.assign(repeat=number + 1, **{f"{name}_sec": p[number] for name, p in result.predicted.items()})
        for number in range(len(result.predicted[ANN]))
    ]
    return str(pd.concat(repeats).to_csv(index=False, lineterminator="\n"))


def evaluate(
    rows: Sequence[AggRow],
    unseen: Sequence[RunConfig],
    out: Path,
    repeats: int = REPEATS,
    seed: int = 0,
    table: str | None = None,
) -> tuple[dict[str, Any], list[Path]]:
    """Evaluate on one table and write report, predictions and figures into `out`; `table` says where the rows are from.

    Raises:
        ValueError: if the table has too few configurations.
        OSError: if `out` can't be written.
    """
    unseen_results, rest = evaluate_unseen(rows, unseen, seed) if unseen else ([], list(rows))
    result = cross_validate(rest, repeats=repeats, seed=seed)
    report = {
        "created_utc": utc_now(),
        "table": table,
        "rows_sha256": rows_sha256(rows),
        "conditions": asdict(rows[0].conditions),
        "seed": seed,
        **report_of(result, unseen_results),
    }
    write_json_atomically(out / "report.json", report)
    origin = (
        f"Rows: {table or 'given by a program'} (SHA-256 {report['rows_sha256'][:12]}), "
        f"{rows[0].conditions.describe()}. Seed {seed}, {report['created_utc']}."
    )
    write_text_atomically(out / "report.txt", f"{origin}\n{report_text(report)}\n")
    write_text_atomically(out / "predictions.csv", predictions_csv(result))
    written = [out.absolute() / name for name in ("report.txt", "report.json", "predictions.csv")]
    return report, [*written, *draw_evaluation(result, out)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast evaluate",
        "How well the time model predicts configurations it has not seen, beside plain baselines.",
        "epochcast evaluate --runs_agg results/runs_agg.csv --repeats 5",
    )
    add_table_flags(parser)
    parser.add_argument("--unseen", type=Path, metavar="CSV", help="configurations to keep from all fitting")
    parser.add_argument("--repeats", type=positive_int, default=REPEATS, help="repeats of the 5-fold split")
    parser.add_argument("--seed", type=not_negative_int, default=0, help="of the splits and the first weights")
    path_flag(parser, "--out", lambda: home() / "results" / "evaluation", "folder for report and figure")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        table = load_agg(arguments.runs_agg, arguments.frozen)
        rows = one_set_of_conditions(table.rows, arguments.conditions)
        unseen = read_config_list(arguments.unseen) if arguments.unseen else []
        report, paths = evaluate(rows, unseen, arguments.out, arguments.repeats, arguments.seed, str(table.path))
        if arguments.json:
            print(json.dumps({"table": str(table.path), "table_origin": table.origin, **report}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        print(f"conditions: {rows[0].conditions.describe()}")
        print(report_text(report))
        for path in paths:
            print(f"file: {path}")
        return 0

    return run_command(work)
