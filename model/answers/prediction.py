"""The answer for one configuration: seconds per epoch, throughput and a run's wall time with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from epochcast.gpus.lookup import known_gpu
from epochcast.interval import Interval, with_ends
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.energy import EnergyModel
from epochcast.model.answers.measured import measured_row, measured_steady, measured_words
from epochcast.model.time_model.intervals import FAR, WITHIN
from epochcast.model.time_model.saved_model import Choice, PredictedTimes, SavedModel
from epochcast.schema import AggRow, RunConfig
from epochcast.workload.memory import MemoryModel, PeakMemory
from epochcast.workload.shape import count_params


def time_values(forecast: PredictedTimes, train_n: int, epochs: int | None) -> dict[str, Any]:
    """Seconds per epoch and images per second, and with `epochs` the parts of a run, each with its ends."""
    run = {
        "epochs": epochs,
        **with_ends("first_epoch_sec", forecast.run.first_epoch),
        **with_ends("overhead_sec", forecast.run.overhead),
        **with_ends("training_sec", forecast.run.training),
        **with_ends("wall_sec", forecast.run.wall),
    }
    return {
        **with_ends("predicted_avg_time_sec", forecast.steady),
        **with_ends("predicted_images_per_sec_derived", forecast.steady.inverse(train_n)),
        **(run if epochs is not None else {}),
    }


def memory_values(peak: PeakMemory) -> dict[str, Any]:
    """Peak memory with its band."""
    gib = Interval(peak.value / 2**30, peak.low / 2**30, peak.high / 2**30)
    return {**with_ends("peak_memory_gib", gib), "peak_memory_basis": peak.basis}


def _energy_of(config: RunConfig, steady: Interval, energy: EnergyModel) -> dict[str, Any]:
    known = energy.per_epoch(config, steady)
    return {
        **with_ends("board_energy_j_per_epoch", None if known is None else known.joules),
        "board_energy_basis": None if known is None else known.basis,
    }


def _measured_of(config: RunConfig, choice: Choice, rows: Sequence[AggRow]) -> dict[str, Any]:
    """What was measured of just this, on the model's device: a table's row beside what the model says."""
    own = choice.model.conditions
    row = measured_row(known_gpu(own.device_name), config, own, rows)
    return {
        **with_ends("measured_avg_time_sec", None if row is None else measured_steady(row)),
        "measured_basis": None if row is None else measured_words(row),
    }


def predict(
    config: RunConfig, choice: Choice, epochs: int | None = None, rows: Sequence[AggRow] = ()
) -> dict[str, Any]:
    """The whole answer for one configuration: predictions with intervals, the model and why it answers, its range.

    `rows` are what was measured on this box: those under the model's conditions tell of memory and energy.
    """
    saved = choice.model
    forecast = saved.forecast(config, epochs)
    return {
        **asdict(config),
        "params": count_params(config),
        "steps_per_epoch": config.steps_per_epoch(saved.train_n),
        **time_values(forecast, saved.train_n, epochs),
        **_measured_of(config, choice, rows),
        **memory_values(MemoryModel.of(saved.conditions, rows).peak(config)),
        **_energy_of(config, forecast.steady, EnergyModel.of(saved.conditions, rows)),
        "coverage": saved.coverage,
        "in_range": forecast.domain == WITHIN,
        "domain": forecast.domain,
        "outside": forecast.outside,
        "range": saved.range.to_json(),
        "more_configurations_for_range": saved.widths.n_missing,
        "range_unknown": saved.widths.why_unknown(forecast.domain) or None,
        "half_width_log": saved.widths.of(forecast.domain),
        "form": saved.card["form"],
        **device_values(saved),
        "model": str(saved.path),
        "answered_because": choice.reason,
        "conditions": asdict(saved.conditions),
        "declared_conditions": saved.card.get("declared", []),
        "error": saved.card["errors"],
    }


def device_values(saved: SavedModel) -> dict[str, Any]:
    """The device that an answer is of, whether it is this box's, and how many images an epoch has."""
    return {
        "device": saved.device_name,
        "this_box": box_device_name(),
        "is_this_box": saved.is_of_this_box,
        "train_n": saved.train_n,
    }


def unanswered(config: RunConfig, choice: Choice, problem: str) -> dict[str, Any]:
    """The answer for a configuration so far outside that the model has no number for it."""
    saved = choice.model
    return {
        **asdict(config),
        **with_ends("predicted_avg_time_sec", None),
        **with_ends("predicted_images_per_sec_derived", None),
        "in_range": False,
        "domain": FAR,
        "outside": saved.outside(config),
        "range": saved.range.to_json(),
        "problem": problem,
        **device_values(saved),
        "model": str(saved.path),
        "answered_because": choice.reason,
    }
