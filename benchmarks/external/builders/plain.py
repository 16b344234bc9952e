"""AlexNet, VGG, SqueezeNet and DenseNet. Imported only where Keras is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from benchmarks.external.builders.blocks import CLASSES, Model, Tensor, classified, conv, conv_norm, image, normed

ALEXNET_SIZE = 227
VGG_WIDTHS = (64, 128, 256, 512, 512)
FIRE_SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)


def _biased(x: Tensor, filters: int, kernel: int, strides: int = 1, groups: int = 1, padding: str = "same") -> Tensor:
    x = conv(x, filters, kernel, strides, groups=groups, padding=padding, use_bias=True)
    return layers.Activation("relu")(x)


def _dense_head(x: Tensor, classes: int) -> Tensor:
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(0.5)(layers.Activation("relu")(layers.Dense(4096)(x)))
    return layers.Dense(classes)(x)


def alexnet(filters: Sequence[int], groups: int, is_normed: bool, classes: int = CLASSES) -> Model:
    """Return AlexNet at 227 pixels; its local response normalisation divides by a norm."""
    inputs = image(ALEXNET_SIZE)
    x = _biased(inputs, filters[0], 11, 4, padding="valid")
    x = layers.UnitNormalization()(x) if is_normed else x
    x = _biased(layers.MaxPooling2D(3, 2)(x), filters[1], 5, groups=groups)
    x = layers.UnitNormalization()(x) if is_normed else x
    x = _biased(layers.MaxPooling2D(3, 2)(x), filters[2], 3)
    x = _biased(_biased(x, filters[3], 3, groups=groups), filters[4], 3, groups=groups)
    return keras.Model(inputs, _dense_head(layers.MaxPooling2D(3, 2)(x), classes))


def vgg(depths: Sequence[int], is_normed: bool, size: int, classes: int = CLASSES) -> Model:
    """Return VGG, with batch normalisations or without."""
    inputs = x = image(size)
    for filters, depth in zip(VGG_WIDTHS, depths, strict=True):
        for _ in range(depth):
            x = conv(x, filters, 3, use_bias=True)
            x = normed(x) if is_normed else layers.Activation("relu")(x)
        x = layers.MaxPooling2D(2, 2)(x)
    return keras.Model(inputs, _dense_head(x, classes))


def squeezenet(first: int, kernel: int, pools: Sequence[int], size: int) -> Model:
    """Return SqueezeNet; `pools` are the modules after which positions are halved."""
    inputs = image(size)
    x = layers.MaxPooling2D(3, 2, padding="same")(_biased(inputs, first, kernel, 2, padding="valid"))
    for i, squeeze in enumerate(FIRE_SQUEEZES, 1):
        x = _biased(x, squeeze, 1)
        x = layers.Concatenate()([_biased(x, 4 * squeeze, 1), _biased(x, 4 * squeeze, 3)])
        if i in pools:
            x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _biased(layers.Dropout(0.5)(x), CLASSES, 1)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def densenet(depths: Sequence[int], growth: int, first: int, size: int) -> Model:
    """Return DenseNet, whose layers read all before them in their block (Huang et al. 2017)."""
    inputs = image(size)
    x = layers.MaxPooling2D(3, 2, padding="same")(conv_norm(inputs, first, 7, 2))
    for block, depth in enumerate(depths):
        for _ in range(depth):
            y = conv(normed(conv(normed(x), 4 * growth, 1)), growth, 3)
            x = layers.Concatenate()([x, y])
        if block < len(depths) - 1:
            x = layers.AveragePooling2D(2, 2)(conv(normed(x), x.shape[-1] // 2, 1))
    return keras.Model(inputs, classified(normed(x)))
