"""Decoding image files once: the set is kept as an uncompressed .npz in the cache folder, and made again if broken."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from epochcast.paths import cache_dir
from workload.dataset import ARRAYS, ORDER_SEED, Dataset, make_dataset, read_arrays

CACHE_VERSION = 1

logger = logging.getLogger(__name__)


def decode_once(source: Path, stamps: Iterable[tuple[str, os.stat_result]], decode: Callable[[], Dataset]) -> Dataset:
    """What `decode` returns, from the cache if `source` was decoded before and no file in `stamps` has changed since.

    Where nothing can be written, it decodes every time and warns.
    """
    key = [CACHE_VERSION, ORDER_SEED, str(source), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stamps)]
    file = cache_dir() / f"cifar10-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.npz"
    with contextlib.suppress(ValueError):
        if images := _read_cache(file, source):
            return images
    with _exclusive(file) as is_writable:
        try:
            if images := _read_cache(file, source):  # another process may have been first
                return images
        except ValueError as error:
            logger.warning("%s: the cached images are broken (%s): decoding %s again.", file, error, source)
        images = decode()
        if is_writable:
            _write_cache(file, images)
        return images


def _read_cache(file: Path, source: Path) -> Dataset | None:
    """The cached set, if there is one.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            arrays = read_arrays(stream)
        return make_dataset(str(arrays["name"]), arrays, str(source))
    except (NotADirectoryError, FileNotFoundError):
        return None
    except (OSError, KeyError) as error:
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
                sys.stderr.write("waiting for another process that is decoding the same images\n")
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
