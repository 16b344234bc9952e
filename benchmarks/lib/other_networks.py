"""Small Keras networks of other families than our CNN, and their epochs measured on this processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Model = Any  # Keras is imported only where it is used
CLASSES = 10
IMAGE = (32, 32, 3)
SEQUENCE = (64, 32)


def _residual(keras: Any) -> Model:
    """Convolutions with normalisation and shortcuts, as in ResNet."""
    layers = keras.layers
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        shortcut = layers.Conv2D(filters, 1, strides=strides, use_bias=False)(x)
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.Add()([layers.BatchNormalization()(x), shortcut]))
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def _depthwise(keras: Any) -> Model:
    """Depthwise and pointwise convolutions, as in MobileNet."""
    layers = keras.layers
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    for filters, strides in ((32, 1), (64, 2), (128, 2)):
        x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def _perceptron(keras: Any) -> Model:
    """Dense layers alone."""
    layers = keras.layers
    inputs = keras.Input(IMAGE)
    x = layers.Flatten()(inputs)
    for _ in range(3):
        x = layers.Dense(512, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


def _transformer(keras: Any) -> Model:
    """Two blocks of self-attention."""
    layers = keras.layers
    inputs = keras.Input(SEQUENCE)
    x = layers.Dense(64)(inputs)
    for _ in range(2):
        x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(4, 16)(x, x)]))
        wide = layers.Dense(64)(layers.Dense(256, activation="relu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, wide]))
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def _recurrent(keras: Any) -> Model:
    """One LSTM: as many small steps one after another as the sequence is long."""
    inputs = keras.Input(SEQUENCE)
    x = keras.layers.LSTM(64)(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(x))


NETWORKS: dict[str, tuple[str, Callable[[Any], Model]]] = {
    "residual": ("convolutional", _residual),
    "depthwise": ("convolutional", _depthwise),
    "perceptron": ("dense", _perceptron),
    "transformer": ("transformer", _transformer),
    "recurrent": ("recurrent", _recurrent),
}


def fastest_epochs(
    jobs: Sequence[tuple[Model, int]], images: int, rounds: int, say: Callable[[str], None]
) -> list[float]:
    """Fastest epoch of each model at its batch size, in seconds: one epoch of each in turn, the first round not timed.

    On a shared processor what others do only adds, and comes and goes: in turns it hits no model more than another.
    """
    random = np.random.default_rng(0)
    data = {}
    for model, _ in jobs:
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        data[model.input_shape[1:]] = random.random((images, *model.input_shape[1:]), np.float32)
    labels = random.integers(0, CLASSES, images)
    fastest = [float("inf")] * len(jobs)
    for number in range(rounds + 1):
        for i, (model, batch_size) in enumerate(jobs):
            start = time.perf_counter()
            model.fit(data[model.input_shape[1:]], labels, batch_size=batch_size, verbose=0)
            if number:
                fastest[i] = min(fastest[i], time.perf_counter() - start)
        say(f"round {number} of {rounds}")
    return fastest
