"""What rows of fits.csv say of a network: its own time, else a factor.

A network that was measured at this batch size is answered by its own rows. For others one factor of the law holds for
each kind of network on a GPU in an arithmetic: the median of measured over law of that kind's networks, each by the
median of its rows. Published steps say how well such a factor does (benchmarks/external/own_rows.py); where three
networks or more scatter further, their own spread counts. Steps below the least that the law was fitted to say nothing.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import Gpu
from epochcast.gpus.lookup import known_gpu
from epochcast.gpus.network_time import RANGES, SEVERAL, NetworkFactor
from epochcast.gpus.rates import arithmetic_of, law_rates
from epochcast.interval import COVERAGE, Interval
from epochcast.live.fits import FitRecord, rows_or_why
from epochcast.output.text import json_line
from epochcast.paths import fits_csv, models_dir
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.network_law import LawNumbers, StepWork, step_seconds, step_work
from epochcast.stats import t_quantile
from epochcast.storage.files import make_folder, read_text, write_text_atomically

Group = tuple[str, str, str, str]  # GPU, precision, arithmetic, kind of network


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """A network's own step on a GPU, by rows of fits.csv; None is unknown."""

    seconds: Interval
    joules: float | None
    memory_bytes: int | None  # that the framework counts
    run_ids: tuple[str, ...]

    @property
    def words(self) -> str:
        """Say which rows it is of."""
        which = ", ".join(self.run_ids[-2:]) + (", ..." if len(self.run_ids) > 2 else "")
        return f"measured on this GPU with its input, by {which} of results/fits.csv"


def rows_on(rows: Iterable[FitRecord], gpu: Gpu, precision: str, arithmetic: str | None) -> tuple[FitRecord, ...]:
    """Return the rows of a GPU in a precision and arithmetic, but for contended ones."""
    return tuple(row for row in rows if _group_of(row)[:3] == (gpu.name, precision, arithmetic))


def _group_of(row: FitRecord) -> tuple[str | None, ...]:
    """Return GPU, precision, arithmetic and kind of a row; None of the unknown."""
    gpu = None if row.is_contended else known_gpu(row.device_name)
    if gpu is None or row.precision is None:
        return None, None, None, None
    try:
        return gpu.name, row.precision, arithmetic_of(row.precision, row.tf32 or "on", gpu), row.network_kind
    except ValueError:  # a precision without a rate
        return gpu.name, row.precision, None, row.network_kind


def measured_step(rows: Sequence[FitRecord], network: TrainedNetwork) -> MeasuredStep | None:
    """Return what rows on a GPU measured of this very network; None without one."""
    work = step_work(network.records, network.batch_size, network.element_bytes, network.optimizer_passes)
    same = [row for row in rows if row.batch_size == network.batch_size and _work_of(row) == work]
    if not same:
        return None
    sec = statistics.median(row.timed_epoch_sec / row.batches for row in same)
    ends = [(row.epoch_sec_low, row.epoch_sec_high, row.epoch_sec) for row in same if row.epoch_sec_high is not None]
    low, high, of = ends[-1] if ends else (None, None, 1.0)
    seconds = Interval(sec) if low is None or high is None else Interval(sec, sec * low / of, sec * high / of)
    joules = [row.energy_j_per_epoch / row.batches for row in same if row.energy_j_per_epoch is not None]
    peaks = [row.peak_memory_bytes for row in same if row.peak_memory_bytes is not None]
    run_ids = tuple(row.run_id for row in same)
    return MeasuredStep(seconds, statistics.median(joules) if joules else None, max(peaks, default=None), run_ids)


def _work_of(row: FitRecord) -> StepWork | None:
    values = [getattr(row, f"step_{field.name}") for field in fields(StepWork)]
    return None if None in values else StepWork(*values)


# --- factors of the law -----------------------------------------------------------------------------------------------


def network_factors(rows: Iterable[FitRecord]) -> list[NetworkFactor]:
    """Return the factor of each GPU, precision, arithmetic and kind of network that rows are of."""
    found: dict[Group, list[tuple[FitRecord, float]]] = {}
    for row in rows:
        gpu, precision, arithmetic, kind = _group_of(row)
        if gpu is None or precision is None or arithmetic is None or kind not in RANGES:
            continue  # of other kinds nothing says how well a factor does
        if (log := _log_factor(row, arithmetic)) is not None:
            found.setdefault((gpu, precision, arithmetic, kind), []).append((row, log))
    return [_factor(of, own) for of, own in sorted(found.items())]


def _factor(of: Group, rows: Sequence[tuple[FitRecord, float]]) -> NetworkFactor:
    by_network: dict[str, list[float]] = {}
    for row, log in rows:
        by_network.setdefault(row.model_key, []).append(log)
    logs = [statistics.median(own) for own in by_network.values()]
    n = len(logs)
    half = math.log(assumption(f"network_range_after_{'three' if n >= SEVERAL else 'one'}", "gpu").value)
    if n >= SEVERAL:
        own = t_quantile((1 + COVERAGE) / 2, n - 1) * statistics.stdev(logs) * math.sqrt(1 + 1 / n)
        half = max(half, own)
    run_ids = tuple(row.run_id for row, _ in rows)
    return NetworkFactor(*of, math.exp(statistics.median(logs)), math.exp(half), n, run_ids)


def _log_factor(row: FitRecord, arithmetic: str) -> float | None:
    """Return the natural log of measured over law; None where the law has none."""
    gpu, work = known_gpu(row.device_name), _work_of(row)
    rates = None if gpu is None or work is None else law_rates(gpu, arithmetic)
    if work is None or rates is None:
        return None
    by_law: float = step_seconds(work, rates, LawNumbers.shipped())
    if by_law < assumption("network_least_step_sec", "gpu").value:
        return None
    return math.log(row.timed_epoch_sec / row.batches / by_law)


def factor_for(rows: Sequence[FitRecord], kind: str) -> NetworkFactor | None:
    """Return the factor of a kind of network by a GPU's rows, or None."""
    return next((each for each in network_factors(rows) if each.kind == kind), None)


# --- kept beside the time models --------------------------------------------------------------------------------------


def factors_path() -> Path:
    """Return where the factors are kept, for people and other programs, beside the time models."""
    return models_dir() / "networks" / "factors.json"  # not among the cards of time models


def own_rows() -> tuple[list[FitRecord], list[str]]:
    """Return this home's rows of fits.csv and notes, and keep their factors."""
    rows, notes = rows_or_why(fits_csv())
    factors: list[dict[str, Any]] = [asdict(each) for each in network_factors(rows)]
    text = json_line({"what": "measured seconds of a training step over those of the law", "factors": factors}) + "\n"
    with contextlib.suppress(OSError):  # answers are of the rows
        path = factors_path()
        if (path.exists() or factors) and not (path.exists() and read_text(path) == text):
            make_folder(path.parent)
            write_text_atomically(path, text)
    return rows, notes
