"""Peak device memory of a training run of the CNN, estimated and scaled by measured peaks.

The arrays of a training step are what a framework's allocator counts, and what `peak_memory_bytes` of a row is. A GPU's
driver also counts a context beside them, and its count is what must fit the board.

On a GPU the arrays and the context are those of the law of any network (`epochcast.roofline.network_memory`). It was
fitted to frameworks without XLA, which keeps more: where XLA may compile the step, the high end is the larger of the
law's and the closed form's.

On a processor a closed form counts the parameters, their gradients and Adam's two moments (float32 under every policy),
the batch of images and a copy of it as the first convolution takes it, every activation with what is kept beside it for
the gradient (`memory_kept` bytes for each of theirs), and what the first block, the largest, is computed with
(`memory_working` outputs of its first convolution). XLA keeps more than a framework that runs layer by layer, and holds
half-precision activations in 4 bytes; a GPU holds them in 2. Pipeline `device` adds the whole set, as uint8.

Where no compiler's account was read, the closed form's low end is what a step can't do without: when its backward
pass begins, the output of every convolution, pool and dense layer is there once, in the bytes of the policy, since the
gradients take it; a ReLU needs no array of its own, as its gradient can be told from its output; beside it stand the
parameters, both moments and the batch as it came. That is reasoning from the network, not a measurement.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.gpus.device_names import are_same_conditions
from epochcast.output.text import significant
from epochcast.roofline.network_memory import (
    MOST_SAMPLES,
    CountedMemory,
    MemoryLaw,
    count_memory,
    formats_of,
    largest_batch,
)
from epochcast.roofline.roofline import BYTES_PER_FLOAT, OPTIMIZER_SLOTS
from epochcast.schema import TRAIN_N, Conditions, RunConfig, element_bytes_of
from epochcast.workload.shape import CHANNELS, IMAGE_SIZE, activation_bytes, count_params, layer_records

FITS, DOUBTFUL, TOO_LARGE = "fits", "may not fit", "will not fit"
NOT_CALIBRATED = "not calibrated"
LAW_BASIS = f"{NOT_CALIBRATED}: a law of other networks"
XLA_BASIS = f"{LAW_BASIS} without XLA, its high end at least a closed form's with XLA"
CONTEXT_BASIS = ", plus the driver's context"
LEAST_ROWS = 3  # configurations with a measured peak that scale the estimate
LEAST_SPREAD = math.log(1.02)  # natural log: no estimate is better known than that
NEAR = 2  # measured configurations up to so many times as large or small tell of one
STATE_COPIES = 4  # of the parameters: themselves, gradients, two moments
# a gradient may be applied as soon as it is known; deep kernels are kept transposed too
LEAST_STATE_COPIES, MOST_STATE_COPIES = 3, 5
LABEL_BYTES = 4
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Bytes of device memory at a run's peak, the ends of its band, and what they rest on, in words."""

    value: float
    low: float
    high: float
    basis: str
    context: float = 0.0  # bytes of `value` that a GPU's driver counts and a framework's allocator does not

    @classmethod
    def measured(cls, peak: int) -> PeakMemory:
        """Return a peak that a framework counted."""
        return cls(peak, peak, peak, "measured")

    @classmethod
    def by_law(cls, counted: CountedMemory, batch_size: int, basis: str) -> PeakMemory:
        """Return the arrays of a training step on a GPU, by the law of any network."""
        law = MemoryLaw.shipped()
        value = law.arrays(counted, batch_size)
        return cls(value, value / law.spread, value * law.spread, basis)

    @property
    def arrays(self) -> float:
        """Return what of the value a framework's allocator counts."""
        return self.value - self.context

    def with_context(self) -> PeakMemory:
        """Return arrays as a GPU's driver counts them, with the law's context."""
        law = MemoryLaw.shipped()
        context = law.base_bytes
        low, high = self.low + context / law.spread, self.high + context * law.spread
        return PeakMemory(self.value + context, low, high, f"{self.basis}{CONTEXT_BASIS}", context)

    def fit(self, device_bytes: float) -> str:
        """Whether it fits into a device: `will not fit` only where even the low end is more than there is."""
        if self.low > device_bytes:
            return TOO_LARGE
        return DOUBTFUL if self.high > device_bytes else FITS


