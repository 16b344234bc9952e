"""What a fit does at the ends of its epochs: validations and checkpoints, each timed by itself."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from epochcast.live.sampling.fit_passes import FitTraining


@dataclass(frozen=True, slots=True)
class Validation:
    """One pass over the validation data, in seconds by the wall clock."""

    sec: float
    first_sec: float  # with what is compiled once

    @property
    def compile_sec(self) -> float:
        return max(0.0, self.first_sec - self.sec)


def n_validations_of(epochs: int, freq: int | Sequence[int]) -> int:
    """How often of so many epochs, as Keras counts `validation_freq`."""
    if isinstance(freq, int):
        return epochs // freq
    return sum(1 for epoch in freq if epoch <= epochs)


class _ValidationStamps(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Reads the clock where a validation begins and before its batches; stops it some seconds after the first."""

    def __init__(self, budget_sec: float) -> None:
        super().__init__()
        self.budget_sec, self.begin_sec, self.last_sec, self.batches = budget_sec, 0.0, 0.0, 0
        self.is_cut = False
        self._end_sec = math.inf

    def on_test_begin(self, logs: Any = None) -> None:
        self.begin_sec = self.last_sec = time.perf_counter()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.last_sec, self.batches = time.perf_counter(), batch
        if batch and self._end_sec == math.inf:  # the first may have been compiled
            self._end_sec = self.last_sec + self.budget_sec
        if self.last_sec > self._end_sec:
            self.is_cut = self.model.stop_evaluating = True

    def on_test_end(self, logs: Any = None) -> None:
        if not self.is_cut:
            self.last_sec = time.perf_counter()

    @property
    def sec(self) -> float:
        """Of all batches, as far as their number is known."""
        lasted, n = self.last_sec - self.begin_sec, self.params.get("steps")
        return lasted * n / self.batches if self.is_cut and n else lasted


def timed_validation(training: FitTraining, options: Mapping[str, Any], budget_sec: float) -> Validation | None:
    """Time the validation of a fit twice: the first time it is compiled.

    A third time where only the second came to the last batch, whose size may be compiled, too.
    """
    found = training.validation_data()
    if found is None:
        return None
    x, y, weights = found
    given = {"x": x, "y": y, "sample_weight": weights, "verbose": 0}
    given |= {"batch_size": options.get("validation_batch_size") or options.get("batch_size")}
    given |= {"steps": options.get("validation_steps")}
    timed: list[_ValidationStamps] = []
    while len(timed) < 2 or (len(timed) == 2 and timed[0].is_cut and not timed[1].is_cut):
        timed.append(_ValidationStamps(budget_sec / 2))
        training.model.evaluate(**given, callbacks=[timed[-1]])
    return Validation(timed[-1].sec, timed[0].sec)


def timed_checkpoint(
    model: keras.Model, options: Mapping[str, Any], epochs: int, budget_sec: float
) -> tuple[float | None, int]:
    """Return the seconds of one checkpoint and how many the fit may write."""
    savers = [c for c in callbacks_of(options) if isinstance(c, keras.callbacks.ModelCheckpoint)]
    if not savers or any(c.save_freq != "epoch" for c in savers):
        return None, 0
    lasted: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        while len(lasted) < 2 and sum(lasted) < budget_sec / 2:  # the first loads what saving needs
            begin = time.perf_counter()
            if savers[0].save_weights_only:
                model.save_weights(Path(folder) / f"{len(lasted)}.weights.h5")
            else:
                model.save(Path(folder) / f"{len(lasted)}.keras")
            lasted.append(time.perf_counter() - begin)
    return lasted[-1], epochs * len(savers)


def callbacks_of(options: Mapping[str, Any]) -> list[Any]:
    given = options.get("callbacks") or []
    return list(getattr(given, "callbacks", given)) if not isinstance(given, keras.callbacks.Callback) else [given]
