"""A plan carried out: in its order, within its budget, and gone on with after whatever ended it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from epochcast.collect.records.append_rows import RunExistsError
from epochcast.collect.records.recovery import recover
from epochcast.collect.run import child
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import RunRefusedError, run
from epochcast.paths import failures_csv
from epochcast.planner import run_plan
from epochcast.planner.costs.budget import KWH, SECONDS, UNITS, Budget
from epochcast.planner.costs.values import COUNT
from epochcast.planner.execution import ledger as ledger_module
from epochcast.planner.execution.carry_out import carry_out, expect
from epochcast.planner.execution.ledger import opened
from epochcast.planner.execution.schedule import Actual, Schedule
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.schema import Conditions, FailureRecord, RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table
from tests.support.light_child import command, environment, is_alive, isolate, main_with_child, starts, wait_for
from tests.support.plans import light_run, priced, row_of, write_plan
from tests.support.rows import BOX, assert_one_clear_error, random_runs

PREPARED = """
import signal
import epochcast.planner.execution.ledger
epochcast.planner.execution.ledger.ALIVE_SEC = 0.02
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may ignore it
"""


class Bench:
    """A folder with a plan, and what became of it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "plans" / "hour.json"
        self.ledger = folder / "plans" / "hour.ledger.jsonl"
        self.runs, self.log_dir = folder / "results" / "runs.csv", folder / "logs"
        self.trace, self.gate = folder / "trace", folder / "gate"
        self.said = []

    def plan(self, *batch_sizes, **more):
        """A plan of one-second runs of these batch sizes, in that order; that of 16 is worth most."""
        self.saved = write_plan(self.path, [light_run(b, 1.0, 16 / b) for b in batch_sizes], value="acc", **more)
        return self.saved

    def carry_out(self, *behaviour, say=None, runs=None, **more):
        """Carry the plan out with a light child; the batch sizes that it was started for are new in `started`."""
        self.trace.unlink(missing_ok=True)
        place = RunPlace(runs or self.runs, self.log_dir, child=command(*behaviour))
        return carry_out(self.saved, place, Listener(say or self.said.append), **more)

    def carry_out_until(self, n, *behaviour):
        """The same, ended after `n` runs."""

        def say(line):
            self.said.append(line)
            if line.startswith("[") and len(self.started) == n:
                raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            self.carry_out(*behaviour, say=say)

    def start(self, *behaviour, flags=()):
        """The whole command in a process group of its own, with a light child; what it prints goes to `output`."""
        words = main_with_child("epochcast.planner.run_plan", *behaviour, flags=[str(self.path), *flags])
        words[2] = PREPARED + words[2]
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                words,
                env=environment(EPOCHCAST_HOME=str(self.folder), LIGHT_CHILD_TRACE=str(self.trace)),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def main(self, monkeypatch, *behaviour, flags=()):
        """The exit code of the command, in this process."""
        monkeypatch.setattr(child, "CHILD", command(*behaviour))
        return run_plan.main([str(self.path), *flags])

    @property
    def output(self):
        return (self.folder / "output").read_text()

    @property
    def rows(self):
        return read_table(self.runs, RunRecord) if self.runs.exists() else []

    @property
    def failed(self):
        table = failures_csv(self.runs)
        return [(f.batch_size, f.status) for f in read_table(table, FailureRecord)] if table.exists() else []

    @property
    def measured(self):
        return [row.batch_size for row in self.rows]

    @property
    def started(self):
        return [start["batch_size"] for start in starts(self.trace)]

    @property
    def lines(self):
        text = self.ledger.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # a kill may have cut the last

    def told(self, event):
        return [line for line in self.lines if line["event"] == event]

    @property
    def used_sec(self):
        return max(line["used_sec"] for line in self.lines)

    def forget(self, *events):
        """The last session as if it had been killed before it wrote these lines."""
        lines = self.lines
        while lines[-1]["event"] in events:
            lines.pop()
        self.ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def files(self):
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    isolate(monkeypatch, tmp_path, bench.trace)
    return bench


def entries(result):
    return [(entry.run.candidate.config.batch_size, entry.status) for entry in result.entries]


class KilledError(BaseException):
    """The process is gone: nothing of ours catches it."""


