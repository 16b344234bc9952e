"""The answer for one configuration: seconds per epoch, throughput and a run's wall time with their 90 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from epochcast.gpu_driver import box_device_name
from epochcast.hardware import known_gpu
from epochcast.interval import Interval
from epochcast.schema import AggRow, RunConfig
from model.card import half_width_text
from model.energy import EnergyModel
from model.intervals import BEYOND, WITHIN
from model.measured_rows import measured_row, measured_steady, measured_words
from model.predictor import Choice, Forecast
from workload.memory import MemoryModel, PeakMemory
from workload.shape import count_params


def with_bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    """A value and the ends of its interval, under three names."""
    found = interval or Interval(float("nan"))
    return {
        name: None if interval is None else interval.value,
        f"{name}_low": found.low,
        f"{name}_high": found.high,
    }


def time_values(forecast: Forecast, train_n: int, epochs: int | None) -> dict[str, Any]:
    """Seconds per epoch and images per second, and with `epochs` the parts of a run, each with its ends."""
    run = {
        "epochs": epochs,
        **with_bounds("first_epoch_sec", forecast.run.first_epoch),
        **with_bounds("overhead_sec", forecast.run.overhead),
        **with_bounds("training_sec", forecast.run.training),
        **with_bounds("wall_sec", forecast.run.wall),
    }
    return {
        **with_bounds("predicted_avg_time_sec", forecast.steady),
        **with_bounds("predicted_images_per_sec_derived", forecast.steady.inverse(train_n)),
        **(run if epochs is not None else {}),
    }


def memory_values(peak: PeakMemory) -> dict[str, Any]:
    """Peak memory with its band."""
    return {
        "peak_memory_gib": peak.value / 2**30,
        "peak_memory_lo_gib": peak.low / 2**30,
        "peak_memory_hi_gib": peak.high / 2**30,
        "peak_memory_basis": peak.basis,
    }


def _energy_of(config: RunConfig, steady: Interval, energy: EnergyModel) -> dict[str, Any]:
    known = energy.per_epoch(config, steady)
    return {
        "board_energy_j_per_epoch": None if known is None else known.joules.value,
        "board_energy_lo_j": None if known is None else known.joules.low,
        "board_energy_hi_j": None if known is None else known.joules.high,
        "board_energy_basis": None if known is None else known.basis,
    }


def _measured_of(config: RunConfig, choice: Choice, rows: Sequence[AggRow]) -> dict[str, Any]:
    """What was measured of just this, on the model's device: a table's row beside what the model says."""
    own = choice.model.conditions
    row = measured_row(known_gpu(own.device_name), config, own, rows)
    return {
        **with_bounds("measured_avg_time_sec", None if row is None else measured_steady(row)),
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
        "params": count_params(config.depth, config.base_filters),
        "steps_per_epoch": config.steps_per_epoch(saved.train_n),
        **time_values(forecast, saved.train_n, epochs),
        **_measured_of(config, choice, rows),
        **memory_values(MemoryModel.of(saved.conditions, rows).peak(config)),
        **_energy_of(config, forecast.steady, EnergyModel.of(saved.conditions, rows)),
        "coverage": saved.card["intervals"]["coverage"],
        "in_range": forecast.place == WITHIN,
        "place": forecast.place,
        "outside": forecast.outside,
        "half_width_log": saved.widths.of(forecast.place),
        "form": saved.card["form"],
        "device": saved.device_name,
        "this_box": box_device_name(),
        "model": str(saved.path),
        "answered_because": choice.reason,
        "conditions": asdict(saved.conditions),
        "declared_conditions": saved.card.get("declared", []),
        "error": saved.card["errors"],
    }


def range_words(answer: Mapping[str, Any]) -> str:
    """Whether a configuration was within the measured range, and what its interval is worth."""
    if answer["place"] == WITHIN:
        return f"yes, {half_width_text(answer['half_width_log'])}"
    return f"no: {extrapolation_words(answer)}"


def extrapolation_words(answer: Mapping[str, Any]) -> str:
    """What was never measured, and what the interval is worth there."""
    outside = ", ".join(answer["outside"])
    if answer["place"] == BEYOND:
        return f"{outside}: extrapolating, {half_width_text(answer['half_width_log'])}"
    return f"{outside}: extrapolating further than any check reaches, interval unknown"
