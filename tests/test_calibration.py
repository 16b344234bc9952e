"""How wide intervals are comes from models that have not seen what they are judged on, and moves no prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rows import agg_row

from aggregate.runs_agg import aggregate
from epochcast.schema import RunConfig
from epochcast.tables import read_runs
from model.calibration import calibrate, fit_calibrated, log_errors
from model.features import FEATURE_NAMES
from model.fitting import PHYSICS, fit_time_models
from model.intervals import conformal_half_width
from model.levels import levels_of
from model.network import Network
from model.order import GRID, order_violations, violations_by_axis
from model.time_model import Inputs, Table, TimeModel

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
        model, _ = fit_calibrated(table, PHYSICS, errors, seed)
        np.testing.assert_array_equal(model.times(IN_AND_OUT), alone.times(IN_AND_OUT))


def test_the_width_within_is_the_folds_and_the_one_beyond_is_of_levels_left_out(table):
    errors = fold_errors(table)
    _, found = fit_calibrated(table, PHYSICS, errors, 0)
    assert found.widths.within == conformal_half_width(errors)
    assert found.widths.n == len(table)
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
    slower = Table(table.configs, np.where(mask, 3 * table.seconds, table.seconds), table.train_n)
    signed = []
    for of in (table, slower):
        _, found = fit_calibrated(of, PHYSICS, fold_errors(table), 0)
        assert found.levels[index].label == "depth 5"
        signed.append(found.level_errors[index])
    masks = np.array([~mask])
    predicted = [fit_time_models(PHYSICS, of, masks, 0)[0].times(IN_AND_OUT) for of in (table, slower)]
    np.testing.assert_array_equal(*predicted)
    own = table.take(mask)
    log_ratio = np.log(fit_time_models(PHYSICS, table, masks, 0)[0].times(own.configs) / own.seconds)
    np.testing.assert_allclose(signed[0], np.abs(log_ratio), rtol=1e-9)
    np.testing.assert_allclose(signed[1], np.abs(log_ratio - np.log(3)), rtol=1e-9)


def test_a_width_within_wider_than_all_left_out_levels_holds_beyond_too(table):
    _, found = fit_calibrated(table, PHYSICS, np.full(len(table), 2.0), 0)
    assert found.widths.within == found.widths.beyond == 2.0


def test_eight_rows_know_no_width_and_still_predict():
    configs = [(d, f, b) for d in (2, 3) for f in (16, 32) for b in (64, 256)]
    few = Table.of([agg_row(*c, 0.1 + 1e-5 * c[0] * c[1] * 50_000 / c[2]) for c in configs])
    model, found = fit_calibrated(few, PHYSICS, fold_errors(few), 0)
    assert (found.widths.within, found.widths.beyond) == (None, None)
    np.testing.assert_allclose(model.times(few.configs), few.seconds, rtol=0.2)  # a law of other terms than these


def test_without_levels_nothing_is_known_beyond(table):
    found = calibrate(table, [], [], fold_errors(table))
    assert found.widths.within is not None
    assert (found.widths.beyond, found.widths.n_levels) == (None, 0)


def test_errors_are_of_the_rows_in_the_mask(table):
    (model,) = fit_time_models(PHYSICS, table, np.ones((1, len(table)), bool), 0)
    mask = np.arange(len(table)) < 3
    expected = abs(np.log(model.times(table.configs[:3]) / table.seconds[:3]))
    np.testing.assert_array_equal(log_errors(model, table, mask), expected)


# --- order ------------------------------------------------------------------------------------------------------------


def linear_model(depth=0.0, filters=0.0, batch=0.0, **box):
    """log time = a sum of the features, each times a number; no law."""
    features = np.array([[2.0, 4.0, 5.0], [5.0, 7.0, 11.0]])
    inputs = replace(Inputs.of(features, FEATURE_NAMES, is_clamped=False), mean=np.zeros(3), scale=np.ones(3), **box)
    kernel = np.array([depth, filters, batch]).reshape(1, 3, 1)
    return TimeModel(None, Network((kernel,), (np.zeros((1, 1)),)), inputs, 1.0, 50_000)


STEPS = {name: len(values) - 1 for name, values in GRID.items()}
SIZES = {name: len(values) for name, values in GRID.items()}


@pytest.mark.parametrize(
    ("slopes", "expected"),
    [
        ({}, 0),
        ({"depth": 0.1, "filters": 0.1, "batch": -0.5}, 0),
        ({"batch": 0.5}, 0),  # of batch size nothing is said
        ({"depth": -0.1}, STEPS["depth"] * SIZES["base_filters"] * SIZES["batch_size"]),
        ({"depth": 0.1, "filters": -0.1}, SIZES["depth"] * STEPS["base_filters"] * SIZES["batch_size"]),
    ],
)
def test_every_step_up_in_depth_or_filters_that_is_faster_counts(slopes, expected):
    assert order_violations(linear_model(**slopes)) == expected


def test_a_larger_batch_that_takes_longer_is_told_by_itself():
    falls = SIZES["depth"] * SIZES["base_filters"] * STEPS["batch_size"]
    assert violations_by_axis(linear_model(batch=0.5)) == {"depth": 0, "base_filters": 0, "batch_size": falls}


def test_clamped_to_the_measured_box_nothing_falls_outside_it():
    box = {"low": np.array([2.0, 4, 5]), "high": np.array([5.0, 7, 11])}
    assert order_violations(linear_model(depth=-0.1, **box)) == 3 * SIZES["base_filters"] * SIZES["batch_size"]


def test_a_law_of_measured_rows_keeps_the_order(table):
    (model,) = fit_time_models(PHYSICS, table, np.ones((1, len(table)), bool), 0)
    assert order_violations(model) == 0
