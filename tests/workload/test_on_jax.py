"""Keras on JAX, in a process that can't import TensorFlow: the CNN, its seeds and orders, and the pipeline `device`.

One process for all: it takes 6 s of processor time to start JAX, and 4 s to compile a training.
"""

from __future__ import annotations

import json

import pytest

from tests.support.jax_child import run_on_jax

WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # as on a machine without it
import json
import jax
import keras
import numpy as np
from epochcast.schema import RunConfig
from epochcast.workload.cnn import build_model, compile_model, seed_everything
from epochcast.workload.pipelines import as_float, prepare
from tests.support import device_equality as equality

assert keras.config.backend() == "jax"
loops = []  # what is traced inside lax.scan
scan = jax.lax.scan
jax.lax.scan = lambda body, *args, **kwargs: loops.append(body) or scan(body, *args, **kwargs)
"""
QUICK = """
y = np.arange(24, dtype=np.uint8) % 10
x = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
found = {}


def history(seed):
    seed_everything(seed)
    model = build_model(RunConfig(1, 2))
    compiled = compile_model(model)
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: steps.append(step))
    given = prepare("auto", x, y, model=model, batch_size=8, window_steps=4, epochs=2, seed=seed)
    loss = model.fit(**given.fit_kwargs, callbacks=[count], verbose=0).history["loss"]
    return {"compiled": compiled, "steps": len(steps), "per_entry": given.steps_per_entry, "loss": loss}


found["histories"] = [history(1), history(1)]

seed_everything(1)
orders = []


def spy(y_true, y_pred):
    if not isinstance(y_true, jax.core.Tracer):  # once, to learn the shapes
        orders.append(np.asarray(y_true).ravel().tolist())
    return keras.ops.mean(y_pred)


model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
model.compile(loss=spy, run_eagerly=True)
labels = np.arange(24, dtype=np.uint8)
given = prepare("arrays", x, labels, model=model, batch_size=24, window_steps=None, epochs=3, seed=1)
model.fit(**given.fit_kwargs, verbose=0)
found["orders"] = orders

try:
    prepare("tfdata", x, y, model=model, batch_size=8, window_steps=None, epochs=1, seed=1)
except ValueError as error:
    found["tfdata"] = str(error)
keras.config.set_dtype_policy("mixed_bfloat16")
found["last_dtype"] = build_model(RunConfig(1, 2)).get_layer("probabilities").output.dtype
keras.config.set_dtype_policy("float32")

assert not loops
equality.assert_same_training(equality.tiny, 300, 64, is_looped=True, epochs=2)
found["loops_if_looped"] = len(loops)
loops.clear()  # a processor takes step by step what XLA would be slow at
pair = equality.assert_same_training(equality.tiny, 300, 64, epochs=2)
found["losses"] = [m.evaluate(as_float(equality.X), equality.Y, batch_size=150, verbose=0)[0] for m in pair]
found["loops_if_stepped"] = len(loops)
print(json.dumps(found))
"""
SLOW = """
keras.config.set_dtype_policy("mixed_float16")
model, _ = equality.assert_same_training(equality.tiny, 300, 64, is_looped=True, epochs=2, window_steps=7)
assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
keras.config.set_dtype_policy("float32")
assert len(loops) == 1, loops
loops.clear()
equality.assert_same_training(lambda: build_model(RunConfig(1, 8)), 128, 64, epochs=2, loss_rtol=1e-3, n_differ=1)
assert loops == []
print("done")
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the process found; that its trainings by `device` equal their references it has asserted itself."""
    return json.loads(run_on_jax(WITHOUT_TENSORFLOW + QUICK, tmp_path_factory.mktemp("keras")))


def test_a_training_is_compiled_has_its_steps_and_is_repeated_by_its_seed(found):
    first, second = found["histories"]
    assert (first["compiled"], first["steps"], first["per_entry"]) == ("on", 8, 4)
    assert first == second


def test_every_epoch_of_arrays_has_an_order_of_its_own(found):
    orders = found["orders"]
    assert len(orders) == len({str(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(24)) for order in orders)


def test_tfdata_is_refused_and_names_arrays(found):
    assert "arrays" in found["tfdata"]


def test_mixed_precision_keeps_the_probabilities_in_float32(found):
    assert found["last_dtype"] == "float32"


def test_device_trains_as_its_own_reference_looped_or_step_by_step(found):
    assert (found["loops_if_looped"], found["loops_if_stepped"]) == (1, 0)
    assert found["losses"][0] == pytest.approx(found["losses"][1], abs=1e-5)


@pytest.mark.slow
def test_device_trains_as_its_own_reference_in_mixed_precision_and_the_cnn(tmp_path):
    assert run_on_jax(WITHOUT_TENSORFLOW + SLOW, tmp_path) == "done\n"
