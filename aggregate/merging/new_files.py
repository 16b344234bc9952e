"""Several new files that belong together: none replaces another, and what a kill left of them is completed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from epochcast.storage.files import read_bytes, write_new_file


def write_new_files(contents: Mapping[Path, bytes | None]) -> None:
    """Make files in this order; None: there must be no such file. The last one says that all of them are there.

    A file that holds just what it would get is one that a command left which was killed; it stays.

    Raises:
        FileExistsError: if one of them is another, or the last one exists; nothing is written then.
        OSError: if a file can't be written.
    """
    *_, last = contents
    is_there = {path: path.exists() or path.is_symlink() for path in contents}
    for path, data in contents.items():
        if is_there[path] and (path == last or data is None or read_bytes(path) != data):
            raise FileExistsError(f"{path} exists, and is not overwritten. Name another with --out, or move it away.")
    for path, data in contents.items():
        if data is not None and not is_there[path]:
            write_new_file(path, data)
