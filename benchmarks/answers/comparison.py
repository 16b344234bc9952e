"""Comparison of two answers, key by key: equal, renamed, reworded, different, missing or new."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

# old key -> new key, of a JSON object, a column or a file; the one place for it. CHANGELOG lists them too.
RENAMED = {
    "peak_memory_lo_gib": "peak_memory_gib_low",
    "peak_memory_hi_gib": "peak_memory_gib_high",
    "board_energy_lo_j": "board_energy_j_per_epoch_low",
    "board_energy_hi_j": "board_energy_j_per_epoch_high",
    "low_sec": "predicted_sec_low",
    "high_sec": "predicted_sec_high",
    "ci95_low": "ratio_low",
    "ci95_high": "ratio_high",
    "waiting_share_ci95_lo": "waiting_share_low",
    "waiting_share_ci95_hi": "waiting_share_high",
    **{f"{part}_upper": f"{part}_high" for part in ("overhead_sec", "first_epoch_sec", "steady_sec", "total_sec")},
    **{f"total_{unit}_upper": f"total_{unit}_high" for unit in ("kwh", "usd", "kgco2")},
}
# globs of `/key/key`: what CHANGELOG announces beside new names
ANNOUNCED = (
    "*_low",  # the low end beside each high one of a plan
    "*/coverage",  # of the intervals
    "*/place",  # of predict, as domain says the same
    "*/schema_version",  # of plan files
    "/json/*/range",  # of facts, two keys now
    "*_high",  # the same
)

EQUAL, RENAMED_KEY, REWORDED, EXPECTED = "equal", "renamed", "reworded", "announced"
DIFFERENT, MISSING, NEW = "different", "missing", "new"
FAILURES = (DIFFERENT, MISSING, NEW)
MASKED = "<masked>"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Mask:
    """Part of an answer that differs between two runs of the same code, with the reason."""

    where: str  # glob of `invocation/key/key`
    reason: str
    pattern: str = ""  # only what this matches; everything where it is empty


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one place of two answers."""

    kind: str
    where: str
    before: Any = None  # Any: a JSON value
    after: Any = None  # the same


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much two numbers may differ and be equal."""

    relative: float = 0.0
    absolute: float = 0.0

    def allows(self, before: float, after: float) -> bool:
        return before == after or math.isclose(before, after, rel_tol=self.relative, abs_tol=self.absolute)


EXACT = Tolerance()


def findings(
    before: Any,  # Any: a JSON value
    after: Any,  # the same
    tolerance: Tolerance = EXACT,
    renamed: Mapping[str, str] = RENAMED,
    where: str = "",
) -> Iterator[Finding]:
    """Yield one finding for each value of two answers, and one for each renamed key."""
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(before, after, tolerance, renamed, where)
    elif isinstance(before, list) and isinstance(after, list):
        for i in range(max(len(before), len(after))):
            at = f"{where}/{_name(before, after, i)}"
            if i >= len(after):
                yield Finding(MISSING, at, before=before[i])
            elif i >= len(before):
                yield Finding(NEW, at, after=after[i])
            else:
                yield from findings(before[i], after[i], tolerance, renamed, at)
    else:
        yield Finding(_kind(before, after, tolerance), where, before, after)


def _of_objects(
    before: dict[str, Any],  # Any: JSON values
    after: dict[str, Any],  # the same
    tolerance: Tolerance,
    renamed: Mapping[str, str],
    where: str,
) -> Iterator[Finding]:
    new = dict(after)
    for key, value in before.items():
        at = f"{where}/{key}"
        name = key if key in new else renamed.get(key, key)
        if name not in new:
            yield Finding(MISSING, at, before=value)
            continue
        if name != key:
            yield Finding(RENAMED_KEY, at, key, name)
        yield from findings(value, new.pop(name), tolerance, renamed, at)
    for key, value in new.items():
        yield Finding(NEW, f"{where}/{key}", after=value)


def _name(before: list[Any], after: list[Any], i: int) -> str:  # Any: JSON values
    """The name of an item where it has one, else its number."""
    item = (before if i < len(before) else after)[i]
    return str(item["name"]) if isinstance(item, dict) and "name" in item else str(i)


def _kind(before: Any, after: Any, tolerance: Tolerance) -> str:  # Any: JSON values
    if isinstance(before, str) and isinstance(after, str):
        return _kind_of_text(before, after, tolerance)
    if isinstance(before, bool) or isinstance(after, bool) or not _are_numbers(before, after):
        return EQUAL if type(before) is type(after) and before == after else DIFFERENT
    return EQUAL if tolerance.allows(before, after) else DIFFERENT


def _are_numbers(*values: Any) -> bool:  # Any: JSON values
    return all(isinstance(value, int | float) for value in values)


def _kind_of_text(before: str, after: str, tolerance: Tolerance) -> str:
    """Return `reworded` for a sentence of other words with the same numbers."""
    if before == after:
        return EQUAL
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(text)] for text in (before, after)]
    if len(numbers[0]) != len(numbers[1]) or not all(map(tolerance.allows, *numbers)):
        return DIFFERENT
    if NUMBER.sub("0", before) == NUMBER.sub("0", after):
        return EQUAL  # the same words; numbers within the tolerance
    return REWORDED if " " in before.strip() else DIFFERENT


def is_announced(finding: Finding) -> bool:
    """Return whether a difference is one that CHANGELOG announces."""
    return any(fnmatchcase(finding.where, pattern) for pattern in ANNOUNCED)


def masked(value: Any, masks: tuple[Mask, ...], where: str) -> Any:  # Any: a JSON value
    """Return an answer with everything replaced that the masks name."""
    if isinstance(value, dict):
        return {key: masked(item, masks, f"{where}/{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, masks, f"{where}/{_name(value, value, i)}") for i, item in enumerate(value)]
    for mask in masks:
        if not fnmatchcase(where, mask.where):
            continue
        if not mask.pattern:
            value = MASKED
        elif isinstance(value, str):
            value = re.sub(mask.pattern, MASKED, value)
    return value
