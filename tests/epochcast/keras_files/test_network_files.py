"""Networks in files that Keras has saved, damaged ones as well: counted right, or refused with what helps."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

from epochcast.keras_files.author_code import author_code
from epochcast.keras_files.flags import shape_flag
from epochcast.keras_files.read_file import read_network
from epochcast.keras_files.rebuild import read_saved
from epochcast.machine.framework import keras_on_cpu
from epochcast.model import explain as command
from epochcast.paths import CODE_ROOT
from tests.support.models.saved_networks import LONGEST, MADE, SHAPES, called, chain, read, shapes_of
from tests.support.peaks import at_most


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("name", MADE)
def test_a_network_is_counted_once_what_its_line_asks_for_is_given(folder, author, name):
    """Each remedy of each line is carried out until there is an answer, or the line says that there can be none."""
    macs, path, given = MADE[name][1], folder / f"{name}.keras", {}
    for _ in range(4):
        found = read(path, **given)
        if not isinstance(found, str):
            break
        before = dict(given)
        flags = re.findall(r"--sample_shape (\S+=[N\d,]+)", found)
        if "code" not in given and "--code FILE.py" in found:
            given["code"] = [author]
        elif flags and name not in SHAPES:
            given["shape"] = shapes_of(flags)
        elif "--sample_shape" in found:
            given["shape"] = [shape_flag(part) for part in re.split(r",(?=\w+=)", SHAPES[name])]
        elif "--allow_unknown" in found:
            given["allow_unknown"] = True
        if given == before:
            break
    if macs is None:
        assert isinstance(found, str) or name == "own layer in a wrapper", found
        return
    assert not isinstance(found, str), found
    assert sum(record.macs for record in found.records) == macs
    assert bool(found.not_counted) == given.get("allow_unknown", False)


@pytest.mark.parametrize(
    ("name", "macs", "left_out"),
    [
        ("registered layer", 1408, "registered (Registered)"),
        ("plain layer", 1408, "plain (Plain)"),
        ("lambda layer", 512, "lambda (Lambda)"),
        ("lambda layer of a function", 512, "lambda"),
        ("own layer in a Sequential", 24, "plain"),
        ("own layer in a wrapper", 384, "time_distributed (TimeDistributed)"),
        ("lambda activation", 1536, "(activation author.lambda_function)"),
        ("own activation", 1024, "(activation author.double)"),
    ],
)
def test_what_is_missing_is_named_and_the_rest_is_counted(folder, name, macs, left_out):
    found = read(folder / f"{name}.keras", allow_unknown=True)
    assert sum(record.macs for record in found.records) == macs
    (only,) = found.not_counted
    assert left_out.partition(" ")[0].rstrip("(") in only
    assert left_out.rpartition(" ")[2] in only


FROZEN = {  # how each is made of Keras `k` and of the author's classes `own`; the frozen layer; weights still trained
    "attention": (lambda k, own: attending(k, k.layers.MultiHeadAttention(2, 4)), 1, 8 * 2 + 2),
    "grouped attention": (lambda k, own: attending(k, k.layers.GroupQueryAttention(4, 2, 1)), 1, 8 * 2 + 2),
    "own layer": (lambda k, own: chain(k, own["Plain"](6), k.layers.Dense(4)), 1, 6 * 4 + 4),
    "own model inside": (lambda k, own: chain(k, own["Net"](), k.layers.Dense(4)), 1, 3 * 4 + 4),
    "own model": (lambda k, own: called(own["Net"](), (5,)), None, 0),
    "wrapper": (lambda k, own: chain(k, k.layers.Bidirectional(k.layers.LSTM(4)), k.layers.Dense(4)), 1, 8 * 4 + 4),
    "network inside but for its last layer": (
        lambda k, own: chain(k, all_but_the_last_frozen(chain(k, k.layers.Dense(8), k.layers.Dense(6)))),
        None,
        8 * 6 + 6,
    ),
}


def attending(keras, attention):
    x = keras.Input((6, 8))
    return keras.Model(x, keras.layers.Dense(2)(attention(x, x)))


def all_but_the_last_frozen(model):
    model.trainable = False
    model.layers[-1].trainable = True
    return model


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("name", FROZEN)
def test_nothing_in_a_frozen_layer_is_trained(author, tmp_path, name):
    """Counted as the network that was saved trains it."""
    make, index, trained = FROZEN[name]
    with author_code([author]) as own, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that Keras can't save whole
        model = make(keras_on_cpu(), own)
        if index is not None:
            model.layers[index].trainable = False
        elif name == "own model":
            model.trainable = False
        model.save(tmp_path / "x.keras")
    assert sum(weight.size for weight in map(np.asarray, model.trainable_weights)) == trained
    records = read(tmp_path / "x.keras", code=[author]).records
    assert sum(record.params - record.frozen_params for record in records) == trained
    assert sum(record.params for record in records) == model.count_params()


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_a_fixed_batch_size_is_said_where_another_is_asked_for(folder):
    path = folder / "fixed batch.keras"
    note = "its file fixes the batch size at 32"
    assert any(note in text for text in read(path).notes)
    assert not any(note in text for text in read_network(path, 32, 1000, "float32").notes)


@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [
        (
            "two open inputs",
            ["16,8"],
            "left (any, 8), right (any, 8). Name each that you give: --sample_shape left=N,8",
        ),
        ("two open inputs", ["left=16,8"], "Give the sizes that you train with: --sample_shape right=N,8."),
        ("two open inputs", ["left=16,9"], "its input 'left' takes samples of shape (any, 8)"),
        (
            "two open inputs",
            ["middle=16,8"],
            "it has no input 'middle'. Its inputs are left (any, 8), right (any, 8): --sample_shape left=N,8",
        ),
        ("two inputs", ["left=9"], "its input 'left' takes samples of shape (8) of rank 1"),
        ("Sequential, unbuilt", ["a=5", "b=5"], "it takes one input"),
        ("Sequential, empty", ["5"], "it has no layers"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_the_input_s_name(folder, name, shape, found):
    assert found in read(folder / f"{name}.keras", shape=shapes_of(shape))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample_shape", "8", "--sample_shape", "9"], "name the input of each of several"),
        (["--sample_shape", "a=8", "--sample_shape", "a=9"], "a is given twice"),
        (["--sample_shape", "a="], "--sample_shape"),
        (["--sample_shape", "a=8,x"], "--sample_shape"),
    ],
)
def test_flags_of_shapes_that_do_not_go_together_are_a_wrong_command(capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        command.main(["--network", "x.keras", *flags])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


# --- other files ------------------------------------------------------------------------------------------------------


def test_files_of_other_kinds_are_named_for_what_they_are(folder, tmp_path):
    keras = keras_on_cpu()
    source = folder / "two inputs.keras"
    content = source.read_bytes()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    (tmp_path / "loop.keras").symlink_to("loop.keras")
    with zipfile.ZipFile(tmp_path / "inside.zip", "w") as archive:
        archive.write(source, "x.keras")
    keras.saving.load_model(source).save_weights(tmp_path / "x.weights.h5")
    for name, data, found in (
        ("none.keras", b"", "it is empty"),
        ("text.keras", b"hello", "it is no zip archive"),
        ("model.onnx", b"\x08\x07\x12", "it is no zip archive"),
        ("cut.keras", content[: len(content) // 2], "its end is missing"),
        ("end.keras", content[:-5], "its end is missing"),
        ("ten.keras", content[:10], "its end is missing"),
        ("inside.zip", None, "holds no config.json"),
        ("x.weights.h5", None, "an HDF5 file of weights alone, which names no layers"),
        ("saved", None, "a SavedModel, which keeps no layers"),
        ("loop.keras", None, "Too many levels of symbolic links"),
        ("text.keras/x.keras", None, "Not a directory"),
        (".", None, "a folder"),
        ("missing.keras", None, "no such file"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        line = read(tmp_path / name)
        assert found in line
        assert "model.save('NAME.keras')" in line or ".save('NAME.keras')" in line
    shutil.copy(source, tmp_path / "named.zip")  # the content says what it is
    assert read(tmp_path / "named.zip").records


def test_the_remedy_for_a_file_of_hdf5_works(folder, tmp_path, monkeypatch):
    keras = keras_on_cpu()
    monkeypatch.chdir(tmp_path)
    model = keras.saving.load_model(folder / "two inputs.keras")
    keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(model, "NAME.h5")  # as model.save, without its warning
    line = read(tmp_path / "NAME.h5")
    remedy = re.search(r"(keras\.models.*)\.$", line)[1]
    eval(remedy, {"keras": keras})
    assert read(tmp_path / "NAME.keras").records == read(folder / "two inputs.keras").records


def test_a_saved_model_of_keras_2_is_saved_anew_by_the_keras_that_reads_it(tmp_path):
    """Its layers are in a file of their own; tf_keras, which reads that, is no part of the lock."""
    for name in ("saved_model.pb", "keras_metadata.pb"):
        (tmp_path / name).write_bytes(b"\x08\x01")
    assert "Install tf_keras, and save it as one: tf_keras.models.load_model('NAME'" in read(tmp_path)


AS_NOBODY = """
import os, sys
from pathlib import Path
from epochcast.keras_files.rebuild import read_saved
if os.geteuid() == 0:
    os.setuid(65534)
