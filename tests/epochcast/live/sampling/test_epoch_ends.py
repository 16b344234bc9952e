"""Times and numbers of validations and checkpoints of real fits."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from epochcast.machine.framework import keras_on_cpu

keras = keras_on_cpu()

from epochcast.live.sampling.epoch_ends import (  # noqa: E402  # Keras starts on the processor
    callbacks_of,
    earliest_end,
    n_validations_of,
    timed_checkpoints,
    timed_validations,
)

N, BATCH, SLOW_SEC = 24, 8, 0.02
X, Y = np.zeros((N, 4), "float32"), np.zeros((N, 1), "float32")
checkpoint = keras.callbacks.ModelCheckpoint


class Slow(keras.utils.PyDataset):
    """Batches that take their time; counts what it gave."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self.n_given = batches, 0

    def __len__(self):
        return self.batches

    def __getitem__(self, at):
        time.sleep(SLOW_SEC)
        self.n_given += 1
        return X[:BATCH], Y[:BATCH]


class Late(keras.layers.Layer):
    """Takes some seconds once, as if it were compiled."""

    sec = 0.0

    def call(self, inputs):
        time.sleep(self.sec)
        self.sec = 0.0
        return inputs


def compiled(first_sec=0.0):
    late = Late()
    model = keras.Sequential([keras.Input((4,)), late, keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.train_on_batch(X[:BATCH], Y[:BATCH])
    late.sec = first_sec
    return model


def validated(data, budget_sec, first_sec=0.0, **options):
    """What is found of the validations of a fit of two epochs."""
    training = SimpleNamespace(model=compiled(first_sec), validation_data=lambda: (data, None, None))
    return timed_validations(training, {"epochs": 2, **options}, budget_sec)


def batches(n):
    for _ in range(n):
        time.sleep(SLOW_SEC)
        yield X[:BATCH], Y[:BATCH]


class Fitted(keras.callbacks.Callback):
    """Counts the validations and notes the last epoch of a fit."""

    n_validations = last_epoch = 0

    def on_test_begin(self, logs=None):
        self.n_validations += 1

    def on_epoch_end(self, epoch, logs=None):
        self.last_epoch = epoch + 1


@pytest.mark.parametrize(
    ("initial_epoch", "epochs", "freq"), [(0, 5, 1), (0, 5, 2), (3, 7, 2), (3, 7, [1, 4, 7]), (2, 4, 5), (0, 3, [9])]
)
def test_validations_are_counted_as_keras_makes_them(initial_epoch, epochs, freq):
    fitted, options = Fitted(), {"initial_epoch": initial_epoch, "epochs": epochs, "validation_freq": freq}
    compiled().fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=[fitted], **options)
    assert n_validations_of(initial_epoch, epochs, freq) == fitted.n_validations


def test_no_validation_is_timed_where_the_fit_has_none():
    data = Slow(3)
    found = validated(data, 5.0, validation_freq=3)
    assert (found.each, found.n, data.n_given) == (None, 0, 0)


def test_a_validation_that_fits_twice_is_timed_twice():
    found = validated(Slow(4), 30.0, first_sec=1.0)
    assert found.n == 2
    assert found.each.sec >= 4 * SLOW_SEC
    assert found.more_sec > 0.3  # of the second of the first batch, on a busy machine too


def test_a_validation_that_fits_once_is_the_answer_without_its_first_batch():
    data = Slow(20)
    found = validated(data, 1.5 * 20 * SLOW_SEC, first_sec=1.0)
    assert data.n_given < 30  # Keras reads some ahead
    assert found.each.sec >= 20 * SLOW_SEC
    assert found.more_sec > 0.3


def test_a_validation_longer_than_its_share_is_cut_and_extrapolated():
    data = Slow(500)
    found = validated(data, 10 * SLOW_SEC)
    assert data.n_given < 250
    assert found.each.sec >= 500 * SLOW_SEC
    assert not found.notes


def test_a_cut_validation_without_a_length_is_unknown():
    found = validated(batches(1000), 10 * SLOW_SEC)
    assert (found.each, found.n) == (None, 2)
    (note,) = found.notes
    assert "do not say how many batches" in note


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(("steps", "n"), [(None, 1), (10, 2)])
def test_a_generator_is_gone_through_once(steps, n):
    given = batches(10)
    found = validated(given, 5.0, validation_steps=steps)
    assert found.each.sec >= 9 * SLOW_SEC
    assert (found.n, len(found.notes)) == (n, 1 if steps is None else 0)


def test_a_generator_that_gives_nothing_does_not_end_the_estimate():
    found = validated(batches(0), 5.0)
    assert found.each is None
    assert len(found.notes) == 1


def written(monkeypatch, savers, *secs):
    """Return the checkpoints of 3 epochs whose saves take these seconds."""
    model, left = compiled(), list(secs)
    for name in ("save", "save_weights"):
        monkeypatch.setattr(model, name, lambda path: time.sleep(left.pop(0)))
    found = timed_checkpoints(model, {"callbacks": savers}, 3, 27)
    assert not left
    return found


def test_what_only_the_first_save_takes_comes_once(monkeypatch):
    found = written(monkeypatch, [checkpoint("a.keras"), checkpoint("b.keras")], 0.5, 0.05)
    assert found.n == 6
    assert 0.05 <= found.sec < 0.3 < found.more_sec < 0.6


def test_each_saver_is_timed_by_what_it_saves(monkeypatch):
    savers = [checkpoint("a.keras", save_freq=2), checkpoint("b.weights.h5", save_weights_only=True)]
    found = written(monkeypatch, savers, 0.1, 0.1, 0.4, 0.4)
    assert found.n == 13 + 3
    assert 13 * 0.1 + 3 * 0.4 <= found.n * found.sec < 13 * 0.1 + 3 * 0.4 + 0.6


@pytest.mark.parametrize("save_freq", ["epoch", 2, 4, 27, 28])
def test_checkpoints_are_counted_as_keras_writes_them(tmp_path, save_freq):
    saver = checkpoint(tmp_path / "{epoch}-{batch}.keras" if save_freq != "epoch" else tmp_path / "{epoch}.keras")
    saver.save_freq = save_freq
    model = compiled()
    model.fit(X[:9], Y[:9], batch_size=1, epochs=3, verbose=0, callbacks=[saver])
    found = timed_checkpoints(model, {"callbacks": saver}, 3, 27)
    assert found.n == len(list(tmp_path.iterdir()))
    assert (found.sec is None) == (found.n == 0)


def test_checkpoints_of_the_best_model_only_are_at_most_so_many(monkeypatch):
    (note,) = written(monkeypatch, [checkpoint("a.keras", save_best_only=True)], 0.0, 0.0).notes
    assert "at most 3 checkpoints" in note


def test_callbacks_are_found_in_whatever_keras_takes():
    one, other = keras.callbacks.TerminateOnNaN(), checkpoint("a.keras")
    for given in ([one, other], (one, other), [[one], other], keras.callbacks.CallbackList([one, other])):
        assert callbacks_of({"callbacks": given}) == [one, other]
    assert callbacks_of({"callbacks": one}) == [one]
    assert callbacks_of({}) == callbacks_of({"callbacks": None}) == []


BASELINES, STARTS, PATIENCES = (None, -1.0), ((0, 0), (0, 2), (3, 2), (2, 4)), (0, 1, 2, 3)
STOPS = [(b, *s, p) for b in BASELINES for s in STARTS for p in PATIENCES]


@pytest.mark.parametrize(  # each value with some others; all with all: slow
    ("baseline", "initial_epoch", "start_from_epoch", "patience"),
    [pytest.param(*each, marks=() if i % 5 == 0 else pytest.mark.slow) for i, each in enumerate(STOPS)],
)
def test_early_stopping_ends_a_fit_that_gets_no_better_at_its_earliest_end(
    patience, initial_epoch, start_from_epoch, baseline
):
    """All data are zeros, so that the loss is the same in each epoch."""
    stop = keras.callbacks.EarlyStopping(
        "loss", patience=patience, start_from_epoch=start_from_epoch, baseline=baseline, mode="min"
    )
    fitted = Fitted()
    compiled().fit(X[:1], Y[:1], epochs=15, initial_epoch=initial_epoch, verbose=0, callbacks=[stop, fitted])
    assert fitted.last_epoch - initial_epoch == earliest_end(stop, initial_epoch)
