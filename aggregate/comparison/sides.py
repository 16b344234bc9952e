"""The two sides of a comparison: runs of one set of conditions each, with an account of every row read."""

from __future__ import annotations

import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.averaging import has_sound_energy
from epochcast.aggregate.averages.steady_rows import SteadyRows
from epochcast.aggregate.comparison.spread import MeasuredRun, SideSpread
from epochcast.facts.assumptions import device_kind_of
from epochcast.gpus.device_names import are_same_conditions, respelled, with_one_name
from epochcast.gpus.lookup import is_same_device
from epochcast.paths import command_text
from epochcast.schema import TRAIN_N, Conditions, RunConfig, RunRecord
from epochcast.storage.cells import columns, parse_time
from epochcast.storage.filters import matches
from epochcast.storage.tables import RunTable
from epochcast.workload.shape import count_params

Filters = Sequence[Mapping[str, str]]
# what a time may depend on beside the conditions, told where it differs
REPORTED_COLUMNS = ("keras_version", "driver_version", "gpu_uuid", "power_limit_w", "compile_cache", "git_commit")

FEWEST_TURNS = 3  # a b a b: fewer are two campaigns, or one about the other


@dataclass(frozen=True, slots=True)
class Side:
    """One side; `n_read` = `n_excluded` + `n_others` + `n_left_out` + the runs in `runs`."""

    name: str  # a | b
    path: Path
    conditions: Conditions
    runs: dict[RunConfig, list[RunRecord]]
    steady: SteadyRows
    n_read: int
    n_excluded: int
    n_others: int  # of other conditions, by the filters
    n_left_out: int  # flagged runs of configurations that have clean ones
    unclean: list[RunConfig]  # configurations of flagged runs only

    @property
    def measured(self) -> dict[RunConfig, list[MeasuredRun]]:
        """The runs as they are compared."""
        return {
            config: [MeasuredRun.of(r.epoch_times_json, r.window_factor, self.steady.of(r)) for r in records]
            for config, records in self.runs.items()
        }

    @property
    def records(self) -> list[RunRecord]:
        """All runs, ordered by time."""
        records = [record for of_config in self.runs.values() for record in of_config]
        return sorted(records, key=lambda record: parse_time(record.timestamp_utc))

    @property
    def period(self) -> tuple[str, str]:
        """Time stamps of the first and the last run."""
        records = self.records
        return records[0].timestamp_utc, records[-1].timestamp_utc

    def spread(self) -> SideSpread:
        return SideSpread(self.measured, device_kind_of(self.conditions.device_name))


def make_side(name: str, table: RunTable, filters: Sequence[Filters]) -> Side:
    """The runs of a table that satisfy each group of filters (any filter of it), by configuration.

    Raises:
        ValueError: if none does, if those that do have several sets of conditions (it lists them), or another network.
    """
    rows = with_one_name(table.rows)
    groups_asked = [respelled(group, rows) for group in filters]
    chosen = [r for r in rows if all(not group or _satisfies(r, group) for group in groups_asked)]
    found = Counter(record.conditions for record in chosen or rows)
    where = f"side {name}, {table.path.absolute()}"
    if not table.rows:
        raise ValueError(f"{where}: it holds no finished run. Measure one: {command_text('run')}")
    if not chosen:
        raise ValueError(f"{where}: none of {len(table.rows)} runs is as asked. It holds:\n{_choices(name, found)}")
    if len(found) > 1:
        choices = _choices(name, found, {record.conditions for record in rows}, _kept_pairs(filters))
        raise ValueError(f"{where}: {len(found)} sets of conditions, and a side is one. Choose one:\n{choices}")
    groups: dict[RunConfig, list[RunRecord]] = defaultdict(list)
    for record in chosen:
        if record.params != (params := count_params(record.config)):
            raise ValueError(
                f"{where}: {record.config} has {params} parameters, run {record.run_id or record.timestamp_utc} says "
                f"{record.params}: another network, or an edited cell. Take it back in excluded.csv."
            )
        groups[record.config].append(record)
    steady = SteadyRows(rows)
    clean = {config: [r for r in records if steady.is_clean(r)] for config, records in sorted(groups.items())}
    runs = {config: records or groups[config] for config, records in clean.items()}
    return Side(
        name=name,
        path=table.path.absolute(),
        conditions=chosen[0].conditions,
        runs=runs,
        steady=steady,
        n_read=len(table.rows) + len(table.excluded),
        n_excluded=len(table.excluded),
        n_others=len(table.rows) - len(chosen),
        n_left_out=len(chosen) - sum(map(len, runs.values())),
        unclean=[config for config, records in clean.items() if not records],
    )


