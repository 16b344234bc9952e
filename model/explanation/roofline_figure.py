"""The roofline of an explanation: its layers under the device's roofs."""

from __future__ import annotations

import math
from textwrap import fill
from typing import TYPE_CHECKING

from epochcast.gpus.lookup import BYTES_PER_GB
from epochcast.gpus.network_time import NETWORK_LAW
from epochcast.gpus.rates import FLOPS_PER_TFLOPS
from epochcast.model.explanation.explanation import ABOVE_ROOF_NOTE, ExplainedLayer, Explanation
from epochcast.model.explanation.text import explained_device_words, precision_words
from epochcast.output.figures import COLOURS, MARKERS, new_figure
from epochcast.output.text import significant
from epochcast.roofline.roofline import Roof

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NUMBERED = 18  # layers that take longest; the legend names them
LIGHT = (COLOURS[1], COLOURS[5], COLOURS[6])  # too light for white numbers
POINTS = 13  # of a numbered marker's width
AXES_POINTS = (300, 320)
MOST_COLUMNS = 96  # characters of a title's line
LEGEND_COLUMNS = 36  # of its title
MARGIN = 2.5  # of the axes, as a factor beyond the outermost layer


def draw_roofline(answer: Explanation) -> Figure:
    """Return a figure of each layer's FLOP/s over its arithmetic intensity, under the roofs.

    The FLOP/s are attained ones, or the attainable where nothing is calibrated.

    Raises:
        ValueError: if no layer computes anything.
    """
    is_split = answer.parts is not None
    timed = [(layer, _sec(layer, is_split)) for layer in answer.layers if layer.layer.flop > 0]
    drawn = [(layer, sec) for layer, sec in timed if sec]
    if not drawn:
        raise ValueError(f"{answer.network.name}: no layer computes anything, so there is nothing to draw.")
    figure, axes = new_figure(9.0, 5.6)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("arithmetic intensity of an epoch (FLOP per byte of memory traffic)")
    axes.set_ylabel("attained (FLOP/s)" if is_split else "attainable (FLOP/s)")
    x = [layer.layer.intensity for layer, _ in drawn]
    y = [layer.layer.flop / sec for layer, sec in drawn]
    roof = answer.device.roof
    _set_limits(axes, x, y, roof)
    if roof is not None:
        _draw_roofs(axes, roof, answer.device.arithmetic)
    n_unnumbered = _draw_layers(axes, x, y, [layer for layer, _ in drawn], [sec for _, sec in drawn])
    _draw_legend(
        axes,
        is_noted=is_split and any(layer.is_above_roof for layer in answer.layers),
        left_out={"without a number": n_unnumbered, "not drawn, of no FLOP": len(answer.layers) - len(drawn)},
    )
    title = f"{answer.network.name}, batch size {answer.network.batch_size:,}, {_basis_words(answer)}"
    device = f"{explained_device_words(answer)}, {precision_words(answer)}"
    axes.set_title("\n".join(fill(line, MOST_COLUMNS) for line in (title, device)), loc="left", fontsize=10)
    return figure


def _sec(layer: ExplainedLayer, is_split: bool) -> float | None:
    return layer.attributed_sec if is_split else layer.attainable_sec


def _basis_words(answer: Explanation) -> str:
    if answer.parts is None:
        return "uncalibrated: what the roofs allow at most"
    if answer.time.basis == NETWORK_LAW:
        return "by the law of networks"
    if answer.is_calibrated:
        return "as the calibrated law tells"
    return f"as the law of {answer.model_conditions.device_name} tells, scaled"


def _draw_layers(axes: Axes, x: list[float], y: list[float], layers: list[ExplainedLayer], seconds: list[float]) -> int:
    """Draw a marker for each group of layers that would hide one another, and return how many have no number."""
    kinds = list(dict.fromkeys(layer.record.kind for layer in layers))
    together = _together(_positions(axes, x, y), seconds)
    groups = {own[0]: sum(seconds[k] for k in own) for own in together}
    numbered = sorted(groups, key=lambda k: -groups[k])[:MOST_NUMBERED]
    number = 0
    for own in together:
        k = own[0]
        i = kinds.index(layers[k].record.kind)
        marker, colour = MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]
        if k not in numbered:
            axes.plot(x[k], y[k], marker, color=colour, markersize=5, alpha=0.6, zorder=2)
            continue
        number += 1
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        label = f"{number}  {layers[k].record.name}{more}, {significant(groups[k], 2)} s"
        _draw_numbered(axes, (x[k], y[k]), number, label, marker, colour)
    return len(together) - number


