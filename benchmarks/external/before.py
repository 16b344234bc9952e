"""The law of the CNN scaled to other GPUs, which answered before, and the least times that answers are limited to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from benchmarks.external.tables import PLAIN, Measured
from epochcast.facts.tables import Gpu
from epochcast.gpus.rates import limit_of, roof_of
from epochcast.gpus.ratio import GpuArithmetic
from epochcast.interval import Interval
from epochcast.model.explanation.device import ExplainedDevice, scaled_to
from epochcast.model.explanation.epoch_time import scaled_by_law_of_cnn
from epochcast.model.time_model.saved_model import Choice, pretrained
from epochcast.roofline.network import TrainedNetwork, attainable_sec
from epochcast.roofline.roofline import LayerRecord, Roof


def network_of(row: Measured, records: Sequence[LayerRecord]) -> TrainedNetwork:
    """Return a row's network, one step of it an epoch."""
    precision = "float32" if row.precision == PLAIN else "mixed_float16"
    return TrainedNetwork(
        row.name, tuple(records), row.batch, row.batch, precision, optimizer_passes=row.passes, is_cnn=False
    )


def cnn_seconds(row: Measured, records: Sequence[LayerRecord]) -> Interval:
    """Return a step's seconds by the law of the CNN of the shipped model, scaled to the row's GPU.

    The value is nan where the GPU is not known to have the precision.
    """
    network = network_of(row, records)
    try:
        target = GpuArithmetic.of(row.gpu, network.precision, "on" if row.has_tf32 else "off")
    except ValueError:
        return Interval(math.nan)
    device: ExplainedDevice = scaled_to(target, _shipped())
    least = attainable_sec(network, roof_of(row.gpu, target.arithmetic))
    return scaled_by_law_of_cnn(device, target, network, least).seconds


def least_seconds(row: Measured, records: Sequence[LayerRecord], peaks: Callable[[Gpu, str], Roof] = limit_of) -> float:
    """Return the least seconds of a row's step under peaks of its GPU: `limit_of` or `roof_of`."""
    return attainable_sec(network_of(row, records), peaks(row.gpu, row.arithmetic))


@functools.cache
def _shipped() -> Choice:
    return pretrained("as it answered before")
