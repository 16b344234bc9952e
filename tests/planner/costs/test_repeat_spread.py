"""How far a run's times will be from what earlier runs took: pooled where there are repeats, else assumed and said."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.facts.assumptions import assumption
from epochcast.interval import COVERAGE
from epochcast.model.answers.measured import measured_steady
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.planner.costs.repeat_spread import LEAST_FREEDOM, PARTS, RepeatSpread
from epochcast.storage.tables import read_runs
from tests.support.rows import agg_row

GPU = "NVIDIA A100 80GB PCIe"


def repeated_row(n, steady_std, **more):
    parts = {"first_epoch_sec_mean": 10.0, "first_epoch_sec_std": 0.5, "overhead_sec_mean": 20.0}
    return agg_row(n=n, seconds=2.0, std=steady_std, **{**parts, "overhead_sec_std": 1.0, **more})


def test_relative_deviations_are_pooled_by_their_degrees_of_freedom():
    spread = RepeatSpread.of([repeated_row(3, 0.02), repeated_row(5, 0.08), agg_row()], GPU)
    assert spread.sds["steady"] == pytest.approx(math.sqrt((2 * 0.01**2 + 4 * 0.04**2) / 6), rel=1e-12)
    assert spread.sds["first_epoch"] == pytest.approx(0.05, rel=1e-12)
    assert spread.sds["overhead"] == pytest.approx(0.05, rel=1e-12)
    assert spread.notes == []


@pytest.mark.parametrize("n", [2, LEAST_FREEDOM, LEAST_FREEDOM + 1])
def test_of_too_few_repeats_the_spread_is_assumed_for_the_device_and_said(n):
    spread = RepeatSpread.of([repeated_row(n, 0.5)], GPU)
    is_enough = n - 1 >= LEAST_FREEDOM
    for part in PARTS:
        assert (spread.sds[part] == assumption(f"repeat_sd_{part}", "gpu").value) == (not is_enough)
    assert len(spread.notes) == (not is_enough)
    assert all("too few repeats to tell their spread: assumed for a gpu: steady 0.640 %" in n for n in spread.notes)


def test_only_the_part_that_too_few_runs_know_is_assumed():
    (note,) = RepeatSpread.of([repeated_row(9, 0.02, overhead_sec_std=None)], GPU).notes
    assert "for a gpu: overhead 1.40 % (standard" in note


def test_where_nothing_is_assumed_for_a_device_the_error_is_unknown(monkeypatch):
    def no_assumption(name, kind):
        raise KeyError(name)

    monkeypatch.setattr("epochcast.planner.costs.repeat_spread.assumption", no_assumption)
    spread = RepeatSpread.of([agg_row()], GPU)
    assert spread.steady(agg_row()).value == 2.0
    assert spread.steady(agg_row()).high is None
    assert spread.notes == []


def test_a_run_is_less_certain_after_one_than_after_many():
    spread = RepeatSpread.of([repeated_row(9, 0.02)], GPU)
    for n, factor in ((1, math.sqrt(2)), (4, math.sqrt(1.25)), (10**6, 1.0)):
        row = repeated_row(n, None)
        for time in (spread.steady(row), spread.overhead(row), spread.first_epoch(row)):
            assert time.high / time.value == pytest.approx(time.value / time.low, rel=1e-9)
        half = HALF_WIDTH_SDS * 0.01 * factor * 2.0
        assert spread.steady(row).high - 2.0 == pytest.approx(half, rel=1e-6)


def test_a_first_epoch_is_never_taken_to_be_quicker_than_a_steady_one():
    spread = RepeatSpread.of([], GPU)
    assert spread.first_epoch(repeated_row(1, None, first_epoch_sec_mean=1.5)).value == 2.0
    assert spread.first_epoch(repeated_row(1, None)).value == 10.0


def test_nine_of_ten_next_runs_lie_within_the_interval():
    draw = np.random.default_rng(7)
    times = draw.uniform(1, 100, 600)[:, None] * (1 + 0.02 * draw.standard_normal((600, 4)))
    rows = [agg_row(seconds=statistics.fmean(run[:3]), n=3, std=statistics.stdev(run[:3])) for run in times.tolist()]
    spread = RepeatSpread.of(rows, GPU)
    intervals = [spread.steady(row) for row in rows]
    inside = [time.low <= took <= time.high for time, took in zip(intervals, times[:, 3], strict=True)]
    assert np.mean(inside) == pytest.approx(COVERAGE, abs=0.04)  # three standard errors of 600


# --- rows whose own runs are wilder than repeats ----------------------------------------------------------------------


REPEATED = [repeated_row(4, 0.02), repeated_row(4, 0.02)]  # six degrees of freedom, 1 %
POOLED_HALF = HALF_WIDTH_SDS * 0.01 * math.sqrt(2)


@pytest.mark.parametrize(
    ("own", "n_flagged", "counts"),
    [
        (None, 0, False),
        (0.03, 0, False),  # what two timed epochs say of runs that differ by 1 %
        (0.2, 0, False),
        (6.35, 0, True),  # no repeats of 1 % explain it
        (0.2, 1, True),  # the run itself was flagged
        (0.001, 1, False),  # the wider counts
    ],
)
def test_next_to_pooled_repeats_a_run_s_own_interval_counts_where_they_do_not_explain_it(own, n_flagged, counts):
    row = agg_row(seconds=2.0, n=1, rel_ci95=own, n_flagged=n_flagged)
    spread = RepeatSpread.of([*REPEATED, row], GPU)
    steady = spread.steady(row)
    half = own if counts else POOLED_HALF
    assert steady.high == pytest.approx(2.0 * (1 + half), rel=1e-9)
    assert steady.low == pytest.approx(2.0 / (1 + half), rel=1e-9)
    assert (len(spread.notes) == 1 and "1 of 3 measured configurations" in spread.notes[0]) == counts


@pytest.mark.parametrize("own", [0.3, 0.696, 6.35])
def test_without_repeats_a_plan_and_a_prediction_have_one_range_of_a_wild_run(own):
    row = agg_row(seconds=2.0, n=1, rel_ci95=own)
    planned, predicted = RepeatSpread.of([row], GPU).steady(row), measured_steady(row)
    assert planned == predicted
    assert 0 < planned.low < 2.0 < planned.high == pytest.approx(2.0 * (1 + own))


def test_a_spread_that_is_known_of_no_repeats_is_the_runs_own():
    spread = RepeatSpread({"steady": None})
    assert spread.steady(agg_row(seconds=2.0, rel_ci95=0.5)).high == pytest.approx(3.0)


def test_many_runs_of_a_row_tell_its_spread_to_plan_and_prediction_alike():
    row = agg_row(seconds=2.0, n=9, std=0.6, rel_ci95=0.1)
    planned, predicted = RepeatSpread.of([row, *REPEATED], GPU).steady(row), measured_steady(row)
    ratio = math.log(planned.high / 2.0) / math.log(predicted.high / 2.0)
    assert ratio == pytest.approx(math.sqrt(1 + 1 / 9))  # a new run about their mean


def test_the_intervals_of_two_timed_epochs_change_no_plan_of_the_reference_table(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    spread = RepeatSpread.of(rows, GPU)
    assert sum(row.rel_ci95 > HALF_WIDTH_SDS * spread.sds["steady"] for row in rows if row.rel_ci95) > 90
    for row in rows:
        half = HALF_WIDTH_SDS * spread.sds["steady"] * math.sqrt(1 + 1 / row.n)
        assert spread.steady(row).high == pytest.approx(row.avg_time_mean * (1 + half), rel=1e-12)
    assert not any("own 95 % interval" in note for note in spread.notes)
