"""A plan for other programs: each export names the same runs as plan.json."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from epochcast.collect.run_one import parse
from epochcast.paths import CODE_ROOT
from epochcast.planner.costs.budget import KWH, Budget
from epochcast.planner.costs.values import ACC
from epochcast.planner.output.exports import COLUMNS, optuna_trials, plan_csv, plan_sh
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import Margin
from epochcast.planner.plan.plan_file import plan_json
from epochcast.schema import Conditions, RunSpec
from tests.support.plans import priced
from tests.support.rows import random_runs

CONDITIONS = [
    Conditions(),
    Conditions(device_name="AMD EPYC 9B14 (2 cores)", precision="mixed_bfloat16", pipeline="tfdata", jit_compile="off"),
    Conditions(device_name="NVIDIA H200", precision="mixed_float16", dataset="synthetic", train_n=1_000),
]


@pytest.fixture(params=CONDITIONS, ids=["any", "cpu", "gpu"])
def plan(request, monkeypatch):
    monkeypatch.delenv("EPOCHCAST_DATA_DIR", raising=False)
    candidates = [replace(run, repeats=2, acc=0.5) for run in random_runs(4, n=6)]
    return plan_json(make_plan(candidates, Budget(90.0), ACC, Margin(1.0, 0.01)), request.param, {}, [])


def commands_of(text):
    return [line for line in text.splitlines() if "run_one.py" in line]


def test_the_table_has_each_run_in_order_with_its_numbers_in_full(plan):
    runs = list(csv.DictReader(io.StringIO(plan_csv(plan))))
    assert list(runs[0]) == list(COLUMNS)
    for run, row in zip(plan["chosen"], runs, strict=True):
        for name in COLUMNS:
            value = run[name]
            assert row[name] == ("" if value is None else str(value))
            if isinstance(value, float):
                assert float(row[name]) == value


def test_the_shell_commands_ask_for_the_same_runs_under_the_same_names(plan):
    commands = commands_of(plan_sh(plan))
    for run, command in zip(plan["chosen"], commands, strict=True):
        program, script, *flags = shlex.split(command)
        assert (program, script) == ("$PYTHON", str(CODE_ROOT / "collect" / "run_one.py"))
        arguments, spec = parse(flags)
        assert spec == RunSpec(**run["spec"])
        assert arguments.run_id == run["run_id"]


def test_a_shell_runs_one_command_after_the_other_with_the_python_that_is_named(plan, tmp_path):
    shown = tmp_path / "shown"
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {shown}\n')
    fake.chmod(0o755)
    script = tmp_path / "plan.sh"
    script.write_text(plan_sh(plan))
    subprocess.run(["sh", script], check=True, env={"PYTHON": str(fake), "PATH": "/usr/bin:/bin"})
    asked = [line.split()[-1] for line in shown.read_text().splitlines()]
    assert asked == [run["run_id"] for run in plan["chosen"]]


def test_the_shell_runs_under_the_backend_of_the_plan_s_times(plan, tmp_path):
    assert "KERAS_BACKEND" not in plan_sh(plan)  # nothing is known of it
    of_jax = {**plan, "conditions": {**plan["conditions"], "backend": "jax"}}
    (tmp_path / "python").write_text('#!/bin/sh\necho "$KERAS_BACKEND" >> "$0.txt"\n')
    (tmp_path / "python").chmod(0o755)
    environ = {"PYTHON": str(tmp_path / "python"), "KERAS_BACKEND": "tensorflow"}
    subprocess.run(["sh", "-c", plan_sh(of_jax)], env=environ, check=True)
    assert (tmp_path / "python.txt").read_text().split() == ["jax"] * len(plan["chosen"])


def test_without_a_name_the_shell_runs_the_python_that_planned(plan, tmp_path, monkeypatch):
    fake = tmp_path / "my env's" / "python"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "shown"}\n')
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    for environment in ({}, {"PYTHON": ""}):
        subprocess.run(["sh", "-c", plan_sh(plan)], check=True, env={"PATH": "/usr/bin:/bin", **environment})
    assert len((tmp_path / "shown").read_text().splitlines()) == 2 * len(plan["chosen"])


def test_optuna_is_asked_for_each_configuration_once_with_what_it_was_expected_to_take(plan):
    trials = optuna_trials(json.loads(json.dumps(plan)))
    names = ("depth", "base_filters", "batch_size")
    configs = [tuple(trial["params"].values()) for trial in trials]
    assert configs == list(dict.fromkeys(tuple(run[name] for name in names) for run in plan["chosen"]))
    runs = {run["run_id"]: run for run in plan["chosen"]}
    for trial in trials:
        assert set(trial) == {"params", "user_attrs"}  # arguments of Study.enqueue_trial
        assert tuple(trial["params"]) == names
        run = runs[trial["user_attrs"]["run_id"]]
        assert trial["params"] == {name: run[name] for name in names}
        assert trial["user_attrs"]["expected_sec"] == run["total_sec"]


def test_the_commands_run_where_they_are_meant_to(plan):
    """With the real script, only as far as its flags."""
    root = Path(__file__).resolve().parents[3]
    command = commands_of(plan_sh(plan))[0].replace('"$PYTHON"', shlex.quote(sys.executable))
    done = subprocess.run(["sh", "-c", f"{command} --help"], cwd=root, capture_output=True, text=True, check=True)
    assert "--run_id" in done.stdout


def test_a_plan_in_another_unit_names_what_each_run_takes_of_it():
    made = make_plan(priced(random_runs(4, n=6), 4), Budget(0.002, KWH), ACC)
    plan = plan_json(made, Conditions(), {}, [])
    rows = list(csv.DictReader(io.StringIO(plan_csv(plan))))
    assert list(rows[0]) == [*COLUMNS, "total_kwh", "total_kwh_high"]
    assert [float(row["total_kwh"]) for row in rows] == [KWH.charged(c.cost) for c in made.chosen]
    assert [t["user_attrs"]["expected_kwh"] for t in optuna_trials(plan)] == [KWH.charged(c.cost) for c in made.chosen]
    assert " kWh of 0.002 kWh.\n" in plan_sh(plan)
