"""A regressor as two files: its entries and its fitted numbers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epochcast.facts.tables import FACTS
from epochcast.mlperf.regressor.covariance import NOISE, TERMS
from epochcast.mlperf.regressor.entries import EntryMedian
from epochcast.mlperf.regressor.ranges import BASES
from epochcast.mlperf.regressor.regressor import Fitted, TimeRegressor
from epochcast.storage.cells import header_line
from epochcast.storage.files import make_folder, read_text, refuse_another_kind, sha256_of, write_json_atomically
from epochcast.storage.tables import read_table, write_table
from epochcast.validation import is_finite

SHIPPED = FACTS / "mlperf"
ENTRIES, FITTED = "entries.csv", "fitted.json"
_KEYS = {"variances", "weights", "range_factors", "errors"}


def save_regressor(folder: Path, regressor: TimeRegressor) -> None:
    """Write both files; the numbers name the hash of the entries that they were fitted to.

    Raises:
        OSError: if the folder can't be written.
        ValueError: if a file of that name is something else.
    """
    folder = folder.absolute()
    make_folder(folder)
    table = folder / ENTRIES
    refuse_another_kind(table, header_line(EntryMedian).encode())
    write_table(table, list(regressor.entries), EntryMedian)
    numbers = {"entries_sha256": sha256_of(table), **asdict(regressor.fitted)}
    write_json_atomically(folder / FITTED, numbers)


def load_regressor(folder: Path = SHIPPED) -> TimeRegressor:
    """Return the regressor of a folder, by default the one that comes with the program.

    Raises:
        FileNotFoundError: if one of its files is missing.
        ValueError: if one of them is damaged, or they do not belong together.
    """
    folder = folder.absolute()
    table, file = folder / ENTRIES, folder / FITTED
    entries = read_table(table, EntryMedian)
    remedy = "Fit it again: epochcast mlperf train RECORDS --out FOLDER"
    try:
        numbers = json.loads(read_text(file))
        fitted = _fitted(numbers, len(entries))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; a regressor is {ENTRIES} and {FITTED}. {remedy}") from None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{file}: expected the numbers of a regressor; {type(error).__name__}: {error}. {remedy}"
        ) from None
    if numbers.get("entries_sha256") != sha256_of(table):
        raise ValueError(f"{file}: fitted to other entries than {table} has. {remedy}")
    return TimeRegressor(entries, fitted)


def _fitted(numbers: dict[str, Any], n_entries: int) -> Fitted:
    values = {name: numbers[name] for name in _KEYS}
    if values["variances"].keys() != {*TERMS, NOISE}:
        raise ValueError("variances of other terms")
    if len(values["weights"]) != n_entries:
        raise ValueError(f"{len(values['weights'])} weights of {n_entries} entries")
    if not values["range_factors"].keys() <= BASES.keys():
        raise ValueError("range factors of other bases")
    positive = [*values["variances"].values(), *values["weights"], *values["range_factors"].values()]
    if not all(is_finite(value) and value > 0 for value in positive):
        raise ValueError("a number that is not above 0")
    if not all(is_finite(value) and value >= 0 for value in values["errors"].values()):
        raise ValueError("an error below 0")
    return Fitted(**(values | {"weights": tuple(values["weights"])}))
