"""What a planner may choose from: runs with the wall seconds that each would take, and where each part is known from.

cost = overhead + first epoch + (epochs - 1) x steady time. What was not measured is taken from the nearest thing that
was (the median of the other rows, the model's card), else from the assumptions file; a note says so, never a silent 0.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.assumptions import assumption, device_kind_of
from epochcast.cli import significant
from epochcast.environment import box_device_name
from epochcast.schema import TRAIN_N, AggRow, RunConfig
from model.design import DEFAULT_GRID
from model.predictor import SavedModel
from model.startup import Excess
from planner.knapsack import to_milliseconds_up
from workload.shape import count_params

VALUES = ("acc", "thr", "count")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One run that could be done: its wall seconds in parts, and what it is worth."""

    config: RunConfig
    params: int
    epochs: int
    overhead_sec: float
    first_epoch_sec: float
    steady_sec: float
    acc: float | None
    images_per_sec: float
    value: float = 0.0

    @property
    def total_sec(self) -> float:
        """Wall seconds from the start of the process to its exit."""
        return self.overhead_sec + self.first_epoch_sec + (self.epochs - 1) * self.steady_sec

    @property
    def cost_ms(self) -> int:
        """Whole milliseconds, rounded up."""
        return to_milliseconds_up(self.total_sec)


@dataclass(frozen=True, slots=True)
class CostRules:
    """How runs are priced: `overhead_sec` given or None (measured); `first_epoch` measured, none, or seconds."""

    epochs: int
    overhead_sec: float | None = None
    first_epoch: str | float = "measured"

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise ValueError(f"epochs must be at least 2, got {self.epochs}: the first is untimed.")


@dataclass(frozen=True, slots=True)
class _Fallback:
    """A value that stands in where a row has none, with the words for it; `law` knows it better than one number."""

    sec: float
    origin: str
    law: Excess | None = None

    def of(self, config: RunConfig) -> float:
        return self.sec if self.law is None else float(self.law.seconds([config])[0])

    @property
    def words(self) -> str:
        return f"{'about ' if self.law else ''}{significant(self.sec)} s, {self.origin}"


def _fallback(name: str, others: Sequence[float], saved: SavedModel | None, device_name: str | None) -> _Fallback:
    if others:
        return _Fallback(statistics.median(others), f"the median of {len(others)} measured rows")
    if saved is not None and name == "first_epoch_excess_sec" and saved.excess is not None:
        origin = f"as the {saved.excess.n} rows behind {saved.path.name} tell for each configuration"
        return _Fallback(saved.excess.median, origin, saved.excess)
    if saved is not None and (known := saved.card.get(name)):
        return _Fallback(known["median"], f"the median of the {known['n']} rows behind {saved.path.name}")
    fact = assumption(name, device_kind_of(device_name))
    return _Fallback(fact.value, f"an assumption for a {fact.device_kind}: {fact.source} ({fact.date})")


def _price(
    config: RunConfig,
    steady_sec: float,
    row: AggRow | None,
    rules: CostRules,
    fallbacks: dict[str, _Fallback],
    used: Counter[str],
) -> tuple[float, float]:
    """Overhead and first epoch of one candidate; counts in `used` what was not measured for it."""
    overhead = rules.overhead_sec
    if overhead is None:
        overhead = row.overhead_sec_mean if row is not None else None
        if overhead is None:
            overhead = fallbacks["overhead_sec"].of(config)
            used["overhead_sec"] += 1
    if rules.first_epoch == "none":
        return overhead, steady_sec
    if not isinstance(rules.first_epoch, str):
        return overhead, rules.first_epoch
    if row is not None and row.first_epoch_sec_mean is not None:
        return overhead, max(row.first_epoch_sec_mean - row.avg_time_mean, 0.0) + steady_sec
    used["first_epoch_excess_sec"] += 1
    return overhead, fallbacks["first_epoch_excess_sec"].of(config) + steady_sec


