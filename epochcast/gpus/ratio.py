"""Ratio of two GPUs' seconds for the same arithmetic and memory, by published speeds or by data sheets.

The ratio r, by which epochcast/gpus/scaled_time.py scales the device's share of a time, is known

- by speed rows, where both GPUs have one of the same kind of network: the ratio of their published speeds;
- else by rates: 1 / (compute ratio ** w * bandwidth ratio ** (1 - w)), of dense rates in the arithmetic really used and
  of bandwidths in values per second: half precision moves half the bytes.

The error factor is of r alone: the error of the device's share is not in it. Weight w and the error factors come from
epochcast/data/assumptions.csv; benchmarks/estimates/bench_gpu_scaling.py checks them.
"""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import CONVOLUTIONAL, Gpu, SpeedRow, speed_rows
from epochcast.gpus.lookup import BYTES_PER_GB, find_gpu, known_gpu
from epochcast.gpus.rates import arithmetic_of
from epochcast.interval import Interval
from epochcast.schema import PRECISIONS, Conditions, uses_tf32

WIDE_KINDS = (CONVOLUTIONAL, "flow")  # of networks made of convolutions: rates tell least of them
SPEED_ROW, RATES, SAME = "speed row", "rates", "the model's GPU"


@dataclass(frozen=True, slots=True)
class GpuArithmetic:
    """A GPU with the arithmetic that a run uses on it; `precision` and `tf32` as in `Conditions`."""

    gpu: Gpu
    precision: str
    tf32: str | None
    arithmetic: str

    @classmethod
    def of(cls, gpu: Gpu, precision: str, tf32: str | None) -> GpuArithmetic:
        """Return the arithmetic of a run's precision on a GPU.

        Raises:
            ValueError: if the GPU is not known to have it.
        """
        return cls(gpu, precision, tf32, arithmetic_of(precision, tf32, gpu))

    @property
    def rate_tflops(self) -> float:
        rate = self.gpu.tflops(self.arithmetic)
        assert rate is not None, "arithmetic_of refuses a rate that is not known"
        return rate

    @property
    def values_per_sec(self) -> float:
        """Numbers that the memory moves in a second."""
        return self.gpu.memory_bandwidth_gbs * BYTES_PER_GB / self.element_bytes

    @property
    def element_bytes(self) -> int:
        return PRECISIONS[self.precision].element_bytes

    @property
    def row_precision(self) -> str | None:
        """Precision of the published speed rows of this arithmetic; None where there are none.

        Rows called fp32 may be TF32 where a GPU has it: they are none of a run that did without.
        """
        asked = PRECISIONS[self.precision]
        has_tf32 = uses_tf32(self.precision) and self.gpu.tf32_tflops is not None
        return None if has_tf32 and self.arithmetic == asked.arithmetic else asked.speed_rows


@dataclass(frozen=True, slots=True)
class Ratio:
    """Seconds of one GPU's arithmetic and memory over another's, with the range of that ratio."""

    value: Interval
    basis: str  # SPEED_ROW, RATES or SAME
    words: str  # what it rests on


def source_device(conditions: Conditions) -> GpuArithmetic:
    """Return the GPU that a model was learned on, with the arithmetic of its runs.

    Raises:
        ValueError: if nothing is known of the device, as of a processor: there is nothing to scale from.
    """
    name, gpu = conditions.device_name, known_gpu(conditions.device_name)
    if gpu is None or conditions.precision is None:
        what = "an unknown device" if name is None else name if gpu is None else f"{name} in an unknown precision"
        raise ValueError(
            f"nothing to carry a time over from: the model is of {what}, not of a GPU whose rates are known. "
            "Name another with --model."
        )
    return GpuArithmetic.of(gpu, conditions.precision, conditions.tf32)


def device_ratio(source: GpuArithmetic, target: GpuArithmetic, kind: str = CONVOLUTIONAL) -> Ratio:
    """Return the target's seconds for what the source does in a second of arithmetic and memory."""
    if (source.gpu.name, source.arithmetic) == (target.gpu.name, target.arithmetic):
        return Ratio(Interval(1.0, 1.0, 1.0), SAME, "the model's own GPU and precision")
    if (ratio := speed_row_ratio(source, target, kind)) is not None:
        return ratio
    return rates_ratio(source, target, kind)


