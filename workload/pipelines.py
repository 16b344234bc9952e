"""How images reach the network: one function per pipeline, chosen by name, each giving what `model.fit` takes.

What a timed epoch holds depends on the pipeline, so the pipeline is a condition of every measured time. Casting the
images to float32, and building the pipeline, are over before the first epoch begins, in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class FitInput:
    """What one call of `model.fit` takes of its data, and how many optimizer steps each of its epochs then is."""

    fit_kwargs: dict[str, Any]  # Keras's own arguments, of several types: x, y, batch_size, epochs, shuffle, ...
    steps_per_entry: int  # of an entry of `epoch_times_json`: a full epoch, or a window


def as_float(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The images as the network takes them: float32 in [0, 1]."""
    return np.divide(images, np.float32(255), dtype=np.float32)


def _tfdata(
    x_train: npt.NDArray[np.uint8],
    y_train: npt.NDArray[np.uint8],
    *,
    batch_size: int,
    window_steps: int | None,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """The reference pipeline, tf.data: `from_tensor_slices.cache.shuffle(all).batch.prefetch`, on the host.

    Inside a timed epoch: filling the shuffle buffer before the first batch, shuffling, batching, copying each batch to
    the device. Filling the cache falls into the first epoch. A window is a stretch of one endless shuffled stream, over
    no more images than the windows use: for each image drawn one is put into the buffer, the same work per step as an
    epoch's, spread evenly.
    """
    import tensorflow as tf

    n = len(x_train) if window_steps is None else min(len(x_train), window_steps * batch_size * epochs)
    images = tf.data.Dataset.from_tensor_slices((as_float(x_train[:n]), y_train[:n].astype(np.int32))).cache()
    if window_steps is not None:
        images = images.repeat()
    images = images.shuffle(n, seed=seed, reshuffle_each_iteration=True)
    return {
        "x": images.batch(batch_size).prefetch(tf.data.AUTOTUNE),
        "steps_per_epoch": window_steps,
        "shuffle": False,  # the dataset does it; Keras warns if it is asked as well
    }


def _arrays(
    x_train: npt.NDArray[np.uint8],
    y_train: npt.NDArray[np.uint8],
    *,
    batch_size: int,
    window_steps: int | None,
    epochs: int,
    seed: int,
) -> dict[str, Any]:
    """Keras's own `fit` on NumPy arrays, which needs no TensorFlow; Keras shuffles, so `seed` has no say here.

    Inside a timed epoch: drawing one permutation, gathering each batch, copying it to the device.
    Keras ends `fit` when arrays run out of data before `steps_per_epoch`, so a window is an epoch over exactly
    `window_steps * batch_size` images: the first of the set, starting over where the set is smaller.
    """
    if window_steps is not None:
        n = window_steps * batch_size
        chosen = slice(n) if n <= len(x_train) else np.arange(n) % len(x_train)
        x_train, y_train = x_train[chosen], y_train[chosen]
    return {"x": as_float(x_train), "y": y_train.astype(np.int32), "batch_size": batch_size, "shuffle": True}


Pipeline = Callable[..., dict[str, Any]]  # called as the two above are
PIPELINES: dict[str, Pipeline] = {"tfdata": _tfdata, "arrays": _arrays}


def resolve_pipeline(name: str, backend: str) -> str:
    """The pipeline that `name` means under Keras's `backend`: `auto` is tfdata under tensorflow, else arrays.

    Raises:
        ValueError: if there is no such pipeline, or it does not work under `backend`.
    """
    if name == "auto":
        return "tfdata" if backend == "tensorflow" else "arrays"
    if name not in PIPELINES:
        raise ValueError(f"pipeline must be one of auto, {', '.join(PIPELINES)}, got {name!r}.")
    if name == "tfdata" and backend != "tensorflow":
        raise ValueError(f"pipeline tfdata needs Keras's tensorflow backend, found {backend}: use --pipeline arrays.")
    return name


def prepare(
    name: str,
    x_train: npt.NDArray[np.uint8],
    y_train: npt.NDArray[np.uint8],
    *,
    batch_size: int,
    window_steps: int | None,
    epochs: int,
    seed: int,
) -> FitInput:
    """Everything that `model.fit(**fit_input.fit_kwargs)` needs to train on uint8 images for `epochs` entries.

    An entry is a full epoch, its last batch as small as it comes out, or with `window_steps` exactly that many steps of
    full batches. `name` is `auto` or one of PIPELINES.

    Raises:
        ValueError: if there is no such pipeline, or it does not work under Keras's present backend.
    """
    import keras

    build = PIPELINES[resolve_pipeline(name, keras.config.backend())]
    data = build(x_train, y_train, batch_size=batch_size, window_steps=window_steps, epochs=epochs, seed=seed)
    return FitInput({**data, "epochs": epochs}, window_steps or math.ceil(len(x_train) / batch_size))
