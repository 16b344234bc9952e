"""Fits of real scripts, tuned by the command in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.real_child import BLOCK_TENSORFLOW, lean_keras

DATA = """
import numpy as np, keras
random = np.random.default_rng(0)
x = random.random((640, 16), dtype="float32")
y = random.integers(0, 4, 640)
"""
MODEL = """
model = keras.Sequential([
    keras.Input((16,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dropout(0.1),
    keras.layers.Dense(4, activation="softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
"""
PICKY = """
class Picky(keras.layers.Layer):
    def call(self, x):
        if x.shape[0] == 64:
            raise ValueError("64 are too many")
        return x

model = keras.Sequential([keras.Input((16,)), Picky(), keras.layers.Dense(4, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
"""
PIPELINE = """
import tensorflow as tf
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(640).map(lambda x, y: (x + 1.0, y)).batch(32)
"""
OWN_BATCHES = """
class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 20

    def __getitem__(self, at):
        return x[32 * at : 32 * at + 32], y[32 * at : 32 * at + 32]
"""
ENDLESS = """
def batches():
    while True:
        yield x[:32], y[:32]
"""


def tuned(tmp_path, code, *flags, backend="jax", budget_sec="4"):
    """Return the answer of the command, and what it said meanwhile."""
    (tmp_path / "train.py").write_text(code)
    command = [sys.executable, "-m", "epochcast", "tune", "--json", "--budget_sec", budget_sec, *flags, "train.py"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend, "EPOCHCAST_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def settings(found, name):
    """All values of one name that were tried."""
    return {each["setting"][name] for each in found["candidates"]}


def test_a_fit_on_jax_is_tuned_without_tensorflow_and_goes_on_where_a_step_fails(
    tmp_path, tmp_path_factory, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", lean_keras(tmp_path_factory.mktemp("lean")))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling is most of such a test's time
    code = BLOCK_TENSORFLOW + DATA + PICKY + "model.fit(x, y, epochs=20)"
    found, _ = tuned(tmp_path, code, "--batch_size", "64", budget_sec="2")
    assert (found["epochs"], found["batches"], found["backend"]) == (20, 20, "jax")
    assert settings(found, "steps_per_execution") == {1, 4}
    assert settings(found, "input") == {"arrays"}
    failed = found["not_tried"].pop("batch_size 64")  # under JAX the variables held nothing when it did
    assert failed.startswith("ValueError: ") and "64 are too many" in failed
    assert found["not_tried"] == {
        "precision mixed_float16, mixed_bfloat16": "a processor is seldom faster in it; --precision tries it",
        "jit_compile off": "JAX would do each operation by itself",
        "steps_per_execution 16": "an epoch of 20 batches has too few executions to time",
        "input tfdata": "tf.data needs TensorFlow, which is not installed",
        "input cached": "tf.data needs TensorFlow, which is not installed",
    }
    assert (found["gain"] is None) == (found["n_pairs"] == 0)
    assert (found["why_kept"] is None) == (found["setting"] != found["baseline"])
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize(
    ("code", "inputs"),
    [
        ("model.fit(x, y, epochs=20, validation_split=0.1, batch_size=24)", {"arrays", "tfdata", "cached"}),
        (PIPELINE + "model.fit(data, epochs=20)", {"tfdata", "prefetched", "cached"}),
        (PIPELINE + "model.fit(data.repeat(), epochs=20, steps_per_epoch=20)", {"tfdata", "prefetched"}),
        (OWN_BATCHES + "model.fit(Batches(), epochs=20)", {"pydataset"}),
        (ENDLESS + "model.fit(batches(), epochs=20, steps_per_epoch=20)", {"generator"}),
    ],
)
def test_every_kind_of_data_is_tuned(tmp_path, monkeypatch, backend, code, inputs):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    found, _ = tuned(tmp_path, DATA + MODEL + code, backend=backend, budget_sec="20")
    assert settings(found, "input") == inputs
    assert settings(found, "steps_per_execution") == {1, 4}
    assert settings(found, "jit_compile") == ({"on"} if backend == "jax" else {"on", "off"})
    assert found["candidates"][0]["setting"] == found["baseline"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_precision_is_tried_in_a_second_process(tmp_path, monkeypatch, backend):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    flags = ("--precision", "mixed_bfloat16", "--input", "arrays", "--steps_per_execution", "1", "--batch_size", "64")
    code = DATA + MODEL + "model.fit(x, y, epochs=20)"
    found, screen = tuned(tmp_path, code, *flags, backend=backend, budget_sec="20")
    assert settings(found, "precision") == {"float32", "mixed_bfloat16"}
    assert settings(found, "batch_size") == {32, 64}
    assert "train.py runs once more for each of mixed_bfloat16" in screen
    assert found["script_sec"] > found["caught"]["script_sec"]
