"""What one configuration takes and costs on other GPUs: as measured there, else the model's prediction scaled.

A measured row of the same configuration goes first; rows of others on that GPU correct the scaled time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from epochcast.facts.tables import Gpu
from epochcast.footprint.footprint import Footprint, footprint, rates_of
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json
from epochcast.gpus.lookup import BYTES_PER_GB, index_in_box, is_same_device, known_gpu
from epochcast.gpus.ratio import SAME, GpuArithmetic, Ratio, source_device
from epochcast.gpus.scaled_time import LIMITED_WORDS
from epochcast.interval import Interval, with_ends
from epochcast.machine.gpu_driver import box_device_names
from epochcast.model.answers.correction import MIN_CONFIGS, Correction, cnn_ratio, correction_by, scaled_steady_time
from epochcast.model.answers.energy import EnergyModel
from epochcast.model.answers.measured import (
    knows_start_up,
    measured_row,
    measured_run,
    measured_steady,
    measured_words,
    rows_on,
)
from epochcast.model.answers.prediction import RunRequest, memory_json, times_json
from epochcast.model.answers.run_energy import MeasuredBoard, RunSeconds, measured_board, run_energy
from epochcast.model.time_model.physics import device_share
from epochcast.model.time_model.saved_model import Choice, PredictedTimes, SavedModel, pretrained
from epochcast.model.time_model.startup import whole_run
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.workload.memory import MemoryModel, PeakMemory
from epochcast.workload.shape import work_of

MEASURED = "measured"


@dataclass(frozen=True, slots=True, eq=False)
class GpuPrediction:
    """One configuration on one GPU, by measured rows or by a model scaled to it."""

    gpu: Gpu
    saved: SavedModel
    epochs: int | None
    conditions: Conditions  # of the measured row, else the model's with this GPU and precision in them
    basis: str  # MEASURED, or how the ratio is known, or by how many measured there it was corrected
    words: str
    ratio: Ratio | None  # of the scaled time, as the roofline limits it; None where it was measured
    share: float  # of the model's time, in which its device computes
    times: PredictedTimes
    memory: PeakMemory
    n_there: int = 0  # other configurations measured on this GPU
    correction: Correction | None = None
    limited: str | None = None  # by its roofline: one of LIMITED_WORDS, None where the scaled time is above it
    start_up_of: str | None = None  # the other device whose start-up a run's time has; None: its own, or none
    busy_share: float | None = None  # of the time on this GPU, in which it computes; None is unknown
    footprints: tuple[Footprint, ...] = ()  # one for each place; none without a number of epochs

    @property
    def was_measured(self) -> bool:
        return self.basis == MEASURED

    @property
    def basis_text(self) -> str:
        """Return basis and words as one."""
        return self.words if self.was_measured else f"{self.basis}: {self.words}"

    @property
    def device_time_ratio(self) -> Interval | None:
        """Return seconds of arithmetic and memory on this GPU over the model's; None if measured or corrected."""
        return None if self.ratio is None or self.correction is not None else self.ratio.value

    @property
    def fit(self) -> str:
        """Return whether the run fits into the GPU's memory."""
        return self.memory.fit(self.gpu.memory_gb * BYTES_PER_GB)

    def to_json(self) -> dict[str, Any]:
        """Return everything in full precision; null is unknown."""
        gpu = self.gpu
        return {
            "gpu": gpu.name,
            "model": str(self.saved.path),
            "train_n": self.saved.train_n,
            "year": gpu.year,
            "confidence": gpu.confidence,
            "source": gpu.source,
            "precision": self.conditions.precision,
            "basis": self.basis,
            "basis_words": self.words,
            "domain": None if self.was_measured else self.times.domain,  # of the model's range
            "outside": [] if self.was_measured else self.times.outside,
            "configurations_there": self.n_there,
            "corrected_by": None if self.correction is None else self.correction.factor,
            "start_up_of": self.start_up_of,
            "device_share": self.share,
            "held_at_roof": self.limited,
            **with_ends("device_time_ratio", self.device_time_ratio),
            **times_json(self.times, self.saved.train_n, self.epochs),
            **memory_json(self.memory),
            "memory_gb": gpu.memory_gb,
            "memory_fit": self.fit,
            "footprints": [footprint_json(found) for found in self.footprints],
        }


