"""MobileNet V2, MnasNet and ShuffleNet V2. Imported only where Keras is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from benchmarks.external.builders.blocks import Model, Tensor, classified, conv_norm, depthwise_norm, image

# expansion, filters, repeats, strides (Sandler et al. 2018)
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# kernel, expansion, filters, repeats, strides (Tan et al. 2019)
MNASNET = ((3, 3, 24, 3, 2), (5, 3, 40, 3, 2), (5, 6, 80, 3, 2), (3, 6, 96, 2, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1))
SHUFFLE_DEPTHS = (4, 8, 4)
LAST = 1280  # filters before the mean


def rounded(value: float, least_share: float = 0.9) -> int:
    """Return the nearest multiple of 8 that is no less than this share of the value."""
    nearest = max(8, int(value + 4) // 8 * 8)
    return nearest if nearest >= least_share * value else nearest + 8


def _inverted(x: Tensor, kernel: int, expansion: int, filters: int, strides: int, activation: str) -> Tensor:
    y = conv_norm(x, x.shape[-1] * expansion, 1, activation=activation) if expansion > 1 else x
    y = conv_norm(depthwise_norm(y, kernel, strides, activation), filters, 1, activation=None)
    return layers.Add()([x, y]) if strides == 1 and x.shape[-1] == filters else y


def mobilenet_v2(width: float, size: int) -> Model:
    """Return MobileNet V2 with its filters times `width`."""
    inputs = image(size)
    x = conv_norm(inputs, rounded(32 * width), 3, 2, activation="relu6")
    for expansion, filters, repeats, strides in INVERTED:
        for i in range(repeats):
            x = _inverted(x, 3, expansion, rounded(filters * width), strides if i == 0 else 1, "relu6")
    x = conv_norm(x, rounded(LAST * max(1.0, width)), 1, activation="relu6")
    return keras.Model(inputs, classified(x))


def mnasnet(width: float, size: int) -> Model:
    """Return MnasNet B1 with its filters times `width`."""
    inputs = image(size)
    x = depthwise_norm(conv_norm(inputs, rounded(32 * width), 3, 2), 3)
    x = conv_norm(x, rounded(16 * width), 1, activation=None)
    for kernel, expansion, filters, repeats, strides in MNASNET:
        for i in range(repeats):
            x = _inverted(x, kernel, expansion, rounded(filters * width), strides if i == 0 else 1, "relu")
    return keras.Model(inputs, classified(conv_norm(x, LAST, 1)))


def shufflenet_v2(
    widths: Sequence[int], last: int, size: int, is_for_small: bool = False, classes: int = 1000
) -> Model:
    """Return ShuffleNet V2 as torchvision has it; of small images the stem keeps all."""
    inputs = image(size)
    x = conv_norm(inputs, 24, 3, 1 if is_for_small else 2)
    if not is_for_small:
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
    return keras.Model(inputs, classified(conv_norm(shuffled_stages(x, widths), last, 1), classes))


def shuffled_stages(x: Tensor, widths: Sequence[int]) -> Tensor:
    """Return the stages of ShuffleNet V2, each of half as many positions a side."""
    for filters, depth in zip(widths, SHUFFLE_DEPTHS, strict=True):
        half = filters // 2
        left = conv_norm(depthwise_norm(x, 3, 2, None), half, 1)
        x = _shuffled(left, _shuffle_branch(x, half, 2))
        for _ in range(depth - 1):
            x = _shuffled(x[..., :half], _shuffle_branch(x[..., half:], half, 1))
    return x


def _shuffle_branch(x: Tensor, filters: int, strides: int) -> Tensor:
    return conv_norm(depthwise_norm(conv_norm(x, filters, 1), 3, strides, None), filters, 1)


def _shuffled(left: Tensor, right: Tensor) -> Tensor:
    x = layers.Concatenate()([left, right])
    _, height, width, channels = x.shape
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((height, width, 2, channels // 2))(x))
    return layers.Reshape((height, width, channels))(x)
