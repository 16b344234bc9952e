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
from epochcast.model.time_model.network_file import CONFIG, WEIGHTS, read_ensemble
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig
from tests.support.peaks import at_most

PRETRAINED = pretrained_dir() / "a100.keras"
FEATURES = 3
with zipfile.ZipFile(PRETRAINED) as _archive:
    SAVED = {name: _archive.read(name) for name in (CONFIG, WEIGHTS)}


def packed(config=SAVED[CONFIG], weights=SAVED[WEIGHTS]):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CONFIG, config)
        archive.writestr(WEIGHTS, weights)
    return file.getvalue()


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
    content = bytearray(packed() if seed % 4 == 0 else SAVED[WEIGHTS])
    if seed % 5 == 0:
        del content[chosen.randrange(len(content)) :]
    for _ in range(chosen.choice([1, 2, 8])):
        place = chosen.choice(
            [chosen.randrange(len(content)), chosen.randrange(3_000)]
        )  # HDF5's own records come first
        content[place % len(content)] = chosen.choice([0, 255, chosen.randrange(256)])
    return bytes(content) if seed % 4 == 0 else packed(weights=bytes(content))


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
        load_model(pretrained_dir() / "a100.keras")


def test_training_does_not_begin_without_the_package_that_saves(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr(train, "train", None)
    monkeypatch.setattr(train, "load_agg", None)
    assert train.main(["--runs_agg", "none.csv"]) == 1
    assert "error: the package h5py is not installed" in capsys.readouterr().err
