"""What one configuration takes and costs on other GPUs: as measured there, else the model's answer carried over.

A measured row of the same configuration wins; rows of others on that GPU set the carried time right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.facts.tables import Gpu
from epochcast.footprint.footprint import Footprint, footprint, rates_of
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.lookup import BYTES_PER_GB, is_same_device, known_gpu, place_in_box
from epochcast.gpus.ratio import SAME, GpuArithmetic, Ratio, device_ratio, source_device
from epochcast.gpus.scaled_time import LIMITED_WORDS
from epochcast.interval import Interval
from epochcast.machine.gpu_driver import box_device_names
from epochcast.model.answers.correction import MIN_CONFIGS, Correction, carried_time, correction_by
from epochcast.model.answers.energy import EnergyModel, MeasuredBoard, RunSeconds, measured_board, run_energy
from epochcast.model.answers.measured import (
    knows_start_up,
    measured_row,
    measured_run,
    measured_steady,
    measured_words,
    rows_on,
)
from epochcast.model.time_model.physics import device_share
from epochcast.model.time_model.saved_model import Choice, PredictedTimes, SavedModel, pretrained
from epochcast.model.time_model.startup import whole_run
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.workload.memory import MemoryModel, PeakMemory
from epochcast.workload.shape import work_of

MEASURED = "measured"
SORTS = ("time", "cost", "co2")


@dataclass(frozen=True, slots=True, eq=False)
class GpuAnswer:
    """One configuration on one GPU."""

    gpu: Gpu
    conditions: Conditions  # of the measured row, else the model's with this GPU and precision in them
    basis: str  # MEASURED, or how the ratio is known, or by how many measured there it was corrected
    words: str
    ratio: Ratio | None  # of the carried time, as its roof holds it; None where it was measured
    share: float  # of the model's time, in which its device computes
    forecast: PredictedTimes
    memory: PeakMemory
    n_there: int = 0  # other configurations measured on this GPU
    correction: Correction | None = None
    held: str | None = None  # by its roof: one of LIMITED_WORDS, None where the carried time is above it
    start_up_of: str | None = None  # the other device whose start-up a run's time has; None: its own, or none
    footprints: tuple[Footprint, ...] = ()  # one for each place; none without a number of epochs

    @property
    def basis_text(self) -> str:
        """Basis and words as one."""
        return self.words if self.basis == MEASURED else f"{self.basis}: {self.words}"

    @property
    def told_ratio(self) -> Interval | None:
        """Seconds of arithmetic and memory there over here; None where measured, or set right with the rest."""
        return None if self.ratio is None or self.correction is not None else self.ratio.value

    @property
    def fit(self) -> str:
        """Whether the run fits into the GPU's memory."""
        return self.memory.fit(self.gpu.memory_gb * BYTES_PER_GB)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of each GPU; `rules` None: no footprint, which also takes a number of epochs."""

    config: RunConfig
    precision: str
    epochs: int | None = None
    rules: FootprintRules | None = None


def can_scale(saved: SavedModel) -> bool:
    """Whether a model's times can be scaled to another GPU: it is of a GPU whose rates are known."""
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


def answer_on(gpu: Gpu, saved: SavedModel, asked: Asked, rows: Sequence[AggRow]) -> GpuAnswer:
    """The answer for one GPU.

    Raises:
        ValueError: if nothing is known of the model's device, or the GPU is not known to have the precision.
    """
    config = asked.config
    wanted = _wanted(gpu, saved, asked, rows)
    base = saved.forecast(config, asked.epochs)
    row = measured_row(gpu, config, wanted, rows)
    if row is None:
        answer = _carried(gpu, saved, asked, base, wanted, rows)
    else:
        answer = _measured(gpu, saved, asked, base, row, rows)
    return replace(answer, footprints=_footprints(answer, asked, rows))


def _measured(
    gpu: Gpu, saved: SavedModel, asked: Asked, base: PredictedTimes, row: AggRow, rows: Sequence[AggRow]
) -> GpuAnswer:
    run = measured_run(row, saved, base.domain, asked.epochs)
    is_own_start = knows_start_up(row) or (run.first_epoch is None and run.overhead is None)
    start_up_of = None if is_own_start else saved.device_name
    words = measured_words(row)
    if start_up_of is not None and asked.epochs is not None:
        words += f"; start-up of {start_up_of}"
    return GpuAnswer(
        gpu,
        row.conditions,
        MEASURED,
        words,
        ratio=None,
        share=device_share(saved.plain_law, work_of(asked.config, saved.train_n)),
        forecast=replace(base, steady=measured_steady(row), run=run),
        memory=MemoryModel.of(row.conditions, rows).needs(asked.config),
        start_up_of=start_up_of,
    )


