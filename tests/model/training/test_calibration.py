"""How wide intervals are comes from models that have not seen what they are judged on, and moves no prediction."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.time_model.intervals import conformal_half_width
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.calibration import calibrate, fit_calibrated, log_errors
from epochcast.model.training.recipes import PHYSICS, Start, fit_time_models
from epochcast.model.training.splits import levels_of
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs
from tests.support.rows import agg_row

IN_AND_OUT = [RunConfig(3, 48, 200), RunConfig(6, 256, 16), RunConfig(2, 16, 32)]


@pytest.fixture
def table(reference_data):
    """Eighteen of the reference rows, over the whole box."""
    return Table.of(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows[::8])


def fold_errors(table, seed=0):
    return np.random.default_rng(seed).exponential(0.005, len(table))


# --- widths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_the_point_is_that_of_the_form_and_seed_alone_whatever_the_intervals_are(table, seed):
    (alone,) = fit_time_models(PHYSICS, table, np.ones((1, len(table)), bool), seed)
    for errors in (fold_errors(table), 10 * fold_errors(table, 1)):
        model, _, _ = fit_calibrated(table, PHYSICS, errors, seed)
        np.testing.assert_array_equal(model.times(IN_AND_OUT), alone.times(IN_AND_OUT))


def test_the_width_within_is_the_folds_and_the_one_beyond_is_of_levels_left_out(table):
    errors = fold_errors(table)
    _, found, disturbed = fit_calibrated(table, PHYSICS, errors, 0)
    assert not disturbed.any()
    assert found.widths.within == conformal_half_width(errors)
    assert found.widths.n == len(table)
    assert found.widths.axes == ("depth", "base_filters", "batch_size")
    assert found.widths.n_levels == len(found.levels) == len(levels_of(table.configs)) == 10
    pooled = []
    for level in found.levels:  # by hand: a model of the other rows alone
        rest = table.take(~level.mask)
        (model,) = fit_time_models(PHYSICS, rest, np.ones((1, len(rest)), bool), 0)
        own = table.take(level.mask)
        pooled.extend(abs(np.log(model.times(own.configs) / own.seconds)))
    np.testing.assert_allclose(np.sort(np.concatenate(found.level_errors)), np.sort(pooled), rtol=1e-12)  # same sums
    assert found.widths.beyond == pytest.approx(max(found.widths.within, np.quantile(pooled, 0.95, method="higher")))
    assert found.widths.beyond > found.widths.within


def test_times_of_a_level_left_out_move_its_errors_and_not_its_predictions(table):
    index = next(i for i, level in enumerate(levels_of(table.configs)) if level.label == "depth 5")
    mask = levels_of(table.configs)[index].mask
    slower = Table(table.configs, np.where(mask, 1.1 * table.seconds, table.seconds), table.train_n)  # within the gate
    signed = []
    for of in (table, slower):
        _, found, _ = fit_calibrated(of, PHYSICS, fold_errors(table), 0)
        assert found.levels[index].label == "depth 5"
        signed.append(found.level_errors[index])
    masks = np.array([~mask])
    predicted = [fit_time_models(PHYSICS, of, masks, 0)[0].times(IN_AND_OUT) for of in (table, slower)]
    np.testing.assert_array_equal(*predicted)
    own = table.take(mask)
    log_ratio = np.log(fit_time_models(PHYSICS, table, masks, 0)[0].times(own.configs) / own.seconds)
    np.testing.assert_allclose(signed[0], np.abs(log_ratio), rtol=1e-9)
    np.testing.assert_allclose(signed[1], np.abs(log_ratio - np.log(1.1)), rtol=1e-9)


def test_a_width_within_wider_than_all_left_out_levels_holds_beyond_too(table):
    _, found, _ = fit_calibrated(table, PHYSICS, np.full(len(table), 2.0), 0)
    assert found.widths.within == found.widths.beyond == 2.0


def test_eight_rows_know_no_width_and_still_predict():
    configs = [(d, f, b) for d in (2, 3) for f in (16, 32) for b in (64, 256)]
    few = Table.of([agg_row(*c, 0.1 + 1e-5 * c[0] * c[1] * 50_000 / c[2]) for c in configs])
    model, found, _ = fit_calibrated(few, PHYSICS, fold_errors(few), 0)
    assert (found.widths.within, found.widths.beyond) == (None, None)
    np.testing.assert_allclose(model.times(few.configs), few.seconds, rtol=0.2)  # a law of other terms than these


def test_without_levels_nothing_is_known_beyond(table):
    found = calibrate(table, [], [], fold_errors(table), np.zeros(len(table), bool))
    assert found.widths.within is not None
    assert (found.widths.beyond, found.widths.n_levels, found.widths.axes) == (None, 0, ())


@pytest.mark.parametrize("row", [0, 5, 9, 17])
def test_a_stalled_row_is_told_and_its_errors_widen_nothing(table, row):
    stalled = np.arange(len(table)) == row
    slow = Table(table.configs, np.where(stalled, 3 * table.seconds, table.seconds), table.train_n)
    errors = np.where(stalled, np.log(3), fold_errors(table))
    model, found, disturbed = fit_calibrated(slow, PHYSICS, errors, 0)
    np.testing.assert_array_equal(disturbed, stalled)
    assert found.widths.n == len(table) - 1
    assert found.widths.within == conformal_half_width(errors[~stalled])
    for level, own in zip(found.levels, found.level_errors, strict=True):
        assert len(own) == (level.mask & ~stalled).sum()
    assert found.widths.beyond < 0.5 * np.log(3)  # 11 to 17 %, not the factor of three
    (without,) = fit_time_models(PHYSICS, table, ~stalled[None, :], 0)
    np.testing.assert_allclose(model.times(IN_AND_OUT), without.times(IN_AND_OUT), rtol=1e-9)  # the same rows


def test_a_level_of_which_every_row_was_disturbed_judges_nothing(table):
    levels = [level for level in levels_of(table.configs) if level.label in ("depth 3", "depth 5", "base_filters 16")]
    models = fit_time_models(PHYSICS, table, np.array([~level.mask for level in levels]), 0)
    disturbed = levels[1].mask  # depth 5, the one edge of its axis among these
    found = calibrate(table, levels, models, fold_errors(table), disturbed)
    assert [level.label for level in found.levels] == ["depth 3", "base_filters 16"]
    assert (found.widths.n_levels, found.widths.axes) == (2, ("base_filters",))


def test_rows_that_no_fold_judged_do_not_count(table):
    errors = fold_errors(table)
    errors[:4] = np.nan
    found = calibrate(table, [], [], errors, np.zeros(len(table), bool))
    assert (found.widths.within, found.widths.n) == (conformal_half_width(errors[4:]), len(table) - 4)


def test_with_a_start_one_row_is_enough_for_the_rest_and_few_rows_are_never_disturbed(table):
    (other,) = fit_time_models(PHYSICS, table, np.ones((1, len(table)), bool), 0)
    rows = table.take(np.isin(np.arange(len(table)), (1, 8)))
    _, found, disturbed = fit_calibrated(rows, PHYSICS, fold_errors(rows), 0, start=Start(other.law))
    assert [level.label for level in found.levels] == [level.label for level in levels_of(rows.configs, min_rest=1)]
    assert found.levels
    assert not disturbed.any()
    assert (found.widths.within, found.widths.beyond) == (None, None)  # two errors are too few


def test_errors_are_of_the_rows_in_the_mask(table):
    (model,) = fit_time_models(PHYSICS, table, np.ones((1, len(table)), bool), 0)
    mask = np.arange(len(table)) < 3
    expected = abs(np.log(model.times(table.configs[:3]) / table.seconds[:3]))
    np.testing.assert_array_equal(log_errors(model, table, mask), expected)
