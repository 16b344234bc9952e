"""Networks and optimizers that another version of Keras, Keras 2 or another backend has saved."""

from __future__ import annotations

import json
import sys
import zipfile
from types import SimpleNamespace

import pytest

from epochcast.keras_layers.read_layers import read_layers
from epochcast.machine.framework import keras_on_cpu
from tests.support.models.saved_networks import edited, read


@pytest.mark.parametrize(
    ("changes", "version", "found"),
    [
        ({"class_name": "DenseNext"}, "9.1.0", "keras.layers.DenseNext, which this Keras does not have. Keras 9.1.0"),
        ({"class_name": "DenseNext"}, "3.0.5", "Keras 3.0.5 saved it: make it by its own code with Keras"),
        ({"config": {"units": 4, "of_tomorrow": 1}}, "9.1.0", "pip install -U keras"),
        ({"config": {"units": 4, "of_tomorrow": 1}}, None, "Make it by its own code with Keras"),
    ],
)
def test_another_version_of_keras_is_named_and_no_author_is_blamed(folder, tmp_path, changes, version, found):
    path = edited(folder / "two layers.keras", tmp_path / "x.keras", version=version, **changes)
    line = read(path)
    assert found in line
    assert "author" not in line
    if "DenseNext" in line:
        assert "--allow_unknown leaves it out" in line
        assert read(path, allow_unknown=True).not_counted


def test_a_file_of_a_newer_keras_that_names_nothing_new_is_read(folder, tmp_path):
    assert read(edited(folder / "two layers.keras", tmp_path / "x.keras", version="9.1.0", config={"units": 8,
                "activation": "relu"})).records  # fmt: skip


# --- Keras 2 ----------------------------------------------------------------------------------------------------------


def of_keras_2(kind, **config):
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def old_input(name, *shape):
    return of_keras_2("InputLayer", batch_input_shape=[None, *shape], dtype="float32", ragged=False, name=name)


def old_file(tmp_path, config, version="2.15.0"):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        if version is not None:
            archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


CONV = {"filters": 4, "kernel_size": [3, 3], "groups": 1, "padding": "valid", "activation": "relu"}
OLD_SEQUENTIAL = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "s",
        "layers": [
            old_input("i", 8, 8, 3),
            of_keras_2("Conv2D", name="c", batch_input_shape=[None, 8, 8, 3], **CONV),
            of_keras_2("BatchNormalization", name="b", axis=[3]),
            of_keras_2("Flatten", name="f"),
            of_keras_2("Dense", name="d", units=4),
        ],
    },
    "registered_name": None,
    "build_config": {"input_shape": [None, 8, 8, 3]},
    "compile_config": {
        "optimizer": {"module": "keras.optimizers.legacy", "class_name": "SGD", "config": {"momentum": 0.9}}
    },
}


def called_on(layer, name, *tensors):
    return {**layer, "name": name, "inbound_nodes": [[[*tensor, {}] for tensor in tensors]]}


INNER = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "inner",
        "layers": [old_input("j", 10, 6), of_keras_2("LSTM", name="l", units=5, time_major=False)],
    },
    "registered_name": None,
}
OLD_FUNCTIONAL = {
    "module": "keras.src.engine.functional",
    "class_name": "Functional",
    "config": {
        "name": "m",
        "trainable": True,
        "layers": [
            {**old_input("i", 10, 6), "name": "i", "inbound_nodes": []},
            called_on(INNER, "inner", ["i", 0, 0]),
            called_on(of_keras_2("Dense", name="d", units=4), "d", ["inner", 1, 0]),
            called_on(of_keras_2("Dense", name="e", units=4), "e", ["inner", 1, 0]),
            called_on(of_keras_2("Add", name="a"), "a", ["d", 0, 0], ["e", 0, 0]),
        ],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["a", 0, 0]],
    },
    "registered_name": "Functional",
}


def test_a_network_of_keras_2_is_counted_as_the_same_of_keras_3(tmp_path):
    keras = keras_on_cpu()
    layers = keras.layers
    new = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", name="c"),
            layers.BatchNormalization(name="b"),
            layers.Flatten(),
            layers.Dense(4, name="d"),
        ]
    )
    for version in ("2.15.0", None):
        found = read(old_file(tmp_path, OLD_SEQUENTIAL, version))
        assert found.records == read_layers(new).records
        assert (found.optimizer, found.optimizer_passes) == ("sgd", 5)
    x = keras.Input((10, 6))
    inner = keras.Sequential([keras.Input((10, 6)), layers.LSTM(5, name="l")], name="inner")
    y = inner(x)
    both = layers.Add(name="a")([layers.Dense(4, name="d")(y), layers.Dense(4, name="e")(y)])
    records = read_layers(keras.Model(x, both)).records
    for module in ("keras.src.engine.functional", "tf_keras.src.engine.functional", "keras.engine.functional"):
        assert read(old_file(tmp_path, {**OLD_FUNCTIONAL, "module": module})).records == records


