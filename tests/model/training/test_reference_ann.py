"""The original network: repeatable for a seed, each mask on its own, its rows in a new order every epoch."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.time_model.features import REFERENCE_FEATURE_NAMES
from epochcast.model.time_model.time_model import Table
from epochcast.model.training import reference_ann
from epochcast.model.training.recipes import REFERENCE_ANN, fit_time_models
from epochcast.storage.tables import read_runs
from tests.support.models.eager_steps import eager_steps

HALF = np.arange(143) % 2 == 0
MASKS = np.array([np.ones(143, bool), HALF])


@pytest.fixture
def table(reference_data):
    """The reference table, stalls left out."""
    return Table.of(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows)


@pytest.fixture
def eager():
    with eager_steps():
        yield


@pytest.fixture
def epochs(monkeypatch):
    """Set how many epochs a training has at most."""
    return lambda n: monkeypatch.setattr(reference_ann, "MAX_EPOCHS", n)


def weights(model):
    return np.concatenate([a.ravel() for a in (*model.ensemble.kernels, *model.ensemble.biases)])


def mean_error(model, table):
    return np.abs(np.log(model.times(table.configs) / table.seconds)).mean()


def test_it_learns_the_table_without_a_law(table, epochs):
    epochs(40)
    told = []
    models = fit_time_models(REFERENCE_ANN, table, MASKS, 0, say=told.append)
    assert mean_error(models[0], table) < 0.2 < np.log(table.seconds).std()
    for model in models:
        assert (model.law, model.ensemble.activation, model.residual_scale) == (None, "relu", 1)
        assert model.inputs.names == REFERENCE_FEATURE_NAMES
        assert [k.shape for k in model.ensemble.kernels] == [(1, 5, 64), (1, 64, 64), (1, 64, 1)]
    assert told == sorted(told)
    assert told[-1] == 1


@pytest.mark.usefixtures("eager")
def test_a_seed_gives_the_same_weights_again_whatever_rows_outside_the_mask_say_and_another_seed_others(table, epochs):
    epochs(2)
    changed = Table(table.configs, np.where(HALF, table.seconds, 50 * table.seconds), table.train_n)
    of_all, of_half = fit_time_models(REFERENCE_ANN, table, MASKS, 3)
    other_all, same_half = fit_time_models(REFERENCE_ANN, changed, MASKS, 3)
    np.testing.assert_array_equal(weights(same_half), weights(of_half))
    assert not np.array_equal(weights(other_all), weights(of_all))
    for model in fit_time_models(REFERENCE_ANN, table, MASKS, 4):
        assert np.isclose(weights(model), weights(of_half)).mean() < 0.05  # biases near 0 may be close by chance


@pytest.mark.usefixtures("eager")
def test_rows_come_in_a_new_order_every_epoch_and_for_every_network(table, epochs, monkeypatch):
    import keras

    epochs(3)
    row_of = {np.float32(np.log(seconds)): row for row, seconds in enumerate(table.seconds)}
    assert len(row_of) == len(table)
    seen = [[], []]
    train = keras.Model.train_on_batch

    def watched(self, x, y, sample_weight):
        for member, rows in enumerate(seen):
            rows += [row_of[time] for time in y[sample_weight[:, member] > 0, member]]
        return train(self, x, y, sample_weight)

    monkeypatch.setattr(keras.Model, "train_on_batch", watched)
    fit_time_models(REFERENCE_ANN, table, np.ones((2, 143), bool), 0)
    orders = [np.array(rows).reshape(3, -1) for rows in seen]
    for epochs_of_one in orders:
        n_validation = round(reference_ann.VALIDATION_SHARE * len(table))
        assert epochs_of_one.shape == (3, len(table) - n_validation)
        np.testing.assert_array_equal(np.sort(epochs_of_one), np.sort(epochs_of_one[:1]).repeat(3, axis=0))
        assert len({tuple(order) for order in epochs_of_one}) == 3
    assert set(orders[0][0]) != set(orders[1][0])  # each has a validation part of its own


@pytest.mark.usefixtures("eager")
def test_training_stops_without_a_gain_and_keeps_the_best_weights(table, epochs, monkeypatch):
    epochs(100)
    monkeypatch.setattr(reference_ann, "PATIENCE", 3)
    monkeypatch.setattr(reference_ann, "LEARNING_RATE", 0.0)
    told = []
    (still,) = fit_time_models(REFERENCE_ANN, table, MASKS[:1], 0, say=told.append)
    assert len(told) < 8  # the first epoch, three without a gain, and the end
    assert told[-1] == 1
    assert not weights(still)[-1]  # the last bias, as it began
