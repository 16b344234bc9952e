"""The Keras network that learns what physics leaves over of log time: small members, trained as one stacked model.

Members of an ensemble, and the folds of a cross-validation, differ only in their rows and their first weights, so they
are one `EinsumDense` network with a leading member axis: hundreds of them train in the time of a few. Each takes
full-batch steps; there is no validation part to stop on, the learning rate falls to zero by a cosine. Smooth
activation, robust loss: docs/decisions/0004 gives the evidence.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epochcast.machine.framework import keras_on_cpu
from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.network_file import with_plain_weights
from epochcast.model.time_model.physics import Array
from epochcast.model.time_model.saved_files import NETWORK_NAME
from epochcast.output.progress import Say

MEMBERS = 10
HIDDEN = (32, 32)
STEPS = 1500
STEPS_PER_EXECUTION = 100  # that many steps per Python call: the network is too small to wait for Python
WARMUP_STEPS = 50
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-4
HUBER_DELTA = 0.02  # in standard deviations of log time: about 1.7 % of the time on the reference table


def first_kernels(units: Sequence[int], members: int, seed: int) -> list[Array]:
    """First kernels, each of shape (members, inputs, outputs): uniform by a member's own fan (Glorot 2010)."""
    random = np.random.default_rng(seed)
    limits = [(i, o, math.sqrt(6 / (i + o))) for i, o in itertools.pairwise(units)]
    return [random.uniform(-limit, limit, (members, i, o)) for i, o, limit in limits]


def stacked_layers(units: Sequence[int], members: int, activation: str) -> list[Any]:
    """Dense layers of `units[0]` inputs to `units[-1]` outputs for each member, stacked along a leading axis."""
    keras = keras_on_cpu()
    return [
        keras.layers.EinsumDense(
            "nmi,mio->nmo",
            output_shape=(members, outputs),
            bias_axes="mo",
            activation=activation if i < len(units) - 2 else None,
            kernel_initializer="zeros",  # set afterwards, from a seed
        )
        for i, outputs in enumerate(units[1:])
    ]


def set_kernels(layers: Sequence[Any], kernels: Sequence[Array]) -> None:
    """Give stacked layers these kernels, and biases of 0."""
    for layer, kernel in zip(layers, kernels, strict=True):
        layer.set_weights([kernel.astype(np.float32), np.zeros((kernel.shape[0], kernel.shape[2]), np.float32)])


def fit_ensembles(x: Array, y: Array, weights: Array, seeds: Sequence[int], say: Say | None = None) -> list[Ensemble]:
    """Return one ensemble of MEMBERS networks for each set of row weights, all trained at once.

    Args:
        x: shape (ensembles, n, features), inputs, standardised.
        y: shape (ensembles, n), targets in standard deviations of log time. Where a weight is 0, any finite number.
        weights: shape (ensembles, n), 0 for a row that the ensemble must not see.
        seeds: of the first weights, one for each ensemble; training has no other chance in it, so that an ensemble does
            not depend on which others are trained with it, but for rounding.
    """
    keras = keras_on_cpu()
    n_ensembles, n, n_features = x.shape
    members = n_ensembles * MEMBERS
    weights = weights * n / weights.sum(axis=1, keepdims=True)
    stacked = [np.repeat(a, MEMBERS, axis=0).swapaxes(0, 1).astype(np.float32) for a in (x, y, weights)]

    inputs = keras.Input((members, n_features))
    outputs = inputs
    units = (n_features, *HIDDEN, 1)
    for layer in (layers := stacked_layers(units, members, "silu")):
        outputs = layer(outputs)
    model = keras.Model(inputs, keras.layers.Reshape((members,))(outputs))
    starts = [first_kernels(units, MEMBERS, seed) for seed in seeds]
    kernels = [np.concatenate(own) for own in zip(*starts, strict=True)]
    set_kernels(layers, [*kernels[:-1], np.zeros_like(kernels[-1])])  # the residual begins at 0

    def pseudo_huber(y_true: Any, y_pred: Any) -> Any:
        # the sum over members: its gradient for one member does not depend on how many there are
        error = HUBER_DELTA**2 * (keras.ops.sqrt(1 + keras.ops.square((y_true - y_pred) / HUBER_DELTA)) - 1)
        return error * members

    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, STEPS - WARMUP_STEPS, warmup_target=LEARNING_RATE, warmup_steps=WARMUP_STEPS
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        loss=pseudo_huber,
        steps_per_execution=1 if keras.backend.backend() == "torch" else STEPS_PER_EXECUTION,  # torch takes no more
        jit_compile=False,  # XLA takes longer to compile this than to train it
    )
    epochs = STEPS // STEPS_PER_EXECUTION
    x_rows, y_rows, w_rows = (np.tile(a, (STEPS_PER_EXECUTION, *(1,) * (a.ndim - 1))) for a in stacked)
    progress = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: say and say((epoch + 1) / epochs))
    model.fit(
        x_rows,
        y_rows,
        sample_weight=w_rows,
        batch_size=n,
        shuffle=False,
        epochs=epochs,
        verbose=0,
        callbacks=[progress],
    )
    return split_members(layers, n_ensembles, "silu")


def split_members(layers: Sequence[Any], n_ensembles: int, activation: str) -> list[Ensemble]:
    """Return the trained layers of a stack, one ensemble for each set of members."""
    trained = [[np.asarray(w, np.float64) for w in layer.get_weights()] for layer in layers]
    size = len(trained[0][0]) // n_ensembles
    return [
        Ensemble(
            tuple(kernel[i * size : (i + 1) * size] for kernel, _ in trained),
            tuple(bias[i * size : (i + 1) * size] for _, bias in trained),
            activation,
        )
        for i in range(n_ensembles)
    ]


def keras_model(ensemble: Ensemble) -> Any:
    """Return an ensemble as a Keras model of built-in layers, without an optimizer.

    Its inputs are standardised, shape (n, features).
    """
    keras = keras_on_cpu()
    members, n_features, _ = ensemble.kernels[0].shape
    inputs = keras.Input((n_features,))
    outputs = keras.layers.RepeatVector(members)(inputs)
    units = [kernel.shape[1] for kernel in ensemble.kernels] + [1]
    for layer in (layers := stacked_layers(units, members, ensemble.activation)):
        outputs = layer(outputs)
    model = keras.Model(inputs, keras.layers.Reshape((members,))(outputs), name=NETWORK_NAME)
    for layer, kernel, bias in zip(layers, ensemble.kernels, ensemble.biases, strict=True):
        layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return model


def keras_bytes(ensemble: Ensemble) -> bytes:
    """Return an ensemble as the content of a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        keras_model(ensemble).save(file)
        return with_plain_weights(file.read_bytes(), ensemble)
