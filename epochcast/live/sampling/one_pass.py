"""The one pass that a generator allows: consecutive blocks of its steps are the samples.

A generator without `steps_per_epoch` can be gone through once, and nothing says how many steps that takes until it
ends. So the pass is stamped about once in a tenth of the budget, after waiting for the device. If it ends within the
budget, the epoch is what was counted; else nothing but the time of a step is known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import keras

from epochcast.interval import OWN_COVERAGE, coverage_text
from epochcast.live.sampling.data_kinds import is_generator
from epochcast.live.sampling.estimator import SEGMENTS, Epoch, Moment, Samples, epoch_time
from epochcast.live.sampling.fit_passes import FitTraining, LengthUnknownError, device_wait, moment

KEPT_BATCHES = 2  # that Keras reads ahead to know their shapes, and gives again in each later epoch


def is_gone_through_once(x: Any, options: Mapping[str, Any]) -> bool:
    """Return whether data of a fit are a generator whose end ends the epoch."""
    return is_generator(x) and options.get("steps_per_epoch") is None


class _Blocks(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Reads the clocks after blocks of about the same time."""

    def __init__(self, budget_sec: float, unit: int) -> None:
        super().__init__()
        self.stamps: list[tuple[int, Moment]] = []  # steps that were done
        self.is_cut = False
        self.begin_sec = 0.0
        self.end: Moment | None = None
        self._budget_sec, self._unit = budget_sec, unit
        self._next_sec = self._end_sec = math.inf

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._wait = device_wait(self.model)
        self.begin_sec = time.perf_counter()

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if not self.stamps and step >= self._unit:
            self._stamp(step)
            self._end_sec = time.perf_counter() + self._budget_sec
        elif now >= self._next_sec:
            self._stamp(step)
            if now >= self._end_sec:
                self.is_cut = self.model.stop_training = True

    def _stamp(self, step: int) -> None:
        self._wait()
        self.stamps.append((step, moment()))
        self._next_sec = time.perf_counter() + self._budget_sec / SEGMENTS

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.end = moment()  # its logs were fetched, so that the device has finished


class OnePass(FitTraining):
    """A training by `model.fit(generator, **options)` of whose first epoch one pass is made.

    Raises:
        LengthUnknownError: if the generator does not end within `budget_sec`; with the time of a step.
        ValueError: if it has a single step.
    """

    def _begin(self, budget_sec: float) -> None:
        """Make the pass."""
        self._n_given = 0
        self.x = self._counted(self.x)
        blocks = _Blocks(budget_sec, self._unit)
        self._fit(blocks, 1)
        if blocks.is_cut:
            raise LengthUnknownError(_why_unknown(blocks.stamps, budget_sec))
        self.batches = self._n_given
        self.steps = self.batches / self._unit
        assert blocks.end is not None
        stamps = [each for each in blocks.stamps if each[0] < self.batches]
        if not stamps:
            raise ValueError(f"its generator gives {self.batches} batches, and the first is compiled: nothing to time.")
        marks = [*stamps, (self.batches, blocks.end)]
        lasted = _step_times(marks)
        epochs = tuple(Epoch(Moment(self.batches * each.wall_sec, self.batches * each.cpu_sec)) for each in lasted)
        _, first = stamps[0]
        self.first_step_sec = first.wall_sec - blocks.begin_sec
        self._samples = Samples("blocks", None, epochs, None, blocks.end.wall_sec - first.wall_sec)

    def _counted(self, x: Iterator[Any]) -> Iterator[Any]:
        for batch in x:
            self._n_given += 1
            yield batch

    def sampled(self, budget_sec: float) -> Samples:
        """Return the samples, which the pass gave."""
        return self._samples

    def whole_epochs(self, epochs: int) -> float:
        """Return how many passes over all batches so many epochs are."""
        return 1 + (epochs - 1) * min(1.0, KEPT_BATCHES / self.batches)

    def notes(self, epochs: int) -> list[str]:
        """Return what Keras makes of more epochs than one."""
        if epochs == 1:
            return []
        return [
            f"The generator gives its {self.batches} batches once: Keras trains epochs 2 to {epochs} on the "
            f"{min(KEPT_BATCHES, self.batches)} that it keeps of them, and they are estimated so. Give fit "
            "steps_per_epoch and a generator without an end, or data that can be begun again (a keras.utils.PyDataset)."
        ]


def _step_times(marks: list[tuple[int, Moment]]) -> list[Moment]:
    """Return the mean time of a step in each block."""
    found = []
    for (earlier, begin), (later, end) in pairwise(marks):
        took = end.since(begin)
        found.append(Moment(took.wall_sec / (later - earlier), took.cpu_sec / (later - earlier)))
    return found


def _why_unknown(stamps: list[tuple[int, Moment]], budget_sec: float) -> str:
    time_of_step = epoch_time([each.wall_sec for each in _step_times(stamps)], is_contended=False)
    step, half = time_of_step.interval, time_of_step.half
    spread = "" if half is None else f" +-{100 * half:.0f} % ({coverage_text(OWN_COVERAGE)})"
    return (
        f"a generator does not say how many steps its epoch has, and it did not end within {budget_sec:g} s. A step "
        f"takes {step.value:.3g} s{spread}. Give fit steps_per_epoch, or --budget_sec an epoch's time."
    )
