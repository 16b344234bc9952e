"""The Keras network that learns log seconds per epoch: small members, trained side by side as one stacked model.

Members of an ensemble, and the folds of a cross-validation, differ only in their rows and their first weights, so they
are one `EinsumDense` network with a leading member axis: 130 of them train in the time of a few. Each takes full-batch
steps; there is no validation part to stop on, the learning rate falls to zero by a cosine. Robust loss, smooth
activation: docs/decisions/0004 gives the evidence.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epochcast.files import write_bytes_atomically
from model.predictor import Array, Network, TimeModel

MEMBERS = 5
HIDDEN = (64, 64)
STEPS = 1500
STEPS_PER_EXECUTION = 100  # that many steps per Python call: the network is too small to wait for Python
WARMUP_STEPS = 50
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-4
HUBER_DELTA = 0.02  # in standard deviations of log time: about 1.7 % of the time on the reference table
MIN_CONFIGURATIONS = 5


def _keras() -> Any:
    """Keras on the processor: a network this small is not worth a GPU's memory, nor TensorFlow's start-up messages."""
    if "keras" in sys.modules:
        return sys.modules["keras"]
    wanted = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the C++ side writes before it reads its own log level
    try:
        import keras

        keras.ops.zeros(1)  # devices are chosen now, so that processes started later find the variables as they were
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return keras


def _layers(members: int, seed: int) -> list[Any]:
    """The stacked dense layers; the fan of each member alone sets the range of its first weights (Glorot 2010)."""
    keras = _keras()
    layers = []
    for i, (inputs, units) in enumerate(zip((3, *HIDDEN), (*HIDDEN, 1), strict=True)):
        limit = math.sqrt(6 / (inputs + units))
        layers.append(
            keras.layers.EinsumDense(
                "nmi,mio->nmo",
                output_shape=(members, units),
                bias_axes="mo",
                activation="silu" if i < len(HIDDEN) else None,
                kernel_initializer=keras.initializers.RandomUniform(-limit, limit, seed=seed + i),
            )
        )
    return layers


def fit_ensembles(features: Array, log_time: Array, masks: npt.NDArray[np.bool_], seed: int) -> list[TimeModel]:
    """One ensemble of MEMBERS networks for each row mask, all trained at once.

    Args:
        features: shape (n, 3), unscaled, `model.features.FEATURE_NAMES`.
        log_time: shape (n,), natural log of seconds per epoch.
        masks: shape (ensembles, n); an ensemble is fitted, and its inputs and output are scaled, on its own rows alone.
        seed: of the first weights; training has no other chance in it.

    Raises:
        ValueError: if a mask leaves fewer than two rows.
    """
    keras = _keras()
    if int(masks.sum(axis=1).min()) < 2:
        raise ValueError("every ensemble needs at least two rows to fit.")
    n, members = len(log_time), len(masks) * MEMBERS
    laws = [_Law.fit(features[mask], log_time[mask]) for mask in masks]
    x = np.stack([law.standardised(features) for law in laws for _ in range(MEMBERS)], axis=1).astype(np.float32)
    y = np.stack([law.residual(features, log_time) for law in laws for _ in range(MEMBERS)], axis=1).astype(np.float32)
    weights = np.repeat(masks, MEMBERS, axis=0).T.astype(np.float32)
    weights *= n / weights.sum(axis=0)

    inputs = keras.Input((members, features.shape[1]))
    outputs = inputs
    for layer in (layers := _layers(members, seed)):
        outputs = layer(outputs)
    model = keras.Model(inputs, keras.layers.Reshape((members,))(outputs))

    def pseudo_huber(y_true: Any, y_pred: Any) -> Any:
        return HUBER_DELTA**2 * (keras.ops.sqrt(1 + keras.ops.square((y_true - y_pred) / HUBER_DELTA)) - 1)

    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, STEPS - WARMUP_STEPS, warmup_target=LEARNING_RATE, warmup_steps=WARMUP_STEPS
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        loss=pseudo_huber,
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=False,  # XLA takes longer to compile this than to train it
    )
    repeats = STEPS_PER_EXECUTION
    model.fit(
        np.tile(x, (repeats, 1, 1)),
        np.tile(y, (repeats, 1)),
        sample_weight=np.tile(weights, (repeats, 1)),
        batch_size=n,
        shuffle=False,
        epochs=STEPS // repeats,
        verbose=0,
    )
    trained = [[np.asarray(w, np.float64) for w in layer.get_weights()] for layer in layers]
    models = []
    for i, law in enumerate(laws):
        own = slice(i * MEMBERS, (i + 1) * MEMBERS)
        network = Network(tuple(kernel[own] for kernel, _ in trained), tuple(bias[own] for _, bias in trained))
        models.append(TimeModel(network, law.feature_mean, law.feature_scale, law.coefficients, law.residual_scale))
    return models


@dataclass(frozen=True, slots=True, eq=False)
class _Law:
    """Log time as a linear function of standardised features, by least squares on the rows given to `fit`."""

    feature_mean: Array
    feature_scale: Array
    coefficients: Array
    residual_scale: float

    @classmethod
    def fit(cls, features: Array, log_time: Array) -> _Law:
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)  # what does not vary has no effect
        rows = np.hstack([np.ones((len(features), 1)), (features - mean) / scale])
        coefficients = np.linalg.lstsq(rows, log_time, rcond=None)[0]
        return cls(mean, scale, coefficients, float((log_time - rows @ coefficients).std()) or 1.0)

    def standardised(self, features: Array) -> Array:
        return (features - self.feature_mean) / self.feature_scale

    def residual(self, features: Array, log_time: Array) -> Array:
        law = self.coefficients[0] + self.standardised(features) @ self.coefficients[1:]
        return np.asarray((log_time - law) / self.residual_scale)


def keras_model(time_model: TimeModel) -> Any:
    """The network as a Keras model of built-in layers, without an optimizer: (n, 3) standardised features in."""
    keras = _keras()
    network = time_model.network
    members, n_features, _ = network.kernels[0].shape
    inputs = keras.Input((n_features,))
    outputs = keras.layers.RepeatVector(members)(inputs)
    for layer in (layers := _layers(members, 0)):
        outputs = layer(outputs)
    model = keras.Model(inputs, keras.layers.Reshape((members,))(outputs), name="log_time")
    for layer, kernel, bias in zip(layers, network.kernels, network.biases, strict=True):
        layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return model


def save_keras(time_model: TimeModel, path: Path) -> None:
    """Write the network as a `.keras` file, whole or not at all.

    Raises:
        OSError: if `path` can't be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        keras_model(time_model).save(file)
        write_bytes_atomically(path, file.read_bytes())
