"""Honest errors of the time model: splits by configuration, repeated, beside plain baselines.

A configuration in the test part of a split is in no row used for fitting or for scaling; nothing stops early, so there
is no third part. Configurations named by --unseen are kept from all fitting and reported one by one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aggregate.figures import COLOURS, new_figure, plain_ticks, save_figure
from aggregate.runs_agg import load_agg, one_set_of_conditions
from epochcast.cli import (
    add_conditions_flag,
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
from epochcast.files import write_json_atomically, write_text_atomically
from epochcast.paths import home, runs_agg_csv
from epochcast.schema import TRAIN_N, AggRow, RunConfig
from epochcast.stats import RegressionMetrics, mean_and_std, regression_metrics
from model.baselines import affine_in_steps, linear_on_logs
from model.features import feature_matrix
from model.predictor import Array
from model.time_ann import MIN_CONFIGURATIONS, fit_ensembles

FOLDS = 5
REPEATS = 5
ANN = "ann"


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """Out-of-fold predictions: `predicted[name]` has shape (repeats, n), NaN where a baseline has no answer."""

    configs: list[RunConfig]
    measured: Array
    train_n: int
    predicted: dict[str, Array]
    folds: int

    def metrics(self, name: str, as_throughput: bool) -> list[RegressionMetrics]:
        """Metrics of each repeat over all configurations that this model has an answer for."""
        found = []
        for row in self.predicted[name]:
            known = np.isfinite(row)
            measured, predicted = self.measured[known], row[known]
            if as_throughput:
                measured, predicted = self.train_n / measured, self.train_n / predicted
            if known.any():
                found.append(regression_metrics(measured, predicted))
        return found


@dataclass(frozen=True, slots=True)
class UnseenResult:
    """One configuration kept from all fitting: what was measured (None if it was not) and what is predicted."""

    config: RunConfig
    measured_sec: float | None
    predicted_sec: float

    @property
    def error(self) -> float | None:
        """Signed relative error of the prediction."""
        return None if self.measured_sec is None else self.predicted_sec / self.measured_sec - 1


def fold_masks(n: int, folds: int, repeats: int, seed: int) -> npt.NDArray[np.bool_]:
    """Training masks of repeated K-fold splits, shape (repeats * folds, n); each repeat is shuffled anew."""
    random = np.random.default_rng(seed)
    masks = np.ones((repeats * folds, n), bool)
    for repeat in range(repeats):
        order = random.permutation(n)
        for fold in range(folds):
            masks[repeat * folds + fold, order[fold::folds]] = False
    return masks


def cross_validate(
    rows: Sequence[AggRow], folds: int = FOLDS, repeats: int = REPEATS, seed: int = 0, with_baselines: bool = True
) -> CrossValidation:
    """Repeated K-fold cross-validation by configuration of the network and the baselines.

    Raises:
        ValueError: if there are fewer than MIN_CONFIGURATIONS configurations, or one stands in two rows.
    """
    configs = [row.config for row in rows]
    require_enough(configs)
    measured = np.array([row.avg_time_mean for row in rows])
    train_n = rows[0].train_n or TRAIN_N
    folds = min(folds, len(rows))
    masks = fold_masks(len(rows), folds, repeats, seed)
    models = fit_ensembles(feature_matrix(configs), np.log(measured), masks, seed)
    baselines: dict[str, Callable[[list[RunConfig], Array, list[RunConfig]], Array]] = {}
    if with_baselines:
        baselines = {
            "linear_on_logs": linear_on_logs,
            "affine_in_steps": lambda train, times, test: affine_in_steps(train, times, test, train_n),
        }
    predicted = {name: np.full((repeats, len(rows)), np.nan) for name in (ANN, *baselines)}
    for number, (mask, model) in enumerate(zip(masks, models, strict=True)):
        test = [c for c, is_train in zip(configs, mask, strict=True) if not is_train]
        train = [c for c, is_train in zip(configs, mask, strict=True) if is_train]
        predicted[ANN][number // folds, ~mask] = model.times(test)
        for name, fit in baselines.items():
            predicted[name][number // folds, ~mask] = fit(train, measured[mask], test)
    return CrossValidation(configs, measured, train_n, predicted, folds)


def require_enough(configs: Sequence[RunConfig]) -> None:
    """Raise a ValueError unless there are enough different configurations to fit a network to."""
    if len(set(configs)) < len(configs):
        raise ValueError("a configuration stands in two rows: aggregate the runs first.")
    if len(configs) < MIN_CONFIGURATIONS:
        raise ValueError(
            f"{len(configs)} configurations are too few to learn from: measure at least {MIN_CONFIGURATIONS}, "
            "e.g. python collect/run_grid.py --depth 2,3 --base_filters 16,32 --batch_size 64,256"
        )


def evaluate_unseen(
    rows: Sequence[AggRow], unseen: Sequence[RunConfig], seed: int = 0
) -> tuple[list[UnseenResult], list[AggRow]]:
    """Predictions for configurations kept from all fitting, and the rows that were left to learn from.

    Raises:
        ValueError: if too few configurations are left.
    """
    kept_out = set(unseen)
    rest = [row for row in rows if row.config not in kept_out]
    require_enough([row.config for row in rest])
    measured = {row.config: row.avg_time_mean for row in rows}
    log_time = np.log([row.avg_time_mean for row in rest])
    (model,) = fit_ensembles(
        feature_matrix(row.config for row in rest), log_time, np.ones((1, len(rest)), np.bool_), seed
    )
    times = model.times(list(unseen))
    return [UnseenResult(c, measured.get(c), float(t)) for c, t in zip(unseen, times, strict=True)], rest


def read_config_list(path: Path) -> list[RunConfig]:
    """Configurations from a CSV file with (at least) the columns depth, base_filters, batch_size.

    Raises:
        ValueError: names file, line and what is wrong.
        OSError: if the file can't be read.
    """
    path = path.absolute()
    names = ("depth", "base_filters", "batch_size")
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}).") from None
    configs = []
    for line, row in enumerate(rows, start=2):
        try:
            configs.append(RunConfig(*(int(row[name]) for name in names)))
        except (KeyError, TypeError):
            raise ValueError(f"{path}:{line}: expected the columns {', '.join(names)}.") from None
        except ValueError as error:
            raise ValueError(f"{path}:{line}: {error}") from None
    if not configs:
        raise ValueError(f"{path}: no configuration in the file.")
    return list(dict.fromkeys(configs))


# --- report -----------------------------------------------------------------------------------------------------------


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
    mean = significant(cell["mean"] * scale) if abs(cell["mean"]) < 0.99 or scale != 1 else f"{cell['mean']:.4g}"
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
                    name,
                    f"{model['n_answered']}/{report['n']}",
                    *(_spread(cells[metric], 100) for metric in ("mape", "p90_ape")),
                    *(_spread(cells[metric]) for metric in ("mae", "rmse", "r2")),
                ]
            )
        header = ["model", "answered", "MAPE %", "P90 %", f"MAE {unit}", f"RMSE {unit}", "R2"]
        lines += ["", title, table_text(header, table)]
    if report["unseen"]:
        table = [
            [
                f"({u['depth']},{u['base_filters']},{u['batch_size']})",
                u["measured_sec"],
                u["predicted_sec"],
                None if u["error"] is None else f"{100 * u['error']:+.2f} %",
            ]
            for u in report["unseen"]
        ]
        header = ["configuration", "measured s", "predicted s", "error"]
        lines += ["", "Kept from all fitting", table_text(header, table)]
        errors = [abs(u["error"]) for u in report["unseen"] if u["error"] is not None]
        if errors:
            lines.append(f"mean absolute error of {len(errors)}: {percent(float(np.mean(errors)))}")
    return "\n".join(lines)


def draw_evaluation(result: CrossValidation, folder: Path) -> list[Path]:
    """Predicted against measured time, every point predicted by a model that had not seen it."""
    figure, axes = new_figure(6.6, 5.6)
    styles = {"linear_on_logs": (COLOURS[1], "^"), "affine_in_steps": (COLOURS[2], "s"), ANN: (COLOURS[0], "o")}
    for name, (colour, marker) in styles.items():
        if name in result.predicted:
            axes.plot(
                result.measured,
                result.predicted[name][0],
                marker,
                color=colour,
                label=name,
                markersize=5,
                alpha=0.9 if name == ANN else 0.45,
            )
    limits = [float(result.measured.min()), float(result.measured.max())]
    axes.plot(limits, limits, "--", color="0.3", linewidth=1, label="equal")
    axes.set(xscale="log", yscale="log", xlabel="measured time (s/epoch)", ylabel="predicted time (s/epoch)")
    axes.set_title(f"Predicted against measured, {result.folds}-fold by configuration, n = {len(result.configs)}")
    plain_ticks(axes)
    axes.legend(loc="upper left", frameon=False)
    return save_figure(figure, folder, "predicted_against_measured")


def evaluate(
    rows: Sequence[AggRow], unseen: Sequence[RunConfig], out: Path, repeats: int = REPEATS, seed: int = 0
) -> tuple[dict[str, Any], list[Path]]:
    """Evaluate on one table and write report.txt, report.json and the figure into `out`.

    Raises:
        ValueError: if the table has too few configurations.
        OSError: if `out` can't be written.
    """
    unseen_results, rest = evaluate_unseen(rows, unseen, seed) if unseen else ([], list(rows))
    result = cross_validate(rest, repeats=repeats, seed=seed)
    report = report_of(result, unseen_results)
    write_json_atomically(out / "report.json", report)
    write_text_atomically(out / "report.txt", report_text(report) + "\n")
    figures = draw_evaluation(result, out)
    return report, [out.absolute() / "report.txt", out.absolute() / "report.json", *figures]


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast evaluate",
        "How well the time model predicts configurations it has not seen, beside plain baselines.",
        "epochcast evaluate --runs_agg results/runs_agg.csv --unseen unseen.csv",
    )
    path_flag(parser, "--runs_agg", runs_agg_csv, "table of averages; made anew where its runs.csv has changed")
    parser.add_argument("--frozen", action="store_true", help="refuse a table that is out of date")
    parser.add_argument("--unseen", type=Path, metavar="CSV", help="configurations to keep from all fitting")
    parser.add_argument("--repeats", type=positive_int, default=REPEATS, help="repeats of the 5-fold split")
    parser.add_argument("--seed", type=not_negative_int, default=0, help="of the splits and the first weights")
    path_flag(parser, "--out", lambda: home() / "results" / "evaluation", "folder for report and figure")
    add_conditions_flag(parser)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        table = load_agg(arguments.runs_agg, arguments.frozen)
        rows = one_set_of_conditions(table.rows, arguments.conditions)
        unseen = read_config_list(arguments.unseen) if arguments.unseen else []
        report, paths = evaluate(rows, unseen, arguments.out, arguments.repeats, arguments.seed)
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
