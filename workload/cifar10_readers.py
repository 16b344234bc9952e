"""The forms that CIFAR-10 comes in: official batches, images in class folders, an .npz, or a tar of one of these.

They come sorted by class, and any first part of them must hold every class, so they are shuffled as they are read. A
folder of batches and an .npz are read straight; image files and tars are decoded once and kept in the cache.
"""

from __future__ import annotations

import errno
import io
import logging
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from epochcast.output.progress import progress
from epochcast.storage.files import open_regular, read_bytes
from epochcast.workload.batch_pickles import read_batch
from epochcast.workload.dataset import (
    IMAGE_SHAPE,
    MIB,
    Dataset,
    Images,
    check_images,
    make_dataset,
    most_unpacked,
    read_arrays,
    shuffle,
)
from epochcast.workload.image_cache import decode_once
from epochcast.workload.shape import CHANNELS, CLASSES, IMAGE_SIZE
from epochcast.workload.tar_files import is_tar, read_tar

Files = Mapping[str, bytes | Path]  # relative name: content, or where it is

BATCHES_FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_BATCH = "test_batch"
BATCHES = (*TRAIN_BATCHES, TEST_BATCH)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
ARCHIVE_SUFFIXES = (".npz", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
KNOWN_FORMS = (
    "a folder of train/CLASS/*.jpg or *.png (and test/CLASS/...) with ten classes, a cifar-10-batches-py folder, "
    "an .npz (x_train, y_train, x_test, y_test), a tar (plain, gz, xz) of one of these, or a folder with one such file"
)

logger = logging.getLogger(__name__)


def read_dataset(path: Path) -> Dataset:
    """The images at `path`, shuffled.

    Raises:
        ValueError: if `path` holds no known form, or broken images.
    """
    try:
        source = locate_images(path).resolve()
    except RuntimeError:  # pathlib's, of links that lead back to themselves
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    if source.is_dir():
        files = _list_folder(source)
        if TRAIN_BATCHES[0] in files:
            return shuffle(_read_files(files, str(source)))
        stamps = [(name, file.stat()) for name, file in files.items()]
        return decode_once(source, stamps, lambda: shuffle(_read_files(files, str(source))))
    with open_regular(source) as stream:
        most = most_unpacked(stream)
        if not is_tar(stream):  # asked first: a plain tar that ends in an .npz looks like a zip file
            stream.seek(0)
            if zipfile.is_zipfile(stream):
                return shuffle(_read_npz(stream, str(source)))
            raise ValueError(
                f"{source}: found neither an .npz nor a tar (plain, gz, xz); it may be cut short. Copy it again."
            )
    stamps = [(source.name, source.stat())]
    return decode_once(source, stamps, lambda: shuffle(_read_files(read_tar(source, _is_useful), str(source), most)))


def locate_images(path: Path) -> Path:
    """The folder of images, the folder of batches, or the file that `path` is or holds."""
    if not path.is_dir() or (path / "train").is_dir() or any((path / name).is_file() for name in TRAIN_BATCHES):
        return path
    if (path / BATCHES_FOLDER).is_dir():
        return path / BATCHES_FOLDER
    names = sorted(file.name for file in path.iterdir())
    archives = [name for name in names if name.lower().endswith(ARCHIVE_SUFFIXES)]
    if len(archives) == 1:
        return path / archives[0]
    raise ValueError(f"{path}: no known form of CIFAR-10, found {_some(archives or names)}. Name {KNOWN_FORMS}.")


def _list_folder(folder: Path) -> dict[str, Path]:
    """The files in a folder that may matter, by relative name.

    Raises:
        ValueError: if an image is no file: a link to nothing, for one, which must not go missing unsaid.
    """
    files = [folder / name for name in BATCHES]
    files += [file for split in ("train", "test") for file in sorted((folder / split).glob("*/*"))]
    found = {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "." and not file.is_file() and not file.is_dir():
            raise ValueError(f"{file}: a link to nothing, or a pipe, expected an image. Replace or remove it.")
    return found


def _is_useful(name: PurePosixPath) -> bool:
    return name.suffix.lower() in (*IMAGE_SUFFIXES, ".npz") or name.name in BATCHES


def _read_files(files: Files, origin: str, most_bytes: float = math.inf) -> Dataset:
    """The set that these files are: batches, images in class folders, or one .npz; pixels take `most_bytes`."""
    paths = [path for name in files if not (path := PurePosixPath(name)).name.startswith(".")]
    batches = {path.name: path.as_posix() for path in paths if path.name in BATCHES}
    in_classes = [path for path in paths if path.parts[-3:-2] in (("train",), ("test",))]
    images = [path for path in in_classes if path.suffix.lower() in IMAGE_SUFFIXES]
    arrays = [path.as_posix() for path in paths if path.suffix == ".npz"]
    if batches:
        return _read_batches(files, batches, origin)
    if images:
        if others := sorted(str(path) for path in set(in_classes).difference(images)):
            logger.warning("%s: left out %d files that are no .jpg or .png: %s", origin, len(others), _some(others))
        if (size := len(images) * math.prod(IMAGE_SHAPE)) > most_bytes:
            raise ValueError(f"{origin}: its {len(images)} images take {size // MIB} MiB. Put them into a folder.")
        return _read_images(files, images, origin)
    if len(arrays) == 1:
        return _read_npz(io.BytesIO(_content(files, arrays[0])), f"{origin}/{arrays[0]}")
    raise ValueError(f"{origin}: no known form of CIFAR-10, found {_some(sorted(files))}. Name {KNOWN_FORMS}.")


def _content(files: Files, name: str) -> bytes:
    content = files[name]
    return content if isinstance(content, bytes) else read_bytes(content)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"


def _read_images(files: Files, paths: Sequence[PurePosixPath], origin: str) -> Dataset:
    """Decode images in folders SPLIT/CLASS, below one leading folder or none; the sorted classes are the labels."""
    if len(roots := {path.parts[:-3] for path in paths}) > 1:
        found = _some(sorted("/".join(root) or "its top" for root in roots))
        raise ValueError(f"{origin}: expected one set of images, found several: in {found}. Leave one.")
    classes = sorted({path.parts[-2] for path in paths})
    for split in ("train", "test"):
        present = sorted({path.parts[-2] for path in paths if path.parts[-3] == split})
        if (present or split == "train") and (len(present) != CLASSES or present != classes):
            raise ValueError(
                f"{origin}: expected images of the same {CLASSES} classes in train/ and test/, found {len(present)} in "
                f"{split}/: {', '.join(present) or 'none'}. Add the missing class folders, or remove the others."
            )
    ordered = sorted(paths, key=lambda path: (path.parts[-3] != "train", path))
    pixels = np.empty((len(ordered), *IMAGE_SHAPE), np.uint8)
    say = progress("decoding images", len(ordered))
    for i, path in enumerate(ordered):
        pixels[i] = decode_image(_content(files, path.as_posix()), f"{origin}/{path}")
        say((i + 1) / len(ordered))
    labels = np.array([classes.index(path.parts[-2]) for path in ordered], np.uint8)
    n = sum(path.parts[-3] == "train" for path in ordered)
    arrays = {"x_train": pixels[:n], "y_train": labels[:n]}
    if n < len(ordered):
        arrays |= {"x_test": pixels[n:], "y_test": labels[n:]}
    return make_dataset("cifar10_images", arrays, origin)


def decode_image(content: bytes, where: str) -> Images:
    """The pixels (32, 32, 3) of a JPEG or PNG, grey and palette images as the colours they are.

    Raises:
        ValueError: if it is broken, of another size, or would lose something.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.size == (IMAGE_SIZE, IMAGE_SIZE) and image.mode in ("RGB", "L", "P"):  # the last two lose nothing
                return np.asarray(image.convert("RGB"))
            found = f"found {image.size[0]}x{image.size[1]} {image.mode}"
    except Exception as error:  # a broken image can raise anything
        found = f"it cannot be decoded ({error})"
    raise ValueError(f"{where}: expected a {IMAGE_SIZE}x{IMAGE_SIZE} RGB image, {found}. Replace or remove the file.")


def _read_batches(files: Files, names: Mapping[str, str], origin: str) -> Dataset:
    """The official binaries: six pickles of rows with 1,024 red, green, then blue values; `names` are their names."""
    parts = {}
    if missing := [name for name in BATCHES if name not in names]:
        raise ValueError(f"{origin}: expected six batches, {', '.join(missing)} missing. Unpack the archive again.")
    for name in BATCHES:
        where = f"{origin}/{names[name]}"
        try:
            pixels, labels = read_batch(_content(files, names[name]))
        except Exception as error:  # a broken pickle can raise anything
            remedy = "Use the official file, or image files."
            raise ValueError(f"{where}: not a CIFAR-10 batch ({type(error).__name__}: {error}). {remedy}") from error
        if pixels.ndim != 2 or pixels.shape[1] != IMAGE_SIZE * IMAGE_SIZE * CHANNELS:
            raise ValueError(f"{where}: expected rows of 3,072 pixels, got shape {pixels.shape}. Unpack it again.")
        pixels = pixels.reshape(-1, CHANNELS, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)
        parts[name] = check_images(pixels, labels, where)
    x_train, y_train = (np.concatenate([parts[name][i] for name in TRAIN_BATCHES]) for i in (0, 1))
    x_test, y_test = parts[TEST_BATCH]
    return Dataset("cifar10", x_train, y_train, x_test, y_test, origin)


def _read_npz(stream: IO[bytes], origin: str) -> Dataset:
    try:
        arrays = read_arrays(stream)
    except ValueError as error:
        raise ValueError(
            f"{origin}: the .npz cannot be read ({error}). Copy it again, or make it by numpy.savez."
        ) from error
    return make_dataset("cifar10_npz", arrays, origin)