try:
    read_saved(Path(sys.argv[1]))
except PermissionError as error:
    print(error, end="")
"""


def test_a_file_that_may_not_be_read_asks_for_the_right(folder, tmp_path):
    """By a process without root's rights, to whom nothing is forbidden."""
    path = tmp_path / "x.keras"
    shutil.copy(folder / "two layers.keras", path)
    path.chmod(0)
    command = [sys.executable, "-c", AS_NOBODY, str(path)]
    line = subprocess.run(command, cwd=CODE_ROOT, capture_output=True, text=True, check=True).stdout
    remedy = "Give yourself the right: chmod u+r for the file, u+x for its folders."
    assert line == f"{path}: it may not be read by this user. {remedy}"
    path.chmod(0o400)
    assert read(path).records


def test_a_network_of_large_constants_is_too_large_until_they_are_weights(tmp_path):
    keras, path, shape = keras_on_cpu(), tmp_path / "x.keras", (250, 250, 10)

    def saved(shifted):
        inputs = keras.Input(shape)
        mean = keras.layers.GlobalAveragePooling2D()(shifted(inputs))
        keras.Model(inputs, keras.layers.Dense(2)(mean)).save(path)
        return read(path)

    line = saved(lambda x: x + np.full(shape, 1 / 3, "float32"))
    assert re.search(r"too large to be read: config\.json unpacks to \d+ MiB.*as weights of a layer", line)
    flat = keras.layers.Reshape((1, -1))
    shift = keras.layers.EinsumDense("abc,c->abc", (1, shape[0] * shape[1] * shape[2]))
    assert saved(lambda x: keras.layers.Reshape(shape)(shift(flat(x)))).records


