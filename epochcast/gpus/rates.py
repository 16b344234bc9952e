"""The rates of a GPU by its data sheet: the arithmetic that training on it uses, and its roof."""

from __future__ import annotations

from dataclasses import replace

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import ARITHMETIC, Gpu
from epochcast.gpus.lookup import BYTES_PER_GB
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.network_law import LawNumbers, Rates, busy_share, step_work
from epochcast.roofline.roofline import Roof
from epochcast.schema import PRECISIONS

FLOPS_PER_TFLOPS = 1e12
PLAIN = "fp32"  # of ARITHMETIC: without tensor cores


def arithmetic_of(precision: str, tf32: str | None, gpu: Gpu) -> str:
    """Return in what training multiplies on this GPU: one of `epochcast.facts.tables.ARITHMETIC`.

    `precision` and `tf32` as in `epochcast.schema.Conditions`; float32 is TF32 where that is on and the GPU has it.

    Raises:
        ValueError: if the GPU is not known to compute in this precision, or there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    asked = PRECISIONS[precision]
    if asked.tf32_arithmetic is not None and tf32 == "on" and gpu.tflops(asked.tf32_arithmetic) is not None:
        return asked.tf32_arithmetic
    arithmetic = asked.arithmetic
    if arithmetic not in ARITHMETIC or gpu.tflops(arithmetic) is None:
        has = ", ".join(f"{name} {rate:g}" for name in ARITHMETIC if (rate := gpu.tflops(name)))
        raise ValueError(
            f"{gpu.name} has no known {arithmetic} rate, which {precision} needs; known in TFLOP/s: {has or 'none'}. "
            "Choose another precision or another GPU."
        )
    return arithmetic


def law_rates(gpu: Gpu, arithmetic: str) -> Rates | None:
    """Return what the law of networks asks of a GPU; None without a plain fp32 rate.

    Raises:
        ValueError: if the GPU has no such arithmetic.
    """
    if gpu.fp32_tflops is None:
        return None
    roof = roof_of(gpu, arithmetic)
    return Rates(roof.flops, gpu.fp32_tflops * FLOPS_PER_TFLOPS, roof.bytes_per_sec, arithmetic == PLAIN)


def network_busy_share(network: TrainedNetwork, gpu: Gpu, arithmetic: str) -> float | None:
    """Return the share of arithmetic and memory in a network's steps by the law; None unknown.

    Raises:
        ValueError: if the GPU has no such arithmetic.
    """
    if (rates := law_rates(gpu, arithmetic)) is None:
        return None
    work = step_work(network.records, network.batch_size, network.element_bytes, network.optimizer_passes)
    return float(busy_share(work, rates, LawNumbers.shipped()))


def limit_of(gpu: Gpu, arithmetic: str) -> Roof:
    """Return the peaks that no training was seen to pass: a data sheet's with faster clocks.

    In plain fp32 libraries do convolutions of small kernels with fewer multiplications (Winograd).

    Raises:
        ValueError: if the GPU has no such arithmetic.
    """
    roof = roof_of(gpu, arithmetic)
    share = assumption("limit_small_kernel_share", "gpu").value if arithmetic == PLAIN else 1.0
    return replace(roof, flops=roof.flops * assumption("limit_clock", "gpu").value, small_kernel_share=share)


def roof_of(gpu: Gpu, arithmetic: str) -> Roof:
    """Return a GPU's peaks, with the time that is assumed for the launch of a kernel.

    Raises:
        ValueError: if the GPU has no such arithmetic.
    """
    if (rate := gpu.tflops(arithmetic)) is None:
        raise ValueError(f"{gpu.name} has no known {arithmetic} rate.")
    bytes_per_sec = gpu.memory_bandwidth_gbs * BYTES_PER_GB
    return Roof(rate * FLOPS_PER_TFLOPS, bytes_per_sec, assumption("kernel_launch_sec", "gpu").value)
