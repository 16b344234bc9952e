"""What an epoch of training does, in the units that a law counts in: from a configuration, or from any layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.roofline.roofline import ADAM_PASSES, LayerRecord
from epochcast.schema import RunConfig
from epochcast.workload.shape import BYTES_PER_FLOAT, layer_records

WIDE_CHANNELS = 256
BLOCK_LAYERS = 3  # of the CNN that laws are fitted on: two convolutions and a pool
HEAD_LAYERS = 2  # its dense layers, which a law's time of a step holds


@dataclass(frozen=True, slots=True)
class Work:
    """An epoch's work; FLOP and bytes are of one image."""

    images: int
    batch_size: int
    blocks: float  # launches of a forward pass, as blocks of the CNN: exactly its depth, for that network
    params: float  # trained parameters: as many as make what the optimizer moves, if it were Adam
    train_flop: int  # multiply-adds of the forward and backward pass
    wide_flop: int  # of those, in convolutions of WIDE_CHANNELS channels or more
    forward_flop: int
    activation_bytes: int  # of one forward pass, in float32

    @property
    def steps(self) -> int:
        return math.ceil(self.images / self.batch_size)


def work_of_layers(
    records: Sequence[LayerRecord], batch_size: int, images: int, optimizer_passes: int = ADAM_PASSES
) -> Work:
    """The work of any network's layers; what its optimizer moves is told as if Adam moved it."""
    params = sum(trained_params(record) for record in records)
    return Work(
        images=images,
        batch_size=batch_size,
        blocks=max(0.0, (sum(record.n_kernels for record in records) - HEAD_LAYERS) / BLOCK_LAYERS),
        params=params if optimizer_passes == ADAM_PASSES else params * optimizer_passes / ADAM_PASSES,
        train_flop=sum(record.train_flop for record in records),
        wide_flop=sum(wide_flop(record) for record in records),
        forward_flop=sum(record.forward_flop for record in records),
        activation_bytes=BYTES_PER_FLOAT * sum(record.outputs for record in records),
    )


def trained_params(record: LayerRecord) -> int:
    """Parameters that the optimizer updates for this layer."""
    return 0 if record.is_repeat else record.trainable_params


def wide_flop(record: LayerRecord) -> int:
    """Training FLOP of one image in a convolution of WIDE_CHANNELS output channels or more, else 0.

    Of a network's first layer, too, the gradient of its inputs is counted: laws were fitted so.
    """
    if record.kind != "conv" or record.filters < WIDE_CHANNELS:
        return 0
    return replace(record, has_input_gradient=True).train_flop if record.trainable_params else record.train_flop


@functools.lru_cache(maxsize=1 << 14)  # the folds of a fit ask for the same again and again
def work_of(config: RunConfig, images: int) -> Work:
    """The work of one configuration of the CNN."""
    return work_of_layers(layer_records(config), config.batch_size, images)
