"""plan.json: a plan as it is written for people's programs and for `epochcast run_plan`, and read again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from epochcast.collect.grid.specs import PlannedRun, spec_under
from epochcast.collect.records.names import spec_id
from epochcast.gpus.lookup import is_same_device
from epochcast.interval import Interval, with_ends
from epochcast.machine.environment import utc_now
from epochcast.machine.gpu_driver import box_device_name
from epochcast.paths import expanded
from epochcast.planner.costs.budget import Budget, Unit
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.values import Value
from epochcast.planner.plan.margin import Margin
from epochcast.planner.plan.plan import NOTHING_KNOWN, Knowledge, Plan
from epochcast.schema import Conditions, RunConfig, RunRecord
from epochcast.storage.cells import columns

PLAN_SCHEMA_VERSION, OLDEST_READ = 4, 3
PARTS = ("overhead", "first_epoch", "steady")
# planned runs train whole epochs, however was measured; another version is slower or quicker, but no other thing
NOT_PLANNED = ("timing_mode", "window_steps", "backend_version")


@dataclass(frozen=True, slots=True)
class PlanRun:
    """One run of a plan, or one that was left out: what is run under which name, and what it was expected to take."""

    planned: PlannedRun
    candidate: Candidate
    is_must: bool


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as read from its file."""

    path: Path
    plan_id: str
    budget: Budget
    value: Value
    margin: Margin
    chosen: list[PlanRun]
    excluded: list[PlanRun]
    knowledge: Knowledge
    conditions: Conditions  # that the times are of

    def differences(self, record: RunRecord) -> str:
        """What a run was measured under that the plan was not made for, in words; empty if nothing is known of it."""
        own = record.conditions
        pairs = {name: (getattr(own, name), getattr(self.conditions, name)) for name in columns(Conditions)}
        return ", ".join(
            f"{name} {found}, not {planned}"
            for name, (found, planned) in pairs.items()
            if found is not None
            and planned is not None
            and found != planned
            and not (name == "device_name" and is_same_device(found, planned))
            and name not in NOT_PLANNED
            # from whichever folder, real images are real ones
            and (name != "dataset" or "synthetic" in (found, planned))
        )

    def with_images_in(self, data_dir: Path) -> SavedPlan:
        """The same plan with its runs' images in a folder, which the plan itself does not know."""

        def moved(runs: Sequence[PlanRun]) -> list[PlanRun]:
            where = str(expanded(str(data_dir)).absolute())
            return [
                replace(run, planned=replace(run.planned, spec=replace(run.planned.spec, data_dir=where)))
                for run in runs
            ]

        return replace(self, chosen=moved(self.chosen), excluded=moved(self.excluded))

    @property
    def runs(self) -> dict[str, PlanRun]:
        """All runs, chosen or not, by their run_id."""
        return {run.planned.run_id: run for run in (*self.chosen, *self.excluded)}

    @property
    def ledger_path(self) -> Path:
        return ledger_of(self.path)


def ledger_of(plan: Path) -> Path:
    """Where the account of a plan's runs is kept."""
    return plan.with_name(f"{plan.stem}.ledger.jsonl")


def is_begun(ledger: Path) -> bool:
    """Whether anything stands in a ledger; a full disk leaves an empty one."""
    return ledger.exists() and ledger.stat().st_size > 0


def plan_json(
    plan: Plan,
    conditions: Conditions,
    sources: Mapping[str, Any],
    notes: Sequence[str],
    confidence: float | None = None,
    must: Sequence[RunConfig] = (),
    knowledge: Knowledge = NOTHING_KNOWN,
) -> dict[str, Any]:
    """The whole plan as JSON values: what `--json` prints and `--out` writes."""
    plan_id = f"plan-{secrets.token_hex(4)}"
    unit, band = plan.budget.unit, plan.band
    has_margin = plan.margin.quantile > 0

    def runs(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
        return [
            _run_json(candidate, unit, has_margin, conditions, f"{plan_id}-r{repeat}", candidate.config in must)
            for candidate in candidates
            for repeat in range(1, candidate.repeats + 1)
        ]

    return {
        "schema_version": PLAN_SCHEMA_VERSION,
        "plan_id": plan_id,
        "created_utc": utc_now(),
        "budget": plan.budget.amount,
        "budget_unit": unit.name,
        "confidence": confidence,
        "margin": asdict(plan.margin),
        "maximised": plan.value.name,
        "method": plan.method,
        "conditions": asdict(conditions),
        **sources,
        "is_proven_optimal": plan.is_proven,
        "value_dp": plan.value_dp,
        "value_resummed": plan.value_resummed,
        "value_bound": plan.bound,
        "total_sec": plan.total_sec,
        f"total_{unit.key}": plan.cost,
        f"upper_{unit.key}": plan.upper,
        **({} if band is None else _band_json(plan, band)),
        "budget_used": plan.budget_used,
        "notes": list(notes),
        "chosen": runs(plan.chosen),
        "left_out": runs(plan.excluded),
        "measured": [list(asdict(config).values()) for config in knowledge.measured],
        "train_n": knowledge.train_n,
    }


def _band_json(plan: Plan, band: Interval) -> dict[str, Any]:
    """The ends of what a plan may cost, of what they are, and what they do not hold; null is unknown."""
    key = plan.budget.unit.key
    ends = {f"total_{key}_low": band.low, f"total_{key}_high": band.high}
    return {**ends, "range_of": plan.shared, "range_unknown": plan.unknown}


def _run_json(
    candidate: Candidate, unit: Unit, has_margin: bool, conditions: Conditions, suffix: str, is_must: bool
) -> dict[str, Any]:
    """One run: what a plan of several repeats is worth is shared by them.

    Without a margin its cost is the one that the budget is charged, so that these add up to the plan's.
    """
    spec = spec_under(candidate.config, candidate.epochs, conditions)
    run: dict[str, Any] = {
        "run_id": f"{spec_id(spec, box_device_name(spec.device))}-{suffix}",
        "spec": asdict(spec),
        **asdict(candidate.config),
        "params": candidate.params,
        "epochs": candidate.epochs,
    }
    for part in PARTS:
        run |= with_ends(f"{part}_sec", getattr(candidate, part))
    run |= with_ends("total_sec", candidate.run)
    one = replace(candidate, repeats=1)
    run[f"total_{unit.key}"] = one.cost if has_margin else unit.charged(one.cost)
    if (price := candidate.price) is not None:
        told = asdict(replace(price, per_sec=price.known))
        high = one.cost_high
        low = None if high is None else max(0.0, 2 * one.cost - high)
        run |= {f"total_{unit.key}_low": low, f"total_{unit.key}_high": high, "price": told}
    return run | {
        "value": candidate.value / candidate.repeats,
        "acc": candidate.acc,
        "acc_epochs": candidate.acc_epochs,
        "images_per_sec": candidate.images_per_sec,
        "was_measured": candidate.was_measured,
        "is_predicted": candidate.is_predicted,
        "is_extrapolated": candidate.is_extrapolated,
        "must": is_must,
    }