# --- damage -----------------------------------------------------------------------------------------------------------


MORE = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "seed"),
    [("two layers", 0), *(pytest.param("one open input of two", seed, marks=MORE) for seed in range(9))],
)
def test_damage_anywhere_is_read_or_refused_in_one_line(folder, tmp_path, name, seed):
    """Bytes of the file that are changed, cut or doubled: 60 times each."""
    content, chosen, path = (folder / f"{name}.keras").read_bytes(), random.Random(seed), tmp_path / "x.keras"
    outcomes = set()
    for n in range(60):
        damaged = bytearray(content)
        at = chosen.randrange(len(damaged))
        if n % 3 == 0:
            del damaged[at : at + chosen.choice([1, 100, len(damaged)])]
        elif n % 3 == 1:
            damaged[at:at] = damaged[at : at + chosen.choice([1, 100])]
        else:
            ends = [chosen.randrange(200), len(damaged) - 1 - chosen.randrange(400), at]
            damaged[chosen.choice(ends)] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        try:
            read_saved(path)
        except (ValueError, OSError) as error:
            outcomes.add(type(error))
            line = str(error).removeprefix(f"{path}: ")
            assert line != str(error) and len(line) <= LONGEST and line.isprintable()
    assert outcomes


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("plain layer", 1),
        ("two open inputs", 1),
        ("lambda activation", 1),
        ("own training step", 1),
        *(pytest.param("plain layer", seed, marks=MORE) for seed in range(2, 30)),
        *(pytest.param("subclassed", seed, marks=MORE) for seed in range(9)),
    ],
)
def test_a_configuration_that_was_changed_anywhere_is_read_or_refused_in_one_line(folder, tmp_path, name, seed):
    chosen, path = random.Random(seed), tmp_path / "x.keras"
    with zipfile.ZipFile(folder / f"{name}.keras") as archive:
        text = archive.read("config.json").decode()
    values = re.findall(r'"[^"]*"|null|\d+', text)
    for n in range(8):
        place = chosen.choice(list(re.finditer(r'(?<=: )("[^"]*"|null|\d+|\{\}|\[)', text)))
        other = chosen.choice([*values, "[]", "{}", "-1", '"mine>Plain"', "1e999", '{"class_name": "function"}'])
        changed = text[: place.start()] + other + text[place.end() - (place[0] == "[") :]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", changed)
        read(path, allow_unknown=n % 2 == 0)


def test_a_list_of_files_that_fills_the_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(9_000):
            archive.writestr(f"{n:0300}", "")
    with at_most(32):
        assert "the archive lists its files in more than 2 MiB" in read(path)
    for config in ("[" + "[]," * 600_000 + "1]", '{"a":' + "[{}," * 300_000):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", config)
        assert path.stat().st_size < 10_000
        with at_most(32):
            assert "its config.json has more than 500,000 parts" in read(path)
