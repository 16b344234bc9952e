"""What an epoch takes at least on a GPU: its data sheet's peaks over the network's layers."""

from __future__ import annotations

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import Gpu
from epochcast.model.explanation.attribution import Subject, epoch_layers
from epochcast.roofline.roofline import Roof

TERA, GIGA = 1e12, 1e9


def roof_of(gpu: Gpu, arithmetic: str) -> Roof:
    """A GPU's peaks, and what is assumed that launching a kernel costs.

    Raises:
        ValueError: if it has no such arithmetic.
    """
    if (rate := gpu.tflops(arithmetic)) is None:
        raise ValueError(f"{gpu.name} has no known {arithmetic} rate.")
    return Roof(rate * TERA, gpu.memory_bandwidth_gbs * GIGA, assumption("kernel_launch_sec", "gpu").value)


def attainable_sec(subject: Subject, roof: Roof) -> float:
    """Seconds of arithmetic and memory that an epoch takes at least: layers and optimizer, without launches."""
    return sum(layer.sec for layer in epoch_layers(subject, roof))
