"""What every command line shares: argument types, lists, filters, printed answers and exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NoReturn

from epochcast.paths import home, runs_agg_csv
from epochcast.text_sinks import escaped_output, one_line, terminal_text

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 128 + signal.SIGINT
LONGEST_LIST = 10_000  # values of one flag; more is a slip of the pen
_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(
    rf"(?:{_NUMBER}w)?(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?"
)  # 1h30 could mean minutes: refused
_MEMORY_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_MEMORY_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_MEMORY = re.compile(rf"{_NUMBER}\s*(B|[KMGT]i?B)?", re.IGNORECASE)


# --- argument types: each raises ArgumentTypeError, which argparse turns into one line and exit code 2 ----------------


def _int_of_at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {value}")
    return value


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    return _int_of_at_least(1, text)


def not_negative_int(text: str) -> int:
    """A whole number of at least 0."""
    return _int_of_at_least(0, text)


def not_negative_float(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}") from None
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text}")
    return value


def positive_float(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}") from None
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text}")
    return value


def fraction(text: str) -> float:
    """A number between 0 and 1."""
    value = not_negative_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text}")
    return value


def duration_sec(text: str) -> float:
    """Seconds from `90`, `90s`, `15m`, `1h30m`, `2d`, `1w`."""
    if re.fullmatch(_NUMBER, text.strip()):
        return positive_float(text)
    match = _DURATION.fullmatch(text.strip())
    if not match or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"expected a duration such as 90, 90s, 15m, 1h30m or 2d, got {text!r}")
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return positive_float(str(604_800 * weeks + 86_400 * days + 3600 * hours + 60 * minutes + seconds))


def memory_size(text: str) -> int:
    """Bytes from `80GB` (10^9), `79.2GiB` (2^30), `512MB`, `512MiB` or a plain number of bytes."""
    match = _MEMORY.fullmatch(text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"expected a size of memory such as 80GB or 74.5GiB, got {text!r}")
    return int(positive_float(str(float(match[1]) * _MEMORY_UNITS[(match[2] or "B").upper()]))) or 1


def int_list(text: str) -> list[int]:
    """Whole numbers from `64,128,256`, `64:2048:x2` (doubling), `2:5` (counting by one), or a mixture, each once."""
    values: list[int] = []
    for part in text.split(","):
        bounds = part.strip().split(":")
        if len(bounds) == 1:
            values.append(positive_int(bounds[0]))
            continue
        step = bounds[2] if len(bounds) == 3 else "1"
        is_factor = step.startswith("x")
        if len(bounds) > 3 or not re.fullmatch(r"x?\d+", step) or int(step.removeprefix("x")) < 1 + is_factor:
            raise argparse.ArgumentTypeError(f"expected LOW:HIGH, LOW:HIGH:STEP or LOW:HIGH:xFACTOR, got {part!r}")
        value, high = positive_int(bounds[0]), positive_int(bounds[1])
        if value > high:
            raise argparse.ArgumentTypeError(f"the range {part!r} is empty: {value} is above {high}")
        while value <= high:
            values.append(value)
            value = value * int(step[1:]) if is_factor else value + int(step)
            if len(values) > LONGEST_LIST:
                raise argparse.ArgumentTypeError(f"the range {part!r} has more than {LONGEST_LIST} values")
    return list(dict.fromkeys(values))


def filter_of(text: str) -> dict[str, str]:
    """A filter from `depth=3,base_filters=32`: every pair must hold."""
    pairs = {}
    for part in text.split(","):
        name, separator, value = part.partition("=")
        if not separator or not name.strip():
            raise argparse.ArgumentTypeError(f"expected NAME=VALUE[,NAME=VALUE...], got {text!r}")
        if name.strip() in pairs:
            raise argparse.ArgumentTypeError(f"{name.strip()} stands twice in {text!r}; repeat the flag for either")
        pairs[name.strip()] = value.strip()
    return pairs


def matches(row: Any, filters: Iterable[Mapping[str, str]]) -> bool:
    """Whether a record satisfies at least one of the filters (all pairs of it); an empty value asks for unknown.

    Raises:
        ValueError: if a filter names something that the record does not have.
    """
    is_match = False
    for pairs in filters:
        for name in pairs:
            if not hasattr(row, name):
                raise ValueError(f"no column {name!r} to filter by; use one of {', '.join(type(row).__slots__)}.")
        is_match |= all(_as_text(getattr(row, name)) == value for name, value in pairs.items())
    return is_match


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


# --- parsers ----------------------------------------------------------------------------------------------------------


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults where there is one to tell, written as a user would; examples kept as they are written."""

    def _expand_help(self, action: argparse.Action) -> str:
        if not isinstance(action.default, list):
            return super()._expand_help(action)
        shown = copy(action)
        shown.default = ",".join(map(str, action.default)) or None  # as it is typed, without brackets
        return super()._expand_help(shown)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_told = "default:" in (action.help or "")
        nothing_to_tell = action.default is None or action.default is False
        return action.help if is_told or nothing_to_tell else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:  # a stream, None: standard error
        super()._print_message(terminal_text(message), file)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"error: {message}\nSee {self.prog} --help.\n")


