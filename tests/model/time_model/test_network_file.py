"""Reading a time model's networks: any damaged or hostile file is refused in a sentence, or gives finite numbers."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import sys
import zipfile

import h5py
import numpy as np
import pytest

from epochcast.model import train
from epochcast.model.time_model.card import card_sha256
from epochcast.model.time_model.network_file import CONFIG, PLAIN, WEIGHTS, read_ensemble, with_plain_weights
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig
from tests.support.peaks import at_most

PRETRAINED = pretrained_dir() / "a100.keras"
FEATURES = 3
with zipfile.ZipFile(PRETRAINED) as _archive:
    SAVED = {name: _archive.read(name) for name in (CONFIG, WEIGHTS, PLAIN)}


def packed(config=SAVED[CONFIG], weights=SAVED[WEIGHTS]):
    """A model of an earlier version, whose numbers are read by h5py."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CONFIG, config)
        archive.writestr(WEIGHTS, weights)
    return file.getvalue()


def plain(numbers=SAVED[PLAIN], config=SAVED[CONFIG]):
    """A model of this version, whose numbers are read without h5py."""
    file = io.BytesIO(packed(config))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(PLAIN, numbers)
    return file.getvalue()


def config_with(shape):
    """The saved configuration, another shape in its first dense layer."""
    config = json.loads(SAVED[CONFIG])
    config["config"]["layers"][2]["config"]["output_shape"] = shape
    return json.dumps(config).encode()


def changed(change):
    """The saved weights, with a change to their HDF5 file."""
    content = io.BytesIO(SAVED[WEIGHTS])
    with h5py.File(content, "r+") as file:
        change(file)
    return packed(weights=content.getvalue())


def replaced(name, **made):
    def change(file):
        del file[name]
        file.create_dataset(name, **made)

    return change


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


KERNEL = "layers/einsum_dense/vars/0"
BIAS = "layers/einsum_dense_2/vars/1"


def test_the_shipped_networks_are_read():
    network = read_ensemble(packed(), "silu", FEATURES)
    assert [kernel.shape for kernel in network.kernels] == [(10, 3, 32), (10, 32, 32), (10, 32, 1)]


def test_plain_numbers_are_those_that_keras_saved(monkeypatch):
    by_h5py = read_ensemble(packed(), "silu", FEATURES)
    monkeypatch.setitem(sys.modules, "h5py", None)
    for data in (PRETRAINED.read_bytes(), with_plain_weights(packed(), by_h5py)):
        network = read_ensemble(data, "silu", FEATURES)
        for ours, theirs in zip(network.kernels + network.biases, by_h5py.kernels + by_h5py.biases, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (plain(SAVED[PLAIN][:-4]), "cannot reshape"),
        (plain(SAVED[PLAIN][:-1]), "multiple of element size"),
        (plain(SAVED[PLAIN] + bytes(4)), r"12181 numbers, expected 12180|numbers, expected"),
        (plain(np.full(len(SAVED[PLAIN]) // 4, np.nan, "<f4").tobytes()), "weights that are no numbers"),
        (plain(b"\x01\x00\xa0\x7f" + SAVED[PLAIN][4:]), "weights that are no numbers"),  # a signalling NaN
        (plain(config=config_with([10, 16])), "cannot reshape|numbers, expected"),
        (plain(config=config_with([10**9, 10**9])), "cannot reshape"),
        *(
            (plain(config=config_with(odd)), f"{CONFIG} has a layer without members and units")
            for odd in ([-1, 32], [0, 0], ["a", 32], [10], None)
        ),
        (plain(config=SAVED[CONFIG].replace(b"InputLayer", rb"\u0000")), "its layers are '', RepeatVector"),
    ],
)
def test_plain_numbers_that_are_none_are_refused(data, found):
    with at_most(64), pytest.raises(ValueError, match=found):
        read_ensemble(data, "silu", FEATURES)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (replaced(KERNEL, shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000), compression="gzip"), "larger than"),
        (replaced(KERNEL, shape=(10, 3, 32), dtype="f4", external=[("/etc/passwd", 0, 3840)]), "in another one"),
        (replaced(KERNEL, data=["text"] * 3), "holds no numbers"),
        (replaced(KERNEL, shape=(10, 4, 32), dtype="f4"), "layers that don't fit together"),
        (replaced(KERNEL, data=np.full((10, 3, 32), np.inf)), "weights that are no numbers"),
        (replaced(BIAS, shape=(0, 1), dtype="f4"), "layers that don't fit together"),
        (linked(KERNEL, h5py.ExternalLink("/dev/stdin", "x")), f"no {KERNEL}"),
        (linked("layers", h5py.SoftLink("/layers")), "no layers"),
        (lambda file: file.pop("layers"), "no layers"),
    ],
)
def test_weights_that_are_none_are_refused(change, found):
    data = changed(change)
    with at_most(64), pytest.raises(ValueError, match=found):
        read_ensemble(data, "silu", FEATURES)


@pytest.mark.parametrize(
    "config",
    [b"", b"[" * 9_999, b"[]", b"{}", b'{"config": 1}', b'{"config": {"layers": [1]}}', b'{"config": {"layers": []}}'],
)
def test_a_configuration_that_is_none_is_refused(config):
    with pytest.raises(ValueError, match=r"not JSON|lists no layers|its layers are none"):
        read_ensemble(packed(config=config), "silu", FEATURES)


def damaged(seed):
    """A model file with changed bytes in its weights, or in its archive."""
    chosen = random.Random(seed)
    make = packed if seed % 2 else plain
    content = bytearray(make() if seed % 4 == 0 else SAVED[WEIGHTS if seed % 2 else PLAIN])
    if seed % 5 == 0:
        del content[chosen.randrange(len(content)) :]
    for _ in range(chosen.choice([1, 2, 8])):
        place = chosen.choice(
            [chosen.randrange(len(content)), chosen.randrange(3_000)]
        )  # HDF5's own records come first
        content[place % len(content)] = chosen.choice([0, 255, chosen.randrange(256)])
    if seed % 4 == 0:
        return bytes(content)
    return packed(weights=bytes(content)) if seed % 2 else plain(bytes(content))


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_model_that_its_card_vouches_for_is_refused_in_a_sentence_or_predicts_numbers(tmp_path, seed):
    data = damaged(seed)
    path = tmp_path / "model.keras"
    path.write_bytes(data)
    card = json.loads(PRETRAINED.with_suffix(".json").read_text(encoding="utf-8"))
    card["keras_sha256"] = hashlib.sha256(data).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({**card, "card_sha256": card_sha256(card)}), encoding="utf-8")
    try:
        times = load_model(path).time_model.times([RunConfig(3, 32, 512), RunConfig(5, 128, 64)])
    except ValueError as error:
        assert "\n" not in str(error)
        assert len(str(error).replace(str(path), "")) < 300
    else:
        assert np.isfinite(times).all()
    shutil.rmtree(tmp_path)


def test_a_missing_package_is_no_fault_of_the_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match="h5py"):
        read_ensemble(packed(), "silu", FEATURES)


def test_training_does_not_begin_without_the_package_that_saves(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr(train, "train", None)
    monkeypatch.setattr(train, "load_agg", None)
    assert train.main(["--runs_agg", "none.csv"]) == 1
    assert "error: the package h5py is not installed" in capsys.readouterr().err
