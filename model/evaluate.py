"""Honest errors of the time model, for people and for files: tables, every prediction, figures.

Splits are by configuration, repeated, beside plain baselines. Configurations named by --unseen are kept from all
fitting and reported one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epochcast.aggregate.averages.condition_sets import one_set_of_conditions
from epochcast.aggregate.averages.table import load_agg
from epochcast.cli import (
    add_json_flag,
    add_table_flags,
    json_line,
    make_parser,
    path_flag,
    print_home,
    print_notes,
    run_command,
)
from epochcast.collect.grid.config_lists import read_configs
from epochcast.flag_types import path_of, repeats_int, seed_int
from epochcast.interval import Interval
from epochcast.machine.environment import utc_now
from epochcast.model.card_text import excess_words, half_width_text
from epochcast.model.evaluation.figures import NAMES, draw_evaluation
from epochcast.model.evaluation.learning_curves import learning_curves
from epochcast.model.fit_startup import fit_excess, fit_overhead
from epochcast.model.time_model.intervals import Range, Widths, conformal_half_width, more_for_a_range
from epochcast.model.time_model.monotonicity import order_violations
from epochcast.model.time_model.physics import GATE, GROUPS, fit_gated_law
from epochcast.model.time_model.startup import to_json
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
from epochcast.model.training.recipes import LAW_ALONE, PHYSICS, PHYSICS_ANN, REFERENCE_ANN
from epochcast.model.training.splits import NETWORK_MIN_ROWS
from epochcast.output.progress import Say, progress, quiet
from epochcast.output.text import cell_text, percent, significant, table_text
from epochcast.paths import home
from epochcast.schema import AggRow, RunConfig, config_in
from epochcast.stats import RegressionMetrics, mean_and_std
from epochcast.storage.file_kinds import REPORT_TITLE
from epochcast.storage.files import make_folder, write_json_atomically, write_text_atomically
from epochcast.text_sinks import markdown_text


def summarise(metrics: Sequence[RegressionMetrics]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over repeats of every metric."""
    summary = {}
    for name in ("mae", "rmse", "r2", "mape", "p90_ape"):
        mean, std = mean_and_std([v for m in metrics if (v := getattr(m, name)) is not None])
        summary[name] = {"mean": mean, "std": std}
    return summary


def models_of(result: CrossValidation) -> dict[str, Any]:
    """Metrics of every model of a cross-validation, for time and for derived throughput."""
    return {
        name: {
            "n_answered": int(np.isfinite(predicted).sum(axis=1).min()),
            "time_sec": summarise(result.metrics(name)),
            "images_per_sec": summarise(result.metrics(name, as_throughput=True)),
        }
        for name, predicted in result.predicted.items()
    }


