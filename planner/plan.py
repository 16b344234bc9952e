"""A plan: the best set of runs for a budget, checked, and written as plan.json."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from collect.grid import spec_under
from collect.runner import spec_id
from epochcast.cli import significant
from epochcast.environment import box_device_name, utc_now
from epochcast.schema import Conditions
from planner.candidates import Candidate
from planner.knapsack import Solution, budget_milliseconds, solve

PLAN_SCHEMA_VERSION = 1
# values become integers for the exact search: accuracy to 1e-6, throughput to 1e-3 images/s
VALUE_SCALE = {"acc": 10**6, "thr": 10**3, "count": 1}


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs chosen for a budget. `value_dp` is what the search found, `value_resummed` the sum over `chosen`."""

    chosen: list[Candidate]
    budget_sec: float
    value: str
    value_dp: float
    value_resummed: float
    bound: float
    total_sec: float
    is_proven: bool

    @property
    def budget_used(self) -> float:
        return self.total_sec / self.budget_sec


def make_plan(candidates: Sequence[Candidate], budget_sec: float, value: str) -> Plan:
    """The most valuable set of runs whose costs fit the budget.

    Raises:
        ValueError: if not even the cheapest run fits, or none that fits is worth anything.
        RuntimeError: if the set found is not worth what the search says, or does not fit: a bug, never passed over.
    """
    scale = VALUE_SCALE[value]
    costs = [c.cost_ms for c in candidates]
    budget_ms = budget_milliseconds(budget_sec)
    cheapest = min(candidates, key=lambda c: c.cost_ms)
    if cheapest.cost_ms > budget_ms:
        raise ValueError(
            f"the budget of {significant(budget_sec)} s is smaller than every run: the cheapest, {cheapest.config}, "
            f"takes {significant(cheapest.total_sec)} s. Raise the budget, or lower --epochs."
        )
    solution = solve(costs, [_whole_value(c, scale) for c in candidates], budget_ms)
    if not solution.indices:
        raise ValueError(f"no run that fits the budget is worth anything by {value}. Choose another --value.")
    return _checked(solution, candidates, budget_sec, value, scale)


def _whole_value(candidate: Candidate, scale: int) -> int:
    return round(scale * candidate.value)


def _checked(solution: Solution, candidates: Sequence[Candidate], budget_sec: float, value: str, scale: int) -> Plan:
    chosen = [candidates[i] for i in solution.indices]
    value_dp, resummed = solution.value / scale, math.fsum(c.value for c in chosen)
    total_sec = math.fsum(c.total_sec for c in chosen)
    cost_ms = sum(c.cost_ms for c in chosen)  # exact, where a sum of seconds may round to above the budget
    is_within = cost_ms == solution.cost and cost_ms <= budget_milliseconds(budget_sec)
    if sum(_whole_value(c, scale) for c in chosen) != solution.value or not is_within:
        raise RuntimeError(
            f"the plan contradicts itself: the search says {value_dp!r}, its set sums to {resummed!r} and takes "
            f"{total_sec!r} s of {budget_sec!r} s. Please report this with the table."
        )
    return Plan(chosen, budget_sec, value, value_dp, resummed, solution.bound / scale, total_sec, solution.is_proven)


def plan_json(plan: Plan, conditions: Conditions, sources: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """The whole plan as JSON values: what `--json` prints and `--out` writes."""
    device = box_device_name()
    runs = []
    for candidate in plan.chosen:
        spec = spec_under(candidate.config, candidate.epochs, conditions)
        runs.append(
            {
                "run_id": f"{spec_id(spec, device)}-plan",
                "spec": asdict(spec),
                **asdict(candidate.config),
                "params": candidate.params,
                "epochs": candidate.epochs,
                "overhead_sec": candidate.overhead_sec,
                "overhead_sec_upper": None,
                "first_epoch_sec": candidate.first_epoch_sec,
                "first_epoch_sec_upper": None,
                "steady_sec": candidate.steady_sec,
                "steady_sec_upper": None,
                "total_sec": candidate.total_sec,
                "value": candidate.value,
            }
        )
    created_utc = utc_now()
    digest = hashlib.sha256(json.dumps([created_utc, plan.budget_sec, plan.value, runs]).encode()).hexdigest()
    return {
        "schema_version": PLAN_SCHEMA_VERSION,
        "plan_id": f"plan-{digest[:8]}",
        "created_utc": created_utc,
        "budget": plan.budget_sec,
        "budget_unit": "s",
        "maximised": plan.value,
        "conditions": asdict(conditions),
        **sources,
        "is_proven_optimal": plan.is_proven,
        "value_dp": plan.value_dp,
        "value_resummed": plan.value_resummed,
        "value_bound": plan.bound,
        "total_sec": plan.total_sec,
        "budget_used": plan.budget_used,
        "notes": list(notes),
        "chosen": runs,
    }


def source_of(path: Path, sha256: str | None) -> dict[str, str | None]:
    """A file that a plan rests on, with its hash."""
    return {"path": str(path.absolute()), "sha256": sha256}
