"""What a user asks of the planner, and the plan that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from epochcast.footprint.rules import FootprintRules
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.candidates import Candidate, CostRules
from epochcast.planner.costs.values import Value
from epochcast.planner.costs.wishes import Wishes
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.plan import Knowledge, Plan
from epochcast.schema import Conditions, RunConfig

DEFAULT_CONFIDENCE = 0.9
MAX_CANDIDATES = 2_000  # all of them stand in plan.json, for planning again


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of the planner; None is left to the planner, which says what it took."""

    budget: Budget
    rules: CostRules
    value: Value | None = None
    wishes: Wishes = field(default_factory=Wishes)
    confidence: float | None = None
    common_sd: float | None = None
    time_source: str | None = None  # measured | pred
    configs: Sequence[RunConfig] | None = None  # candidates; None: what was measured
    runs_agg: Path | None = None
    model: Path | None = None
    conditions: Sequence[Mapping[str, str]] = ()
    is_frozen: bool = False
    device_memory_bytes: int | None = None  # None: as the rows or this box tell
    notes: Sequence[str] = ()  # what reading the request had to say
    footprint: FootprintRules = field(default_factory=FootprintRules)  # how seconds become the budget's unit


@dataclass(frozen=True, slots=True)
class Answer:
    """A plan, and what it was chosen from: enough to plan again for another budget."""

    plan: Plan
    confidence: float | None  # None: without a margin
    notes: list[str]
    must: list[Candidate]
    candidates: list[Candidate]
    knowledge: Knowledge
    conditions: Conditions
    sources: dict[str, Any]
    caveat: str = ""  # what the confidence does not cover, in words

    def at(self, amount: float) -> Plan:
        """The same for another budget in the same unit.

        Raises:
            ValueError: if nothing fits it.
        """
        plan = self.plan
        budget = replace(plan.budget, amount=amount)
        return make_plan(self.candidates, budget, plan.value, plan.margin, self.must, self.knowledge)

    def to_json(self) -> dict[str, Any]:
        """Return the object of plan.json, under a new plan_id each time."""
        from epochcast.planner.plan.plan_file import plan_json  # names of runs, which a text has none of

        must = [c.config for c in self.must]
        return plan_json(self.plan, self.conditions, self.sources, self.notes, self.confidence, must, self.knowledge)
