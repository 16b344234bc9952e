"""Evaluate a recipe on one table, and write the report, all predictions and figures.

Splits are by configuration, repeated, next to plain baselines. Configurations named as unseen are kept from all fitting
and reported one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from epochcast.interval import Interval
from epochcast.machine.environment import utc_now
from epochcast.model.evaluation.figures import draw_evaluation
from epochcast.model.evaluation.learning_curves import learning_curves
from epochcast.model.evaluation.report import (
    CoverageCheck,
    ErrorTable,
    Evaluation,
    MetricSpreads,
    ModelErrors,
    Spread,
    UnseenPrediction,
)
from epochcast.model.evaluation.report_text import report_markdown
from epochcast.model.time_model.intervals import Range, conformal_half_width
from epochcast.model.time_model.monotonicity import order_violations
from epochcast.model.time_model.physics import fit_gated_law
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.calibration import fit_calibrated
from epochcast.model.training.cross_validation import (
    BASELINES,
    REPEATS,
    CrossValidation,
    cross_validate,
    forms_for,
    kept_out,
    rows_sha256,
)
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.model.training.recipes import LAW_ALONE, PHYSICS, PHYSICS_ANN
from epochcast.output.progress import Say, quiet
from epochcast.schema import AggRow, RunConfig
from epochcast.stats import RegressionMetrics, mean_and_std
from epochcast.storage.files import make_folder, write_json_atomically, write_text_atomically


def summarise(metrics: Sequence[RegressionMetrics]) -> MetricSpreads:
    """Return mean and standard deviation over repeats of every metric."""

    def spread(name: str) -> Spread:
        return Spread(*mean_and_std([value for each in metrics if (value := getattr(each, name)) is not None]))

    return MetricSpreads(*(spread(name) for name in ("mae", "rmse", "r2", "mape", "p90_ape")))


def models_of(result: CrossValidation) -> dict[str, ModelErrors]:
    """Return the errors of every model of a cross-validation, for time and for derived throughput."""
    return {
        name: ModelErrors(
            int(np.isfinite(predicted).sum(axis=1).min()),
            summarise(result.metrics(name)),
            summarise(result.metrics(name, as_throughput=True)),
        )
        for name, predicted in result.predicted.items()
    }


def cross_conformal(
    result: CrossValidation, form: str, disturbed: npt.NDArray[np.bool_] | None = None
) -> CoverageCheck | None:
    """Return how often an interval covers a row that had no part in its width; None of too few rows.

    Each fold is judged with the width that the other folds of its repeat give. Rows that are `disturbed`, shape (n,),
    are excluded from both.
    """
    judged = np.ones(len(result.table), bool) if disturbed is None else ~disturbed
    covered, widths = [], []
    for errors, folds in zip(result.log_errors(form), result.fold_numbers(), strict=True):
        for fold in range(result.folds):
            half = conformal_half_width(errors[(folds != fold) & judged])
            if half is None:
                return None
            if (own := (folds == fold) & judged).any():
                covered.append((errors[own] <= half).mean())
                widths.append(half)
    mean = float(np.expm1(np.mean(widths)))
    return CoverageCheck(float(np.mean(covered)), mean, float(np.expm1(max(widths))))


def evaluate(
    rows: Sequence[AggRow],
    unseen: Sequence[RunConfig],
    out: Path,
    repeats: int = REPEATS,
    seed: int = 0,
    table: str | None = None,
    recipe: str = PHYSICS_ANN,
    say: Callable[[str], Say] = quiet,
) -> tuple[Evaluation, list[Path]]:
    """Evaluate a recipe on one table, and write report, predictions and figures into `out`.

    Args:
        unseen: configurations to keep from all fitting.
        table: where the rows are from.
        say: makes, from the name of a long part, what gets the share of it that is done.

    Raises:
        ValueError: if the table has too few configurations.
        OSError: if `out` can't be written.
    """
    make_folder(out.absolute())  # before minutes of work
    everything = Table.of(rows)
    rest, is_in = kept_out(everything, unseen)
    forms = forms_for(recipe, len(rest))
    result = cross_validate(
        rest,
        [*forms, *([PHYSICS] if PHYSICS not in forms else [])],
        repeats=repeats,
        seed=seed,
        baselines=list(BASELINES),
        say=say("cross-validation"),
    )
    form = min(forms, key=result.mape)
    model, calibration, disturbed = fit_calibrated(rest, form, result.log_errors(form)[0], seed, say=say)
    law, _ = fit_gated_law(LAW_ALONE, rest.configs, rest.seconds, rest.train_n)
    curves = learning_curves(rest, seed, say("learning curves"))
    kept_rows = [row for row, kept in zip(rows, is_in, strict=True) if kept]
    measured = dict(zip(everything.configs, everything.seconds.tolist(), strict=True))
    box, widths = Range.of(rest.configs), calibration.widths

    def predicted(config: RunConfig) -> UnseenPrediction:
        seconds = float(model.times([config])[0])
        interval = Interval.of_log(seconds, widths.of(box.domain(config, widths.axes)))
        return UnseenPrediction(config, measured.get(config), interval)

    evaluation = Evaluation(
        created_utc=utc_now(),
        table=table,
        rows_sha256=rows_sha256(rows),
        conditions=rows[0].conditions,
        seed=seed,
        recipe=recipe,
        errors=ErrorTable(form, result.split, len(result.predicted[form]), len(rest), models_of(result)),
        range=box,
        calibration=calibration,
        checked=cross_conformal(result, form, disturbed),
        order_violations=order_violations(model),
        unseen=tuple(map(predicted, unseen)),
        law=law,
        shares={group: float(share.mean()) for group, share in law.shares(rest.configs).items()},
        outliers=tuple(c for c, is_out in zip(rest.configs, disturbed, strict=True) if is_out),
        excess=fit_excess(kept_rows, seed),
        overhead=fit_overhead(kept_rows),
        curves=tuple(curves),
    )
    write_json_atomically(out / "report.json", evaluation.to_json())
    write_text_atomically(out / "report.md", report_markdown(evaluation))
    write_text_atomically(out / "predictions.csv", predictions_csv(result))
    written = [out.absolute() / name for name in ("report.md", "report.json", "predictions.csv")]
    return evaluation, [*written, *draw_evaluation(out, result, form, widths.within, curves, law)]


def predictions_csv(result: CrossValidation) -> str:
    """Return every out-of-fold prediction as CSV.

    There is a line for each configuration and repeat, with an empty cell where a model has no answer.
    """
    import pandas as pd

    configs = pd.DataFrame([asdict(c) for c in result.table.configs]).assign(measured_sec=result.table.seconds)
    repeats = [
        configs.assign(repeat=number + 1, **{f"{name}_sec": p[number] for name, p in result.predicted.items()})
        for number in range(len(next(iter(result.predicted.values()))))
    ]
    return str(pd.concat(repeats).to_csv(index=False, lineterminator="\n"))
