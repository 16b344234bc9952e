"""Exceptions as sentences for people, with a remedy where one is known."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from epochcast import STAGES

OUR_PACKAGES = ("epochcast", *STAGES, "benchmarks")  # the stages only as folders of a checkout
DISTRIBUTIONS = {"PIL": "pillow", "pynvml": "nvidia-ml-py", "sklearn": "scikit-learn"}  # where the names differ
EXTRAS = ("tensorflow", "jax", "torch")  # of Epochcast, each by the name of its framework; Keras comes with any of them
LONGEST_MESSAGE = 300  # characters of another library's message
PASSED_ON = (Path(__file__), Path(__file__).with_name("guard.py"))  # where exceptions come by; they begin elsewhere


def sentence_of(error: BaseException) -> str:
    """An exception as a sentence; one that nobody foresaw says so."""
    text = _one_line(error)
    if (shadow := _shadow(error)) is not None:
        return f"{shadow[0]} shadows the package {shadow[1]} ({text}). Rename it, or take its folder off PYTHONPATH."
    if isinstance(error, SyntaxError) and error.filename and not _is_ours(error.filename):
        return f"{error.filename} line {error.lineno}: not Python ({error.msg}). Rename, mend or remove this file."
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] not in OUR_PACKAGES:
        package = error.name.partition(".")[0]
        return _missing_text(DISTRIBUTIONS.get(package, package))
    if isinstance(error, ImportError):
        return f"an installed package can't be imported: {text or type(error).__name__}. Install it again."
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({text})' if text else ''}. Ask for less at once, or end other programs."
    if isinstance(error, RecursionError):
        return f"something is nested too deeply to be read{_place_of(error)}. Look for brackets in brackets in a file."
    if isinstance(error, OverflowError):
        return (
            f"a number is too large to compute with{_place_of(error)}: {text}. Correct the flag or the file it is in."
        )
    if isinstance(error, UnicodeEncodeError):
        found = error.object[error.start : error.end][:20]
        return f"{found!a} can't be written as {error.encoding}. Use names without such characters."
    if isinstance(error, (ValueError, OSError)):
        return describe_error(error)
    if isinstance(error, RuntimeError) and "ymlink loop" in text:  # of Path.resolve
        return f"a circle of symbolic links: {text}. Remove one of them, or name another path."
    if isinstance(error, RuntimeError) and "home directory" in text:  # of Path.expanduser
        return "a path begins with ~, and no such home folder is known. Set HOME, or write the path in full."
    return (
        f"unexpected {type(error).__name__}{_place_of(error)}: {text or 'without a message'}. This is a mistake in "
        "Epochcast: please report it with what EPOCHCAST_DEBUG=1 shows."
    )


def requirement_of(distribution: str, backend: str = "") -> str:
    """Return what pip has to install for a package: an extra of Epochcast, else the package.

    Without `backend` Keras comes with the framework that $KERAS_BACKEND names.
    """
    if distribution == "keras":
        chosen = backend or os.environ.get("KERAS_BACKEND", "")
        distribution = chosen if chosen in EXTRAS else EXTRAS[0]
    return f"epochcast[{distribution}]" if distribution in EXTRAS else distribution


def _missing_text(distribution: str) -> str:
    """What to do where a package is not installed: mostly the environment of the checkout is not active."""
    root = Path(__file__).parents[1]
    activate = root / ".venv" / "bin" / "activate"
    text = f"the package {distribution} is not installed for {sys.executable}."
    if not (root / "Makefile").is_file() or Path(sys.prefix) == activate.parents[1]:
        install = [sys.executable, "-m", "pip", "install", requirement_of(distribution)]
        return f"{text} Install it: {shlex.join(install)}"
    if activate.is_file():
        return f"{text} Activate .venv (source {shlex.quote(str(activate))}), or say `make run` in {root}."
    return f"{text} Say `make run` in {root}, which makes .venv; then: source {shlex.quote(str(activate))}"


def _shadow(error: BaseException) -> tuple[str, str] | None:
    """The file or folder that is imported instead of an installed package, and that package's name; None if none is."""
    if isinstance(error, AttributeError):
        name = getattr(error.obj, "__spec__", None) and getattr(error.obj, "__name__", None)
    else:
        name = error.name if isinstance(error, ImportError) else None
    package = str(name or "").partition(".")[0]
    if not package or package in OUR_PACKAGES or package in sys.stdlib_module_names:
        return None
    try:
        spec = find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    found = spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)
    if found is None or f"{os.sep}site-packages{os.sep}" in found or f"{os.sep}dist-packages{os.sep}" in found:
        return None
    return found, package


def _is_ours(file: str) -> bool:
    """Whether a file is one of Epochcast's own."""
    root, path = Path(__file__).parents[1], Path(file)
    return path.is_relative_to(root) and path.relative_to(root).parts[0] in OUR_PACKAGES


def describe_error(error: BaseException) -> str:
    """A foreseen exception as a line: the path first where the system names one."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        return f"{_absolute(os.fsdecode(error.filename))}: {error.strerror}."
    if isinstance(error, FileNotFoundError) and not _has_working_directory():
        return "the working directory was removed. Change to one that exists."
    return _text_of(error) or type(error).__name__


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if _has_working_directory() else name


def _has_working_directory() -> bool:
    try:
        return Path.cwd().is_dir()
    except OSError:
        return False


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of another library's exception
        return ""


def _one_line(error: BaseException) -> str:
    text = " ".join(_text_of(error).split()).rstrip(".")
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 3]}..."


def _place_of(error: BaseException) -> str:
    """Where in our code an exception was raised, e.g. ` in planner/plan/plan.py line 12`; empty if nowhere."""
    root = Path(__file__).parents[1]
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if _is_ours(str(file)) and file not in PASSED_ON:
            place = f" in {file.relative_to(root)} line {trace.tb_lineno}"
        trace = trace.tb_next
    return place
