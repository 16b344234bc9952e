"""Figures of an aggregated table, each as PNG and SVG; what a table lacks the rows for is left out and said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from epochcast.aggregate.averages.condition_sets import one_set_of_conditions
from epochcast.aggregate.averages.table import load_agg
from epochcast.cli import add_json_flag, add_table_flags, make_parser, path_flag, print_home, print_notes, run_command
from epochcast.output.figures import COLOURS, MARKERS, new_figure, plain_ticks, save_figure
from epochcast.output.text import json_line, significant
from epochcast.paths import figures_dir
from epochcast.schema import NETWORK_AXES, AggRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKED, COLOURED = NETWORK_AXES  # by a marker and by a colour; a third axis would need a third sign
MAX_REPEATED_SHOWN = 30


def _styles(rows: Sequence[AggRow]) -> tuple[dict[int, str], dict[int, str]]:
    """Return a colour and a marker for each value of the axes that have them."""
    coloured, marked = (sorted({axis.of(row) for row in rows}) for axis in (COLOURED, MARKED))
    colours = {value: COLOURS[i % len(COLOURS)] for i, value in enumerate(coloured)}
    return colours, {value: MARKERS[i % len(MARKERS)] for i, value in enumerate(marked)}


def _legend_of(axes: Axes, colours: dict[int, str], markers: dict[int, str]) -> None:
    """Draw one legend next to the data, of colours and markers."""
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [Patch(color=colour, label=COLOURED.text(value)) for value, colour in colours.items()]
    handles += [
        Line2D([], [], color="0.3", marker=marker, linestyle="", label=MARKED.text(value))
        for value, marker in markers.items()
    ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def accuracy_against_time(rows: Sequence[AggRow]) -> Figure | None:
    """Test accuracy over steady seconds per epoch; None where no accuracy was measured."""
    known = [row for row in rows if row.acc_mean is not None]
    if not known:
        return None
    figure, axes = new_figure()
    colours, markers = _styles(known)
    for row in known:
        marker, colour = markers[MARKED.of(row)], colours[COLOURED.of(row)]
        axes.plot(row.avg_time_mean, row.acc_mean or 0, marker, color=colour, alpha=0.8)
    epochs = sorted({row.acc_epochs for row in known if row.acc_epochs is not None})
    after = f" after {' or '.join(map(str, epochs))} epochs" if epochs else ""
    axes.set(
        xscale="log", xlabel="steady time (s/epoch)", ylabel=f"test accuracy{after}", title="Accuracy against time"
    )
    plain_ticks(axes)
    _legend_of(axes, colours, markers)
    return figure


def throughput_against_batch_size(rows: Sequence[AggRow]) -> Figure:
    """Training images per second over batch size, a line for each network."""
    figure, axes = new_figure()
    colours, markers = _styles(rows)
    for network in sorted({row.config.network for row in rows}):
        own = sorted((row for row in rows if row.config.network == network), key=lambda row: row.batch_size)
        x, y, error = zip(*((row.batch_size, row.thr_mean, row.thr_std or 0) for row in own), strict=True)
        marker, colour = markers[MARKED.of(own[0])], colours[COLOURED.of(own[0])]
        axes.errorbar(x, y, yerr=error, color=colour, marker=marker, markersize=5, linewidth=1.2, capsize=3)
    axes.set(xlabel="batch size (images)", ylabel="throughput (images/s)", title="Throughput against batch size")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    powers = [2.0**k for k in range(1, 20) if _spans(rows, 2**k)]
    plain_ticks(axes, x=powers or sorted({float(row.batch_size) for row in rows}))
    _legend_of(axes, colours, markers)
    return figure


def _spans(rows: Sequence[AggRow], batch_size: int) -> bool:
    sizes = [row.batch_size for row in rows]
    return min(sizes) <= batch_size <= max(sizes)


def repeats(rows: Sequence[AggRow]) -> Figure | None:
    """Spread between repeats of one configuration, relative to its mean; None where nothing was repeated."""
    repeated = sorted((row for row in rows if row.avg_time_std is not None), key=lambda row: row.config)
    if not repeated:
        return None
    noisiest = sorted(repeated, key=lambda row: (row.avg_time_std or 0) / row.avg_time_mean)[-MAX_REPEATED_SHOWN:]
    shown = [row for row in repeated if row in noisiest]
    figure, axes = new_figure(height=1.6 + 0.32 * len(shown))
    spread = [100 * (row.avg_time_std or 0) / row.avg_time_mean for row in shown]
    axes.errorbar([0] * len(shown), range(len(shown)), xerr=spread, fmt="o", color=COLOURS[0], capsize=4)
    labels = [f"{row.config}  {significant(row.avg_time_mean)} s  n={row.n}" for row in shown]
    axes.set_yticks(range(len(shown)), labels)
    noted = (
        f": the {len(shown)} noisiest of {len(repeated)} configurations"
        if len(shown) < len(repeated)
        else " of one configuration"
    )
    axes.set(xlabel="standard deviation between runs (% of the mean time)", title=f"Repeats{noted}")
    axes.set_ylim(len(shown) - 0.5, -0.5)
    return figure


def first_epoch_against_steady(rows: Sequence[AggRow]) -> Figure | None:
    """First epoch over steady epoch, both in seconds; None where no first epoch is known."""
    known = [row for row in rows if row.first_epoch_sec_mean is not None]
    if not known:
        return None
    figure, axes = new_figure()
    colours, markers = _styles(known)
    for row in known:
        seconds, first = row.avg_time_mean, row.first_epoch_sec_mean or 0.0
        axes.plot(seconds, first, markers[MARKED.of(row)], color=colours[COLOURED.of(row)], alpha=0.8)
    limits = [min(row.avg_time_mean for row in known), max(row.avg_time_mean for row in known)]
    axes.plot(limits, limits, "--", color="0.4", linewidth=1)
    middle = math.sqrt(limits[0] * limits[1])
    axes.annotate("equal", (middle, middle), textcoords="offset points", xytext=(8, -12), color="0.3")
    axes.set(xscale="log", yscale="log", xlabel="steady time (s/epoch)", ylabel="first epoch (s)")
    axes.set_title("What the first epoch costs: tracing, compiling, autotuning")
    plain_ticks(axes)
    _legend_of(axes, colours, markers)
    return figure


def draw_figures(rows: Sequence[AggRow], folder: Path) -> tuple[list[Path], list[str]]:
    """Every figure that the rows allow: the paths written, and for each one left out the reason.

    Raises:
        OSError: if `folder` can't be written.
    """
    paths: list[Path] = []
    skipped: list[str] = []
    for name, figure, reason in (
        ("accuracy_against_time", accuracy_against_time(rows), "no test accuracy in the table"),
        ("throughput_against_batch_size", throughput_against_batch_size(rows), ""),
        ("repeats", repeats(rows), "no configuration was measured twice"),
        ("first_epoch_against_steady", first_epoch_against_steady(rows), "no first epoch in the table"),
    ):
        if figure is None:
            skipped.append(f"{name}: {reason}")
        else:
            (axes,) = figure.axes
            device = rows[0].device_name or "an unnamed device"
            axes.set_title(f"{axes.get_title()}\n{device}, {len(rows)} configurations", fontsize=11)
            paths += save_figure(figure, folder, name)
    return paths, skipped


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast figures",
        "Draw accuracy against time, throughput against batch size, repeats, and first epoch against steady time.",
        "epochcast figures --runs_agg results/runs_agg.csv --out results/figures",
    )
    add_table_flags(parser)
    path_flag(parser, "--out", figures_dir, "folder for the PNG and SVG files")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        table = load_agg(arguments.runs_agg, arguments.frozen)
        chosen = one_set_of_conditions(table.rows, [arguments.conditions], table.source)
        print_notes(chosen.notes)
        paths, skipped = draw_figures(chosen.rows, arguments.out)
        if arguments.json:
            origin = {"table": str(table.path), "table_origin": table.origin, **chosen.to_json()}
            print(json_line({**origin, "figures": [str(path) for path in paths], "left_out": skipped}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        for path in paths:
            print(f"figure: {path}")
        for reason in skipped:
            print(f"left_out: {reason}")
        return 0

    return run_command(work)