def cross_conformal(
    result: CrossValidation, form: str, disturbed: npt.NDArray[np.bool_] | None = None
) -> dict[str, Any] | None:
    """How often a 90 % interval holds a row whose fold had no part in its width; None of too few rows.

    Each fold is judged with the width that the other folds of its repeat give. Rows that are `disturbed`, shape (n,),
    are left out of both.
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
    return {"coverage": float(np.mean(covered)), "half_width": mean, "largest": float(np.expm1(max(widths)))}


def evaluate(
    rows: Sequence[AggRow],
    unseen: Sequence[RunConfig],
    out: Path,
    repeats: int = REPEATS,
    seed: int = 0,
    table: str | None = None,
    recipe: str = PHYSICS_ANN,
    say: Callable[[str], Say] = quiet,
) -> tuple[dict[str, Any], list[Path]]:
    """Evaluate on one table and write report, predictions and figures into `out`; `table` says where the rows are from.

    `say` makes, from the name of a long part, what is told the share of it that is done.

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
    first = result.log_errors(form)[0]
    model, calibration, disturbed = fit_calibrated(rest, form, first, seed, say=say)
    law, _ = fit_gated_law(LAW_ALONE, rest.configs, rest.seconds, rest.train_n)
    curves = learning_curves(rest, seed, say("learning curves"))
    kept_rows = [row for row, kept in zip(rows, is_in, strict=True) if kept]
    measured = dict(zip(everything.configs, everything.seconds.tolist(), strict=True))
    shares = {group: float(share.mean()) for group, share in law.shares(rest.configs).items()}
    report = {
        "created_utc": utc_now(),
        "table": table,
        "rows_sha256": rows_sha256(rows),
        "conditions": asdict(rows[0].conditions),
        "seed": seed,
        "recipe": recipe,
        "form": form,
        "split": result.split,
        "repeats": len(result.predicted[form]),
        "n": len(rest),
        "range": Range.of(rest.configs).to_json(),
        "models": models_of(result),
        "intervals": {
            "within": calibration.widths.within,
            "beyond": calibration.widths.beyond,
            "n_missing": calibration.widths.n_missing,
            "checked": cross_conformal(result, form, disturbed),
        },
        "levels": calibration.levels_json(),
        "order_violations": order_violations(model),
        "unseen": [_unseen(c, measured.get(c), model.times([c])[0], rest, calibration.widths) for c in unseen],
        "physics": {
            "form": law.form,
            "coefficients": law.coefficients.tolist(),
            "readings": law.readings(),
            "shares": shares,
            "disturbed": [str(c) for c, is_out in zip(rest.configs, disturbed, strict=True) if is_out],
        },
        "startup": to_json(fit_excess(kept_rows, seed), fit_overhead(kept_rows)),
        "learning_curves": [asdict(point) for point in curves],
    }
    write_json_atomically(out / "report.json", report)
    write_text_atomically(out / "report.md", report_markdown(report))
    write_text_atomically(out / "predictions.csv", predictions_csv(result))
    written = [out.absolute() / name for name in ("report.md", "report.json", "predictions.csv")]
    return report, [*written, *draw_evaluation(out, result, form, calibration.widths.within, curves, law)]


def _unseen(config: RunConfig, measured: float | None, predicted: float, rest: Table, widths: Widths) -> dict[str, Any]:
    interval = Interval.of_log(float(predicted), widths.of(Range.of(rest.configs).place(config, widths.axes)))
    return {
        **asdict(config),
        "measured_sec": measured,
        "predicted_sec": interval.value,
        "low_sec": interval.low,
        "high_sec": interval.high,
        "error": None if measured is None else interval.value / measured - 1,
    }


def predictions_csv(result: CrossValidation) -> str:
    """Every out-of-fold prediction as CSV: a line for each configuration and repeat, empty where there is no answer."""
    import pandas as pd

    configs = pd.DataFrame([asdict(c) for c in result.table.configs]).assign(measured_sec=result.table.seconds)
    repeats = [
        configs.assign(repeat=number + 1, **{f"{name}_sec": p[number] for name, p in result.predicted.items()})
        for number in range(len(next(iter(result.predicted.values()))))
    ]
    return str(pd.concat(repeats).to_csv(index=False, lineterminator="\n"))


# --- the report for people --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a table (or none) and lines below it."""

    title: str
    header: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def plain(self) -> str:
        table = [table_text(self.header, self.rows)] if self.rows else []
        return "\n".join([self.title, *table, *self.lines])

    def markdown(self) -> str:
        cells = [[markdown_text(cell_text(v)) for v in row] for row in (self.header, *self.rows)]
        cells.insert(1, ["---"] * len(self.header))
        table = "\n".join(f"| {' | '.join(line)} |" for line in cells) if self.rows else ""
        listed = "\n".join(f"- {markdown_text(line)}" for line in self.lines)
        return "\n\n".join(part for part in (f"## {self.title}", table, listed) if part)


