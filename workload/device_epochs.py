"""Models that take images as uint8 and cast them on the device; one of them trains a whole epoch in one call.

For the pipeline `device` the images lie on the device. `fit` gets one element per entry, the order of the images,
4 bytes each; `train_step` loops there over the full batches, gathering, casting and calling Keras's own step (forward
pass, loss, metrics, optimizer) on each, and takes the partial last batch after the loop. Keras sees one step per entry.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from epochcast.workload.orders import entry_orders

LOG = logging.getLogger(__name__)


def _cast(images: Any, labels: Any) -> tuple[Any, Any]:
    """uint8 tensors of the backend as the network and its loss take them; the values are those of `as_float`."""
    return keras.ops.cast(images, "float32") / 255.0, keras.ops.cast(labels, "int32")


class CastingModel(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Trains on batches of uint8 images, cast on the device; TensorFlow."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(_cast(*data))


class TensorFlowEpochs(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Trains a whole entry per call under TensorFlow, on the images that it holds."""

    images: Any  # tensors on the device, uint8
    labels: Any

    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        step = super().train_step
        full, rest = data["full"], data["rest"]

        def train_on(order: Any) -> None:
            step(_cast(tf.gather(self.images, order), tf.gather(self.labels, order)))

        def body(number: Any) -> list[Any]:
            train_on(full[number])
            return [number + 1]

        if full.shape[0]:
            tf.while_loop(lambda number: number < full.shape[0], body, [tf.constant(0)])
        if rest.shape[0]:
            train_on(rest)
        return self.get_metrics_result()


