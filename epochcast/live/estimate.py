"""What a training will take: its first fit's start, its epochs, its validation and its checkpoints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras

from epochcast.footprint.footprint import Footprint
from epochcast.footprint.text import footprint_lines
from epochcast.interval import Interval
from epochcast.live.fits import FitRecord, earlier_fits
from epochcast.live.memory.fit_memory import fit_memory, steps_of
from epochcast.live.memory.peak import MaxBatch, PeakMemory
from epochcast.live.sampling.data_kinds import is_pipeline
from epochcast.live.sampling.diagnostics import Diagnostics, diagnose, pace, sentences
from epochcast.live.sampling.epoch_ends import (
    Validation,
    callbacks_of,
    earliest_end,
    timed_checkpoints,
    timed_validations,
)
from epochcast.live.sampling.estimator import EpochTime, Samples, epoch_time
from epochcast.live.sampling.fit_passes import FitTraining, epochs_of, require_one_device
from epochcast.live.sampling.input_data import batch_sec, has_smaller_last_batch
from epochcast.live.sampling.one_pass import OnePass, is_gone_through_once
from epochcast.live.sampling.power import MeteredPower, metering
from epochcast.live.text import estimate_lines, estimate_notes
from epochcast.live.training_facts import TrainingFacts, training_facts
from epochcast.machine.framework import is_on_gpu
from epochcast.machine.gpu.vendor import Device
from epochcast.machine.gpu_driver import device_of
from epochcast.machine.host.host import usable_cores
from epochcast.machine.host.load import host_cpu_times, is_busy_host, other_cores
from epochcast.output.text import significant
from epochcast.paths import fits_csv

VALIDATION_SHARE = 0.2  # of the budget, that timing the validation may take
DATA_SHARE = 0.05
ONCE_HALF = 0.5  # relative half-width of what comes once: compilations of one step differed by up to 1.7 x here
LONG_START = 0.1  # share of an epoch, above which a pipeline's start may be work of its steps that is done early


@dataclass(frozen=True, slots=True)
class Once:
    """What a fit does once, in seconds by the wall clock."""

    build_sec: float  # until the first epoch begins, beyond the start of a later fit of the same model
    fit_start_sec: float  # of any fit: arrays are copied, iterators made
    compile_sec: float  # the first step beyond a later one
    more_sec: float  # the rest of the first epoch beyond a later one; a smaller last batch is compiled anew
    validation_sec: float  # the first validation beyond a later one
    save_sec: float  # the first checkpoint beyond a later one

    @property
    def sec(self) -> float:
        once = self.build_sec + self.fit_start_sec + self.compile_sec + self.more_sec
        return once + self.validation_sec + self.save_sec

    def of_process_sec(self, samples: Samples) -> float:
        """Seconds that no later fit of the same model in this process pays again."""
        whole = self.more_sec if samples.kind == "epochs" else 0.0  # else the last batch was never trained on
        return self.build_sec + self.compile_sec + whole + self.validation_sec + self.save_sec


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a `fit` will take, by the wall clock where no name says cpu."""

    epochs: int
    batches: int  # of an epoch
    total: Interval
    epoch: EpochTime
    epoch_cpu: EpochTime
    once_sec: float  # of `once`, what the fit has yet to pay
    once: Once
    paid_sec: float  # of `once`, what this process has paid for the fit that follows in it
    validation: Validation | None
    n_validations: int
    save_sec: float | None  # of a checkpoint, the mean; None where none is written
    n_saves: int
    samples: Samples
    diagnostics: Diagnostics
    power: MeteredPower | None  # None: nothing measures it
    other_cores: float | None  # that other programs kept busy meanwhile; None is unknown
    is_contended: bool
    backend: str
    device_name: str
    training: TrainingFacts | None  # None: it can't be described, a note says why
    notes: tuple[str, ...]  # sentences
    model: str = ""  # name of its class
    params: int = 0
    kept: tuple[str, ...] = ()  # what was put back after the trial; of a model that is thrown away, nothing
    footprint: Footprint | None = None  # in the region that was asked for
    memory: PeakMemory | None = None  # of a training step; None is unknown, and a note says why
    max_batch: MaxBatch | None = None  # None: it was not asked for

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
    earlier: Sequence[FitRecord] = (),
    after_first_step: Callable[[], None] | None = None,
    fit: Callable[..., Any] | None = None,
    stays: bool = False,
    max_batch: bool = False,
) -> Estimate:
    """Estimate `model.fit(x, y, **options)` by training it for `budget_sec`; the model is another one afterwards.

    Building, compilation, a first epoch and the start of `fit` come on top of the budget.

    Args:
        earlier: rows of fits.csv; the latest of the same training, as quiet or as busy, count as one epoch each, so
            that what differs between two moments of the machine enters mean and range.
        after_first_step: called once the step is compiled; what it raises ends the estimate.
        fit: called in place of the model's own method, as `fit(model, x, y, ...)`.
        stays: whether the training follows in this process, with this model: it pays no compilation again.
        max_batch: whether to look for the largest batch size that fits into the device.

    Raises:
        ValueError: if the number of steps of an epoch can't be found out, no epoch is left to train, or several
            devices share the training.
    """
    require_one_device(model)
    epochs = epochs_of(options)
    before = host_cpu_times()
    kind = OnePass if is_gone_through_once(x, options) else FitTraining
    with steps_of(model) as steps:
        training = kind(model, x, y, options, budget_sec, fit)
    if after_first_step is not None:
        after_first_step()
    begin = time.perf_counter()
    validations = timed_validations(training, options, VALIDATION_SHARE * budget_sec)
    n_epochs = training.whole_epochs(epochs)
    saves = timed_checkpoints(model, options, epochs, training.batches * n_epochs)
    data_sec = batch_sec(x, DATA_SHARE * budget_sec)
    device = device_of_training()
    facts, unknown = _facts_or_why(model, x, options, device)
    spent = time.perf_counter() - begin - validations.more_sec - saves.more_sec
    found, power = _sampled(training, max(budget_sec / 2, budget_sec - spent), device)
    others = other_cores(before, host_cpu_times())
    is_contended = is_busy_host(others, len(usable_cores()), device.kind)
    same = [] if facts is None else earlier_fits(earlier, facts.training_key, training.batches, is_contended)
    own_secs = [each.sec.wall_sec for each in found.epochs]
    own = epoch_time(own_secs, is_contended)
    epoch = epoch_time(own_secs, is_contended, [row.timed_epoch_sec for row in same])
    earlier_cpu_secs = [row.timed_epoch_cpu_sec for row in same if row.timed_epoch_cpu_sec is not None]
    by_cpu = epoch_time([each.sec.cpu_sec for each in found.epochs], is_contended, earlier_cpu_secs)
    step_sec = pace(found.epochs, training.steps)
    diagnostics = diagnose(found, step_sec, None if data_sec is None else data_sec * training.batches / training.steps)
    notes = [
        *training.notes(epochs),
        *_notes(own, diagnostics, options, epochs),
        *validations.notes,
        *saves.notes,
        *unknown,
        *_earlier_notes(same, epoch),
    ]
    if is_pipeline(x) and (diagnostics.start_share or 0.0) > LONG_START:
        epoch, by_cpu = (each.widened(diagnostics.start_share or 0.0) for each in (epoch, by_cpu))
        notes.append("That start may be work of later steps, done early: the range is wider by it.")
    once = Once(
        **_once_in_epochs(training, found, own.interval.value, step_sec, diagnostics.start_sec or 0.0),
        validation_sec=validations.more_sec,
        save_sec=saves.more_sec,
    )
    # last: another batch size may take all memory there is
    memory = fit_memory(steps, training, None if facts is None else facts.batch_size, device, max_batch)
    paid_sec = once.of_process_sec(found) if stays else 0.0
    once_sec = once.sec - paid_sec
    again_sec = n_epochs * epoch.interval.value + validations.all_sec + saves.all_sec
    half = None if epoch.half is None else epoch.half * again_sec + ONCE_HALF * once_sec
    total = Interval.of_absolute(again_sec + once_sec, half)
    return Estimate(
        epochs=epochs,
        batches=training.batches,
        total=total,
        epoch=epoch,
        epoch_cpu=by_cpu,
        once_sec=once_sec,
        once=once,
        paid_sec=paid_sec,
        validation=validations.each,
        n_validations=validations.n,
        save_sec=saves.sec,
        n_saves=saves.n,
        samples=found,
        diagnostics=diagnostics,
        power=power,
        other_cores=others,
        is_contended=is_contended,
        backend=keras.backend.backend(),
        device_name=device.name,
        training=facts,
        notes=(*notes, *memory.notes),
        model=type(model).__name__,
        params=int(model.count_params()),
        memory=memory.peak,
        max_batch=memory.max_batch,
    )


