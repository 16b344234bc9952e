"""Networks of Zeus's power trace alone; imported only where Keras is loaded."""

from __future__ import annotations

import keras
from keras import layers

from benchmarks.external.builders.blocks import Model, Tensor, classified, conv_norm, image, normed
from benchmarks.external.builders.mobile import shuffled_stages

CIFAR_CLASSES = 100
USERS, ITEMS, FACTORS = 6040, 3706, 32  # of MovieLens-1M
BANDS, CHARACTERS = 161, 29  # of a spectrogram, and scores of a transcript
RECURRENT_UNITS, RECURRENT_DEPTH = 1024, 5


def small_image_shufflenet_v2(size: int) -> Model:
    """Return ShuffleNet V2 with a first convolution of stride 1 and no pool before its stages."""
    inputs = image(size)
    x = shuffled_stages(conv_norm(inputs, 24, 3), (116, 232, 464))
    return keras.Model(inputs, classified(conv_norm(x, 1024, 1), CIFAR_CLASSES))


def neural_collaborative_filter() -> Model:
    """Return NeuMF: products of factors next to three dense layers (He et al. 2017)."""
    user, item = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    product = layers.Multiply()([_factors(user, USERS, FACTORS), _factors(item, ITEMS, FACTORS)])
    x = layers.Concatenate()([_factors(user, USERS, 4 * FACTORS), _factors(item, ITEMS, 4 * FACTORS)])
    for units in (4 * FACTORS, 2 * FACTORS, FACTORS):
        x = layers.Activation("relu")(layers.Dense(units)(x))
    return keras.Model([user, item], layers.Dense(1)(layers.Concatenate()([product, x])))


def _factors(numbers: Tensor, rows: int, width: int) -> Tensor:
    return layers.Flatten()(layers.Embedding(rows, width)(numbers))


def deep_speech_2(frames: int) -> Model:
    """Return DeepSpeech 2: two convolutions and five LSTMs in both directions (Amodei et al. 2015)."""
    x = inputs = keras.Input((frames, BANDS, 1))
    for kernel, strides in (((11, 41), (2, 2)), ((11, 21), (1, 2))):
        x = normed(layers.Conv2D(32, kernel, strides, padding="same", use_bias=False)(x), "relu6")
    x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
    for _ in range(RECURRENT_DEPTH):
        one = layers.LSTM(RECURRENT_UNITS, return_sequences=True)
        x = layers.Bidirectional(one, merge_mode="sum")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(CHARACTERS)(layers.BatchNormalization()(x)))