def test_an_operation_of_keras_2_blames_its_version(tmp_path):
    config = json.loads(json.dumps(OLD_FUNCTIONAL))
    lost = {**of_keras_2("TFOpLambda", name="a", function="math.add"), "module": "keras.src.layers.core.tf_op_layer"}
    config["config"]["layers"][-1].update(lost)
    line = read(old_file(tmp_path, config))
    assert "TFOpLambda, which this Keras does not have. Keras 2.15.0 saved it" in line


# --- optimizers -------------------------------------------------------------------------------------------------------


def of(module, kind, **config):
    return {"class_name": kind, "config": config, **({"module": module} if module else {})}


@pytest.mark.parametrize(
    ("optimizer", "name", "passes"),
    [
        ("sgd", "sgd", 3),
        (of("", "SGD", momentum=0.9), "sgd", 5),
        (of("keras.src.backend.torch.optimizers.torch_adam", "Adam"), "adam", 7),
        (of("keras.src.backend.torch.optimizers.torch_sgd", "SGD", momentum=0.9), "sgd", 5),
        (of("keras.optimizers", "Adam", of_tomorrow=3, amsgrad=True), "adam", 9),
        (of("keras.optimizers", "Adam", learning_rate=of("mine", "Schedule")), "adam", 7),
        (
            of("keras.optimizers", "LossScaleOptimizer", inner_optimizer=of("keras.optimizers", "SGD", momentum=1)),
            "sgd",
            5,
        ),
        (of("keras.optimizers.legacy", "RMSprop", centered=True), "rmsprop", 7),
        (of("keras.optimizers", "Adam", gradient_accumulation_steps=2), None, 7),
        (of("keras.optimizers", "SGD", momentum=["x"]), None, 7),
        (of("keras.optimizers", "AdamNext"), None, 7),
        (of("mine", "SGD"), None, 7),
        ([], None, 7),
    ],
)
def test_an_optimizer_is_read_from_its_own_description(tmp_path, optimizer, name, passes):
    config = {**OLD_SEQUENTIAL, "compile_config": {"optimizer": optimizer, "loss": {"module": "no", "class_name": "L"}}}
    found = read(old_file(tmp_path, config))
    assert (found.optimizer, found.optimizer_passes) == (name or "adam", passes)
    assert any("is not known: adam is taken" in note for note in found.notes) == (name is None)


@pytest.mark.usefixtures("unregistered")
def test_an_optimizer_of_an_author_s_is_known_by_its_code(folder, author):
    path = folder / "own optimizer.keras"
    assert read(path).notes == (
        "what its optimizer Momentum moves is not known: adam is taken; --code FILE.py may show it",
    )
    assert read(path, code=[author]).optimizer_passes == 5


# --- backends ---------------------------------------------------------------------------------------------------------

LOOKED_UP = {  # layers that call TensorFlow whatever the backend, and what they read
    "Hashing": (lambda layers: layers.Hashing(10), "int64"),
    "HashedCrossing": (lambda layers: lambda x: layers.HashedCrossing(10)([x, x]), "int64"),
    "IntegerLookup": (lambda layers: layers.IntegerLookup(vocabulary=[1, 2]), "int64"),
    "StringLookup": (lambda layers: layers.StringLookup(vocabulary=["a", "b"]), "string"),
    "TextVectorization": (
        lambda layers: layers.TextVectorization(vocabulary=["a"], output_sequence_length=4),
        "string",
    ),
}


@pytest.mark.parametrize("kind", LOOKED_UP)
def test_what_runs_on_tensorflow_alone_asks_for_it(tmp_path, monkeypatch, kind):
    keras, path = keras_on_cpu(), tmp_path / "x.keras"
    make, dtype = LOOKED_UP[kind]
    inputs = keras.Input((1,), dtype=dtype)
    found = keras.layers.Embedding(20, 8)(make(keras.layers)(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(found))).save(path)
    with monkeypatch.context() as under_jax:
        under_jax.setattr(keras.backend, "backend", lambda: "jax")
        for allow_unknown in (False, True):
            line = read(path, allow_unknown=allow_unknown)
            assert "TensorFlow alone" in line and line.endswith("set KERAS_BACKEND=tensorflow.")
            assert dtype == "string" or f"({kind})" in line
    assert len(read(path, allow_unknown=True).records) == 2
    module = sys.modules[getattr(keras.layers, kind).__module__]
    if hasattr(module, "tf"):
        monkeypatch.setattr(module, "tf", SimpleNamespace(available=False))
        assert f"{kind} needs TensorFlow: pip install 'epochcast[tensorflow]'" in read(path)
