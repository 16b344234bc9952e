"""Ratio of two GPUs' seconds for the same arithmetic and memory.

    r = t'(network) / t(network)                 t arithmetic and memory of a step by the law of networks
    r = (D / D')^a (V / V')^c                    where the layers are not known, or the law was not judged on such

With ' of the GPU that a time is scaled to: D the dense rate in the arithmetic really used, V the values that the memory
moves in a second, so that half precision moves half the bytes. `benchmarks/external/ratio/judge.py` fits the exponents
and judges either on pairs of measured steps whose GPUs were left out; exponents and ranges are in
epochcast/data/assumptions.csv.

Small images in small batches do not fill a GPU, so that a faster one may gain what r says or nothing at all: their
range reaches from r to 1, and beyond either by the error factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import CONVOLUTIONAL, Gpu
from epochcast.gpus.lookup import BYTES_PER_GB, known_gpu
from epochcast.gpus.rates import arithmetic_of, law_rates
from epochcast.interval import Interval
from epochcast.roofline.network import OTHER_KIND, RECURRENT, TRANSFORMER, TrainedNetwork
from epochcast.roofline.network_law import LawNumbers, law_seconds, step_work
from epochcast.schema import PRECISIONS, Conditions

LAYERS, RATES, SAME = "layers", "rates", "the model's GPU"
SMALL_INPUTS, SMALL_BATCH = 3 * 32 * 32, 128  # numbers of an image, images of a batch
# of assumptions, by kind of network: by the law, and by rates
LAW_RANGES = {CONVOLUTIONAL: "ratio_range_convolutional", TRANSFORMER: "ratio_range_transformer"}
RATES_RANGES = {RECURRENT: "ratio_range_recurrent", OTHER_KIND: "ratio_range_other"}
SMALL_RANGE, ANY_RANGE = "ratio_range_small", "ratio_range_rates"


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


@dataclass(frozen=True, slots=True)
class LawStep:
    """Seconds of a step by the law of networks."""

    device_sec: float  # of arithmetic and memory
    total_sec: float  # with launches, and what each step takes whatever its layers


@dataclass(frozen=True, slots=True)
class Ratio:
    """Seconds of one GPU's arithmetic and memory over another's, with the range of that ratio."""

    value: Interval
    basis: str  # LAYERS, RATES or SAME
    words: str  # what it rests on
    error_factor: float = 1.0
    is_small: bool = False  # small images in small batches
    step: LawStep | None = None  # on the GPU that a time is scaled from; None where the law does not answer

    def range_of(self, scaled: Interval, unscaled: Interval) -> Interval:
        """Return a scaled time with the ratio's range on top of its own, if any."""
        if scaled.low is None or scaled.high is None or unscaled.low is None or unscaled.high is None:
            return Interval(scaled.value)
        low, high = scaled.low, scaled.high
        if self.is_small:
            low, high = min(low, unscaled.low), max(high, unscaled.high)
        return Interval(scaled.value, low / self.error_factor, high * self.error_factor)

    def without_range(self) -> Ratio:
        """Return the ratio as if it were exact."""
        return replace(self, value=Interval(self.value.value, self.value.value, self.value.value))

    @property
    def range_words(self) -> str:
        """What the range is."""
        small = ", from there to no change, as small images in small batches do not fill a GPU" if self.is_small else ""
        return f"x/÷{self.error_factor:.3g}{small}"


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


def device_ratio(source: GpuArithmetic, target: GpuArithmetic, network: TrainedNetwork | None = None) -> Ratio:
    """Return the target's seconds for what the source does in a second of arithmetic and memory.

    Without a network, whose layers are then not known, the range is that of any network.
    """
    unchanged = Interval(1.0, 1.0, 1.0)
    if (source.gpu.name, source.arithmetic) == (target.gpu.name, target.arithmetic):
        return Ratio(unchanged, SAME, "the model's own GPU and precision")
    is_small = network is not None and is_of_small_images(network)
    found = None if network is None else _by_law(source, target, network, is_small)
    found = found or _by_rates(source, target, network, is_small)
    return replace(found, value=found.range_of(found.without_range().value, unchanged))


def is_of_small_images(network: TrainedNetwork) -> bool:
    """Return whether a network has convolutions over small images in small batches."""
    is_small = network.batch_size <= SMALL_BATCH and network.records[0].inputs <= SMALL_INPUTS
    return is_small and network.is_convolutional


def law_step(network: TrainedNetwork, device: GpuArithmetic) -> LawStep | None:
    """Return the seconds of a full step by the law; None without a plain fp32 rate."""
    if (rates := law_rates(device.gpu, device.arithmetic)) is None:
        return None
    numbers = LawNumbers.shipped()
    work = step_work(network.records, network.batch_size, device.element_bytes, network.optimizer_passes)
    seconds = law_seconds(work, rates, numbers)
    return LawStep(seconds.arithmetic + seconds.memory, numbers.step_sec + seconds.total)


def _by_law(source: GpuArithmetic, target: GpuArithmetic, network: TrainedNetwork, is_small: bool) -> Ratio | None:
    if (kind := network.network_kind) not in LAW_RANGES:
        return None
    here, there = (law_step(network, device) for device in (source, target))
    if here is None or there is None:
        return None
    words = f"arithmetic and memory by the law of networks, in {target.arithmetic} over {source.arithmetic}"
    factor = _assumed(SMALL_RANGE if is_small else LAW_RANGES[kind])
    return Ratio(Interval(there.device_sec / here.device_sec), LAYERS, words, factor, is_small, here)


def _by_rates(source: GpuArithmetic, target: GpuArithmetic, network: TrainedNetwork | None, is_small: bool) -> Ratio:
    dense, bandwidth = (_assumed(f"ratio_exponent_{name}") for name in ("dense", "bandwidth"))
    gain = dense * math.log(target.rate_tflops / source.rate_tflops)
    gain += bandwidth * math.log(target.values_per_sec / source.values_per_sec)
    sizes = sorted({source.element_bytes, target.element_bytes})
    halved = f", of {' and '.join(map(str, sizes))} bytes a number" if len(sizes) > 1 else ""
    words = (
        f"{target.arithmetic} {target.rate_tflops:g} over {source.arithmetic} {source.rate_tflops:g} TFLOP/s to the "
        f"{dense:g}, {target.gpu.memory_bandwidth_gbs:g} over {source.gpu.memory_bandwidth_gbs:g} GB/s to the "
        f"{bandwidth:g}{halved}"
    )
    factor = _assumed(ANY_RANGE if network is None else RATES_RANGES.get(network.network_kind, ANY_RANGE))
    return Ratio(Interval(math.exp(-gain)), RATES, words, factor, is_small)


def _assumed(name: str) -> float:
    return assumption(name, "gpu").value
