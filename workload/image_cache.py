"""Decoding image files once: the set is kept as an uncompressed .npz in the cache folder, and made again if broken."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from epochcast.paths import cache_dir
from epochcast.storage.locks import NoLocksError, lock, try_lock
from epochcast.storage.private_folder import make_private_folder, open_private, private_lock_file
from epochcast.storage.temporary_files import temporary_file_for
from epochcast.workload.dataset import ARRAYS, ORDER_SEED, Dataset, make_dataset, read_arrays

CACHE_VERSION = 1

logger = logging.getLogger(__name__)


def decode_once(source: Path, stamps: Iterable[tuple[str, os.stat_result]], decode: Callable[[], Dataset]) -> Dataset:
    """What `decode` returns, from the cache if `source` was decoded before and no file in `stamps` has changed since.

    Where nothing can be written, or others can write, it decodes every time and warns.
    """
    key = [CACHE_VERSION, ORDER_SEED, str(source), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stamps)]
    file = cache_dir() / f"cifar10-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.npz"
    try:
        make_private_folder(file.parent)
    except OSError as error:
        _warn_no_cache(file, error)
        return decode()
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
        with open_private(file) as stream:
            arrays = read_arrays(stream)
        return make_dataset(str(arrays["name"]), arrays, str(source))
    except (NotADirectoryError, FileNotFoundError):
        return None
    except (OSError, KeyError) as error:
        raise ValueError(str(error)) from error


def _write_cache(file: Path, images: Dataset) -> None:
    """Replace the cache in one step; call with its lock held. A full disk is a warning: the images are in memory."""
    arrays = {key: value for key in ARRAYS if (value := getattr(images, key)) is not None}
    try:
        with temporary_file_for(file) as (stream, temporary):
            np.savez(stream, name=np.array(images.name), **arrays)
            stream.flush()
            os.fsync(stream.fileno())
            temporary.replace(file)
    except OSError as error:
        _warn_no_cache(file, error)


@contextlib.contextmanager
def _exclusive(file: Path) -> Iterator[bool]:
    """Hold the lock of a cache file, after waiting for it; gives whether the cache can be written at all."""
    path = file.with_suffix(".lock")
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(private_lock_file(path))
            if not try_lock(descriptor, path):
                sys.stderr.write("waiting for another process that is decoding the same images\n")
                lock(descriptor, path)
            is_writable = True
        except NoLocksError:
            logger.warning("%s: no locks there, so processes that start at once decode the same images.", file.parent)
            is_writable = True
        except OSError as error:
            _warn_no_cache(file, error)
            is_writable = False
        yield is_writable


def _warn_no_cache(file: Path, error: OSError) -> None:
    logger.warning(
        "%s: cannot keep the decoded images (%s), so every run decodes them again. "
        "Set EPOCHCAST_CACHE_DIR to a folder that you can write, and nobody else.",
        file.parent,
        error.strerror or error,
    )
