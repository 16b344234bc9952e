"""The prediction for one configuration: seconds per epoch, throughput and a run's wall time with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.lookup import known_gpu
from epochcast.interval import Interval, with_ends
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.energy import EnergyModel, EnergyPerEpoch
from epochcast.model.answers.measured import MeasuredTime, measured_time
from epochcast.model.time_model.intervals import FAR, WITHIN
from epochcast.model.time_model.saved_model import Choice, PredictedTimes, SavedModel
from epochcast.model.time_model.startup import WholeRun
from epochcast.schema import AggRow, RunConfig
from epochcast.workload.memory import MemoryModel, PeakMemory
from epochcast.workload.shape import count_params

GIB = 2**30
SORTS = ("time", "cost", "co2")  # orders of other GPUs: the fastest, the cheapest to rent, the cleanest first


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that is asked for; `rules` None: no footprint, which also takes a number of epochs."""

    config: RunConfig
    precision: str
    epochs: int | None = None
    rules: FootprintRules | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model predicts of one configuration, next to what was measured of it; None is unknown."""

    config: RunConfig
    choice: Choice
    this_box: str
    times: PredictedTimes
    epochs: int | None  # of a whole run, where one is asked for
    measured: MeasuredTime | None  # of just this configuration, on the model's device
    memory: PeakMemory
    energy: EnergyPerEpoch | None  # of the device's board

    @property
    def saved(self) -> SavedModel:
        return self.choice.model

    @property
    def domain(self) -> str:
        """Return where the configuration lies against what was measured."""
        return self.times.domain

    @property
    def images_per_sec(self) -> Interval:
        return self.times.steady.inverse(self.saved.train_n)

    @property
    def params(self) -> int:
        return count_params(self.config)

    @property
    def steps_per_epoch(self) -> int:
        return self.config.steps_per_epoch(self.saved.train_n)

    @property
    def half_width_log(self) -> float | None:
        """Return the half-width of the time's interval, natural log."""
        return self.saved.widths.of(self.domain)

    @property
    def range_unknown(self) -> str:
        """Return why no interval is known; empty where one is."""
        return self.saved.widths.why_unknown(self.domain)

    def to_json(self) -> dict[str, Any]:
        """Return everything in full precision; null is unknown."""
        saved, measured, energy = self.saved, self.measured, self.energy
        return {
            **asdict(self.config),
            "params": self.params,
            "steps_per_epoch": self.steps_per_epoch,
            **times_json(self.times, saved.train_n, self.epochs),
            **with_ends("measured_avg_time_sec", None if measured is None else measured.steady),
            "measured_basis": None if measured is None else measured.basis,
            **memory_json(self.memory),
            **with_ends("board_energy_j_per_epoch", None if energy is None else energy.joules),
            "board_energy_basis": None if energy is None else energy.basis,
            "coverage": saved.coverage,
            "in_range": self.domain == WITHIN,
            "domain": self.domain,
            "outside": self.times.outside,
            "range": saved.range.to_json(),
            "more_configurations_for_range": saved.widths.n_missing,
            "range_unknown": self.range_unknown or None,
            "half_width_log": self.half_width_log,
            "form": saved.card["form"],
            **_device_json(saved, self.this_box),
            **_model_json(self.choice),
            "conditions": asdict(saved.conditions),
            "declared_conditions": saved.card.get("declared", []),
            "error": saved.card["errors"],
        }


@dataclass(frozen=True, slots=True, eq=False)
class NoPrediction:
    """A configuration so far outside that the model has no number for it, and why."""

    config: RunConfig
    choice: Choice
    this_box: str
    problem: str

    @property
    def domain(self) -> str:
        return FAR

    def to_json(self) -> dict[str, Any]:
        """Return what is known all the same."""
        saved = self.choice.model
        return {
            **asdict(self.config),
            **with_ends("predicted_avg_time_sec", None),
            **with_ends("predicted_images_per_sec_derived", None),
            "in_range": False,
            "domain": self.domain,
            "outside": saved.outside(self.config),
            "range": saved.range.to_json(),
            "problem": self.problem,
            **_device_json(saved, self.this_box),
            **_model_json(self.choice),
        }


def predict(config: RunConfig, choice: Choice, epochs: int | None = None, rows: Sequence[AggRow] = ()) -> Prediction:
    """Return the chosen model's prediction for one configuration.

    `rows` are what was measured on this box: those under the model's conditions know memory and energy.

    Raises:
        ValueError: if the configuration is so far outside that the model has no number for it.
    """
    saved = choice.model
    times = saved.forecast(config, epochs)
    return Prediction(
        config,
        choice,
        box_device_name(),
        times,
        epochs,
        measured_time(known_gpu(saved.device_name), config, saved.conditions, rows) if rows else None,
        MemoryModel.of(saved.conditions, rows).peak(config),
        EnergyModel.of(saved.conditions, rows).per_epoch(config, times.steady),
    )


def run_parts(run: WholeRun) -> dict[str, Interval | None]:
    """Return the seconds of a run's parts and of all of it, by their names."""
    return {
        "first_epoch_sec": run.first_epoch,
        "overhead_sec": run.overhead,
        "training_sec": run.training,
        "wall_sec": run.wall,
    }


def memory_gib(peak: PeakMemory) -> Interval:
    """Return the peak memory in GiB with its band."""
    return Interval(peak.value / GIB, peak.low / GIB, peak.high / GIB)


def times_json(times: PredictedTimes, train_n: int, epochs: int | None) -> dict[str, Any]:
    """Return seconds per epoch and images per second, and with `epochs` the parts of a run."""
    values: dict[str, Any] = with_ends("predicted_avg_time_sec", times.steady)
    values |= with_ends("predicted_images_per_sec_derived", times.steady.inverse(train_n))
    if epochs is not None:
        values["epochs"] = epochs
        for name, part in run_parts(times.run).items():
            values |= with_ends(name, part)
    return values


def memory_json(peak: PeakMemory) -> dict[str, Any]:
    """Return the peak memory, what of it are arrays, and what it rests on."""
    return {
        **with_ends("peak_memory_gib", memory_gib(peak)),
        "peak_memory_arrays_gib": peak.arrays / GIB,
        "peak_memory_basis": peak.basis,
    }


def _device_json(saved: SavedModel, this_box: str) -> dict[str, Any]:
    return {
        "device": saved.device_name,
        "this_box": this_box,
        "is_this_box": saved.is_of_this_box,
        "train_n": saved.train_n,
    }


def _model_json(choice: Choice) -> dict[str, Any]:
    return {"model": str(choice.model.path), "answered_because": choice.reason}
