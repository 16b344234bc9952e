"""Figures of the law of networks: predicted against measured, GPU left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.external.features import Features
from benchmarks.external.left_out import Judged, Mask
from epochcast.output.figures import COLOURS, MARKERS, new_figure, new_grid, plain_ticks, save_figure_as

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_STEPS = 5  # of a network that has a line of its own


def draw_all(found: Judged, rows: Features, masks: dict[str, Mask], factor: float, folder: Path) -> list[Path]:
    """Write the figures of a page; return their paths."""
    drawn = {
        "networks_predicted": predicted_against_measured(found, rows, masks, factor),
        "networks_by_gpu": errors_by(found, rows, rows.labels(lambda row: row.gpu.name), factor, "GPU"),
        "networks_by_network": errors_by(found, rows, rows.labels(lambda row: row.name), factor, "network"),
    }
    paths = []
    for name, figure in drawn.items():
        save_figure_as(figure, path := folder / f"{name}.svg")
        paths.append(path)
    return paths


def predicted_against_measured(found: Judged, rows: Features, masks: dict[str, Mask], factor: float) -> Figure:
    """Draw each step, predicted by the law that was fitted without its GPU."""
    figure, axes = new_figure(6.6, 6.0)
    measured = 1e3 * np.array([row.step_sec for row in rows.rows])
    predicted = measured * np.exp(found.errors["GPU"])
    for (kind, mask), colour, marker in zip(masks.items(), COLOURS, MARKERS, strict=False):
        axes.plot(
            *(measured[mask], predicted[mask]),
            marker,
            color=colour,
            markersize=3.5,
            alpha=0.6,
            label=f"{kind} networks",
        )
    limits = np.array([measured.min(), measured.max()])
    axes.plot(limits, limits, "--", color="0.3", linewidth=1, label="equal")
    axes.fill_between(limits, limits / factor, limits * factor, color="0.5", alpha=0.15, label=f"x/÷{factor:.2f}")
    axes.set(xscale="log", yscale="log", xlabel="measured step (ms)", ylabel="predicted step (ms)")
    plain_ticks(axes)
    axes.legend(loc="upper left", frameon=False)
    axes.set_title(f"{len(measured)} published steps, each with its GPU left out of the fit", fontsize=11)
    return figure


def errors_by(found: Judged, rows: Features, labels: np.ndarray, factor: float, what: str) -> Figure:
    """Draw predicted over measured of each label's steps; the worst median stands at the top."""
    ratio = np.exp(found.errors["GPU"])
    names, counts = np.unique(labels, return_counts=True)
    names = names[counts >= LEAST_STEPS]
    order = sorted(names, key=lambda name: abs(np.log(np.median(ratio[labels == name]))))
    figure, (axes,) = new_grid(7.5, 0.8 + 0.19 * len(order), 1, 1)
    for place, name in enumerate(order):
        own = ratio[labels == name]
        axes.plot(own, np.full(len(own), place), "o", color=COLOURS[0], markersize=3, alpha=0.35)
        axes.plot(np.median(own), place, "|", color=COLOURS[3], markersize=10, markeredgewidth=2)
    _frame(axes, factor)
    axes.set_yticks(range(len(order)), [f"{name} ({(labels == name).sum()})" for name in order], fontsize=7)
    axes.set_ylim(-1, len(order))
    left = len(np.unique(labels)) - len(order)
    fewer = f"; {left} with fewer than {LEAST_STEPS} not drawn" if left else ""
    axes.set_title(f"by {what}, number of steps in brackets, bar: median{fewer}", fontsize=9)
    return figure


def _frame(axes: Axes, factor: float) -> None:
    axes.axvline(1, linestyle="--", color="0.3", linewidth=1)
    axes.axvspan(1 / factor, factor, color="0.5", alpha=0.15)
    axes.set(xscale="log", xlabel=f"predicted / measured, GPU left out (grey: x/÷{factor:.2f})")
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axes.minorticks_off()
