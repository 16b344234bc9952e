"""Peak device memory of a training run: a closed form with a band, scaled by measured peaks where there are any.

At the peak the device holds the parameters, their gradients and Adam's two moments (float32 under every policy), the
batch of images and a copy of it as the first convolution takes it, every activation with what is kept beside it for the
gradient (`memory_kept` bytes for each of theirs), and what the first block, the largest, is computed with
(`memory_working` outputs of its first convolution). XLA keeps more than a framework that runs layer by layer. A GPU
holds the activations of a half-precision policy in 2 bytes, XLA on a processor in 4. Pipeline `device` adds the whole
set, as uint8.

Where no compiler's account was read, as on every GPU, the low end is what a step can't do without: when its backward
pass begins, the output of every convolution, pool and dense layer is there once, in the bytes of the policy, since the
gradients take it; a ReLU needs no array of its own, as its gradient can be told from its output; beside it stand the
parameters, both moments and the batch as it came. That is reasoning from the network, not a measurement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.gpus.device_names import are_same_conditions
from epochcast.output.text import significant
from epochcast.roofline.roofline import BYTES_PER_FLOAT
from epochcast.schema import TRAIN_N, Conditions, RunConfig, element_bytes_of
from epochcast.workload.shape import CHANNELS, IMAGE_SIZE, activation_bytes, count_params, layer_records

FITS, DOUBTFUL, TOO_LARGE = "fits", "may not fit", "will not fit"
LEAST_ROWS = 3  # configurations with a measured peak that scale the closed form
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


def _value(name: str, kind: str) -> float:
    return assumption(name, kind).value


def closed_form(config: RunConfig, conditions: Conditions) -> PeakMemory:
    """The estimate that no measurement went into; what of the conditions is unknown is taken as the default."""
    kind = device_kind_of(conditions.device_name)
    policy_bytes = element_bytes_of(conditions.precision)
    element_bytes = policy_bytes if kind == "gpu" else BYTES_PER_FLOAT
    batch = config.batch_size
    params = BYTES_PER_FLOAT * count_params(config)
    pixels = batch * IMAGE_SIZE**2 * CHANNELS
    images = 2 * BYTES_PER_FLOAT * pixels
    outputs = batch * activation_bytes(config) / BYTES_PER_FLOAT
    first_outputs = batch * layer_records(config)[0].outputs
    form = "_without_xla" if conditions.jit_compile == "off" else ""
    kept, working = (_value(f"memory_{name}{form}", kind) for name in ("kept", "working"))
    activations = element_bytes * (kept * outputs + working * first_outputs)
    data = 0
    if conditions.pipeline == "device":
        data = (conditions.train_n or TRAIN_N) * (IMAGE_SIZE**2 * CHANNELS + LABEL_BYTES)
    # the compiler's own account was read of JAX's step on a processor alone
    is_read = kind == "cpu" and (conditions.backend, conditions.jit_compile) == ("jax", "on")
    high = _value(f"memory_high{'' if is_read else form or '_unread'}", kind)
    least = policy_bytes * outputs
    if is_read:
        least = _value("memory_low_half" if policy_bytes < BYTES_PER_FLOAT else "memory_low", kind) * activations
    came_as_bytes = 1 if conditions.pipeline in ("indices", "device") else BYTES_PER_FLOAT
    return PeakMemory(
        STATE_COPIES * params + images + activations + data,
        LEAST_STATE_COPIES * params + came_as_bytes * pixels + least + data,
        MOST_STATE_COPIES * params + images + high * activations + 2 * data,  # the shuffled set beside the set
        "not calibrated" + (": the band was never checked on a GPU" if kind == "gpu" else ""),
    )


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Estimates under one set of conditions: the closed form, times what measured peaks of like size were of it."""

    conditions: Conditions
    measured: Mapping[RunConfig, int | None] = field(default_factory=dict)  # peaks of all that ran; None: not told
    peaks: Sequence[tuple[PeakMemory, int]] = ()  # closed form and measured; none where they are too few
    constant: float = 0.0  # bytes that a framework may at most hold whatever it trains

    @classmethod
    def of(cls, conditions: Conditions, rows: Iterable[PeakRow] = ()) -> MemoryModel:
        """Scaled by the rows under the same conditions, if enough of their configurations have a measured peak."""
        measured: dict[RunConfig, int | None] = {}
        for row in rows:
            if are_same_conditions(row.conditions, conditions):
                measured[row.config] = max(row.peak_memory_bytes or 0, measured.get(row.config) or 0) or None
        known = [(closed_form(config, conditions), peak) for config, peak in measured.items() if peak is not None]
        if len(known) < LEAST_ROWS:
            return cls(conditions, measured)
        constant = max(0.0, min(peak - form.low for form, peak in known))
        return cls(conditions, measured, known, constant)

    def peak(self, config: RunConfig) -> PeakMemory:
        """The estimate for a configuration.

        Its factor is the median of measured over closed form among configurations of its size, else among the nearest;
        the band is twice as wide as their largest deviation from it. Outside the sizes that were measured, what may be
        a framework's own, which does not grow, is taken out of the peaks for the low end and added for the high one;
        and the low end is not below the closed form's, which no step does without, nor the high one below its own.
        """
        plain = closed_form(config, self.conditions)
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
            low = max(grows * plain.value * math.exp(-spread), min(value, plain.low))
            high = max(high + self.constant, plain.high)
        return PeakMemory(value, low, high, f"calibrated by {len(self.peaks)} rows")

    def needs(self, config: RunConfig) -> PeakMemory:
        """The measured peak of a configuration, else the estimate."""
        if own := self.measured.get(config):
            return PeakMemory(own, own, own, "measured")
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
