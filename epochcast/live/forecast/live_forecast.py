"""`epochcast.LiveForecast`: follows a `fit`, and ends it in time."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import keras

from epochcast.error_text import describe_error
from epochcast.facts.regions import find_region
from epochcast.footprint.rules import FootprintRules
from epochcast.guard import say
from epochcast.interval import Interval
from epochcast.live.estimate import device_of_training
from epochcast.live.fits import IN_A_PROGRAM, FitRecord, append_fit
from epochcast.live.forecast.deadline import Deadline
from epochcast.live.forecast.expected import expected_epoch
from epochcast.live.forecast.finished import fit_row, prior_of
from epochcast.live.forecast.fit_call import running_fit
from epochcast.live.forecast.history import EpochDone, FitHistory, Forecast, history_json
from epochcast.live.forecast.text import end_line, forecast_line
from epochcast.live.forecast.usage import Usage
from epochcast.live.sampling.epoch_ends import callbacks_of, earliest_end, n_validations_of, wait_for_batches
from epochcast.live.sampling.estimator import EpochTime, Moment
from epochcast.live.sampling.fit_passes import device_wait, moment, trained_steps, unit_of
from epochcast.live.training_facts import TrainingFacts, training_facts
from epochcast.machine.environment import utc_now
from epochcast.machine.host.host import usable_cores
from epochcast.machine.host.load import host_cpu_times, is_busy_host, other_cores
from epochcast.paths import fits_csv
from epochcast.storage.files import write_json_atomically

SHOWS = ("auto", "lines", "bar", "none")
NEVER = 10**9  # patience of what only remembers the best weights
BAR_SEC, HISTORY_SEC = 0.5, 5.0  # least time between two drawings of the bar, two writings of the history
ALL_EPOCHS, STOPPED, TIME_BUDGET = "all epochs", "stopped before its last epoch", "stopped by its time budget"
Show = Literal["auto", "lines", "bar", "none"]


def harmless(hook: Callable[..., None]) -> Callable[..., None]:
    """Have an error of a forecast end the forecasts, not the training."""

    @functools.wraps(hook)
    def guarded(self: LiveForecast, *given: Any) -> None:
        try:
            hook(self, *given)
        except Exception as error:
            self._is_silent = True
            what = f"{type(error).__name__}: {describe_error(error)}"
            warnings.warn(f"LiveForecast stopped to forecast: {what}", stacklevel=2)

    return guarded


class LiveForecast(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Says after each epoch how long a `fit` still takes; can end it in time.

    `model.fit(x, y, epochs=50, callbacks=[LiveForecast()])`. The first epoch counts apart, for its step is compiled in
    it. An estimate of the same training in `results/fits.csv` counts as one epoch at most. A fit that ends becomes a
    row of that table. The same object may follow several fits.

    Args:
        time_budget_sec: seconds from the begin of training, within which it ends: after the last whole epoch that
            fits, else after a step. A validation that would last longer is cut.
        monitor: with `time_budget_sec`: a fit that it stops ends with the weights of the epoch that was best by this
            value, as EarlyStopping restores them; without it the last ones stay.
        mode: auto, min or max, as EarlyStopping has it.
        region: a country or zone, as DE or US-CA, for whose electricity cost and CO2 are computed; default the world's.
        history: a file to write all fits, epochs and forecasts to, as JSON, every few seconds and at the end.
        show: `lines`, one an epoch; a `bar` of all steps (tqdm); `none`; `auto` is lines on a terminal, else none.

    Attributes:
        fits: of each fit its epochs, forecasts and end.

    Raises:
        ValueError: if an argument is no sensible value.
    """

    _now = staticmethod(moment)  # by which all is timed

    def __init__(
        self,
        *,
        time_budget_sec: float | None = None,
        monitor: str | None = None,
        mode: Literal["auto", "min", "max"] = "auto",
        region: str | None = None,
        history: str | Path | None = None,
        show: Show = "auto",
    ) -> None:
        super().__init__()
        if time_budget_sec is not None and not 0 < time_budget_sec < math.inf:
            raise ValueError(f"time_budget_sec must be a positive number of seconds, got {time_budget_sec!r}.")
        if monitor is not None and time_budget_sec is None:
            raise ValueError("monitor chooses the weights of a fit that time_budget_sec stops: give that, too.")
        if show not in SHOWS:
            raise ValueError(f"show must be one of {', '.join(SHOWS)}, got {show!r}.")
        self.fits: list[FitHistory] = []
        self._budget_sec, self._show = time_budget_sec, show
        self._rules = FootprintRules(regions=() if region is None else (find_region(region),))
        self._path = None if history is None else Path(history)
        self._best = None
        if monitor is not None:
            self._best = keras.callbacks.EarlyStopping(monitor, mode=mode, patience=NEVER, restore_best_weights=True)
        self.keeps_row = True  # False: the caller does
        self._compiled: tuple[Any, int | None] = (None, None)  # the step of the last fit, and its batches
        self._steady: list[Moment] = []  # epochs by the same step
        self._validations: list[float] = []
        self._test_mark: tuple[int, Moment] | None = None  # a batch of the first validation, and when it began
        self._paced_sec: float | None = None  # the first validation at that pace
        self._usage: Usage | None = None
        self._bar: Any = None
        self._deadline: Deadline | None = None
        self._epoch: int | None = None  # under way, from 0
        self._in_fit = False

    # --- begin --------------------------------------------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if self._best is not None:
            self._best.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        model = self._fitted = self.model  # kept: to ask for it in the hook of a step copies the state under JAX
        self._unit = unit_of(model)
        step = getattr(model, "train_function", None), self.params.get("steps")
        self._is_compiled = step[0] is not None and step[0] is self._compiled[0] and step[1] == self._compiled[1]
        if not self._is_compiled:
            self._steady, self._validations = [], []
        self._compiled = step
        self._fit = FitHistory(utc_now(), type(model).__name__, int(self.params.get("epochs") or 1), step[1])
        self.fits.append(self._fit)
        self._in_fit, self._is_silent = True, False
        self._marks: list[tuple[int, Moment]] = []  # of the first epoch: steps that were waited for
        self._epoch, self._last_step, self._next_mark = None, -1, 0
        self._is_cut = self._is_validation_cut = False
        self._facts: TrainingFacts | None = None
        self._options: Mapping[str, Any] = {}
        self._before = host_cpu_times()
        self._learn(model)
        if self._best is not None:
            self._best.on_train_begin()
        self._begin = self._written = self._now()
        self._wait, self._deadline = device_wait(model), None
        if self._budget_sec is not None:
            self._deadline = Deadline(self._budget_sec, self._wait, lambda: wait_for_batches(model))

    @harmless
    def _learn(self, model: keras.Model) -> None:
        """Find out what is trained, and what is known of it from earlier."""
        self._close_tools()
        device = device_of_training()
        self._usage = Usage(device, self._rules)
        if (call := running_fit(model)) is None:
            self._fit.notes.append("the call of fit was not found: no row in fits.csv, and no earlier estimate counts")
            return
        self._options = call.options
        try:
            self._facts = training_facts(model, call.x, call.options, device.name, device.kind)
        except Exception as error:  # whatever a user's own classes raise; the forecast does not need it
            self._fit.notes.append(f"this training can't be identified ({type(error).__name__}: {error})")
            return
        self._fit.prior = prior_of(self._facts, self._fit.steps, fits_csv())

    # --- epochs -------------------------------------------------------------------------------------------------------

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        now = self._now()
        if self._epoch is None:
            self._fit.initial_epoch = epoch
        else:
            self._close_epoch(now)
            if self._deadline is not None:
                self._deadline.ends_epoch_in(now.wall_sec - self._own_end)
        self._report(epoch, now)
        self._epoch, self._epoch_begin, self._last_step = epoch, self._now(), -1
        self._test_sec, self._test_cpu_sec, self._has_validation = 0.0, 0.0, False
        self._next_mark = self._unit if self._is_first else 0
        if self._deadline is not None:
            self._deadline.training.begin()

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self._last_step = step
        if step == self._next_mark and step:
            self._wait()
            self._marks.append((step, self._now()))
            self._next_mark *= 2
        if self._deadline is not None and self._deadline.is_last(step // self._unit, self._deadline.training):
            self._is_cut = self._fitted.stop_training = True
        if self._bar is not None:
            self._draw(step)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = self._now()
        self._own_end = now.wall_sec
        self._timed_sec = now.since(self._epoch_begin).wall_sec - self._test_sec
        if self._fit.steps is None:
            self._fit.steps = self.params.get("steps") or trained_steps(self._last_step + self._unit)
        is_whole = not (self._is_cut or self._is_validation_cut)
        if self._best is not None and is_whole and (self._has_validation or not self._best.monitor.startswith("val_")):
            self._best.on_epoch_end(epoch, logs)
        if self._deadline is not None and epoch + 1 < self._fit.epochs:
            next_sec = self._expected(self._timed_sec)
            next_sec += self._validations_left(epoch + 1, epoch + 2) * (self._validation_sec() or self._test_sec)
            if self._deadline.is_over or self._deadline.is_too_late_for(next_sec):
                self._fitted.stop_training = True

    @property
    def _is_first(self) -> bool:
        """Whether a step may be compiled in the epoch under way."""
        return self._epoch == self._fit.initial_epoch and not self._is_compiled

    def _close_epoch(self, now: Moment) -> None:
        """Count the epoch that ended."""
        assert self._epoch is not None
        whole = now.since(self._epoch_begin)
        sec = Moment(whole.wall_sec - self._test_sec, whole.cpu_sec - self._test_cpu_sec)
        is_first = self._is_first
        validation_sec = self._test_sec if self._has_validation and not self._is_validation_cut else None
        self._fit.done.append(EpochDone(self._epoch + 1, sec, self._timed_sec, validation_sec, is_first, self._is_cut))
        if validation_sec is not None:
            self._validations.append(validation_sec if self._paced_sec is None else self._paced_sec)
        if not is_first and not self._is_cut:
            self._steady.append(sec)

    # --- validation ---------------------------------------------------------------------------------------------------

    def on_test_begin(self, logs: Any = None) -> None:
        self._test_begin, self._test_mark, self._paced_sec = self._now(), None, None
        if self._deadline is not None:
            self._deadline.validation.begin()

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self._in_fit:
            return
        self._last_test_batch = batch
        if batch and self._test_mark is None and not self._validations:  # what comes before may be compiled
            wait_for_batches(self._fitted)
            self._test_mark = batch, self._now()
        if self._deadline is not None and self._deadline.is_last(batch // self._unit, self._deadline.validation):
            self._is_validation_cut = self._fitted.stop_evaluating = True

    def on_test_end(self, logs: Any = None) -> None:
        if self._in_fit and self._epoch is not None:
            now = self._now()
            if self._test_mark is not None:
                done, at = self._test_mark
                n = self._last_test_batch + self._unit
                self._paced_sec = now.since(at).wall_sec / (n - done) * n
            took = now.since(self._test_begin)
            self._test_sec, self._test_cpu_sec, self._has_validation = took.wall_sec, took.cpu_sec, True

    # --- end ----------------------------------------------------------------------------------------------------------

    def on_train_end(self, logs: Any = None) -> None:
        now, fit = self._now(), self._fit
        if self._epoch is not None:
            self._close_epoch(now)
        n_done = fit.done[-1].number if fit.done else fit.initial_epoch
        is_whole = n_done >= fit.epochs and not self._is_cut
        is_late = self._deadline is not None and self._deadline.is_over
        fit.ended = ALL_EPOCHS if is_whole else TIME_BUDGET if is_late else STOPPED
        if self._best is not None and fit.ended == TIME_BUDGET:
            self._best.on_train_end()
        fit.sec = self._now().since(self._begin).wall_sec
        self._in_fit = False
        self._report(n_done, now)
        if self.keeps_row:
            self.keep(fit.sec, IN_A_PROGRAM)
        self._write(is_end=True)
        self._close_tools()

    def keep(self, total_sec: float, source: str) -> None:
        """Append the last fit to fits.csv; where that fails, a note of the fit says so."""
        try:
            if (row := self._row(total_sec, source)) is not None:
                append_fit(fits_csv(), row)
                self._fit.run_id = row.run_id
        except Exception as error:  # a training that is done must not fail by its row
            self._fit.notes.append(f"this training is not in {fits_csv()}: {describe_error(error)}")

    def _row(self, total_sec: float, source: str) -> FitRecord | None:
        """Return the last fit as a row; None without a whole epoch or a key."""
        if self._facts is None:
            return None
        device = device_of_training()
        others = other_cores(self._before, host_cpu_times())
        is_contended = is_busy_host(others, len(usable_cores()), device.kind)
        power = None if self._usage is None else self._usage.power
        return fit_row(self._fit, self._facts, power, others, is_contended, total_sec, source)

    def _close_tools(self) -> None:
        if self._usage is not None:
            self._usage.close()
        if self._bar is not None:
            self._bar.close()
        self._usage = self._bar = None

    # --- forecast -----------------------------------------------------------------------------------------------------

    def _epoch_time(self, more: float | None = None) -> EpochTime | None:
        steady = [each.wall_sec for each in self._steady]
        return expected_epoch(steady if more is None else [*steady, more], self._first_sec(), self._fit.prior)

    def _expected(self, timed_sec: float) -> float:
        """Return the seconds of the next epoch, at the end of one."""
        found = self._epoch_time(None if self._is_first else timed_sec)
        return timed_sec if found is None else found.interval.value

    def _first_sec(self) -> float | None:
        """Return an epoch at the pace of the first one's steps."""
        if len(self._marks) < 2 or self._fit.steps is None:
            return None
        (least, begin), (most, end) = self._marks[0], self._marks[-1]
        return end.since(begin).wall_sec / (most - least) * self._fit.steps

    def _validations_left(self, done: int, epochs: int) -> int:
        """Return how many of the epochs after `done`, up to `epochs`, end with a validation."""
        given = self._options
        if not (self._validations or given.get("validation_data") is not None or given.get("validation_split")):
            return 0
        return n_validations_of(done, epochs, given.get("validation_freq", 1) or 1)

    def _validation_sec(self) -> float | None:
        """Return the mean of the validations; the first, which is compiled, counts by its pace."""
        if not self._validations:
            return None if self._fit.prior is None else self._fit.prior.validation_sec
        later = self._validations[1:] or self._validations
        return math.fsum(later) / len(later)

    def _forecast(self, done: int, now: Moment) -> Forecast | None:
        epoch, fit = self._epoch_time(), self._fit
        if epoch is None:
            return None
        sec = 0.0
        if not fit.ended:
            sec = (fit.epochs - done) * epoch.interval.value
            sec += self._validations_left(done, fit.epochs) * (self._validation_sec() or 0.0)
        remaining, elapsed_sec = Interval.of_relative(sec, epoch.half), now.since(self._begin).wall_sec
        found = Forecast(done, elapsed_sec, remaining, epoch, None if fit.ended else self._earliest_stop(done))
        if self._usage is None:
            return found
        self._usage.read(is_end=fit.ended is not None)
        return replace(found, to_date=self._usage.of(Interval(elapsed_sec)), at_end=self._usage.of(found.total))

    def _earliest_stop(self, done: int) -> int | None:
        """Return after which epoch an EarlyStopping may end the fit; None without one."""
        initial = self._fit.initial_epoch
        found = [
            max(initial + earliest_end(stop, initial), done + max(1, int(stop.patience) - getattr(stop, "wait", 0)))
            for stop in callbacks_of(self._options)
            if isinstance(stop, keras.callbacks.EarlyStopping)
        ]
        return min(found, default=None)

    @harmless
    def _report(self, done: int, now: Moment) -> None:
        """Make a forecast after so many epochs; keep and show it."""
        if self._is_silent:
            return
        if (found := self._forecast(done, now)) is not None:
            self._fit.forecasts.append(found)
        self._write()
        is_shown = self._show == "lines" or (self._show == "auto" and _is_terminal())
        if self._show == "bar":
            self._show_bar(found)
        elif is_shown and self._fit.ended:
            say(f"epochcast: {end_line(self._fit)}")
        elif is_shown and found is not None:
            say(f"epochcast: {forecast_line(self._fit, found, datetime.now())}")

    def _write(self, is_end: bool = False) -> None:
        now = self._now()
        if self._path is None or not (is_end or now.since(self._written).wall_sec >= HISTORY_SEC):
            return
        self._written = now
        try:
            write_json_atomically(self._path, history_json(self.fits))
        except OSError as error:
            warnings.warn(f"the history of this fit is not in {self._path}: {describe_error(error)}", stacklevel=2)
            self._path = None

    # --- bar ----------------------------------------------------------------------------------------------------------

    def _show_bar(self, found: Forecast | None) -> None:
        if self._bar is None:
            from tqdm import tqdm

            n = self._fit.epochs - self._fit.initial_epoch
            self._bar = tqdm(total=None if self._fit.steps is None else n * self._fit.steps, unit="step")
            self._drawn = 0.0
        if found is not None:
            self._bar.set_postfix_str(forecast_line(self._fit, found, datetime.now()), refresh=False)
        self._draw(0, 0.0)

    def _draw(self, step: int, least_sec: float = BAR_SEC) -> None:
        now = time.perf_counter()
        if now - self._drawn >= least_sec:
            self._drawn = now
            with contextlib.suppress(OSError, ValueError):  # a closed terminal
                self._bar.n = len(self._fit.done) * (self._fit.steps or 0) + step
                self._bar.refresh()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
