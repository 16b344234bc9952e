"""The roofline of an explanation: its layers under the device's roofs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

from epochcast.model.answers.prediction_text import device_words
from epochcast.model.explanation.text import ABOVE_ROOF_NOTE, is_above_roof, precision_words
from epochcast.output.figures import COLOURS, MARKERS, new_figure
from epochcast.output.text import significant

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


def draw_roofline(answer: Mapping[str, Any]) -> Figure:
    """Attained FLOP/s of each layer over its arithmetic intensity, under the roofs; attainable ones uncalibrated.

    Raises:
        ValueError: if no layer computes anything.
    """
    is_told = answer["parts"] is not None
    layers = [layer for layer in answer["layers"] if layer["flop"] > 0 and _sec(layer, is_told)]
    if not layers:
        raise ValueError(f"{answer['network']}: no layer computes anything, so there is nothing to draw.")
    figure, axes = new_figure(9.0, 5.6)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("arithmetic intensity of an epoch (FLOP per byte of memory traffic)")
    axes.set_ylabel("attained (FLOP/s)" if is_told else "attainable (FLOP/s)")
    x = [layer["intensity"] for layer in layers]
    y = [layer["flop"] / _sec(layer, is_told) for layer in layers]
    _set_limits(axes, x, y, answer["roofs"])
    if answer["roofs"] is not None:
        _draw_roofs(axes, answer["roofs"], answer["arithmetic"])
    kinds = list(dict.fromkeys(layer["kind"] for layer in layers))
    seconds = [_sec(layer, is_told) or 0.0 for layer in layers]
    together = _together(_positions(axes, x, y), seconds)
    groups = {own[0]: sum(seconds[k] for k in own) for own in together}
    numbered = sorted(groups, key=lambda k: -groups[k])[:MOST_NUMBERED]
    number = 0
    for own in together:
        k = own[0]
        i = kinds.index(layers[k]["kind"])
        marker, colour = MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]
        if k not in numbered:
            axes.plot(x[k], y[k], marker, color=colour, markersize=5, alpha=0.6, zorder=2)
            continue
        number += 1
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        label = f"{number}  {layers[k]['name']}{more}, {significant(groups[k], 2)} s"
        size = 1.46 * POINTS if marker in "^v" else POINTS  # a number takes more of a triangle
        axes.plot(x[k], y[k], marker, color=colour, markersize=size, markeredgecolor="white", label=label, zorder=3)
        dark = "black" if colour in LIGHT else "white"
        axes.annotate(
            str(number),
            (x[k], y[k]),
            textcoords="offset points",
            xytext=(0, {"^": -3.0, "v": 2.5}.get(marker, 0.0)),  # where a triangle is wide
            ha="center",
            va="center_baseline",
            fontsize=7,
            color=dark,
            zorder=4,
        )
    left_out = {
        "without a number": len(together) - number,
        "not drawn, of no FLOP": len(answer["layers"]) - len(layers),
    }
    heading = ["seconds an epoch"]
    if is_told and any(map(is_above_roof, answer["layers"])):
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
    what = "uncalibrated: what the roofs allow at most"
    if is_told:
        what = "as the calibrated law tells"
        if not answer["calibrated"]:
            what = f"as the law of {answer['measured_elsewhere']['device']} tells, scaled"
    told = f"{answer['network']}, batch size {answer['batch_size']:,}, {what}"
    axes.set_title(
        "\n".join(fill(line, MOST_COLUMNS) for line in (told, f"{device_words(answer)}, {precision_words(answer)}")),
        loc="left",
        fontsize=10,
    )
    return figure


def _sec(layer: Mapping[str, Any], is_told: bool) -> float | None:
    sec: float | None = layer["attributed_sec" if is_told else "attainable_sec"]
    return sec


def _positions(axes: Axes, x: list[float], y: list[float]) -> list[tuple[float, float]]:
    """Where points come to lie, in points of type: on axes as small as a long legend leaves them."""
    (left, right), (bottom, top) = (map(math.log, limits) for limits in (axes.get_xlim(), axes.get_ylim()))
    width, height = AXES_POINTS
    return [
        (width * (math.log(a) - left) / (right - left), height * (math.log(b) - bottom) / (top - bottom))
        for a, b in zip(x, y, strict=True)
    ]


def _together(places: list[tuple[float, float]], seconds: list[float]) -> list[list[int]]:
    """Layers whose markers would hide one another, each with the one that takes longest of them first."""
    groups: list[list[int]] = []
    for k in sorted(range(len(places)), key=lambda k: -seconds[k]):
        near = next((own for own in groups if max(map(_apart, places[own[0]], places[k])) < POINTS), None)
        if near is None:
            groups.append([k])
        else:
            near.append(k)
    return sorted(groups)


def _apart(one: float, other: float) -> float:
    return abs(one - other)


def _set_limits(axes: Axes, x: list[float], y: list[float], roofs: Mapping[str, Any] | None) -> None:
    right, top = max(x) * MARGIN, max(y) * MARGIN
    if roofs is not None:
        right, top = max(right, MARGIN * roofs["ridge_flop_per_byte"]), max(top, 1e12 * roofs["peak_tflops"] * MARGIN)
    axes.set_xlim(min(x) / MARGIN, right)
    axes.set_ylim(min(y) / MARGIN, top)


def _draw_roofs(axes: Axes, roofs: Mapping[str, Any], arithmetic: str | None) -> None:
    peak, bandwidth, ridge = 1e12 * roofs["peak_tflops"], 1e9 * roofs["peak_gb_per_sec"], roofs["ridge_flop_per_byte"]
    (left, right), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    axes.plot([left, ridge, right], [left * bandwidth, peak, peak], color="0.25", linewidth=1.6, zorder=1)
    axes.annotate(
        f"{roofs['peak_tflops']:,g} TFLOP/s" + (f" ({arithmetic})" if arithmetic else ""),
        (right, peak),
        textcoords="offset points",
        xytext=(-4, 4),
        ha="right",
        color="0.25",
        fontsize=9,
    )
    lowest = max(left, bottom / bandwidth)
    middle = math.exp(0.5 * (math.log(lowest) + math.log(ridge)))
    axes.annotate(
        f"{roofs['peak_gb_per_sec']:,g} GB/s",
        (middle, middle * bandwidth),
        textcoords="offset points",
        xytext=(-6, 4),
        ha="right",
        color="0.25",
        fontsize=9,
    )