class JaxEpochs(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Trains a whole entry per call under JAX; the images come as data, for as a constant they are slow to compile."""

    def train_step(self, state: Any, data: Any) -> Any:
        import jax

        step = super().train_step
        (given,) = data
        full, rest = given["full"], given["rest"]
        logs: Any = {}

        def gather(name: str, order: Any) -> Any:
            return given[name].at[order].get(mode="promise_in_bounds")  # no masks: every index is of an image

        def train_on(state: Any, order: Any) -> Any:
            return step(state, _cast(gather("images", order), gather("labels", order)))

        def body(state: Any, order: Any) -> Any:
            logs, state = train_on(state, order)
            return state, logs

        if full.shape[0]:
            state, all_logs = jax.lax.scan(body, state, full)
            logs = {name: values[-1] for name, values in all_logs.items()}
        if rest.shape[0]:
            logs, state = train_on(state, rest)
        return logs, state


class TorchEpochs(keras.Model):  # type: ignore[misc]  # keras ships no types
    """Trains a whole entry per call under PyTorch, on the images that it holds; Python launches each operation."""

    images: Any  # tensors on the device, uint8
    labels: Any

    def train_step(self, data: Any) -> Any:
        (given,) = data
        logs: Any = {}
        for order in (*given["full"], given["rest"]):
            if len(order):
                logs = super().train_step(_cast(self.images[order], self.labels[order]))
        return logs


DEVICE_EPOCHS = {"tensorflow": TensorFlowEpochs, "jax": JaxEpochs, "torch": TorchEpochs}


def device_input(
    model: keras.Model,
    x_train: npt.NDArray[np.uint8],
    y_train: npt.NDArray[np.uint8],
    *,
    batch_size: int,
    window_steps: int | None,
    seed: int,
    is_looped: bool | None = None,
) -> dict[str, Any]:
    """Put the images on the device and return what `model.fit` takes; `model` is a compiled one of DEVICE_EPOCHS.

    `is_looped` is for JAX: whether an entry is one call. By default it is where a GPU compiles it. On a processor XLA
    is many times slower at convolutions inside a loop (benchmarks/bench_pipelines.py), so there each step is a call of
    its own, on the same images, given the indices of its batch. TensorFlow always loops; it needs no XLA for that.
    PyTorch loops in Python, but where `torch.compile` takes the step: it would unroll the loop.
    """
    _build_state(model, x_train[:2], y_train[:2])
    orders = entry_orders(len(x_train), batch_size, window_steps, seed)
    entries = (_split(order, batch_size) for order in orders)
    if isinstance(model, JaxEpochs):
        return _jax_input(model, x_train, y_train, entries, is_looped)
    if isinstance(model, TorchEpochs):
        return _torch_input(model, x_train, y_train, entries)
    return _tensorflow_input(model, x_train, y_train, entries)


Entry = dict[str, npt.NDArray[np.int32]]  # full: (steps, batch_size) indices, rest: (images of the partial batch,)


def _split(order: npt.NDArray[np.int32], batch_size: int) -> Entry:
    n_rest = len(order) % batch_size
    n_full = len(order) - n_rest
    return {"full": order[:n_full].reshape(-1, batch_size), "rest": order[n_full:]}


def _build_state(model: keras.Model, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    """Make the variables of optimizer and metrics now: within a loop it is too late, and `fit` sees no batch."""
    pixels, classes = _cast(images, labels)
    probabilities = model(pixels)
    model.compute_loss(pixels, classes, probabilities)
    model.compute_metrics(pixels, classes, probabilities)
    model.reset_metrics()
    model.optimizer.build(model.trainable_variables)


def _tensorflow_input(
    model: TensorFlowEpochs, x_train: npt.NDArray[np.uint8], y_train: npt.NDArray[np.uint8], entries: Iterator[Entry]
) -> dict[str, Any]:
    import tensorflow as tf

    if model.jit_compile and not tf.config.list_physical_devices("GPU"):
        LOG.warning("XLA is very slow at convolutions inside a loop on a processor; leave --jit_compile at auto.")
    model.images, model.labels = tf.constant(x_train), tf.constant(y_train)
    first = next(entries)
    signature = {name: tf.TensorSpec(order.shape, tf.int32) for name, order in first.items()}
    elements = tf.data.Dataset.from_generator(lambda: itertools.chain([first], entries), output_signature=signature)
    return {"x": elements.prefetch(1), "steps_per_epoch": 1}  # the next order is drawn while this entry trains


def _jax_input(
    model: JaxEpochs,
    x_train: npt.NDArray[np.uint8],
    y_train: npt.NDArray[np.uint8],
    entries: Iterator[Entry],
    is_looped: bool | None,
) -> dict[str, Any]:
    import jax

    if is_looped is None:
        is_looped = model.jit_compile and jax.default_backend() != "cpu"
    held = {"images": jax.device_put(x_train), "labels": jax.device_put(y_train)}
    steps_per_epoch = 1
    if not is_looped:
        entries, steps_per_epoch = _step_by_step(entries)
    return {"x": (({**held, **entry},) for entry in entries), "steps_per_epoch": steps_per_epoch}


def _torch_input(
    model: TorchEpochs, x_train: npt.NDArray[np.uint8], y_train: npt.NDArray[np.uint8], entries: Iterator[Entry]
) -> dict[str, Any]:
    model.images, model.labels = keras.ops.convert_to_tensor(x_train), keras.ops.convert_to_tensor(y_train)
    steps_per_epoch = 1
    if model.jit_compile:
        entries, steps_per_epoch = _step_by_step(entries)
    return {"x": ((entry,) for entry in entries), "steps_per_epoch": steps_per_epoch}


def _step_by_step(entries: Iterator[Entry]) -> tuple[Iterator[Entry], int]:
    """The steps of the entries, each as an entry of its own, and how many an entry has."""
    first = next(entries)
    steps: Iterator[Entry] = (
        {"full": entry["full"][:0], "rest": order}
        for entry in itertools.chain([first], entries)
        for order in (*entry["full"], entry["rest"])
        if len(order)
    )
    return steps, len(first["full"]) + (len(first["rest"]) > 0)