def _once_in_epochs(
    training: FitTraining, found: Samples, epoch_sec: float, step_sec: float, start_sec: float
) -> dict[str, float]:
    """Split what comes once in a fit's epochs; `start_sec` is the start of an epoch."""
    first_start, *later_starts = training.fit_start_secs
    fit_start_sec = min(first_start, statistics.median(later_starts) if later_starts else 0.0)
    compile_sec = max(0.0, training.first_step_sec - start_sec - step_sec)
    more_sec = 0.0
    if found.first_epoch_sec is not None:
        more_sec = max(0.0, found.first_epoch_sec - epoch_sec)
    elif training.compiles_each_shape and has_smaller_last_batch(training.x, training.options):
        more_sec = compile_sec
    return {
        "build_sec": first_start - fit_start_sec,
        "fit_start_sec": fit_start_sec,
        "compile_sec": compile_sec,
        "more_sec": more_sec,
    }


def _facts_or_why(
    model: keras.Model, x: Any, options: Mapping[str, Any], device: Device
) -> tuple[TrainingFacts | None, list[str]]:
    try:
        return training_facts(model, x, options, device.name, device.kind), []
    except Exception as error:  # whatever a user's own classes raise; the estimate does not need it
        return None, [f"This training can't be identified ({type(error).__name__}: {error}); it is not kept."]


