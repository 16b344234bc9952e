"""Inception V1 and V4. Imported only where Keras is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from benchmarks.external.builders.blocks import CLASSES, Model, Tensor, classified, conv, conv_norm, image

# 1x1; 3x3 reduced and full; 5x5 reduced and full; pool's (Szegedy et al. 2014)
V1_MODULES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def _relu(x: Tensor, filters: int, kernel: int, strides: int = 1) -> Tensor:
    return layers.Activation("relu")(conv(x, filters, kernel, strides, use_bias=True))


def inception_v1(size: int) -> Model:
    """Return GoogLeNet without its two further heads; local response normalisations divide by a norm."""
    inputs = image(size)
    x = layers.UnitNormalization()(layers.MaxPooling2D(3, 2, padding="same")(_relu(inputs, 64, 7, 2)))
    x = layers.UnitNormalization()(_relu(_relu(x, 64, 1), 192, 3))
    for modules in V1_MODULES:
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        for one, three_in, three, five_in, five, pooled in modules:
            pool = layers.MaxPooling2D(3, 1, padding="same")(x)
            branches = [_relu(x, one, 1), _relu(_relu(x, three_in, 1), three, 3), _relu(_relu(x, five_in, 1), five, 5)]
            x = layers.Concatenate()([*branches, _relu(pool, pooled, 1)])
    x = layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def _chain(x: Tensor, *steps: Sequence[int], padding: str = "same") -> Tensor:
    """Return convolutions one after another, each of filters, rows and columns of its kernel."""
    for filters, rows, columns in steps:
        x = conv_norm(x, filters, (rows, columns), padding=padding)
    return x


def _pooled(x: Tensor) -> Tensor:
    return layers.AveragePooling2D(3, 1, padding="same")(x)


def _halved(x: Tensor, filters: int) -> Tensor:
    return conv_norm(x, filters, 3, 2, padding="valid")


def inception_v4(size: int) -> Model:
    """Return Inception V4 (Szegedy et al. 2016)."""
    inputs = image(size)
    x = _chain(_chain(_halved(inputs, 32), (32, 3, 3), padding="valid"), (64, 3, 3))
    x = layers.Concatenate()([layers.MaxPooling2D(3, 2)(x), _halved(x, 96)])
    left = _chain(_chain(x, (64, 1, 1)), (96, 3, 3), padding="valid")
    right = _chain(_chain(x, (64, 1, 1), (64, 1, 7), (64, 7, 1)), (96, 3, 3), padding="valid")
    x = layers.Concatenate()([left, right])
    x = layers.Concatenate()([_halved(x, 192), layers.MaxPooling2D(3, 2)(x)])
    for _ in range(4):
        branches = [_chain(x, (96, 1, 1)), _chain(x, (64, 1, 1), (96, 3, 3))]
        branches += [_chain(x, (64, 1, 1), (96, 3, 3), (96, 3, 3)), _chain(_pooled(x), (96, 1, 1))]
        x = layers.Concatenate()(branches)
    branches = [_halved(x, 384), _halved(_chain(x, (192, 1, 1), (224, 3, 3)), 256), layers.MaxPooling2D(3, 2)(x)]
    x = layers.Concatenate()(branches)
    for _ in range(7):
        branches = [_chain(x, (384, 1, 1)), _chain(x, (192, 1, 1), (224, 1, 7), (256, 7, 1))]
        branches += [_chain(x, (192, 1, 1), (192, 7, 1), (224, 1, 7), (224, 7, 1), (256, 1, 7))]
        x = layers.Concatenate()([*branches, _chain(_pooled(x), (128, 1, 1))])
    branches = [_halved(_chain(x, (192, 1, 1)), 192), _halved(_chain(x, (256, 1, 1), (256, 1, 7), (320, 7, 1)), 320)]
    x = layers.Concatenate()([*branches, layers.MaxPooling2D(3, 2)(x)])
    for _ in range(3):
        middle = _chain(x, (384, 1, 1))
        last = _chain(x, (384, 1, 1), (448, 3, 1), (512, 1, 3))
        branches = [_chain(x, (256, 1, 1)), _chain(middle, (256, 1, 3)), _chain(middle, (256, 3, 1))]
        branches += [_chain(last, (256, 1, 3)), _chain(last, (256, 3, 1)), _chain(_pooled(x), (256, 1, 1))]
        x = layers.Concatenate()(branches)
    return keras.Model(inputs, classified(x))