@dataclass(frozen=True, slots=True)
class LargestBatch:
    """The largest batch sizes that fit into a device; 0: none does."""

    surely: int  # the high end fits
    probably: int  # the value fits

    @classmethod
    def of(cls, device_bytes: float, peak_of: Callable[[int], PeakMemory]) -> LargestBatch:
        """Return the largest batches that fit; `peak_of` answers the peak of a batch."""
        surely = largest_batch(lambda size: peak_of(size).high <= device_bytes)
        return cls(surely, largest_batch(lambda size: peak_of(size).value <= device_bytes))

    @property
    def text(self) -> str:
        return f"{size_text(self.surely)} surely, {size_text(self.probably)} probably"


def size_text(size: int) -> str:
    return f"{size:,} or more" if size == MOST_SAMPLES else f"{size:,}" if size else "none"


class PeakRow(Protocol):
    """A row that may hold a measured peak: of runs.csv or of runs_agg.csv."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def conditions(self) -> Conditions: ...
    @property
    def peak_memory_bytes(self) -> int | None: ...


def plain_arrays(config: RunConfig, conditions: Conditions) -> PeakMemory:
    """Return the arrays of a training step, without any measured peak.

    What of the conditions is unknown is taken as the default, an unknown device as a GPU.
    """
    if not _is_gpu(conditions):
        return closed_form(config, conditions)
    counted = _counted(replace(config, batch_size=1), element_bytes_of(conditions.precision))
    law = PeakMemory.by_law(counted, config.batch_size, LAW_BASIS)
    data = _data_bytes(conditions)
    peak = replace(law, value=law.value + data, low=law.low + data, high=law.high + 2 * data)
    if conditions.jit_compile == "off":
        return peak
    return replace(peak, high=max(peak.high, closed_form(config, conditions).high), basis=XLA_BASIS)


@functools.lru_cache(maxsize=1 << 10)
def _counted(config: RunConfig, element_bytes: int) -> CountedMemory:
    """Return what a step of the CNN holds by its layers, for any batch size."""
    return count_memory(layer_records(config), OPTIMIZER_SLOTS["adam"], formats_of(element_bytes))


def _is_gpu(conditions: Conditions) -> bool:
    return device_kind_of(conditions.device_name) == "gpu"


def _data_bytes(conditions: Conditions) -> int:
    """Return the bytes of the set where the device holds all of it."""
    images = (conditions.train_n or TRAIN_N) if conditions.pipeline == "device" else 0
    return images * (IMAGE_SIZE**2 * CHANNELS + LABEL_BYTES)


def closed_form(config: RunConfig, conditions: Conditions) -> PeakMemory:
    """Return a step's arrays by the closed form; on a GPU for its ends."""
    policy_bytes = element_bytes_of(conditions.precision)
    element_bytes = policy_bytes if _is_gpu(conditions) else BYTES_PER_FLOAT
    batch = config.batch_size
    params = BYTES_PER_FLOAT * count_params(config)
    pixels = batch * IMAGE_SIZE**2 * CHANNELS
    images = 2 * BYTES_PER_FLOAT * pixels
    outputs = batch * activation_bytes(config) / BYTES_PER_FLOAT
    first_outputs = batch * layer_records(config)[0].outputs
    form = "_without_xla" if conditions.jit_compile == "off" else ""
    kept, working = (_value(f"memory_{name}{form}") for name in ("kept", "working"))
    activations = element_bytes * (kept * outputs + working * first_outputs)
    data = _data_bytes(conditions)
    # the compiler's own account was read of JAX's step on a processor alone
    is_read = not _is_gpu(conditions) and (conditions.backend, conditions.jit_compile) == ("jax", "on")
    high = _value(f"memory_high{'' if is_read else form or '_unread'}")
    least = policy_bytes * outputs
    if is_read:
        least = _value("memory_low_half" if policy_bytes < BYTES_PER_FLOAT else "memory_low") * activations
    came_as_bytes = 1 if conditions.pipeline in ("indices", "device") else BYTES_PER_FLOAT
    return PeakMemory(
        STATE_COPIES * params + images + activations + data,
        LEAST_STATE_COPIES * params + came_as_bytes * pixels + least + data,
        MOST_STATE_COPIES * params + images + high * activations + 2 * data,  # the shuffled set beside the set
        NOT_CALIBRATED,
    )


