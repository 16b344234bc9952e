"""A real fit as a row of fits.csv."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from epochcast.error_text import describe_error
from epochcast.live.estimate import device_of_training
from epochcast.live.fits import FitRecord, append_fit, new_fit_id
from epochcast.live.sampling.fit_passes import unit_of
from epochcast.live.training_facts import training_facts
from epochcast.machine.environment import utc_now
from epochcast.machine.host.host import usable_cores
from epochcast.machine.host.load import host_cpu_times, is_busy_host, other_cores


class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Times epochs, and validations apart, without a hook after a step."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch_secs: list[float] = []
        self.validation_secs: list[float] = []
        self.batches: int | None = None
        self._begin = self._test_begin = self._test_sec = 0.0
        self._done = 0  # batches of this epoch
        self._unit = 1

    def on_train_begin(self, logs: Any = None) -> None:
        self._unit = unit_of(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin, self._test_sec = time.perf_counter(), 0.0

    def on_test_begin(self, logs: Any = None) -> None:
        self._test_begin = time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        self._test_sec = time.perf_counter() - self._test_begin
        self.validation_secs.append(self._test_sec)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch_secs.append(time.perf_counter() - self._begin - self._test_sec)

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self._done = step + self._unit

    def on_train_end(self, logs: Any = None) -> None:
        # of data without a length Keras notices their end in a step more, which trains nothing
        self.batches = self.params.get("steps") or max(1, self._done - 1)


def recorded_fit(
    fit: Callable[..., Any], model: keras.Model, x: Any, y: Any, options: Mapping[str, Any], path: Path, source: str
) -> tuple[Any, str | None]:
    """Train and append a row; return the history, and why no row.

    Whatever prevents the row, the training is done.

    Args:
        path: the table.
        source: what the row says of where it comes from.
    """
    epochs, given = _Epochs(), options.get("callbacks")
    if hasattr(given, "append") and not isinstance(given, list):  # Keras's own list of callbacks
        given.append(epochs)  # type: ignore[union-attr]
        with_epochs = dict(options)
    else:  # before the others, whose work at the end of an epoch is not the epoch's
        own = given if isinstance(given, list | tuple) else [] if given is None else [given]
        with_epochs = {**options, "callbacks": [epochs, *own]}
    before, begin = host_cpu_times(), time.perf_counter()
    history = fit(model, x, y, **with_epochs)
    total_sec = time.perf_counter() - begin
    try:
        device = device_of_training()
        others = other_cores(before, host_cpu_times())
        facts = asdict(training_facts(model, x, options, device.name, device.kind))
        timed = epochs.epoch_secs[1:] or epochs.epoch_secs  # the first is compiled
        epoch_sec, validations = statistics.fmean(timed), epochs.validation_secs
        record = FitRecord(
            timestamp_utc=utc_now(),
            kind="fit",
            run_id=new_fit_id("fit"),
            epochs=len(epochs.epoch_secs),
            batches=epochs.batches or 0,
            timed_epoch_sec=epoch_sec,
            n_timed=len(timed),
            epoch_sec=epoch_sec,
            total_sec=total_sec,
            validation_sec=statistics.fmean(validations) if validations else None,
            n_validations=len(validations),
            sampling="epochs",
            is_contended=int(is_busy_host(others, len(usable_cores()), device.kind)),
            other_cores=others,
            source=source,
            **facts,
        )
        append_fit(path, record)
    except Exception as error:  # a training that is done must not fail by its row
        return history, f"this training is not in {path}: {describe_error(error)}"
    return history, None
