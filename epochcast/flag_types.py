"""Types of flags: functions from a flag's text to its value.

Each raises ArgumentTypeError for what it refuses, which argparse turns into one line and exit code 2.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path

from epochcast.paths import expanded
from epochcast.storage.cells import shown

LONGEST_LIST = 10_000  # values of one flag; more is a slip of the pen
LARGEST_COUNT = 10**9
LARGEST_PARAMS = 10**15
LARGEST_SEED = 2**32 - 1  # of NumPy, Keras and scikit-learn
MOST_REPEATS = 1_000
LEAST_NUMBER, LARGEST_NUMBER = 1e-15, 1e15  # beyond them quotients and sums of nanoseconds are no numbers any more
LONGEST_SEC = 1e10  # three centuries
MOST_MEMORY_BYTES = 10**18
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION = re.compile(
    rf"(?:{_NUMBER}w)?(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?"
)  # 1h30 could mean minutes: refused
_MEMORY_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_MEMORY_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MEMORY = re.compile(rf"{_NUMBER}\s*(B|[KMGT]i?B)?", re.IGNORECASE)
FIGURES = (".png", ".svg")


def _whole(text: str, least: int, most: int) -> int:
    try:
        value = int(text) if text.isascii() else None
    except ValueError:  # of over 4300 digits too
        value = None
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {shown(text)}")
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text.strip()[:60]}")
    if value > most:
        raise argparse.ArgumentTypeError(f"at most {most:,}, got {shown(text)}")
    return value


def _number(text: str, least: float, what: str, most: float) -> float:
    try:
        value = float(text) if text.isascii() else None
    except ValueError:
        value = None
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a {what}, got {shown(text)}")
    if not (math.isfinite(value) and value >= least):
        raise argparse.ArgumentTypeError(f"expected a finite {what}, got {text.strip()[:60]}")
    if value > most:
        raise argparse.ArgumentTypeError(f"at most {most:g}, got {shown(text)}")
    return value


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1, LARGEST_COUNT)


def not_negative_int(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0, LARGEST_COUNT)


def params_int(text: str) -> int:
    """A number of parameters."""
    return _whole(text, 1, LARGEST_PARAMS)


def seed_int(text: str) -> int:
    """A whole number that seeds random draws."""
    return _whole(text, 0, LARGEST_SEED)


def repeats_int(text: str) -> int:
    """How often the same is done."""
    return _whole(text, 1, MOST_REPEATS)


def not_negative_float(text: str) -> float:
    """A finite number of at least 0."""
    return _number(text, 0.0, "number of at least 0", LARGEST_NUMBER)


def positive_float(text: str) -> float:
    """A finite number above 0."""
    return _number(text, LEAST_NUMBER, "number above 0", LARGEST_NUMBER)


def positive_sec(text: str) -> float:
    """A number of seconds above 0."""
    return _number(text, LEAST_NUMBER, "number above 0", LONGEST_SEC)


def not_negative_sec(text: str) -> float:
    """A number of seconds of at least 0."""
    return _number(text, 0.0, "number of at least 0", LONGEST_SEC)


def fraction(text: str) -> float:
    """A number between 0 and 1."""
    value = not_negative_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {shown(text)}")
    return value


def duration_sec(text: str) -> float:
    """Seconds from `90`, `90s`, `15m`, `1h30m`, `2d`, `1w`."""
    if re.fullmatch(_NUMBER, text.strip()):
        return positive_sec(text)
    match = _DURATION.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"expected a duration such as 90, 90s, 15m, 1h30m or 2d, got {shown(text)}")
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return positive_sec(str(604_800 * weeks + 86_400 * days + 3600 * hours + 60 * minutes + seconds))


def memory_size(text: str) -> int:
    """Bytes from `80GB` (10^9), `79.2GiB` (2^30), `512MB`, `512MiB` or a plain number of bytes."""
    match = _MEMORY.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"expected a size of memory such as 80GB or 74.5GiB, got {shown(text)}")
    size = float(match[1]) * _MEMORY_UNITS[(match[2] or "B").upper()]
    return int(_number(repr(size), LEAST_NUMBER, "size above 0", MOST_MEMORY_BYTES)) or 1


def path_of(text: str) -> Path:
    """A path; `~` at its beginning is a home folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {shown(text)}")
    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def figure_path(text: str) -> Path:
    """A path of a figure to write."""
    if (path := path_of(text)).suffix not in FIGURES:
        raise argparse.ArgumentTypeError(f"{shown(text)}: the name must end in {' or '.join(FIGURES)}")
    return path


def int_list(text: str) -> list[int]:
    """Whole numbers from `64,128,256`, `64:2048:x2` (doubling), `2:5` (counting by one), or a mixture, each once."""
    values: list[int] = []
    for part in text.split(","):
        values += _range(part)
        if len(values) > LONGEST_LIST:
            raise argparse.ArgumentTypeError(f"more than {LONGEST_LIST} values")
    return list(dict.fromkeys(values))


def choice_list(choices: Collection[str]) -> Callable[[str], list[str]]:
    """Return the type of a flag that takes some of these words, e.g. `on,off`."""

    def parse(text: str) -> list[str]:
        values = [part.strip() for part in text.split(",")]
        for value in values:
            if value not in choices:
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(choices)}, got {value!r}")
        return values

    return parse


def gpu_names(text: str) -> list[str]:
    """Return the names of `H100 SXM5;RTX 4090`."""
    names = [name.strip() for name in text.split(";")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected NAME or NAME;NAME, got {text!r}")
    return names


def _range(part: str) -> list[int]:
    bounds = part.strip().split(":")
    if len(bounds) == 1:
        return [positive_int(bounds[0])]
    step = bounds[2] if len(bounds) == 3 else "1"
    is_factor = step.startswith("x")
    if len(bounds) > 3 or not re.fullmatch(r"x?[0-9]{1,20}", step) or int(step.removeprefix("x")) < 1 + is_factor:
        raise argparse.ArgumentTypeError(f"expected LOW:HIGH, LOW:HIGH:STEP or LOW:HIGH:xFACTOR, got {shown(part)}")
    # a high end beyond any count is no mistake of its own: too many values are, or the range ends before it
    value, high = positive_int(bounds[0]), _whole(bounds[1], 1, LARGEST_COUNT**2)
    if value > high:
        raise argparse.ArgumentTypeError(f"the range {shown(part)} is empty: {value} is above {high}")
    values = []
    while value <= high:
        values.append(value)
        value = value * int(step[1:]) if is_factor else value + int(step)
        if len(values) > LONGEST_LIST:
            raise argparse.ArgumentTypeError(f"the range {shown(part)} has more than {LONGEST_LIST} values")
    positive_int(str(values[-1]))
    return values
