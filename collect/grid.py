"""What a grid of runs is: its specs, from lists or a file, and the names by which a resumed grid knows its runs."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from collect.run_one import DEFAULT, make_spec, steps_per_execution
from collect.runner import spec_id
from epochcast.assumptions import device_kind_of
from epochcast.environment import box_device_name
from epochcast.schema import Conditions, Exclusion, RunConfig, RunSpec

WANTED: dict[Any, str] = {int: "a whole number", float: "a number", str: "a word"}
CARRIED_CONDITIONS = ("pipeline", "precision", "jit_compile", "steps_per_execution", "train_n")


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a grid, under the name by which a resumed grid knows it again."""

    spec: RunSpec
    run_id: str


def grid_runs(specs: Iterable[RunSpec], repeats: int, excluded: Mapping[str, Exclusion]) -> list[PlannedRun]:
    """Every spec `repeats` times, named; a run that was taken back gets a new name, so that it is measured again.

    Raises:
        ValueError: if there is no spec.
    """
    device = box_device_name()
    planned = []
    for spec in dict.fromkeys(specs):
        base = spec_id(spec, device)
        for repeat in range(1, repeats + 1):
            run_id, attempt = f"{base}-r{repeat}", 2
            while run_id in excluded:
                run_id, attempt = f"{base}-r{repeat}.{attempt}", attempt + 1
            planned.append(PlannedRun(spec, run_id))
    if not planned:
        raise ValueError("the grid is empty: name at least one configuration.")
    return planned


def spec_under(config: RunConfig, epochs: int | None, conditions: Conditions, in_windows: bool = False) -> RunSpec:
    """A run of a configuration under conditions, as far as they are known; of whole epochs unless `in_windows`."""
    as_asked = {
        name: getattr(conditions, name)
        for name in (*CARRIED_CONDITIONS, *(["window_steps"] if in_windows else []))
        if getattr(conditions, name) is not None
    }
    if conditions.device_name is not None and device_kind_of(conditions.device_name) == "cpu":
        as_asked["device"] = "cpu"
    dataset = "synthetic" if conditions.dataset == "synthetic" else "auto"
    return RunSpec(**asdict(config), epochs=epochs, dataset=dataset, **as_asked)


def grid_name(planned: Sequence[PlannedRun]) -> str:
    """A name for a set of runs, whatever their order."""
    return "grid-" + hashlib.sha256(" ".join(sorted(p.run_id for p in planned)).encode()).hexdigest()[:8]


def read_configs(path: Path, defaults: RunSpec) -> list[RunSpec]:
    """Specs from a CSV or JSON file: one row or object a configuration, named like the flags; the rest from `defaults`.

    Raises:
        ValueError: names file, line and column of what is wrong.
        OSError: if the file can't be read.
    """
    rows = list(_read_objects(path))
    if not rows:
        raise ValueError(f"{path.absolute()}: the grid is empty: no configuration in the file.")
    kinds: dict[str, Callable[[Any], Any]] = {f.name: type(getattr(DEFAULT, f.name)) for f in fields(RunSpec)}
    kinds |= {"epochs": int, "window_steps": int, "data_dir": str, "steps_per_execution": steps_per_execution}
    specs = []
    for where, row in rows:
        if unknown := [str(name) for name in row if name not in kinds]:
            raise ValueError(f"{where}: unknown column {', '.join(unknown)}; use {', '.join(kinds)}.")
        chosen = {}
        for name, value in row.items():
            if value in (None, ""):
                continue
            try:
                if isinstance(value, (bool, list, dict)) or (isinstance(value, float) and kinds[name] is not float):
                    raise ValueError
                chosen[name] = kinds[name](value)
            except ValueError:
                wanted = WANTED.get(kinds[name], "auto or a whole number")
                raise ValueError(f"{where}, column {name!r}: expected {wanted}, got {value!r}.") from None
        try:
            specs.append(make_spec(asdict(defaults) | chosen))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return specs


def _read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row or object of a file, with where it stands."""
    path = path.absolute()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    if path.suffix.lower() == ".json":
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{path}: expected a list of objects, one a configuration.")
        yield from ((f"{path}, object {number}", row) for number, row in enumerate(rows, start=1))
        return
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        for row in reader:
            if (extra := row.pop(None, None)) is not None:  # type: ignore[call-overload]  # the key of cells too many
                raise ValueError(f"{path}:{reader.line_num}: more cells than columns: {', '.join(extra)}.")
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.reader.line_num}: not CSV: {error}.") from None
