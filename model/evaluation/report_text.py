"""An evaluation for people: tables of a terminal, and a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from epochcast.interval import coverage_text
from epochcast.model.evaluation.figures import NAMES
from epochcast.model.evaluation.learning_curves import CurvePoint
from epochcast.model.evaluation.report import ErrorTable, Evaluation, Spread, UnseenPrediction
from epochcast.model.time_model.card_text import excess_words, half_width_text
from epochcast.model.time_model.intervals import LEVEL_QUANTILE, more_for_a_range
from epochcast.model.time_model.physics import GATE, GROUPS
from epochcast.model.training.splits import NETWORK_MIN_ROWS
from epochcast.output.text import cell_text, percent, range_text, significant, table_text
from epochcast.storage.file_kinds import REPORT_TITLE
from epochcast.text_sinks import markdown_text


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a table (or none) and lines below it."""

    title: str
    header: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)  # Any: whatever `cell_text` shows
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


def report_text(report: Evaluation) -> str:
    """Return the report for a terminal."""
    return "\n\n".join([_split_line(report.errors), *(section.plain() for section in sections(report))])


def report_markdown(report: Evaluation) -> str:
    """Return the report as a Markdown page."""
    origin = (
        f"Rows: {markdown_text(report.table or 'given by a program')} (SHA-256 {report.rows_sha256[:12]}). "
        f"Seed {report.seed}, {report.created_utc}."
    )
    parts = [REPORT_TITLE, origin, _split_line(report.errors)]
    return "\n\n".join([*parts, *(section.markdown() for section in sections(report))]) + "\n"


def _split_line(errors: ErrorTable) -> str:
    return (
        f"The model: {NAMES[errors.form]}. Split: {errors.split}, {errors.repeats} "
        f"repeat{'' if errors.repeats == 1 else 's'}, {errors.n} configurations; mean ± standard deviation over "
        "repeats."
    )


def sections(report: Evaluation) -> list[Section]:
    """Return the sections in the order that a reader wants them."""
    return [
        _error_section("Seconds per epoch", report.errors, "time_sec", "s"),
        _error_section("Derived throughput", report.errors, "images_per_sec", "images/s"),
        *([_unseen_section(report.unseen)] if report.unseen else []),
        _interval_section(report),
        _physics_section(report),
        *([_curves_section(report.curves)] if report.curves else []),
    ]


def _error_section(title: str, errors: ErrorTable, quantity: str, unit: str) -> Section:
    rows = []
    for name, model in errors.models.items():
        of = model.time_sec if quantity == "time_sec" else model.images_per_sec
        shares = [_spread(spread, 100) for spread in (of.mape, of.p90_ape)]
        values = [_spread(spread) for spread in (of.mae, of.rmse, of.r2)]
        rows.append([NAMES[name], f"{model.n_answered}/{errors.n}", *shares, *values])
    return Section(title, ["model", "answered", "MAPE %", "P90 %", f"MAE {unit}", f"RMSE {unit}", "R2"], rows)


def _spread(spread: Spread, scale: float = 1.0) -> str:
    if spread.mean is None:
        return "-"
    digits = 3 if abs(spread.mean) < 0.99 or scale != 1 else 4  # an R2 near 1 needs one more
    mean = significant(spread.mean * scale, digits)
    return mean if spread.std is None else f"{mean} ± {significant(spread.std * scale, 2)}"


def _unseen_section(unseen: Sequence[UnseenPrediction]) -> Section:
    rows: list[list[Any]] = [  # Any: as in `Section`
        [
            str(each.config),
            each.measured_sec,
            each.predicted.value,
            range_text(each.predicted.low, each.predicted.high),
            None if each.error is None else f"{100 * each.error:+.2f} %",
        ]
        for each in unseen
    ]
    header = ["configuration", "measured s", "predicted s", coverage_text(), "error"]
    errors = [abs(each.error) for each in unseen if each.error is not None]
    lines = [f"mean absolute error of {len(errors)}: {percent(float(np.mean(errors)))}"] if errors else []
    return Section("Kept from all fitting", header, rows, lines)


def _interval_section(report: Evaluation) -> Section:
    widths = report.calibration.widths
    more = more_for_a_range(widths.n_missing)
    basis = "" if widths.beyond is None else f" ({coverage_text(LEVEL_QUANTILE)} quantile of the pooled errors above)"
    lines = [
        f"{coverage_text()} interval within the measured range: {half_width_text(widths.within)}"
        f"{f'; {more}' if more else ''}",
        f"one axis a step beyond it: {half_width_text(widths.beyond)}{basis}",
    ]
    if (checked := report.checked) is not None:
        lines.append(
            f"checked fold by fold with the others' width: {percent(checked.coverage)} of the rows inside, mean "
            f"half-width {percent(checked.half_width)}, largest {percent(checked.largest)}"
        )
    lines.append(f"predicted times that fall where depth or filters grow: {report.order_violations}")
    levels = report.calibration.levels_json()
    rows = [[level["label"], level["n"], f"{100 * level['mape']:.1f}"] for level in levels]
    return Section("Each level left out of all fitting", ["left out", "rows", "MAPE %"], rows, lines)


def _physics_section(report: Evaluation) -> Section:
    shares = ", ".join(f"{group} {100 * report.shares[group]:.0f} %" for group in GROUPS)
    lines = [f"shares of an epoch, mean of all configurations: {shares}"]
    if report.outliers:
        limit, names = percent(float(np.expm1(GATE))), " ".join(map(str, report.outliers))
        lines.append(f"left out as disturbed, slower than the law by over {limit}: {names}")
    if (excess := report.excess) is not None:
        readings = None if excess.law is None else excess.law.readings()
        words = excess_words(readings, excess.median, excess.n)
        within = _relative(excess.widths.within)
        lines.append(f"first epoch beyond a steady one: {words}; {coverage_text()} of first epochs within {within}")
    if (overhead := report.overhead) is not None:
        within = _relative(overhead.widths.within)
        lines.append(f"overhead of a process: {significant(overhead.median)} s; {coverage_text()} within {within}")
    rows: list[list[Any]] = [[name, words] for name, words in report.law.readings().items()]  # Any: as in `Section`
    return Section("Where the time goes (physics alone)", ["term", "reading"], rows, lines)


def _relative(half: float | None) -> str:
    return "an unknown width" if half is None else f"±{percent(half)}"


def _curves_section(points: Sequence[CurvePoint]) -> Section:
    by_size = {(point.design, point.n): point for point in points}
    rows: list[list[Any]] = []  # Any: as in `Section`
    for n in sorted({point.n for point in points}):
        own = [by_size[design, n] for design in ("random", "designed")]
        rows.append([n, *(f"{100 * error:.1f}" for point in own for error in (point.mape_mean, point.mape_worst))])
    header = ["measured", "random: MAPE % on the rest", "worst", "designed: MAPE % on the rest", "worst"]
    lines = [
        f"{_orders_words(points)}, begun anywhere; designed as epochcast next_runs does, costs aside",
        f"as epochcast train would choose: the law alone below {NETWORK_MIN_ROWS} configurations, from there on "
        "whichever of law and network predicts better by a cross-validation of the rows measured",
    ]
    return Section("What measuring more buys", header, rows, lines)


def _orders_words(points: Sequence[CurvePoint]) -> str:
    """Return how many orders each point of the curves is a mean of."""
    orders = sorted({point.orders for point in points}, reverse=True)
    if len(orders) == 1:
        return f"{orders[0]} orders each"
    return f"{orders[0]} orders each ({orders[-1]} from {NETWORK_MIN_ROWS} configurations on)"
