"""The set of images that a run trains on: its arrays, what is checked of them, and the one order they come in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from epochcast.storage.archives import check_member, open_archive
from epochcast.workload.shape import CHANNELS, CLASSES, IMAGE_SIZE

Images = npt.NDArray[np.uint8]

IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, CHANNELS)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MIB = 1 << 20
LEAST_UNPACKED = 256 * MIB  # CIFAR-10 takes 176 MiB, as a tar of image files 205
UNPACKED_RATIO = 8  # bytes of images for one on the disk, at most
ORDER_SEED = 10  # of the one permutation of the images; a part of every cache's name


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images (n, 32, 32, 3) and labels (n,) 0-9, all uint8. `name` is the column `dataset` of our tables."""

    name: str  # cifar10 (official binaries) | cifar10_images (decoded files) | cifar10_npz | synthetic
    x_train: Images
    y_train: Images
    x_test: Images | None
    y_test: Images | None
    origin: str  # path, or how it was made

    @property
    def has_real_test_set(self) -> bool:
        """Whether an accuracy on `x_test` means something."""
        return self.name != "synthetic" and self.x_test is not None


def make_dataset(name: str, arrays: Mapping[str, npt.NDArray[Any]], origin: str) -> Dataset:  # Any: not checked yet
    """The set in these arrays; the test images may be missing.

    Raises:
        ValueError: if other arrays are missing, or `check_images` refuses them.
    """
    has_test = "x_test" in arrays or "y_test" in arrays
    if missing := [name for name in ARRAYS[: 4 if has_test else 2] if name not in arrays]:
        raise ValueError(f"{origin}: expected the arrays {', '.join(ARRAYS)}, {', '.join(missing)} missing. Add them.")
    x_train, y_train = check_images(arrays["x_train"], arrays["y_train"], f"{origin}, training set")
    x_test, y_test = (
        check_images(arrays["x_test"], arrays["y_test"], f"{origin}, test set") if has_test else (None, None)
    )
    return Dataset(name, x_train, y_train, x_test, y_test, origin)


def check_images(x: npt.NDArray[Any], y: npt.NDArray[Any], where: str) -> tuple[Images, Images]:  # Any: what it checks
    """Images and labels in the shapes and types of `Dataset`; labels may come as (n, 1) and as any whole numbers.

    Raises:
        ValueError: if they are anything else; the message begins with `where`.
    """
    if x.dtype != np.uint8 or x.shape[1:] != IMAGE_SHAPE or len(x) == 0:
        raise ValueError(
            f"{where}: expected uint8 images of shape (n, 32, 32, 3), got {x.dtype} {x.shape}. Convert them."
        )
    if y.dtype.kind not in "iu" or y.shape not in ((len(x),), (len(x), 1)):
        raise ValueError(f"{where}: expected {len(x)} whole-number labels, got {y.dtype} {y.shape}. Convert them.")
    if y.min() < 0 or y.max() >= CLASSES:
        raise ValueError(
            f"{where}: expected labels from 0 to {CLASSES - 1}, found {y.min()} to {y.max()}. Correct them."
        )
    return np.ascontiguousarray(x), y.reshape(-1).astype(np.uint8)


def most_unpacked(stream: IO[bytes]) -> int:
    """Bytes that a file may unpack to: a small one of a set as large as CIFAR-10, a large one of more."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return max(LEAST_UNPACKED, UNPACKED_RATIO * size)


def read_arrays(stream: IO[bytes]) -> dict[str, npt.NDArray[Any]]:  # Any: not checked yet
    """The arrays of ours in an .npz, read to their ends, where zip checks its sums.

    The caller opens the file: NumPy leaves one open that it cannot read.

    Raises:
        ValueError: if it cannot be read, or unpacks to more than `most_unpacked`; the message is the bare reason.
    """
    try:
        most = most_unpacked(stream)
        with open_archive(stream) as archive:
            members = set(archive.namelist())
            for name in (*ARRAYS, "name"):
                if f"{name}.npy" in members:
                    most -= check_member(archive, f"{name}.npy", most).file_size
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (*ARRAYS, "name") if name in arrays}
    except Exception as error:  # NumPy and zipfile raise many kinds for a broken file
        raise ValueError(str(error) or type(error).__name__) from error


def shuffle(images: Dataset) -> Dataset:
    """The same set, its training and its test images each in one fixed random order."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(images.x_train))
    images = replace(images, x_train=images.x_train[order], y_train=images.y_train[order])
    if images.x_test is None or images.y_test is None:
        return images
    order = np.random.default_rng(ORDER_SEED).permutation(len(images.x_test))
    return replace(images, x_test=images.x_test[order], y_test=images.y_test[order])
