"""Scripts of common shapes, run by the command until their fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from epochcast.commands import estimate
from epochcast.live.fits import append_fit, read_fits
from epochcast.live.scripts import child
from epochcast.schema import to_json_dict
from tests.support.cli import run_cli
from tests.support.real_child import lean_keras
from tests.support.rows import fit_row

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
    keep_an_earlier_timing(tmp_path)
    found = assert_estimated(tmp_path, "callbacks", "jax")
    table = tmp_path / "results" / "fits.csv"
    note = f"1 earlier timing of this training ({table}) counts as one epoch: 2.50 s an epoch"
    assert any(each.startswith(note) for each in found["notes"])


def assert_estimated(tmp_path, shape, backend):
    flags = ("--budget_sec", "1", "--max_batch")
    code, found, screen = estimated(tmp_path, SHAPES[shape], "--epochs", "30", flags=flags, backend=backend)
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
        # no callback of the script's was run
        assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "train.py"]
    row = read_fits(tmp_path / "results" / "fits.csv")[-1]
    assert (row.kind, row.epochs, row.batches, row.source) == ("estimate", 30, batches, str(tmp_path / "train.py"))
    assert (row.epoch_sec, row.n_earlier) == (epoch, found["epoch"]["n_earlier"])
    assert row.training_key == found["training"]["training_key"]
    if backend == "jax" and shape != "augmentation":  # Keras does not compile a step with such layers
        assert (found["memory"]["source"], found["memory"]["bytes"]) == ("compiler", row.peak_memory_bytes)
        assert found["max_batch"]["why"] == "a processor has no memory of its own"
    else:  # TensorFlow says nothing on a processor
        assert (found["memory"], row.peak_memory_bytes) == (None, None)
        assert found["max_batch"]["why"] == "its peak memory is unknown"
    return found


KEY = """
from epochcast.live.training_facts import training_facts
from epochcast.machine.gpu_driver import device_of
device = device_of("cpu")
print(training_facts(model, x, {"batch_size": 32, "validation_split": 0.2}, device.name, device.kind).training_key)
"""


def keep_an_earlier_timing(tmp_path):
    """Find a training's key in another process, and keep a timing."""
    done = subprocess.run(
        [sys.executable, "-c", IMAGES + COMPILED + KEY],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for is_contended in (0, 1):  # however busy the machine is in the test
        row = fit_row(training_key=done.stdout.strip(), batches=15, is_contended=is_contended)
        append_fit(tmp_path / "results" / "fits.csv", row)


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


EPOCH = {"interval": {"value": 2.5, "low": 2.0, "high": 3.0}, "half": 0.2, "n": 4, "n_left_out": 0, "n_earlier": 0}
ANSWER = {
    "total": {"value": 80.0, "low": 70.0, "high": 90.0},
    "epochs": 30,
    "batches": 19,
    "backend": "jax",
    "device_name": "AMD EPYC (2 cores)",
    "epoch": EPOCH,
    "epoch_cpu": EPOCH,
    "once_sec": 1.0,
    "once": dict.fromkeys(("build_sec", "fit_start_sec", "compile_sec", "more_sec", "validation_sec", "save_sec"), 0.2),
    "paid_sec": 0.0,
    "power": None,
    "validation": None,
    "save_sec": None,
    "samples": {"kind": "epochs", "steps": None},
    "memory": None,
    "max_batch": None,
    "is_contended": False,
    "notes": [],
    "row": to_json_dict(fit_row()),
}
CHILD = """
import json, os, sys
events = [
    {"event": "caught", "script_sec": 1.0, "model": "Functional", "params": 1000, "data": {}, "batch_size": 32,
     "epochs": 30, "option_values": {}},
    {"event": "estimate", "earlier": sys.argv[2], **json.loads(sys.argv[3])},
]
os.write(int(sys.argv[1]), "".join(json.dumps(event) + "\\n" for event in events).encode())
"""


@pytest.fixture
def light_child(monkeypatch, home):
    """A process that reports an estimate without training anything."""

    def command(request, descriptor):
        return [sys.executable, "-c", CHILD, str(descriptor), str(request.earlier), json.dumps(ANSWER)]

    monkeypatch.setattr(child, "command", command)
    (home / "train.py").touch()
    return home / "results" / "fits.csv"


def test_every_estimate_is_a_row_and_fresh_ones_are_asked_for_without_the_table(light_child):
    script = str(light_child.parents[1] / "train.py")
    for flags, earlier in (((), str(light_child)), (("--fresh",), "None")):
        said = run_cli(estimate.main, "--json", *flags, script)
        assert json.loads(said.out)["earlier"] == earlier
    assert read_fits(light_child) == [fit_row()] * 2


@pytest.mark.parametrize("spoil", ["a folder", "another table", "no space"])
def test_an_estimate_that_can_not_be_kept_is_printed_with_a_note(light_child, monkeypatch, spoil):
    light_child.parent.mkdir()
    if spoil == "a folder":
        light_child.mkdir()
    elif spoil == "another table":
        light_child.write_text("name,price\n")
    else:
        light_child.symlink_to("/dev/full")
    said = run_cli(estimate.main, str(light_child.parents[1] / "train.py"))
    assert said.out.startswith("training: 1 min 20 s")
    (note,) = [line for line in said.err.splitlines() if "this estimate is not in" in line]
    assert note.startswith(f"note: this estimate is not in {light_child}: ")


# --- what can't be estimated, by real frameworks ----------------------------------------------------------------------

MIRRORED = IMAGES + """
import tensorflow as tf
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
""" + "".join(f"    {line}\n" for line in COMPILED.splitlines()) + "model.fit(x, y, epochs=30)"  # fmt: skip
TWO_CPUS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
DATA_PARALLEL = (
    "import keras\nkeras.distribution.set_distribution(keras.distribution.DataParallel())\n" + SHAPES["functional"]
)
OWN_LOOP = IMAGES + COMPILED + "for _ in range(3):\n    model.train_on_batch(x[:32], y[:32])\n"
TAPE = (
    IMAGES
    + NETWORK
    + """
import tensorflow as tf
with tf.GradientTape() as tape:
    loss = tf.reduce_mean(model(x[:32], training=True))
tape.gradient(loss, model.trainable_variables)
"""
)
SHARED = "its first fit can't be estimated: this fit is shared by several devices, of which only one can be timed."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "code", "words"),
    [
        ("tensorflow", TWO_CPUS + MIRRORED, SHARED),
        ("jax", DATA_PARALLEL, SHARED),
        ("jax", OWN_LOOP, "it calls train_on_batch, and a training in a loop of its own can't be caught."),
        ("tensorflow", TAPE, "A training in a loop of its own, or in another process, can't be caught."),
        (
            "jax",
            IMAGES + NETWORK + "model.fit(x, y)",
            "its first fit can't be estimated: ValueError: You must call `comp",
        ),
    ],
    ids=["MirroredStrategy", "DataParallel", "train_on_batch", "GradientTape", "not compiled"],
)
def test_a_training_that_cannot_be_estimated_is_one_clear_line(tmp_path, monkeypatch, backend, code, words):
    if code is DATA_PARALLEL:
        monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    exit_code, answer, screen = estimated(tmp_path, code, backend=backend)
    assert (exit_code, answer) == (1, None)
    assert screen.splitlines()[-1].startswith("error: train.py")
    assert words in screen.splitlines()[-1]


