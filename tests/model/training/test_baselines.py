"""The plain regressors recover exactly the law that each of them stands for."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from epochcast.model.training.baselines import affine_in_steps, linear_on_logs
from epochcast.schema import RunConfig
from epochcast.workload.shape import count_params

TRAIN = [RunConfig(*c) for c in product((2, 3, 4), (16, 32, 64), (64, 100, 256))]
TEST = [RunConfig(2, 16, 512), RunConfig(3, 64, 32), RunConfig(4, 32, 128)]


def power_law(config, train_n=50_000):
    params, steps = count_params(config), config.steps_per_epoch(train_n)
    return math.exp(0.3 * config.depth) * config.base_filters**0.7 * config.batch_size**-0.2 * params**0.1 * steps**0.5


def affine_law(config, train_n=50_000):
    return 0.4 * config.depth + 1e-5 * config.base_filters * config.steps_per_epoch(train_n)


@pytest.mark.parametrize("train_n", [50_000, 1_000])
def test_linear_on_logs_recovers_a_power_law(train_n):
    times = np.array([power_law(c, train_n) for c in TRAIN])
    expected = [power_law(c, train_n) for c in TEST]
    # relative 1e-9: least squares in double precision, columns of a condition below 1e4
    np.testing.assert_allclose(linear_on_logs(TRAIN, times, TEST, train_n), expected, rtol=1e-9)


@pytest.mark.parametrize("train_n", [50_000, 1_000])
def test_affine_in_steps_recovers_each_network_s_own_line(train_n):
    times = np.array([affine_law(c, train_n) for c in TRAIN])
    expected = [affine_law(c, train_n) for c in TEST]
    np.testing.assert_allclose(affine_in_steps(TRAIN, times, TEST, train_n), expected, rtol=1e-9)  # double precision


def test_affine_in_steps_has_no_answer_with_fewer_than_two_batch_sizes():
    train = [RunConfig(2, 16, 64), RunConfig(3, 32, 64), RunConfig(3, 32, 128)]
    test = [RunConfig(2, 16, 128), RunConfig(4, 16, 64), RunConfig(3, 32, 256)]
    answers = affine_in_steps(train, np.array([2.0, 3.0, 2.0]), test)
    assert list(np.isnan(answers)) == [True, True, False]


def test_affine_in_steps_has_no_answer_where_its_line_falls_below_zero():
    train = [RunConfig(2, 16, 64), RunConfig(2, 16, 128)]
    assert np.isnan(affine_in_steps(train, np.array([10.0, 1.0]), [RunConfig(2, 16, 2048)])).all()
