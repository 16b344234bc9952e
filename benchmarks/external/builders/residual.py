"""Residual networks: ResNet, ResNeXt, wide and squeeze-and-excite ones. Imported only where Keras is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers

from benchmarks.external.builders.blocks import (
    Model,
    Tensor,
    classified,
    conv,
    conv_norm,
    image,
    normed,
    squeeze_excite,
)

WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Residual:
    """Which residual network; sizes as torchvision's `ResNet` names them."""

    depths: Sequence[int]
    is_bottleneck: bool = True
    groups: int = 1
    width_per_group: int = 64
    strided: int = 3  # kernel of the bottleneck's convolution with the stride: 1 in version 1, 3 in version 1.5
    excite: bool = False
    deep_stem: bool = False  # three 3x3 convolutions in place of the 7x7 one
    pool_shortcut: bool = False  # the mean of 2x2 positions before a shortcut's convolution

    def width(self, planes: int) -> int:
        return planes * self.width_per_group // 64 * self.groups

    @property
    def expansion(self) -> int:
        return 4 if self.is_bottleneck else 1


def residual(kind: Residual, size: int) -> Model:
    """Return a residual network whose activations follow the additions (He et al. 2015)."""
    inputs = image(size)
    x = _stem(inputs, kind)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, (planes, depth) in enumerate(zip(WIDTHS, kind.depths, strict=True)):
        for i in range(depth):
            x = _block(x, kind, planes, 2 if stage and i == 0 else 1)
    return keras.Model(inputs, classified(x))


def _stem(x: Tensor, kind: Residual) -> Tensor:
    if not kind.deep_stem:
        return conv_norm(x, 64, 7, 2)
    return conv_norm(conv_norm(conv_norm(x, 32, 3, 2), 32, 3), 64, 3)


def _block(x: Tensor, kind: Residual, planes: int, strides: int) -> Tensor:
    shortcut, outputs = x, planes * kind.expansion
    if strides > 1 or x.shape[-1] != outputs:
        shortcut = _shortcut(x, outputs, strides, kind.pool_shortcut)
    if kind.is_bottleneck:
        width, first = kind.width(planes), strides if kind.strided == 1 else 1
        x = conv_norm(x, width, 1, first)
        x = conv_norm(x, width, 3, strides // first, groups=kind.groups)
        x = conv_norm(x, outputs, 1, activation=None)
    else:
        x = conv_norm(conv_norm(x, planes, 3, strides), planes, 3, activation=None)
    if kind.excite:
        x = squeeze_excite(x, outputs // 16)
    return layers.Activation("relu")(layers.Add()([x, shortcut]))


def _shortcut(x: Tensor, filters: int, strides: int, pool: bool) -> Tensor:
    if not pool:
        return conv_norm(x, filters, 1, strides, activation=None)
    if strides > 1:
        x = layers.AveragePooling2D(2, strides, padding="same")(x)
    return conv_norm(x, filters, 1, activation=None)


def preactivated(depths: Sequence[int], size: int) -> Model:
    """Return a residual network whose normalisations stand before the convolutions (He et al. 2016)."""
    inputs = image(size)
    x = layers.MaxPooling2D(3, 2, padding="same")(conv_norm(inputs, 64, 7, 2))
    for stage, (planes, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
        for i in range(depth):
            strides = 2 if stage and i == 0 else 1
            y = normed(x)
            shortcut = conv(y, 4 * planes, 1, strides) if i == 0 else x
            y = normed(conv(normed(conv(y, planes, 1)), planes, 3, strides))
            x = layers.Add()([conv(y, 4 * planes, 1), shortcut])
    return keras.Model(inputs, classified(normed(x)))
