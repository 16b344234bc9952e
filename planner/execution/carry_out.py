"""Carry a plan out: run after run, each in a process of its own, with every change in the plan's ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from epochcast.collect.grid.memory_guard import check_fits
from epochcast.collect.grid.sequence import NextRun, SequenceResult, make_ready, measure_sequence, outcome_text
from epochcast.collect.grid.specs import PlannedRun
from epochcast.collect.run.listener import SILENT, Listener
from epochcast.collect.run.place import RunPlace
from epochcast.gpus.lookup import box_name_for, is_same_device, other_gpu_uuid
from epochcast.machine.gpu_driver import box_device_name, environment_of
from epochcast.machine.packages import backend_name
from epochcast.planner.costs.budget import SECONDS
from epochcast.planner.execution.budget_used import used
from epochcast.planner.execution.ledger import ELSEWHERE, Ledger, looked_at, opened
from epochcast.planner.execution.result import Expected, PlanResult, entries_of
from epochcast.planner.execution.resume import Say, note_end, resume
from epochcast.planner.execution.schedule import Schedule
from epochcast.planner.plan.plan_file import SavedPlan
from epochcast.schema import FailureRecord, RunRecord
from epochcast.storage.tables import read_table_if_any


class _PlanSequence:
    """The runs of a plan, in the order of its schedule, with every change in the ledger."""

    def __init__(self, schedule: Schedule, ledger: Ledger, is_hard: bool, say: Say) -> None:
        self.schedule, self.ledger, self.is_hard, self.say = schedule, ledger, is_hard, say
        self.runs = schedule.plan.runs
        self.planned = sum(run.candidate.cost for run, _ in schedule.finished)

    @property
    def left(self) -> float:
        return self.schedule.plan.budget.amount - used(self.schedule.plan, self.ledger)

    def next_run(self) -> NextRun | None:
        before = [run.planned.run_id for run in self.schedule.waiting]
        # a run that the budget would end is not started; else the plan's own work refuses none that fits it
        run = self.schedule.next_run(self.left + (0.0 if self.is_hard else _own(self.schedule.plan, self.ledger)))
        left, unit = self.left, self.schedule.plan.budget.unit  # less what planning again took
        after = [run.planned.run_id for run in self.schedule.waiting]
        if after != before:
            self._note_replanned(before, after)
        if run is None:
            if after:
                self.ledger.write("refused", run_ids=after, **{f"left_{unit.key}": left})
            return None
        corrected = self.schedule.corrected(run.candidate)
        expected, price = corrected.cost, corrected.price
        values = {"expected_sec": corrected.total_sec, f"expected_{unit.key}": expected}
        values[f"upper_{unit.key}"] = self.schedule.upper(run)
        self.say(f"{run.candidate.config}: about {unit.text(expected)}, {unit.clock(left)} left")
        self.ledger.write("run_started", run_id=run.planned.run_id, **values)
        left_sec = left if price is None else left / price.per_sec.value
        return NextRun(run.planned, left_sec if self.is_hard else None)

    def _note_replanned(self, before: Sequence[str], after: Sequence[str]) -> None:
        factors = asdict(self.schedule.factors)
        if self.schedule.energy_ratios:
            factors["energy"] = self.schedule.energy_factor
        self.ledger.write("replanned", factors=factors, run_ids=list(after))
        if set(after) == set(before):
            return
        words = ", ".join(f"{name.replace('_', ' ')} x {factor:.3f}" for name, factor in factors.items())
        changes = [
            f"{word} {' '.join(str(self.runs[run_id].candidate.config) for run_id in run_ids)}"
            for word, run_ids in (("in:", sorted(set(after) - set(before))), ("out:", sorted(set(before) - set(after))))
            if run_ids
        ]
        self.say(f"planned again ({words}): {', '.join(changes)}")

    def ended(self, planned: PlannedRun, outcome: RunRecord | FailureRecord) -> None:
        run = self.runs[planned.run_id]
        note_end(outcome, run, self.schedule, self.ledger)
        if isinstance(outcome, RunRecord):
            self.planned += run.candidate.cost
        unit, so_far = self.schedule.plan.budget.unit, used(self.schedule.plan, self.ledger)
        self.say(
            f"[{len(self.schedule.finished)} done] {outcome_text(outcome)}; planned {unit.text(run.candidate.cost)}; "
            f"{unit.clock(so_far)} used, {unit.clock(self.planned)} planned for what is done"
        )
        if isinstance(outcome, RunRecord) and (differences := self.schedule.plan.differences(outcome)):
            raise ValueError(
                f"{planned.run_id} was measured under other conditions than planned: {differences}. The plan's times "
                "say nothing of such runs; no other was started. Mend that (images: --data_dir), or plan again."
            )

    def left_to_another(self, planned: PlannedRun) -> None:
        self.ledger.write("run_ended", run_id=planned.run_id, status=ELSEWHERE, wall_sec=None)
        self.schedule.drop([planned.run_id])
        self.say(f"{planned.spec.config} is measured by another process: left to it")


def carry_out(
    plan: SavedPlan,
    place: RunPlace,
    listener: Listener = SILENT,
    *,
    replans: bool = False,
    is_hard: bool = False,
    device_memory_bytes: int | None = None,
    ignores_memory: bool = False,
) -> PlanResult:
    """Run what of a plan is not done yet and fits what is left of its budget.

    Args:
        place: where and how the runs are made; the time that is waited for the device is used of the budget.
        replans: choose the rest again after every run.
        is_hard: end a run that is still going when the budget is used up.
        device_memory_bytes: what there is, unless the box or the rows tell; `ignores_memory`: whatever there is.

    Raises:
        TooLargeError: if a run of the plan will not fit into the device's memory; nothing was measured.
        DeviceBusyError: if another run was on the device for all of the wait.
        RunRefusedError: if a run can't be measured here as asked.
        ValueError: if another process carries the plan out, or a file is not what it should be.
        OSError: if the ledger or a table can't be written.
    """
    taken, say, runs = SequenceResult(), listener.report, place.runs
    with opened(plan.ledger_path, plan.plan_id) as ledger:
        place = replace(place, grid_id=plan.plan_id)
        make_ready(place, say)
        schedule = Schedule(plan, replans)
        resume(schedule, ledger, runs, say)
        if not ignores_memory:
            rows = read_table_if_any(runs, RunRecord)
            doubts = [check_fits(run.planned.spec, rows, device_memory_bytes) for run in schedule.waiting]
            for line in dict.fromkeys(filter(None, doubts)):
                say(line)
        sequence = _PlanSequence(schedule, ledger, is_hard, say)
        try:
            with ledger.kept_alive():
                say(_opening_line(schedule, ledger))
                measure_sequence(sequence, taken, place, listener)
        finally:
            with contextlib.suppress(OSError):  # how it ended is to be told, not that its ledger is full too
                ledger.write("ended", was_interrupted=taken.was_interrupted)
        return PlanResult(plan, entries_of(plan, ledger.lines, runs), used(plan, ledger), taken)


def _own(plan: SavedPlan, ledger: Ledger) -> float:
    """What of the used budget is in no run's cost: the time between runs, which only seconds count."""
    return ledger.own_sec if plan.budget.unit == SECONDS else 0.0


