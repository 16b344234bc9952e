"""The figure of an explanation: every layer below the roofs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epochcast.model.explanation.roofline_figure import draw_roofline
from epochcast.model.explanation.text import explanation_text
from epochcast.schema import RunConfig
from tests.support.models.explanations import ask, explained, explanation

pytestmark = pytest.mark.usefixtures("home")


def test_the_figure_holds_every_layer_below_the_roofs(tmp_path):
    found = explanation()
    answer = found.to_json()
    (axes,) = draw_roofline(found).axes
    roof, *markers = axes.lines
    ridge = answer["roofs"]["ridge_flop_per_byte"]
    assert list(roof.get_xdata())[1] == ridge
    assert list(roof.get_ydata())[1:] == [156e12, 156e12]
    points = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in markers}
    assert points <= {(layer["intensity"], layer["flops"]) for layer in answer["layers"]}
    for x, y in points:
        assert y < min(156e12, x * 1935e9)
        assert axes.get_xlim()[0] < x < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < y < axes.get_ylim()[1]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(legend) == len(points)
    assert f"1  block1_conv1, {answer['layers'][0]['attributed_sec']:.2g} s" in legend
    assert "above the roof" not in axes.get_legend().get_title().get_text()
    out = tmp_path / "roofline.svg"
    assert f"plot: {out}" in ask("--plot", out).out
    assert out.read_text().count('id="line2d_') > len(points)


def test_markers_that_would_hide_one_another_are_one_and_the_others_stay():
    answer = explanation()
    first, second, third, *_ = answer.layers

    def moved(layer, factor, flops):
        """A layer at so many times the first one's intensity, with these FLOP/s."""
        work = replace(layer.layer, bytes=layer.layer.flop / (factor * first.layer.intensity))
        return replace(layer, layer=work, parts={"per_flop": layer.layer.flop / flops})

    near = moved(second, 1.02, first.flops)
    planted = replace(answer, layers=(first, near, moved(third, 50, third.flops)))  # of the same kind or not
    (axes,) = draw_roofline(planted).axes
    _, *markers = axes.lines
    assert len(markers) == 2
    joined = first.attributed_sec + near.attributed_sec
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert any(label.endswith(f"and 1 more, {joined:.2g} s") for label in legend)


def test_layers_told_above_the_roof_are_noted_once_and_in_the_plot():
    above = explanation(RunConfig(5, 128, 2048), gpu_name="Tesla V100-SXM2-16GB")
    assert any(layer.share_of_roof > 1 for layer in above.layers if layer.share_of_roof is not None)
    (note,) = (line for line in explanation_text(above).splitlines() if "single layers may come out above" in line)
    assert note.startswith("note: the law spreads memory by outputs and launches by kernels")
    title = draw_roofline(above).axes[0].get_legend().get_title().get_text()
    assert "may come out above the roof" in " ".join(title.split())
    assert not any("above the roof" in note for note in explained()["notes"])
