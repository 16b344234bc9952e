"""Which run of a plan comes next, from what is left of the budget and what the runs so far took."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from epochcast.schema import RunConfig, RunRecord
from planner.candidates import Candidate
from planner.margin import Margin
from planner.plan import Knowledge, NothingFitsError, make_plan
from planner.plan_file import PARTS, PlanRun, SavedPlan

PRIOR_RUNS = 2  # a factor is believed like that many runs that went as predicted


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


@dataclass(frozen=True, slots=True)
class Factors:
    """What every run takes more or less than predicted, part by part."""

    overhead: float = 1.0
    first_epoch: float = 1.0
    steady: float = 1.0

    @classmethod
    def of(cls, pairs: Sequence[tuple[Candidate, Actual]]) -> Factors:
        """The median of actual over predicted of each part, in logs shrunk towards 0 as by PRIOR_RUNS exact ones."""
        weight = len(pairs) / (len(pairs) + PRIOR_RUNS)
        factors = {}
        for part in PARTS:
            ratios = [
                getattr(actual, part) / getattr(c, part).value for c, actual in pairs if getattr(c, part).value > 0
            ]
            known = [math.log(ratio) for ratio in ratios if ratio > 0]
            factors[part] = math.exp(weight * statistics.median(known)) if known else 1.0
        return cls(**factors)

    def applied(self, candidate: Candidate) -> Candidate:
        """The candidate with its times corrected."""
        parts = {part: getattr(candidate, part).times(getattr(self, part)) for part in PARTS}
        return replace(candidate, **parts)


@dataclass(slots=True)
class Course:
    """The runs of a plan, one after the other. With `replans` the rest is planned again after every run."""

    plan: SavedPlan
    replans: bool
    waiting: list[PlanRun] = field(init=False)
    spare: list[PlanRun] = field(init=False)  # left out, but a new plan may take them
    finished: list[tuple[PlanRun, Actual]] = field(default_factory=list)
    factors: Factors = field(default_factory=Factors)

    def __post_init__(self) -> None:
        self.waiting, self.spare = list(self.plan.chosen), list(self.plan.left_out)

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

    def finish(self, run: PlanRun, actual: Actual) -> None:
        """A run is done: correct the predictions by what it took."""
        self.drop([run.planned.run_id])
        self.finished.append((run, actual))
        self.factors = Factors.of([(done.candidate, took) for done, took in self.finished])

    def expected_sec(self, run: PlanRun) -> float:
        """Seconds that a run will take, as far as the runs so far tell."""
        return self.factors.applied(run.candidate).total_sec

    def upper_sec(self, run: PlanRun) -> float:
        """The same with the margin of a plan of this run alone."""
        return self._upper_sec([self.factors.applied(run.candidate)])

    def _upper_sec(self, candidates: Sequence[Candidate]) -> float:
        return self.margin.upper_sec([c.total_sec for c in candidates], [c.sd_sec or 0.0 for c in candidates])

    def next_run(self, left_sec: float) -> PlanRun | None:
        """The first run that keeps what is left of the budget; None if none does."""
        if self.replans and self._is_under_way:
            self.replan(left_sec)
        return next((run for run in self.waiting if self.upper_sec(run) <= left_sec), None)

    @property
    def _is_under_way(self) -> bool:
        """Whether a run of the plan is done or has failed; until then there is nothing to plan again by."""
        return len(self.waiting) + len(self.spare) < len(self.plan.chosen) + len(self.plan.left_out)

    def replan(self, left_sec: float) -> None:
        """Choose again, from all runs not done yet, for what is left of the budget."""
        pool = [*self.waiting, *self.spare]
        repeats: dict[RunConfig, list[PlanRun]] = {}  # what is left of a configuration's runs is chosen as one
        for run in pool:
            repeats.setdefault(run.candidate.config, []).append(run)
        must, others = [], []
        reached = max((run.candidate.value for run, _ in self.finished), default=0.0)
        for runs in repeats.values():
            value = sum(run.candidate.value for run in runs)
            corrected = replace(self.factors.applied(runs[0].candidate), repeats=len(runs), value=value)
            if runs[0].is_must:
                must.append(corrected)
            elif self.plan.value != "best_acc" or value > reached:  # only what is better than the best adds anything
                others.append(corrected)
        chosen = self._chosen(others, must, left_sec)
        self.waiting = [run for candidate in chosen for run in repeats[candidate.config]]
        taken = {run.planned.run_id for run in self.waiting}
        self.spare = [run for run in pool if run.planned.run_id not in taken]

    def _chosen(self, others: Sequence[Candidate], must: Sequence[Candidate], left_sec: float) -> list[Candidate]:
        """The best runs for what is left; of what must be done, the longest are given up where not all fit any more."""
        kept = list(must)
        while kept and self._upper_sec(kept) > left_sec:
            kept.remove(max(kept, key=lambda c: c.total_sec))
        known = Knowledge(
            [*self.plan.knowledge.measured, *(run.candidate.config for run, _ in self.finished)],
            self.plan.knowledge.train_n,
        )
        try:
            return make_plan(others, left_sec, self.plan.value, self.margin, kept, known).chosen if others else kept
        except NothingFitsError:
            return kept
