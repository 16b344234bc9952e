"""The search for the images, their download, the synthetic ones instead, and how many of them a run gets."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from epochcast.schema import TRAIN_N
from epochcast.workload import cifar10
from epochcast.workload.cifar10 import find_images, load
from tests.support.small_cifar10 import (
    CLASSES,
    TRAIN_PER_CLASS,
    N,
    assert_is_the_small_set,
    make_batches,
    make_class_folders,
    make_npz,
    make_tar,
)


@pytest.fixture(autouse=True)
def isolated(request, monkeypatch, tmp_path):
    """No images but those of the test, and a cache of its own; tests of the reference data use the user's."""
    if "reference_data" in request.fixturenames:
        return
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("EPOCHCAST_REFERENCE_DATA", str(tmp_path / "reference"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("EPOCHCAST_DATA_DIR", raising=False)


def fail_to_download():
    raise AssertionError("started a download")


def test_a_data_dir_that_does_not_exist_is_an_error_for_every_real_set(tmp_path, monkeypatch):
    for dataset in ("auto", "cifar10"):
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/nowhere: .*--data_dir.*cifar-10-batches-py"):
            load(dataset, tmp_path / "nowhere", N, seed=1)
    monkeypatch.setenv("EPOCHCAST_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="EPOCHCAST_DATA_DIR"):
        load("auto", None, N, seed=1)


def test_an_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="auto, cifar10, synthetic, got 'mnist'"):
        load("mnist", None, N, seed=1)


def test_places_are_searched_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "_download", fail_to_download)
    reference = make_npz(tmp_path / "reference" / "cifar10" / "x.npz")
    datasets = tmp_path / "keras" / "datasets"
    places = [reference]
    assert load("auto", None, N, seed=1).origin == str(reference)
    folder = make_batches(tmp_path / "unpacked" / "cifar-10-batches-py")
    for name in ("cifar-10-python.tar.gz", "cifar-10-batches-py.tar.gz", "cifar-10-batches-py-target_archive"):
        places.append(make_tar(datasets / name, folder.parent))
    for name in ("cifar-10-batches-py-target/cifar-10-batches-py", "cifar-10-batches-py"):
        shutil.copytree(folder, datasets / name)
        places.append(datasets / name)
    for place in reversed(places):
        for dataset in ("auto", "cifar10"):
            assert load(dataset, None, N, seed=1).origin == str(place)
        chosen = make_npz(tmp_path / "chosen.npz")
        assert load("auto", chosen, N, seed=1).origin == str(chosen)
        shutil.rmtree(place) if place.is_dir() else place.unlink()


def test_a_half_unpacked_keras_copy_is_passed_over(tmp_path):
    make_batches(tmp_path / "keras" / "datasets" / "cifar-10-batches-py", data_batch_4=None)
    assert load("auto", None, N, seed=1).name == "synthetic"


def test_the_environment_names_the_images_unless_the_command_does(tmp_path, monkeypatch):
    by_environment, by_command = make_npz(tmp_path / "a.npz"), make_npz(tmp_path / "b.npz")
    monkeypatch.setenv("EPOCHCAST_DATA_DIR", str(by_environment))
    assert load("auto", None, N, seed=1).origin == str(by_environment)
    assert load("auto", by_command, N, seed=1).origin == str(by_command)
    assert load("synthetic", None, N, seed=1).name == "synthetic"


def test_auto_without_images_warns_how_to_get_them_and_never_downloads(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cifar10, "_download", fail_to_download)
    images = load("auto", None, 100, seed=1)
    assert (images.name, images.has_real_test_set) == ("synthetic", False)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    for words in (
        str(tmp_path / "keras"),
        str(tmp_path / "reference"),
        "--data_dir PATH",
        "--dataset cifar10",
        "170 MB",
    ):
        assert words in caplog.text
    caplog.clear()
    load("synthetic", None, 100, seed=1)
    assert not caplog.records


def fake_keras(monkeypatch, get_file):
    keras = types.ModuleType("keras")
    keras.utils = types.SimpleNamespace(get_file=get_file)
    monkeypatch.setitem(sys.modules, "keras", keras)


def test_cifar10_without_images_downloads_into_the_folder_of_keras(tmp_path, monkeypatch, capsys):
    def get_file(name, origin, *, file_hash, hash_algorithm, extract):
        assert "about 170 MB" in capsys.readouterr().err  # said before it starts
        assert (hash_algorithm, extract) == ("sha256", True)
        source = (Path(real_keras).parent / "src" / "datasets" / "cifar10.py").read_text()
        assert all(f'"{used}"' in source for used in (name, origin, file_hash))  # as Keras itself does
        print("progress of Keras")
        return str(make_batches(tmp_path / "keras" / "datasets" / name / "cifar-10-batches-py").parent)

    real_keras = importlib.util.find_spec("keras").origin
    fake_keras(monkeypatch, get_file)
    assert_is_the_small_set(load("cifar10", None, N, seed=1), "cifar10")
    assert capsys.readouterr().out == ""
    fake_keras(monkeypatch, None)
    assert_is_the_small_set(load("cifar10", None, N, seed=1), "cifar10")


def test_a_failed_download_is_one_error_that_names_data_dir(monkeypatch):
    def get_file(*args, **kwargs):
        raise Exception("URL fetch failure on https://x: None -- no route to host")

    fake_keras(monkeypatch, get_file)
    with pytest.raises(
        ConnectionError, match=r"download failed \(URL fetch failure.*no route to host.*--data_dir PATH"
    ):
        load("cifar10", None, N, seed=1)


def test_any_first_part_of_a_sorted_archive_is_mixed_and_does_not_depend_on_its_length(tmp_path):
    tar = make_tar(tmp_path / "x.tar", make_class_folders(tmp_path / "images"))
    all_images = load("auto", tar, N, seed=1)
    assert sorted(all_images.y_train) != all_images.y_train.tolist()
    assert len(set(all_images.y_train[:10])) > 10 / TRAIN_PER_CLASS + 1  # unmixed, ten images hold four classes
    for train_n, seed in ((1, 1), (10, 2), (N, 3)):
        some = load("auto", tar, train_n, seed)
        np.testing.assert_array_equal(some.x_train, all_images.x_train[:train_n])
        np.testing.assert_array_equal(some.y_train, all_images.y_train[:train_n])
        assert len(some.x_test) == len(CLASSES)


@pytest.mark.parametrize("train_n", [0, N + 1])
def test_more_images_than_there_are_is_an_error_that_says_how_many(tmp_path, train_n):
    path = make_npz(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=rf"between 1 and {N}, .*{path}, got {train_n}"):
        load("auto", path, train_n, seed=1)


@pytest.mark.parametrize("train_n", [0, TRAIN_N + 1])
def test_synthetic_images_number_at_most_those_of_cifar10(train_n):
    with pytest.raises(ValueError, match=rf"between 1 and \d+, .*synthetic set of seed 1, got {train_n}"):
        load("synthetic", None, train_n, seed=1)


@pytest.mark.slow
def test_the_reference_images_are_whole_and_mixed(reference_data):
    images = load("cifar10", reference_data / "cifar10", TRAIN_N, seed=1)
    assert images.name == "cifar10_images"
    assert images.has_real_test_set
    assert np.bincount(images.y_train).tolist() == [5_000] * 10
    assert np.bincount(images.y_test).tolist() == [1_000] * 10
    means = images.x_train.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.49125, 0.48209, 0.44652], atol=1e-5)  # as its README states, to five digits
    for labels in (images.y_train[:1000], images.y_test[:1000]):
        assert np.bincount(labels, minlength=10).min() > 60  # 100 expected, sd 9.5


def test_a_few_reference_images_are_whole_and_mixed(few_real_images, monkeypatch, tmp_path):
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "cache"))
    images = load("cifar10", few_real_images, 1_000, seed=1)
    assert images.name == "cifar10_images"
    assert images.has_real_test_set
    assert np.bincount(images.y_train).tolist() == [100] * 10
    assert np.bincount(images.y_test).tolist() == [20] * 10
    means = images.x_train.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.49125, 0.48209, 0.44652], atol=0.02)  # of all; sd 0.005 of 1,000 images
    assert np.bincount(images.y_train[:300], minlength=10).min() > 10  # 30 expected, sd 4.3
    assert np.bincount(images.y_test[:100], minlength=10).min() > 1  # 10 expected, sd 2.1


def test_auto_finds_the_reference_images(reference_data, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("EPOCHCAST_DATA_DIR", raising=False)
    assert str(find_images(None)).startswith(str(reference_data))
