"""Scripts of common shapes, run by the command until their fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from epochcast.commands import estimate
from tests.support.cli import run_cli
from tests.support.real_child import lean_keras

IMAGES = """
import numpy as np, keras
random = np.random.default_rng(0)
x = random.random((600, 16, 16, 3), dtype="float32")
y = random.integers(0, 4, 600)
"""
NETWORK = """
inputs = keras.Input((16, 16, 3))
hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(inputs))
model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(keras.layers.Dropout(0.2)(hidden)))
"""
COMPILED = (
    NETWORK
    + """
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
"""
)
SHAPES = {
    "functional": IMAGES + COMPILED + "model.fit(x, y, batch_size=32, epochs=30)",
    "positional options": IMAGES + COMPILED + "model.fit(x, y, 32, 30)",
    "subclass": IMAGES + """
class Network(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat = keras.layers.Flatten()
        self.out = keras.layers.Dense(4, activation="softmax")

    def call(self, images, training=False):
        return self.out(self.flat(images))

model = Network()
model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
model.fit(x, y, batch_size=32, epochs=30)
""",
    "own train_step": IMAGES + NETWORK + """
class Network(keras.Model):
    def train_step(self, *given):  # JAX gives its state, too
        return super().train_step(*given)

model = Network(model.inputs, model.outputs)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
model.fit(x, y, batch_size=32, epochs=30)
""",
    "images from folders": IMAGES + COMPILED + """
import pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
for label in range(4):
    (folder / str(label)).mkdir()
    for n in range(30):
        keras.utils.save_img(folder / str(label) / f"{n}.png", x[30 * label + n])
data = keras.utils.image_dataset_from_directory(folder, image_size=(16, 16), batch_size=8, verbose=False)
model.fit(data.map(lambda image, label: (image / 255.0, label)), epochs=30)
""",
    "augmentation": IMAGES + """
model = keras.Sequential([
    keras.Input((16, 16, 3)), keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1),
    keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax"),
])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
model.fit(x, y, batch_size=32, epochs=30, validation_data=(x[:100], y[:100]))
""",
    "mixed precision": "import keras\nkeras.mixed_precision.set_global_policy('mixed_bfloat16')\n" + IMAGES + COMPILED
    + "model.fit(x, y, batch_size=32, epochs=30)",
    "callbacks": IMAGES + COMPILED + """
callbacks = [keras.callbacks.EarlyStopping(patience=3), keras.callbacks.ModelCheckpoint("best.keras"),
             keras.callbacks.CSVLogger("log.csv")]
try:
    model.fit(x, y, batch_size=32, epochs=30, validation_split=0.2, callbacks=callbacks)
except Exception:
    print("swallowed")
print("after the fit")
""",
    "class weights": IMAGES + COMPILED + """
model.fit(x, y, batch_size=32, epochs=30, class_weight={0: 2, 1: 1, 2: 1, 3: 1})
""",
    "tuner-like loop": IMAGES + """
for units in (8, 16):
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(units),
                              keras.layers.Dense(4, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=32, epochs=30, verbose=0)
""",
    "argparse main": """
import argparse

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int)
    train(parser.parse_args().epochs)

def train(epochs):
""" + "".join(f"    {line}\n" for line in (IMAGES + COMPILED).splitlines()) + """
    model.fit(x, y, batch_size=32, epochs=epochs)

if __name__ == "__main__":
    main()
""",
    "endless generator": IMAGES + COMPILED + """
def batches():
    while True:
        chosen = random.integers(0, 600, 32)
        yield x[chosen], y[chosen]

model.fit(batches(), steps_per_epoch=19, epochs=30)
""",
}  # fmt: skip


def estimated(tmp_path, code, *arguments, flags=("--budget_sec", "1"), backend="tensorflow"):
    """The command's exit code, JSON and screen, of a script in a folder."""
    (tmp_path / "train.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "epochcast", "estimate", "--json", *flags, "train.py", *arguments],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend, "EPOCHCAST_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("shape", [pytest.param(s, marks=pytest.mark.slow) for s in SHAPES])
def test_the_fit_of_every_common_shape_is_caught_and_estimated(tmp_path, shape, backend):
    assert_estimated(tmp_path, shape, backend)


def test_a_fit_is_caught_with_its_options_and_estimated(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", lean_keras(tmp_path_factory.mktemp("lean")))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling is most of such a test's time
    assert_estimated(tmp_path, "callbacks", "jax")


def assert_estimated(tmp_path, shape, backend):
    code, found, screen = estimated(tmp_path, SHAPES[shape], "--epochs", "30", backend=backend)
    assert code == 0, screen
    assert (found["epochs"], found["backend"]) == (30, backend)
    batches = {"images from folders": 15, "callbacks": 15}.get(shape, 19)
    assert found["batches"] == batches
    epoch, total = found["epoch"]["interval"]["value"], found["total"]
    assert 0 < epoch < total["value"] / 30
    assert total["low"] is None or total["low"] < total["value"] < total["high"]
    assert "after the fit" not in screen and "swallowed" not in screen
    if shape == "callbacks":
        assert (found["n_validations"], found["n_saves"]) == (30, 30)
        assert found["validation"]["sec"] > 0 and found["save_sec"] > 0
        assert any("CSVLogger" in note for note in found["notes"])
        assert any("EarlyStopping" in note for note in found["notes"])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"]  # no callback of the script's was run


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('hello')", "ended (exit code 0) without its first fit"),
        ("import sys; sys.exit(3)", "ended (exit code 3) without its first fit"),
        ("raise RuntimeError('no data')", "failed before its first fit (exit code 1)"),
        ("import os; os.abort()", "failed before its first fit (signal 6, SIGABRT)"),
        ("import time\nwhile True: time.sleep(1)", "had not come to its first fit after 1.5 s"),
    ],
)
def test_a_script_that_comes_to_no_fit_is_one_clear_line(tmp_path, monkeypatch, capfd, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(code)
    assert estimate.main(["--script_sec", "1.5", "train.py"]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: train.py ") and words in error


def test_a_script_that_is_not_there_is_one_clear_line(home, monkeypatch):
    monkeypatch.chdir(home)
    said = run_cli(estimate.main, "nothing.py", code=1)
    assert said.err.startswith("error: nothing.py: no such file")
