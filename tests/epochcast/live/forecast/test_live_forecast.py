"""Fits that a LiveForecast follows."""

from __future__ import annotations

import io
import json
import math
import time
import warnings
from dataclasses import fields

import numpy as np
import pytest

from epochcast.live.fits import FitRecord, append_fit, read_fits
from epochcast.machine.framework import keras_on_cpu
from epochcast.paths import fits_csv

keras = keras_on_cpu()

from epochcast import LiveForecast  # noqa: E402  # Keras starts on the processor
from epochcast.live.forecast import live_forecast  # noqa: E402  # as above
from epochcast.live.forecast.history import history_json  # noqa: E402  # as above
from epochcast.live.forecast.live_forecast import ALL_EPOCHS, STOPPED, TIME_BUDGET  # noqa: E402  # as above

N, BATCH = 40, 8
X, Y = np.zeros((N, 4), "float32"), np.zeros((N, 1), "float32")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))


def compiled(optimizer="sgd", **how):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", run_eagerly=True, **how)
    return model


def followed(model=None, x=X, y=Y, live=None, callbacks=(), **options):
    live = live or LiveForecast()
    options = {"batch_size": BATCH, "epochs": 3, "verbose": 0} | options
    (model or compiled()).fit(x, y, callbacks=[live, *callbacks], **options)
    return live


class Shown(io.StringIO):
    """A standard error that says what it is."""

    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "show", "n"), [(True, "auto", 4), (False, "auto", 0), (False, "lines", 4), (True, "none", 0)]
)
def test_a_line_stands_for_each_epoch_where_it_is_seen_or_asked_for(monkeypatch, is_terminal, show, n):
    monkeypatch.setattr("sys.stderr", shown := Shown(is_terminal))
    followed(live=LiveForecast(show=show), epochs=4)  # three with something left, and the end
    lines = shown.getvalue().splitlines()
    assert len(lines) == n
    if n:
        assert lines[0].startswith("epochcast: epoch 1 of 4: about ")
        assert lines[-1].startswith("epochcast: 4 epochs in ")


def test_the_bar_counts_all_steps(monkeypatch):
    monkeypatch.setattr("sys.stderr", shown := Shown(True))
    followed(live=LiveForecast(show="bar"))
    assert "/15 " in shown.getvalue()
    assert "epoch 2 of 3" in shown.getvalue()


def test_the_history_says_each_epoch_and_forecast(tmp_path):
    path = tmp_path / "out" / "fit.json"
    live = followed(live=LiveForecast(history=path), validation_split=0.2, epochs=4, validation_freq=2)
    (fit,) = json.loads(path.read_text())["fits"]
    assert json.loads(json.dumps(history_json(live.fits)))["fits"] == [fit]
    assert (fit["epochs"], fit["steps"], fit["ended"], fit["model"]) == (4, 4, ALL_EPOCHS, "Sequential")
    assert [each["number"] for each in fit["done"]] == [1, 2, 3, 4]
    assert [each["is_first"] for each in fit["done"]] == [True, False, False, False]
    assert [each["validation_sec"] is not None for each in fit["done"]] == [False, True, False, True]
    assert [each["after_epoch"] for each in fit["forecasts"]] == [1, 2, 3, 4]
    assert [each["elapsed_sec"] < fit["sec"] for each in fit["forecasts"]] == [True] * 4
    last = fit["forecasts"][-1]
    assert (last["remaining_sec"], last["total_sec"]) == (0.0, last["elapsed_sec"])
    whole = sum(each["sec"]["wall_sec"] + (each["validation_sec"] or 0.0) for each in fit["done"])
    assert whole == pytest.approx(last["elapsed_sec"], rel=0.05)


def test_a_forecast_is_the_epochs_that_are_left_and_their_validations():
    live = followed(validation_split=0.2, epochs=6, validation_freq=[2, 5, 6])
    fit = live.fits[0]
    (second,) = (each for each in fit.forecasts if each.after_epoch == 2)
    steady, validation_sec = fit.done[1].sec.wall_sec, fit.done[1].validation_sec
    assert second.remaining.value == pytest.approx(4 * steady + 2 * validation_sec)
    assert second.total.value == pytest.approx(second.elapsed_sec + second.remaining.value)


def test_the_first_validation_counts_by_its_pace_for_it_is_compiled():
    class FirstIsSlow(keras.callbacks.Callback):
        n = 0

        def on_test_batch_begin(self, batch, logs=None):
            self.n += 1
            time.sleep(1.0 if self.n == 1 else 0.02)

    live = followed(validation_data=(X, Y), epochs=2, callbacks=[FirstIsSlow()])
    fit, paced_sec = live.fits[0], live._validations[0]
    assert fit.done[0].validation_sec > 1.0
    assert 0.08 <= paced_sec < fit.done[0].validation_sec - 0.5
    expected_sec = fit.forecasts[0].epoch.interval.value + paced_sec
    assert fit.forecasts[0].remaining.value == pytest.approx(expected_sec)


