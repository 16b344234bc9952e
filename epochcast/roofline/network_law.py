"""Seconds of a training step of any network on any GPU, by a fitted law.

    t = s + l n + (F - (1 - k) F_k p) / (e R) + (B + (d - 1) B_d) / (m b)      R = dense^x plain^(1 - x)

n operations (kernels of forward and backward pass, updates), F FLOP, F_k those of 3x3 and 5x5 convolutions, p whether
products are plain fp32, B bytes, B_d those of depthwise convolutions; dense and plain the GPU's rates in the arithmetic
used and in fp32 without tensor cores, b its bandwidth. The seven numbers s, l, e, x, k, m, d are fitted and judged by
`benchmarks/external/judge.py` and stand in epochcast/data/assumptions.csv with their errors on GPUs left out.

The time is the device's share of a step: what loads and prepares the samples is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from epochcast.facts.assumptions import assumption
from epochcast.roofline.roofline import ADAM_PASSES, WEIGHT_BYTES, LayerRecord, layer_bytes

Number = Any  # a float, or an array of one for each step


@dataclass(frozen=True, slots=True)
class LawNumbers:
    """The numbers of the law, under the names of epochcast/data/assumptions.csv behind `network_`."""

    step_sec: float  # s
    launch_sec: float  # l, of an operation
    compute_share: float  # e, of the mean rate
    dense_exponent: float  # x
    small_kernel_share: float  # k
    memory_share: float  # m, of the bandwidth
    depthwise_passes: float  # d

    @classmethod
    def shipped(cls) -> LawNumbers:
        """Return the numbers in use."""
        return cls(
            step_sec=assumption("network_step_sec", "gpu").value,
            launch_sec=assumption("network_launch_sec", "gpu").value,
            compute_share=assumption("network_compute_share", "gpu").value,
            dense_exponent=assumption("network_dense_exponent", "gpu").value,
            small_kernel_share=assumption("network_small_kernel_share", "gpu").value,
            memory_share=assumption("network_memory_share", "gpu").value,
            depthwise_passes=assumption("network_depthwise_passes", "gpu").value,
        )


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step, or a layer in it, does: numbers, or arrays over steps."""

    operations: Number
    flop: Number
    small_kernel_flop: Number
    bytes: Number
    depthwise_bytes: Number

    def __add__(self, other: StepWork) -> StepWork:
        return StepWork(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


NO_WORK = StepWork(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Rates:
    """A GPU's rates in the arithmetic that is used, of one or as arrays."""

    dense_flops: Number
    plain_flops: Number
    bytes_per_sec: Number
    is_plain: Number  # whether products are plain fp32


@dataclass(frozen=True, slots=True)
class LawSeconds:
    """Seconds by what takes them."""

    launches: Number
    arithmetic: Number
    memory: Number

    @property
    def total(self) -> Number:
        return self.launches + self.arithmetic + self.memory


def layer_work(
    record: LayerRecord, batch_size: int, element_bytes: int = 4, optimizer_passes: int = ADAM_PASSES
) -> StepWork:
    """Return one layer's work in a step, with the update of its weights if any."""
    trained = 0 if record.is_repeat else record.trainable_params
    moved = sum(layer_bytes(record, batch_size, element_bytes))
    flop = batch_size * (record.forward_flop + record.backward_flop)
    return StepWork(
        operations=record.step_kernels + (trained > 0 and optimizer_passes > 0),
        flop=flop,
        small_kernel_flop=flop if record.is_small_kernel else 0,
        bytes=moved + optimizer_passes * WEIGHT_BYTES * trained,
        depthwise_bytes=moved if record.kind == "depthwise" else 0,
    )


def step_work(
    records: Sequence[LayerRecord], batch_size: int, element_bytes: int = 4, optimizer_passes: int = ADAM_PASSES
) -> StepWork:
    """Return the work of a step of all layers."""
    works = (layer_work(record, batch_size, element_bytes, optimizer_passes) for record in records)
    return sum(works, NO_WORK)


def law_seconds(work: StepWork, rates: Rates, numbers: LawNumbers) -> LawSeconds:
    """Return the seconds of work by the law, without what each step takes whatever its layers."""
    mean_flops = rates.dense_flops**numbers.dense_exponent * rates.plain_flops ** (1 - numbers.dense_exponent)
    spared = (1 - numbers.small_kernel_share) * work.small_kernel_flop * rates.is_plain
    moved = work.bytes + (numbers.depthwise_passes - 1) * work.depthwise_bytes
    return LawSeconds(
        launches=numbers.launch_sec * work.operations,
        arithmetic=(work.flop - spared) / (numbers.compute_share * mean_flops),
        memory=moved / (numbers.memory_share * rates.bytes_per_sec),
    )


def step_seconds(work: StepWork, rates: Rates, numbers: LawNumbers) -> Number:
    """Return the seconds of a whole step by the law."""
    return numbers.step_sec + law_seconds(work, rates, numbers).total


def busy_share(work: StepWork, rates: Rates, numbers: LawNumbers) -> Number:
    """Return the share of arithmetic and memory in a step, 0 to 1."""
    parts = law_seconds(work, rates, numbers)
    return (parts.arithmetic + parts.memory) / (numbers.step_sec + parts.total)