def _satisfies(record: RunRecord, filters: Filters) -> bool:
    """As `matches`, by the conditions as they are compared (a version is major.minor), else by the row's column."""
    of_conditions = set(columns(Conditions))
    for pairs in filters:
        named = {name: value for name, value in pairs.items() if name in of_conditions}
        others = {name: value for name, value in pairs.items() if name not in of_conditions}
        if matches(record.conditions, [named]) and matches(record, [others]):
            return True
    return False


def _kept_pairs(filters: Sequence[Filters]) -> Mapping[str, str]:
    """What a side was asked for beside conditions; nothing where that is several alternatives."""
    own = filters[0] if filters else []
    of_conditions = columns(Conditions)
    return {n: value for n, value in own[0].items() if n not in of_conditions} if len(own) == 1 else {}


def _choices(
    name: str,
    sets: Counter[Conditions],
    told_apart: Collection[Conditions] = (),
    kept: Mapping[str, str] | None = None,
) -> str:
    """Return the flag that picks each set of conditions, one in a line.

    It takes the place of the side's own flags.

    Args:
        told_apart: all sets of the table, where `sets` are those that the side's flags let through.
        kept: what the side was asked for beside conditions.
    """
    values = {conditions: asdict(conditions) for conditions in {*sets, *told_apart}}
    differing = [column for column in columns(Conditions) if len({v[column] for v in values.values()}) > 1]
    lines = []
    for conditions, n in sets.items():
        picked = {column: _text(values[conditions][column], "") for column in differing}
        pairs = ",".join(f"{column}={value}" for column, value in {**picked, **(kept or {})}.items())
        flag = f"--{name} {shlex.quote(pairs)}" if differing else conditions.describe()
        lines.append(f"  {flag}   ({n} runs)")
    return "\n".join(lines)


def _text(value: Any, unknown: str = "unknown") -> str:
    return unknown if value is None else str(value)


def what_differs(a: Side, b: Side) -> dict[str, tuple[str, str]]:
    """Conditions, and what else a time may depend on, with their values on either side where those differ."""
    differing: dict[str, tuple[str, str]] = {}
    for name in columns(Conditions):
        pair = _text(getattr(a.conditions, name)), _text(getattr(b.conditions, name))
        is_renamed = name == "device_name" and is_same_device(a.conditions.device_name, b.conditions.device_name)
        if pair[0] != pair[1] and not is_renamed:
            differing[name] = pair
    for name in REPORTED_COLUMNS:
        pair = _values(a, name), _values(b, name)
        if pair[0] != pair[1]:
            differing[name] = pair
    return differing


def _values(side: Side, name: str) -> str:
    return "/".join(sorted({_text(getattr(record, name)) for record in side.records}))


def differ_by_times_alone(a: Side, b: Side) -> bool:
    """Whether nothing that is recorded tells the sides apart, and one was not measured in turns with the other.

    Repeats spread as runs do within one campaign; what drifted until the next one would pass for a difference. What
    one side did not record does not tell it apart, a set of conditions excepted.
    """
    if not are_same_conditions(a.conditions, b.conditions):
        return False
    for name in REPORTED_COLUMNS:
        values_a, values_b = ({getattr(record, name) for record in side.records} - {None} for side in (a, b))
        if values_a and values_b and values_a != values_b:
            return False
    return not _are_interleaved(a, b)


def _are_interleaved(a: Side, b: Side) -> bool:
    """Whether the sides take turns in time: at least half as often as in a random order, and to and fro at least."""
    runs = [(parse_time(record.timestamp_utc), side.name) for side in (a, b) for record in side.records]
    names = [name for _, name in sorted(runs)]
    n_turns = sum(name != before for before, name in pairwise(names))
    n_a, n_b = names.count(a.name), names.count(b.name)
    return n_turns >= max(FEWEST_TURNS, n_a * n_b / (n_a + n_b))


def require_same_work(a: Side, b: Side) -> None:
    """Raise a ValueError where an epoch is not the same number of images on both sides."""
    images = [side.conditions.train_n or TRAIN_N for side in (a, b)]
    if images[0] != images[1]:
        raise ValueError(
            f"an epoch is {images[0]:,} images on side a and {images[1]:,} on side b: seconds per epoch can't be "
            "compared. Measure one of them again with the other's --train_n."
        )


def shared_runs(a: Side, b: Side) -> int:
    """How many runs stand on both sides."""
    of_a = {record for records in a.runs.values() for record in records}
    return sum(record in of_a for records in b.runs.values() for record in records)


def energy_of(records: Sequence[RunRecord]) -> float | None:
    """Median board energy per epoch of the runs that measured it soundly, in joules."""
    sound = [r.energy_j_per_epoch for r in records if r.energy_j_per_epoch is not None and has_sound_energy(r)]
    return statistics.median(sound) if sound else None
