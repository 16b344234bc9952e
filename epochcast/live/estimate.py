"""What a training will take: its first fit's start, its epochs, its validation and its checkpoints."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from epochcast.footprint.footprint import Footprint
from epochcast.footprint.text import footprint_lines
from epochcast.interval import Interval
from epochcast.live.estimator import EpochTime, Samples, epoch_time, sample
from epochcast.live.fit_passes import FitTraining
from epochcast.live.text import estimate_lines, estimate_notes
from epochcast.machine.framework import is_on_gpu
from epochcast.machine.gpu_driver import device_of
from epochcast.machine.host.host import usable_cores
from epochcast.machine.host.load import host_cpu_times, is_busy_host, other_cores

VALIDATION_SHARE = 0.2  # of the budget, that timing the validation may take
WORTH_SAYING = 0.05  # share of an epoch


@dataclass(frozen=True, slots=True)
class Validation:
    """One pass over the validation data, in seconds by the wall clock."""

    sec: float
    first_sec: float  # with what is compiled once


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a `fit` will take, by the wall clock where no name says cpu."""

    epochs: int
    batches: int  # of an epoch
    total: Interval
    epoch: EpochTime
    epoch_cpu: EpochTime
    once_sec: float  # start of fit, building, compilation
    validation: Validation | None
    n_validations: int
    save_sec: float | None  # of a checkpoint; None where none is written
    n_saves: int
    samples: Samples
    other_cores: float | None  # that other programs kept busy meanwhile; None is unknown
    is_contended: bool
    backend: str
    device_name: str
    notes: tuple[str, ...]  # sentences
    model: str = ""  # name of its class
    params: int = 0
    kept: tuple[str, ...] = ()  # what was put back after the trial; of a model that is thrown away, nothing
    footprint: Footprint | None = None  # in the region that was asked for

    def __str__(self) -> str:
        """Return the lines that the command prints."""
        found = asdict(replace(self, footprint=None))
        lines = estimate_lines({"model": self.model, "params": self.params}, found)
        if self.footprint is not None:
            lines |= footprint_lines(self.footprint)
        notes = [f"note: {note}" for note in estimate_notes(found)]
        return "\n".join([*(f"{name}: {text}" for name, text in lines.items()), *notes])


def estimate_fit(
    model: keras.Model,
    x: Any,
    y: Any,
    options: Mapping[str, Any],
    budget_sec: float,
    after_first_step: Callable[[], None] | None = None,
) -> Estimate:
    """Estimate `model.fit(x, y, **options)` by training it for `budget_sec`; the model is another one afterwards.

    Compilation, the first epoch and the start of `fit` come on top of the budget.

    Args:
        after_first_step: called once the step is compiled; what it raises ends the estimate.

    Raises:
        ValueError: if the number of steps of an epoch can't be found out, no epoch is left to train, or several
            devices share the training.
    """
    if keras.distribution.distribution() is not None or _n_replicas(model) > 1:
        raise ValueError("this fit is shared by several devices, of which only one can be timed. Give it one device.")
    epochs = int(options.get("epochs", 1)) - int(options.get("initial_epoch", 0) or 0)
    if epochs < 1:
        raise ValueError(f"this fit trains no epoch: epochs={options.get('epochs', 1)}.")
    before = host_cpu_times()
    training = FitTraining(model, x, y, options, budget_sec)
    if after_first_step is not None:
        after_first_step()
    validation = _validation(training, options, VALIDATION_SHARE * budget_sec)
    save_sec, n_saves = _saving(model, options, epochs)
    spent = (0.0 if validation is None else validation.sec) + (save_sec or 0.0)  # what is compiled comes on top
    found = sample(training, max(budget_sec / 2, budget_sec - spent), time.perf_counter)
    device = device_of("auto" if is_on_gpu(keras.backend.backend()) else "cpu")
    others = other_cores(before, host_cpu_times())
    is_contended = is_busy_host(others, len(usable_cores()), device.kind)
    epoch = epoch_time([each.sec.wall_sec for each in found.epochs], is_contended)
    by_cpu = epoch_time([each.sec.cpu_sec for each in found.epochs], is_contended)
    once = training.ready_sec
    if found.first_epoch_sec is not None:
        once += max(0.0, found.first_epoch_sec - epoch.interval.value)
    n_validations = 0 if validation is None else _times(epochs, options.get("validation_freq", 1))
    more = once + n_saves * (save_sec or 0.0)
    if validation is not None:
        more += n_validations * validation.sec + max(0.0, validation.first_sec - validation.sec)
    half = None if epoch.half is None else epoch.half * epochs * epoch.interval.value
    total = Interval.of_absolute(epochs * epoch.interval.value + more, half)
    return Estimate(
        epochs=epochs,
        batches=training.batches,
        total=total,
        epoch=epoch,
        epoch_cpu=by_cpu,
        once_sec=once,
        validation=validation,
        n_validations=n_validations,
        save_sec=save_sec,
        n_saves=n_saves,
        samples=found,
        other_cores=others,
        is_contended=is_contended,
        backend=keras.backend.backend(),
        device_name=device.name,
        notes=tuple(_notes(found, epoch, options, epochs)),
        model=type(model).__name__,
        params=int(model.count_params()),
    )