def make_candidates(
    rows: Sequence[AggRow], saved: SavedModel | None, rules: CostRules
) -> tuple[list[Candidate], list[str]]:
    """Candidates and notes on what was assumed: from measured rows, their times predicted where `saved` is given.

    Without rows, candidates are DEFAULT_GRID as far as `saved` was measured, and `saved` must be given.

    Raises:
        ValueError: if `saved` answers for no configuration of DEFAULT_GRID, or for epochs of another length.
    """
    device_name = rows[0].device_name if rows else None
    if device_name is None and saved is not None:
        device_name = saved.device_name
    excesses = [max(r.first_epoch_sec_mean - r.avg_time_mean, 0.0) for r in rows if r.first_epoch_sec_mean is not None]
    overheads = [r.overhead_sec_mean for r in rows if r.overhead_sec_mean is not None]
    fallbacks = {
        "overhead_sec": _fallback("overhead_sec", overheads, saved, device_name),
        "first_epoch_excess_sec": _fallback("first_epoch_excess_sec", excesses, saved, device_name),
    }
    notes: list[str] = []
    if rows:
        configs: list[tuple[RunConfig, AggRow | None]] = [(row.config, row) for row in rows]
        train_n = rows[0].train_n or TRAIN_N
    else:
        assert saved is not None
        grid = [RunConfig(*values) for values in itertools.product(*DEFAULT_GRID.values())]
        configs = [(config, None) for config in grid if not saved.outside(config)]
        train_n = saved.train_n
        if not configs:
            raise ValueError(
                f"nothing measured to plan from, and {saved.path} was measured on no configuration of the default "
                "grid. Measure first: python collect/run_grid.py, or name another --model."
            )
        ranges = ", ".join(f"{name} {'/'.join(map(str, values))}" for name, values in DEFAULT_GRID.items())
        notes.append(
            f"nothing measured to plan from: the default grid ({ranges}), {len(configs)} of {len(grid)} configurations "
            f"within the range of {saved.path.name}"
        )
    if saved is not None:
        device, box = saved.device_name or "an unknown device", box_device_name()
        other = "" if device == box else f", NOT this box ({box})"
        notes.append(f"steady times are predictions for {device}{other}")
        if saved.train_n != train_n:
            raise ValueError(
                f"{saved.path} predicts epochs of {saved.train_n} images, the table holds epochs of {train_n}. "
                "Name another --model, or use --time_source measured."
            )
        if n_outside := sum(bool(saved.outside(config)) for config, _ in configs):
            notes.append(
                f"{n_outside} of {len(configs)} predictions extrapolate: outside the range of {saved.path.name}"
            )
        steady = [float(t) for t in saved.time_model.times([config for config, _ in configs])]
    else:
        steady = [row.avg_time_mean for _, row in configs if row is not None]
    used: Counter[str] = Counter()
    candidates = []
    for (config, row), seconds in zip(configs, steady, strict=True):
        overhead, first_epoch = _price(config, seconds, row, rules, fallbacks, used)
        candidates.append(
            Candidate(
                config=config,
                params=count_params(config.depth, config.base_filters),
                epochs=rules.epochs,
                overhead_sec=overhead,
                first_epoch_sec=first_epoch,
                steady_sec=seconds,
                acc=row.acc_mean if row is not None else None,
                images_per_sec=train_n / seconds,
            )
        )
    words = {"overhead_sec": "overhead", "first_epoch_excess_sec": "first epoch beyond a steady one"}
    for name, n in used.items():
        fallback = fallbacks[name]
        notes.append(f"{words[name]} unknown for {n} of {len(candidates)} candidates: assumed {fallback.words}")
    return candidates, notes


def choose_value(candidates: Sequence[Candidate]) -> str:
    """`acc` if every candidate has a measured accuracy, else `count`."""
    return "acc" if all(c.acc is not None for c in candidates) else "count"


def with_values(
    candidates: Sequence[Candidate], value: str, min_acc: float | None
) -> tuple[list[Candidate], list[str]]:
    """Candidates with what they are worth, without those that --min_acc or a missing accuracy rules out; notes.

    Raises:
        ValueError: if none is left.
    """
    kept, notes = list(candidates), []
    if min_acc is not None or value == "acc":
        known = [c for c in kept if c.acc is not None]
        if len(known) < len(kept):
            notes.append(f"{len(kept) - len(known)} of {len(kept)} candidates left out: no accuracy was measured")
        kept = known
    if min_acc is not None:
        good = [c for c in kept if c.acc is not None and c.acc >= min_acc]
        if len(good) < len(kept):
            notes.append(f"{len(kept) - len(good)} of {len(kept)} candidates left out: accuracy below {min_acc:g}")
        kept = good
    if not kept:
        raise ValueError(f"no candidate is left of {len(candidates)}: {'; '.join(notes)}.")
    return [replace(c, value=_worth(c, value)) for c in kept], notes


def _worth(candidate: Candidate, value: str) -> float:
    if value == "count":
        return 1.0
    if value == "thr":
        return candidate.images_per_sec
    assert candidate.acc is not None
    return candidate.acc