def speed_row_ratio(source: GpuArithmetic, target: GpuArithmetic, kind: str = CONVOLUTIONAL) -> Ratio | None:
    """Return the ratio by published speeds of this kind of network, None without a common one."""
    ours, theirs = _speeds(source, kind), _speeds(target, kind)
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return None
    value = statistics.geometric_mean(ours[task].throughput / theirs[task].throughput for task in common)
    rows = ", ".join(
        f"{task} {ours[task].throughput:g} and {theirs[task].throughput:g} {ours[task].unit}" for task in common
    )
    kinds = " to ".join(dict.fromkeys(str(device.row_precision) for device in (source, target)))
    asked = [PRECISIONS[device.precision] for device in (source, target)]
    replaced = dict.fromkeys(each.arithmetic for each in asked if each.arithmetic != each.speed_rows)
    note = f", in place of {' and '.join(replaced)}" if replaced else ""
    return Ratio(
        _within_factor(value, _assumed("carry_bar_speed_row")), SPEED_ROW, f"published {kinds} speeds{note}: {rows}"
    )


def log_gain(source: GpuArithmetic, target: GpuArithmetic, weight: float) -> float:
    """Return the natural log of the target's speed over the source's by rates.

    Compute counts to the power `weight`, bandwidth to the rest.
    """
    compute = math.log(target.rate_tflops / source.rate_tflops)
    bandwidth = math.log(target.values_per_sec / source.values_per_sec)
    return weight * compute + (1 - weight) * bandwidth


def rates_error_factor(kind: str) -> float:
    """Return the factor, up and down, by which a ratio by rates may be off for a kind of network."""
    return _assumed("carry_bar_convolutional" if kind in WIDE_KINDS else "carry_bar")


def rates_ratio(source: GpuArithmetic, target: GpuArithmetic, kind: str = CONVOLUTIONAL) -> Ratio:
    """Return the ratio by dense rates and memory bandwidths; no range where no published speed checks it."""
    weight = _assumed("carry_compute_weight")
    value = math.exp(-log_gain(source, target, weight))
    sizes = sorted({source.element_bytes, target.element_bytes})
    halved = f", of {' and '.join(map(str, sizes))} bytes a number" if len(sizes) > 1 else ""
    words = (
        f"{target.arithmetic} {target.rate_tflops:g} over {source.arithmetic} {source.rate_tflops:g} TFLOP/s to the "
        f"{weight:g}, {target.gpu.memory_bandwidth_gbs:g} over {source.gpu.memory_bandwidth_gbs:g} GB/s to the "
        f"{1 - weight:g}{halved}"
    )
    unchecked = [generation for device in (source, target) if (generation := _generation(device.gpu)) not in _checked()]
    if unchecked:
        which = " or ".join(dict.fromkeys(map(" ".join, unchecked)))
        return Ratio(Interval(value), RATES, f"{words}; range unknown, as no speed of {which} is known")
    return Ratio(_within_factor(value, rates_error_factor(kind)), RATES, words)


def _speeds(device: GpuArithmetic, kind: str) -> dict[str, SpeedRow]:
    """Return the published speeds of a kind of network on one of these GPUs, by task."""
    return {
        row.task: row
        for row in speed_rows()
        if (row.gpu, row.kind, row.precision, row.gpus) == (device.gpu.name, kind, device.row_precision, 1)
    }


def _generation(gpu: Gpu) -> tuple[str, str]:
    """Return maker and generation, of a family such as ampere_geforce the first word."""
    return gpu.vendor, gpu.family.split("_")[0]


@functools.cache
def _checked() -> frozenset[tuple[str, str]]:
    """Return the generations of which speeds are published."""
    return frozenset(_generation(find_gpu(row.gpu)) for row in speed_rows())


def _assumed(name: str) -> float:
    return assumption(name, "gpu").value


def _within_factor(value: float, factor: float) -> Interval:
    return Interval.of_log(value, math.log(factor))
