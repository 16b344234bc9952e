"""Values that stand in for what was not measured on this box yet, each with its source; whoever uses one says so."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass

from epochcast.paths import PACKAGE


@dataclass(frozen=True, slots=True)
class Assumption:
    """One assumed value with its unit and where it comes from."""

    name: str
    device_kind: str  # gpu | cpu
    value: float
    unit: str
    source: str
    date: str
    confidence: str  # as in the facts: `two` sources that agree, a `single` one, empty where there is none


def assumption(name: str, kind: str) -> Assumption:
    """Return the assumed value of `name` for a kind of device.

    Raises:
        KeyError: if there is none.
    """
    found = _assumptions().get((name, kind))
    if found is None:
        raise KeyError(f"no assumption {name!r} for a {kind}")
    return found


@functools.cache
def _assumptions() -> dict[tuple[str, str], Assumption]:
    """Read all assumed values, once per process: by name and kind of device."""
    with (PACKAGE / "data" / "assumptions.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            Assumption(**{**row, "value": float(row["value"])})  # type: ignore[arg-type]  # one cell is a number
            for row in csv.DictReader(file)
        ]
    return {(row.name, row.device_kind): row for row in rows}


def device_kind_of(device_name: str | None) -> str:
    """`cpu` for a device named as `environment.cpu_name` names one, else `gpu` (also where it is unknown)."""
    return "cpu" if device_name is not None and device_name.endswith(" cores)") else "gpu"
