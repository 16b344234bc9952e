"""The epoch timer around a real, tiny fit."""

from __future__ import annotations

import time

import numpy as np
import pytest

SLEEP_SEC = 0.2


@pytest.fixture(scope="module")
def fits():
    """Two fits with one timer: of each, its epoch times, what `on_epoch` was given, and its wall time."""
    import keras

    from epochcast.timing import EpochTimer

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    X, y = np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)
    calls = []

    def on_epoch(times, logs):
        calls.append((list(times), logs))
        time.sleep(SLEEP_SEC)

    timer = EpochTimer(on_epoch)
    found = []
    for epochs in (3, 2):
        start = time.perf_counter()
        model.fit(X, y, batch_size=4, epochs=epochs, verbose=0, callbacks=[timer])
        wall_sec = time.perf_counter() - start
        found.append((list(timer.epoch_times_sec), calls.copy(), wall_sec))
        calls.clear()
    silent = EpochTimer()
    model.fit(X, y, batch_size=4, epochs=2, verbose=0, callbacks=[silent])
    return *found, silent.epoch_times_sec


def test_every_epoch_has_one_time(fits):
    times, _, _ = fits[0]
    assert len(times) == 3
    assert all(seconds > 0 for seconds in times)


def test_the_first_epoch_pays_for_tracing(fits):
    times, _, _ = fits[0]
    assert times[0] > min(times[1:])  # an undisturbed one; on a busy host others may take as long


def test_what_is_done_between_epochs_is_in_the_wall_time_and_in_no_epoch(fits):
    times, _, wall_sec = fits[0]
    assert wall_sec > sum(times) + 3 * SLEEP_SEC
    assert min(times[1:]) < SLEEP_SEC  # two steps of a dense layer take milliseconds


def test_each_epoch_is_told_with_all_times_so_far_and_its_logs(fits):
    times, calls, _ = fits[0]
    assert [given for given, _ in calls] == [times[:1], times[:2], times]
    for _, logs in calls:
        assert type(logs["loss"]) is float


def test_a_timer_used_again_starts_anew(fits):
    times, calls, wall_sec = fits[1]
    assert len(times) == 2
    assert [given for given, _ in calls] == [times[:1], times]
    assert sum(times) < wall_sec


def test_a_timer_needs_nobody_to_tell(fits):
    assert len(fits[2]) == 2
