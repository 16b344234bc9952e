"""What became of a plan: planned against actual, run by run and in all."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from epochcast.collect.grid.sequence import SequenceResult, outcome_text
from epochcast.paths import failures_csv
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.values import INFO
from epochcast.planner.execution.ledger import DONE
from epochcast.planner.execution.result import (
    Expected,
    PlanResult,
    dry_json,
    dry_lines,
    entries_of,
    result_json,
    result_lines,
)
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.plan import Knowledge
from epochcast.schema import RunConfig
from epochcast.storage.table_appends import append_row
from tests.support.plans import light_run, row_of, write_plan
from tests.support.rows import failure_row


@pytest.fixture
def plan(tmp_path):
    chosen = [light_run(16, 10.0, 0.5), light_run(32, 20.0, 0.4), light_run(64, 8.0, 0.3)]
    return write_plan(tmp_path / "plan.json", chosen, [light_run(8, 4.0, 0.2)], value="acc", budget_sec=40.0)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs.csv"


def started(run, **more):
    return {"event": "run_started", "used_sec": 0.0, "run_id": run.planned.run_id, **more}


def ended(run, status="done", wall_sec=1.0):
    return started(run) | {"event": "run_ended", "status": status, "wall_sec": wall_sec}


def result_of(plan, runs, lines, used_sec=30.0, **taken):
    return PlanResult(plan, entries_of(plan, lines, runs), used_sec, SequenceResult(**taken))


def rows_of(text):
    """The table's rows, without its header."""
    return [line.split() for line in text if line.startswith("(")]


def test_runs_are_listed_as_they_were_begun_and_then_those_that_were_not(plan, runs):
    first, second, third = plan.chosen
    (spare,) = plan.excluded
    append_row(runs, row_of(spare, 3.0, (1.0, 1.0)))
    lines = [started(third), ended(third, "oom", 2.5), started(spare), ended(spare), started(second)]
    lines.append({"event": "alive", "used_sec": 9.0})
    entries = entries_of(plan, lines, runs)
    assert [entry.run for entry in entries] == [third, spare, second, first]
    assert [entry.status for entry in entries] == ["oom", DONE, "cut off", "not started"]
    assert [entry.wall_sec for entry in entries] == [2.5, 3.0, None, None]
    assert [entry.actual is None for entry in entries] == [True, False, True, True]


def test_the_time_of_an_epoch_is_the_steady_one_in_the_progress_line_the_table_and_json(plan, runs):
    first = plan.chosen[0]
    record = replace(row_of(first, 12.0, (3.0, 1.5)), epochs=5, epoch_times_json=(3.0, 1.0, 1.0, 1.0, 3.0))
    record = replace(record, avg_time_sec=1.5, steady_time_sec=1.0, n_timed=4, n_stalled=1, flags=("stalled",))
    append_row(runs, record)
    result = result_of(plan, runs, [ended(first)])
    assert "(1,2,16): steady 1.00 s/epoch, " in outcome_text(record)
    header, row = result_lines(result)[2].splitlines()[:2]
    assert "steady s/epoch" in header
    assert row.split()[9:11] == ["1.00", "(2.50)"]
    assert result_json(result)["runs"][0]["actual"] == {
        "overhead": 9.0,
        "first_epoch": 3.0,
        "steady": 1.0,
        "epoch_mean": 1.5,
    } | {"overhead": record.overhead_sec}


def test_a_run_that_the_plan_does_not_have_any_more_is_not_listed(plan, runs):
    lines = [{"event": "run_started", "used_sec": 0.0, "run_id": "gone"}]
    assert len(entries_of(plan, lines, runs)) == 3


def test_planned_against_actual_is_told_run_by_run_and_in_all(plan, runs):
    first, second, third = plan.chosen
    append_row(runs, row_of(first, 12.0, (3.0, 1.5)))
    append_row(runs, row_of(second, 18.0, (6.0, 5.0)))
    text = result_lines(result_of(plan, runs, [ended(first), ended(second), ended(third, "crash", 0.5)]))
    assert rows_of(text[2].splitlines()) == [
        ["(1,2,16)", "done", "10.0", "12.0", "1.20", "7.50", "(5.00)", "3.00", "(2.50)", "1.50", "(2.50)", "-"],
        ["(1,2,32)", "done", "20.0", "18.0", "0.900", "7.00", "(10.0)", "6.00", "(5.00)", "5.00", "(5.00)", "-"],
        ["(1,2,64)", "crash", "8.00", "0.500", "0.0625", "-", "-", "-", "-"],
    ]
    assert text[4:] == [
        "done: 2 runs in 30.00 s, planned 30.00 s (+0.0%)",
        "value (acc), as planned: 0.9000 done of 1.200",
        "used: 30 s of 40 s (75.0 %)",
        "not done: 1; what did not fit the rest of the budget was not started",
    ]


def test_a_plan_of_which_nothing_was_done_has_no_ratio(plan, runs):
    text = result_lines(result_of(plan, runs, [], 0.0))
    assert [row[1:3] for row in rows_of(text[2].splitlines())] == [["not", "started"]] * 3
    assert not any(line.startswith("done:") for line in text)
    assert "value (acc), as planned: 0 done of 1.200" in text


