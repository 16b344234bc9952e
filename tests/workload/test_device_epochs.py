"""The pipeline `device` trains as Keras's own `fit` does, without Python between steps; on JAX: test_on_jax.py."""

from __future__ import annotations

import importlib
import logging

import numpy as np
import pytest


@pytest.fixture(scope="module")
def equality():
    return importlib.import_module("tests.support.device_equality")  # starts TensorFlow, so not at the top


@pytest.fixture
def precision():
    import keras

    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("n", "jit_compile"),
    [(300, "off"), (256, "off"), pytest.param(300, "on", marks=pytest.mark.slow)],  # 256: no partial batch
)
def test_a_small_network_ends_with_the_weights_of_the_reference(equality, n, jit_compile):
    equality.assert_same_training(equality.tiny, n, 64, jit_compile=jit_compile)


def test_a_batch_larger_than_the_set_is_one_partial_batch(equality):
    equality.assert_same_training(equality.tiny, 300, 512)


@pytest.mark.parametrize("window_steps", [3, 7])  # less than the set of 4 full batches, and more
def test_windows_train_as_the_same_steps_of_the_reference(equality, window_steps):
    equality.assert_same_training(equality.tiny, 300, 64, window_steps=window_steps)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_mixed_precision_trains_as_the_reference(equality, precision, policy):
    import keras

    precision(policy)
    model, reference = equality.assert_same_training(equality.tiny, 300, 64)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    assert [v.dtype for v in model.optimizer.variables] == [v.dtype for v in reference.optimizer.variables]


def test_the_cnn_learns_as_the_reference_and_evaluates_on_ordinary_batches(equality):
    # Adam amplifies rounding
    model, reference = equality.assert_same_training(equality.cnn, 300, 64, loss_rtol=1e-3, n_differ=1)
    assert model.count_params() == reference.count_params()
    x, y = equality.as_float(equality.X), equality.Y
    ours, theirs = (m.evaluate(x, y, batch_size=70, verbose=0) for m in (model, reference))
    assert ours[0] == pytest.approx(theirs[0], rel=0.01)


def test_python_runs_once_per_epoch_and_never_between_steps(equality):
    import keras

    calls = {"loss": 0, "begin": 0, "end": 0}

    class Loss(keras.losses.SparseCategoricalCrossentropy):
        def call(self, y_true, y_pred):
            calls["loss"] += 1
            return super().call(y_true, y_pred)

    def count(name):
        calls[name] += 1

    counter = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda step, logs: count("begin"), on_train_batch_end=lambda step, logs: count("end")
    )
    model = equality.model_for("device", equality.tiny())
    model.compile(optimizer="adam", loss=Loss(), metrics=["accuracy"])
    given = equality.prepare(
        "device", equality.X, equality.Y, model=model, batch_size=32, window_steps=None, epochs=6, seed=1
    )
    model.fit(**given.fit_kwargs, verbose=0, callbacks=[counter])
    assert int(model.optimizer.iterations) == 60
    # the loss: once to make the variables, once each to trace the full and the partial batch
    assert calls == {"loss": 3, "begin": 6, "end": 6}


def test_a_run_may_be_stopped_before_its_last_epoch(equality):
    import keras

    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(stop.model, "stop_training", epoch == 1)
    )
    model, history = equality.by_device(equality.tiny, 300, 64, epochs=100, callbacks=[stop])
    assert (len(history["loss"]), int(model.optimizer.iterations)) == (2, 10)


def test_the_seed_decides_over_the_training(equality):
    first, again = (equality.by_device(equality.tiny, 300, 64)[1]["loss"] for _ in range(2))
    np.testing.assert_allclose(first, again, rtol=1e-6)


def test_xla_on_a_processor_is_warned_of(equality, caplog):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("a GPU compiles it")
    with caplog.at_level(logging.WARNING):
        equality.by_device(equality.tiny, 64, 32, epochs=1)
        assert not [record for record in caplog.records if record.name.startswith("epochcast")]
        equality.by_device(equality.tiny, 64, 32, epochs=1, jit_compile="on")
    assert "leave --jit_compile at auto" in caplog.text