def can_scale(saved: SavedModel) -> bool:
    """Return whether a model's times can be scaled to another GPU: it is of a GPU whose rates are known."""
    try:
        source_device(saved.conditions)
    except ValueError:
        return False
    return True


def choice_for_gpus(choice: Choice, is_named: bool) -> Choice:
    """Return the model for answers on other GPUs: the chosen one, or the pretrained one where nothing scales from it.

    Args:
        is_named: whether the user named a model or its conditions, which no other one replaces.
    """
    if is_named or can_scale(choice.model):
        return choice
    return pretrained(f"as nothing scales from {choice.model.device_name or 'an unknown device'} to a GPU")


def answer_on(gpu: Gpu, saved: SavedModel, asked: RunRequest, rows: Sequence[AggRow]) -> GpuPrediction:
    """Return the prediction for one GPU.

    Raises:
        ValueError: if nothing is known of the model's device, or the GPU is not known to have the precision.
    """
    config = asked.config
    wanted = _wanted(gpu, saved, asked, rows)
    times = saved.forecast(config, asked.epochs)
    row = measured_row(gpu, config, wanted, rows)
    if row is None:
        answer = _scaled(gpu, saved, asked, times, wanted, rows)
    else:
        answer = _measured(gpu, saved, asked, times, row, rows)
    return replace(answer, footprints=_footprints(answer, asked, rows))


def _measured(
    gpu: Gpu, saved: SavedModel, asked: RunRequest, times: PredictedTimes, row: AggRow, rows: Sequence[AggRow]
) -> GpuPrediction:
    run = measured_run(row, saved, times.domain, asked.epochs)
    is_own_start = knows_start_up(row) or (run.first_epoch is None and run.overhead is None)
    start_up_of = None if is_own_start else saved.device_name
    words = measured_words(row)
    share = device_share(saved.plain_law, work_of(asked.config, saved.train_n))
    if start_up_of is not None and asked.epochs is not None:
        words += f"; start-up of {start_up_of}"
    return GpuPrediction(
        gpu,
        saved,
        asked.epochs,
        row.conditions,
        MEASURED,
        words,
        ratio=None,
        share=share,
        times=replace(times, steady=measured_steady(row), run=run),
        memory=MemoryModel.of(row.conditions, rows).needs(asked.config),
        start_up_of=start_up_of,
        busy_share=share if is_same_device(row.conditions.device_name, saved.device_name) else None,
    )


def _scaled(
    gpu: Gpu, saved: SavedModel, asked: RunRequest, times: PredictedTimes, wanted: Conditions, rows: Sequence[AggRow]
) -> GpuPrediction:
    config, source = asked.config, source_device(saved.conditions)
    target = GpuArithmetic.of(gpu, asked.precision, saved.conditions.tf32)
    ratio = cnn_ratio(saved, config, target)
    time = scaled_steady_time(saved, config, target)
    there = {row.config for row in rows_on(gpu, wanted, rows)} if ratio.basis != SAME else set()
    closest = {other: row for other in there if (row := measured_row(gpu, other, wanted, rows)) is not None}
    basis, words = ratio.basis, ratio.words
    correction = correction_by(closest, saved, target)
    if correction is not None:
        time = correction.of(time, config, times.domain)
        basis = f"carried, corrected by {correction.n} measured there"
        words = f"{correction.words(config, times.domain)}; carried by {ratio.basis}: {ratio.words}"
    elif closest:
        n = len(closest)
        measured = f"{n} configuration{' measured there is' if n == 1 else 's measured there are'}"
        words = f"{words}; {measured} not enough to correct it ({MIN_CONFIGS})"
    if time.limited is not None:
        words = f"{words}; {LIMITED_WORDS[time.limited]}"
    run = whole_run(config, time.seconds, times.domain, saved.excess, saved.overhead, asked.epochs)
    is_own_start = gpu.name == source.gpu.name or (run.first_epoch is None and run.overhead is None)
    return GpuPrediction(
        gpu,
        saved,
        asked.epochs,
        wanted,
        basis,
        words,
        replace(ratio, value=time.ratio),
        device_share(saved.plain_law, work_of(config, saved.train_n)),
        replace(times, steady=time.seconds, run=run),
        MemoryModel.of(wanted, rows).needs(config),
        len(closest),
        correction,
        time.limited,
        None if is_own_start else saved.device_name,
        time.share,
    )


