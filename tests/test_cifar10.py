"""Every form of the images, the search for them, their cache, and what is said when something is wrong with them."""

from __future__ import annotations

import fcntl
import importlib.util
import io
import logging
import os
import pickle
import random
import shutil
import sys
import tarfile
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epochcast.schema import TRAIN_N
from workload import cifar10
from workload.cifar10 import load

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TRAIN_PER_CLASS = 3
N = len(CLASSES) * TRAIN_PER_CLASS


@pytest.fixture(autouse=True)
def isolated(request, monkeypatch, tmp_path):
    """No images but those of the test, and a cache of its own; tests of the reference data use the user's."""
    if "reference_data" in request.fixturenames:
        return
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("EPOCHCAST_REFERENCE_DATA", str(tmp_path / "reference"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("EPOCHCAST_DATA_DIR", raising=False)


def pixels_of(label, i):
    """An image that can be told from all others: its colours name its class and number."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :, 0], image[:, :, 1], image[:16, :, 2] = 20 * label, 40 * i, 200
    return image


def arrays(**changes):
    """A small set in the order of its classes, as x_train, y_train, x_test, y_test."""
    labels = np.arange(len(CLASSES), dtype=np.uint8)
    made = {
        "x_train": np.stack([pixels_of(label, i) for label in labels for i in range(TRAIN_PER_CLASS)]),
        "y_train": labels.repeat(TRAIN_PER_CLASS),
        "x_test": np.stack([pixels_of(label, 5) for label in labels]),
        "y_test": labels,
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def make_class_folders(folder, suffix="png", classes=CLASSES):
    for label, name in enumerate(classes):
        for split, numbers in (("train", range(TRAIN_PER_CLASS)), ("test", [5])):
            (folder / split / name).mkdir(parents=True)
            for i in numbers:
                Image.fromarray(pixels_of(label, i)).save(folder / split / name / f"{i:04}.{suffix}")
    return folder


class Python2Pickler(pickle._Pickler):  # the pure-Python one is the only one that can be taught to write old strings
    """Pickles bytes as Python 2 did, as the official batches are."""

    def save_old_string(self, value):
        self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_old_string}


def pickled(batch):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(batch)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def make_batches(folder, **changes):
    """The small set as an official folder; a keyword replaces a file's bytes, or removes the file if None."""
    folder.mkdir(parents=True)
    made = arrays()
    contents = {}
    for i in range(5):
        rows = made["x_train"][i::5].transpose(0, 3, 1, 2).reshape(-1, 3072)
        contents[f"data_batch_{i + 1}"] = pickled({b"data": rows, b"labels": made["y_train"][i::5].tolist()})
    rows = made["x_test"].transpose(0, 3, 1, 2).reshape(-1, 3072)
    contents["test_batch"] = pickled({b"data": rows, b"labels": made["y_test"].tolist()})
    for name, content in {**contents, "batches.meta": b"", "readme.html": b"", **changes}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def make_tar(path, folder, inside=""):
    """Pack what lies in `folder` below the name `inside`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = {".gz": "w:gz", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:
        for item in sorted(folder.iterdir()):
            tar.add(item, arcname=f"{inside}{item.name}")
    return path


def make_npz(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays(**changes))
    return path


def assert_is_the_small_set(images, name, is_jpeg=False):
    """All images are there, none twice, each with its own label and its own pixels."""
    assert images.name == name
    assert images.has_real_test_set
    expected = arrays()
    rows = np.r_[:12, 20:32] if is_jpeg else np.r_[:32]  # JPEG blurs the edge in the middle
    for x, y, split in ((images.x_train, images.y_train, "train"), (images.x_test, images.y_test, "test")):
        assert x.dtype == y.dtype == np.uint8
        assert y.shape == (len(x),)
        order = np.lexsort((x[:, 4, 4, 1] // 10, y))  # by class, then by number
        np.testing.assert_array_equal(y[order], expected[f"y_{split}"])
        found, wanted = x[order][:, rows].astype(int), expected[f"x_{split}"][:, rows].astype(int)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=4 if is_jpeg else 0)  # of 255, by its quantisation


def fail_to_download():
    raise AssertionError("started a download")


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG"])
def test_class_folders_are_read_with_labels_in_the_order_of_names(tmp_path, suffix):
    folder = make_class_folders(tmp_path / "images", suffix)
    images = load("auto", folder, N, seed=1)
    assert_is_the_small_set(images, "cifar10_images", is_jpeg=suffix != "png")
    assert images.origin == str(folder)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz", "no_suffix"])
@pytest.mark.parametrize("inside", ["", "./", "CIFAR-10-images-master/"])
def test_a_tar_of_class_folders_is_read_whatever_its_compression_and_leading_folder(tmp_path, name, inside):
    tar = make_tar(tmp_path / name, make_class_folders(tmp_path / "images"), inside)
    assert_is_the_small_set(load("cifar10", tar, N, seed=1), "cifar10_images")


def test_official_batches_are_read_from_a_folder_from_the_one_above_and_from_a_tar(tmp_path):
    folder = make_batches(tmp_path / "above" / "cifar-10-batches-py")
    for path in (folder, folder.parent, make_tar(tmp_path / "x.tar.gz", folder.parent)):
        assert_is_the_small_set(load("auto", path, N, seed=1), "cifar10")


def test_an_npz_is_read_with_labels_as_keras_has_them(tmp_path):
    path = make_npz(tmp_path / "x.npz", y_train=arrays()["y_train"].astype(np.int64)[:, None])
    assert_is_the_small_set(load("auto", path, N, seed=1), "cifar10_npz")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])  # a plain tar that ends in an .npz looks like a zip file
def test_an_npz_in_a_tar_is_read(tmp_path, name):
    tar = make_tar(tmp_path / name, make_npz(tmp_path / "in" / "x.npz").parent)
    assert_is_the_small_set(load("auto", tar, N, seed=1), "cifar10_npz")


def test_a_folder_with_a_readme_and_one_archive_is_read(tmp_path):
    folder = make_tar(tmp_path / "data" / "x.tar.xz", make_class_folders(tmp_path / "images")).parent
    (folder / "README.md").write_text("images")
    assert_is_the_small_set(load("auto", folder, N, seed=1), "cifar10_images")


def test_a_folder_with_two_archives_is_refused_naming_both(tmp_path):
    make_npz(tmp_path / "data" / "a.npz")
    make_npz(tmp_path / "data" / "b.npz")
    with pytest.raises(ValueError, match=r"found a\.npz, b\.npz"):
        load("auto", tmp_path / "data", N, seed=1)


def test_a_set_without_test_images_has_no_real_test_set(tmp_path):
    folder = make_class_folders(tmp_path / "images")
    shutil.rmtree(folder / "test")
    for path in (folder, make_npz(tmp_path / "x.npz", x_test=None, y_test=None)):
        for _ in range(2):  # read, then from the cache
            images = load("auto", path, N, seed=1)
            assert images.x_test is None
            assert not images.has_real_test_set


def test_grey_and_palette_images_are_taken_as_the_colours_they_are(tmp_path):
    folder = make_class_folders(tmp_path / "images")
    grey = Image.fromarray(np.full((32, 32), 77, np.uint8))
    grey.save(folder / "test" / "cat" / "0005.png")
    grey.convert("RGB").quantize(2).save(folder / "test" / "dog" / "0005.png")
    images = load("auto", folder, N, seed=1)
    for label in (CLASSES.index("cat"), CLASSES.index("dog")):
        assert (images.x_test[images.y_test == label] == 77).all()


def test_files_that_are_no_images_are_left_out_and_counted_and_hidden_ones_ignored(tmp_path, caplog):
    folder = make_class_folders(tmp_path / "images")
    (folder / "train" / "cat" / "notes.txt").write_text("meow")
    (folder / "train" / "cat" / "._0001.png").write_bytes(b"not an image")
    assert_is_the_small_set(load("auto", folder, N, seed=1), "cifar10_images")
    assert "left out 1 files" in caplog.text
    assert "train/cat/notes.txt" in caplog.text


def test_a_data_dir_that_does_not_exist_is_an_error_for_every_real_set(tmp_path, monkeypatch):
    for dataset in ("auto", "cifar10"):
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/nowhere: .*--data_dir.*cifar-10-batches-py"):
            load(dataset, tmp_path / "nowhere", N, seed=1)
    monkeypatch.setenv("EPOCHCAST_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="EPOCHCAST_DATA_DIR"):
        load("auto", None, N, seed=1)


def test_a_data_dir_of_no_known_form_is_an_error(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"data: no known form of CIFAR-10, found nothing\. Name a folder of train/"):
        load("auto", tmp_path / "data", N, seed=1)
    (tmp_path / "data" / "notes.txt").write_text("no images")
    with pytest.raises(ValueError, match=r"found notes\.txt"):
        load("auto", tmp_path / "data", N, seed=1)
    with pytest.raises(ValueError, match=r"notes\.txt: found neither an \.npz nor a tar"):
        load("auto", tmp_path / "data" / "notes.txt", N, seed=1)
    with pytest.raises(ValueError, match=r"no known form of CIFAR-10, found notes\.txt"):
        load("auto", make_tar(tmp_path / "x.tar", tmp_path / "data"), N, seed=1)


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


@pytest.fixture
def tar(tmp_path):
    return make_tar(tmp_path / "x.tar", make_class_folders(tmp_path / "images"))


def only_cache(tmp_path):
    (file,) = (tmp_path / "cache").glob("*.npz")
    return file


def test_images_are_decoded_once(tmp_path, tar, capsys):
    first = load("auto", tar, N, seed=1)
    assert "decoding images: 40/40" in capsys.readouterr().err
    before = tar.stat()
    tar.write_bytes(tar.read_bytes()[:2048] + bytes(before.st_size - 2048))  # no images left
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))  # and nobody can tell
    again = load("auto", tar, N, seed=1)
    assert capsys.readouterr().err == ""
    assert (again.name, again.origin) == (first.name, first.origin)
    for name in cifar10.ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_a_changed_source_is_decoded_again(tmp_path, tar):
    load("auto", tar, N, seed=1)
    os.utime(tar, ns=(0, 0))
    load("auto", tar, N, seed=1)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2
    folder = tmp_path / "images"
    load("auto", folder, N, seed=1)
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(folder / "test" / "cat" / "0005.png")
    images = load("auto", folder, N, seed=1)
    assert (images.x_test[images.y_test == CLASSES.index("cat")] == 99).all()


def test_the_cache_leaves_no_temporary_file_and_is_not_compressed(tmp_path, tar):
    load("auto", tar, N, seed=1)
    file = only_cache(tmp_path)
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([file.name, file.with_suffix(".lock").name])
    assert file.stat().st_size > 40 * 3072


def truncate(content):
    return content[: len(content) // 2]


def flip_a_pixel(content):
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize("damage", [truncate, flip_a_pixel, lambda content: b"", lambda content: b"garbage"])
def test_a_broken_cache_is_rebuilt_with_a_warning(tmp_path, tar, caplog, damage):
    load("auto", tar, N, seed=1)
    file = only_cache(tmp_path)
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert_is_the_small_set(load("auto", tar, N, seed=1), "cifar10_images")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{file}: the cached images are broken" in caplog.text
    caplog.clear()
    assert_is_the_small_set(load("auto", tar, N, seed=1), "cifar10_images")
    assert not caplog.records


def test_without_a_place_for_the_cache_images_are_decoded_in_memory_with_a_warning(tmp_path, tar, caplog, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert_is_the_small_set(load("auto", tar, N, seed=1), "cifar10_images")
    assert "cannot keep the decoded images" in caplog.text
    assert "EPOCHCAST_CACHE_DIR" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_a_warning(tmp_path, tar, caplog):
    load("auto", tar, N, seed=1)
    file = only_cache(tmp_path)
    file.unlink()
    file.with_suffix(".tmp").symlink_to("/dev/full")
    assert_is_the_small_set(load("auto", tar, N, seed=1), "cifar10_images")
    assert "cannot keep the decoded images (No space left on device)" in caplog.text
    assert not file.exists()


def test_a_second_process_waits_for_the_first_and_takes_its_images(tmp_path, tar, capsys):
    images = load("auto", tar, N, seed=1)
    file = only_cache(tmp_path)
    marked = {name: getattr(images, name).copy() for name in cifar10.ARRAYS}
    marked["x_train"][:] = 111  # only whoever takes these from the first process can see them
    file.unlink()
    capsys.readouterr()
    seen = []
    with file.with_suffix(".lock").open("wb") as lock:  # we are the first process
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: seen.append(load("auto", tar, N, seed=1)), daemon=True)
        second.start()
        said, deadline = "", time.monotonic() + 30
        while "waiting for another process" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
        assert "waiting for another process" in said
        np.savez(file, name=np.array(images.name), **marked)
    second.join(timeout=30)
    assert (seen[0].x_train == 111).all()
    assert "decoding" not in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_on_a_terminal_and_a_few_in_a_file(tmp_path, monkeypatch):
    folder = make_class_folders(tmp_path / "images")
    for stream in (Terminal(), io.StringIO()):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            load("auto", folder, N, seed=1)
        text = stream.getvalue()
        assert "decoding images: 40/40, 0 s left" in text
        if stream.isatty():
            assert text.count("\n") == 1
            assert text.count("\r") == 40
        else:
            assert [line.split(",")[0] for line in text.splitlines()] == [
                f"decoding images: {done}/40" for done in (8, 16, 24, 32, 40)
            ]


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil_was_here",)


def test_a_batch_that_would_run_a_program_is_refused_unrun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = pickled({b"data": Evil()})
    folder = make_batches(tmp_path / "cifar-10-batches-py", data_batch_2=evil)
    for path in (folder, make_tar(tmp_path / "x.tar.gz", folder)):
        with pytest.raises(ValueError, match=r"data_batch_2: not a CIFAR-10 batch .*refused to load posix\.system"):
            load("auto", path, N, seed=1)
    assert not (tmp_path / "evil_was_here").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_3", None, "data_batch_3 missing"),
        ("data_batch_1", None, "data_batch_1 missing"),
        ("test_batch", b"", r"test_batch: not a CIFAR-10 batch \(EOFError"),
        ("test_batch", pickled([1, 2]), "test_batch: not a CIFAR-10 batch"),
        (
            "test_batch",
            pickled({b"data": np.zeros((2, 3072), np.uint8)}),
            r"not a CIFAR-10 batch \(KeyError: b'labels'",
        ),
        ("test_batch", pickled({b"data": np.zeros((2, 99), np.uint8), b"labels": [0, 1]}), r"got shape \(2, 99\)"),
        ("test_batch", pickled({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}), "found 0 to 10"),
        ("test_batch", pickled({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}), "expected uint8 .* got float64"),
        ("test_batch", pickled({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}), "expected 2 whole-number"),
    ],
)
def test_broken_batches_are_one_error_that_names_the_file(tmp_path, name, content, message):
    folder = make_batches(tmp_path / "cifar-10-batches-py", **{name: content})
    with pytest.raises(ValueError, match=message) as caught:
        load("auto", folder, N, seed=1)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((2, 32, 32, 3), np.float32)}, r"training set: expected uint8 images .* got float32"),
        ({"x_train": np.zeros((N, 3, 32, 32), np.uint8)}, r"got uint8 \(30, 3, 32, 32\)"),
        ({"x_test": np.zeros((0, 32, 32, 3), np.uint8)}, r"test set: .* got uint8 \(0, 32, 32, 3\)"),
        ({"y_train": np.zeros(N - 1, np.uint8)}, r"expected 30 whole-number labels, got uint8 \(29,\)"),
        ({"y_test": np.zeros(10)}, r"test set: expected 10 whole-number labels, got float64"),
        ({"y_train": np.arange(N)}, "expected labels from 0 to 9, found 0 to 29"),
        ({"y_test": np.full(10, -1)}, "found -1 to -1"),
        ({"y_train": np.full(N, 256)}, "found 256 to 256"),
        ({"y_train": None}, "y_train missing"),
        ({"y_test": None}, "y_test missing"),
        ({"x_train": np.array([object()])}, "cannot be read"),
    ],
)
def test_a_wrong_npz_is_one_error_that_names_the_file(tmp_path, changes, message):
    path = make_npz(tmp_path / "x.npz", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load("auto", path, N, seed=1)
    assert str(path) in str(caught.value)


def png(array, mode=None):
    stream = io.BytesIO()
    Image.fromarray(array, mode).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded"),
        (b"not an image", "cannot be decoded"),
        (png(pixels_of(1, 1))[:-40], "cannot be decoded"),
        (png(np.zeros((32, 31, 3), np.uint8)), "expected a 32x32 RGB image, found 31x32 RGB"),
        (png(np.zeros((64, 64, 3), np.uint8)), "found 64x64 RGB"),
        (png(np.zeros((32, 32, 4), np.uint8)), "found 32x32 RGBA"),
        (png(np.zeros((32, 32), np.uint16)), "found 32x32 I;16"),
    ],
)
def test_a_wrong_image_is_one_error_that_names_the_file(tmp_path, content, message):
    folder = make_class_folders(tmp_path / "images")
    (folder / "train" / "cat" / "0001.png").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load("auto", folder, N, seed=1)
    assert f"{folder}/train/cat/0001.png" in str(caught.value)
    with pytest.raises(ValueError, match=rf"x\.tar/train/cat/0001\.png.*{message}"):
        load("auto", make_tar(tmp_path / "x.tar", folder), N, seed=1)
    assert not list((tmp_path / "cache").glob("*.npz"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_image_is_decoded_or_refused_but_never_another_error(kind):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(stream, kind)
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(stream.getvalue())
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        try:
            cifar10._decode(bytes(content), "a.png")
        except ValueError as error:
            assert str(error).startswith("a.png: expected a 32x32 RGB image")
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("extra", "missing", "message"),
    [
        ([], ["train/cat", "test/cat"], "found 9 in train/: airplane"),
        (["train/unicorn/1.png"], [], "found 11 in train/"),
        ([], ["test/cat"], "found 9 in test/: airplane"),
        (["test/unicorn/1.png"], ["test/cat"], "classes in train/ and test/, found 10 in train/"),
    ],
)
def test_classes_other_than_ten_in_both_halves_are_an_error(tmp_path, extra, missing, message):
    folder = make_class_folders(tmp_path / "images")
    for name in missing:
        shutil.rmtree(folder / name)
    for name in extra:
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(png(pixels_of(0, 0)))
    with pytest.raises(ValueError, match=message):
        load("auto", folder, N, seed=1)


def test_a_tar_with_two_sets_is_refused(tmp_path):
    for name in ("first", "second"):
        make_class_folders(tmp_path / "both" / name)
    with pytest.raises(ValueError, match="found several: in first, second"):
        load("auto", make_tar(tmp_path / "x.tar", tmp_path / "both"), N, seed=1)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz"])
def test_a_truncated_archive_is_one_error_that_names_it(tmp_path, name):
    path = make_tar(tmp_path / name, make_class_folders(tmp_path / "images"))
    path.write_bytes(truncate(path.read_bytes())[:-100])
    with pytest.raises(ValueError, match=rf"{path}: (the archive is broken|found neither)"):
        load("auto", path, N, seed=1)


def test_nothing_in_a_tar_reaches_the_disk(tmp_path):
    folder = make_class_folders(tmp_path / "images")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "train", "train")
        tar.add(folder / "test", "test")
        for name in ("../../escaped.png", "/escaped.png", "../train/cat/escaped.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("train/cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    assert_is_the_small_set(load("auto", path, N, seed=1), "cifar10_images")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "cache" not in path.parts] == []


def test_synthetic_images_have_the_shapes_of_the_real_ones_and_no_real_test_set():
    images = load("synthetic", None, TRAIN_N, seed=1)
    assert images.name == "synthetic"
    assert not images.has_real_test_set
    assert (images.x_train.shape, images.x_train.dtype) == ((50_000, 32, 32, 3), np.uint8)
    assert (images.x_test.shape, images.y_test.shape) == ((10_000, 32, 32, 3), (10_000,))
    assert np.bincount(images.y_train, minlength=10).min() > 4_500  # each is drawn with chance 1/10: sd 67


def test_synthetic_images_depend_on_the_seed_alone():
    first, again, other, longer = (
        load("synthetic", None, n, seed) for n, seed in ((300, 1), (300, 1), (300, 2), (6000, 1))
    )
    for name in cifar10.ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    np.testing.assert_array_equal(first.x_train, longer.x_train[:300])
    np.testing.assert_array_equal(first.y_train, longer.y_train[:300])
    assert not np.array_equal(first.x_train, first.x_test[:300])


@pytest.mark.parametrize("train_n", [0, TRAIN_N + 1])
def test_synthetic_images_number_at_most_those_of_cifar10(train_n):
    with pytest.raises(ValueError, match=rf"between 1 and \d+, .*synthetic set of seed 1, got {train_n}"):
        load("synthetic", None, train_n, seed=1)


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


def test_auto_finds_the_reference_images(reference_data, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("EPOCHCAST_DATA_DIR", raising=False)
    assert load("auto", None, 100, seed=1).origin.startswith(str(reference_data))