def sections(report: dict[str, Any]) -> list[Section]:
    """The report in the order that a reader wants it."""
    found = []
    for title, key, unit in (
        ("Seconds per epoch", "time_sec", "s"),
        ("Derived throughput", "images_per_sec", "images/s"),
    ):
        rows = [
            [
                NAMES[name],
                f"{model['n_answered']}/{report['n']}",
                *(_spread(model[key][metric], 100) for metric in ("mape", "p90_ape")),
                *(_spread(model[key][metric]) for metric in ("mae", "rmse", "r2")),
            ]
            for name, model in report["models"].items()
        ]
        header = ["model", "answered", "MAPE %", "P90 %", f"MAE {unit}", f"RMSE {unit}", "R2"]
        found.append(Section(title, header, rows))
    if report["unseen"]:
        found.append(_unseen_section(report["unseen"]))
    found.append(_interval_section(report))
    physics, startup = report["physics"], report["startup"]
    rows = [[name, words] for name, words in physics["readings"].items()]
    shares = ", ".join(f"{group} {100 * physics['shares'][group]:.0f} %" for group in GROUPS)
    lines = [f"shares of an epoch, mean of all configurations: {shares}"]
    if physics["disturbed"]:
        limit = percent(float(np.expm1(GATE)))
        lines.append(f"left out as disturbed, slower than the law by over {limit}: {' '.join(physics['disturbed'])}")
    if (excess := startup["first_epoch_excess_sec"]) is not None:
        within = _relative(excess["within"])
        lines.append(f"first epoch beyond a steady one: {excess_words(excess)}; 90 % of first epochs within {within}")
    if (overhead := startup["overhead_sec"]) is not None:
        lines.append(
            f"overhead of a process: {significant(overhead['median'])} s; 90 % within {_relative(overhead['within'])}"
        )
    found.append(Section("Where the time goes (physics alone)", ["term", "reading"], rows, lines))
    if report["learning_curves"]:
        found.append(_curves_section(report["learning_curves"]))
    return found


def _curves_section(points: Sequence[dict[str, Any]]) -> Section:
    by_size = {(p["design"], p["n"]): p for p in points}
    sizes = sorted({p["n"] for p in points})
    rows = [
        [n]
        + [
            f"{100 * by_size[design, n][key]:.1f}"
            for design in ("random", "designed")
            for key in ("mape_mean", "mape_worst")
        ]
        for n in sizes
    ]
    header = ["measured", "random: MAPE % on the rest", "worst", "designed: MAPE % on the rest", "worst"]
    lines = [
        f"{_orders_words(points)}, begun anywhere; designed as epochcast next_runs does, costs aside",
        f"as epochcast train would choose: the law alone below {NETWORK_MIN_ROWS} configurations, from there on "
        "whichever of law and network predicts better by a cross-validation of the rows measured",
    ]
    return Section("What measuring more buys", header, rows, lines)


def _orders_words(points: Sequence[dict[str, Any]]) -> str:
    """How many orders each point of the curves is a mean of."""
    orders = sorted({p["orders"] for p in points}, reverse=True)
    if len(orders) == 1:
        return f"{orders[0]} orders each"
    return f"{orders[0]} orders each ({orders[-1]} from {NETWORK_MIN_ROWS} configurations on)"


def _relative(half: float | None) -> str:
    return "an unknown width" if half is None else f"±{percent(half)}"


def _spread(cell: dict[str, float | None], scale: float = 1.0) -> str:
    if cell["mean"] is None:
        return "-"
    mean = significant(cell["mean"] * scale) if abs(cell["mean"]) < 0.99 or scale != 1 else significant(cell["mean"], 4)
    return mean if cell["std"] is None else f"{mean} ± {significant(cell['std'] * scale, 2)}"