def test_a_finished_fit_is_a_row_and_the_next_one_begins_with_it():
    first = followed().fits[0]
    (row,) = read_fits(fits_csv())
    assert (row.run_id, row.kind, row.epochs, row.batches, row.batch_size) == (first.run_id, "fit", 3, 5, BATCH)
    assert row.timed_epoch_sec == pytest.approx(sum(each.timed_sec for each in first.done[1:]) / 2)
    second = followed().fits[0]
    assert (second.prior.run_id, second.prior.epoch_sec) == (row.run_id, row.epoch_sec)
    before = second.forecasts[0]
    assert (before.after_epoch, before.remaining.value) == (0, pytest.approx(3 * row.epoch_sec))
    assert followed(batch_size=4).fits[0].prior is None


@pytest.mark.parametrize(
    ("options", "remaining_sec"), [({"validation_data": (X, Y)}, 42.0), ({}, 39.0)], ids=["validates", "does not"]
)
def test_an_estimate_of_the_same_training_is_the_prior_with_its_range(options, remaining_sec):
    followed(**options)
    (row,) = read_fits(fits_csv())
    values = {field.name: getattr(row, field.name) for field in fields(FitRecord)}
    values |= {"kind": "estimate", "run_id": "estimate-a", "epoch_sec": 10.0, "epoch_sec_low": 8.0}
    values |= {"epoch_sec_high": 12.0, "save_sec": 3.0, "n_saves": 3, "validation_sec": 1.0}
    append_fit(fits_csv(), FitRecord(**values))
    live = followed(**options)
    prior, before = live.fits[0].prior, live.fits[0].forecasts[0]
    assert (prior.run_id, prior.epoch_sec, prior.half, prior.validation_sec) == (
        "estimate-a",
        13.0,
        pytest.approx(0.2),
        1.0,
    )
    assert (before.remaining.low, before.remaining.high) == pytest.approx((remaining_sec * 0.8, remaining_sec * 1.2))


def test_a_resumed_fit_counts_the_epochs_from_where_it_begins():
    live = followed(initial_epoch=5, epochs=8)
    assert [each.number for each in live.fits[0].done] == [6, 7, 8]
    assert [each.after_epoch for each in live.fits[0].forecasts] == [6, 7, 8]
    assert live.fits[0].ended == ALL_EPOCHS


def test_a_later_fit_of_the_same_step_goes_on_with_its_epochs():
    model, live = compiled(), LiveForecast()
    followed(model, live=live)
    followed(model, live=live)
    assert [each.is_first for fit in live.fits for each in fit.done] == [True] + 5 * [False]
    assert live.fits[1].forecasts[0].epoch.n == 2  # of the first fit
    model.compile("sgd", "mse", run_eagerly=True)
    followed(model, live=live)
    assert [each.is_first for each in live.fits[2].done] == [True, False, False]
    assert len(read_fits(fits_csv())) == 3


def endless():
    while True:
        yield X[:BATCH], Y[:BATCH]


@pytest.mark.parametrize(
    ("x", "options", "steps"),
    [
        (endless, {"steps_per_epoch": 7}, 7),
        (lambda: ((X[:BATCH], Y[:BATCH]) for _ in range(6)), {"epochs": 1}, 6),  # says no length
    ],
)
def test_data_without_an_end_or_a_length(x, options, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own, of data that ended
        live = followed(x=x(), y=None, batch_size=None, shuffle=False, **options)
    assert live.fits[0].steps == steps
    assert live.fits[0].forecasts


def test_early_stopping_is_named_by_the_epoch_that_it_can_come_after(monkeypatch):
    monkeypatch.setattr("sys.stderr", shown := Shown(True))
    stop = keras.callbacks.EarlyStopping("loss", patience=3)
    live = followed(epochs=20, callbacks=[stop])  # the loss is 0 from the first epoch on: after 1 it waits
    fit = live.fits[0]
    assert [each.earliest_stop for each in fit.forecasts] == [4, 4, 4, None]
    assert (len(fit.done), fit.ended) == (4, STOPPED)
    assert "left if all epochs run (earliest stop: after epoch 4)" in shown.getvalue()


class Sleeping(keras.callbacks.Callback):
    """Makes the steps of an epoch slow."""

    def __init__(self, epoch, sec=0.05):
        super().__init__()
        self.slow, self.sec, self.epoch = epoch, sec, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, step, logs=None):
        if self.epoch == self.slow:
            time.sleep(self.sec)


def test_a_fit_with_a_slow_epoch_is_stopped_within_it():
    live = followed(live=LiveForecast(time_budget_sec=2.0), callbacks=[Sleeping(2, 1.0)], epochs=10**6)
    fit = live.fits[0]
    assert (fit.ended, len(fit.done), fit.done[-1].is_cut) == (TIME_BUDGET, 3, True)


