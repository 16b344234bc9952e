"""Compiled programs kept on disk from one process to the next, where the backend can; only if a run asks for it.

No process reads or writes the kept programs in place. Each gets a folder of its own with links to those that are whole,
and hands in what it compiled itself: TensorFlow takes half a file for the end of the data, and would train nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from epochcast.machine.gpu_driver import box_device_name
from epochcast.machine.host.host import cpu_name
from epochcast.paths import cache_dir
from epochcast.storage.private_folder import NotPrivateError, check_private_folder, make_private_folder, read_private

LEAST_FREE_BYTES = 1 << 30  # TensorFlow ends a run whose program it can't write
_OWN_PREFIX = "epochcast-compiled-"
_TF_FLAG = "--tf_xla_persistent_cache_directory"
_JAX_REQUEST, _JAX_HIT = (f"/jax/compilation_cache/{event}" for event in ("compile_requests_use_cache", "cache_hits"))
_KEPT = re.compile(r"(?P<name>.+)\.(?P<digest>[0-9a-f]{16})")  # the backend's name of a program, then of its content

logger = logging.getLogger(__name__)


def programs_dir(backend: str, version: str, device: str = "auto") -> Path:
    """Where the programs of a backend are kept: apart by its version, this box's processors, and the device.

    TensorFlow's names of programs say none of these.
    """
    box = hashlib.sha256(repr((cpu_name(), box_device_name(device), device)).encode()).hexdigest()[:8]
    return cache_dir() / "compiled" / f"{backend}-{version}-{box}"


class CompileCache:
    """The kept programs as one process sees them; made by `enable`."""

    def __init__(self, backend: str, folder: Path | None = None, own: Path | None = None) -> None:
        self._backend, self._folder, self._own = backend, folder, own
        self._events: Counter[str] = Counter()

    def count(self, event: str, **_: object) -> None:
        """Count one of JAX's events."""
        self._events[event] += 1

    def state(self, jit_compile: str) -> str | None:
        """How the programs so far were come by: `off` (no cache), `cold` (not all were kept), `warm` (all were).

        None where the backend has no cache, or used it for nothing. Ask after the first epoch: evaluation has programs
        of its own. `jit_compile` is `on` or `off`, as resolved: TensorFlow keeps only what XLA compiled.
        """
        if self._own is None:
            return "off" if self._backend in _CACHES else None
        if self._backend == "jax":
            requests, hits = self._events[_JAX_REQUEST], self._events[_JAX_HIT]
            return None if not requests else "warm" if requests == hits else "cold"
        entries = list(self._own.iterdir())
        if any(not entry.is_symlink() for entry in entries):
            return "cold"
        return "warm" if entries and jit_compile == "on" else None

    def keep(self) -> None:
        """Hand in what this process compiled; for the end of a run. What can't be written is a warning."""
        if self._own is None or self._folder is None:
            return
        try:
            check_private_folder(self._folder)  # it may have been changed meanwhile
            kept = {name for name, _, _ in _kept_programs(self._folder)}
            for entry in self._own.iterdir():
                if entry.is_file() and not entry.is_symlink() and entry.name not in kept:
                    _write(self._folder, entry.name, entry.read_bytes())
        except OSError as error:
            _warn(self._folder, error)


def enable(backend: str, wanted: str, folder: Path) -> CompileCache:
    """Have `backend` look for its programs in `folder` if `wanted` is `on`, and nowhere if it is `off`.

    Call it before the backend has looked at its devices: TensorFlow reads its flags then, and never again. Where
    nothing can be written it warns, and the run goes on without.
    """
    look_in = _CACHES.get(backend)
    if look_in is None:
        return CompileCache(backend)
    if wanted == "on":
        try:
            cache = CompileCache(backend, folder, own := _own_folder(folder))
        except OSError as error:
            _warn(folder, error)
        else:
            look_in(own, cache.count)
            return cache
    cache = CompileCache(backend)
    look_in(None, cache.count)  # not even where the user's environment names a cache: the row says `off`
    return cache


