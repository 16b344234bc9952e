"""A comparison drawn: each configuration's ratio with its interval on a logarithmic axis, the noise floor shaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from epochcast.aggregate.comparison.comparison import Compared, Comparison
from epochcast.aggregate.comparison.spread import LEVEL
from epochcast.aggregate.comparison.stats import NOISE_FLOOR, VERDICTS
from epochcast.interval import coverage_text
from epochcast.output.figures import COLOURS, new_grid, save_figure_as
from epochcast.output.text import percent, significant

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS_PER_PANEL = 40
MOST_PANELS = 4
STYLES = {  # verdict: colour and marker, told apart without colour too
    "slower": (COLOURS[3], "^"),
    "faster": (COLOURS[0], "v"),
    "same": (COLOURS[2], "s"),
    "undecided": ("0.45", "o"),
}


def comparison_figure(result: Comparison) -> Figure:
    """Configurations from top to bottom, in several panels where they are many."""
    rows = result.rows
    if len(rows) > ROWS_PER_PANEL * MOST_PANELS:
        far = sorted(rows, key=lambda row: -abs(row.difference.log_ratio))[: ROWS_PER_PANEL * MOST_PANELS]
        rows = sorted(far, key=lambda row: row.config)
    n_panels = math.ceil(len(rows) / ROWS_PER_PANEL)
    per_panel = math.ceil(len(rows) / n_panels)
    figure, panels = new_grid(3.2 + 4.4 * n_panels, 2.6 + 0.21 * per_panel, 1, n_panels, sharex=True)
    for i, axes in enumerate(panels):
        _draw(axes, rows[i * per_panel : (i + 1) * per_panel], per_panel, result)
    panels[0].set_ylabel("depth, base filters, batch size")
    _ticks(panels[0], rows)
    figure.suptitle(_title(result, len(rows)), fontsize=11)
    figure.legend(handles=_legend(result), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def draw_comparison(result: Comparison, path: Path) -> None:
    """Write the figure as PNG or SVG.

    Raises:
        OSError: if `path` can't be written.
    """
    save_figure_as(comparison_figure(result), path.absolute())


def _draw(axes: Axes, rows: Sequence[Compared], per_panel: int, result: Comparison) -> None:
    axes.set_xscale("log")
    axes.axvspan(1 / (1 + NOISE_FLOOR), 1 + NOISE_FLOOR, color="0.8", alpha=0.8, linewidth=0)
    axes.axvline(1, color="0.3", linewidth=0.8)
    axes.axvline(result.overall.ratio, color=COLOURS[7], linewidth=1.2, linestyle="--")
    for y, row in enumerate(rows):
        d = row.difference
        colour, marker = STYLES[d.verdict]
        error = [[d.ratio - d.low], [d.high - d.ratio]]
        axes.errorbar(d.ratio, y, xerr=error, fmt=marker, color=colour, markersize=5, capsize=2, linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{row.config}" for row in rows], fontsize=8)
    axes.set_ylim(per_panel - 0.5, -0.5)
    axes.set_xlabel(f"b / a of steady seconds per epoch, {coverage_text(1 - LEVEL)} interval")


def _ticks(axes: Axes, rows: Sequence[Compared]) -> None:
    """Round ratios within what is shown; the axis is shared."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low = min([1 / (1 + 2 * NOISE_FLOOR), *(row.difference.low for row in rows)])
    high = max([1 + 2 * NOISE_FLOOR, *(row.difference.high for row in rows)])
    margin = (high / low) ** 0.03
    low, high = low / margin, high * margin
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(_round_ratios(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _round_ratios(low: float, high: float) -> list[float]:
    """At most eight round numbers about 1."""
    for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first < 8:
            return [round(k * step, 10) for k in range(first, last + 1)]
    for digits in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [digit * 10.0**k for k in range(-12, 13) for digit in digits]
        inside = [round(value, 12) for value in values if low <= value <= high]
        if len(inside) <= 8:
            return inside
    return [1.0]


def _title(result: Comparison, n_shown: int) -> str:
    differing = [f"{name}: {a} → {b}" for name, (a, b) in result.differing.items()]
    what = "; ".join(differing[:3]) + ("; ..." if len(differing) > 3 else "") or "nothing recorded differs"
    fewer = "" if n_shown == len(result.rows) else f" (the {n_shown} furthest from 1 of {len(result.rows)})"
    return f"b against a, {n_shown} configurations{fewer}\n{what}"


def _legend(result: Comparison) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Line2D([], [], color=colour, marker=marker, linewidth=1, label=f"{VERDICTS[name]}: {result.verdicts[name]}")
        for name, (colour, marker) in STYLES.items()
    ]
    handles.append(Patch(color="0.8", label=f"noise floor, {percent(NOISE_FLOOR)}"))
    handles.append(
        Line2D(
            [], [], color=COLOURS[7], linestyle="--", label=f"geometric mean: {significant(result.overall.ratio, 4)}"
        )
    )
    return handles
