"""How images reach the network: one function per pipeline, chosen by name, each giving what `model.fit` takes.

What a timed epoch holds depends on the pipeline, so the pipeline is a condition of every measured time. Building the
pipeline is over before the first epoch begins, in all of them; so is casting the images to float32 in `tfdata` and
`arrays`, while `indices` and `device` cast each batch on the device, in each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from epochcast.workload.orders import entry_orders

if TYPE_CHECKING:
    import keras

AUTO_STEPS_PER_EXECUTION = 32  # TensorFlow's `auto`: benchmarks/bench_pipelines.py shows what it brings


@dataclass(frozen=True, slots=True, eq=False)
class FitInput:
    """What one call of `model.fit` takes of its data, and how many optimizer steps each of its epochs then is."""

    fit_kwargs: dict[str, Any]  # Keras's own arguments, of several types: x, y, batch_size, epochs, shuffle, ...
    steps_per_entry: int  # of an entry of `epoch_times_json`: a full epoch, or a window


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """What a pipeline is made of: images as uint8, the compiled model, and how they are to reach it."""

    x_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.uint8]
    model: keras.Model
    batch_size: int
    window_steps: int | None
    epochs: int
    seed: int


def as_float(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The images as the network takes them: float32 in [0, 1]."""
    return np.divide(images, np.float32(255), dtype=np.float32)


def _entries_of(stream: Any, steps: int, steps_per_execution: int) -> dict[str, Any]:
    """What `fit` takes so that each of its epochs is the next `steps` batches of an endless tf.data stream."""
    if steps % steps_per_execution == 0:
        return {"x": stream, "steps_per_epoch": steps}
    import tensorflow as tf

    # Keras would run on to the next multiple of steps_per_execution, unless the data end
    batches = iter(stream)
    return {"x": tf.data.Dataset.range(steps).map(lambda _: next(batches))}


def _tfdata(feed: Feed) -> dict[str, Any]:
    """The reference pipeline, tf.data: `from_tensor_slices.cache.shuffle(all).batch.prefetch`, on the host.

    Inside a timed epoch: filling the shuffle buffer before the first batch, shuffling, batching, copying each batch to
    the device. Filling the cache falls into the first epoch. A window is a stretch of one endless shuffled stream, over
    no more images than the windows use: for each image drawn one is put into the buffer, the same work per step as an
    epoch's, spread evenly.
    """
    import tensorflow as tf

    n = len(feed.x_train)
    if feed.window_steps is not None:
        n = min(n, feed.window_steps * feed.batch_size * feed.epochs)
    images = tf.data.Dataset.from_tensor_slices((as_float(feed.x_train[:n]), feed.y_train[:n].astype(np.int32))).cache()
    if feed.window_steps is not None:
        images = images.repeat()
    images = images.shuffle(n, seed=feed.seed, reshuffle_each_iteration=True)
    batches = images.batch(feed.batch_size).prefetch(tf.data.AUTOTUNE)
    if feed.window_steps is not None:
        return _entries_of(batches, feed.window_steps, feed.model.steps_per_execution)
    return {"x": batches}


def _arrays(feed: Feed) -> dict[str, Any]:
    """Keras's own `fit` on NumPy arrays, which needs no TensorFlow; Keras shuffles, so `seed` has no say here.

    Inside a timed epoch: drawing one permutation, gathering each batch, copying it to the device.
    Keras ends `fit` when arrays run out of data before `steps_per_epoch`, so a window is an epoch over exactly
    `window_steps * batch_size` images: the first of the set, starting over where the set is smaller.
    """
    x_train, y_train = feed.x_train, feed.y_train
    if feed.window_steps is not None:
        n = feed.window_steps * feed.batch_size
        chosen = slice(n) if n <= len(x_train) else np.arange(n) % len(x_train)
        x_train, y_train = x_train[chosen], y_train[chosen]
    return {"x": as_float(x_train), "y": y_train.astype(np.int32), "batch_size": feed.batch_size, "shuffle": True}


def _indices(feed: Feed) -> dict[str, Any]:
    """tf.data over a permutation of indices: each batch is gathered as uint8 on the host and cast on the device.

    Inside a timed epoch: drawing one permutation, gathering each batch, copying it to the device (a quarter of the
    bytes of float32), casting it there. Epochs and windows are stretches of one endless stream.
    """
    import tensorflow as tf

    def batches_of(order: Any) -> Any:
        starts = tf.data.Dataset.range(0, n, feed.batch_size)
        return starts.map(lambda start: order[start : start + feed.batch_size])

    n = len(feed.x_train) if feed.window_steps is None else feed.window_steps * feed.batch_size
    orders = tf.data.Dataset.from_generator(
        lambda: entry_orders(len(feed.x_train), feed.batch_size, feed.window_steps, feed.seed),
        output_signature=tf.TensorSpec((n,), tf.int32),
    )
    with tf.device("CPU:0"):
        images, labels = tf.constant(feed.x_train), tf.constant(feed.y_train)
    batches = orders.flat_map(batches_of).map(
        lambda order: (tf.gather(images, order), tf.gather(labels, order)), num_parallel_calls=tf.data.AUTOTUNE
    )
    steps = math.ceil(n / feed.batch_size)
    return _entries_of(batches.prefetch(tf.data.AUTOTUNE), steps, feed.model.steps_per_execution)


