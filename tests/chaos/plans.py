"""Plans that are carried out, killed and gone on with: each run once, and no second of the budget forgotten."""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.planner.execution import ledger
from epochcast.planner.execution.carry_out import carry_out
from epochcast.planner.plan.plan_file import SavedPlan
from epochcast.schema import RunRecord
from epochcast.storage.tables import read_table
from tests.chaos.grids import KILLS_EACH, SIZES, kill_often, orphan_faults, run_faults
from tests.chaos.invariants import leftover_faults
from tests.chaos.processes import call
from tests.chaos.trials import Subject, Trial
from tests.support import plans
from tests.support.light_child import command

KILLS = 60
BUDGET_SEC = 600.0  # never short: what is not done was lost
MOST_TRIES = 8
GAP_SEC = 0.5  # between two sessions; what takes up a ledger takes milliseconds
ROUNDING_SEC = 0.001  # of the seconds in a ledger's lines


def _carried_out(plan: SavedPlan, runs: Path, log_dir: Path, trace: Path) -> None:
    os.environ["LIGHT_CHILD_TRACE"] = str(trace)
    ledger.ALIVE_SEC = 0.02
    carry_out(plan, RunPlace(runs, log_dir, child=command("ok", str(trace))), Listener(print))


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a ledger; a kill may have cut the last."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _ledger_faults(trial: Trial, path: Path, watched_sec: float) -> None:
    """Used time never shrinks, holds every run's time, and is not above what a watch beside it showed."""
    try:
        lines = _lines(path)
    except ValueError as error:
        trial.fault("torn", f"a line of the ledger is none | {error}")
        return
    used = [float(line["used_sec"]) for line in lines]
    for earlier, later in itertools.pairwise(lines):
        if (shrinks_by := float(earlier["used_sec"]) - float(later["used_sec"])) > ROUNDING_SEC:
            events = f"{later['event']} after {earlier['event']}"
            trial.fault("wrong", f"the time used of a budget shrinks | by {shrinks_by:.3f} s: {events}")
    for number, line in enumerate(lines):
        if line["event"] == "resumed" and (gap_sec := float(line["used_sec"]) - max(used[:number])) > GAP_SEC:
            trial.fault("wrong", f"time between two sessions is counted | {gap_sec:.3f} s")
    if used and used[-1] > watched_sec + ROUNDING_SEC:
        trial.fault("wrong", f"more time is counted than went by | {used[-1]:.3f} s of {watched_sec:.3f} s")
    ended = [line["run_id"] for line in lines if line["event"] == "run_ended" and line["status"] == "done"]
    if len(set(ended)) < len(ended):
        trial.fault("doubled", f"a run is done twice by the ledger | {ended}")


def _killed_and_gone_on_with(trial: Trial) -> None:
    runs, log_dir, trace = trial.folder / "runs.csv", trial.folder / "logs", trial.folder / "trace"
    path = trial.folder / "plans" / "hour.json"
    chosen = [plans.light_run(size, 1.0, 16 / size) for size in SIZES]
    plan = plans.write_plan(path, chosen, value="acc", budget_sec=BUDGET_SEC)
    again = functools.partial(_carried_out, plan, runs, log_dir, trace)
    start = time.monotonic()
    kill_often(trial, again, trace)
    watched_sec = time.monotonic() - start
    orphan_faults(trial, trace)
    time.sleep(1.2 * GAP_SEC)
    for _ in range(MOST_TRIES):
        start, before = time.monotonic(), len(_lines(plan.ledger_path))
        ending = call(again)
        watched_sec += time.monotonic() - start
        if ending.error is not None:
            trial.fault("other", f"begun again, it fails | {ending.error}")
            return
        if not any(line["event"] == "run_started" for line in _lines(plan.ledger_path)[before:]):
            break
    _ledger_faults(trial, plan.ledger_path, watched_sec)
    rows = read_table(runs, RunRecord)
    used_sec = _lines(plan.ledger_path)[-1]["used_sec"]
    if used_sec < sum(row.wall_sec or 0.0 for row in rows) - ROUNDING_SEC:
        trial.fault("wrong", f"less time is counted than the rows took | {used_sec} s")
    trial.faults(leftover_faults(trial.folder))
    run_faults(trial, runs, [run.planned for run in plan.chosen])
    orphan_faults(trial, trace)


SUBJECTS = [Subject("plans", lambda _: KILLS // KILLS_EACH, _killed_and_gone_on_with)]
