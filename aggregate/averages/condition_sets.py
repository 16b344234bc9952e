"""The choice of one set of conditions out of a table of averages: rows of different conditions are never mixed.

Where a table holds several sets, one of this box is taken, which `condition_order` prefers, and the others are listed
with the flag that picks each. A set of another device is taken only where no row is of this box.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.condition_order import decisive, standing, standing_words
from epochcast.gpus.device_names import respelled, with_one_name
from epochcast.gpus.lookup import index_in_box
from epochcast.machine.gpu_driver import box_device_name
from epochcast.schema import AggRow, Conditions
from epochcast.storage.cells import columns, parse_time
from epochcast.storage.filters import matches
from epochcast.storage.tables import read_runs


@dataclass(frozen=True, slots=True)
class OtherSet:
    """A set of conditions that was not taken: the flag that picks it, and how many rows it has."""

    flag: str
    n_rows: int
    conditions: Conditions

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
        others = [{"flag": other.flag, "n_rows": other.n_rows} for other in self.others]
        return {"conditions_chosen": self.reason or None, "other_conditions": others}


def one_set_of_conditions(
    rows: Sequence[AggRow], filters: Sequence[Mapping[str, str]], runs: Path | None = None
) -> ChosenSet:
    """Return the rows of one set of conditions among those that the filters let through.

    Of several sets those of the device that a run on this box uses go before those of its other GPUs, and these before
    those of other boxes; then the order is that of `condition_order`. Of level sets the one of the newest run is taken.

    Args:
        runs: the table of runs that the rows are averages of; None: of level sets the last in `rows` is taken.

    Raises:
        ValueError: if no row is left.
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
    box, flags = box_device_name(), _flags(rows)
    places = {conditions: index_in_box(conditions.device_name) for conditions in sizes}
    own = [c for c, place in places.items() if place == 0] or [c for c, place in places.items() if place is not None]
    n_runs = {conditions: sum(row.n for row in chosen if row.conditions == conditions) for conditions in sizes}
    ranks = {conditions: standing(conditions, sizes[conditions], n_runs[conditions]) for conditions in own or sizes}
    newest_words = "the newest"
    if sum(rank == max(ranks.values()) for rank in ranks.values()) > 1:
        if not (newest := _newest_runs(runs)):  # averages have no dates
            newest_words = "the last in the table"
            newest = {row.conditions: (i,) for i, row in enumerate(chosen)}
        ranks = {conditions: rank._replace(newest=newest.get(conditions, ())) for conditions, rank in ranks.items()}
    best = max(ranks, key=lambda conditions: ranks[conditions])
    rivals = [rank for conditions, rank in ranks.items() if conditions != best]
    which = decisive(ranks[best], rivals, standing_words(ranks[best], newest_words)) or "the only one"
    whose = f"{which} of this box" if own else f"{which}, as none is of this box ({box})"
    used = OtherSet(flags[best], sizes[best], best)
    reason = (
        f"the table mixes {len(sizes)} sets of conditions; used: {whose}, {used} of "
        f"{best.device_name or 'an unknown device'}"
    )
    others = tuple(OtherSet(flags[c], n, c) for c, n in sizes.most_common() if c != best)
    return ChosenSet([row for row in chosen if row.conditions == best], reason, others)


def _newest_runs(runs: Path | None) -> dict[Conditions, tuple[Any, ...]]:
    """When each set's newest run ended, and its place for those of one second; empty without a table of runs."""
    found: dict[Conditions, tuple[Any, ...]] = {}
    for i, record in enumerate([] if runs is None else with_one_name(read_runs(runs).rows)):
        found[record.conditions] = max(found.get(record.conditions, ()), (parse_time(record.timestamp_utc), i))
    return found


def _flags(rows: Sequence[AggRow]) -> dict[Conditions, str]:
    """The flag that picks each set of conditions out of all rows."""
    sets = {row.conditions: asdict(row.conditions) for row in rows}
    differing = [name for name in columns(Conditions) if len({own[name] for own in sets.values()}) > 1]
    return {conditions: _as_flag({name: own[name] for name in differing}) for conditions, own in sets.items()}


def _as_flag(pairs: Mapping[str, Any]) -> str:
    """`--conditions` with these pairs, as a shell takes it; unknown is an empty value."""
    return "--conditions " + shlex.quote(",".join(f"{k}={'' if v is None else v}" for k, v in pairs.items()))
