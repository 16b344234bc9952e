"""What `device` must share with Keras's own `fit` on the same images in the same orders; for any backend."""

from __future__ import annotations

from itertools import islice

import keras
import numpy as np

from epochcast.schema import RunConfig
from epochcast.workload.cnn import build_model, compile_model, seed_everything
from epochcast.workload.device_epochs import device_input
from epochcast.workload.orders import entry_orders
from epochcast.workload.pipelines import as_float, model_for, prepare

SEED = 5
_random = np.random.default_rng(0)
X = _random.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
Y = _random.integers(0, 10, 300, dtype=np.uint8)


def tiny():
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(inputs))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", dtype="float32")(pooled))


def cnn():
    return build_model(RunConfig(1, 4))


def by_device(build, n, batch_size, *, window_steps=None, epochs=3, jit_compile="auto", is_looped=None, callbacks=()):
    """Train `build()` by the pipeline; return the model and its losses and accuracies by epoch."""
    seed_everything(SEED)
    model = model_for("device", build())
    compile_model(model, jit_compile=jit_compile)
    batches = {"batch_size": batch_size, "window_steps": window_steps, "seed": SEED}
    if is_looped is None:
        given = prepare("device", X[:n], Y[:n], model=model, epochs=epochs, **batches).fit_kwargs
    else:
        looped = device_input(model, X[:n], Y[:n], is_looped=is_looped, **batches)
        given = {**looped, "epochs": epochs, "shuffle": False}
    return model, model.fit(**given, verbose=0, callbacks=list(callbacks)).history


def by_arrays(build, n, batch_size, *, window_steps=None, epochs=3, jit_compile="auto"):
    """Train `build()` by Keras's `fit` on floats put into the orders that `device` draws."""
    seed_everything(SEED)
    model = build()
    compile_model(model, jit_compile=jit_compile)
    history = {"loss": [], "accuracy": []}
    for order in islice(entry_orders(n, batch_size, window_steps, SEED), epochs):
        x, y = as_float(X[order]), Y[order].astype(np.int32)
        epoch = model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0).history
        for name, values in history.items():
            values += epoch[name]
    return model, history


def assert_same_training(build, n, batch_size, *, is_looped=None, loss_rtol=1e-5, n_differ=0, **how):
    """Steps, losses and accuracies agree, and of the tiny network the weights; return both models, `device`'s first.

    `n_differ` is how many images of an epoch may be told otherwise: a rounding can decide between two classes.
    """
    model, history = by_device(build, n, batch_size, is_looped=is_looped, **how)
    reference, expected = by_arrays(build, n, batch_size, **how)
    steps = how.get("epochs", 3) * (how.get("window_steps") or -(-n // batch_size))
    assert int(model.optimizer.iterations) == int(reference.optimizer.iterations) == steps
    assert history.keys() == expected.keys()
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=loss_rtol)
    n_seen = how["window_steps"] * batch_size if how.get("window_steps") else n
    np.testing.assert_allclose(history["accuracy"], expected["accuracy"], rtol=0, atol=n_differ / n_seen + 1e-6)
    if build is tiny:
        for ours, theirs in zip(model.weights, reference.weights, strict=True):
            # sums in another order
            numbers = [keras.ops.convert_to_numpy(weight.value) for weight in (ours, theirs)]
            np.testing.assert_allclose(*numbers, rtol=0, atol=1e-6)
    return model, reference
