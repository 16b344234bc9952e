"""The work of an epoch of training, in the units that a law of its seconds counts in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.roofline.roofline import ADAM_PASSES, BYTES_PER_FLOAT, LayerRecord

WIDE_CHANNELS = 256
BLOCK_LAYERS = 3  # of the CNN that laws are fitted on: two convolutions and a pool
HEAD_LAYERS = 2  # its dense layers, which a law's time of a step holds


@dataclass(frozen=True, slots=True)
class EpochWork:
    """The work of one epoch; FLOP and bytes are of one image."""

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
) -> EpochWork:
    """Return the work of any network's layers, its optimizer counted as if it were Adam."""
    params = sum(trained_params(record) for record in records)
    return EpochWork(
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
    """Return the number of parameters that the optimizer updates for this layer."""
    return 0 if record.is_repeat else record.trainable_params


def wide_flop(record: LayerRecord) -> int:
    """Return the training FLOP of one image in a wide convolution, else 0.

    A convolution is wide with WIDE_CHANNELS output channels or more.

    Of a network's first layer, too, the gradient of its inputs is counted: laws were fitted so.
    """
    if record.kind != "conv" or record.filters < WIDE_CHANNELS:
        return 0
    return replace(record, has_input_gradient=True).train_flop if record.trainable_params else record.train_flop
