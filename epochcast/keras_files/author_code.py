"""Python files of a network's author, run because the user names them: what they define, by name."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType
from typing import Any

from epochcast.machine.limits import lines_of
from epochcast.storage.files import open_regular
from epochcast.text_sinks import shortened

SLOW_SEC = 20.0  # a file that only defines classes takes as long as its imports
SCRIPT = "Put what only a script does under `if __name__ == '__main__':`."
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def author_code(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Run Python files; yields their classes and functions, and those that Keras has registered by now, by name.

    In the block a file's own folder is on the import path, behind all others. What a file prints goes to stderr.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no Python file, or fails; names the file and the line.
    """
    import keras

    before = list(sys.path)
    found: dict[str, Any] = {}
    try:
        for path in dict.fromkeys(path.absolute() for path in paths):
            _check(path)
            sys.path.append(str(path.parent))
            found.update(_run(path))
        yield {**found, **keras.saving.get_custom_objects()}
    finally:
        sys.path[:] = before


def _check(path: Path) -> None:
    try:
        open_regular(path).close()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such file. --code takes the Python file that defines the layers."
        ) from None
    except IsADirectoryError:
        raise ValueError(f"{path}: a folder. --code takes one Python file; repeat it for several.") from None
    if path.suffix != ".py":
        raise ValueError(f"{path}: --code takes a Python file, whose name ends in .py.")


def _run(path: Path) -> dict[str, Any]:
    """Run one file; returns the classes and functions in it that are not Keras's, by name."""
    name = re.sub(r"\W", "_", path.stem)
    if name in sys.modules or getattr(find_spec(name), "origin", str(path)) != str(path):
        name = f"{name}_of_author"  # a module of ours or of a package's keeps its name
    spec = spec_from_file_location(name, path)
    assert spec is not None and isinstance(spec.loader, SourceFileLoader)  # of a .py file
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr), _warned_if_slow(path):
            # what the file says now: a compiled copy is taken for it if both are of one second and one size
            exec(spec.loader.source_to_code(spec.loader.get_data(str(path)), path), vars(module))
            return {name: value for name, value in vars(module).items() if _is_own(value)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever its code raises
        sys.modules.pop(name, None)
        raise ValueError(f"{_place(path, error)}: {_reason(path, error)}") from None


@contextlib.contextmanager
def _warned_if_slow(path: Path) -> Iterator[None]:
    """Say that a file still runs, if it does not end soon."""
    timer = threading.Timer(SLOW_SEC, _log.warning, ("%s: still running after %.0f s. %s", path, SLOW_SEC, SCRIPT))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_own(value: Any) -> bool:
    # by type(), as an object may say of itself that it is a class; a function made by hand has no module
    return issubclass(type(value), type | FunctionType) and not str(value.__module__).startswith("keras.")


def location_of(paths: Sequence[Path], lines: Sequence[tuple[str, int]]) -> str:
    """Return name and line of the innermost call in one of these files, e.g. `layers.py:7`; empty if none is."""
    names = {str(path.absolute()): path.name for path in paths}
    found = [f"{shortened(names[file], 40)}:{line}" for file, line in lines if file in names]
    return found[-1] if found else ""


def _place(path: Path, error: BaseException) -> str:
    """File and line where a file failed: the last of its own lines, or the line that is no Python."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    lines = [line for file, line in lines_of(error) if file == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, ImportError) and "relative import" in str(error):
        return (
            f"a relative import works only inside a package. Next to the package's folder make a file with "
            f"`from PACKAGE.{shortened(path.stem, 30)} import *`, and give that by --code."
        )
    if isinstance(error, SystemExit):
        return f"it ends the program. {SCRIPT}"
    if isinstance(error, ModuleNotFoundError):
        name = shortened(str(error.name), 40)
        return f"no module {name}. Install it for {sys.executable}, or put its folder on PYTHONPATH."
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {shortened(text).rstrip('.') or 'no reason given'}. Correct this file."
