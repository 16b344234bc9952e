"""BERT, GPT and vision transformers without tables of positions. Imported only where Keras is loaded."""

from __future__ import annotations

import keras
from keras import layers

from benchmarks.external.builders.blocks import CLASSES, Model, Tensor, conv, image

BERT_WORDS, GPT_WORDS, OPT_WORDS = 30522, 50257, 50272


def _attended(x: Tensor, heads: int, dropout: float) -> Tensor:
    size = x.shape[-1] // heads
    return layers.Dropout(dropout)(layers.MultiHeadAttention(heads, size, dropout=dropout)(x, x))


def _fed_forward(x: Tensor, dropout: float, activation: str) -> Tensor:
    wide = layers.Activation(activation)(layers.Dense(4 * x.shape[-1])(x))
    return layers.Dropout(dropout)(layers.Dense(x.shape[-1])(wide))


def bert(depth: int, width: int, heads: int, positions: int) -> Model:
    """Return BERT's encoder: normalisations after the additions (Devlin et al. 2018)."""
    inputs = keras.Input((positions,), dtype="int32")
    x = layers.Dropout(0.1)(layers.LayerNormalization()(layers.Embedding(BERT_WORDS, width)(inputs)))
    for _ in range(depth):
        x = layers.LayerNormalization()(layers.Add()([x, _attended(x, heads, 0.1)]))
        x = layers.LayerNormalization()(layers.Add()([x, _fed_forward(x, 0.1, "gelu")]))
    return keras.Model(inputs, x)


def _preactivated(x: Tensor, heads: int, dropout: float, activation: str = "gelu") -> Tensor:
    x = layers.Add()([x, _attended(layers.LayerNormalization()(x), heads, dropout)])
    return layers.Add()([x, _fed_forward(layers.LayerNormalization()(x), dropout, activation)])


def gpt(depth: int, width: int, heads: int, positions: int, words: int = GPT_WORDS, activation: str = "gelu") -> Model:
    """Return a decoder of a language with its scores of words (Radford et al. 2019)."""
    inputs = keras.Input((positions,), dtype="int32")
    x = layers.Dropout(0.1)(layers.Embedding(words, width)(inputs))
    for _ in range(depth):
        x = _preactivated(x, heads, 0.1, activation)
    return keras.Model(inputs, layers.Dense(words, use_bias=False)(layers.LayerNormalization()(x)))


def vit(depth: int, width: int, heads: int, patch: int, size: int) -> Model:
    """Return a vision transformer without a token of the class (Dosovitskiy et al. 2021)."""
    inputs = image(size)
    x = conv(inputs, width, patch, patch, use_bias=True, padding="valid")
    x = layers.Reshape(((size // patch) ** 2, width))(x)
    for _ in range(depth):
        x = _preactivated(x, heads, 0.0)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x))