def _value(name: str) -> float:
    return assumption(name, "cpu").value


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Estimates under one set of conditions, scaled by measured peaks of like size."""

    conditions: Conditions
    measured: Mapping[RunConfig, int | None] = field(default_factory=dict)  # peaks of all that ran; None: not told
    peaks: Sequence[tuple[PeakMemory, int]] = ()  # plain arrays and measured; none where they are too few
    constant: float = 0.0  # bytes that a framework may at most hold whatever it trains

    @classmethod
    def of(cls, conditions: Conditions, rows: Iterable[PeakRow] = ()) -> MemoryModel:
        """Scaled by the rows under the same conditions, if enough of their configurations have a measured peak."""
        measured: dict[RunConfig, int | None] = {}
        for row in rows:
            if are_same_conditions(row.conditions, conditions):
                measured[row.config] = max(row.peak_memory_bytes or 0, measured.get(row.config) or 0) or None
        known = {config: peak for config, peak in measured.items() if peak is not None}
        if len(known) < LEAST_ROWS:
            return cls(conditions, measured)
        peaks = [(plain_arrays(config, conditions), peak) for config, peak in known.items()]
        least = min(peak - closed_form(config, conditions).low for config, peak in known.items())
        return cls(conditions, measured, peaks, max(0.0, least))

    def peak(self, config: RunConfig) -> PeakMemory:
        """Return the estimate as it must fit the device, on a GPU by its driver."""
        return self._on_device(self.arrays(config))

    def _on_device(self, arrays: PeakMemory) -> PeakMemory:
        return arrays.with_context() if _is_gpu(self.conditions) else arrays

    def arrays(self, config: RunConfig) -> PeakMemory:
        """Return the estimate of the arrays, as rows have them in `peak_memory_bytes`.

        Its factor is the median of measured over plain among configurations of its size, else among the nearest;
        the band is twice as wide as their largest deviation from it. Outside the sizes that were measured, what may be
        a framework's own, which does not grow, is taken out of the peaks for the low end and added for the high one;
        the low end is not below the closed form's, which no step does without, nor the high end below the plain one.
        """
        plain = plain_arrays(config, self.conditions)
        if not self.peaks:
            return plain
        sizes = [form.value for form, _ in self.peaks]
        inside = min(max(plain.value, min(sizes)), max(sizes))
        distances = [abs(math.log(size / inside)) for size in sizes]
        reach = max(math.log(NEAR), sorted(distances)[LEAST_ROWS - 1])
        near = [peak for peak, distance in zip(self.peaks, distances, strict=True) if distance <= reach]
        ratios = [peak / form.value for form, peak in near]
        factor = statistics.median(ratios)
        spread = max(2 * max(abs(math.log(ratio / factor)) for ratio in ratios), LEAST_SPREAD)
        value = factor * plain.value
        low, high = value * math.exp(-spread), value * math.exp(spread)
        if plain.value != inside:
            grows = statistics.median((peak - self.constant) / form.value for form, peak in near)
            least = closed_form(config, self.conditions).low
            low = max(grows * plain.value * math.exp(-spread), min(value, least))
            high = max(high + self.constant, plain.high)
        return PeakMemory(value, low, high, f"calibrated by {len(self.peaks)} rows")

    def needs(self, config: RunConfig) -> PeakMemory:
        """Return the measured peak of a configuration, else the estimate, as `peak` does."""
        if own := self.measured.get(config):
            return self._on_device(PeakMemory.measured(own))
        return self.peak(config)

    def sort_by_fit(
        self, configs: Iterable[RunConfig], device_bytes: float, is_measured_device: bool
    ) -> tuple[list[RunConfig], list[RunConfig]]:
        """The configurations that will not fit, and those that may not; what ran on the device itself does fit."""
        asked = [config for config in configs if not (is_measured_device and config in self.measured)]
        fits = {config: self.needs(config).fit(device_bytes) for config in asked}
        too_large, doubtful = ([c for c, fit in fits.items() if fit == wanted] for wanted in (TOO_LARGE, DOUBTFUL))
        return too_large, doubtful


def gib_text(value: float) -> str:
    return f"{significant(value / 2**30)} GiB"


def fits_text(peak: PeakMemory, total_bytes: float) -> str:
    """Whether a peak fits into a device of that much memory, e.g. `may not fit into 80.0 GiB`."""
    return f"{peak.fit(total_bytes)} into {gib_text(total_bytes)}"


def named(configs: Sequence[RunConfig]) -> str:
    """Configurations in a line: the first few, and how many more."""
    more = len(configs) - MOST_NAMED
    return ", ".join(map(str, configs[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