def expect(plan: SavedPlan, runs: Path) -> tuple[float, list[Expected]]:
    """What is used of the budget so far, and what would be run now; nothing is started or written.

    Raises:
        ValueError: if a file is not what it should be.
    """
    ledger, schedule = looked_at(plan.ledger_path, plan.plan_id), Schedule(plan, replans=False)
    resume(schedule, ledger, runs, lambda line: None)
    at_start = at = used(plan, ledger)
    expected = []
    own = _own(plan, ledger)
    while (run := schedule.next_run(plan.budget.amount - at + own)) is not None:
        expected.append(Expected(run, schedule.expected_sec(run), schedule.expected(run), at))
        at += expected[-1].cost
        schedule.drop([run.planned.run_id])
    rest = [Expected(run, schedule.expected_sec(run), schedule.expected(run), None) for run in schedule.waiting]
    return at_start, expected + rest


def _opening_line(schedule: Schedule, ledger: Ledger) -> str:
    plan = schedule.plan
    how = ", planned again after every run" if schedule.replans else ""
    return (
        f"{plan.plan_id}: {len(plan.chosen)} runs planned, {len(schedule.finished)} done, "
        f"{plan.budget.used(used(plan, ledger))} used{how}; ledger {ledger.path}"
    )


def refuse_another_box(plan: SavedPlan) -> None:
    """Raise a ValueError where it is plain before any run that the plan's times mean nothing here."""
    device = plan.conditions.device_name
    of_runs = [box_device_name(run.planned.spec.device) for run in plan.chosen]
    of_runs.append(box_name_for(device))  # runs may name a GPU that is hidden by now
    for what, own, planned in (
        ("device", next((name for name in of_runs if not is_same_device(device, name)), device), device),
        ("backend", backend_name(), plan.conditions.backend),
    ):
        is_same = is_same_device(planned, own) if what == "device" else planned == own
        if planned is not None and not is_same:
            uuid = other_gpu_uuid(planned) if what == "device" else None
            shown = {} if uuid is None else environment_of(uuid)
            named = next((f"{name}={value}" for name, value in shown.items() if value == uuid), None)
            also = "" if named is None else f"Have this box's {planned} used ({named}), or name --any_conditions."
            raise ValueError(
                f"{plan.path} was planned for {what} {planned}, here it is {own}: its times mean nothing. "
                + (also or "Plan from rows that were measured so, or name --any_conditions.")
            )
