"""First epochs and overhead: a made-up law is found again, few rows give a median, no row gives nothing."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.interval import Interval
from epochcast.model.time_model.card_text import excess_words
from epochcast.model.time_model.intervals import BEYOND, FAR, WITHIN, Range, Widths, conformal_half_width
from epochcast.model.time_model.physics import Law
from epochcast.model.time_model.startup import FORM, Excess, Overhead, from_json, to_json, whole_run
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs
from tests.support.rows import CONFIGS, agg_row, plausible_sec

GRID = [RunConfig(d, f, b) for d in (2, 3, 5) for f in (16, 32, 64) for b in (64, 256, 1024)]
LAW = Law(FORM, np.array([4.0, 0.5, 2e-3, 3e-11]), 50_000)
AXES = ("depth", "base_filters", "batch_size")
NEW = [RunConfig(4, 32, 128), RunConfig(6, 256, 2048), RunConfig(1, 8, 16)]


def rows_with(excess, configs=GRID, **more):
    """Rows whose first epochs take `excess` seconds, one for each, more than a steady one."""
    steady = [plausible_sec(c) for c in configs]
    return [
        agg_row(c.depth, c.base_filters, c.batch_size, t, first_epoch_sec_mean=t + float(e), **more)
        for c, t, e in zip(configs, steady, excess, strict=True)
    ]


# --- first epoch ------------------------------------------------------------------------------------------------------


def test_a_made_up_law_is_found_again_within_and_beyond_the_rows():
    found = fit_excess(rows_with(LAW.seconds(GRID)), seed=0)
    np.testing.assert_allclose(found.law.coefficients, LAW.coefficients, rtol=1e-6)  # least squares of exact rows
    np.testing.assert_allclose(found.seconds(NEW), LAW.seconds(NEW), rtol=1e-6)
    assert found.n == len(GRID)
    assert found.widths.within < 1e-6
    assert found.widths.beyond < 1e-6


def test_noise_widens_the_interval_within_and_more_so_beyond():
    noise = np.random.default_rng(3).normal(1, 0.1, len(GRID))
    found = fit_excess(rows_with(LAW.seconds(GRID) * noise), seed=0)
    assert 0.01 < found.widths.within <= found.widths.beyond
    np.testing.assert_allclose(found.seconds(GRID), LAW.seconds(GRID), rtol=0.3)  # noise of 10 %
    assert (found.law.coefficients >= 0).all()


def test_below_twelve_rows_the_median_answers_for_every_configuration():
    excess = np.arange(1.0, 12.0)
    found = fit_excess(rows_with(excess, GRID[:11]), seed=0)
    assert found.law is None
    assert (found.median, found.n) == (pytest.approx(6.0), 11)  # differences of floats
    np.testing.assert_allclose(found.seconds(NEW), 6.0)
    assert fit_excess(rows_with(LAW.seconds(GRID[:12]), GRID[:12]), seed=0).law is not None


def test_the_width_of_a_median_is_of_each_row_against_the_others_relative_to_its_first_epoch():
    excess = np.random.default_rng(1).uniform(5, 9, 11)
    rows = rows_with(excess, GRID[:11])
    errors = []
    for i, row in enumerate(rows):
        predicted = np.median(np.delete(excess, i))
        errors.append(abs(predicted - excess[i]) / (row.avg_time_mean + predicted))
    found = fit_excess(rows, seed=0)
    assert found.widths.within == pytest.approx(conformal_half_width(np.array(errors)), rel=1e-9)  # of differences
    assert found.widths.n == 11
    assert found.widths.n_levels > 0


def test_a_row_that_does_not_know_its_first_epoch_has_no_part_in_it():
    unknown = [replace(row, first_epoch_sec_mean=None) for row in rows_with(np.full(6, 99.0), CONFIGS)]
    known = rows_with(np.full(3, 7.0), GRID[:3])
    found = fit_excess([*unknown, *known], seed=0)
    assert (found.n, found.median) == (3, pytest.approx(7.0))
    assert (found.widths.within, found.widths.beyond) == (None, None)  # three errors are too few


def test_one_row_is_answered_with_without_a_width():
    found = fit_excess(rows_with([8.0], GRID[:1]), seed=0)
    assert found.seconds(NEW).tolist() == pytest.approx([8.0] * 3)
    assert (found.widths.within, found.widths.beyond, found.widths.n) == (None, None, 0)


def test_no_row_that_knows_means_unknown():
    rows = [agg_row(c.depth, c.base_filters, c.batch_size, plausible_sec(c)) for c in CONFIGS]
    assert fit_excess(rows, seed=0) is None
    assert fit_overhead(rows) is None


def test_a_first_epoch_no_slower_than_the_rest_has_no_excess():
    rows = [replace(row, first_epoch_sec_mean=row.avg_time_mean / 2) for row in rows_with(np.zeros(len(GRID)))]
    found = fit_excess(rows, seed=0)
    assert (found.law, found.median) == (None, 0.0)
    np.testing.assert_array_equal(found.seconds(NEW), 0.0)


def test_nine_first_epochs_in_ten_lie_in_the_interval_of_a_law_that_has_not_seen_them(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    covered = []
    for fold in range(5):
        excess = fit_excess([row for i, row in enumerate(rows) if i % 5 != fold], seed=0)
        for row in rows[fold::5]:
            steady = Interval(row.avg_time_mean, row.avg_time_mean, row.avg_time_mean)
            first = whole_run(row.config, steady, WITHIN, excess, None).first_epoch
            covered.append(first.low <= row.first_epoch_sec_mean <= first.high)
    assert 0.85 <= np.mean(covered) <= 0.95  # 90 %, two standard deviations of a share of 143


def test_widths_repeat_for_a_seed():
    rows = rows_with(LAW.seconds(GRID) * np.random.default_rng(3).normal(1, 0.1, len(GRID)))
    assert fit_excess(rows, seed=5).widths == fit_excess(rows, seed=5).widths


# --- overhead ---------------------------------------------------------------------------------------------------------


def test_overhead_is_the_median_of_the_rows_that_know_it_with_one_width_everywhere():
    seconds = [7.0, 9, 8, 12, 7.5, 8.5, 9.5, 6.5, 8]
    rows = [*rows_with(np.ones(3), GRID[:3]), *rows_with(np.ones(9), GRID[3:12])]
    rows[3:] = [replace(row, overhead_sec_mean=s) for row, s in zip(rows[3:], seconds, strict=True)]
    found = fit_overhead(rows)
    assert (found.median, found.n) == (statistics.median(seconds), 9)
    assert found.widths.within == found.widths.beyond == pytest.approx(0.5)  # nine errors: the largest, 12 against 8


@pytest.mark.parametrize("seed", range(20))
def test_each_overhead_is_judged_by_the_median_of_the_others(seed):
    random = np.random.default_rng(seed)
    seconds = random.uniform(4, 20, random.integers(9, 15))
    rows = [
        replace(r, overhead_sec_mean=s) for r, s in zip(rows_with(seconds, GRID[: len(seconds)]), seconds, strict=True)
    ]
    others = np.array([np.median(np.delete(seconds, i)) for i in range(len(seconds))])
    found = fit_overhead(rows)
    assert found.median == pytest.approx(np.median(seconds), rel=1e-12)  # a mean of two
    width = conformal_half_width(np.abs(seconds / others - 1))
    if width >= 1:  # no half-width of that size reaches as far down: factors
        width = conformal_half_width(np.maximum(seconds / others, others / seconds) - 1)
    assert found.widths.within == pytest.approx(width, rel=1e-9)
    assert found.widths.n == len(seconds)


@pytest.mark.parametrize("seed", range(5))
def test_overheads_that_differ_by_factors_have_a_range_above_0_that_holds_nine_in_ten_new_ones(seed):
    rng = np.random.default_rng(seed)
    seconds = 6.0 * np.exp(rng.normal(0, 0.9, 220))
    configs = [RunConfig(2, 16, 1 + i) for i in range(120)]
    rows = rows_with(np.ones(120), configs)
    found = fit_overhead([replace(r, overhead_sec_mean=s) for r, s in zip(rows, seconds[:120], strict=True)])
    assert found.widths.within > 1
    known = found.interval(WITHIN)
    assert 0 < known.low < found.median < known.high
    assert np.mean((seconds[120:] >= known.low) & (seconds[120:] <= known.high)) >= 0.8
    run = whole_run(configs[0], Interval(1.0, 0.9, 1.1), WITHIN, fit_excess(rows, 0), found, 3)
    assert run.overhead == known
    assert run.wall.low > 0


def test_one_overhead_is_known_without_a_width():
    found = fit_overhead(rows_with([1.0], GRID[:1], overhead_sec_mean=7.0))
    assert (found.median, found.n, found.widths.within) == (7.0, 1, None)


def test_eight_overheads_have_no_width():
    found = fit_overhead(rows_with(np.ones(8), GRID[:8], overhead_sec_mean=7.0))
    assert (found.median, found.widths.within) == (7.0, None)


def test_an_overhead_of_nothing_is_known_and_has_no_relative_width():
    found = fit_overhead(rows_with(np.ones(9), GRID[:9], overhead_sec_mean=0.0))
    assert (found.median, found.widths.within) == (0.0, None)


# --- a whole run ------------------------------------------------------------------------------------------------------

STEADY = Interval(2.0, 1.9, 2.1)
EXCESS = Excess(None, 8.0, 20, Range.of([*GRID, *NEW]), Widths(0.1, 0.3, 20, 4, ("depth",)))
OVERHEAD = Overhead(6.0, 20, Widths(0.5, 0.5, 20))


def test_a_whole_run_adds_its_parts_up_and_their_half_widths_as_squares():
    run = whole_run(NEW[0], STEADY, WITHIN, EXCESS, OVERHEAD, 10)
    assert run.overhead == Interval(6.0, 3.0, 9.0)
    start, steady = 0.1 * (8 + 2), 10 * 0.1  # seconds either way: of the excess, and of ten epochs
    for part, value, half in (
        (run.first_epoch, 10.0, np.hypot(start, 0.1)),
        (run.training, 28.0, np.hypot(start, steady)),
        (run.wall, 34.0, np.sqrt(start**2 + steady**2 + 3.0**2)),
    ):
        assert (part.value, part.low, part.high) == pytest.approx((value, value - half, value + half))


def test_a_whole_run_is_wider_beyond_the_range_and_has_no_interval_far_from_it():
    within, beyond, far = (whole_run(NEW[0], STEADY, p, EXCESS, OVERHEAD, 10) for p in (WITHIN, BEYOND, FAR))
    for name in ("first_epoch", "training", "wall"):
        assert getattr(beyond, name).low < getattr(within, name).low
        assert getattr(far, name) == Interval(getattr(within, name).value)
    assert far.overhead == Interval(6.0)


def test_a_first_epoch_outside_those_that_were_measured_is_no_surer_than_that():
    known = replace(EXCESS, range=Range((2, 3), (16, 32), (64, 64)))
    inside, beyond, far = (
        whole_run(c, STEADY, WITHIN, known, OVERHEAD, 10)
        for c in (RunConfig(3, 32, 64), RunConfig(4, 32, 64), RunConfig(3, 32, 128))
    )
    assert inside.first_epoch.high < beyond.first_epoch.high
    assert far.first_epoch == Interval(10.0)  # batch size: not an axis of which an edge was left out
    assert far.wall == Interval(34.0)


def test_without_epochs_there_is_no_total_and_a_part_that_is_unknown_leaves_the_total_unknown():
    run = whole_run(NEW[0], STEADY, WITHIN, EXCESS, OVERHEAD)
    assert (run.training, run.wall) == (None, None)
    assert run.first_epoch.value == 10.0
    run = whole_run(NEW[0], STEADY, WITHIN, None, OVERHEAD, 10)
    assert (run.first_epoch, run.training, run.wall) == (None, None, None)
    assert run.overhead.value == 6.0
    run = whole_run(NEW[0], STEADY, WITHIN, EXCESS, None, 10)
    assert (run.overhead, run.wall) == (None, None)
    assert run.training.value == 28.0


# --- on a card --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 9, 27])
def test_both_parts_come_back_from_a_card_as_they_were(n):
    rows = rows_with(LAW.seconds(GRID[:n]), GRID[:n], overhead_sec_mean=7.0)
    excess, overhead = fit_excess(rows, seed=0), fit_overhead(rows)
    back, overhead_back = from_json(json.loads(json.dumps(to_json(excess, overhead))), 50_000)
    np.testing.assert_array_equal(back.seconds(NEW), excess.seconds(NEW))
    assert (back.median, back.n, back.widths) == (excess.median, excess.n, excess.widths)
    assert back.widths.axes == {1: (), 9: ("base_filters", "batch_size"), 27: AXES}[n]  # one row, one depth, all
    assert (overhead_back.median, overhead_back.n) == (overhead.median, overhead.n)
    assert overhead_back.widths.within == overhead.widths.within


def test_unknown_parts_come_back_unknown():
    assert from_json(json.loads(json.dumps(to_json(None, None))), 50_000) == (None, None)


def words_of(said):
    return excess_words(said["readings"], said["median"], said["n"])


def test_a_card_reads_the_law_in_words():
    said = to_json(fit_excess(rows_with(LAW.seconds(GRID)), seed=0), None)["first_epoch_excess_sec"]
    assert said["form"] == FORM
    assert said["readings"]["per_block"] == "0.500 s per block"
    assert said["readings"]["per_image_of_batch"] == "2.00 ms per image of the batch"
    assert words_of(said) == " + ".join(said["readings"].values())


def test_in_words_a_term_of_nothing_is_left_out_and_without_a_law_the_median_is_said():
    law = replace(LAW, coefficients=np.array([4.0, 0.5, 0, 0]))
    said = to_json(Excess(law, 5.0, 27, Range.of(GRID), Widths(None, None, 27)), None)["first_epoch_excess_sec"]
    assert words_of(said) == "4.00 s + 0.500 s per block"
    said = to_json(fit_excess(rows_with(np.full(3, 7.0), GRID[:3]), seed=0), None)["first_epoch_excess_sec"]
    assert words_of(said) == "7.00 s, the median of 3 rows"
