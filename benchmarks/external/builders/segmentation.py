"""U-Nets for flat and for solid images. Imported only where Keras is loaded."""

from __future__ import annotations

import keras
from keras import layers

from benchmarks.external.builders.blocks import Model, Tensor, conv, image

MEDICAL_WIDTHS = (64, 128, 256, 512, 1024)
INDUSTRIAL_WIDTHS = (32, 64, 128)
SOLID_WIDTHS = (32, 64, 128, 256, 320, 320)


def _relu(x: Tensor, filters: int, kernel: int = 3, padding: str = "same") -> Tensor:
    return layers.Activation("relu")(conv(x, filters, kernel, padding=padding, use_bias=True))


def _pair(x: Tensor, filters: int, second: int | None = None, padding: str = "same") -> Tensor:
    return _relu(_relu(x, filters, padding=padding), second or filters, padding=padding)


def _doubled(x: Tensor, filters: int, activation: str | None = None) -> Tensor:
    return layers.Conv2DTranspose(filters, 2, 2, activation=activation)(x)


def unet_medical(size: int) -> Model:
    """Return the U-Net of Ronneberger et al. 2015: no padding, so that skipped tensors are cropped."""
    inputs = x = image(size, 1)
    skipped = []
    for filters in MEDICAL_WIDTHS[:-1]:
        x = _pair(x, filters, padding="valid")
        skipped.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = _pair(x, MEDICAL_WIDTHS[-1], padding="valid")
    for filters in MEDICAL_WIDTHS[-2::-1]:
        x, skip = _doubled(x, filters), skipped.pop()
        edge = (skip.shape[1] - x.shape[1]) // 2
        x = _pair(layers.Concatenate()([layers.Cropping2D(edge)(skip), x]), filters, padding="valid")
    return keras.Model(inputs, conv(x, 2, 1, use_bias=True))


def unet_industrial(size: int) -> Model:
    """Return the `tinyUNet` of NVIDIA's DeepLearningExamples."""
    inputs = image(size, 1)
    skipped = [_pair(inputs, 32)]
    x = layers.MaxPooling2D(2)(skipped[0])
    for filters in INDUSTRIAL_WIDTHS:
        skipped.append(_pair(x, filters))
        x = layers.MaxPooling2D(2)(skipped[-1])
    x = _doubled(_pair(x, 256), 128, "relu")
    for filters in INDUSTRIAL_WIDTHS[::-1]:
        x = _pair(layers.Concatenate()([x, skipped.pop()]), filters, filters // 2)
        x = _doubled(x, filters // 2, "relu")
    x = _pair(layers.Concatenate()([x, skipped.pop()]), 32)
    return keras.Model(inputs, conv(x, 1, 1, use_bias=True, activation="sigmoid"))


def _solid(x: Tensor, filters: int, strides: int = 1) -> Tensor:
    x = layers.Conv3D(filters, 3, strides, padding="same", use_bias=False)(x)
    return layers.LeakyReLU(0.01)(layers.GroupNormalization(groups=-1)(x))


def unet_solid(size: int, channels: int = 4, classes: int = 4) -> Model:
    """Return the three-dimensional U-Net that nnU-Net plans for brain tumours (Isensee et al. 2021)."""
    inputs = keras.Input((size, size, size, channels))
    x = _solid(_solid(inputs, SOLID_WIDTHS[0]), SOLID_WIDTHS[0])
    skipped = []
    for filters in SOLID_WIDTHS[1:]:
        skipped.append(x)
        x = _solid(_solid(x, filters, 2), filters)
    for filters in SOLID_WIDTHS[-2::-1]:
        x = layers.Conv3DTranspose(filters, 2, 2, use_bias=False)(x)
        x = layers.Concatenate()([x, skipped.pop()])
        x = _solid(_solid(x, filters), filters)
    return keras.Model(inputs, layers.Conv3D(classes, 1)(x))
