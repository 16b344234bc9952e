"""A time model: a law times the exponential of a correction that says nothing new outside its box."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.features import FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.physics import Law
from epochcast.model.time_model.time_model import Inputs, Table, TimeModel
from epochcast.schema import RunConfig
from tests.support.rows import agg_row

MEASURED = [RunConfig(*c) for c in product((2, 3, 4), (16, 32, 64), (64, 256, 1024))]
FEATURES = feature_matrix(MEASURED, FEATURE_NAMES, 50_000)
LAW = Law("physics_6", np.array([0.2, 1e-3, 3e-4, 9e-11, 6e-15, 4e-12]), 50_000)


def random_network(seed, members=3):
    random = np.random.default_rng(seed)
    kernels = (random.normal(size=(members, 3, 8)), random.normal(size=(members, 8, 1)))
    return Ensemble(kernels, (random.normal(size=(members, 8)), random.normal(size=(members, 1))))


def time_model(network, law=LAW, scale=0.3, *, is_clamped=True):
    return TimeModel(law, network, Inputs.of(FEATURES, FEATURE_NAMES, is_clamped), scale, 50_000)


def test_a_table_holds_configurations_and_seconds_in_the_rows_order():
    table = Table.of([agg_row(2, 16, 64, 2.5, train_n=1_000), agg_row(3, 32, 128, 1.5, train_n=1_000)])
    assert (table.configs, list(table.seconds), table.train_n) == (
        [RunConfig(2, 16, 64), RunConfig(3, 32, 128)],
        [2.5, 1.5],
        1_000,
    )
    assert len(table) == 2
    second = table.take(np.array([False, True]))
    assert (second.configs, list(second.seconds), second.train_n) == ([RunConfig(3, 32, 128)], [1.5], 1_000)


def test_a_table_that_does_not_say_how_many_images_has_those_of_cifar10():
    assert Table.of([agg_row()]).train_n == 50_000


def test_standardised_features_have_mean_zero_and_spread_one():
    x = Inputs.of(FEATURES, FEATURE_NAMES).standardised(FEATURES)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)  # double precision
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-12)


def test_a_feature_that_never_varied_has_no_effect():
    configs = [RunConfig(3, 32, b) for b in (64, 128)]
    inputs = Inputs.of(feature_matrix(configs, FEATURE_NAMES, 50_000), FEATURE_NAMES)
    elsewhere = feature_matrix([RunConfig(6, 256, 64), RunConfig(1, 8, 128)], FEATURE_NAMES, 50_000)
    np.testing.assert_array_equal(inputs.standardised(elsewhere)[:, :2], 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("outside", "on_the_border"),
    [
        (RunConfig(6, 32, 256), RunConfig(4, 32, 256)),
        (RunConfig(1, 32, 256), RunConfig(2, 32, 256)),
        (RunConfig(3, 256, 100), RunConfig(3, 64, 100)),
        (RunConfig(3, 8, 100), RunConfig(3, 16, 100)),
        (RunConfig(3, 32, 4096), RunConfig(3, 32, 1024)),
        (RunConfig(3, 32, 16), RunConfig(3, 32, 64)),
        (RunConfig(6, 256, 16), RunConfig(4, 64, 64)),
    ],
)
def test_outside_the_box_the_correction_is_that_on_its_border(seed, outside, on_the_border):
    model = time_model(random_network(seed))
    correction, expected = model.times([outside, on_the_border]) / LAW.seconds([outside, on_the_border])
    assert correction == pytest.approx(expected, rel=1e-12)  # double precision
    free = time_model(random_network(seed), is_clamped=False)
    correction, expected = free.times([outside, on_the_border]) / LAW.seconds([outside, on_the_border])
    assert correction != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_reach_lets_the_correction_follow_one_input_that_far_and_no_further(seed):
    clamped = time_model(random_network(seed))
    reaching = clamped.reaching("depth", 1)
    free = time_model(random_network(seed), is_clamped=False)

    def corrections(model, *configs):
        return model.times([RunConfig(*c) for c in configs]) / LAW.seconds([RunConfig(*c) for c in configs])

    np.testing.assert_allclose(reaching.times(MEASURED), clamped.times(MEASURED), rtol=1e-12)  # double precision
    one_beyond = [(5, 32, 256), (1, 32, 256)]
    np.testing.assert_allclose(corrections(reaching, *one_beyond), corrections(free, *one_beyond), rtol=1e-12)
    assert not np.isclose(corrections(reaching, *one_beyond), corrections(clamped, *one_beyond), rtol=1e-3).any()
    further, wider = corrections(reaching, (7, 32, 256), (5, 256, 4096))
    assert further == pytest.approx(corrections(reaching, (5, 32, 256)).item(), rel=1e-12)
    assert wider == pytest.approx(corrections(reaching, (5, 64, 1024)).item(), rel=1e-12)


def test_without_a_correction_the_law_answers():
    np.testing.assert_allclose(time_model(Ensemble.zero(3)).times(MEASURED), LAW.seconds(MEASURED), rtol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_median_member_answers(scale):
    offsets = np.array([[0.3], [-5.0], [0.1], [0.2], [9.0]])
    network = Ensemble((np.zeros((5, 3, 1)),), (offsets,))
    expected = np.exp(0.2 * scale)
    np.testing.assert_allclose(time_model(network, scale=scale).times(MEASURED) / LAW.seconds(MEASURED), expected)
    np.testing.assert_allclose(time_model(network, None, scale).times(MEASURED), expected)  # rtol 1e-7, the default


def test_one_prediction_does_not_depend_on_the_others_asked_for():
    model = time_model(random_network(0))
    together = model.times(MEASURED)
    alone = [model.times([config])[0] for config in MEASURED]
    np.testing.assert_allclose(together, alone, rtol=1e-12)  # order of double sums
    assert model.times([]).shape == (0,)


def test_a_time_that_is_no_number_is_refused_and_its_configuration_named():
    network = Ensemble((np.array([[[600.0], [0.0], [0.0]]]),), (np.zeros((1, 1)),))
    model = time_model(network, law=None, scale=1.0, is_clamped=False)
    with pytest.raises(ValueError, match=r"^\(16,32,256\): too far outside what the model learned from"):
        model.times([RunConfig(3, 32, 256), RunConfig(16, 32, 256)])


def test_a_law_of_no_time_at_all_is_refused_without_a_warning():
    with pytest.raises(ValueError, match="too far outside"):
        time_model(Ensemble.zero(3), Law("physics_6", np.zeros(6), 50_000)).times(MEASURED[:1])
