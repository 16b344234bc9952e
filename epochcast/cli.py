"""What every command line shares: argument types, lists, filters, printed answers and exit codes."""

from __future__ import annotations

import argparse
import json
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NoReturn

from epochcast.guard import EXIT_USAGE, interruptible
from epochcast.paths import expanded, home, runs_agg_csv
from epochcast.storage.cells import shown
from epochcast.text_sinks import MessageFormatter, escaped_output, message_text, one_line, terminal_text

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


# --- argument types: each raises ArgumentTypeError, which argparse turns into one line and exit code 2 ----------------


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


def filter_of(text: str) -> dict[str, str]:
    """A filter from `depth=3,base_filters=32`: every pair must hold. Repeated, such a flag is for either of them."""
    return _pairs(text, "repeat the flag for either")


def conditions_of(text: str) -> dict[str, str]:
    """Conditions from `backend=jax,tf32=on`: every pair must hold, of a repeated flag too (`AllPairs`)."""
    return _pairs(text, "one value can hold")


def _pairs(text: str, remedy: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, separator, value = part.partition("=")
        if not separator or not name.strip():
            raise argparse.ArgumentTypeError(f"expected NAME=VALUE[,NAME=VALUE...], got {shown(text)}")
        if name.strip() in pairs:
            raise argparse.ArgumentTypeError(f"{name.strip()} stands twice in {shown(text)}; {remedy}")
        pairs[name.strip()] = value.strip()
    return pairs


class AllPairs(argparse.Action):
    """What a repeated flag of NAME=VALUE pairs says together: every pair must hold, so a name has one value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # argparse: whatever the flag's type returns
        option_string: str | None = None,
    ) -> None:
        before: dict[str, str] = getattr(namespace, self.dest) or {}
        for name, value in values.items():
            if before.get(name, value) != value:
                both = f"{shown(before[name])} and {shown(value)}"
                raise argparse.ArgumentError(self, f"{name} can't be both {both}: of repeated flags every pair holds")
        setattr(namespace, self.dest, {**before, **values})


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
        nothing_to_tell = action.default is None or action.default is False or action.default == {}
        return action.help if is_told or nothing_to_tell else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:  # a stream, None: standard error
        super()._print_message(terminal_text(message), file)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{message_text(f'error: {message}')}\nSee {self.prog} --help.\n")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:  # Any: of argparse's own
        """As argparse's, which takes the value of `--flag=--` for none at all and gives an empty list."""
        if action.option_strings and arg_strings == ["--"]:
            raise argparse.ArgumentError(action, "expected a value, got '--'")
        return super()._get_values(action, arg_strings)  # type: ignore[misc]  # it has no public name


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


def add_conditions_flag(
    parser: argparse._ActionsContainer,
    what: str = "use only rows measured under these conditions, e.g. backend=jax,precision=float32",
) -> None:
    """A flag whose pairs, of all its repeats, must all hold."""
    parser.add_argument(
        "--conditions",
        type=conditions_of,
        action=AllPairs,
        default={},
        metavar="NAME=VALUE[,...]",
        help=f"{what}; may be repeated: every pair must hold",
    )


def add_table_flags(parser: argparse._ActionsContainer, is_optional: bool = False) -> None:
    """Flags of a command that reads one set of conditions from a table of averages.

    With `is_optional` no table named is None: the command then takes the default one if there is any.
    """
    if is_optional:
        what = "table of averages; default: results/runs_agg.csv, if anything is measured"
        parser.add_argument("--runs_agg", type=path_of, metavar="PATH", help=what)
    else:
        path_flag(parser, "--runs_agg", runs_agg_csv, "table of averages; made anew where its runs.csv has changed")
    parser.add_argument("--frozen", action="store_true", help="refuse a table that is out of date")
    add_conditions_flag(parser)


def path_flag(parser: argparse._ActionsContainer, name: str, default: Callable[[], Path], what: str) -> None:
    """A flag for a path whose default lies below `home()` and is looked up when the command runs."""
    parser.add_argument(name, type=path_of, default=default(), metavar="PATH", help=what)


# --- running a command ------------------------------------------------------------------------------------------------


def run_command(work: Callable[[], int], *, outlives_readers: bool = False) -> int:
    """The exit code of `work`; what it raises becomes one sentence on stderr, and Ctrl-C `interrupted`.

    With `outlives_readers`, as measuring needs it, `work` goes on and succeeds though nobody can read what it prints.
    """
    with escaped_output(outlives_readers=outlives_readers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(MessageFormatter("%(levelname)s: %(message)s"))
        logging.basicConfig(level=logging.WARNING, handlers=[handler])
        return interruptible(work)


def print_home() -> None:
    """Say on stderr where files are read and written."""
    print(message_text(f"files under {home()}"), file=sys.stderr)


def print_notes(notes: Iterable[str]) -> None:
    """Say on stderr what was decided for the user, a line each."""
    for note in notes:
        print(message_text(f"note: {note}"), file=sys.stderr)


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


def json_line(value: Any) -> str:
    """A JSON value as `--json` prints it: one line that any reader of JSON takes.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, allow_nan=False)


def print_answer(values: Mapping[str, Any], as_json: bool) -> None:
    """Print an answer: `name: value` lines with 3 significant figures, or one JSON object in full precision."""
    if as_json:
        print(json_line(values))
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
