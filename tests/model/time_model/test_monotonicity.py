"""A bigger network is not faster: how often a model says otherwise."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.features import FEATURE_NAMES
from epochcast.model.time_model.monotonicity import GRID, N_TIMES, order_violations, violations_by_axis
from epochcast.model.time_model.time_model import Inputs, Table, TimeModel
from epochcast.model.training.recipes import PHYSICS, fit_time_models
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs


@pytest.fixture
def table(reference_data):
    """Eighteen of the reference rows, over the whole box."""
    return Table.of(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows[::8])


def linear_model(depth=0.0, filters=0.0, batch=0.0, **box):
    """log time = a sum of the features, each times a number; no law."""
    features = np.array([[2.0, 4.0, 5.0], [5.0, 7.0, 11.0]])
    inputs = replace(Inputs.of(features, FEATURE_NAMES, is_clamped=False), mean=np.zeros(3), scale=np.ones(3), **box)
    kernel = np.array([depth, filters, batch]).reshape(1, 3, 1)
    return TimeModel(None, Ensemble((kernel,), (np.zeros((1, 1)),)), inputs, 1.0, 50_000)


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


def test_the_number_of_times_is_that_of_the_grid():
    assert len({RunConfig(*values) for values in itertools.product(*GRID.values())}) == N_TIMES
