"""Validations and checkpoints at the ends of epochs, each timed by itself."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from epochcast.live.sampling.data_kinds import is_generator
from epochcast.live.sampling.fit_passes import FitTraining, device_wait, trained_steps
from epochcast.output.text import significant


@dataclass(frozen=True, slots=True)
class Validation:
    """One pass over the validation data, in seconds by the wall clock."""

    sec: float
    first_sec: float  # with what is compiled once


@dataclass(frozen=True, slots=True)
class Validations:
    """All validations of a fit."""

    each: Validation | None  # None: there is none, or its time is unknown and a note says why
    n: int
    notes: tuple[str, ...] = ()  # sentences

    @property
    def all_sec(self) -> float:
        """Seconds of all, without what the first compiles; 0 if unknown."""
        return 0.0 if self.each is None else self.n * self.each.sec

    @property
    def more_sec(self) -> float:
        """Seconds of the first beyond a later one."""
        return 0.0 if self.each is None else max(0.0, self.each.first_sec - self.each.sec)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """All checkpoints of a fit, in seconds by the wall clock."""

    sec: float | None  # the mean of one; None where none is written
    n: int
    more_sec: float = 0.0  # the first one beyond a later one
    notes: tuple[str, ...] = ()  # sentences

    @property
    def all_sec(self) -> float:
        """Seconds of all, without what the first loads."""
        return self.n * (self.sec or 0.0)


def n_validations_of(initial_epoch: int, epochs: int, freq: int | Sequence[int]) -> int:
    """Return how many epochs end with a validation, as Keras decides."""
    trained = range(initial_epoch + 1, epochs + 1)
    return sum(1 for epoch in trained if (epoch % freq == 0 if isinstance(freq, int) else epoch in freq))


class _ValidationStamps(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Reads the clock in one validation, and stops it some seconds after its first batch.

    Each reading waits for the device, which may be many batches behind. It is waited for after 1, 2, 4, 8 ... batches,
    so that a late device is noticed and batches still overlap, and before the last one, whose size may be compiled.
    """

    def __init__(self, budget_sec: float) -> None:
        super().__init__()
        self.is_cut = False
        self._budget_sec = budget_sec
        self._begin_sec = self._end_sec = 0.0
        self._marks: list[tuple[int, float]] = []  # batches that were done, and when
        self._last_begun = 0

    def on_test_begin(self, logs: Any = None) -> None:
        self._begin_sec = time.perf_counter()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._last_begun = batch
        if not batch or self.is_cut:
            return
        if self._marks:
            (unit, first), n = self._marks[0], self.params.get("steps") or math.inf
            end = first + self._budget_sec
            is_mark = batch >= 2 * self._marks[-1][0] or batch + unit >= n
            if not is_mark and time.perf_counter() <= end:
                return
        wait_for_batches(self.model)
        self._marks.append((batch, time.perf_counter()))
        if len(self._marks) > 1 and self._marks[-1][1] > end:  # the first may have been compiled
            self.is_cut = self.model.stop_evaluating = True

    def on_test_end(self, logs: Any = None) -> None:
        self._end_sec = time.perf_counter()  # its logs were fetched, so that the device has finished

    @property
    def batches(self) -> int | None:
        """All batches of the data; None if unknown."""
        if (steps := self.params.get("steps")) is not None or self.is_cut:
            return steps  # type: ignore[no-any-return]
        return trained_steps(self._last_begun + 1)

    @property
    def warm_sec(self) -> float:
        """The time since the first batch, until the pass ended or was cut."""
        return (self._marks[-1][1] if self.is_cut else self._end_sec) - self._marks[0][1] if self._marks else 0.0

    @property
    def batch_sec(self) -> float | None:
        """A batch after the first; None where there is none."""
        if not self._marks:
            return None
        (done, begin), (later, end) = self._marks[0], self._marks[-1]
        if later == done:
            later, end = self.batches or done, self._end_sec
        return (end - begin) / (later - done) if later > done else None

    def sec(self, batches: int) -> float:
        """Return the time of so many batches, all if not cut."""
        if not self.is_cut:
            return self._end_sec - self._begin_sec
        done, at = self._marks[-1]
        return at - self._begin_sec + (batches - done) * (self.batch_sec or 0.0)