def _carried(
    gpu: Gpu, saved: SavedModel, asked: Asked, base: PredictedTimes, wanted: Conditions, rows: Sequence[AggRow]
) -> GpuAnswer:
    config, source = asked.config, source_device(saved.conditions)
    target = GpuArithmetic.of(gpu, asked.precision, saved.conditions.tf32)
    ratio = device_ratio(source, target)
    time = carried_time(saved, config, ratio, target)
    there = {row.config for row in rows_on(gpu, wanted, rows)} if ratio.basis != SAME else set()
    likest = {other: row for other in there if (row := measured_row(gpu, other, wanted, rows)) is not None}
    basis, words = ratio.basis, ratio.words
    correction = correction_by(likest, saved, ratio, target)
    if correction is not None:
        time = correction.of(time, config, base.domain)
        basis = f"carried, corrected by {correction.n} measured there"
        words = f"{correction.words(config, base.domain)}; carried by {ratio.basis}: {ratio.words}"
    elif likest:
        n = len(likest)
        told = f"{n} configuration{' measured there is' if n == 1 else 's measured there are'}"
        words = f"{words}; {told} not enough to correct it ({MIN_CONFIGS})"
    if time.limited is not None:
        words = f"{words}; {LIMITED_WORDS[time.limited]}"
    run = whole_run(config, time.seconds, base.domain, saved.excess, saved.overhead, asked.epochs)
    is_own_start = gpu.name == source.gpu.name or (run.first_epoch is None and run.overhead is None)
    start_up_of = None if is_own_start else saved.device_name
    return GpuAnswer(
        gpu,
        wanted,
        basis,
        words,
        replace(ratio, value=time.ratio),
        device_share(saved.plain_law, work_of(config, saved.train_n)),
        replace(base, steady=time.seconds, run=run),
        MemoryModel.of(wanted, rows).needs(config),
        len(likest),
        correction,
        time.limited,
        start_up_of,
    )


def answers_on(
    gpus: Sequence[Gpu], saved: SavedModel, asked: Asked, rows: Sequence[AggRow], sort: str = "time"
) -> list[GpuAnswer]:
    """The answers for several GPUs, the fastest, cheapest (to rent) or cleanest first; what is unknown comes last."""
    return sorted((answer_on(gpu, saved, asked, rows) for gpu in gpus), key=lambda a: _order(a, asked.epochs, sort))


def without_number(gpu: Gpu, saved: SavedModel, asked: Asked, rows: Sequence[AggRow]) -> str | None:
    """Why there can be no answer for this GPU, in words that suit several; None if there can."""
    if asked.rules is not None and asked.rules.energy_formula == "mlcost" and gpu.tdp_w is None:
        return "without a known TDP, which mlcost needs"
    if measured_row(gpu, asked.config, _wanted(gpu, saved, asked, rows), rows) is None:
        try:
            GpuArithmetic.of(gpu, asked.precision, saved.conditions.tf32)
        except ValueError:
            return f"without a known rate in {asked.precision}"
    return None


def _wanted(gpu: Gpu, saved: SavedModel, asked: Asked, rows: Sequence[AggRow]) -> Conditions:
    """The model's conditions with this GPU and the precision asked for in them."""
    return replace(saved.conditions, device_name=_name_of(gpu, rows), precision=asked.precision)


def _order(answer: GpuAnswer, epochs: int | None, sort: str) -> tuple[bool, float, float]:
    run = answer.forecast.steady if epochs is None else RunSeconds.of(answer.forecast, epochs).whole
    by: Interval | None = run
    if sort != "time":
        first = answer.footprints[0]
        by = first.cloud_usd if sort == "cost" else first.operational_kg_co2e
    return by is None, 0.0 if by is None else by.value, run.value


def _name_of(gpu: Gpu, rows: Sequence[AggRow]) -> str:
    """The GPU as this box or the measured rows name it, so that what they know of it is found; else as the facts do."""
    names = [*box_device_names(), *(row.device_name for row in rows if row.device_name is not None)]
    return next((name for name in names if (known := known_gpu(name)) is not None and known.name == gpu.name), gpu.name)


# --- footprint --------------------------------------------------------------------------------------------------------


def _footprints(answer: GpuAnswer, asked: Asked, rows: Sequence[AggRow]) -> tuple[Footprint, ...]:
    if asked.rules is None or asked.epochs is None:
        return ()
    device_name = answer.conditions.device_name
    is_known = place_in_box(device_name) is not None or any(is_same_device(device_name, r.device_name) for r in rows)
    return run_footprints(
        asked.config,
        asked.epochs,
        answer.forecast,
        EnergyModel.of(answer.conditions, rows),
        measured_board(device_name) if is_known else MeasuredBoard(),
        answer.gpu,
        asked.rules,
    )


def run_footprints(
    config: RunConfig,
    epochs: int,
    forecast: PredictedTimes,
    energy: EnergyModel,
    board: MeasuredBoard,
    gpu: Gpu | None,
    rules: FootprintRules,
) -> tuple[Footprint, ...]:
    """The footprint of a run at each place of the rules; arguments as of `run_energy`."""
    seconds = RunSeconds.of(forecast, epochs)
    joules = run_energy(config, epochs, seconds, energy, board, gpu, rules)
    of_board = None if joules is None else joules.board
    return tuple(footprint(of_board, seconds.whole, rates) for rates in rates_of(rules, gpu))
