"""One factor for all networks on a GPU, from those that were measured there.

A network's own factor is the median of measured over law of its estimates and finished fits in fits.csv, that of the
GPU in a precision the median of its networks'. Published steps say how well such a factor does
(benchmarks/external/own_rows.py); where three networks or more scatter further, their own spread counts.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import Gpu
from epochcast.gpus.lookup import known_gpu
from epochcast.gpus.network_time import NetworkFactor
from epochcast.gpus.rates import arithmetic_of, law_rates
from epochcast.interval import COVERAGE
from epochcast.live.fits import FitRecord, rows_or_why
from epochcast.output.text import json_line
from epochcast.paths import fits_csv, models_dir
from epochcast.roofline.network_law import LawNumbers, StepWork, step_seconds
from epochcast.stats import t_quantile
from epochcast.storage.files import make_folder, read_text, write_text_atomically

SEVERAL = 3  # networks, of which a spread is taken


def network_factors(rows: Sequence[FitRecord]) -> list[NetworkFactor]:
    """Return the factor of each GPU and precision that rows are of."""
    found: dict[tuple[str, str], list[tuple[FitRecord, float]]] = {}
    for row in rows:
        gpu = known_gpu(row.device_name)
        if gpu is None or row.precision is None or row.is_contended or (log := _log_factor(row, gpu)) is None:
            continue
        found.setdefault((gpu.name, row.precision), []).append((row, log))
    return [_factor(*of, own) for of, own in sorted(found.items())]


def _factor(gpu: str, precision: str, rows: Sequence[tuple[FitRecord, float]]) -> NetworkFactor:
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
    return NetworkFactor(gpu, precision, math.exp(statistics.median(logs)), math.exp(half), n, run_ids)


def _log_factor(row: FitRecord, gpu: Gpu) -> float | None:
    """Return the natural log of measured over law; None where either is unknown."""
    values = (row.step_operations, row.step_flop, row.step_small_kernel_flop, row.step_bytes, row.step_depthwise_bytes)
    if None in values:
        return None
    try:
        rates = law_rates(gpu, arithmetic_of(str(row.precision), row.tf32 or "on", gpu))
    except ValueError:  # a precision without a rate
        return None
    if rates is None:
        return None
    by_law: float = step_seconds(StepWork(*values), rates, LawNumbers.shipped())
    return math.log(row.timed_epoch_sec / row.batches / by_law)


def factor_for(factors: Iterable[NetworkFactor], gpu: Gpu, precision: str) -> NetworkFactor | None:
    """Return the factor of a GPU in a precision; None where nothing was measured there."""
    return next((each for each in factors if (each.gpu, each.precision) == (gpu.name, precision)), None)


# --- kept beside the time models --------------------------------------------------------------------------------------


def factors_path() -> Path:
    """Return where the factors are kept, beside the time models."""
    return models_dir() / "networks" / "factors.json"  # not among the cards of time models


def own_factors() -> tuple[list[NetworkFactor], list[str]]:
    """Return the factors of this home's fits.csv, kept anew if changed, and notes."""
    rows, notes = rows_or_why(fits_csv())
    factors = network_factors(rows)
    values: list[dict[str, Any]] = [asdict(each) for each in factors]
    text = json_line({"what": "measured seconds of a training step over those of the law", "factors": values}) + "\n"
    with contextlib.suppress(OSError):  # they are in the answer all the same
        path = factors_path()
        if (path.exists() or factors) and not (path.exists() and read_text(path) == text):
            make_folder(path.parent)
            write_text_atomically(path, text)
    return factors, notes
