"""Which run of a plan comes next, from what is left of the budget and what the runs so far took."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from epochcast.planner.costs.budget import ROUNDING
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import Margin
from epochcast.planner.plan.plan import Knowledge, NothingFitsError
from epochcast.planner.plan.plan_file import PARTS, PlanRun, SavedPlan
from epochcast.schema import RunConfig, RunRecord

PRIOR_RUNS = 2  # runs as predicted that every factor is shrunk by


@dataclass(frozen=True, slots=True)
class Actual:
    """Seconds that a run took; `steady` is the mean of all epochs but the first, with stalls: they took the time."""

    overhead: float
    first_epoch: float
    steady: float

    @classmethod
    def of(cls, record: RunRecord) -> Actual:
        assert record.overhead_sec is not None  # we measured it
        return cls(record.overhead_sec, record.epoch_times_json[0], record.avg_time_sec)


def _shrunk_median(ratios: Sequence[float], n: int) -> float:
    """Return the median of actual / predicted of `n` runs, shrunk as if PRIOR_RUNS more had matched."""
    known = [math.log(ratio) for ratio in ratios if ratio > 0]
    return math.exp(n / (n + PRIOR_RUNS) * statistics.median(known)) if known else 1.0


@dataclass(frozen=True, slots=True)
class Factors:
    """What every run takes more or less than predicted, part by part."""

    overhead: float = 1.0
    first_epoch: float = 1.0
    steady: float = 1.0

    @classmethod
    def of(cls, pairs: Sequence[tuple[Candidate, Actual]]) -> Factors:
        """Return the factor of each part: actual over predicted."""
        factors = {}
        for part in PARTS:
            ratios = [
                getattr(actual, part) / getattr(c, part).value for c, actual in pairs if getattr(c, part).value > 0
            ]
            factors[part] = _shrunk_median(ratios, len(pairs))
        return cls(**factors)

    def applied(self, candidate: Candidate) -> Candidate:
        """The candidate with its times corrected."""
        parts = {part: getattr(candidate, part).times(getattr(self, part)) for part in PARTS}
        return replace(candidate, **parts)


@dataclass(slots=True)
class Schedule:
    """The runs of a plan, one after the other. With `replans` the rest is planned again after every run."""

    plan: SavedPlan
    replans: bool
    waiting: list[PlanRun] = field(init=False)
    spare: list[PlanRun] = field(init=False)  # left out, but a new plan may take them
    finished: list[tuple[PlanRun, Actual]] = field(default_factory=list)
    factors: Factors = field(default_factory=Factors)
    energy_ratios: list[float] = field(default_factory=list)  # of runs that measured theirs: over what was planned

    def __post_init__(self) -> None:
        self.waiting, self.spare = list(self.plan.chosen), list(self.plan.excluded)

    @property
    def margin(self) -> Margin:
        """The plan's margin; what the runs so far told of the common factor is no longer uncertain."""
        weight = len(self.finished) / (len(self.finished) + PRIOR_RUNS)
        return replace(self.plan.margin, common_sd=self.plan.margin.common_sd * math.sqrt(1 - weight))

    def drop(self, run_ids: Iterable[str]) -> None:
        """Runs that are done or that failed."""
        gone = set(run_ids)
        self.waiting = [run for run in self.waiting if run.planned.run_id not in gone]
        self.spare = [run for run in self.spare if run.planned.run_id not in gone]

    def finish(self, run: PlanRun, actual: Actual, energy_ratio: float | None = None) -> None:
        """A run is done: correct the predictions by what it took.

        Args:
            energy_ratio: what its seconds cost by its measured energy, over what was planned; None: not measured.
        """
        self.drop([run.planned.run_id])
        self.finished.append((run, actual))
        if energy_ratio is not None:
            self.energy_ratios.append(energy_ratio)
        self.factors = Factors.of([(done.candidate, took) for done, took in self.finished])

    @property
    def energy_factor(self) -> float:
        """What every second costs more or less than planned, by the energy that the runs measured."""
        return _shrunk_median(self.energy_ratios, len(self.energy_ratios))

    def corrected(self, candidate: Candidate) -> Candidate:
        """The candidate by what the runs so far took."""
        timed = self.factors.applied(candidate)
        if timed.price is None:
            return timed
        return replace(timed, price=replace(timed.price, per_sec=timed.price.per_sec.times(self.energy_factor)))

    def expected_sec(self, run: PlanRun) -> float:
        """Seconds that a run will take, as far as the runs so far tell."""
        return self.corrected(run.candidate).total_sec

    def expected(self, run: PlanRun) -> float:
        """What a run will take of the budget, in its unit, as far as the runs so far tell."""
        return self.corrected(run.candidate).cost

    def upper(self, run: PlanRun) -> float:
        """The same with the margin of a plan of this run alone."""
        return self._upper([self.corrected(run.candidate)])

    def _upper(self, candidates: Sequence[Candidate]) -> float:
        return self.margin.upper([c.cost for c in candidates], [c.cost_sd or 0.0 for c in candidates])

    def next_run(self, left: float) -> PlanRun | None:
        """The first run that keeps what is left of the budget; None if none does."""
        left += float(ROUNDING) * self.plan.budget.amount  # sums of what runs took are floats
        if self.replans and self._is_under_way:
            self.replan(left)
        return next((run for run in self.waiting if self.upper(run) <= left), None)

    @property
    def _is_under_way(self) -> bool:
        """Whether a run of the plan is done or has failed; until then there is nothing to plan again by."""
        return len(self.waiting) + len(self.spare) < len(self.plan.chosen) + len(self.plan.excluded)

    def replan(self, left: float) -> None:
        """Choose again, from all runs not done yet, for what is left of the budget."""
        pool = [*self.waiting, *self.spare]
        repeats: dict[RunConfig, list[PlanRun]] = {}  # what is left of a configuration's runs is chosen as one
        for run in pool:
            repeats.setdefault(run.candidate.config, []).append(run)
        must, others = [], []
        reached = max((run.candidate.value for run, _ in self.finished), default=0.0)
        for runs in repeats.values():
            value = sum(run.candidate.value for run in runs)
            corrected = replace(self.corrected(runs[0].candidate), repeats=len(runs), value=value)
            if runs[0].is_must:
                must.append(corrected)
            elif self.plan.value.is_gain(value, reached):
                others.append(corrected)
        chosen = self._chosen(others, must, left)
        self.waiting = [run for candidate in chosen for run in repeats[candidate.config]]
        taken = {run.planned.run_id for run in self.waiting}
        self.spare = [run for run in pool if run.planned.run_id not in taken]

    def _chosen(self, others: Sequence[Candidate], must: Sequence[Candidate], left: float) -> list[Candidate]:
        """The best runs for what is left; of what must be done, the dearest are given up where not all fit any more."""
        kept = list(must)
        while kept and self._upper(kept) > left:
            kept.remove(max(kept, key=lambda c: c.cost))
        known = Knowledge(
            [*self.plan.knowledge.measured, *(run.candidate.config for run, _ in self.finished)],
            self.plan.knowledge.train_n,
        )
        try:
            budget = replace(self.plan.budget, amount=left)
            return make_plan(others, budget, self.plan.value, self.margin, kept, known).chosen if others else kept
        except NothingFitsError:
            return kept
