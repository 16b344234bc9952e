"""The images: real CIFAR-10 in whatever form it lies at hand, else a seeded synthetic set of the same shapes.

Image files and archives are decoded once, shuffled once (they come sorted by class, and any first part of them must
hold every class) and kept as an uncompressed .npz in the cache folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import logging
import lzma
import os
import pickle
import socket
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from epochcast.paths import cache_dir, reference_data
from epochcast.schema import SPEC_CHOICES, TEST_N, TRAIN_N
from workload.shape import CHANNELS, CLASSES, IMAGE_SIZE

T = TypeVar("T")
Images = npt.NDArray[np.uint8]
Files = Mapping[str, bytes | Path]  # relative name: content, or where it is

IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, CHANNELS)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NPZ_ERRORS = (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error)  # of reading a broken one
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
ORIGIN_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ORIGIN_MB = 170
ORIGIN_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"  # as in keras.datasets.cifar10
ORDER_SEED = 10  # of the one permutation of the images; a part of every cache's name
CACHE_VERSION = 1

logger = logging.getLogger(__name__)


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
    path = None if dataset == "synthetic" else _find(data_dir)
    if path is None and dataset == "cifar10":
        path = _download()
    if path is not None:
        found = _load_path(path)
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
        found = _synthetic(train_n, seed)
    if not 1 <= train_n <= len(found.x_train):
        n = len(found.x_train)
        raise ValueError(f"train_n must be between 1 and {n}, the training images of {found.origin}, got {train_n}.")
    return replace(found, x_train=found.x_train[:train_n], y_train=found.y_train[:train_n])


def _find(data_dir: Path | None) -> Path | None:
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

    _say(f"downloading CIFAR-10, about {ORIGIN_MB} MB, from {ORIGIN_URL}")
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


def _load_path(path: Path) -> Dataset:
    """The images at `path`, shuffled: read straight from batches and .npz, through the cache from all else."""
    source = _locate(path).resolve()
    if source.is_dir():
        files = _list_folder(source)
        if TRAIN_BATCHES[0] in files:
            return _shuffled(_read_files(files, str(source)))
        stamps = [(name, file.stat()) for name, file in files.items()]
        return _decode_once(source, stamps, lambda: _shuffled(_read_files(files, str(source))))
    if tarfile.is_tarfile(source):  # asked first: a plain tar that ends in an .npz looks like a zip file
        stamps = [(source.name, source.stat())]
        return _decode_once(source, stamps, lambda: _shuffled(_read_files(_read_tar(source), str(source))))
    if zipfile.is_zipfile(source):
        with source.open("rb") as stream:
            return _shuffled(_read_npz(stream, str(source)))
    raise ValueError(f"{source}: found neither an .npz nor a tar (plain, gz, xz); it may be cut short. Copy it again.")


def _locate(path: Path) -> Path:
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
    """The files in a folder that may matter, by relative name."""
    files = [folder / name for name in BATCHES]
    files += [file for split in ("train", "test") for file in sorted((folder / split).glob("*/*"))]
    return {file.relative_to(folder).as_posix(): file for file in files if file.is_file()}


def _read_tar(path: Path) -> dict[str, bytes]:
    """The regular files of a tar, in memory: nothing in it can reach the disk. Files of no use to us come empty."""
    _say(f"reading {path}")
    files = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)):
                    name = PurePosixPath(member.name)
                    is_useful = name.suffix.lower() in (*IMAGE_SUFFIXES, ".npz") or name.name in BATCHES
                    files[name.as_posix()] = file.read() if is_useful else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path}: the archive is broken ({error}). Delete it, then fetch it again.") from error
    return files


def _read_files(files: Files, origin: str) -> Dataset:
    """The set that these files are: batches, images in class folders, or one .npz."""
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
        return _read_images(files, images, origin)
    if len(arrays) == 1:
        return _read_npz(io.BytesIO(_content(files, arrays[0])), f"{origin}/{arrays[0]}")
    raise ValueError(f"{origin}: no known form of CIFAR-10, found {_some(sorted(files))}. Name {KNOWN_FORMS}.")


def _content(files: Files, name: str) -> bytes:
    content = files[name]
    return content if isinstance(content, bytes) else content.read_bytes()


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
    for i, path in enumerate(_with_progress(ordered, "decoding images")):
        pixels[i] = _decode(_content(files, path.as_posix()), f"{origin}/{path}")
    labels = np.array([classes.index(path.parts[-2]) for path in ordered], np.uint8)
    n = sum(path.parts[-3] == "train" for path in ordered)
    arrays = {"x_train": pixels[:n], "y_train": labels[:n]}
    if n < len(ordered):
        arrays |= {"x_test": pixels[n:], "y_test": labels[n:]}
    return _dataset("cifar10_images", arrays, origin)


def _decode(content: bytes, where: str) -> Images:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.size == (IMAGE_SIZE, IMAGE_SIZE) and image.mode in ("RGB", "L", "P"):  # the last two lose nothing
                return np.asarray(image.convert("RGB"))
            found = f"found {image.size[0]}x{image.size[1]} {image.mode}"
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        found = f"it cannot be decoded ({error})"
    raise ValueError(f"{where}: expected a {IMAGE_SIZE}x{IMAGE_SIZE} RGB image, {found}. Replace or remove the file.")


class _BatchUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain values; a pickle that asks for anything else is refused before it runs."""

    ALLOWED = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # the one function that pickled arrays call, under the names that old and new NumPy give its module
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module_name: str, global_name: str) -> Any:  # as the base class: classes and functions
        if (module_name, global_name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"refused to load {module_name}.{global_name}")
        return self.ALLOWED[module_name, global_name]


