"""Lists of configurations, read strictly: what `grid --configs`, `plan --candidates` and `evaluate --unseen` take.

A row of a CSV file, or an object of a JSON list, is a run; columns are named like the flags. An empty cell or null
leaves its value to the flags. A blank line, or a row of empty cells as spreadsheets leave them, is no row. Whatever
else is not plain is an error: no run is made of defaults that nobody listed.
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from epochcast.collect.run.flags import make_spec
from epochcast.schema import RunConfig, RunSpec
from epochcast.storage.cells import shown
from epochcast.storage.files import read_text
from epochcast.storage.json_files import read_json
from epochcast.storage.table_lines import SEPARATORS, cells_of
from epochcast.validation import LARGEST_SETTING, FieldError

logger = logging.getLogger(__name__)

MAX_CONFIGURATIONS = 10_000  # years of measuring: more is a slip of the pen
MAX_DIGITS = 40
OWN = tuple(field.name for field in fields(RunConfig))
NAMES = tuple(field.name for field in fields(RunSpec))
_WHOLE = re.compile(r"-?\d+(\.0)?", re.ASCII)  # pandas writes whole numbers with .0 where a column has gaps
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)

_Item = TypeVar("_Item")
_Row = tuple[str, Mapping[str, Any]]  # where it stands, and its filled cells by their column


def read_specs(path: Path, defaults: RunSpec) -> list[RunSpec]:
    """The runs that a CSV or JSON file lists, each once; what a row leaves open is taken from `defaults`.

    Raises:
        ValueError: names file, line and column of what is wrong.
        OSError: if the file can't be read.
    """
    rows = _rows(path.absolute())
    return _once([_spec(where, values, defaults) for where, values in rows], path)


def read_configs(path: Path) -> list[RunConfig]:
    """The configurations that a CSV or JSON file lists, each once; every row names every axis.

    Raises:
        ValueError: names file, line and column of what is wrong.
        OSError: if the file can't be read.
    """
    configs = []
    for where, values in _rows(path.absolute()):
        if missing := [name for name in OWN if name not in values]:
            raise ValueError(f"{where}: {', '.join(missing)} not named. A row needs {', '.join(OWN)}.")
        configs.append(_spec(where, values, RunSpec()).config)
    return _once(configs, path)


def _once(items: list[_Item], path: Path) -> list[_Item]:
    """The items without repetitions, which are counted in a warning."""
    if n_again := len(items) - len(unique := list(dict.fromkeys(items))):
        logger.warning("%s: %d of %d rows repeat another one: each is taken once", path, n_again, len(items))
    return unique


# --- values ----------------------------------------------------------------------------------------------------------


def _spec(where: str, values: Mapping[str, Any], defaults: RunSpec) -> RunSpec:
    chosen = {name: _value(where, name, value) for name, value in values.items()}
    try:
        spec = make_spec(asdict(defaults) | chosen)
    except FieldError as error:
        raise _bad_cell(where, error.column, error.expected, error.got) from None
    except (ValueError, RuntimeError) as error:  # a home folder of nobody in data_dir
        raise ValueError(f"{where}: {str(error).rstrip('.')}. Correct the row.") from None
    if not set(OWN) & values.keys():
        raise ValueError(
            f"{where}: a run without a configuration: none of {', '.join(OWN)} is named. Name one, or delete the row."
        )
    return spec


def _bad_cell(where: str, name: str, expected: str, got: str) -> ValueError:
    got = got if len(got) <= 62 else f"{got[:60]}..."
    return ValueError(f"{where}, column {name!r}: expected {expected}, got {got}. Correct the cell, or delete the row.")


def _value(where: str, name: str, value: Any) -> Any:
    """A cell or a JSON value as its field takes it."""
    kinds = _kinds()[name]
    if int in kinds and (whole := _whole(value)) is not None:
        if abs(whole) > LARGEST_SETTING:
            raise _bad_cell(where, name, f"at most {LARGEST_SETTING:,}", repr(value))
        return whole
    if float in kinds and (number := _number(value)) is not None:
        return number
    if str in kinds and isinstance(value, str):
        return value
    wanted = "a whole number" if int in kinds else "a number" if float in kinds else "a word"
    raise _bad_cell(where, name, wanted, repr(value))


def _whole(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value.removesuffix(".0")) if len(value) <= MAX_DIGITS and _WHOLE.fullmatch(value) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and value == int(value) else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        number = float(value) if len(value) <= MAX_DIGITS and _NUMBER.fullmatch(value) else math.nan
        return number if math.isfinite(number) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@functools.cache
def _kinds() -> dict[str, frozenset[type]]:
    """Which types a field of a spec takes, None apart."""
    found = {}
    for name, hint in typing.get_type_hints(RunSpec).items():
        alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        found[name] = frozenset(alternatives) - {type(None)}
    return found


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> list[_Row]:
    """Every row or object with something in it."""
    rows: list[_Row] = []
    for row in _objects(path) if path.suffix.lower() == ".json" else _lines(path):
        if len(rows) == MAX_CONFIGURATIONS:
            raise ValueError(f"{path}: more than {MAX_CONFIGURATIONS:,} configurations. Split the list.")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no configuration in the file. Write one a row, below a header like {','.join(OWN)}.")
    return rows


def _objects(path: Path) -> Iterator[_Row]:
    objects = read_json(path)
    if not isinstance(objects, list) or not all(isinstance(values, dict) for values in objects):
        raise ValueError(f"{path}: expected a list of objects, one a configuration.")
    for number, values in enumerate(objects, start=1):
        where = f"{path}, object {number}"
        if not values:
            raise ValueError(f"{where}: empty. Name {', '.join(OWN)}, or delete it.")
        _check_names(where, list(values))
        filled = {name: value for name, value in values.items() if value is not None and value != ""}
        if filled:
            yield where, filled


def _lines(path: Path) -> Iterator[_Row]:
    text = read_text(path)
    names: list[str] | None = None
    start = 0
    for number in range(1, text.count("\n") + 2):  # one line after the other: a list of all takes ten times the memory
        end = text.find("\n", start)
        line, start = text[start : None if end < 0 else end], end + 1
        where = f"{path}:{number}"
        if not (cells := _cells(where, line)):
            continue
        if names is None:
            names = _header(where, line, cells)
        elif any(cell.strip() for cell in cells):
            if len(cells) != len(names):
                raise ValueError(
                    f"{where}: expected {len(names)} cell{'s' if len(names) > 1 else ''}, as in the header, "
                    f"got {len(cells)}. Correct the row, or delete it."
                )
            yield where, {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()}


def _cells(where: str, line: str) -> list[str]:
    try:
        return cells_of(line)
    except ValueError as error:
        raise ValueError(f"{where}: {error}.") from None


def _header(where: str, line: str, names: list[str]) -> list[str]:
    if line.startswith(("[", "{")):
        raise ValueError(f"{where}: looks like JSON. Give the file a name that ends in .json.")
    for separator, words in SEPARATORS.items():
        if len(names) == 1 and separator in line:
            raise ValueError(f"{where}: the columns are separated by {words}, expected ','.")
    _check_names(where, names)
    return names


def _check_names(where: str, names: Sequence[str]) -> None:
    """Raise unless every name is a column, and stands once."""
    if len(names) > 2 * len(NAMES):
        raise ValueError(f"{where}: {len(names):,} columns; there are {len(NAMES)}: {', '.join(NAMES)}.")
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise ValueError(f"{where}: column {number} has no name. Name it, or delete the column.")
        if name not in NAMES:
            close = difflib.get_close_matches(name[:60], NAMES, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"{where}: unknown column {shown(name)}{hint}; use {', '.join(NAMES)}.")
        if name in names[: number - 1]:
            raise ValueError(f"{where}: column {name!r} stands twice. Delete one of them.")
