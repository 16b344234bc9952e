"""The choice of one set of conditions out of a table of averages: rows of different conditions are never mixed.

Where a table holds several sets, the set of this box with the most rows is taken, and the others are listed with the
flag that picks each. A set of another device is taken only where no row is of this box.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from epochcast.cells import columns
from epochcast.cli import matches
from epochcast.device_names import respelled
from epochcast.gpu_driver import box_device_name
from epochcast.hardware import is_same_device
from epochcast.schema import AggRow, Conditions


@dataclass(frozen=True, slots=True)
class OtherSet:
    """A set of conditions that was not taken: the flag that picks it, and how many rows it has."""

    flag: str
    n_rows: int

    def __str__(self) -> str:
        return f"{self.flag}   ({self.n_rows} row{'' if self.n_rows == 1 else 's'})"


@dataclass(frozen=True, slots=True)
class ChosenSet:
    """Rows of one set of conditions; `reason` says why these, and is empty where the table has no other set."""

    rows: list[AggRow]
    reason: str = ""
    others: tuple[OtherSet, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What to say of the choice, one line each."""
        return [*([self.reason] if self.reason else []), *(f"not used: {other}" for other in self.others)]

    def to_json(self) -> dict[str, Any]:
        """The choice as JSON values."""
        return {"conditions_chosen": self.reason or None, "other_conditions": [asdict(other) for other in self.others]}


def one_set_of_conditions(rows: Sequence[AggRow], filters: Sequence[Mapping[str, str]]) -> ChosenSet:
    """Return the rows of one set of conditions among those that the filters let through.

    Of several sets this box's own go before those of other devices, then the one with most rows is taken, then the one
    with most runs.

    Raises:
        ValueError: if no row is left, or two sets have as many rows and runs: then it lists how they differ.
    """
    filters = respelled(filters, rows)
    chosen = [row for row in rows if not filters or matches(row, filters)]
    if not chosen:
        asked = " ".join(_as_flag(pairs) for pairs in filters)
        counts = Counter(row.conditions.describe() for row in rows)
        listed = "\n".join(f"  {conditions}   ({n} rows)" for conditions, n in counts.items())
        raise ValueError(f"none of {len(rows)} rows satisfies {asked}. The table holds:\n{listed}")
    sizes = Counter(row.conditions for row in chosen)
    if len(sizes) == 1:
        return ChosenSet(chosen)
    box = box_device_name()
    own = [conditions for conditions in sizes if is_same_device(conditions.device_name, box)]
    runs = {conditions: sum(row.n for row in chosen if row.conditions == conditions) for conditions in sizes}
    ranked = sorted(own or sizes, key=lambda conditions: (sizes[conditions], runs[conditions]), reverse=True)
    best, *rest = ranked
    flags = _flags(rows)
    if rest and (sizes[best], runs[best]) == (sizes[rest[0]], runs[rest[0]]):
        listed = "\n".join(f"  {OtherSet(flags[conditions], sizes[conditions])}" for conditions in sizes)
        raise ValueError(
            f"the table mixes {len(sizes)} sets of conditions, which are never averaged or fitted together, and none "
            f"has most rows. Choose one:\n{listed}"
        )
    whose = "the largest of this box" if own else f"the largest, as none is of this box ({box})"
    reason = (
        f"the table mixes {len(sizes)} sets of conditions; used: {whose}, "
        f"{OtherSet(flags[best], sizes[best])} of {best.device_name or 'an unknown device'}"
    )
    others = tuple(OtherSet(flags[c], n) for c, n in sizes.most_common() if c != best)
    return ChosenSet([row for row in chosen if row.conditions == best], reason, others)


def _flags(rows: Sequence[AggRow]) -> dict[Conditions, str]:
    """The flag that picks each set of conditions out of all rows."""
    sets = {row.conditions: asdict(row.conditions) for row in rows}
    differing = [name for name in columns(Conditions) if len({own[name] for own in sets.values()}) > 1]
    return {conditions: _as_flag({name: own[name] for name in differing}) for conditions, own in sets.items()}


def _as_flag(pairs: Mapping[str, Any]) -> str:
    """`--conditions` with these pairs, as a shell takes it; unknown is an empty value."""
    return "--conditions " + shlex.quote(",".join(f"{k}={'' if v is None else v}" for k, v in pairs.items()))
