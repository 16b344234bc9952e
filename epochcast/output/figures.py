"""Figures in one look, written whole as PNG and SVG; matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epochcast.storage.files import write_bytes_atomically
from epochcast.text_sinks import figure_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision (jfly.uni-koeln.de/color, 2008)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def new_figure(width: float = 8.0, height: float = 4.8) -> tuple[Figure, Axes]:
    """A figure with one axes, drawn without a display."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(
        {"svg.hashsalt": "epochcast", "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True, "font.size": 10}
    )
    figure = Figure(figsize=(width, height), layout="constrained")  # not pyplot's, which would keep it
    return figure, figure.subplots()


def new_grid(width: float, height: float, rows: int, columns: int, **layout: Any) -> tuple[Figure, list[Axes]]:
    """A figure with several axes, row by row; `layout` goes to matplotlib's `subplots`."""
    import numpy as np

    figure, axes = new_figure(width, height)
    axes.remove()
    return figure, list(np.ravel(figure.subplots(rows, columns, **layout)))


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as `name`.png and `name`.svg; the paths written."""
    paths = [folder.absolute() / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        save_figure_as(figure, path)
    return paths


def save_figure_as(figure: Figure, path: Path) -> None:
    """Write a figure as the PNG or SVG file that the path's ending says, whole or not at all."""
    kind, drawn = path.suffix[1:], io.BytesIO()
    _show_texts_as_they_are(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # of a name; a box stands for it
        figure.savefig(drawn, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    write_bytes_atomically(path, drawn.getvalue())


def _show_texts_as_they_are(figure: Figure) -> None:
    """Escape what is no text in a figure's texts, and take no dollar sign in them for mathematics.

    Labels of ticks are made anew by their formatters when the figure is drawn: they are numbers, and powers of ten in
    matplotlib's mathematics.
    """
    from matplotlib.axis import Axis, Tick
    from matplotlib.text import Text

    makers = [*figure.findobj(Axis), *figure.findobj(Tick)]
    made = {id(text) for maker in makers for text in maker.findobj(Text)}
    labels = {id(axis.label) for axis in makers if isinstance(axis, Axis)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and (id(text) not in made or id(text) in labels):
            text.set_text(figure_text(text.get_text()))
            text.set_parse_math(False)


def plain_ticks(axes: Axes, x: Sequence[float] | None = None) -> None:
    """Label the ticks of logarithmic axes with plain numbers: at `x` where given, else at round ones of each decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    for axis, values in ((axes.xaxis, x), (axes.yaxis, None)):
        if values is None and axis.get_scale() != "log":
            continue
        low, high = axis.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high > 10 * low else tuple(float(digit) for digit in range(1, 10))
        axis.set_major_locator(FixedLocator(values) if values is not None else LogLocator(subs=subs))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
