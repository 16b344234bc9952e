"""Closed forms of the CNN: parameters, FLOPs and activation bytes, layer by layer, without a framework.

The network: `depth` blocks of two 3x3 same-padded ReLU convolutions and one 2x2 max-pool (same-padded, so that a
sixth block still has a pixel to pool), filters doubling per block from `base_filters`, then Flatten, Dense 128 ReLU
and Dense 10 softmax, on 32x32x3 images. One multiply-add is 2 FLOP; padded taps count, as TensorFlow's profiler
counts them. Images are single ones: times a batch, multiply.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from epochcast.roofline.epoch_work import EpochWork, work_of_layers
from epochcast.roofline.roofline import BYTES_PER_FLOAT, LayerRecord
from epochcast.schema import RunConfig

if TYPE_CHECKING:
    from epochcast.roofline.network import TrainedNetwork

IMAGE_SIZE = 32
CHANNELS = 3
CLASSES = 10
DENSE_UNITS = 128
SOFTMAX_FLOP = 5 * CLASSES  # TensorFlow's profiler counts 5 per softmax element
POOL_FLOP_PER_OUTPUT = 4  # a 2x2 window


def _conv(name: str, size: int, channels: int, filters: int, is_first: bool) -> LayerRecord:
    pixels = size * size
    macs = pixels * filters * 9 * channels
    params = 9 * channels * filters + filters
    return LayerRecord(
        name=name,
        kind="conv",
        output_shape=(size, size, filters),
        params=params,
        macs=macs,
        inputs=pixels * channels,
        outputs=pixels * filters,
        forward_flop=2 * macs + pixels * filters,
        weight_reads=params,
        has_input_gradient=not is_first,
        filters=filters,
        taps=9,
    )


def _pool(name: str, inputs: int, size: int, channels: int) -> LayerRecord:
    outputs = size * size * channels
    return LayerRecord(
        name=name,
        kind="pool",
        output_shape=(size, size, channels),
        params=0,
        macs=0,
        inputs=inputs,
        outputs=outputs,
        forward_flop=POOL_FLOP_PER_OUTPUT * outputs,
        weight_reads=0,
    )


def _dense(name: str, inputs: int, units: int, activation_flop: int = 0) -> LayerRecord:
    macs = inputs * units
    return LayerRecord(
        name=name,
        kind="dense",
        output_shape=(units,),
        params=macs + units,
        macs=macs,
        inputs=inputs,
        outputs=units,
        forward_flop=2 * macs + units + activation_flop,
        weight_reads=macs + units,
    )


def layer_records(config: RunConfig) -> tuple[LayerRecord, ...]:
    """Return the layers that compute, first to last; Flatten moves nothing and is not among them."""
    layers: list[LayerRecord] = []
    size, channels, filters = IMAGE_SIZE, CHANNELS, config.base_filters
    for block in range(1, config.depth + 1):
        layers.append(_conv(f"block{block}_conv1", size, channels, filters, is_first=block == 1))
        layers.append(_conv(f"block{block}_conv2", size, filters, filters, is_first=False))
        inputs, size = size * size * filters, (size + 1) // 2
        layers.append(_pool(f"block{block}_pool", inputs, size, filters))
        channels, filters = filters, 2 * filters
    layers.append(_dense("dense", size * size * channels, DENSE_UNITS))
    layers.append(_dense("probabilities", DENSE_UNITS, CLASSES, SOFTMAX_FLOP))
    return tuple(layers)


def count_params(config: RunConfig) -> int:
    """Return the trainable parameters; equal to Keras's `count_params`."""
    return sum(layer.params for layer in layer_records(config))


def forward_flop(config: RunConfig) -> int:
    """Return the FLOP of one image's forward pass, as TensorFlow's profiler counts them."""
    return sum(layer.forward_flop for layer in layer_records(config))


def train_flop(config: RunConfig) -> int:
    """Return the FLOP of one image's forward and backward pass, multiply-adds alone."""
    return sum(layer.train_flop for layer in layer_records(config))


def activation_bytes(config: RunConfig) -> int:
    """Return the bytes of one image's float32 activations in one forward pass."""
    return BYTES_PER_FLOAT * sum(layer.outputs for layer in layer_records(config))


@functools.lru_cache(maxsize=1 << 14)  # the folds of a fit ask for the same again and again
def work_of(config: RunConfig, images: int) -> EpochWork:
    """Return the work of an epoch of one configuration."""
    return work_of_layers(layer_records(config), config.batch_size, images)


def trained_cnn(config: RunConfig, images: int, precision: str) -> TrainedNetwork:
    """Return one configuration as a network in training."""
    from epochcast.roofline.network import TrainedNetwork  # with the tables of facts, which few commands need

    return TrainedNetwork(f"CNN of {config.network_text}", layer_records(config), config.batch_size, images, precision)
