"""What of a plan's budget is used, in its unit.

A budget in seconds is used by the clock, as the ledger keeps it. Any other is used by the runs: each by its planned
cost per second for as long as it lasted, or by the energy that it measured; one that was cut off up to its last sign of
life.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epochcast.schema import FailureRecord, RunRecord
from planner.budget import SECONDS, Price
from planner.ledger import Ledger
from planner.plan_file import SavedPlan


def cost_of(outcome: RunRecord | FailureRecord, price: Price | None) -> float:
    """What a run took of a budget, in its unit; `price` is that of its plan, None for seconds."""
    wall_sec = outcome.wall_sec or 0.0
    if price is None:
        return wall_sec
    return wall_sec * price.per_sec.value * (energy_ratio(outcome, price) or 1.0)


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
    if record.mean_power_w is None or record.energy_estimated != 0 or record.energy_flags or record.wall_sec is None:
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


def used(plan: SavedPlan, ledger: Ledger) -> float:
    """How much of the plan's budget is used, in its unit."""
    if plan.budget.unit == SECONDS:
        return ledger.used_sec
    runs = (*plan.chosen, *plan.left_out)
    return _used_by_runs(ledger.lines, {run.planned.run_id: run.candidate.price for run in runs})


def _used_by_runs(lines: Sequence[Mapping[str, Any]], prices: Mapping[str, Price | None]) -> float:
    total = 0.0
    running: _Stretch | None = None
    is_on = False  # whether the session that began it goes on
    for line in lines:
        event, at_sec = line["event"], float(line["used_sec"])
        if event == "run_started":
            total += _cut_off_cost(running, prices)
            running, is_on = _Stretch(str(line["run_id"]), at_sec, at_sec), True
        elif event == "run_ended":
            total += float(line.get("cost") or 0.0)
            if running is not None and running.run_id == line["run_id"] and not line.get("is_outside"):
                running = None
        elif event == "resumed":
            is_on = False
        elif running is not None and is_on:
            running.end_sec = at_sec
    return total + _cut_off_cost(running, prices)


def _cut_off_cost(running: _Stretch | None, prices: Mapping[str, Price | None]) -> float:
    price = None if running is None else prices.get(running.run_id)
    if running is None or price is None:
        return 0.0
    return (running.end_sec - running.start_sec) * price.per_sec.value
