"""README's walks: without flags on a quiet host, with flags that say what is the matter on a busy one.

The host's load is made up at /proc, the epochs' seconds by the light child: with noise of 2 %, as a quiet box has.
"""

from __future__ import annotations

import random
import re
import shlex

import pytest

from epochcast.collect import run_grid, run_one
from epochcast.collect.grid import host_now
from epochcast.collect.run import child, monitor, outcome
from epochcast.collect.run.child import ChildReport
from epochcast.collect.run.monitor import Observations
from epochcast.collect.run.stopping import stop_reason
from epochcast.machine.host.host import cpu_count, cpu_name
from epochcast.output.text import percent
from epochcast.paths import CODE_ROOT
from epochcast.planner import dp_budget_planner, run_plan
from epochcast.planner.request import flags as plan_flags
from epochcast.schema import FLAGS, RunRecord, RunSpec
from epochcast.storage.tables import read_table
from epochcast.workload.shape import count_params
from tests.support.light_child import command, isolate, light_spec
from tests.support.machines.made_up_host import others_use

CONFIGURATIONS = ["--depth", "2", "--base_filters", "8", "--batch_size", "64,128"]
GRID = ["--device", "cpu", *CONFIGURATIONS, "--train_n", "2048", "--epochs", "4"]
ONE = ["--device", "cpu", "--depth", "3", "--base_filters", "32", "--batch_size", "512", "--epochs", "4"]
PLAN = ["--budget", "15s", "--epochs", "4", *CONFIGURATIONS, "--value", "count"]
QUICK = ("uneven", "0.02", "0.02")
UNEVEN = ("uneven", "0.02", "0.2")  # timed for 0.6 s: long enough for looks at the host, 0.2 s apart


@pytest.fixture
def home(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    monkeypatch.setattr(host_now, "LOOK_SEC", 0.25)
    monkeypatch.setattr(monitor, "HOST_PERIOD_SEC", 0.2)
    monkeypatch.setattr(child, "CHILD", command(*UNEVEN))
    return tmp_path


def flags_of(home):
    return [row.flags for row in read_table(home / "results" / "runs.csv", RunRecord)]


def test_on_a_quiet_host_run_grid_and_plan_come_out_without_flags(home, monkeypatch, capsys):
    others_use(0.02 * cpu_count(), monkeypatch)
    assert run_one.main(ONE) == 0
    assert "flag " not in capsys.readouterr().out
    assert run_grid.main(GRID) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"2 of 2 runs measured in .*, none flagged; rows in ", lines[-1])
    assert not any("not measured again" in line for line in lines)
    plan = home / "plan.json"
    of_grid = ["--conditions", "train_n=2048"]
    assert dp_budget_planner.main([*PLAN, *of_grid, "--out", str(plan)]) == 0
    assert run_plan.main([str(plan)]) == 0
    assert "done: " in capsys.readouterr().out
    flags = flags_of(home)
    assert len(flags) >= 4
    assert set(flags) == {()}


def readme_walk():
    """README's plan that holds, from an empty folder to its end: its commands, each as its words."""
    text = (CODE_ROOT / "README.md").read_text()
    section = text.partition("### A plan that holds")[2]
    commands = section.split("```")[1].replace("\\\n", " ")
    return [shlex.split(line) for line in commands.strip().splitlines()]


def test_the_grid_of_readme_s_walk_comes_out_without_flags(home, monkeypatch, capsys):
    """README's own grid, with epochs of 0.02 s by the light child.

    The rest of that walk is only parsed: its training alone takes 12 s of processor time. The test above plans and
    carries out a smaller one from measured times.
    """
    others_use(0.02 * cpu_count(), monkeypatch)
    grid, learn, plan, carry, last = readme_walk()
    assert grid[:2] == ["python", "collect/run_grid.py"]
    assert learn == last == ["epochcast", "train"]
    asked = plan_flags.parse(plan[1:])
    assert (plan[0], asked.value, asked.exclude_measured) == ("dp_budget_planner", "info", True)
    assert carry == ["epochcast", "run_plan", str(asked.out), "--replan"]
    monkeypatch.setattr(child, "CHILD", command(*QUICK))
    assert run_grid.main(grid[2:]) == 0
    assert re.search(r"^12 of 12 runs measured in .*, none flagged", capsys.readouterr().out, re.MULTILINE)
    assert flags_of(home) == [()] * 12


def test_on_a_busy_host_lines_say_that_others_took_the_processor_and_nothing_is_repeated(home, monkeypatch, capsys):
    others_use(0.7 * cpu_count(), monkeypatch)
    assert run_one.main(ONE) == 0
    assert f"flag busy_host: {FLAGS['busy_host']}" in capsys.readouterr().out.splitlines()
    assert run_grid.main(GRID) == 0
    *_, passed_over, closing = capsys.readouterr().out.splitlines()
    assert re.match(r"not measured again: 2 flagged runs \(other programs use .* of .* cores now, which ", passed_over)
    assert "2 of 2 runs measured" in closing and "2 flagged (busy_host 2)" in closing
    assert set(flags_of(home)) == {("busy_host",)}


def open_run(seed, sec, noise=0.02):
    """The row of `run` without --epochs whose epochs have normal noise: no process, its seconds made up."""
    draw, spec = random.Random(seed), RunSpec(depth=3, base_filters=32, batch_size=512)
    times = [3 * sec]
    while (reason := stop_reason(spec, times)) is None:
        times.append(sec * draw.gauss(1.0, noise))
    return row_of(spec, times, reason)


def row_of(spec, times, reason):
    """The row that these epochs make, nothing having been seen beside the run."""
    report = ChildReport(exit_code=0, wall_sec=sum(times) + 5.0, cpu_time_sec=1.0)
    params = count_params(spec.config)
    report.started = {"device_name": cpu_name(), "train_n": spec.train_n, "params": params, "tf_version": "2.21.0"}
    report.epoch_times, report.done = times, {"stop_reason": reason}
    row, _ = outcome.record_of(spec, report, "a", None, Observations())
    return row


@pytest.mark.parametrize("sec", [0.1, 0.5, 3.0, 9.0])
def test_a_run_until_its_time_is_known_is_flagged_as_rarely_as_its_tests_are_wrong(sec):
    rows = [open_run(seed, sec) for seed in range(60)]
    assert all(row.stop_reason == "target_ci" for row in rows)
    assert not any("short" in row.flags for row in rows)
    flagged = [row for row in rows if row.flags]
    # trend and warmup are tests at 1 and 0.5 %, looked at once a run: of 60 runs three at most, by a chance of 1 %
    assert len(flagged) <= 3, percent(len(flagged) / len(rows))


@pytest.mark.parametrize("epochs", [2, 4, 50, None])
def test_a_run_is_short_only_if_a_limit_stopped_it_before_it_had_enough(epochs):
    spec = light_spec(epochs=epochs, max_epochs=3)
    row = row_of(spec, [0.2, *[0.1] * ((epochs or 3) - 1)], "max_epochs" if epochs is None else "epochs")
    assert ("short" in row.flags) == (epochs is None)