def _read_batches(files: Files, names: Mapping[str, str], origin: str) -> Dataset:
    """The official binaries: six pickles of rows with 1,024 red, green, then blue values; `names` are their names."""
    parts = {}
    if missing := [name for name in BATCHES if name not in names]:
        raise ValueError(f"{origin}: expected six batches, {', '.join(missing)} missing. Unpack the archive again.")
    for name in BATCHES:
        where = f"{origin}/{names[name]}"
        try:
            batch = _BatchUnpickler(io.BytesIO(_content(files, names[name])), encoding="bytes").load()
            pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        except Exception as error:  # a broken pickle can raise anything
            remedy = "Use the official file, or image files."
            raise ValueError(f"{where}: not a CIFAR-10 batch ({type(error).__name__}: {error}). {remedy}") from error
        if pixels.ndim != 2 or pixels.shape[1] != IMAGE_SIZE * IMAGE_SIZE * CHANNELS:
            raise ValueError(f"{where}: expected rows of 3,072 pixels, got shape {pixels.shape}. Unpack it again.")
        pixels = pixels.reshape(-1, CHANNELS, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)
        parts[name] = _checked(pixels, labels, where)
    x_train, y_train = (np.concatenate([parts[name][i] for name in TRAIN_BATCHES]) for i in (0, 1))
    x_test, y_test = parts[TEST_BATCH]
    return Dataset("cifar10", x_train, y_train, x_test, y_test, origin)


def _arrays_in(stream: BinaryIO) -> dict[str, npt.NDArray[Any]]:  # Any: not checked yet
    """The arrays of ours in an .npz, read to their ends, where zip checks its sums; else one of NPZ_ERRORS.

    The caller opens the file: NumPy leaves one open that it cannot read.
    """
    with np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in (*ARRAYS, "name") if name in arrays}


def _read_npz(stream: BinaryIO, origin: str) -> Dataset:
    try:
        arrays = _arrays_in(stream)
    except NPZ_ERRORS as error:
        raise ValueError(f"{origin}: the .npz cannot be read ({error}). Copy or make it again.") from error
    return _dataset("cifar10_npz", arrays, origin)


def _dataset(name: str, arrays: Mapping[str, npt.NDArray[Any]], origin: str) -> Dataset:  # Any: not checked yet
    """The set in these arrays; the test images may be missing."""
    has_test = "x_test" in arrays or "y_test" in arrays
    if missing := [name for name in ARRAYS[: 4 if has_test else 2] if name not in arrays]:
        raise ValueError(f"{origin}: expected the arrays {', '.join(ARRAYS)}, {', '.join(missing)} missing. Add them.")
    x_train, y_train = _checked(arrays["x_train"], arrays["y_train"], f"{origin}, training set")
    x_test, y_test = _checked(arrays["x_test"], arrays["y_test"], f"{origin}, test set") if has_test else (None, None)
    return Dataset(name, x_train, y_train, x_test, y_test, origin)


def _checked(x: npt.NDArray[Any], y: npt.NDArray[Any], where: str) -> tuple[Images, Images]:  # Any: what it checks
    """Images and labels in the shapes and types of `Dataset`; labels may come as (n, 1) and as any whole numbers."""
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


def _shuffled(images: Dataset) -> Dataset:
    """The same set, its training and its test images each in one fixed random order."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(images.x_train))
    images = replace(images, x_train=images.x_train[order], y_train=images.y_train[order])
    if images.x_test is None or images.y_test is None:
        return images
    order = np.random.default_rng(ORDER_SEED).permutation(len(images.x_test))
    return replace(images, x_test=images.x_test[order], y_test=images.y_test[order])


def _decode_once(source: Path, stamps: Iterable[tuple[str, os.stat_result]], decode: Callable[[], Dataset]) -> Dataset:
    """What `decode` returns, from the cache if `source` was decoded before and has not changed since."""
    key = [CACHE_VERSION, ORDER_SEED, str(source), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stamps)]
    file = cache_dir() / f"cifar10-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.npz"
    with contextlib.suppress(ValueError, FileNotFoundError):
        return _read_cache(file, source)
    with _exclusive(file) as is_writable:
        try:
            return _read_cache(file, source)  # another process may have been first
        except FileNotFoundError:
            pass
        except ValueError as error:
            logger.warning("%s: the cached images are broken (%s): decoding %s again.", file, error, source)
        images = decode()
        if is_writable:
            _write_cache(file, images)
        return images


def _read_cache(file: Path, source: Path) -> Dataset:
    """The cached set.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            arrays = _arrays_in(stream)
        return _dataset(str(arrays["name"]), arrays, str(source))
    except (NotADirectoryError, FileNotFoundError) as error:
        raise FileNotFoundError(str(file)) from error
    except (KeyError, *NPZ_ERRORS) as error:
        raise ValueError(str(error)) from error


