"""What one configuration takes and costs on other GPUs: as measured there, else the model's answer carried over.

A measured row is one of the same configuration on this GPU, under conditions that do not contradict the model's: the
version of the framework may differ, and a GPU without TF32 can't have it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.assumptions import assumption
from epochcast.environment import box_device_name
from epochcast.facts import Gpu
from epochcast.footprint import Footprint, FootprintRules, footprint, rates_of
from epochcast.hardware import known_gpu
from epochcast.interval import Interval, total
from epochcast.schema import AggRow, Conditions, RunConfig
from model.carry import BYTES_PER_GB, Device, Ratio, carried, device_ratio, device_share, source_device
from model.energy import MIN_RUNS, EnergyModel
from model.intervals import HALF_WIDTH_SDS
from model.predictor import Forecast, SavedModel
from model.run_energy import MeasuredBoard, measured_board, run_energy, run_seconds
from model.startup import WholeRun, whole_run
from workload.memory import MemoryModel, PeakMemory

MEASURED = "measured"
SORTS = ("time", "cost", "co2")
COMPARED = ("backend", "pipeline", "jit_compile", "steps_per_execution", "train_n", "precision")


@dataclass(frozen=True, slots=True, eq=False)
class GpuAnswer:
    """One configuration on one GPU."""

    gpu: Gpu
    conditions: Conditions  # of the measured row, else the model's with this GPU and precision in them
    basis: str  # MEASURED, or how the ratio is known
    words: str
    ratio: Ratio | None  # of the carried time; None where it was measured
    share: float  # of the model's time, in which its device computes
    forecast: Forecast
    memory: PeakMemory
    footprints: tuple[Footprint, ...] = ()  # one for each place; none without a number of epochs

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


def answer_on(gpu: Gpu, saved: SavedModel, asked: Asked, rows: Sequence[AggRow]) -> GpuAnswer:
    """The answer for one GPU.

    Raises:
        ValueError: if nothing is known of the model's device, or the GPU is not known to have the precision.
    """
    config, own = asked.config, saved.conditions
    wanted = _wanted(gpu, saved, asked, rows)
    share = device_share(saved.plain_law, config)
    base = saved.forecast(config, asked.epochs)
    ratio = None
    if (row := measured_row(gpu, config, wanted, rows)) is not None:
        wanted = row.conditions
        found = replace(base, steady=measured_steady(row), run=_measured_run(row, saved, base.place, asked.epochs))
        basis, words = MEASURED, measured_words(row)
    else:
        ratio = device_ratio(source_device(own), Device.of(gpu, asked.precision, own.tf32))
        steady = carried(base.steady, share, ratio)
        run = whole_run(config, steady, base.place, saved.excess, saved.overhead, asked.epochs)
        found = replace(base, steady=steady, run=run)
        basis, words = ratio.basis, ratio.words
    memory = MemoryModel.of(wanted, rows).needs(config)
    answer = GpuAnswer(gpu, wanted, basis, words, ratio, share, found, memory)
    return replace(answer, footprints=_footprints(answer, asked, rows))


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
            Device.of(gpu, asked.precision, saved.conditions.tf32)
        except ValueError:
            return f"without a known rate in {asked.precision}"
    return None


def _wanted(gpu: Gpu, saved: SavedModel, asked: Asked, rows: Sequence[AggRow]) -> Conditions:
    """The model's conditions with this GPU and the precision asked for in them."""
    return replace(saved.conditions, device_name=_name_of(gpu, rows), precision=asked.precision)


def _order(answer: GpuAnswer, epochs: int | None, sort: str) -> tuple[bool, float, float]:
    run = answer.forecast.steady if epochs is None else run_seconds(answer.forecast, epochs)[0]
    by: Interval | None = run
    if sort != "time":
        first = answer.footprints[0]
        by = first.cloud_usd if sort == "cost" else first.operational_kg_co2e
    return by is None, 0.0 if by is None else by.value, run.value


# --- what was measured ------------------------------------------------------------------------------------------------