def wait_for_batches(model: keras.Model) -> None:
    """Wait until the device has evaluated all batches that were given to it."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # the weights go through an evaluation unchanged, so that they are there early; the metrics are computed
        jax.block_until_ready([list(variables) for variables in model._jax_state.values()])
    elif backend == "tensorflow" and model.metrics_variables:
        model.metrics_variables[0].value.numpy()
    else:
        device_wait(model)()


def timed_validations(training: FitTraining, options: Mapping[str, Any], budget_sec: float) -> Validations:
    """Time one validation of a fit, twice if both fit into the budget.

    Of a generator a single pass is made, for there may be no second one in it.
    """
    found = training.validation_data()
    if found is None:
        return Validations(None, 0)
    n = n_validations_of(
        int(options.get("initial_epoch", 0) or 0), int(options.get("epochs", 1)), options.get("validation_freq", 1)
    )
    if not n:
        return Validations(None, 0)
    x, y, weights = found
    given = {"x": x, "y": y, "sample_weight": weights, "verbose": 0}
    given |= {"batch_size": options.get("validation_batch_size") or options.get("batch_size")}
    given |= {"steps": options.get("validation_steps")}
    first = _ValidationStamps(budget_sec)
    if not is_generator(x):
        training.model.evaluate(**given, callbacks=[first])
        each = _timed_again(training, given, first, budget_sec)
        return Validations(each, n) if each is not None else Validations(None, n, (_unknown_length(first),))
    try:
        training.model.evaluate(**given, callbacks=[first])
    except Exception as error:  # whatever a user's own generator raises, or Keras where it gives nothing
        why = f"The validation on a generator failed ({type(error).__name__}: {error}); it is not in the time."
        return Validations(None, n, (why,))
    if (each := _of_one_pass(first)) is None:
        return Validations(None, n, (_unknown_length(first),))
    if given["steps"] is None and n > 1:
        why = "The first validation uses up the generator of its data; later ones are not in the time."
        return Validations(each, 1, (why,))
    return Validations(each, n)


def _timed_again(
    training: FitTraining, given: Mapping[str, Any], first: _ValidationStamps, budget_sec: float
) -> Validation | None:
    """Return a validation by a second pass if that fits the budget."""
    batches, left_sec = first.batches, budget_sec - first.warm_sec
    if batches is None or first.is_cut or batches * (first.batch_sec or 0.0) > left_sec:
        return _of_one_pass(first)
    again = _ValidationStamps(left_sec)
    training.model.evaluate(**given, callbacks=[again])
    return Validation(again.sec(batches), first.sec(batches))


def _of_one_pass(stamps: _ValidationStamps) -> Validation | None:
    """Return a validation by its batches after the first; None where their number is unknown."""
    if (batches := stamps.batches) is None:
        return None
    lasted = stamps.sec(batches)
    return Validation(lasted if stamps.batch_sec is None else min(lasted, batches * stamps.batch_sec), lasted)


def _unknown_length(stamps: _ValidationStamps) -> str:
    return (
        "The validation data do not say how many batches they have; one validation takes longer than "
        f"{significant(stamps.warm_sec)} s, which is not in the time."
    )


def timed_checkpoints(model: keras.Model, options: Mapping[str, Any], epochs: int, batches: float) -> Checkpoints:
    """Time two checkpoints of each kind that the fit writes.

    Args:
        batches: of all epochs.
    """
    savers = [c for c in callbacks_of(options) if isinstance(c, keras.callbacks.ModelCheckpoint)]
    times = [epochs if c.save_freq == "epoch" else int(batches // int(c.save_freq)) for c in savers]
    writing = [(saver, n) for saver, n in zip(savers, times, strict=True) if n]
    if not writing:
        return Checkpoints(None, 0)
    kinds = {kind: _two_saves_sec(model, *kind) for kind in dict.fromkeys(_kind_of(saver) for saver, _ in writing)}
    n_all = sum(n for _, n in writing)
    all_sec = sum(n * kinds[_kind_of(saver)][1] for saver, n in writing)
    more_sec = sum(max(0.0, first - second) for first, second in kinds.values())
    n_best = sum(n for saver, n in writing if saver.save_best_only)
    notes = (f"ModelCheckpoint(save_best_only=True) writes at most {n_best} checkpoints; all are in the time.",)
    return Checkpoints(all_sec / n_all, n_all, more_sec, notes if n_best else ())


def _kind_of(saver: keras.callbacks.ModelCheckpoint) -> tuple[bool, str]:
    """Return whether it saves weights only, and how its files' names end."""
    is_of_weights = bool(saver.save_weights_only)
    return is_of_weights, ".weights.h5" if is_of_weights else Path(saver.filepath).suffix


def _two_saves_sec(model: keras.Model, is_of_weights: bool, suffix: str) -> tuple[float, float]:
    save = model.save_weights if is_of_weights else model.save
    stamps = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(2):
            begin = time.perf_counter()
            save(Path(folder) / f"{i}{suffix}")
            stamps.append(time.perf_counter() - begin)
    return stamps[0], stamps[1]


def callbacks_of(options: Mapping[str, Any]) -> list[Any]:
    """Return a fit's callbacks one by one, however they are nested."""
    found: list[Any] = []
    for each in keras.tree.flatten(options.get("callbacks") or []):
        found += each.callbacks if isinstance(each, keras.callbacks.CallbackList) else [each]
    return found


def earliest_end(stop: keras.callbacks.EarlyStopping, initial_epoch: int) -> int:
    """Return after how many trained epochs an EarlyStopping may end a fit at the earliest.

    The first epoch that it looks at is the best so far. The wait begins after that epoch, or with it where it may miss
    a `baseline`.
    """
    unseen = max(0, int(stop.start_from_epoch) - initial_epoch)
    patience = int(stop.patience) - (stop.baseline is not None)
    return unseen + 1 + max(1, patience)
