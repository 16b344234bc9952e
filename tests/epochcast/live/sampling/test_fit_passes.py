"""Passes of real fits: stamps, cuts, endless data, and what is known."""

from __future__ import annotations

import math
import time
import warnings
from itertools import pairwise

import numpy as np
import pytest

from epochcast.live.sampling.estimator import sample
from epochcast.live.sampling.input_data import batch_sec, has_smaller_last_batch
from epochcast.machine.framework import keras_on_cpu

keras = keras_on_cpu()

from epochcast.live.sampling.fit_passes import Epochs, FitTraining, Stamps, moment  # noqa: E402  # Keras starts on the processor

N, BATCH = 70, 8
X, Y = np.zeros((N, 4), "float32"), np.zeros((N, 1), "float32")
SLOW_SEC = 0.02


class Slow(keras.utils.PyDataset):
    """Batches that take their time."""

    def __len__(self):
        return 9

    def __getitem__(self, at):
        time.sleep(SLOW_SEC)
        return X[:BATCH], Y[:BATCH]


def compiled(**how):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True, **how)
    return model


def training(x=X, y=Y, model=None, **options):
    return FitTraining(model or compiled(), x, y, {"batch_size": BATCH, "epochs": 3, **options}, 1.0)


def endless():
    while True:
        yield X[:BATCH], Y[:BATCH]


@pytest.mark.parametrize(
    ("given", "batches", "most_steps"),
    [
        ({}, 9, 8),
        ({"validation_split": 0.5}, 5, 4),
        ({"x": Slow(), "y": None, "batch_size": None}, 9, 8),
        ({"x": endless(), "y": None, "batch_size": None, "shuffle": False, "steps_per_epoch": 7}, 7, 7),
        ({"batch_size": 100}, 1, 0),
    ],
)
def test_the_steps_of_an_epoch_are_found(given, batches, most_steps):
    found = training(**given)
    assert (found.batches, found.steps, found.most_steps) == (batches, batches, most_steps)


def test_several_steps_of_an_execution_are_one():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=3)
    found = training(model=model)
    assert (found.batches, found.steps, found.most_steps) == (9, 3, 2)
    assert [sorted(each) for each in found.passes([1, 2], 2, math.inf)] == [[0, 1, 2]] * 2


@pytest.mark.parametrize(
    "given", [{}, {"x": endless(), "y": None, "batch_size": None, "shuffle": False, "steps_per_epoch": 7}]
)
def test_passes_are_stamped_at_their_marks(given):
    found = training(**given).passes([1, 3, 5], 4, math.inf)
    assert [sorted(each) for each in found] == [[0, 1, 3, 5]] * 4
    for each in found:
        times = [each[at].wall_sec for at in sorted(each)]
        assert times == sorted(times)


def test_a_pass_under_way_at_the_end_is_stopped_after_its_step():
    tried = training(Slow(), None, batch_size=None)
    found = tried.passes([1, 8], 10, time.perf_counter() + 3.5 * SLOW_SEC)
    assert len(found) == 1
    assert 1 <= max(found[0]) < 8


def test_whole_epochs_under_way_at_the_end_are_none_of_them():
    tried = training(Slow(), None, batch_size=None)
    begin = time.perf_counter()
    moments = tried.epochs(50, begin + 2.5 * 9 * SLOW_SEC)
    assert len(moments) <= 3  # before, after one and after two epochs
    assert all(later.since(earlier).wall_sec >= 9 * SLOW_SEC for earlier, later in pairwise(moments))


@pytest.mark.parametrize("budget_sec", [0.01, 0.5])
def test_an_epoch_of_slow_data_is_estimated(budget_sec):
    tried = training(Slow(), None, batch_size=None)
    found = sample(tried, budget_sec, time.perf_counter)
    assert found.epochs
    # no sleep is shorter than asked; but batches wait ready where the machine stopped the training for a while
    assert max(epoch.sec.wall_sec for epoch in found.epochs) >= 0.9 * 9 * SLOW_SEC


@pytest.mark.parametrize("stamps", [Stamps([1, 5]), Epochs(0.0)])
def test_keras_fetches_no_logs_of_steps_for_our_clocks(monkeypatch, stamps):
    """With a hook after a step it would, and no step would overlap the next."""
    from keras.src.callbacks import callback_list

    monkeypatch.setattr(callback_list.backend, "IS_THREAD_SAFE", True)  # as under JAX
    keras_s_own = keras.callbacks.CallbackList([stamps], model=compiled())
    assert keras_s_own._async_train is True

    class After(type(stamps)):
        def on_train_batch_end(self, batch, logs=None):
            pass

    after = After.__new__(After)
    after.__dict__.update(vars(stamps))
    assert keras.callbacks.CallbackList([after], model=compiled())._async_train is False


@pytest.mark.parametrize("make", [lambda: Stamps([5]), lambda: Epochs(math.inf)])
def test_the_hook_of_a_step_does_not_ask_for_the_model(make):
    """Under JAX Keras would copy the state of the training back into it."""

    class Asked(make().__class__):
        @property
        def model(self):
            raise AssertionError("asked for")

    stamps = Asked.__new__(Asked)
    stamps.__dict__.update(vars(make()) | {"passes": [{0: moment()}]})
    stamps.on_train_batch_begin(3)


def finite(n):
    for _ in range(n):
        yield X[:BATCH], Y[:BATCH]


@pytest.mark.parametrize("n", [40, 12, 3])
def test_data_that_end_while_they_are_tried_give_no_empty_epochs(n):
    tried = training(finite(n), None, batch_size=None, shuffle=False, steps_per_epoch=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own, of data that ended
        try:
            found = sample(tried, 60.0, time.perf_counter)
        except ValueError as error:
            assert n == 3 and "the data ended before" in str(error)
            return
    assert tried.ended_after is not None
    assert 1 <= len(found.epochs) <= n // 2  # a pass takes two batches at least, and an empty one none
    assert all(block.steps >= 1 for block in found.blocks)


def test_a_fit_of_a_class_s_own_is_called_only_where_it_is_asked_for():
    calls = []

    class Own(keras.Sequential):
        def fit(self, *given, **named):
            calls.append(len(calls))
            return super().fit(*given, **named)

    model = Own([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    FitTraining(model, X, Y, {"batch_size": BATCH}, 1.0, keras.Model.fit)
    assert calls == []
    FitTraining(model, X, Y, {"batch_size": BATCH}, 1.0)
    assert calls


def test_data_are_timed_alone():
    assert batch_sec(Slow(), 5.0) >= SLOW_SEC
    assert batch_sec(X, 5.0) is None
    assert batch_sec(endless(), 5.0) is None


@pytest.mark.parametrize(
    ("x", "options", "is_smaller"),
    [
        (X, {"batch_size": BATCH}, True),
        (X, {"batch_size": 10}, False),
        ([X, X], {"batch_size": 10}, False),
        ({"a": X}, {}, True),  # of 32 each
        (X, {"batch_size": 5, "validation_split": 0.5}, False),
        (X, {"batch_size": BATCH, "steps_per_epoch": 4}, False),
        (Slow(), {}, False),
    ],
)
def test_a_smaller_last_batch_is_known(x, options, is_smaller):
    assert has_smaller_last_batch(x, options) is is_smaller


def test_a_smaller_last_batch_of_a_dataset_is_known():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    assert has_smaller_last_batch(data.batch(8), {}) is True
    assert has_smaller_last_batch(data.batch(8, drop_remainder=True), {}) is False
    assert batch_sec(data.batch(8), 5.0) > 0
