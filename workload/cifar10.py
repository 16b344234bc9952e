"""The images for a run: real CIFAR-10 where it lies or downloaded, else a synthetic set of the same shapes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

from epochcast.paths import reference_data
from epochcast.schema import SPEC_CHOICES
from epochcast.workload.cifar10_readers import BATCHES, BATCHES_FOLDER, KNOWN_FORMS, read_dataset
from epochcast.workload.dataset import Dataset
from epochcast.workload.synthetic import make_synthetic

ORIGIN_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ORIGIN_MB = 170
ORIGIN_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"  # as in keras.datasets.cifar10

logger = logging.getLogger(__name__)


def load(dataset: str, data_dir: Path | None, train_n: int, seed: int) -> Dataset:
    """The first `train_n` training images, and all test images, of the set asked for.

    `auto` takes `data_dir` (else $EPOCHCAST_DATA_DIR), else the copy that Keras keeps, else the reference data, else
    the synthetic set, with a warning; `cifar10` takes the same, but downloads instead of making a set up;
    `synthetic` looks nowhere. Only the synthetic set depends on `seed`.

    Raises:
        FileNotFoundError: if `data_dir` does not exist.
        ConnectionError: if the download fails.
        ValueError: if `data_dir` holds no known form or broken images, or fewer than `train_n` of them.
    """
    if dataset not in SPEC_CHOICES["dataset"]:
        raise ValueError(f"dataset must be one of {', '.join(SPEC_CHOICES['dataset'])}, got {dataset!r}.")
    path = None if dataset == "synthetic" else find_images(data_dir)
    if path is None and dataset == "cifar10":
        path = _download()
    if path is not None:
        found = read_dataset(path)
        logger.info("%d training images (%s) from %s", len(found.x_train), found.name, found.origin)
    else:
        if dataset == "auto":
            logger.warning(
                "no CIFAR-10 in %s or %s: training on synthetic images, without a test accuracy. For real ones pass "
                "--data_dir PATH, or --dataset cifar10 (downloads %d MB).",
                _keras_datasets(),
                reference_data() / "cifar10",
                ORIGIN_MB,
            )
        found = make_synthetic(train_n, seed)
    if not 1 <= train_n <= len(found.x_train):
        n = len(found.x_train)
        raise ValueError(f"train_n must be between 1 and {n}, the training images of {found.origin}, got {train_n}.")
    return replace(found, x_train=found.x_train[:train_n], y_train=found.y_train[:train_n])


def find_images(data_dir: Path | None) -> Path | None:
    """Where real images lie: the user's choice, which must exist, else the first known place that has some."""
    if chosen := data_dir or os.environ.get("EPOCHCAST_DATA_DIR"):
        path = Path(chosen).expanduser().absolute()
        if not path.exists():
            whence = "--data_dir" if data_dir else "$EPOCHCAST_DATA_DIR"
            raise FileNotFoundError(f"{path}: no such file or folder ({whence}). Name {KNOWN_FORMS}.")
        return path
    keras = _keras_datasets()
    for folder in (keras / BATCHES_FOLDER, keras / f"{BATCHES_FOLDER}-target" / BATCHES_FOLDER):
        if all((folder / name).is_file() for name in BATCHES):  # not half unpacked
            return folder
    archives = (f"{BATCHES_FOLDER}-target_archive", f"{BATCHES_FOLDER}.tar.gz", "cifar-10-python.tar.gz")
    places = (*(keras / name for name in archives), reference_data() / "cifar10")
    return next((place for place in places if place.exists()), None)


def _keras_datasets() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / "datasets"


def _download() -> Path:
    """Fetch the official archive into Keras's own folder, where Keras finds it too, and return the unpacked batches."""
    import keras

    sys.stderr.write(f"downloading CIFAR-10, about {ORIGIN_MB} MB, from {ORIGIN_URL}\n")
    timeout_sec = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)  # else a silent server holds us for ever
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress among the answers
            folder = keras.utils.get_file(
                f"{BATCHES_FOLDER}-target", ORIGIN_URL, file_hash=ORIGIN_SHA256, hash_algorithm="sha256", extract=True
            )
    except Exception as error:  # Keras raises a plain Exception where the network fails
        raise ConnectionError(
            f"{ORIGIN_URL}: the download failed ({error}). Fetch CIFAR-10 where there is a network and pass "
            f"--data_dir PATH: {KNOWN_FORMS}."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_sec)
    return Path(folder) / BATCHES_FOLDER