def _write_cache(file: Path, images: Dataset) -> None:
    """Replace the cache in one step; call with its lock held. A full disk is a warning: the images are in memory."""
    arrays = {key: value for key in ARRAYS if (value := getattr(images, key)) is not None}
    temporary = file.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, name=np.array(images.name), **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        _warn_no_cache(file, error)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _exclusive(file: Path) -> Iterator[bool]:
    """Hold the lock of a cache file, after waiting for it; gives whether the cache can be written at all."""
    with contextlib.ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(file.with_suffix(".lock").open("wb"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say("waiting for another process that is decoding the same images")
                fcntl.flock(lock, fcntl.LOCK_EX)
            is_writable = True
        except OSError as error:
            _warn_no_cache(file, error)
            is_writable = False
        yield is_writable


def _warn_no_cache(file: Path, error: OSError) -> None:
    logger.warning(
        "%s: cannot keep the decoded images (%s), so every run decodes them again. "
        "Set EPOCHCAST_CACHE_DIR to a folder that can be written.",
        file.parent,
        error.strerror or error,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _with_progress(items: Sequence[T], label: str) -> Iterator[T]:
    """The items, with done/total and time left on stderr: one line kept up to date, or five where that is a file."""
    is_tty = sys.stderr.isatty()
    every = max(1, len(items) // (100 if is_tty else 5))
    start = time.perf_counter()
    for done, item in enumerate(items, start=1):
        yield item
        if done % every == 0 or done == len(items):
            left_sec = (time.perf_counter() - start) / done * (len(items) - done)
            line = f"{label}: {done}/{len(items)}, {left_sec:.0f} s left"
            sys.stderr.write(f"{line}\n" if not is_tty else f"\r{line:<60}" + "\n" * (done == len(items)))
            sys.stderr.flush()


_CHUNK_N = 5_000  # images that share a random generator, so that the first n images do not depend on how many follow
_SHIFTS = 16
_OWN, _OTHER = 72, 55  # brightness of the class's pattern and of a second one; with noise up to 127, at most 254


def _synthetic(train_n: int, seed: int) -> Dataset:
    """Ten classes of coarse random colour patterns, each image a shifted one under a fainter one of another class."""
    train_n = min(max(train_n, 1), TRAIN_N)
    rng = np.random.default_rng([seed, 0])
    coarse = rng.integers(0, 2, (CLASSES, 8, 8, CHANNELS), dtype=np.uint8)
    patterns = coarse.repeat(IMAGE_SIZE // 8, axis=1).repeat(IMAGE_SIZE // 8, axis=2)
    shifts = [np.roll(patterns, tuple(rng.integers(0, IMAGE_SIZE, 2)), axis=(1, 2)) for _ in range(_SHIFTS)]
    table = np.stack(shifts, axis=1).reshape(CLASSES * _SHIFTS, -1)  # row: class * _SHIFTS + shift; pixels 0 and 1
    x_train, y_train = _synthetic_split(table, train_n, [seed, 1])
    x_test, y_test = _synthetic_split(table, TEST_N, [seed, 2])
    return Dataset("synthetic", x_train, y_train, x_test, y_test, f"the synthetic set of seed {seed}")


def _synthetic_split(table: Images, n: int, stream: list[int]) -> tuple[Images, Images]:
    x, y = np.empty((n, *IMAGE_SHAPE), np.uint8), np.empty(n, np.uint8)
    own_table, other_table = table * np.uint8(_OWN), table * np.uint8(_OTHER)
    for start in range(0, n, _CHUNK_N):
        rng = np.random.default_rng([*stream, start])
        own, other = rng.integers(0, len(table), (2, _CHUNK_N))
        images = np.frombuffer(rng.bytes(_CHUNK_N * table.shape[1]), np.uint8).reshape(_CHUNK_N, -1) >> 1
        images += own_table[own]
        images += other_table[other]
        stop = min(start + _CHUNK_N, n)
        x[start:stop] = images[: stop - start].reshape(-1, *IMAGE_SHAPE)
        y[start:stop] = own[: stop - start] // _SHIFTS
    return x, y