def _earlier_notes(same: Sequence[FitRecord], epoch: EpochTime) -> list[str]:
    if not same:
        return []
    seconds = sorted(row.timed_epoch_sec for row in same)
    sec = " to ".join(dict.fromkeys(significant(each) for each in (seconds[0], seconds[-1])))
    what = f"1 earlier timing of this training ({fits_csv()}) counts as one epoch"
    if len(same) > 1:
        what = f"{len(same)} earlier timings of this training ({fits_csv()}) count as one epoch each"
    n_out = len(same) - epoch.n_earlier
    return [f"{what}: {sec} s an epoch{f'; {n_out} left out' if n_out else ''}."]


def device_of_training() -> Device:
    """Return the device that the framework of this process trains on."""
    return device_of("auto" if is_on_gpu(keras.backend.backend()) else "cpu")


def _sampled(training: FitTraining, budget_sec: float, device: Device) -> tuple[Samples, MeteredPower | None]:
    """Return a training's samples, and the mean power while they were made."""
    with metering(device.kind != "cpu") as meter:
        begin = time.perf_counter()
        found = training.sampled(budget_sec)
        return found, meter.power(begin, time.perf_counter())


def _notes(epoch: EpochTime, found: Diagnostics, options: Mapping[str, Any], epochs: int) -> list[str]:
    notes = []
    stops = [c for c in callbacks_of(options) if isinstance(c, keras.callbacks.EarlyStopping)]
    if stops:
        least = min(earliest_end(each, int(options.get("initial_epoch", 0) or 0)) for each in stops)
        if least < epochs:
            notes.append(f"EarlyStopping may end it after {least} of {epochs} epochs, or any time later.")
    own = [
        type(c).__name__
        for c in callbacks_of(options)
        if not isinstance(c, keras.callbacks.EarlyStopping | keras.callbacks.ModelCheckpoint | keras.callbacks.History)
    ]
    if own:
        notes.append(f"Callbacks not run, their time is not included: {', '.join(dict.fromkeys(own))}.")
    notes += sentences(found)
    if epoch.n_left_out:
        notes.append(
            f"{epoch.n_left_out} of {epoch.n + epoch.n_left_out} samples took over twice the median; left out."
        )
    return notes
