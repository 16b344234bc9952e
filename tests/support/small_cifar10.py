"""Forty images in every form that CIFAR-10 comes in, for the tests of those who read them."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
from PIL import Image

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TRAIN_PER_CLASS = 3
N = len(CLASSES) * TRAIN_PER_CLASS


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