def _unseen_section(unseen: Sequence[dict[str, Any]]) -> Section:
    rows: list[list[Any]] = [
        [
            str(config_in(u)),
            u["measured_sec"],
            u["predicted_sec"],
            "unknown" if u["low_sec"] is None else f"{significant(u['low_sec'])} to {significant(u['high_sec'])}",
            None if u["error"] is None else f"{100 * u['error']:+.2f} %",
        ]
        for u in unseen
    ]
    header = ["configuration", "measured s", "predicted s", "90 %", "error"]
    errors = [abs(u["error"]) for u in unseen if u["error"] is not None]
    lines = [f"mean absolute error of {len(errors)}: {percent(float(np.mean(errors)))}"] if errors else []
    return Section("Kept from all fitting", header, rows, lines)


def _interval_section(report: dict[str, Any]) -> Section:
    intervals = report["intervals"]
    more = more_for_a_range(intervals["n_missing"])
    beyond, basis = intervals["beyond"], " (95 % quantile of the pooled errors above)"
    lines = [
        f"90 % interval within the measured range: {half_width_text(intervals['within'])}{f'; {more}' if more else ''}",
        f"one axis a step beyond it: {half_width_text(beyond)}{'' if beyond is None else basis}",
    ]
    if (checked := intervals["checked"]) is not None:
        lines.append(
            f"checked fold by fold with the others' width: {percent(checked['coverage'])} of the rows inside, mean "
            f"half-width {percent(checked['half_width'])}, largest {percent(checked['largest'])}"
        )
    lines.append(f"predicted times that fall where depth or filters grow: {report['order_violations']}")
    rows = [[e["label"], e["n"], f"{100 * e['mape']:.1f}"] for e in report["levels"]]
    return Section("Each level left out of all fitting", ["left out", "rows", "MAPE %"], rows, lines)


def report_text(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    return "\n\n".join([_split_line(report), *(section.plain() for section in sections(report))])


def report_markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown page."""
    origin = (
        f"Rows: {markdown_text(report['table'] or 'given by a program')} (SHA-256 {report['rows_sha256'][:12]}). "
        f"Seed {report['seed']}, {report['created_utc']}."
    )
    parts = [REPORT_TITLE, origin, _split_line(report)]
    return "\n\n".join([*parts, *(section.markdown() for section in sections(report))]) + "\n"


def _split_line(report: dict[str, Any]) -> str:
    return (
        f"The model: {NAMES[report['form']]}. Split: {report['split']}, {report['repeats']} "
        f"repeat{'' if report['repeats'] == 1 else 's'}, {report['n']} configurations; mean ± standard deviation over "
        "repeats."
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast evaluate",
        "How well the time model predicts configurations it has not seen, beside plain baselines.",
        "epochcast evaluate --runs_agg results/runs_agg.csv --repeats 5",
    )
    add_table_flags(parser)
    parser.add_argument("--unseen", type=path_of, metavar="CSV", help="configurations to keep from all fitting")
    parser.add_argument("--recipe", choices=(PHYSICS_ANN, REFERENCE_ANN), default=PHYSICS_ANN, help="as of train")
    parser.add_argument("--repeats", type=repeats_int, default=REPEATS, help="repeats of the 5-fold split")
    parser.add_argument("--seed", type=seed_int, default=0, help="of the splits and the first weights")
    path_flag(parser, "--out", lambda: home() / "results" / "evaluation", "folder for report and figures")
    add_json_flag(parser, "print the report as one JSON object")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        table = load_agg(arguments.runs_agg, arguments.frozen)
        chosen = one_set_of_conditions(table.rows, [arguments.conditions], table.source)
        print_notes(chosen.notes)
        rows = chosen.rows
        unseen = read_configs(arguments.unseen) if arguments.unseen else []
        report, paths = evaluate(
            rows, unseen, arguments.out, arguments.repeats, arguments.seed, str(table.path), arguments.recipe, progress
        )
        if arguments.json:
            origin = {"table": str(table.path), "table_origin": table.origin, **chosen.to_json()}
            print(json_line({**origin, **report}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        print(f"conditions: {rows[0].conditions.describe()}")
        print(report_text(report))
        for path in paths:
            print(f"file: {path}")
        return 0

    return run_command(work)