def answers_on(
    gpus: Sequence[Gpu], saved: SavedModel, asked: RunRequest, rows: Sequence[AggRow], sort: str = "time"
) -> list[GpuPrediction]:
    """Return the predictions for several GPUs, the fastest, cheapest (to rent) or cleanest first, unknown ones last."""
    return sorted((answer_on(gpu, saved, asked, rows) for gpu in gpus), key=lambda answer: _order(answer, sort))


def without_number(gpu: Gpu, saved: SavedModel, asked: RunRequest, rows: Sequence[AggRow]) -> str | None:
    """Return why there can be no prediction for this GPU, in words that suit several; None if there can."""
    if asked.rules is not None and asked.rules.energy_formula == "mlcost" and gpu.tdp_w is None:
        return "without a known TDP, which mlcost needs"
    if measured_row(gpu, asked.config, _wanted(gpu, saved, asked, rows), rows) is None:
        try:
            GpuArithmetic.of(gpu, asked.precision, saved.conditions.tf32)
        except ValueError:
            return f"without a known rate in {asked.precision}"
    return None


def _wanted(gpu: Gpu, saved: SavedModel, asked: RunRequest, rows: Sequence[AggRow]) -> Conditions:
    """Return the model's conditions with this GPU and the precision asked for in them."""
    return replace(saved.conditions, device_name=_name_of(gpu, rows), precision=asked.precision)


def _order(answer: GpuPrediction, sort: str) -> tuple[bool, float, float]:
    run = answer.times.steady if answer.epochs is None else RunSeconds.of(answer.times, answer.epochs).whole
    by: Interval | None = run
    if sort != "time":
        first = answer.footprints[0]
        by = first.cloud_usd if sort == "cost" else first.operational_kg_co2e
    return by is None, 0.0 if by is None else by.value, run.value


def _name_of(gpu: Gpu, rows: Sequence[AggRow]) -> str:
    """Return the GPU's name as this box or the measured rows have it, else as the facts do."""
    names = [*box_device_names(), *(row.device_name for row in rows if row.device_name is not None)]
    return next((name for name in names if (known := known_gpu(name)) is not None and known.name == gpu.name), gpu.name)


# --- footprint --------------------------------------------------------------------------------------------------------


def _footprints(answer: GpuPrediction, asked: RunRequest, rows: Sequence[AggRow]) -> tuple[Footprint, ...]:
    if asked.rules is None or asked.epochs is None:
        return ()
    device_name = answer.conditions.device_name
    is_known = index_in_box(device_name) is not None or any(is_same_device(device_name, r.device_name) for r in rows)
    return run_footprints(
        asked.config,
        asked.epochs,
        answer.times,
        EnergyModel.of(answer.conditions, rows),
        measured_board(device_name) if is_known else MeasuredBoard(),
        answer.gpu,
        asked.rules,
        answer.busy_share,
    )


def run_footprints(
    config: RunConfig,
    epochs: int,
    times: PredictedTimes,
    energy: EnergyModel,
    board: MeasuredBoard,
    gpu: Gpu | None,
    rules: FootprintRules,
    busy_share: float | None,
) -> tuple[Footprint, ...]:
    """Return the footprint of a run at each place of the rules; arguments as of `run_energy`."""
    seconds = RunSeconds.of(times, epochs)
    joules = run_energy(config, epochs, seconds, energy, board, gpu, rules, busy_share)
    of_board = None if joules is None else joules.board
    return tuple(footprint(of_board, seconds.whole, rates) for rates in rates_of(rules, gpu))
