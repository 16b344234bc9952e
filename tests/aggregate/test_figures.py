"""Figures: written as images that can be opened, with units on the axes; what can't be drawn is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.figures import (
    accuracy_against_time,
    draw_figures,
    first_epoch_against_steady,
    main,
    repeats,
    throughput_against_batch_size,
)
from epochcast.output.figures import new_grid, save_figure_as
from epochcast.schema import AggRow
from epochcast.storage.tables import read_runs, write_table
from tests.support.rows import agg_row

NAMES = ("accuracy_against_time", "throughput_against_batch_size", "repeats", "first_epoch_against_steady")


FULL = [
    agg_row(2, 16, 64, 4.0, n=2, std=0.1, acc_mean=0.6, acc_epochs=3, first_epoch_sec_mean=20.0),
    agg_row(2, 16, 128, 2.5, acc_mean=0.65, acc_epochs=3, first_epoch_sec_mean=19.0),
    agg_row(3, 32, 128, 3.5, acc_mean=0.7, acc_epochs=5, first_epoch_sec_mean=30.0),
]
BARE = [agg_row(), agg_row(batch_size=128)]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "agg.csv"
    write_table(path, FULL, AggRow)
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home") / "results" / "figures"
    return folder, *draw_figures(FULL, folder)


def test_every_figure_is_written_as_an_image_in_two_formats(drawn):
    folder, paths, left_out = drawn
    assert left_out == []
    assert paths == [folder / f"{name}.{ending}" for name in NAMES for ending in ("png", "svg")]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                assert min(image.size) > 200
                assert len(image.convert("RGB").getcolors(maxcolors=2**20) or []) > 2  # something is drawn
        else:
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_same_rows_give_the_same_svg(drawn, tmp_path):
    folder, *_ = drawn
    # what the other two figures are made of is left out: four of them take two seconds
    rows = [replace(row, acc_mean=None, first_epoch_sec_mean=None) for row in FULL]
    paths, _ = draw_figures(rows, tmp_path)
    again = [path for path in paths if path.suffix == ".svg"]
    assert [path.stem for path in again] == ["throughput_against_batch_size", "repeats"]
    for path in again:
        assert path.read_bytes() == (folder / path.name).read_bytes()


@pytest.mark.parametrize(
    ("draw", "x", "y"),
    [
        (accuracy_against_time, "steady time (s/epoch)", "test accuracy after 3 or 5 epochs"),
        (throughput_against_batch_size, "batch size (images)", "throughput (images/s)"),
        (repeats, "standard deviation between runs (% of the mean time)", ""),
        (first_epoch_against_steady, "steady time (s/epoch)", "first epoch (s)"),
    ],
)
def test_axes_carry_their_units_and_the_legend_lies_beside_the_data(draw, x, y):
    figure = draw(FULL)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == (x, y)
    assert axes.get_title()
    legend = axes.get_legend()
    if draw is repeats:
        assert legend is None
        return
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.x0 >= axes.bbox.x1  # nothing is hidden behind it
    assert box.x1 <= figure.bbox.x1  # and it is not cut off
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["16 base filters", "32 base filters", "depth 2", "depth 3"]


def test_a_single_batch_size_between_powers_of_two_still_labels_its_axis(tmp_path):
    figure = throughput_against_batch_size([agg_row(batch_size=48)])
    figure.draw_without_rendering()
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["48"]


def test_the_figure_of_many_repeats_says_that_it_shows_the_noisiest(tmp_path):
    rows = [agg_row(batch_size=b, n=2, std=b / 1000) for b in range(1, 41)]
    (axes,) = repeats(rows).axes
    assert axes.get_title() == "Repeats: the 30 noisiest of 40 configurations"
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"(2,16,{b})  2.00 s  n=2" for b in range(11, 41)]
    assert repeats(rows[:30]).axes[0].get_title() == "Repeats of one configuration"


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (2, 2)])  # one panel and two rows of one stand below
def test_a_figure_of_several_panels_gives_them_row_by_row(rows, columns):
    figure, panels = new_grid(6.0, 4.0, rows, columns)
    assert figure.axes == panels
    assert len(panels) == rows * columns
    assert tuple(figure.get_size_inches()) == (6.0, 4.0)
    figure.draw_without_rendering()
    corners = [panel.get_position() for panel in panels]
    assert sorted(corners, key=lambda box: (-round(box.y0, 3), round(box.x0, 3))) == corners


def test_panels_may_share_an_axis_and_differ_in_height():
    figure, (upper, lower) = new_grid(6.0, 6.0, 2, 1, height_ratios=[2, 1], sharex=True)
    upper.plot([1, 5], [0, 1])
    figure.draw_without_rendering()
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_position().height > 1.5 * lower.get_position().height


def test_a_figure_is_written_in_the_format_of_its_name_the_svg_alike_each_time(tmp_path):
    for name in ("one.png", "one.svg", "two.svg"):
        figure, (axes,) = new_grid(3.0, 2.0, 1, 1)
        axes.plot([1, 2], [3, 4])
        save_figure_as(figure, tmp_path / "new" / name)
    folder = tmp_path / "new"
    with Image.open(folder / "one.png") as image:
        assert image.format == "PNG"
        assert image.size == (450, 300)  # 150 dots an inch
    assert ElementTree.parse(folder / "one.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert (folder / "one.svg").read_bytes() == (folder / "two.svg").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["one.png", "one.svg", "two.svg"]


def test_the_a100_reference_is_drawn_in_full(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    for draw in (accuracy_against_time, throughput_against_batch_size, repeats, first_epoch_against_steady):
        figure = draw(rows)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        if (legend := axes.get_legend()) is not None:
            assert legend.get_window_extent().x0 >= axes.bbox.x1
    assert len(repeats(rows).axes[0].get_yticklabels()) == 7  # six repeated on purpose, and (3,32,320)


# --- command ---------------------------------------------------------------------------------------------------------


def test_what_was_not_measured_is_left_out_with_the_reason_and_the_command_lists_both(tmp_path, capsys):
    table = tmp_path / "agg.csv"
    write_table(table, BARE, AggRow)
    flags = ["--runs_agg", str(table), "--out", str(tmp_path / "figures")]
    assert main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"table: {table} (a table without a source, used as it is)"
    assert lines[1] == f"figure: {tmp_path / 'figures' / 'throughput_against_batch_size.png'}"
    assert "left_out: repeats: no configuration was measured twice" in lines
    assert main([*flags, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["table_origin"] == "a table without a source, used as it is"
    assert answer["figures"] == [line.removeprefix("figure: ") for line in lines if line.startswith("figure: ")]
    assert {Path(figure).stem for figure in answer["figures"]} == {"throughput_against_batch_size"}
    assert len(answer["figures"]) == 2
    assert answer["left_out"] == [
        "accuracy_against_time: no test accuracy in the table",
        "repeats: no configuration was measured twice",
        "first_epoch_against_steady: no first epoch in the table",
    ]


@pytest.mark.parametrize("out", ["/dev/full", "agg.csv", "agg.csv/below"])
def test_a_folder_that_cannot_be_written_is_one_clear_error(table, tmp_path, capsys, out):
    assert main(["--runs_agg", str(table), "--out", str(tmp_path / out)]) == 1
    captured = capsys.readouterr()
    named = "/dev/full" if out == "/dev/full" else str(table)
    assert captured.err.splitlines()[1:] == [f"error: {named}: a file, not a folder."]
    assert captured.out == ""


def test_what_is_wrong_with_the_table_is_one_clear_error(table, tmp_path, capsys):
    empty, out = tmp_path / "empty.csv", ["--out", str(tmp_path / "figures")]
    write_table(empty, [], AggRow)
    for flags, message in [
        (["--runs_agg", str(tmp_path / "none.csv")], "no such table. Measure first"),
        (["--runs_agg", str(empty)], "holds no row."),
        (["--runs_agg", str(table), "--conditions", "colour=red"], "no column 'colour' to filter by"),
        (["--runs_agg", str(table), "--conditions", "backend=jax"], "none of 3 rows satisfies"),
    ]:
        assert main([*flags, *out]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines()[1].startswith("error: ")
        assert message in captured.err
    assert not (tmp_path / "figures").exists()
