"""The network that this project started from, by its own recipe, kept for comparison (`--recipe reference_ann`).

Five features, two layers of 64 ReLU, squared error on log time, Adam 1e-3, batches of 32, at most 500 epochs, and a
validation part on which training stops after 15 epochs without a gain, keeping the best weights. Members are stacked
like those of `time_ann`, one for each mask; each has its own validation part, and its own order of rows, drawn
anew every epoch from its own generator: Keras's global seed would repeat one order, which lowers the error by a third.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from epochcast.machine.framework import keras_on_cpu
from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.features import REFERENCE_FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.time_model import Inputs, Table, TimeModel
from epochcast.model.training.time_ann import first_kernels, set_kernels, split_members, stacked_layers
from epochcast.output.progress import Say

HIDDEN = (64, 64)
LEARNING_RATE = 1e-3
BATCH_SIZE = 32
MAX_EPOCHS = 500
PATIENCE = 15
# 15 of the 114 rows of a training fold, as in the published honest evaluation; about the recipe's own 100 are left to
# learn from. The error depends on it, as it decides how few rows the last batch has
VALIDATION_SHARE = 15 / 114


def fit_reference(table: Table, masks: npt.NDArray[np.bool_], seed: int, say: Say | None = None) -> list[TimeModel]:
    """One network for each mask, shape (models, n), trained side by side."""
    keras = keras_on_cpu()
    features = feature_matrix(table.configs, REFERENCE_FEATURE_NAMES, table.train_n)
    log_time = np.log(table.seconds)
    generators = np.random.default_rng(seed).spawn(len(masks))
    train, validation, inputs = [], [], []
    for mask, random in zip(masks, generators, strict=True):
        order = random.permutation(np.flatnonzero(mask))
        n_validation = max(1, round(VALIDATION_SHARE * len(order)))
        validation.append(order[:n_validation])
        train.append(order[n_validation:])
        inputs.append(Inputs.of(features[train[-1]], REFERENCE_FEATURE_NAMES, is_clamped=False))
    x = np.stack([i.standardised(features) for i in inputs], axis=1).astype(np.float32)  # (n, members, features)
    members = len(masks)
    units = (len(REFERENCE_FEATURE_NAMES), *HIDDEN, 1)
    layers = stacked_layers(units, members, "relu")
    entry = keras.Input(x.shape[1:])
    outputs = entry
    for layer in layers:
        outputs = layer(outputs)
    model = keras.Model(entry, keras.layers.Reshape((members,))(outputs))
    set_kernels(layers, first_kernels(units, members, seed))

    def summed(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.square(y_true - y_pred) * (BATCH_SIZE * members)  # weights then make it each member's mean

    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=summed, jit_compile=False)
    best, best_epoch = np.full(members, np.inf), np.zeros(members, int)
    kept = [[np.array(w) for w in layer.get_weights()] for layer in layers]
    n_batches = -(-max(map(len, train)) // BATCH_SIZE)
    for epoch in range(MAX_EPOCHS):
        orders = [random.permutation(rows) for random, rows in zip(generators, train, strict=True)]
        for start in range(0, n_batches * BATCH_SIZE, BATCH_SIZE):
            model.train_on_batch(*_batch(x, log_time, [order[start : start + BATCH_SIZE] for order in orders]))
        predicted = model.predict_on_batch(x)
        loss = np.array([np.mean((predicted[v, m] - log_time[v]) ** 2) for m, v in enumerate(validation)])
        running = epoch - best_epoch <= PATIENCE  # a member that has stopped keeps what it had
        better = running & (loss < best)
        best[better], best_epoch[better] = loss[better], epoch
        for layer, own in zip(layers, kept, strict=True):
            for weights, now in zip(own, layer.get_weights(), strict=True):
                weights[better] = now[better]
        if say:
            say((epoch + 1) / MAX_EPOCHS)
        if not running.any():
            if say:
                say(1.0)
            break
    for layer, own in zip(layers, kept, strict=True):
        layer.set_weights(own)
    ensembles: list[Ensemble] = split_members(layers, members, "relu")
    return [TimeModel(None, n, i, 1.0, table.train_n) for n, i in zip(ensembles, inputs, strict=True)]


def _batch(x: Any, y: Any, rows: list[Any]) -> tuple[Any, Any, Any]:
    """One batch with its own rows for each member; what is missing of a batch weighs nothing.

    A member with fewer batches than the longest takes its last steps on no row: Adam's momentum alone moves it then.
    """
    members = len(rows)
    index = np.zeros((BATCH_SIZE, members), int)
    weight = np.zeros((BATCH_SIZE, members), np.float32)
    for member, own in enumerate(rows):
        index[: len(own), member] = own
        weight[: len(own), member] = 1 / max(1, len(own))
    return x[index, np.arange(members)], y[index].astype(np.float32), weight
