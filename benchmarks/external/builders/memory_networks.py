"""The networks of GPU-Insights, whose peak memory its authors published. Imported only where Keras is loaded."""

from __future__ import annotations

import keras
from keras import layers

from benchmarks.external.builders.blocks import Model, Tensor, conv, conv_norm, image
from benchmarks.external.builders.residual import WIDTHS, Residual, _block

CLASSES = 10
UNET_WIDTHS = (64, 128, 256, 512, 1024)
DIFFUSION_WIDTHS = (128, 256, 384, 512)
ATTENDED = 16  # positions a side from which on the diffusion network attends
TIME_WIDTH = 512


def lenet(size: int) -> Model:
    """Return two convolutions and three dense layers."""
    x = inputs = image(size)
    for filters in (6, 16):
        x = layers.Activation("relu")(conv(x, filters, 5, padding="valid", use_bias=True))
        x = layers.MaxPooling2D(2, 2)(x)
    x = layers.Flatten()(x)
    for units in (120, 84):
        x = layers.Activation("relu")(layers.Dense(units)(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def small_image_resnet50(size: int) -> Model:
    """Return ResNet-50 with a 3x3 convolution of stride 1 and no pool before its blocks."""
    inputs, kind = image(size), Residual((3, 4, 6, 3))
    x = conv_norm(inputs, 64, 3)
    for stage, (planes, depth) in enumerate(zip(WIDTHS, kind.depths, strict=True)):
        for i in range(depth):
            x = _block(x, kind, planes, 2 if stage and i == 0 else 1)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def normed_unet(size: int) -> Model:
    """Return a U-Net with padding and batch normalisations."""
    inputs = x = image(size)
    skipped: list[Tensor] = []
    for filters in UNET_WIDTHS:
        if skipped:
            x = layers.MaxPooling2D(2)(x)
        x = conv_norm(conv_norm(x, filters, 3), filters, 3)
        skipped.append(x)
    skipped.pop()
    for filters in UNET_WIDTHS[-2::-1]:
        x = layers.Conv2DTranspose(filters, 2, 2)(x)
        x = layers.Concatenate()([skipped.pop(), x])
        x = conv_norm(conv_norm(x, filters, 3), filters, 3)
    return keras.Model(inputs, conv(x, 21, 1, use_bias=True))


def _silu_conv(x: Tensor, filters: int, **others: bool) -> Tensor:
    x = layers.Activation("silu")(layers.GroupNormalization(8)(x))
    return conv(x, filters, 3, **others)


def _conditioned(x: Tensor, time: Tensor, filters: int) -> Tensor:
    shift = layers.Dense(filters)(layers.Activation("silu")(time))
    y = layers.Add()([_silu_conv(x, filters), layers.Reshape((1, 1, filters))(shift)])
    y = _silu_conv(y, filters)
    return layers.Add()([y, x if x.shape[-1] == filters else conv(x, filters, 1, use_bias=True)])


def _attended(x: Tensor, heads: int = 4) -> Tensor:
    _, height, width, channels = x.shape
    y = layers.Reshape((height * width, channels))(layers.GroupNormalization(8)(x))
    y = layers.MultiHeadAttention(heads, channels // heads)(y, y)
    return layers.Add()([x, layers.Reshape((height, width, channels))(y)])


def diffusion(size: int) -> Model:
    """Return a U-Net that predicts the noise of an image (after Nichol and Dhariwal 2021)."""
    inputs, angles = image(size), keras.Input((DIFFUSION_WIDTHS[0],))
    time = layers.Dense(TIME_WIDTH)(layers.Activation("silu")(layers.Dense(TIME_WIDTH)(angles)))
    x = conv(inputs, DIFFUSION_WIDTHS[0], 3, use_bias=True)
    skipped = []
    for level, filters in enumerate(DIFFUSION_WIDTHS):
        if level:
            x = conv(x, x.shape[-1], 3, 2, use_bias=True)
        x = _conditioned(_conditioned(x, time, filters), time, filters)
        x = _attended(x) if x.shape[1] == ATTENDED else x
        skipped.append(x)
    x = _conditioned(_attended(_conditioned(x, time, x.shape[-1])), time, x.shape[-1])
    for level, filters in enumerate(DIFFUSION_WIDTHS[::-1]):
        if level:
            x = conv(layers.UpSampling2D(2)(x), x.shape[-1], 3, use_bias=True)
        x = layers.Concatenate()([x, skipped.pop()])
        x = _conditioned(_conditioned(x, time, filters), time, filters)
        x = _attended(x) if x.shape[1] == ATTENDED else x
    return keras.Model([inputs, angles], _silu_conv(x, 3, use_bias=True))
