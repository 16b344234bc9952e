"""What the regressors are given of a configuration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from epochcast.model.time_model.features import FEATURE_NAMES, REFERENCE_FEATURE_NAMES, feature_matrix
from epochcast.schema import RunConfig
from epochcast.workload.shape import count_params


def test_features_are_depth_and_the_binary_logs_of_the_rest():
    assert FEATURE_NAMES == ("depth", "log2_base_filters", "log2_batch_size")
    np.testing.assert_array_equal(feature_matrix([RunConfig(3, 32, 512)], FEATURE_NAMES, 50_000), [[3, 5, 9]])


@pytest.mark.parametrize("train_n", [50_000, 1_000])
def test_features_of_the_original_network_add_parameters_and_steps(train_n):
    (features,) = feature_matrix([RunConfig(3, 32, 512)], REFERENCE_FEATURE_NAMES, train_n)
    steps = {50_000: 98, 1_000: 2}[train_n]
    np.testing.assert_allclose(
        features, [3, 32, 9, math.log10(count_params(RunConfig(3, 32))), math.log10(steps)], rtol=1e-12
    )


@pytest.mark.parametrize("config", [RunConfig(1, 1, 1), RunConfig(5, 48, 33), RunConfig(6, 1024, 50_000)])
@pytest.mark.parametrize("train_n", [50_000, 1_000])
def test_features_tell_the_configuration_again(config, train_n):
    ((depth, log2_filters, log2_batch),) = feature_matrix([config], FEATURE_NAMES, train_n)
    assert RunConfig(int(depth), round(2**log2_filters), round(2**log2_batch)) == config


def test_a_matrix_has_a_row_for_each_configuration_and_a_column_for_each_name_in_order():
    configs = [RunConfig(2, 16, 64), RunConfig(5, 128, 48)]
    swapped = ("log2_batch_size", "depth")
    one_by_one = [feature_matrix([c], swapped, 50_000)[0] for c in configs]
    np.testing.assert_array_equal(feature_matrix(iter(configs), swapped, 50_000), one_by_one)
    np.testing.assert_array_equal(
        feature_matrix(configs, swapped, 50_000), feature_matrix(configs, FEATURE_NAMES, 50_000)[:, [2, 0]]
    )


@pytest.mark.parametrize("names", [FEATURE_NAMES, REFERENCE_FEATURE_NAMES])
def test_no_configuration_gives_a_matrix_of_no_rows(names):
    assert feature_matrix([], names, 50_000).shape == (0, len(names))