def make_parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example that works."""
    return _Parser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def add_conditions_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--conditions",
        type=filter_of,
        action="append",
        default=[],
        metavar="NAME=VALUE[,...]",
        help="use only rows measured under these conditions, e.g. backend=jax,precision=float32",
    )


def add_table_flags(parser: argparse._ActionsContainer, is_optional: bool = False) -> None:
    """Flags of a command that reads one set of conditions from a table of averages.

    With `is_optional` no table named is None: the command then takes the default one if there is any.
    """
    if is_optional:
        what = "table of averages; default: results/runs_agg.csv, if anything is measured"
        parser.add_argument("--runs_agg", type=Path, metavar="PATH", help=what)
    else:
        path_flag(parser, "--runs_agg", runs_agg_csv, "table of averages; made anew where its runs.csv has changed")
    parser.add_argument("--frozen", action="store_true", help="refuse a table that is out of date")
    add_conditions_flag(parser)


def path_flag(parser: argparse._ActionsContainer, name: str, default: Callable[[], Path], what: str) -> None:
    """A flag for a path whose default lies below `home()` and is looked up when the command runs."""
    parser.add_argument(name, type=Path, default=default(), metavar="PATH", help=what)


# --- running a command ------------------------------------------------------------------------------------------------


@escaped_output()
def run_command(work: Callable[[], int]) -> int:
    """The exit code of `work`; what the user can mend becomes one line on stderr. EPOCHCAST_DEBUG=1 shows the trace."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing to say any more
        return EXIT_FAILED
    except (ValueError, OSError) as error:
        if os.environ.get("EPOCHCAST_DEBUG"):
            raise
        print(f"error: {describe_error(error)}", file=sys.stderr)
        return EXIT_FAILED


def describe_error(error: BaseException) -> str:
    """An exception as one line: the path first where the system names one."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes) and error.strerror:
        return f"{Path(os.fsdecode(error.filename)).absolute()}: {error.strerror}."
    return str(error) or type(error).__name__


def print_home() -> None:
    """Say on stderr where files are read and written."""
    print(f"files under {home()}", file=sys.stderr)


# --- printing ---------------------------------------------------------------------------------------------------------


def significant(value: float, digits: int = 3) -> str:
    """A number for people: `digits` significant figures, thousands grouped, no exponent between 1e-4 and 1e15."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))  # of the rounded number: 9.999 is 10.0
    if not -5 < exponent < 15:
        return f"{value:.{digits - 1}e}"
    rounded = round(value, digits - 1 - exponent)
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def range_text(low: float | None, high: float | None, unknown: str = "unknown") -> str:
    """What lies between two ends for people: `0.458 to 0.489`, or the word for it where an end is unknown."""
    return unknown if low is None or high is None else f"{significant(low)} to {significant(high)}"


def percent(share: float) -> str:
    return f"{significant(100 * share)} %"


def clock(seconds: float) -> str:
    """A duration for people: `45 s`, `12 min 30 s`, `3 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def print_answer(values: Mapping[str, Any], as_json: bool) -> None:
    """Print an answer: `name: value` lines with 3 significant figures, or one JSON object in full precision."""
    if as_json:
        print(json.dumps(values, allow_nan=False))
        return
    for name, value in values.items():
        if value is None:
            text = "unknown"
        elif isinstance(value, float):
            text = significant(value)
        else:
            text = one_line(str(value))
        print(f"{name}: {text}")


def cell_text(value: Any) -> str:
    """A table's cell: numbers with 3 significant figures, None as `-`."""
    return "-" if value is None else significant(value) if isinstance(value, float) else one_line(str(value))


def table_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A plain table: columns padded, numbers to the right, None as `-`."""
    cells = [list(header)]
    for row in rows:
        cells.append([cell_text(value) for value in row])
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    is_number = [all(re.fullmatch(r"[-+\d.,%e ]*", line[i]) for line in cells[1:]) for i in range(len(header))]
    lines = (
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, is_number, strict=True)).rstrip()
        for line in cells
    )
    return "\n".join(lines)