def _n_replicas(model: keras.Model) -> int:
    """The devices of TensorFlow's strategy that the model was made in."""
    return int(getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1))


def _times(epochs: int, freq: int | Sequence[int]) -> int:
    """How often of so many epochs, as Keras counts `validation_freq`."""
    if isinstance(freq, int):
        return epochs // freq
    return sum(1 for epoch in freq if epoch <= epochs)


class _ValidationStamps(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Reads the clock where a validation begins and before its batches; stops it at a time."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end, self.begin_sec, self.last_sec, self.batches = end, 0.0, 0.0, 0
        self.is_cut = False

    def on_test_begin(self, logs: Any = None) -> None:
        self.begin_sec = self.last_sec = time.perf_counter()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.last_sec, self.batches = time.perf_counter(), batch
        if batch and self.last_sec > self.end:
            self.is_cut = self.model.stop_evaluating = True

    def on_test_end(self, logs: Any = None) -> None:
        if not self.is_cut:
            self.last_sec = time.perf_counter()


def _validation(training: FitTraining, options: Mapping[str, Any], budget_sec: float) -> Validation | None:
    """Time the validation of a fit twice: the first time it is compiled."""
    found = training.validation_data()
    if found is None:
        return None
    x, y, weights = found
    given = {"x": x, "y": y, "sample_weight": weights, "verbose": 0}
    given |= {"batch_size": options.get("validation_batch_size") or options.get("batch_size")}
    given |= {"steps": options.get("validation_steps")}
    lasted = []
    for _ in range(2):
        stamps = _ValidationStamps(time.perf_counter() + budget_sec / 2)
        training.model.evaluate(**given, callbacks=[stamps])
        n = stamps.params.get("steps")
        sec = stamps.last_sec - stamps.begin_sec
        lasted.append(sec * n / stamps.batches if stamps.is_cut and n else sec)
    return Validation(lasted[1], lasted[0])


def _saving(model: keras.Model, options: Mapping[str, Any], epochs: int) -> tuple[float | None, int]:
    """Return the seconds of one checkpoint and how many the fit may write."""
    savers = [c for c in _callbacks(options) if isinstance(c, keras.callbacks.ModelCheckpoint)]
    if not savers or any(c.save_freq != "epoch" for c in savers):
        return None, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "again"):  # the first loads what saving needs
            begin = time.perf_counter()
            if savers[0].save_weights_only:
                model.save_weights(Path(folder) / f"{name}.weights.h5")
            else:
                model.save(Path(folder) / f"{name}.keras")
        return time.perf_counter() - begin, epochs * len(savers)


def _callbacks(options: Mapping[str, Any]) -> list[Any]:
    given = options.get("callbacks") or []
    return list(getattr(given, "callbacks", given)) if not isinstance(given, keras.callbacks.Callback) else [given]


def _notes(found: Samples, epoch: EpochTime, options: Mapping[str, Any], epochs: int) -> list[str]:
    notes = []
    stops = [c for c in _callbacks(options) if isinstance(c, keras.callbacks.EarlyStopping)]
    if stops:
        least = min(int(c.patience) + int(c.start_from_epoch) + 1 for c in stops)
        if least < epochs:
            notes.append(f"EarlyStopping may end it after {least} of {epochs} epochs, or any time later.")
    own = [
        type(c).__name__
        for c in _callbacks(options)
        if not isinstance(c, keras.callbacks.EarlyStopping | keras.callbacks.ModelCheckpoint | keras.callbacks.History)
    ]
    if own:
        notes.append(f"Not in it, for they were not run: {', '.join(dict.fromkeys(own))}.")
    starts = [e.start_sec.wall_sec for e in found.epochs if e.start_sec is not None]
    if starts:
        start = sum(starts) / len(starts)
        if start > WORTH_SAYING * epoch.interval.value:
            notes.append(f"Each epoch begins with {start:.2g} s before its steps run at their pace.")
        errors = [e.middle_error for e in found.epochs if e.middle_error is not None]
        if errors and abs(sum(errors) / len(errors)) > WORTH_SAYING:
            notes.append("Steps do not all take the same time: a block in the middle is off the line of the others.")
    if epoch.n_left_out:
        notes.append(
            f"{epoch.n_left_out} of {epoch.n + epoch.n_left_out} samples took over twice the median; left out."
        )
    return notes
