"""Predicted time and throughput over batch size as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from epochcast.interval import coverage_text
from epochcast.model.answers.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_batches(predictions: Sequence[Prediction]) -> Figure:
    """Draw seconds per epoch and images per second over batch size, with their intervals."""
    from matplotlib.ticker import NullLocator

    from epochcast.output.figures import COLOURS, new_figure, plain_ticks

    predictions = sorted(predictions, key=lambda each: each.config.batch_size)
    figure, axes = new_figure(7.2, 4.6)
    right = axes.twinx()
    right.grid(False)
    batches = [float(each.config.batch_size) for each in predictions]
    for on, intervals, colour, label in (
        (axes, [each.times.steady for each in predictions], COLOURS[0], "time (s/epoch)"),
        (right, [each.images_per_sec for each in predictions], COLOURS[3], "throughput (images/s)"),
    ):
        on.plot(batches, [interval.value for interval in intervals], "o-", color=colour, markersize=4)
        ends = [
            (batch, interval.low, interval.high)
            for batch, interval in zip(batches, intervals, strict=True)
            if interval.low is not None and interval.high is not None
        ]
        x, low, high = ([each[i] for each in ends] for i in range(3))
        on.fill_between(x, low, high, color=colour, alpha=0.2)
        on.set_ylabel(label, color=colour)
        on.set_ylim(bottom=0)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("batch size (images)")
    plain_ticks(axes, x=batches)
    axes.xaxis.set_minor_locator(NullLocator())
    first = predictions[0]
    axes.set_title(
        f"{first.config.network_text.capitalize()}, predicted with {coverage_text(first.saved.coverage)} intervals\n"
        f"{first.saved.device_name or 'an unknown device'}",
        fontsize=11,
    )
    return figure
