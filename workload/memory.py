"""Peak device memory of a training run: a closed form with a band, scaled by measured peaks where there are any.

At the peak the device holds the parameters, their gradients and Adam's two moments (float32 under every policy), the
batch of images and a copy of it as the first convolution takes it, every activation with what is kept beside it for the
gradient (`memory_kept` bytes for each of theirs), and what the first block, the largest, is computed with
(`memory_working` outputs of its first convolution). XLA keeps more than a framework that runs layer by layer. A GPU
holds the activations of a half-precision policy in 2 bytes, XLA on a processor in 4. Pipeline `device` adds the whole
set, as uint8.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from epochcast.assumptions import assumption, device_kind_of
from epochcast.cli import significant
from epochcast.schema import TRAIN_N, Conditions, RunConfig
from workload.shape import BYTES_PER_FLOAT, CHANNELS, IMAGE_SIZE, activation_bytes, count_params, layer_records

FITS, DOUBTFUL, TOO_LARGE = "fits", "may not fit", "will not fit"
LEAST_ROWS = 3  # configurations with a measured peak that scale the closed form
LEAST_SPREAD = math.log(1.02)  # natural log: no estimate is better known than that
STATE_COPIES = 4  # of the parameters: themselves, gradients, two moments
# a gradient may be applied as soon as it is known; deep kernels are kept transposed too
LEAST_STATE_COPIES, MOST_STATE_COPIES = 3, 5
LABEL_BYTES = 4
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Bytes of device memory at a run's peak, the ends of its band, and the measured rows behind them (0: none)."""

    value: float
    low: float
    high: float
    n_rows: int = 0

    @property
    def basis(self) -> str:
        return f"calibrated by {self.n_rows} rows" if self.n_rows else "not calibrated"

    def fit(self, device_bytes: float) -> str:
        """Whether it fits into a device: `will not fit` only where even the low end is more than there is."""
        if self.low > device_bytes:
            return TOO_LARGE
        return DOUBTFUL if self.high > device_bytes else FITS


class PeakRow(Protocol):
    """A row that may hold a measured peak: of runs.csv or of runs_agg.csv."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def conditions(self) -> Conditions: ...
    @property
    def peak_memory_bytes(self) -> int | None: ...


@functools.cache
def _value(name: str, kind: str) -> float:
    return assumption(name, kind).value


def closed_form(config: RunConfig, conditions: Conditions) -> PeakMemory:
    """The estimate that no measurement went into; what of the conditions is unknown is taken as the default."""
    kind = device_kind_of(conditions.device_name)
    form = "_without_xla" if conditions.jit_compile == "off" else ""
    is_half = (conditions.precision or "float32") != "float32"
    element_bytes = 2 if is_half and kind == "gpu" else BYTES_PER_FLOAT
    batch = config.batch_size
    params = BYTES_PER_FLOAT * count_params(config.depth, config.base_filters)
    images = 2 * BYTES_PER_FLOAT * batch * IMAGE_SIZE**2 * CHANNELS
    first_output = element_bytes * batch * layer_records(config.depth, config.base_filters)[0].outputs
    kept = batch * activation_bytes(config.depth, config.base_filters) * element_bytes / BYTES_PER_FLOAT
    activations = _value(f"memory_kept{form}", kind) * kept + _value(f"memory_working{form}", kind) * first_output
    data = 0
    if conditions.pipeline == "device":
        data = (conditions.train_n or TRAIN_N) * (IMAGE_SIZE**2 * CHANNELS + LABEL_BYTES)
    low, high = (_value(f"memory_{end}{_band_of(conditions, kind, is_half, end)}", kind) for end in ("low", "high"))
    return PeakMemory(
        STATE_COPIES * params + images + activations + data,
        LEAST_STATE_COPIES * params + images / 2 + low * activations + data,
        MOST_STATE_COPIES * params + images + high * activations + 2 * data,  # the shuffled set beside the set
    )


def _band_of(conditions: Conditions, kind: str, is_half: bool, end: str) -> str:
    """Which end of the band of the activations' bytes: XLA's is narrow only where the compiler's account was read."""
    if conditions.jit_compile == "off":
        # nobody looked in how many bytes a processor holds them in half precision without XLA
        return "_unread" if is_half and kind == "cpu" and end == "low" else "_without_xla"
    if kind == "gpu" or (conditions.backend, conditions.jit_compile) != ("jax", "on"):
        return "_unread"
    return "_half" if is_half and end == "low" else ""


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Estimates under one set of conditions: the closed form, times what measured peaks were of it."""

    conditions: Conditions
    factor: float = 1.0
    spread: float = 0.0  # half-width of the scaled band, natural log
    n_rows: int = 0
    largest: float = 0.0  # bytes by the closed form of the largest configuration with a measured peak

    @classmethod
    def of(cls, conditions: Conditions, rows: Iterable[PeakRow] = ()) -> MemoryModel:
        """Scaled by the rows under the same conditions, if enough of their configurations have a measured peak.

        The factor is the median of measured over estimated, the band twice as wide as their largest deviation from it.
        """
        peaks: dict[RunConfig, int] = {}
        for row in rows:
            if row.peak_memory_bytes is not None and row.conditions == conditions:
                peaks[row.config] = max(row.peak_memory_bytes, peaks.get(row.config, 0))
        if len(peaks) < LEAST_ROWS:
            return cls(conditions)
        estimates = {config: closed_form(config, conditions).value for config in peaks}
        ratios = [peak / estimates[config] for config, peak in peaks.items()]
        factor = statistics.median(ratios)
        spread = max(2 * max(abs(math.log(ratio / factor)) for ratio in ratios), LEAST_SPREAD)
        return cls(conditions, factor, spread, len(peaks), max(estimates.values()))

    def peak(self, config: RunConfig) -> PeakMemory:
        """The estimate for a configuration; beyond the largest one measured the band is never narrower than unscaled.

        What a framework takes whatever it trains weighs more in small measured peaks than in a large one.
        """
        plain = closed_form(config, self.conditions)
        if not self.n_rows:
            return plain
        value = self.factor * plain.value
        low, high = value * math.exp(-self.spread), value * math.exp(self.spread)
        if plain.value > self.largest:
            low, high = min(low, plain.low), max(high, plain.high)
        return PeakMemory(value, low, high, self.n_rows)


def gib_text(value: float) -> str:
    return f"{significant(value / 2**30)} GiB"


def named(configs: Sequence[RunConfig]) -> str:
    """Configurations in a line: the first few, and how many more."""
    more = len(configs) - MOST_NAMED
    return ", ".join(map(str, configs[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