def _own_folder(folder: Path) -> Path:
    """A folder for this process alone, until it ends, with links to the programs in `folder`; broken ones are removed.

    Raises:
        OSError: if there or in `folder` nothing can be written, or if others can write in `folder`.
    """
    make_private_folder(folder)  # who can write there can have any code run
    with tempfile.TemporaryFile(dir=folder):
        pass  # it can be written
    own = _make_own_folder()
    _remove_left_folders(own.parent)
    if (free := shutil.disk_usage(own).free) < LEAST_FREE_BYTES:
        raise OSError(
            f"{own.parent} has {free / 1e9:.2g} GB free, too little to be sure; TMPDIR may name another folder"
        )
    for name, digest, path in _kept_programs(folder):
        with contextlib.suppress(OSError):  # another process may have removed it, or it can't be read: compiled again
            if not _is_whole(path, digest):
                logger.info("%s: broken, so it is compiled again.", path)
                path.unlink()
            elif not (own / name).is_symlink():  # two processes may have kept the same at once
                (own / name).symlink_to(path.absolute())
    return own


def _is_whole(path: Path, digest: str) -> bool:
    """Whether a kept program is one that was handed in, and not a link or another user's file."""
    try:
        return _digest(read_private(path)) == digest
    except NotPrivateError:
        return False


def _make_own_folder() -> Path:
    """A new folder, removed when this process ends; locked till then, so that others can tell if it was killed."""
    while True:
        own = Path(tempfile.mkdtemp(prefix=_OWN_PREFIX))
        descriptor = os.open(own, os.O_RDONLY | os.O_DIRECTORY)  # never closed: the lock goes with the process
        with contextlib.suppress(OSError):  # a file system without locks: nobody can take it for left, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if own.exists():  # else another process was quicker with the lock, and took it for left
            atexit.register(shutil.rmtree, own, ignore_errors=True)
            return own
        os.close(descriptor)


def _remove_left_folders(parent: Path) -> None:
    """Remove the folders of processes that were killed: those nobody holds the lock of."""
    for folder in parent.glob(f"{_OWN_PREFIX}*"):
        with contextlib.suppress(OSError):  # locked, gone by now, or another user's
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _kept_programs(folder: Path) -> list[tuple[str, str, Path]]:
    """Name, digest and path of every program kept in `folder`."""
    matches = ((_KEPT.fullmatch(path.name), path) for path in sorted(folder.iterdir()))
    return [(match["name"], match["digest"], path) for match, path in matches if match]


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a program in one step, under its name and its content's."""
    handle, temporary = tempfile.mkstemp(prefix=".", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(temporary).replace(folder / f"{name}.{_digest(content)}")
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _warn(folder: Path, error: OSError) -> None:
    logger.warning(
        "%s: cannot keep compiled programs (%s), so they are compiled in every run. "
        "Set EPOCHCAST_CACHE_DIR to a folder that you can write, and nobody else.",
        folder,
        error.strerror or error,
    )


def _tensorflow_looks_in(own: Path | None, count: Callable[..., None]) -> None:
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if own is not None:
        flags += f" {_TF_FLAG}='{own}'"  # the last one holds
    elif _TF_FLAG in flags:
        flags += f" {_TF_FLAG}="
    os.environ["TF_XLA_FLAGS"] = flags.strip()


def _jax_looks_in(own: Path | None, count: Callable[..., None]) -> None:
    import jax

    jax.config.update("jax_compilation_cache_dir", None if own is None else str(own))
    if own is not None:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # kept autotuning would put the folder's path into every program's name, and make a cold run half a warm one
        jax.config.update("jax_persistent_cache_enable_xla_caches", "")
        jax.monitoring.register_event_listener(count)


_CACHES = {"tensorflow": _tensorflow_looks_in, "jax": _jax_looks_in}