def measured_row(gpu: Gpu, config: RunConfig, wanted: Conditions, rows: Sequence[AggRow]) -> AggRow | None:
    """The row of a configuration on this GPU whose conditions do not contradict those wanted; the likest of several."""
    own = [row for row in rows if row.config == config and _is_on(row, gpu) and not _contradicts(row, wanted, gpu)]
    return max(own, key=lambda row: (_likeness(row, wanted), row.n), default=None)


def _is_on(row: AggRow, gpu: Gpu) -> bool:
    known = known_gpu(row.device_name)
    return known is not None and known.name == gpu.name


def _contradicts(row: AggRow, wanted: Conditions, gpu: Gpu) -> bool:
    names = list(COMPARED)
    if wanted.precision == "float32" and gpu.tf32_tflops is not None:
        names.append("tf32")
    pairs = ((getattr(row, name), getattr(wanted, name)) for name in names)
    return any(a is not None and b is not None and a != b for a, b in pairs)


def _likeness(row: AggRow, wanted: Conditions) -> int:
    return sum(getattr(row, name) == getattr(wanted, name) for name in Conditions.__slots__)


def measured_steady(row: AggRow) -> Interval:
    """The steady time of a measured row: its runs' spread from MIN_RUNS on, else that of repeats elsewhere."""
    if row.n >= MIN_RUNS and row.avg_time_std is not None:
        return Interval.of_absolute(row.avg_time_mean, HALF_WIDTH_SDS * row.avg_time_std)
    return _repeated(row.avg_time_mean, "repeat_sd_steady")


def measured_words(row: AggRow) -> str:
    version = f", {row.backend or 'backend'} {row.backend_version or 'of an unknown version'}"
    spread = "" if row.n >= MIN_RUNS else "; range: spread of repeats assumed"
    return f"measured on {row.device_name}, {row.n} run{'' if row.n == 1 else 's'}{version}{spread}"


def _measured_run(row: AggRow, saved: SavedModel, place: str, epochs: int | None) -> WholeRun:
    """A run by its measured steady time; what the row does not know of start-up is the model's."""
    steady = measured_steady(row)
    guess = whole_run(row.config, steady, place, saved.excess, saved.overhead)
    first, overhead = guess.first_epoch, guess.overhead
    if row.first_epoch_sec_mean is not None:
        first = _repeated(row.first_epoch_sec_mean, "repeat_sd_first_epoch")
    if row.overhead_sec_mean is not None:
        overhead = _repeated(row.overhead_sec_mean, "repeat_sd_overhead")
    if epochs is None or first is None:
        return WholeRun(first, overhead, None, None)
    parts = [first, steady.times(epochs - 1)]
    return WholeRun(first, overhead, total(parts), None if overhead is None else total([overhead, *parts]))


def _repeated(seconds: float, spread: str) -> Interval:
    return Interval.of_relative(seconds, HALF_WIDTH_SDS * assumption(spread, "gpu").value)


def _name_of(gpu: Gpu, rows: Sequence[AggRow]) -> str:
    """The GPU as this box or the measured rows name it, so that what they know of it is found; else as the facts do."""
    names = [box_device_name(), *(row.device_name for row in rows if row.device_name is not None)]
    return next((name for name in names if (known := known_gpu(name)) is not None and known.name == gpu.name), gpu.name)


# --- footprint --------------------------------------------------------------------------------------------------------


def _footprints(answer: GpuAnswer, asked: Asked, rows: Sequence[AggRow]) -> tuple[Footprint, ...]:
    if asked.rules is None or asked.epochs is None:
        return ()
    device_name = answer.conditions.device_name
    is_known = device_name == box_device_name() or any(row.device_name == device_name for row in rows)
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
    forecast: Forecast,
    energy: EnergyModel,
    board: MeasuredBoard,
    gpu: Gpu | None,
    rules: FootprintRules,
) -> tuple[Footprint, ...]:
    """The footprint of a run at each place of the rules; arguments as of `run_energy`."""
    seconds, _ = run_seconds(forecast, epochs)
    joules = run_energy(config, epochs, forecast, energy, board, gpu, rules)
    return tuple(footprint(joules, seconds, rates) for rates in rates_of(rules, gpu))
