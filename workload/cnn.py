"""The CNN that is trained: built, compiled and seeded with Keras alone, whatever its backend."""

from __future__ import annotations

import random

import keras
import numpy as np

from epochcast.schema import RunConfig
from epochcast.workload.shape import CHANNELS, CLASSES, DENSE_UNITS, IMAGE_SIZE

JIT_COMPILE = {"auto": "auto", "on": True, "off": False}  # our word: Keras's


def build_model(config: RunConfig) -> keras.Model:
    """Build the network of `workload.shape`, not compiled: float32 images (32, 32, 3) in [0, 1] to ten probabilities.

    It takes the precision from Keras's global dtype policy (`keras.config.set_dtype_policy`).
    """
    layers = keras.layers
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, CHANNELS), dtype="float32", name="images")
    x = inputs
    for block in range(1, config.depth + 1):
        filters = config.base_filters * 2 ** (block - 1)
        for conv in (1, 2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv{conv}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(DENSE_UNITS, activation="relu", name="dense")(x)
    # float32 under every policy: in half precision a small probability is 0, and its logarithm ends the run
    outputs = layers.Dense(CLASSES, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name=f"cnn_{config.depth}_{config.base_filters}")


def compile_model(model: keras.Model, *, jit_compile: str = "auto", steps_per_execution: int = 1) -> str:
    """Compile in place for classes 0-9 and return how, `on` or `off`: `auto` is Keras's own choice, resolved.

    Adam at its default rate, sparse categorical cross-entropy, accuracy. Keras chooses XLA, except for TensorFlow on a
    processor; under PyTorch `on` is `torch.compile`, and `auto` is off.

    Raises:
        ValueError: if `jit_compile` is not `auto`, `on` or `off`.
    """
    if jit_compile not in JIT_COMPILE:
        raise ValueError(f"jit_compile must be one of {', '.join(JIT_COMPILE)}, got {jit_compile!r}.")
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
        jit_compile=JIT_COMPILE[jit_compile],
        steps_per_execution=steps_per_execution,
    )
    return "on" if model.jit_compile else "off"


def seed_everything(seed: int) -> None:
    """Make the next model's initial weights a function of `seed`, and every epoch's order a new one.

    Keras's initialisers draw from Python's `random`; `fit` shuffles arrays with NumPy on JAX and with PyTorch on
    PyTorch, so that its orders repeat from run to run too, as do tf.data's, which take a seed of their own.
    TensorFlow's global seed (and with it `keras.utils.set_random_seed`) is left alone: once it is set, `fit` on arrays
    repeats one order in every epoch. The price is that under TensorFlow the orders of `fit` on arrays differ from run
    to run.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy takes no more bits
    if keras.config.backend() == "torch":
        import torch

        torch.manual_seed(seed % 2**63)  # nor PyTorch
