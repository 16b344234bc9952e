"""What was measured of one configuration on a device: which row answers, its time, and what it rests on.

A row answers if nothing that is known of it contradicts what is wanted; the version of the framework may differ, steps
may be extrapolated to epochs, and both are named.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.gpus.lookup import is_same_device, known_gpu
from epochcast.interval import OWN_COVERAGE, Interval, total
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS, half_width_sds
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.model.time_model.startup import WholeRun, whole_run
from epochcast.output.text import percent
from epochcast.paths import runs_agg_csv, runs_csv
from epochcast.schema import AggRow, Conditions, RunConfig, uses_tf32
from epochcast.stats import MIN_RUNS

if TYPE_CHECKING:
    from epochcast.facts.tables import Gpu

logger = logging.getLogger(__name__)

COMPARED = ("backend", "pipeline", "steps_per_execution", "train_n", "precision")
FULL_EPOCH = "full_epoch"
# A run's own 95 % interval, in standard deviations of pooled repeats, that they do not explain: with two timed epochs
# (Student's t = 12.7, the widest there is) one run in a thousand gives a wider one
EXPLAINED_SDS = math.tan(math.pi * OWN_COVERAGE / 2) * half_width_sds(1 - 0.001)


@dataclass(frozen=True, slots=True)
class MeasuredTime:
    """The steady seconds per epoch of a measured row with their range, and what they rest on, in words."""

    steady: Interval
    basis: str

    @classmethod
    def of(cls, row: AggRow) -> MeasuredTime:
        return cls(measured_steady(row), measured_words(row))


def measured_rows() -> list[AggRow]:
    """Return the default table's rows, if there are any; a table that can't be read only leaves a warning."""
    try:
        if not any(table.exists() for table in (runs_agg_csv(), runs_csv())):
            return []
        from epochcast.aggregate.averages.table import load_agg_if_any  # needed only if there are runs

        table = load_agg_if_any(None, keeps=False)  # an answer leaves no file behind
    except (ValueError, OSError) as error:
        logger.warning("answered without measured rows: %s", error)
        return []
    return [] if table is None else table.rows


def measured_time(
    gpu: Gpu | None, config: RunConfig, wanted: Conditions, rows: Sequence[AggRow]
) -> MeasuredTime | None:
    """Return what the row of `measured_row` says; None where there is none."""
    row = measured_row(gpu, config, wanted, rows)
    return None if row is None else MeasuredTime.of(row)


def measured_row(gpu: Gpu | None, config: RunConfig, wanted: Conditions, rows: Sequence[AggRow]) -> AggRow | None:
    """Return the closest row of a configuration on the device wanted whose conditions do not contradict.

    Args:
        gpu: the device by the facts; None where they do not have it.
    """
    own = [row for row in rows_on(gpu, wanted, rows) if row.config == config]
    return max(own, key=lambda row: (_closeness(row, wanted), row.n), default=None)


def rows_on(gpu: Gpu | None, wanted: Conditions, rows: Sequence[AggRow]) -> list[AggRow]:
    """The rows of any configuration on the device wanted, under conditions that do not contradict."""
    return [row for row in rows if _is_on(row, gpu, wanted.device_name) and not _contradicts(row, wanted, gpu)]


def _is_on(row: AggRow, gpu: Gpu | None, device_name: str | None) -> bool:
    if row.device_name is None:
        return False
    known = known_gpu(row.device_name, row.device_memory_bytes)
    return is_same_device(row.device_name, device_name) or (
        known is not None and gpu is not None and known.name == gpu.name
    )


def _contradicts(row: AggRow, wanted: Conditions, gpu: Gpu | None) -> bool:
    names = list(COMPARED)
    if gpu is not None:  # what a device without facts resolves `auto` to is its own affair
        names.append("jit_compile")
        if uses_tf32(wanted.precision) and gpu.tf32_tflops is not None:
            names.append("tf32")
    pairs = ((getattr(row, name), getattr(wanted, name)) for name in names)
    return is_other_dataset(row.dataset, wanted.dataset) or any(
        a is not None and b is not None and a != b for a, b in pairs
    )


def is_other_dataset(one: str | None, other: str | None) -> bool:
    """Whether two runs are known to have read different things: from whichever folder, real images are real ones."""
    return one is not None and other is not None and one != other and "synthetic" in (one, other)


def _closeness(row: AggRow, wanted: Conditions) -> tuple[bool, int]:
    is_whole = row.timing_mode in (None, FULL_EPOCH)
    return is_whole, sum(getattr(row, name) == getattr(wanted, name) for name in Conditions.__slots__)


def measured_steady(row: AggRow) -> Interval:
    """Return the steady time of a measured row with its range.

    Repeats elsewhere spread as is assumed for the device.
    """
    return steady_range(row, _assumed_sd(row, "repeat_sd_steady"))


def steady_range(row: AggRow, sd: float | None, is_pooled: bool = False, is_next_run: bool = False) -> Interval:
    """Return the steady time of a measured row with its range; predictions and plans both take it from this.

    From MIN_RUNS runs on the range is their spread. Of fewer it is the spread of repeats, or the 95 % interval that the
    epochs of the row's own runs give, where that counts.

    Args:
        sd: relative standard deviation of repeats elsewhere; None where it is unknown.
        is_pooled: whether it was measured, on the repeats of the row's own table.
        is_next_run: whether the range is of a new run about the mean of the row's.
    """
    more = math.sqrt(1 + 1 / row.n) if is_next_run else 1.0  # the variance of one run and that of the mean
    if (spread := _own_spread(row)) is not None:
        return Interval.of_log(row.avg_time_mean, HALF_WIDTH_SDS * spread * more)
    half = None if sd is None else HALF_WIDTH_SDS * sd * more
    if (own := own_interval(row, sd, is_pooled)) is not None and (half is None or own > half):
        half = own
    return Interval.of_factor(row.avg_time_mean, half)


def own_interval(row: AggRow, sd: float | None, is_pooled: bool) -> float | None:
    """Return the relative half-width that the row's own epochs give, None where it does not count.

    Next to an assumed spread it counts where it is wider. Repeats of the row's own table show how far such runs
    differ, and an interval of two timed epochs is wide by its Student's t alone: next to them it counts where the row's
    runs were flagged, or where it is wider than they explain.
    """
    if row.rel_ci95 is None or _own_spread(row) is not None:
        return None
    if sd is None:
        return row.rel_ci95
    is_flagged = bool(row.n_flagged) and (row.n_flagged or 0) >= row.n
    least = EXPLAINED_SDS * sd if is_pooled and not is_flagged else HALF_WIDTH_SDS * sd
    return row.rel_ci95 if row.rel_ci95 > least else None


def _assumed_sd(row: AggRow, name: str) -> float:
    return assumption(name, device_kind_of(row.device_name)).value


def _own_spread(row: AggRow) -> float | None:
    """Relative spread of a row's runs, None of too few; runs that do not differ at all tell of none."""
    return row.avg_time_std / row.avg_time_mean if row.n >= MIN_RUNS and row.avg_time_std else None