def _draw_numbered(axes: Axes, at: tuple[float, float], number: int, label: str, marker: str, colour: str) -> None:
    size = 1.46 * POINTS if marker in "^v" else POINTS  # a number takes more of a triangle
    axes.plot(*at, marker, color=colour, markersize=size, markeredgecolor="white", label=label, zorder=3)
    axes.annotate(
        str(number),
        at,
        textcoords="offset points",
        xytext=(0, {"^": -3.0, "v": 2.5}.get(marker, 0.0)),  # where a triangle is wide
        ha="center",
        va="center_baseline",
        fontsize=7,
        color="black" if colour in LIGHT else "white",
        zorder=4,
    )


def _draw_legend(axes: Axes, is_noted: bool, left_out: dict[str, int]) -> None:
    heading = ["seconds an epoch"]
    if is_noted:
        heading.append(fill(f"({ABOVE_ROOF_NOTE})", LEGEND_COLUMNS))
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        alignment="left",
        markerscale=0.6,
        title="\n".join([*heading, *(f"({n} {what})" for what, n in left_out.items() if n)]),
    )


def _positions(axes: Axes, x: list[float], y: list[float]) -> list[tuple[float, float]]:
    """Return where points lie, in points of type: on axes as small as a long legend leaves them."""
    (left, right), (bottom, top) = (map(math.log, limits) for limits in (axes.get_xlim(), axes.get_ylim()))
    width, height = AXES_POINTS
    return [
        (width * (math.log(a) - left) / (right - left), height * (math.log(b) - bottom) / (top - bottom))
        for a, b in zip(x, y, strict=True)
    ]


def _together(positions: list[tuple[float, float]], seconds: list[float]) -> list[list[int]]:
    """Return groups of layers whose markers would hide one another, each with its longest layer first."""
    groups: list[list[int]] = []
    for k in sorted(range(len(positions)), key=lambda k: -seconds[k]):
        near = next((own for own in groups if max(map(_apart, positions[own[0]], positions[k])) < POINTS), None)
        if near is None:
            groups.append([k])
        else:
            near.append(k)
    return sorted(groups)


def _apart(one: float, other: float) -> float:
    return abs(one - other)


def _set_limits(axes: Axes, x: list[float], y: list[float], roof: Roof | None) -> None:
    right, top = max(x) * MARGIN, max(y) * MARGIN
    if roof is not None:
        right, top = max(right, MARGIN * roof.ridge), max(top, MARGIN * roof.flops)
    axes.set_xlim(min(x) / MARGIN, right)
    axes.set_ylim(min(y) / MARGIN, top)


def _draw_roofs(axes: Axes, roof: Roof, arithmetic: str | None) -> None:
    (left, right), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    ends = [left * roof.bytes_per_sec, roof.flops, roof.flops]
    axes.plot([left, roof.ridge, right], ends, color="0.25", linewidth=1.6, zorder=1)
    lowest = max(left, bottom / roof.bytes_per_sec)
    middle = math.exp(0.5 * (math.log(lowest) + math.log(roof.ridge)))
    peak = f"{roof.flops / FLOPS_PER_TFLOPS:,g} TFLOP/s" + (f" ({arithmetic})" if arithmetic else "")
    _annotate_roof(axes, peak, (right, roof.flops), -4)
    _annotate_roof(axes, f"{roof.bytes_per_sec / BYTES_PER_GB:,g} GB/s", (middle, middle * roof.bytes_per_sec), -6)


def _annotate_roof(axes: Axes, text: str, at: tuple[float, float], shift: float) -> None:
    axes.annotate(text, at, textcoords="offset points", xytext=(shift, 4), ha="right", color="0.25", fontsize=9)