def _device(feed: Feed) -> dict[str, Any]:
    """The images on the device: `workload.device_epochs`.

    Inside a timed epoch: copying an order of the images, 4 bytes each, to the device, and gathering and casting each
    batch there. Under JAX and PyTorch the order is drawn inside it too; under TensorFlow it is drawn while the epoch
    before trains. Under PyTorch, Python still launches each operation of each step.
    """
    from epochcast.workload.device_epochs import device_input

    return device_input(
        feed.model,
        feed.x_train,
        feed.y_train,
        batch_size=feed.batch_size,
        window_steps=feed.window_steps,
        seed=feed.seed,
    )


Pipeline = Callable[[Feed], dict[str, Any]]
PIPELINES: dict[str, Pipeline] = {"tfdata": _tfdata, "arrays": _arrays, "indices": _indices, "device": _device}
BACKENDS = {
    "tfdata": ("tensorflow",),
    "indices": ("tensorflow",),
    "device": ("tensorflow", "jax", "torch"),
}  # others: any


def resolve_pipeline(name: str, backend: str) -> str:
    """The pipeline that `name` means under Keras's `backend`: `auto` is tfdata under tensorflow, else arrays.

    Raises:
        ValueError: if there is no such pipeline, or it does not work under `backend`.
    """
    if name == "auto":
        return "tfdata" if backend == "tensorflow" else "arrays"
    if name not in PIPELINES:
        raise ValueError(f"pipeline must be one of auto, {', '.join(PIPELINES)}, got {name!r}.")
    wanted = BACKENDS.get(name, (backend,))
    if backend not in wanted:
        raise ValueError(
            f"pipeline {name} needs Keras's {' or '.join(wanted)} backend, found {backend}: use --pipeline arrays."
        )
    return name


def resolve_steps_per_execution(wanted: int | str, backend: str, pipeline: str) -> int:
    """Steps per call into the framework: `auto` is what pays off, the same for every configuration.

    Under JAX Keras loops over the steps in Python all the same, and `device` runs whole epochs anyway: 1 there.

    Raises:
        ValueError: if more than one step was asked for where that is impossible.
    """
    is_one = pipeline == "device" or backend == "torch"
    if wanted == "auto":
        return AUTO_STEPS_PER_EXECUTION if backend == "tensorflow" and not is_one else 1
    steps = int(wanted)
    if steps > 1 and is_one:
        what = "pipeline device runs whole epochs" if pipeline == "device" else "the torch backend runs single steps"
        raise ValueError(f"steps_per_execution must be 1 or auto, got {steps}: {what}. Leave the flag out.")
    return steps


def model_for(pipeline: str, model: keras.Model) -> keras.Model:
    """`model`, not compiled yet, as `pipeline` trains it: the same layers, where needed with a train step of its own.

    It evaluates and predicts like any other model, on batches of floats.
    """
    import keras

    model_class = _model_class(pipeline, keras.config.backend())
    return model if isinstance(model, model_class) else model_class(model.inputs, model.outputs, name=model.name)


def _model_class(pipeline: str, backend: str) -> type[keras.Model]:
    import keras

    from epochcast.workload.device_epochs import DEVICE_EPOCHS, CastingModel

    own = {"indices": CastingModel, "device": DEVICE_EPOCHS.get(backend)}
    return own.get(pipeline) or keras.Model


def prepare(
    name: str,
    x_train: npt.NDArray[np.uint8],
    y_train: npt.NDArray[np.uint8],
    *,
    model: keras.Model,
    batch_size: int,
    window_steps: int | None,
    epochs: int,
    seed: int,
) -> FitInput:
    """Everything that `model.fit(**fit_input.fit_kwargs)` needs to train on uint8 images for `epochs` entries.

    An entry is a full epoch, its last batch as small as it comes out, or with `window_steps` exactly that many steps of
    full batches. `name` is `auto` or one of PIPELINES; `model` is compiled, and where the pipeline needs a train step
    of its own, comes from `model_for`.

    Raises:
        ValueError: if there is no such pipeline, it does not work under Keras's present backend, or not with `model`.
    """
    import keras

    backend = keras.config.backend()
    pipeline = resolve_pipeline(name, backend)
    if not isinstance(model, _model_class(pipeline, backend)):
        raise ValueError(f"pipeline {pipeline} cannot train a {type(model).__name__}: make it with model_for.")
    steps_per_entry = window_steps or math.ceil(len(x_train) / batch_size)
    data = PIPELINES[pipeline](Feed(x_train, y_train, model, batch_size, window_steps, epochs, seed))
    # shuffling is the pipeline's, but for arrays; Keras warns if it is asked as well
    return FitInput({"shuffle": False, **data, "epochs": epochs}, steps_per_entry)