def measured_words(row: AggRow) -> str:
    """Where and how often a row was measured, and what of it is no plain full epoch under a known version."""
    words = f"measured on {row.device_name}, {row.n} run{'' if row.n == 1 else 's'}"
    words += f", {row.backend or 'backend'} {row.backend_version or 'of an unknown version'}"
    if row.timing_mode not in (None, FULL_EPOCH):
        words += f", {row.timing_mode}"
    if _own_spread(row) is not None:
        return words
    if (own := own_interval(row, _assumed_sd(row, "repeat_sd_steady"), False)) is not None:
        whose = "the run's" if row.n == 1 else "the runs'"
        return f"{words}; range: {whose} own 95 % interval, ±{percent(own)}"
    return f"{words}; range: spread of repeats assumed"


def measured_run(row: AggRow, saved: SavedModel, domain: str, epochs: int | None) -> WholeRun:
    """A run by its measured steady time; what the row does not know of start-up is the model's."""
    steady = measured_steady(row)
    guess = whole_run(row.config, steady, domain, saved.excess, saved.overhead)
    first, overhead = guess.first_epoch, guess.overhead
    if row.first_epoch_sec_mean is not None:
        first = _repeated(row, row.first_epoch_sec_mean, "repeat_sd_first_epoch")
    if row.overhead_sec_mean is not None:
        overhead = _repeated(row, row.overhead_sec_mean, "repeat_sd_overhead")
    if epochs is None or first is None:
        return WholeRun(first, overhead, None, None)
    parts = [first, steady.times(epochs - 1)]
    return WholeRun(first, overhead, total(parts), None if overhead is None else total([overhead, *parts]))


def knows_start_up(row: AggRow) -> bool:
    """Whether all of a run's start-up was measured."""
    return row.first_epoch_sec_mean is not None and row.overhead_sec_mean is not None


def _repeated(row: AggRow, seconds: float, spread: str) -> Interval:
    return Interval.of_factor(seconds, HALF_WIDTH_SDS * _assumed_sd(row, spread))
