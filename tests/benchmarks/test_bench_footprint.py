"""The comparison with the neighbours: their rules as restated, and the page that shows it."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from benchmarks.estimates.bench_footprint import HEADER, Case, cases, markdown
from benchmarks.lib.neighbour_rules import ecocompute_tdp_w, green_love_board, green_love_forecast, mlcost_tdp_w
from epochcast.paths import CODE_ROOT


def test_parts_of_names_find_the_wrong_boards():
    assert [mlcost_tdp_w(name) for name in ("A100-PCIe", "H100 PCIe", "NVIDIA RTX A1000", "GB200", "unheard of")] == [
        *(400, 700, 400, 700, 300)
    ]
    assert ecocompute_tdp_w("NVIDIA RTX A1000") == 400
    assert ecocompute_tdp_w("NVIDIA L4") is None
    assert green_love_board("NVIDIA H100 PCIe") == "H100 PCIe"
    assert green_love_board("NVIDIA RTX A1000") == "A100 SXM4 80GB"
    assert green_love_board("AMD Instinct MI300X") is None


def test_green_loves_forecast_is_right_where_time_goes_by_images_and_nothing_varies():
    told, truth = green_love_forecast(0.010, 50_000, 1, 100, 0.0, random.Random(0))
    assert told.value == pytest.approx(truth)


def test_green_loves_forecast_by_hand():
    # one step for any part of the data: all 1000 images take 10 ms, and so do the 667 of the size below, which is kept
    # although its 30 epochs take less than a second
    told, truth = green_love_forecast(0.010, 1000, 1000, 100, 0.0, random.Random(0))
    sizes = [0.010, 0.010 * 1000 / 667]
    assert truth == pytest.approx(100 * 0.010)
    assert told.value == pytest.approx(100 * statistics.fmean(sizes))
    sd = statistics.stdev(sizes * 27)
    assert told.high - told.value == pytest.approx(1.96 * sd * math.sqrt(100) / math.sqrt(54))


def test_green_love_starts_from_a_subset_whose_epochs_are_short_enough():
    # 200 images take 8 s, 20 take 0.8 s, 10 are the fewest: from there up to 15 in 24 s, kept, and down to a single one
    told, _ = green_love_forecast(0.4, 200, 10, 100, 0.0, random.Random(0))
    by_size = {10: 1, 15: 2, 7: 1, 5: 1, 3: 1, 2: 1, 1: 1}  # images: steps
    assert told.value == pytest.approx(100 * statistics.fmean(0.4 * steps * 200 / n for n, steps in by_size.items()))


def test_its_interval_misses_where_steps_are_whole():
    draw = random.Random(1)
    found = [green_love_forecast(0.010, 50_000, 128, 100, 0.03, draw) for _ in range(50)]
    assert not any(told.low <= truth <= told.high for told, truth in found)
    assert all(told.value > truth for told, truth in found)


def test_the_page_shows_what_the_benchmark_prints(reference_data):
    page = (CODE_ROOT / "docs" / "neighbours.md").read_text(encoding="utf-8")
    found = cases()
    assert len(found) >= 10
    for line in markdown(found).splitlines():
        assert line in page.splitlines(), (
            "python benchmarks/estimates/bench_footprint.py prints it otherwise: mend the page"
        )


def test_the_table_has_a_cell_for_each_program():
    table = markdown([Case(*"abcdef")]).splitlines()
    assert table == [f"| | {' | '.join(HEADER)} |", "|---|---|---|---|---|---|---|", "| 1 | a | b | c | d | e | f |"]
