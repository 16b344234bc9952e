"""Figures of an evaluation. No predicted point was seen by the model behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from epochcast.interval import coverage_text
from epochcast.model.evaluation.learning_curves import CurvePoint
from epochcast.model.time_model.physics import GROUPS, Law
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import CrossValidation
from epochcast.output.figures import COLOURS, new_grid, plain_ticks, save_figure
from epochcast.schema import AXES, NETWORK_AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "physics_ann": "physics + network",
    "physics": "physics alone",
    "reference_ann": "original network",
    "linear_on_logs": "linear on logs",
    "affine_in_steps": "affine in steps",
}
_STYLES = {"linear_on_logs": (COLOURS[1], "^", 0.4), "affine_in_steps": (COLOURS[2], "s", 0.4)}
MOST_BARS = 24


def predicted_against_measured(
    result: CrossValidation, form: str, half_width: float | None, as_throughput: bool
) -> Figure:
    """Out-of-fold predictions of the first repeat with their intervals; below, their relative errors."""
    factor = result.table.train_n
    measured = factor / result.table.seconds if as_throughput else result.table.seconds
    label = "throughput (images/s)" if as_throughput else "time (s/epoch)"
    figure, axes = new_grid(6.6, 7.4, 2, 1, height_ratios=[2.2, 1], sharex=True)
    upper, lower = axes
    for name in [*_STYLES, form]:
        if name not in result.predicted:
            continue
        predicted = factor / result.predicted[name][0] if as_throughput else result.predicted[name][0]
        colour, marker, alpha = _STYLES.get(name, (COLOURS[0], "o", 0.9))
        upper.plot(measured, predicted, marker, color=colour, markersize=4.5, alpha=alpha, label=NAMES[name])
        if name == form:
            error = 100 * (predicted / measured - 1)
            bars = None
            if half_width is not None:
                ratio = predicted / measured
                bars = 100 * np.array([ratio * -math.expm1(-half_width), ratio * math.expm1(half_width)])
            lower.errorbar(measured, error, yerr=bars, fmt="o", color=colour, markersize=3.5, linewidth=0.8, alpha=0.8)
    limits = [float(measured.min()), float(measured.max())]
    upper.plot(limits, limits, "--", color="0.3", linewidth=1, label="equal")
    lower.axhline(0, linestyle="--", color="0.3", linewidth=1)
    upper.set(xscale="log", yscale="log", ylabel=f"predicted {label}")
    lower.set(xscale="log", xlabel=f"measured {label}", ylabel=f"error with {coverage_text()} interval (%)")
    plain_ticks(upper)
    plain_ticks(lower)
    upper.legend(loc="upper left", frameon=False)
    first = ", first repeat" if len(result.predicted[form]) > 1 else ""
    upper.set_title(f"{result.split}, n = {len(result.table)}{first}", fontsize=11)
    return figure


def error_by_axis(result: CrossValidation, form: str) -> Figure:
    """Relative out-of-fold error over each axis of a configuration, all repeats; bars are medians."""
    figure, axes = new_grid(10.5, 3.8, 1, len(AXES), sharey=True)
    error = 100 * (result.predicted[form] / result.table.seconds - 1)
    random = np.random.default_rng(0)  # only moves points sideways
    for panel, axis in zip(axes, AXES, strict=True):
        values = np.array([axis.of(c) for c in result.table.configs])
        present = np.unique(values)
        for place, value in enumerate(present):
            own = error[:, values == value].ravel()
            panel.plot(
                place + random.uniform(-0.25, 0.25, own.size),
                own,
                ".",
                color=COLOURS[0],
                alpha=0.35 if len(error) > 1 else 0.8,
            )
            panel.hlines(np.median(own), place - 0.35, place + 0.35, color=COLOURS[3], linewidth=2)
        panel.axhline(0, linestyle="--", color="0.3", linewidth=1)
        panel.set_xticks(range(len(present)), [str(v) for v in present], rotation=60 if len(present) > 8 else 0)
        panel.set_xlabel(axis.label)
    axes[0].set_ylabel("error of the predicted time (%)")
    repeats = len(result.predicted[form])
    figure.suptitle(
        f"{result.split}, {repeats} repeat{'s' if repeats > 1 else ''}, n = {len(result.table)}", fontsize=11
    )
    return figure


def draw_learning_curves(points: Sequence[CurvePoint]) -> Figure:
    """Mean error on the rest over the number of measured configurations; the band reaches to the worst order."""
    figure, axes = new_grid(6.6, 4.4, 1, 1)
    panel: Axes = axes[0]
    for design, colour, marker in (("random", COLOURS[1], "s"), ("designed", COLOURS[0], "o")):
        own = [p for p in points if p.design == design]
        n = [float(p.n) for p in own]
        mean, worst = [100 * p.mape_mean for p in own], [100 * p.mape_worst for p in own]
        orders = " to ".join(map(str, sorted({p.orders for p in own})))
        panel.plot(n, mean, marker=marker, color=colour, label=f"{design}: mean of {orders} orders")
        panel.fill_between(n, mean, worst, color=colour, alpha=0.15, label=f"{design}: up to the worst")
    panel.set(xscale="log", yscale="log", xlabel="configurations measured", ylabel="error on the others (MAPE, %)")
    plain_ticks(panel, x=sorted({float(p.n) for p in points}))
    panel.legend(frameon=False)
    panel.set_title("What measuring more buys", fontsize=11)
    return figure


def draw_shares(law: Law, table: Table) -> Figure:
    """Shares of an epoch's time by the physics law, for each network at its smallest and its largest batch size."""
    all_networks = sorted({c.network for c in table.configs})
    networks = all_networks[:: math.ceil(len(all_networks) / MOST_BARS)]
    figure, axes = new_grid(11, max(2.6, 0.9 + 0.27 * len(networks)), 1, 2, sharey=True)
    colours = dict(zip(GROUPS, (COLOURS[2], COLOURS[5], COLOURS[3], COLOURS[4]), strict=True))
    for panel, pick, word in zip(axes, (min, max), ("smallest", "largest"), strict=True):
        configs = [
            pick((c for c in table.configs if c.network == network), key=lambda c: c.batch_size) for network in networks
        ]
        left = np.zeros(len(configs))
        for group, share in law.shares(configs).items():
            panel.barh(range(len(configs)), 100 * share, left=100 * left, color=colours[group], label=group)
            left = left + share
        panel.set_yticks(range(len(configs)), [f"({','.join(map(str, c.network))})" for c in configs])
        for place, config in enumerate(configs):
            panel.annotate(f" {config.batch_size}", (100, place), va="center", fontsize=8, annotation_clip=False)
        panel.set(xlabel="share of an epoch (%)", xlim=(0, 100))
        panel.set_title(f"{word} batch size measured (at the right)", fontsize=11)
        panel.grid(False)
    axes[0].invert_yaxis()
    shown = "" if len(networks) == len(all_networks) else f", {len(networks)} of {len(all_networks)} networks"
    axes[0].set_ylabel(f"({', '.join(axis.name.replace('_', ' ') for axis in NETWORK_AXES)}){shown}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(GROUPS), frameon=False)
    return figure


def draw_evaluation(
    folder: Path,
    result: CrossValidation,
    form: str,
    half_width: float | None,
    curves: Sequence[CurvePoint],
    law: Law,
) -> list[Path]:
    """Every figure as PNG and SVG; the paths written.

    Raises:
        OSError: if `folder` can't be written.
    """
    figures: dict[str, Any] = {
        "predicted_against_measured_time": predicted_against_measured(result, form, half_width, False),
        "predicted_against_measured_throughput": predicted_against_measured(result, form, half_width, True),
        "error_by_axis": error_by_axis(result, form),
        "physics_shares": draw_shares(law, result.table),
    }
    if curves:
        figures["learning_curves"] = draw_learning_curves(curves)
    return [path for name, figure in figures.items() for path in save_figure(figure, folder, name)]
