"""Predicted time and throughput over batch size as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epochcast.interval import coverage_text
from epochcast.schema import config_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_batches(answers: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw seconds per epoch and images per second over batch size, with their intervals."""
    from matplotlib.ticker import NullLocator

    from epochcast.output.figures import COLOURS, new_figure, plain_ticks

    answers = sorted(answers, key=lambda answer: int(answer["batch_size"]))
    figure, axes = new_figure(7.2, 4.6)
    right = axes.twinx()
    right.grid(False)
    batches = [float(a["batch_size"]) for a in answers]
    for on, name, colour, label in (
        (axes, "predicted_avg_time_sec", COLOURS[0], "time (s/epoch)"),
        (right, "predicted_images_per_sec_derived", COLOURS[3], "throughput (images/s)"),
    ):
        on.plot(batches, [a[name] for a in answers], "o-", color=colour, markersize=4)
        known = [a for a in answers if a[f"{name}_low"] is not None]
        x = [float(a["batch_size"]) for a in known]
        on.fill_between(
            x, [a[f"{name}_low"] for a in known], [a[f"{name}_high"] for a in known], color=colour, alpha=0.2
        )
        on.set_ylabel(label, color=colour)
        on.set_ylim(bottom=0)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("batch size (images)")
    plain_ticks(axes, x=batches)
    axes.xaxis.set_minor_locator(NullLocator())
    first = answers[0]
    axes.set_title(
        f"{config_in(first).network_text.capitalize()}, predicted with {coverage_text(first['coverage'])} intervals\n"
        f"{first['device'] or 'an unknown device'}",
        fontsize=11,
    )
    return figure
