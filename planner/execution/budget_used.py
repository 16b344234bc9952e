"""What of a plan's budget is used, in its unit.

A budget in seconds is used by the clock, as the ledger keeps it. Any other is used by the runs: each by the energy that
it measured, else by its planned cost per second, corrected by what the runs before it measured, for as long as it
lasted; one that was cut off up to its last sign of life.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epochcast.aggregate.averages.averaging import has_sound_energy
from epochcast.planner.costs.budget import SECONDS, Price, Unit
from epochcast.planner.execution.ledger import Ledger
from epochcast.planner.plan.plan_file import SavedPlan
from epochcast.schema import FailureRecord, RunRecord


def cost_of(outcome: RunRecord | FailureRecord, price: Price | None, energy_factor: float = 1.0) -> float:
    """What a run took of a budget, in its unit.

    Args:
        price: that of its plan, None for seconds.
        energy_factor: what other runs tell of every second's cost over the planned one; for one that measured none.
    """
    wall_sec = outcome.wall_sec or 0.0
    if price is None:
        return wall_sec
    return wall_sec * price.per_sec.value * (energy_ratio(outcome, price) or energy_factor)


def energy_ratio(outcome: RunRecord | FailureRecord, price: Price | None) -> float | None:
    """What a run's seconds cost by the energy that it measured, over what was planned; None where it measured none."""
    if price is None or price.board is None or isinstance(outcome, FailureRecord) or not outcome.wall_sec:
        return None
    joules = _measured_j(outcome)
    if joules is None:
        return None
    per_sec = price.per_sec.value + price.board.per_j * (joules / outcome.wall_sec - price.board.watts)
    return per_sec / price.per_sec.value


def _measured_j(record: RunRecord) -> float | None:
    """Board energy of a whole run: its epochs at the mean power of the timed ones, the rest of it at the idle power, at
    the mean where that was not measured; None where none was measured, or something is wrong with it.
    """
    if record.mean_power_w is None or record.wall_sec is None or not has_sound_energy(record):
        return None
    epochs_sec = sum(record.epoch_times_json)
    rest_w = record.mean_power_w if record.idle_power_w is None else record.idle_power_w
    return record.mean_power_w * epochs_sec + rest_w * max(0.0, record.wall_sec - epochs_sec)


@dataclass(slots=True)
class _Stretch:
    """A run that was started, and how far a session has come with it."""

    run_id: str
    start_sec: float
    end_sec: float
    per_sec: float  # what a second of it was expected to cost when it was started

    @property
    def cost(self) -> float:
        return (self.end_sec - self.start_sec) * self.per_sec


def used(plan: SavedPlan, ledger: Ledger) -> float:
    """How much of the plan's budget is used, in its unit.

    Raises:
        ValueError: if the ledger of a plan in another unit than seconds does not tell what a run was expected to cost.
    """
    unit = plan.budget.unit
    if unit == SECONDS:
        return ledger.used_sec
    try:
        return _used_by_runs(ledger.lines, unit)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise ValueError(
            f"{ledger.path}: a run's start does not tell its expected_sec and expected_{unit.key}. Move the file aside."
        ) from None


def _used_by_runs(lines: Sequence[Mapping[str, Any]], unit: Unit) -> float:
    total = 0.0
    running: _Stretch | None = None
    is_on = False  # whether the session that began it goes on
    for line in lines:
        event, at_sec = line["event"], float(line["used_sec"])
        if event == "run_started":
            total += 0.0 if running is None else running.cost
            per_sec = line[f"expected_{unit.key}"] / line["expected_sec"]
            running, is_on = _Stretch(str(line["run_id"]), at_sec, at_sec, per_sec), True
        elif event == "run_ended":
            total += float(line.get("cost") or 0.0)
            if running is not None and running.run_id == line["run_id"] and not line.get("is_outside"):
                running = None
        elif event == "resumed":
            is_on = False
        elif running is not None and is_on:
            running.end_sec = at_sec
    return total + (0.0 if running is None else running.cost)