def test_without_room_for_another_epoch_it_ends_after_a_whole_one():
    live = LiveForecast(time_budget_sec=1000.0)

    class Late(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            live._deadline._end = time.perf_counter() + 20.0 + 1e-6  # as much as is kept free for the end

    compiled().fit(X, Y, batch_size=BATCH, epochs=9, verbose=0, callbacks=[Late(), live])
    assert (live.fits[0].ended, [each.is_cut for each in live.fits[0].done]) == (TIME_BUDGET, [False])


class Worse(keras.callbacks.Callback):
    """Sets the weights to the number of the epoch, and a loss that is best in the second one."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.layers[0].bias.assign([float(epoch)])
        logs["loss"] = [3.0, 1.0, 2.0, 4.0][epoch]


@pytest.mark.parametrize(("monitor", "bias"), [("loss", 1.0), (None, 3.0)])
def test_the_best_weights_are_restored_where_a_monitor_says_which(monitor, bias):
    model = compiled(keras.optimizers.SGD(0.0))
    live = LiveForecast(time_budget_sec=1000.0, monitor=monitor)

    class Late(keras.callbacks.Callback):
        def on_train_batch_begin(self, step, logs=None):
            if live._epoch == 3:
                live._deadline.is_over = True

    options = {"batch_size": BATCH, "epochs": 9, "verbose": 0}
    model.fit(X, Y, callbacks=[Late(), Worse(), live], **options)
    assert (live.fits[0].ended, len(live.fits[0].done)) == (TIME_BUDGET, 4)
    assert float(model.layers[0].bias.numpy()[0]) == bias


def test_a_validation_that_would_pass_the_deadline_is_cut():
    class Long(keras.utils.PyDataset):
        def __len__(self):
            return 10**6

        def __getitem__(self, at):
            return X[:BATCH], Y[:BATCH]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own, of workers
        live = followed(live=LiveForecast(time_budget_sec=1.0), validation_data=Long(), epochs=5)
    fit = live.fits[0]
    assert (fit.ended, [each.validation_sec for each in fit.done]) == (TIME_BUDGET, [None])


def test_an_error_of_a_forecast_does_not_end_the_training(monkeypatch):
    def fails(*given):
        raise RuntimeError("no")

    monkeypatch.setattr(live_forecast, "expected_epoch", fails)
    with pytest.warns(UserWarning, match="stopped to forecast: RuntimeError: no"):
        live = followed()
    assert live.fits[0].ended == ALL_EPOCHS


def test_a_full_disk_costs_the_row_not_the_training(monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_forecast, "append_fit", full)
    live = followed()
    assert (live.fits[0].ended, live.fits[0].run_id) == (ALL_EPOCHS, None)
    assert "No space left" in live.fits[0].notes[0]


def test_keras_fetches_no_logs_of_steps(monkeypatch):
    """With a hook after a step it would, and no step would overlap the next."""
    from keras.src.callbacks import callback_list

    monkeypatch.setattr(callback_list.backend, "IS_THREAD_SAFE", True)  # as under JAX
    for live in (LiveForecast(), LiveForecast(time_budget_sec=9.0, monitor="loss", show="bar")):
        found = keras.callbacks.CallbackList([live], model=compiled())
        assert (found._async_train, found._async_test) == (True, True)


def test_the_hooks_of_steps_do_not_ask_for_the_model():
    """Under JAX Keras would copy the state of the training back into it."""
    asked = []

    class Asked(LiveForecast):
        @property
        def model(self):
            asked.append(self._in_step)
            return self._model

        _in_step = False

        def on_train_batch_begin(self, step, logs=None):
            self._in_step = True
            super().on_train_batch_begin(step, logs)
            self._in_step = False

    followed(live=Asked(time_budget_sec=100.0))
    assert asked and not any(asked)


def test_the_meter_of_an_interrupted_fit_stops_with_the_next_one():
    class Interrupting(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    live = LiveForecast()
    with pytest.raises(KeyboardInterrupt):
        followed(live=live, callbacks=[Interrupting()])
    (fit,) = live.fits
    assert (fit.ended, fit.run_id) == (None, None)
    close = live._usage.close
    followed(live=live)
    assert not close.alive
    assert live.fits[1].ended == ALL_EPOCHS


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"time_budget_sec": 0.0}, "time_budget_sec must be a positive number"),
        ({"time_budget_sec": math.nan}, "time_budget_sec must be a positive number"),
        ({"monitor": "loss"}, "give that, too"),
        ({"show": "all"}, "show must be one of auto, lines, bar, none"),
        ({"region": "Atlantis"}, "Atlantis"),
    ],
)
def test_an_argument_that_is_no_sensible_value_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        LiveForecast(**given)


def test_an_evaluation_outside_of_a_fit_is_none_of_its_business():
    live, model = LiveForecast(time_budget_sec=100.0), compiled()
    model.evaluate(X, Y, verbose=0, callbacks=[live])
    followed(model, live=live)
    model.evaluate(X, Y, verbose=0, callbacks=[live])
    assert [each.validation_sec for each in live.fits[0].done] == [None] * 3