class Mortal:
    """Runs of a plan without a process, on a clock of their own, killed at the n-th thing that they do to a disk."""

    def __init__(self, monkeypatch, plan, runs, at, when):
        self.plan, self.runs, self.at, self.when = plan, runs, at, when
        self.now, self.n, self.measured = 0.0, 0, []
        self.by_id = {run.planned.run_id: run for run in (*plan.chosen, *plan.excluded)}
        append = ledger_module._append
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr("epochcast.collect.grid.sequence.run", self.run)
        monkeypatch.setattr(
            ledger_module,
            "_append",
            lambda descriptor, data, *how: self.do(
                lambda: append(descriptor, data, *how), lambda: os.write(descriptor, data[: len(data) // 2])
            ),
        )

    def do(self, whole, half=lambda: None):
        self.n += 1
        if self.n > self.at:
            raise KilledError
        if self.n == self.at:
            {"before": lambda: None, "torn": half, "after": whole}[self.when]()
            raise KilledError
        whole()

    def run(self, spec, run_id, place, listener, **how):
        if any(row.run_id == run_id for row in read_table(self.runs, RunRecord)):
            raise RunExistsError
        self.now += 10.0
        row = dataclasses.replace(row_of(self.by_id[run_id], 10.0), grid_id=place.grid_id)
        self.do(lambda: (append_row(self.runs, row), self.measured.append(run_id)))
        return row


@pytest.mark.parametrize("when", ["before", "torn", "after"])
@pytest.mark.parametrize("unit", [SECONDS, KWH])
def test_wherever_a_plan_is_killed_no_run_is_measured_twice_and_no_time_lost_or_doubled(
    tmp_path, monkeypatch, unit, when
):
    for at in range(1, 9):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        runs = [light_run(16, 10.0), light_run(32, 10.0)]
        runs = runs if unit == SECONDS else priced(runs)
        plan = write_plan(folder / "plan.json", runs, budget=Budget(100 * sum(c.cost for c in runs), unit))
        with monkeypatch.context() as patch:
            mortal = Mortal(patch, plan, folder / "runs.csv", at, when)
            with contextlib.suppress(KilledError):
                carry_out(plan, RunPlace(mortal.runs, folder / "logs"))
            n_done_to_disks = mortal.n
            mortal.at, mortal.n = 10**9, 0
            result = carry_out(plan, RunPlace(mortal.runs, folder / "logs"))
            again = carry_out(plan, RunPlace(mortal.runs, folder / "logs"))
        assert n_done_to_disks >= at  # it was killed there: 8 things are done in all
        assert sorted(mortal.measured) == sorted(run.planned.run_id for run in plan.chosen)
        assert result.n_done == again.n_done == 2
        each = runs[0].cost
        assert result.used == pytest.approx(2 * each, rel=1e-3)
        assert again.used == pytest.approx(2 * each, rel=1e-3)


def test_two_copies_of_a_plan_share_a_table_without_a_run_done_twice(tmp_path, monkeypatch):
    runs = [light_run(16, 10.0), light_run(32, 10.0)]
    plan = write_plan(tmp_path / "a.json", runs, budget_sec=100.0)
    (tmp_path / "b.json").write_bytes((tmp_path / "a.json").read_bytes())
    mortal = Mortal(monkeypatch, plan, tmp_path / "runs.csv", 10**9, "before")
    first = carry_out(plan, RunPlace(mortal.runs, tmp_path / "logs"))
    second = carry_out(read_plan(tmp_path / "b.json"), RunPlace(mortal.runs, tmp_path / "logs"))
    assert len(mortal.measured) == 2
    assert (first.n_done, second.n_done) == (2, 2)
    assert first.used == pytest.approx(20.0)
    assert second.used == pytest.approx(20.0)


def test_a_table_that_has_vanished_meanwhile_is_named_and_nothing_is_measured_again(tmp_path, monkeypatch):
    plan = write_plan(tmp_path / "plan.json", [light_run(16, 10.0), light_run(32, 10.0)], budget_sec=100.0)
    mortal = Mortal(monkeypatch, plan, tmp_path / "runs.csv", 10**9, "before")
    carry_out(plan, RunPlace(mortal.runs, tmp_path / "logs"))
    mortal.runs.unlink()
    with pytest.raises(
        ValueError, match=r"runs.csv has no row of .*, which is done by .*\. Name the table that has it"
    ):
        carry_out(plan, RunPlace(mortal.runs, tmp_path / "logs"))
    assert len(mortal.measured) == 2


# --- within the budget ------------------------------------------------------------------------------------------------


def test_runs_are_done_in_the_plans_order_with_every_change_in_the_ledger(bench):
    plan = bench.plan(64, 16, 32)
    result = bench.carry_out("ok")
    assert bench.measured == bench.started == [64, 16, 32]
    assert [row.run_id for row in bench.rows] == [run.planned.run_id for run in plan.chosen]
    assert {row.grid_id for row in bench.rows} == {plan.plan_id}
    events = [line["event"] for line in bench.lines]
    assert events == ["begun", *["run_started", "run_ended"] * 3, "ended"]
    assert [line["run_id"] for line in bench.told("run_ended")] == [row.run_id for row in bench.rows]
    assert [line["wall_sec"] for line in bench.told("run_ended")] == [row.wall_sec for row in bench.rows]
    assert bench.told("run_started")[0]["expected_sec"] == pytest.approx(1.0)
    assert entries(result) == [(64, "done"), (16, "done"), (32, "done")]
    assert sum(row.wall_sec for row in bench.rows) < result.used < sum(row.wall_sec for row in bench.rows) + 1
    assert bench.used_sec == pytest.approx(result.used, abs=0.2)


def test_each_run_is_told_with_the_time_elapsed_against_the_time_planned(bench):
    bench.plan(16, 32, budget_sec=600.0)
    bench.carry_out("16=ok,32=oom-message")
    opening, *lines = bench.said
    assert re.fullmatch(rf"plan-\w+: 2 runs planned, 0 done, 0 s of 10 min 00 s used; ledger {bench.ledger}", opening)
    assert lines[0] == "(1,2,16): about 1.00 s, 10 min 00 s left"
    assert re.fullmatch(
        r"\[1 done\] \(1,2,16\): .*; planned 1\.00 s; \d s used, 1 s planned for what is done", lines[1]
    )
    assert re.match(r"\(1,2,32\): about 0\.\d+ s, (10 min 00|9 min 5\d) s left", lines[2])  # the first was quicker
    assert re.match(r"\[1 done\] OOM \(1,2,32\): ResourceExhausted.*; planned 1\.00 s; \d s used", lines[3])


def test_a_plan_that_is_done_is_not_done_again(bench):
    bench.plan(16, 32)
    bench.carry_out("ok")
    used_sec = bench.used_sec
    for _ in range(2):
        result = bench.carry_out("ok")
        assert (bench.started, bench.measured) == ([], [16, 32])
        assert entries(result) == [(16, "done"), (32, "done")]
        assert result.taken.measured == []
        assert result.used == pytest.approx(used_sec, abs=1)
    assert len(bench.told("run_ended")) == 2


def test_a_run_that_would_break_the_budget_is_not_started_and_smaller_ones_still_are(bench):
    bench.saved = write_plan(bench.path, [light_run(16), light_run(32, 500.0), light_run(64)], budget_sec=30.0)
    result = bench.carry_out("ok")
    assert bench.measured == [16, 64]
    assert entries(result) == [(16, "done"), (64, "done"), (32, "not started")]
    (refused,) = bench.told("refused")
    assert refused["run_ids"] == [bench.saved.chosen[1].planned.run_id]


def test_a_plan_whose_total_is_its_budget_is_carried_out_to_its_last_run(bench):
    bench.saved = write_plan(bench.path, [light_run(16, 2.0)], budget_sec=2.0)
    assert [e.start is not None for e in expect(bench.saved, bench.runs)[1]] == [True]
    assert bench.carry_out("ok", is_hard=True).n_done == 0  # it would be ended before it is done
    assert bench.carry_out("ok").n_done == 1


@pytest.mark.parametrize("unit", UNITS.values())
@pytest.mark.parametrize("replans", [False, True])
def test_where_all_goes_as_planned_every_run_of_such_a_plan_is_started(tmp_path, unit, replans):
    for seed in range(6):
        runs = random_runs(seed)
        runs = runs if unit == SECONDS else priced(runs, seed)
        plan = make_plan(runs, Budget(0.7 * sum(c.cost for c in runs), unit), COUNT)
        saved = write_plan(tmp_path / "plan.json", plan.chosen, plan.excluded, budget=Budget(plan.cost, unit))
        schedule, used = Schedule(saved, replans), 0.0
        while (run := schedule.next_run(saved.budget.amount - used)) is not None:
            used += run.candidate.cost
            took = [getattr(run.candidate, part).value for part in ("overhead", "first_epoch", "steady")]
            schedule.finish(run, Actual(*took))
        assert len(schedule.finished) == len(plan.chosen)


def test_a_run_that_takes_longer_than_the_budget_is_finished_and_the_rest_not_started(bench):
    bench.saved = write_plan(bench.path, [light_run(16, 0.1), light_run(32, 0.1)], budget_sec=0.7)
    result = bench.carry_out("lasting", "0.8")
    assert bench.measured == [16]
    assert result.used > bench.saved.budget.amount
    assert bench.carry_out("ok").n_done == 1
    assert bench.started == []


def test_a_hard_plan_ends_a_run_at_the_budget_and_does_not_go_on_beyond_it(bench):
    bench.saved = write_plan(bench.path, [light_run(16, 0.1), light_run(32, 0.1)], budget_sec=2.0)
    result = bench.carry_out("16=ok,32=hang", is_hard=True)
    assert entries(result) == [(16, "done"), (32, "timeout")]
    assert bench.failed == [(32, "timeout")]
    assert 2 <= result.used < 7
    result = bench.carry_out("ok", is_hard=True)
    assert bench.started == []
    assert entries(result) == [(16, "done"), (32, "timeout")]
    assert bench.told("refused")[-1]["run_ids"] == [bench.saved.chosen[1].planned.run_id]


def test_what_failed_for_good_stops_nothing_and_is_not_repeated_and_what_was_ended_is(bench):
    bench.plan(16, 32, 64, 128)
    result = bench.carry_out("16=oom-message,32=exit-3,64=sigkill,128=ok")
    assert entries(result) == [(16, "oom"), (32, "crash"), (64, "killed"), (128, "done")]
    assert result.n_done == 1
    result = bench.carry_out("ok")
    assert bench.started == [64]
    assert entries(result) == [(16, "oom"), (32, "crash"), (64, "done"), (128, "done")]
    assert bench.carry_out("ok").taken.measured == []


def test_a_refused_run_stops_the_plan_and_is_tried_again(bench):
    bench.plan(16, 32)
    with pytest.raises(RunRefusedError, match="no such device"):
        bench.carry_out("refuse")
    assert (bench.rows, bench.failed) == ([], [])
    assert bench.lines[-1]["event"] == "ended"
    assert bench.used_sec > 0.01
    bench.carry_out("ok")
    assert bench.measured == [16, 32]
    assert not any("cut off" in line for line in bench.said)


# --- what was done outside --------------------------------------------------------------------------------------------


def test_runs_done_by_hand_count_as_done_and_their_time_is_charged_once(bench):
    plan = bench.plan(16, 32, 64)
    append_row(bench.runs, row_of(plan.chosen[1], 20.0))
    for planned, behaviour in ((plan.chosen[0].planned, "sigkill"), (plan.chosen[2].planned, "oom-message")):
        run(planned.spec, planned.run_id, RunPlace(bench.runs, bench.log_dir, child=command(behaviour)))
    used = []
    for started in ([16], [], []):
        result = bench.carry_out("ok")
        assert bench.started == started  # what was killed is repeated, what ran out of memory is not
        assert sorted(entries(result)) == [(16, "done"), (32, "done"), (64, "oom")]
        used.append(result.used)
    assert 20 < used[0] < 25
    assert used[2] == pytest.approx(used[0], abs=2)
    assert len(bench.told("run_ended")) == 3


def test_a_run_that_was_cut_off_and_then_done_by_hand_is_charged_as_well(bench):
    plan = bench.plan(16, 32)
    bench.carry_out_until(1, "ok")
    assert bench.measured == [16]
    with opened(bench.ledger, plan.plan_id) as ledger:
        ledger.write("run_started", run_id=plan.chosen[1].planned.run_id)
    append_row(bench.runs, row_of(plan.chosen[1], 20.0))
    result = bench.carry_out("ok")
    assert bench.started == []
    assert 20 < result.used < 25


def test_a_budget_that_runs_done_by_hand_used_up_is_used_up(bench):
    plan = bench.plan(16, 32)
    append_row(bench.runs, row_of(plan.chosen[1], 100.0))
    result = bench.carry_out("ok")
    assert bench.started == []
    assert (result.used > 100, result.n_done) == (True, 1)


def test_a_run_that_another_process_measures_is_left_to_it_and_taken_up_later(bench):
    plan = bench.plan(16, 32)
    by_hand = main_with_child("epochcast.collect.run_one", "gate", str(bench.gate), flags=hand_flags(plan.chosen[0]))
    with subprocess.Popen(by_hand, env=environment(), cwd=bench.folder, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: bench.started)

        def say(line):  # the next run of the plan waits for the device
            if f"another run is on this device (pid {process.pid}" in line:
                bench.gate.touch()

        result = bench.carry_out("ok", say=say)
        assert process.wait(20) == 0
    assert [line["status"] for line in bench.told("run_ended")] == ["elsewhere", "done"]
    assert entries(result) == [(16, "done"), (32, "done")]  # the other process had ended before the second began
    result = bench.carry_out("ok")
    assert bench.started == []
    assert entries(result) == [(16, "done"), (32, "done")]


def hand_flags(planned_run):
    """The flags of run_one for a run of a plan."""
    config, spec = planned_run.candidate.config, planned_run.planned.spec
    flags = ["--depth", config.depth, "--base_filters", config.base_filters, "--batch_size", config.batch_size]
    flags += ["--epochs", spec.epochs, "--dataset", spec.dataset, "--train_n", spec.train_n]
    return [str(flag) for flag in [*flags, "--run_id", planned_run.planned.run_id]]


def test_another_table_than_that_of_the_finished_runs_is_refused(bench):
    bench.plan(16, 32)
    bench.carry_out("ok")
    with pytest.raises(ValueError, match=r"other\.csv has no row of d1_f2_b\d+-\S+, which is done by .*ledger.jsonl"):
        bench.carry_out("ok", runs=bench.folder / "other.csv")
    assert bench.started == []


# --- cut off ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", ["", '{"event": "run_end'])
@pytest.mark.parametrize("is_appended", [True, False])
def test_a_run_that_finished_before_the_ledger_knew_is_not_repeated_and_its_time_counts_once(bench, is_appended, torn):
    bench.plan(16, 32, budget_sec=100.0)
    bench.carry_out_until(1, "ok")
    bench.forget("ended", "run_ended")
    bench.ledger.write_text(bench.ledger.read_text() + torn)
    (sidecar,) = bench.log_dir.glob("*.json")
    kept = json.loads(sidecar.read_text())
    kept["row"]["wall_sec"] = 20.0
    sidecar.write_text(json.dumps(kept))
    bench.runs.write_text(bench.runs.read_text().splitlines(keepends=True)[0])
    if is_appended:  # else it was killed even before: only the JSON beside the log has the row
        recover(bench.runs, bench.log_dir)
    for started in ([32], [], []):
        result = bench.carry_out("ok")
        assert bench.started == started
        assert 20 < result.used < 25
    assert bench.measured == [16, 32]
    assert not any("cut off" in line for line in bench.said)
    assert len(bench.told("run_ended")) == 2


def test_a_failure_that_the_ledger_did_not_learn_of_is_not_repeated(bench):
    bench.plan(16)
    bench.carry_out("oom-message")
    bench.forget("ended", "run_ended")
    result = bench.carry_out("ok")
    assert bench.started == []
    assert entries(result) == [(16, "oom")]
    assert result.used > result.entries[0].wall_sec


def test_time_up_to_the_last_sign_of_life_counts_and_a_run_that_no_longer_fits_is_not_repeated(bench):
    plan = bench.plan(16, 32, budget_sec=10.0)
    with opened(bench.ledger, plan.plan_id) as ledger:
        ledger.write("run_started", run_id=plan.chosen[0].planned.run_id)
        ledger.reach(7.5)
        ledger.write("alive")
    result = bench.carry_out("ok", say=lambda line: bench.said.append(line))
    assert bench.said[0] == "(1,2,16) was cut off; the time it took counts"
    assert bench.measured == [16, 32]
    assert 7.5 < result.used < 9.5
    bench.ledger.unlink()
    bench.runs.unlink()
    with opened(bench.ledger, plan.plan_id) as ledger:
        ledger.write("run_started", run_id=plan.chosen[0].planned.run_id)
        ledger.reach(9.5)
        ledger.write("alive")
    for kept in bench.log_dir.iterdir():  # the rows stand in JSON and log, too
        kept.unlink()
    result = bench.carry_out("ok")
    assert bench.started == []
    assert entries(result) == [(16, "cut off"), (32, "not started")]


def test_a_killed_plan_takes_its_child_along_and_the_same_command_goes_on(bench, monkeypatch, capsys):
    bench.plan(16, 32, 64, budget_sec=100.0)
    behaviour = ["16=ok,32=gate,64=ok", str(bench.gate)]
    with bench.start(*behaviour) as process:
        wait_for(lambda: bench.started == [16, 32])
        pid = starts(bench.trace)[-1]["pid"]
        time.sleep(0.4)
        assert bench.main(monkeypatch, "ok") == 1
        assert "another process carries this plan out at the moment" in capsys.readouterr().err
        process.kill()
        process.wait(20)
    if sys.platform.startswith("linux"):
        wait_for(lambda: not is_alive(pid), seconds=10)
    assert bench.measured == [16]
    used_sec, began_sec = bench.used_sec, bench.told("run_started")[-1]["used_sec"]
    assert used_sec > began_sec + 0.4  # by the lines that say `alive`
    time.sleep(0.5)
    bench.gate.touch()
    bench.trace.unlink()
    assert bench.main(monkeypatch, *behaviour) == 0
    assert bench.started == [32, 64]
    assert bench.measured == [16, 32, 64]
    assert bench.told("resumed")[0]["used_sec"] == pytest.approx(used_sec, abs=0.1)
    assert "(1,2,32) was cut off; the time it took counts" in capsys.readouterr().out


def test_however_often_a_plan_is_killed_each_run_is_kept_once_and_all_time_counts(bench):
    sizes = (16, 32, 64, 128)
    bench.plan(*sizes, budget_sec=100.0)
    watched_sec = 0.0
    for delay_sec in (0.05, 0.2):
        n = len(bench.lines) if bench.ledger.exists() else 0
        with bench.start("lasting", "0.05") as process:
            start = time.monotonic()
            wait_for(lambda n=n: bench.ledger.exists() and len(bench.lines) > n)
            time.sleep(delay_sec)
            process.kill()
            process.wait(20)
            watched_sec += time.monotonic() - start
    start = time.monotonic()
    bench.carry_out("lasting", "0.05")
    watched_sec += time.monotonic() - start
    assert sorted(bench.measured) == sorted(sizes)
    assert sum(row.wall_sec for row in bench.rows) < bench.used_sec < watched_sec
    assert len({line["run_id"] for line in bench.told("run_ended")}) == len(bench.told("run_ended")) == 4


def test_a_plan_that_is_stopped_ends_cleanly_and_goes_on(bench):
    """By one signal; that both end a run stands in test_runner.py."""
    bench.plan(16, 32, 64)
    behaviour = ["16=ok,32=gate,64=ok", str(bench.gate)]
    with bench.start(*behaviour) as process:
        wait_for(lambda: bench.started == [16, 32] and bench.told("run_started")[1:])
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(20) == 130, bench.output
    assert bench.measured == [16]
    assert bench.failed == [(32, "interrupted")]
    assert bench.lines[-1]["was_interrupted"] is True
    assert bench.output.splitlines()[-1] == "interrupted: the same command goes on from here"
    assert "Traceback" not in bench.output
    bench.gate.touch()
    bench.carry_out(*behaviour)
    assert bench.started == [32, 64]


def test_a_plan_is_carried_out_though_the_reader_leaves(bench):
    bench.plan(16, 32)
    words = main_with_child("epochcast.planner.run_plan", "gate", str(bench.gate), flags=[str(bench.path)])
    with subprocess.Popen(
        words, env=environment(), cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(lambda: bench.started)
        process.stdout.close()  # as `| head -1` does
        bench.gate.touch()
        errors = process.stderr.read().decode()
        assert process.wait(20) == 0
    assert [line for line in errors.splitlines() if not line.startswith("files under ")] == []
    assert bench.measured == [16, 32]
    assert [line["event"] for line in bench.lines if line["event"] != "alive"][-2:] == ["run_ended", "ended"]


# --- planned again ----------------------------------------------------------------------------------------------------


def test_slow_runs_have_the_rest_planned_again_and_say_so(bench):
    chosen = [light_run(16, 10.0, 9.0), light_run(32, 20.0, 5.0), light_run(64, 20.0, 4.0)]
    plan = bench.saved = write_plan(bench.path, chosen, [light_run(8, 3.0, 0.5)], budget_sec=100.0, value="acc")
    append_row(bench.runs, row_of(plan.chosen[0], 60.0, (20.0, 20.0)))
    result = bench.carry_out("ok", replans=True)
    assert bench.started[0] == 32
    first = bench.told("replanned")[0]
    assert first["factors"]["overhead"] == pytest.approx((20 / 5) ** (1 / 3))
    assert first["factors"]["steady"] == pytest.approx((20 / 2.5) ** (1 / 3))
    assert first["run_ids"] == [plan.chosen[1].planned.run_id]  # 36 s each: only one of the two fits 40 s
    factors = "overhead x 1.587, first epoch x 2.000, steady x 2.000"
    assert f"planned again ({factors}): out: (1,2,64)" in bench.said
    assert bench.started == [32, 64, 8]  # those were quick: all fits again
    assert any(line.endswith(("in: (1,2,64) (1,2,8)", "in: (1,2,8) (1,2,64)")) for line in bench.said)
    assert entries(result)[-1] == (8, "done")
    assert result.value == pytest.approx(18.5)


def test_without_planning_again_what_was_left_out_stays_out(bench):
    bench.saved = write_plan(bench.path, [light_run(16)], [light_run(8)], budget_sec=100.0)
    bench.carry_out("ok")
    assert bench.measured == [16]
    result = bench.carry_out("ok", replans=True)
    assert bench.measured == [16, 8]
    assert entries(result) == [(16, "done"), (8, "done")]


# --- a budget of energy -----------------------------------------------------------------------------------------------


def energy_plan(bench, *runs_and_watts, budget, **more):
    """A plan in kWh of runs that draw so many watts."""
    chosen = [run for run, watts in runs_and_watts for run in priced([run], watts=watts, sd=0.0)]
    bench.saved = write_plan(bench.path, chosen, budget=Budget(budget, KWH), **more)
    return bench.saved


def test_a_budget_of_energy_is_used_by_the_runs_at_their_own_power_and_resumed_from_the_ledger(bench):
    plan = energy_plan(bench, (light_run(16), 360.0), (light_run(32), 720.0), (light_run(64), 360.0), budget=1.0)
    bench.carry_out_until(1, "ok")
    result = bench.carry_out("ok")
    assert bench.measured == [16, 32, 64]
    walls = {row.batch_size: row.wall_sec for row in bench.rows}
    costs = {16: 1e-4 * walls[16], 32: 2e-4 * walls[32], 64: 1e-4 * walls[64]}
    assert [line["cost"] for line in bench.told("run_ended")] == pytest.approx(list(costs.values()))
    assert result.used == pytest.approx(sum(costs.values()))
    assert [entry.cost for entry in result.entries] == pytest.approx(list(costs.values()))
    assert bench.told("run_started")[0]["expected_kwh"] == pytest.approx(1e-4)
    assert bench.said[0].startswith(f"{plan.plan_id}: 3 runs planned, 0 done, 0 of 1.00 kWh used; ledger ")
    assert bench.said[1] == "(1,2,16): about 0.000100 kWh, 1.00 kWh left"
    assert re.fullmatch(
        r"\[1 done\] \(1,2,16\): .*; planned 0\.000100 kWh; \S+ kWh used, 0\.000100 kWh planned .*", bench.said[2]
    )
    assert bench.carry_out("ok").used == pytest.approx(result.used)


def test_a_run_that_would_break_a_budget_of_energy_is_not_started_however_short_it_is(bench):
    runs = (light_run(16), 360.0), (light_run(32, 0.1), 3.6e7), (light_run(64), 360.0)
    plan = energy_plan(bench, *runs, budget=5e-4)
    result = bench.carry_out("ok")
    assert bench.measured == [16, 64]
    (refused,) = bench.told("refused")
    assert refused["run_ids"] == [plan.chosen[1].planned.run_id]
    assert refused["left_kwh"] == pytest.approx(5e-4 - result.used)


def test_energy_of_runs_done_by_hand_or_cut_off_counts(bench):
    plan = energy_plan(bench, (light_run(16), 360.0), (light_run(32), 360.0), budget=1.0)
    append_row(bench.runs, row_of(plan.chosen[1], 20.0))
    with opened(bench.ledger, plan.plan_id) as ledger:
        expected = {"expected_sec": 1.0, "expected_kwh": 1e-4}
        ledger.write("run_started", run_id=plan.chosen[0].planned.run_id, **expected)
        ledger.reach(50.0)
        ledger.write("alive")
    result = bench.carry_out("ok")
    assert bench.measured == [32, 16]
    (row,) = [row for row in bench.rows if row.batch_size == 16]
    assert result.used == pytest.approx(1e-4 * (20 + 50 + row.wall_sec), abs=1e-6)  # 10 ms until the line was written
    assert bench.carry_out("ok").used == pytest.approx(result.used)
    used_up = energy_plan(bench, (light_run(16), 360.0), budget=1e-5)
    bench.ledger.unlink()
    append_row(bench.runs, row_of(used_up.chosen[0], 20.0))
    assert (bench.carry_out("ok").used, bench.started) == (pytest.approx(20e-4), [])


def test_a_hard_plan_ends_a_run_when_its_energy_is_used_up(bench):
    plan = energy_plan(bench, (light_run(16, 0.5), 3600.0), budget=1e-3)  # a second's worth
    result = bench.carry_out("hang", is_hard=True)
    assert entries(result) == [(16, "timeout")]
    assert plan.budget.amount <= result.used < 4 * plan.budget.amount


def test_what_runs_measured_tells_what_an_unmeasured_one_may_take_and_took(bench):
    runs = (light_run(16), 360.0), (light_run(32, 0.1), 360.0), (light_run(64, 0.1), 360.0)
    plan = energy_plan(bench, *runs, budget=8e-4 + 6e-4)
    metered = {"energy_source": "nvml_counter", "energy_estimated": 0, "mean_power_w": 8 * 360.0}
    append_row(bench.runs, dataclasses.replace(row_of(plan.chosen[0], 1.0), energy_j_per_epoch=1.0, **metered))
    result = bench.carry_out("32=exit-3,64=hang", is_hard=True)
    assert entries(result) == [(16, "done"), (32, "crash"), (64, "timeout")]
    done, crashed, ended = (entry.cost for entry in result.entries)
    walls = [entry.wall_sec for entry in result.entries]
    assert done == pytest.approx(8e-4)
    assert [crashed, ended] == pytest.approx([2e-4 * wall for wall in walls[1:]])  # 8 by one run: 2 is believed
    for line in bench.told("run_started"):
        assert line["expected_kwh"] / line["expected_sec"] == pytest.approx(2e-4)
    assert plan.budget.amount <= result.used < 2 * plan.budget.amount
    assert walls[2] < 6  # at the planned cost 6 s would be left


def test_a_run_whose_end_was_never_noted_costs_what_those_noted_before_it_tell(bench):
    plan = energy_plan(bench, (light_run(16), 360.0), (light_run(32, 0.1), 360.0), budget=1.0)
    metered = {"energy_source": "nvml_counter", "energy_estimated": 0, "mean_power_w": 8 * 360.0}
    append_row(bench.runs, dataclasses.replace(row_of(plan.chosen[0], 1.0), energy_j_per_epoch=1.0, **metered))
    before = bench.carry_out("exit-3")
    bench.forget("ended", "alive", "run_ended")
    after = bench.carry_out("exit-3")
    assert entries(after) == entries(before) == [(16, "done"), (32, "crash")]
    assert [entry.cost for entry in after.entries] == [entry.cost for entry in before.entries]


def test_what_a_plan_in_kwh_planned_and_used_is_told_in_kwh(bench, monkeypatch, capsys):
    runs = (light_run(16, 5.0), 3600.0), (light_run(32, 50.0), 3600.0)
    plan = energy_plan(bench, *runs, budget=2e-2)
    before = bench.files()
    assert run_plan.main([str(bench.path), "--dry_run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{plan.plan_id}: 0 of 0.0200 kWh used"
    assert printed[1].split("  ") == ["configuration", "starts at kWh", "takes kWh", "takes s"]
    assert printed[3].split() == ["(1,2,32)", "does", "not", "fit", "0.0500", "50.0"]
    assert printed[4] == "expected end: 0.00500 of 0.0200 kWh"
    assert run_plan.main([str(bench.path), "--dry_run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [run["start_kwh"] for run in answer["runs"]] == [0.0, None]
    assert answer["expected_end_kwh"] == pytest.approx(5e-3)
    assert bench.files() == before
    assert bench.main(monkeypatch, "ok") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^used: [\d.]+(e-\d+)? of 0\.0200 kWh \(", printed, re.MULTILINE)  # of a run as quick as it likes
    assert "planned kWh  actual kWh" in printed
    assert bench.main(monkeypatch, "ok", flags=["--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["budget_kwh"] == 2e-2
    assert answer["used_kwh"] == pytest.approx(sum(run["actual_kwh"] or 0.0 for run in answer["runs"]))
    assert answer["runs"][0]["planned_kwh"] == pytest.approx(5e-3)


def test_a_plan_in_kwh_is_planned_again_in_kwh(bench):
    chosen = [light_run(16, 10.0, 9.0), light_run(32, 20.0, 5.0), light_run(64, 20.0, 4.0)]
    chosen = [*priced(chosen[:2], watts=360.0, sd=0.0), *priced(chosen[2:], watts=3600.0, sd=0.0)]
    plan = bench.saved = write_plan(bench.path, chosen, budget=Budget(25e-3, KWH), value="acc")
    append_row(bench.runs, row_of(plan.chosen[0], 60.0, (20.0, 20.0)))  # slower: 6e-3 of it, 19e-3 left
    bench.carry_out("ok", replans=True)
    first = bench.told("replanned")[0]
    assert first["run_ids"] == [plan.chosen[1].planned.run_id]  # that of 64 would now take 36e-3
    assert 64 in bench.started  # it turned out quick after the next one


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_planned_against_actual_and_where_the_ledger_is(bench, monkeypatch, capsys):
    bench.plan(16, 32)
    assert bench.main(monkeypatch, "ok") == 0
    captured = capsys.readouterr()
    assert captured.err == f"files under {bench.folder}\n"
    assert captured.out.startswith(f"{bench.saved.plan_id}: 2 runs planned, 0 done")
    table = captured.out.partition("planned against actual")[2].splitlines()
    assert table[2].split()[:3] == ["(1,2,16)", "done", "1.00"]
    assert "done: 2 runs in " in captured.out
    assert bench.measured == [16, 32]


def test_json_is_one_object_and_progress_goes_to_stderr(bench, monkeypatch, capsys):
    bench.plan(16, 32)
    assert bench.main(monkeypatch, "16=ok,32=exit-3", flags=["--json"]) == 1
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert [(run["batch_size"], run["status"]) for run in answer["runs"]] == [(16, "done"), (32, "crash")]
    assert answer["runs"][0]["actual_sec"] == bench.rows[0].wall_sec
    assert "[1 done] (1,2,16)" in captured.err
    assert bench.main(monkeypatch, "ok", flags=["--json"]) == 1  # nothing failed now, but the plan holds a failure
    assert json.loads(capsys.readouterr().out)["runs"][1]["status"] == "crash"


def test_a_dry_run_tells_what_would_run_and_touches_nothing(bench, capsys):
    plan = bench.saved = write_plan(
        bench.path, [light_run(16, 10.0), light_run(32, 70.0), light_run(64, 20.0)], budget_sec=60.0
    )
    append_row(bench.runs, row_of(plan.chosen[0], 10.0, (2.5, 2.5)))
    before = bench.files()
    assert run_plan.main([str(bench.path), "--dry_run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{plan.plan_id}: 10 s of 1 min 00 s used"
    assert [line.split() for line in printed[2:4]] == [
        ["(1,2,64)", "10.0", "20.0"],
        ["(1,2,32)", "does", "not", "fit", "70.0"],
    ]
    assert printed[4] == "expected end: 30 s of 1 min 00 s"
    assert run_plan.main([str(bench.path), "--dry_run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [run["start_sec"] for run in answer["runs"]] == [pytest.approx(10.0, abs=0.1), None]
    assert answer["expected_end_sec"] == pytest.approx(30.0, abs=0.1)
    assert bench.files() == before
    assert not bench.log_dir.exists()


def test_a_dry_run_in_the_middle_of_a_plan_counts_as_the_plan_would(bench):
    plan = bench.plan(16, 32, 64, 128)
    bench.carry_out_until(3, "16=ok,32=oom-message,64=ok")
    used_sec, expected = expect(plan, bench.runs)
    assert used_sec == pytest.approx(bench.used_sec, abs=0.1)
    assert [e.run.candidate.config.batch_size for e in expected] == [128]
    assert expected[0].sec < 1  # as the runs so far were quicker than planned
    bench.carry_out("ok")
    assert expect(plan, bench.runs)[1] == []


def test_a_plan_for_another_device_is_refused_unless_asked_for(bench, monkeypatch, capsys):
    bench.plan(16, conditions=BOX)
    assert bench.main(monkeypatch, "ok") == 1
    assert_one_clear_error(capsys.readouterr(), "was planned for device NVIDIA A100 80GB PCIe, here it is ")
    assert not bench.ledger.exists()
    assert bench.main(monkeypatch, "ok", flags=["--dry_run"]) == 0
    assert bench.main(monkeypatch, "ok", flags=["--any_conditions"]) == 0
    assert bench.measured == [16]


def test_a_plan_for_another_backend_is_refused_before_anything_is_run(bench, monkeypatch, capsys):
    bench.plan(16, conditions=Conditions(backend="tensorflow"))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert bench.main(monkeypatch, "ok") == 1
    assert_one_clear_error(capsys.readouterr(), "was planned for backend tensorflow, here it is jax")
    assert not bench.ledger.exists()


def test_a_run_under_other_conditions_is_none_of_the_plan_and_ends_it(bench, monkeypatch, capsys):
    bench.plan(16, 32, conditions=Conditions(steps_per_execution=99))  # the light child says 1
    assert bench.main(monkeypatch, "ok") == 1
    assert "was measured under other conditions than planned: steps_per_execution " in capsys.readouterr().err
    assert bench.measured == [16]
    assert bench.main(monkeypatch, "ok", flags=["--dry_run", "--json"]) == 0
    waiting = json.loads(capsys.readouterr().out)
    assert "other conditions" not in str(waiting)


def test_the_images_may_be_named_again(bench, monkeypatch):
    bench.plan(16)
    assert bench.main(monkeypatch, "ok", flags=["--data_dir", "images"]) == 0
    (kept,) = (json.loads(path.read_text())["spec"] for path in bench.log_dir.glob("*.json"))
    assert kept["data_dir"] == str(Path("images").absolute())


def spoil_json(bench):
    bench.path.write_text("a note")
    return f"{bench.path}: not a plan: "


def spoil_version(bench):
    bench.path.write_text(json.dumps({**json.loads(bench.path.read_text()), "schema_version": 99}))
    return "(schema_version 99, 4 is known)"


def spoil_runs(bench):
    values = json.loads(bench.path.read_text())
    del values["chosen"][0]["overhead_sec"]
    bench.path.write_text(json.dumps(values))
    return f"{bench.path}: not a whole plan: 'overhead_sec' is missing"


def spoil_path(bench):
    bench.path.unlink()
    return f"{bench.path}: no such plan"


def spoil_ledger(bench):
    bench.ledger.write_text("a note\n")
    return f"{bench.ledger}:1: not a line of a plan's ledger"


def spoil_ledger_plan(bench):
    with opened(bench.ledger, "plan-other"):
        pass
    return f"{bench.ledger} is the ledger of plan-other"


def spoil_table(bench):
    bench.runs.parent.mkdir()
    bench.runs.write_text("who,what\nme,that\n")
    return f"{bench.runs}:1: not a table"


def spoil_log_dir(bench):
    bench.log_dir.touch()
    return str(bench.log_dir)


def spoil_results(bench):
    bench.runs.parent.touch()
    return str(bench.runs.parent)


SPOILED = [
    spoil_json, spoil_version, spoil_runs, spoil_path, spoil_ledger, spoil_ledger_plan, spoil_table, spoil_log_dir,
    spoil_results,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_cannot_be_carried_out_is_one_clear_error_before_anything_is_measured(bench, monkeypatch, capsys, spoil):
    bench.plan(16)
    message = spoil(bench)
    assert bench.main(monkeypatch, "ok", flags=["--json"]) == 1
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert message in said[0]
    assert captured.out == ""
    assert bench.started == []


def test_a_ledger_that_the_disk_does_not_take_is_one_clear_error_before_anything_is_measured(bench):
    bench.plan(16)
    words = main_with_child("epochcast.planner.run_plan", "ok", flags=[str(bench.path)], largest_file=20)
    done = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {bench.ledger}: could not append (")
    assert bench.started == []
    assert bench.ledger.read_bytes() == b""


@pytest.mark.parametrize("flags", [[], ["a.json", "b.json"], ["a.json", "--budget", "1h"]])
def test_a_wrong_command_is_refused_with_exit_code_2(capsys, flags):
    with pytest.raises(SystemExit) as end:
        run_plan.main(flags)
    assert end.value.code == 2
    assert "run_plan --help" in capsys.readouterr().err
