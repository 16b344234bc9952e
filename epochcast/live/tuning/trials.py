"""A caught fit, timed with one setting after another in blocks of its passes.

The settings share the model. A step is compiled once for each way of compiling and each shape of its batches: the
model's own function is kept while another way is tried.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import keras

from epochcast.live.estimate import device_of_training
from epochcast.live.program.state import SavedState
from epochcast.live.sampling.estimator import Epoch, Moment, epoch_of, marks_of
from epochcast.live.sampling.fit_passes import FitTraining, epochs_of, require_one_device, unit_of
from epochcast.live.sampling.one_pass import is_gone_through_once
from epochcast.live.tuning.axes import Axes, enough_executions, few_executions_text, precision_of
from epochcast.live.tuning.inputs import Inputs, NotPossibleError
from epochcast.live.tuning.settings import Setting
from epochcast.text_sinks import shortened

LONGEST = 200  # characters of a framework's message
ROUGH_STEPS = 5  # of a setting's first pass, for an idea of its pace
LATE = 4.0  # a pass is stopped after so many times as long as it should take


@dataclass
class _Trial:
    """A setting that was prepared."""

    training: FitTraining
    epoch_sec: float = 0.0  # wall, by the last block
    start_sec: float = 0.0  # of a pass, before its steps run at their pace
    beside_sec: float = 0.0  # that come with a pass: fit's own start, the step that stops it, old garbage


class Trials:
    """The settings of one fit in this process; the script's own is prepared at once.

    Args:
        fit: called in place of the model's own method, as `fit(model, x, y, ...)`.
        limit_sec: how long the steps of an epoch may be counted, and a cache filled.

    Raises:
        ValueError: if the fit can't be timed again and again.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        options: Mapping[str, Any],
        fit: Callable[..., Any] | None = None,
        limit_sec: float = 60.0,
    ) -> None:
        require_one_device(model)
        self._epochs = epochs_of(options)
        if is_gone_through_once(x, options):
            raise ValueError(
                "a generator is gone through once, and settings are compared by going through the data again and "
                "again. Give fit steps_per_epoch, or data that can be read again."
            )
        self._model, self._fit, self._limit_sec = model, fit, limit_sec
        self._inputs = Inputs(x, y, options)
        self.notes = list(self._inputs.notes)
        self._trials: dict[Setting, _Trial] = {}
        jit_compile, self._way = "on" if model.jit_compile else "off", (bool(model.jit_compile), unit_of(model))
        self._functions: dict[tuple[bool, int], Any] = {}  # of the model, by the way that they are compiled
        self.baseline = Setting("", jit_compile, unit_of(model), self._inputs.kind, self._inputs.batch_size)
        self._prepare_own()

    def _prepare_own(self) -> None:
        """Prepare the script's own setting."""
        x, y, options = self._inputs.given(self.baseline.input, self.baseline.batch_size)
        with _leaving_nothing():
            training = FitTraining(self._model, x, y, options, self._limit_sec, self._fit)
        self._batches = training.batches
        if not self._inputs.fill_cache(x, self._batches, self._limit_sec):
            self.notes.append("Filling the cache of these data takes too long: their passes are timed without it.")
        self._is_whole = training.most_steps < 2  # then only whole epochs can be timed, of all settings
        self.baseline = replace(self.baseline, precision=precision_of(self._model))  # of a built model
        self._trials[self.baseline] = _Trial(training)
        self._warm_up(self._trials[self.baseline])
        # a step that fails under JAX leaves the variables without values
        self._saved = SavedState(self._model) if keras.backend.backend() == "jax" else None

    def axes(self, wanted: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Return as JSON values the script's setting, what to try, and the fit's facts.

        Args:
            wanted: values that were asked for, by the names of a Setting.
        """
        axes = Axes(self._model, self.baseline, self._inputs, wanted, self._batches, self._epochs)
        return {
            "baseline": asdict(self.baseline),
            "values": axes.values,
            "not_tried": axes.not_tried,
            "policy": keras.config.dtype_policy().name,
            "epochs": self._epochs,
            "batches": self._batches,
            "model": type(self._model).__name__,
            "params": int(self._model.count_params()),
            "backend": keras.backend.backend(),
            "device_name": device_of_training().name,
            "notes": self.notes,
            **self._facts(self.baseline),
        }

    def _facts(self, setting: Setting, data_sec: float = 0.0) -> dict[str, Any]:
        return {
            "first_step_sec": self._trials[setting].training.first_step_sec,
            "data_sec": data_sec,
            "lines": self._inputs.lines(setting.input, setting.batch_size),
        }

    def prepare(self, setting: Setting) -> dict[str, Any]:
        """Build and compile what a setting needs; return what that took and its lines.

        Raises:
            NotPossibleError: if it can't be tried; the others can still be.
        """
        batches = self._inputs.batches(setting.batch_size) or self._batches
        if not self._is_whole and not enough_executions(batches, setting.steps_per_execution):
            raise NotPossibleError(few_executions_text(batches))
        if setting in self._trials:  # the one that is the script's own by another precision
            return self._facts(setting)
        self._choose(setting)
        try:
            data_sec = self._try_once(setting, batches)
        except NotPossibleError:
            raise
        except Exception as error:  # whatever a framework raises for what it can't compile or has no memory for
            self._model.train_function = None
            if self._saved is not None:
                self._saved.put_back()
            raise NotPossibleError(shortened(f"{type(error).__name__}: {error}", LONGEST)) from error
        return self._facts(setting, data_sec)

    def _try_once(self, setting: Setting, batches: int) -> float:
        """Make a setting's data and do its first steps; return the data's seconds."""
        begin = time.perf_counter()
        x, y, options = self._inputs.given(setting.input, setting.batch_size)
        if not self._inputs.fill_cache(x, batches, self._limit_sec):
            raise NotPossibleError(f"the cache was not full after {self._limit_sec:g} s")
        data_sec = time.perf_counter() - begin if setting.input != self.baseline.input else 0.0
        with _leaving_nothing():
            training = FitTraining(self._model, x, y, options, self._limit_sec, self._fit, batches)
            if (rest := self._inputs.rest(setting.input, setting.batch_size)) is not None:  # it is compiled now
                FitTraining(self._model, rest, y, options, self._limit_sec, self._fit)
        self._trials[setting] = _Trial(training)
        self._warm_up(self._trials[setting])
        return data_sec

    def block(self, setting: Setting, sec: float) -> Moment:
        """Return the time of an epoch by both clocks, from passes of about so many seconds.

        Raises:
            ValueError: if the data ended.
        """
        trial = self._trials[setting]
        self._choose(setting)
        return self._learned(trial, self._whole_epochs(trial, sec) if self._is_whole else self._passes(trial, sec))

    def _choose(self, setting: Setting) -> None:
        """Have the model do its next steps as a setting says."""
        way = (setting.jit_compile == "on", setting.steps_per_execution)
        if way != self._way:
            self._functions[self._way] = self._model.train_function
            self._model.jit_compile, self._model.steps_per_execution = way
            self._model.train_function = self._functions.get(way)  # None: fit makes it
            self._way = way

    def _warm_up(self, trial: _Trial) -> None:
        """Have a first idea of a setting's pace, and compile what is left."""
        training = trial.training
        if self._is_whole:
            self._learned(trial, self._whole_epochs(trial, 0.0))
            return
        with _leaving_nothing():
            found = training.passes([1, _steps_of(training, ROUGH_STEPS)], 1, math.inf)
        self._learned(trial, [epoch_of(each, training.steps) for each in found])

    def _learned(self, trial: _Trial, found: list[Epoch]) -> Moment:
        """Keep the pace of some passes; return the mean of their epochs."""
        if not found:
            raise ValueError("the data ended while they were tried. Give fit data that can be read again.")
        starts = [max(0.0, each.start_sec.wall_sec) for each in found if each.start_sec is not None]
        trial.start_sec = statistics.fmean(starts) if starts else 0.0
        trial.epoch_sec = max(1e-6, statistics.fmean(each.sec.wall_sec for each in found))
        return Moment(trial.epoch_sec, statistics.fmean(each.sec.cpu_sec for each in found))

    def _passes(self, trial: _Trial, sec: float) -> list[Epoch]:
        """Make passes for so many seconds, one at least."""
        begin, training = time.perf_counter(), trial.training
        step_sec = max(1e-6, (trial.epoch_sec - trial.start_sec) / training.steps)
        fixed_sec = trial.beside_sec + trial.start_sec
        long = _steps_of(training, round((sec - fixed_sec) / step_sec))
        pass_sec = fixed_sec + long * step_sec
        with _leaving_nothing():
            found = training.passes(marks_of(long), max(1, int(sec / pass_sec)), begin + LATE * max(sec, pass_sec))
        timed_sec = sum(each[max(each)].since(each[0]).wall_sec for each in found)
        trial.beside_sec = (time.perf_counter() - begin - timed_sec) / max(1, len(found))
        return [epoch_of(each, training.steps) for each in found]

    def _whole_epochs(self, trial: _Trial, sec: float) -> list[Epoch]:
        with _leaving_nothing():
            moments = trial.training.epochs(max(1, round(sec / trial.epoch_sec)) if sec else 1, math.inf)
        return [Epoch(later.since(earlier)) for earlier, later in pairwise(moments)]


def _steps_of(training: FitTraining, wanted: int) -> int:
    """Return how many steps of a pass are timed; one more stops it."""
    return max(2, min(wanted, training.most_steps - 1))


@contextlib.contextmanager
def _leaving_nothing() -> Iterator[None]:
    """Collect no garbage inside of the block, and what it left at once.

    An iterator of tf.data that is given up waits, at times, for about as long as it lived: the thread that tunes it
    can miss that it is cancelled (TensorFlow 2.21, `Model::OptimizeLoop`). Those of many fits, collected together
    minutes later, took minutes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)  # all that was made inside; the older generations take long to look at
        if was_enabled:
            gc.enable()