def test_what_was_added_what_went_over_and_what_was_interrupted_is_said(plan, runs):
    (spare,) = plan.excluded
    append_row(runs, row_of(spare, 3.0))
    text = "\n".join(result_lines(result_of(plan, runs, [ended(spare)], 50.0, was_interrupted=True)))
    assert "value (acc), as planned: 0.2000 done of 1.200, 1 added" in text
    assert "used: 50 s of 40 s (125 %), over the budget" in text
    assert text.endswith("interrupted: the same command goes on from here")


def test_the_value_of_a_plan_for_the_best_accuracy_is_its_best_run(tmp_path, runs):
    chosen = [light_run(16, 10.0, 0.5), light_run(32, 20.0, 0.4)]
    plan = write_plan(tmp_path / "plan.json", chosen, value="best_acc", budget_sec=40.0)
    assert result_of(plan, runs, []).value == 0
    for run in plan.chosen:
        append_row(runs, row_of(run, 3.0))
    result = result_of(plan, runs, [ended(run) for run in plan.chosen])
    assert (result.value, result.n_done) == (0.5, 2)
    assert result_json(result)["planned_value"] == 0.5


def test_json_holds_the_same_in_full_precision(plan, runs):
    first = plan.chosen[0]
    append_row(runs, row_of(first, 12.0, (3.0, 1.5)))
    answer = json.loads(json.dumps(result_json(result_of(plan, runs, [ended(first)], 12.25)), allow_nan=False))
    assert (answer["plan_id"], answer["budget_sec"], answer["used_sec"]) == (plan.plan_id, 40.0, 12.25)
    assert (answer["value"], answer["planned_value"]) == (0.5, pytest.approx(1.2))
    assert answer["was_interrupted"] is False
    one, *rest = answer["runs"]
    assert one == {
        "run_id": first.planned.run_id,
        "depth": 1,
        "base_filters": 2,
        "batch_size": 16,
        "status": "done",
        "planned_sec": 10.0,
        "actual_sec": 12.0,
        "planned": {"overhead": 5.0, "first_epoch": 2.5, "steady": 2.5},
        "actual": {"overhead": 7.5, "first_epoch": 3.0, "steady": 1.5, "epoch_mean": 1.5},
    }
    assert [(run["status"], run["actual"]) for run in rest] == [("not started", None)] * 2


def test_a_row_tells_more_than_the_failure_before_it(plan, runs):
    first = plan.chosen[0]
    config = first.candidate.config
    failure = failure_row(
        **asdict(config), run_id=first.planned.run_id, status="killed", exit_code=None, signal="SIGKILL"
    )
    append_row(failures_csv(runs), failure)
    assert entries_of(plan, [ended(first, "killed", 1.0)], runs)[0].status == "killed"
    append_row(runs, row_of(first, 12.0))
    assert entries_of(plan, [ended(first, "killed", 1.0)], runs)[0].status == DONE


def test_a_dry_run_names_starts_what_does_not_fit_and_the_end(plan):
    first, second, _ = plan.chosen
    expected = [Expected(first, 10.0, 10.0, 5.0), Expected(second, 20.0, 20.0, None)]
    title, table, end = dry_lines(plan, 5.0, expected)
    assert title == f"{plan.plan_id}: 5 s of 40 s used"
    assert rows_of(table.splitlines()) == [
        ["(1,2,16)", "5.00", "10.0"],
        ["(1,2,32)", "does", "not", "fit", "20.0"],
    ]
    assert end == "expected end: 15 s of 40 s"
    assert dry_json(plan, 5.0, expected)["expected_end_sec"] == 15.0
    assert dry_lines(plan, 5.0, [])[1:] == ["nothing left to run", "expected end: 5 s of 40 s"]


def test_what_info_runs_are_worth_together_is_no_sum_of_what_each_was_worth_when_it_was_chosen(tmp_path, runs):
    candidates = [light_run(b, 10.0) for b in (8, 16, 32, 64, 128, 256)]
    known = Knowledge([RunConfig(1, 2, 512)], 1000)
    made = make_plan(candidates, Budget(30.0), INFO, knowledge=known)
    plan = write_plan(tmp_path / "i.json", made.chosen, made.excluded, value="info", knowledge=known)
    for run in plan.chosen:
        append_row(runs, row_of(run, 10.0))
    as_planned = result_json(result_of(plan, runs, [ended(run) for run in plan.chosen]))
    assert as_planned["value"] == pytest.approx(made.value_dp, rel=1e-9)
    assert as_planned["planned_value"] == pytest.approx(made.value_dp, rel=1e-9)
    others = plan.excluded[:2]
    for run in others:
        append_row(runs, row_of(run, 10.0))
    more = result_json(result_of(plan, runs, [ended(run) for run in [*plan.chosen, *others]]))
    assert made.value_dp < more["value"] < made.value_dp + sum(run.candidate.value for run in others)