GENERATOR = (
    IMAGES
    + COMPILED
    + """
def batches():
    for _ in range(int(sys.argv[1])):
        yield x[:32], y[:32]

model.fit(batches(), epochs=3)
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_generator_is_gone_through_once(tmp_path, backend):
    code = "import sys\n" + GENERATOR
    exit_code, found, screen = estimated(tmp_path, code, "60", flags=("--budget_sec", "20"), backend=backend)
    assert exit_code == 0, screen
    assert (found["batches"], found["samples"]["kind"], found["epochs"]) == (60, "blocks", 3)
    exit_code, _, screen = estimated(tmp_path, code, str(10**6), flags=("--budget_sec", "2"), backend=backend)
    assert exit_code == 1
    assert "A step takes " in screen.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["functional", "subclass", "mixed precision", "images from folders"])
def test_another_gpu_is_told_by_the_model_s_layers_where_a_processor_trains(tmp_path, shape):
    flags = ("--budget_sec", "1", "--gpu", "A100 SXM4 40GB;T4", "--region", "DE,FR")
    exit_code, found, screen = estimated(tmp_path, SHAPES[shape], flags=flags)
    times = {each["gpu"]: each for each in found["gpus"]}
    lacking = {"T4"} if shape == "mixed precision" else set()  # it has no bfloat16
    assert (exit_code, set(found["no_time_on"])) == (int(bool(lacking)), lacking), screen
    assert set(times) == {"A100 SXM4 40GB", "T4"} - lacking
    for each in times.values():
        assert each["basis"] in ("law of networks", "bare roof")  # of steps too short for the law
        assert 0 < each["epoch_sec_low"] < each["epoch_sec"] < each["epoch_sec_high"]
        assert [place["region"] for place in each["footprints"]] == ["DE", "FR"]


@pytest.mark.slow
def test_a_function_of_a_module_is_estimated_and_trained(tmp_path):
    made = IMAGES + COMPILED + 'def make():\n    return {"model": model, "x": x, "y": y, "epochs": 2, "verbose": 2}\n'
    (tmp_path / "train.py").write_text(made)
    done = subprocess.run(
        [sys.executable, "-m", "epochcast", "estimate", "--budget_sec", "1", "--then_train", "train.py:make"],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax", "EPOCHCAST_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "of: Functional, 260 parameters, 2 epochs of 19 batches, jax" in done.stdout
    assert "Epoch 2/2" in done.stdout
    estimated_row, fit_row_ = read_fits(tmp_path / "results" / "fits.csv")
    assert (estimated_row.kind, fit_row_.kind) == ("estimate", "fit")
    assert estimated_row.training_key == fit_row_.training_key
    assert (fit_row_.epochs, fit_row_.batches, fit_row_.n_timed) == (2, 19, 1)
    assert 0 < fit_row_.timed_epoch_sec < fit_row_.total_sec
