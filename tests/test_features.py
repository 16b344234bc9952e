"""What the regressor is given of a configuration."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.schema import RunConfig
from model.features import FEATURE_NAMES, feature_matrix, feature_vector


def test_features_are_depth_and_the_binary_logs_of_the_rest():
    assert FEATURE_NAMES == ("depth", "log2_base_filters", "log2_batch_size")
    assert feature_vector(RunConfig(3, 32, 512)) == [3.0, 5.0, 9.0]


@pytest.mark.parametrize("config", [RunConfig(1, 1, 1), RunConfig(5, 48, 33), RunConfig(6, 1024, 50_000)])
def test_features_tell_the_configuration_again(config):
    depth, log2_filters, log2_batch = feature_vector(config)
    assert RunConfig(int(depth), round(2**log2_filters), round(2**log2_batch)) == config


def test_a_matrix_has_a_row_for_each_configuration_in_order():
    configs = [RunConfig(2, 16, 64), RunConfig(5, 128, 48)]
    np.testing.assert_array_equal(feature_matrix(iter(configs)), [feature_vector(c) for c in configs])


def test_no_configuration_gives_a_matrix_of_no_rows():
    assert feature_matrix([]).shape == (0, 3)
