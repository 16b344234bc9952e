"""Pieces of the published tables' networks; imported only where Keras is loaded."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

Tensor = Any  # a keras.KerasTensor
Model = Any  # a keras.Model
CLASSES = 1000


def image(size: int, channels: int = 3) -> Tensor:
    """Return the input of square images."""
    return keras.Input((size, size, channels))


def conv(x: Tensor, filters: int, kernel: Any, strides: int = 1, **others: Any) -> Tensor:
    """Return a convolution without bias; its output has ceil(size / strides) positions a side."""
    return layers.Conv2D(filters, kernel, strides, **({"padding": "same", "use_bias": False} | others))(x)


def normed(x: Tensor, activation: str | None = "relu") -> Tensor:
    """Return batch normalisation, then the activation, each a layer of its own."""
    x = layers.BatchNormalization()(x)
    return x if activation is None else layers.Activation(activation)(x)


def conv_norm(
    x: Tensor, filters: int, kernel: Any, strides: int = 1, activation: str | None = "relu", **others: Any
) -> Tensor:
    """Return convolution, batch normalisation and activation."""
    return normed(conv(x, filters, kernel, strides, **others), activation)


def depthwise_norm(x: Tensor, kernel: int, strides: int = 1, activation: str | None = "relu") -> Tensor:
    """Return a depthwise convolution with batch normalisation and activation."""
    return normed(layers.DepthwiseConv2D(kernel, strides, padding="same", use_bias=False)(x), activation)


def squeeze_excite(x: Tensor, filters: int) -> Tensor:
    """Return the channels weighed by two dense layers on their means (Hu et al. 2018)."""
    scale = layers.GlobalAveragePooling2D(keepdims=True)(x)
    scale = conv(scale, filters, 1, use_bias=True, activation="relu")
    scale = conv(scale, x.shape[-1], 1, use_bias=True, activation="sigmoid")
    return layers.Multiply()([x, scale])


def classified(x: Tensor, classes: int = CLASSES) -> Tensor:
    """Return the classes of the mean over all positions."""
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))
