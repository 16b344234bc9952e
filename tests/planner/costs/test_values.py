"""Kinds of value: each values a run as it says, and a new one is one entry."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from epochcast.guard import EXIT_USAGE
from epochcast.planner.costs.values import ACC, COUNT, VALUES, Combination, Value, default_value
from epochcast.planner.costs.wishes import Wishes, select
from epochcast.planner.dp_budget_planner import main
from epochcast.planner.execution.result import PlanResult, entries_of, result_json, result_lines
from epochcast.planner.execution.schedule import Actual, Schedule
from epochcast.planner.output.figures import front_figure
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.planner.request.flags import parse
from epochcast.schema import Conditions
from epochcast.storage.table_appends import append_row
from tests.support.plans import row_of
from tests.support.rows import run_costing

RUNS = [
    run_costing(10.0, config=(2, 16, 64), acc=0.5, acc_epochs=3, images_per_sec=100.0),
    run_costing(20.0, config=(2, 32, 64), acc=0.7, acc_epochs=3, images_per_sec=50.0),
    run_costing(30.0, config=(3, 32, 128), was_measured=False, images_per_sec=25.0),
    run_costing(40.0, config=(3, 64, 128), acc=0.1, acc_epochs=3, has_diverged=True, images_per_sec=10.0),
]


def test_accuracy_is_maximised_only_where_all_have_one():
    assert default_value(RUNS) == COUNT
    assert default_value(RUNS[:2]) == ACC


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ("count", [1, 1, 1, 1]),
        ("thr", [100.0, 50.0, 25.0, 10.0]),
        ("info", [0, 0, 0, 0]),  # found by the search: it depends on the others
        ("acc", [0.5, 0.7, 0.1]),
        ("best_acc", [0.5, 0.7, 0.1]),
    ],
)
def test_each_value_is_what_it_says_and_all_but_the_value_stays(value, values):
    _, kept, notes = select(RUNS, VALUES[value], Wishes(include_diverged=True))
    assert [c.value for c in kept] == values
    assert notes == ([] if len(values) == 4 else ["1 of 4 candidates left out: no accuracy was measured"])
    by_config = {c.config: c for c in RUNS}
    assert all(replace(c, value=1.0) == by_config[c.config] for c in kept)


# --- a value that the program does not have ---------------------------------------------------------------------------


@pytest.fixture(params=Combination)
def made_up(request, monkeypatch):
    """A value of each way to combine, entered as the others are and nowhere else."""
    value = Value("width", "width of a batch", "the widest", lambda c: c.config.batch_size / 64, request.param, 10, 4)
    monkeypatch.setitem(VALUES, value.name, value)
    return value


def test_a_new_value_is_one_entry(made_up, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    drawn = []
    monkeypatch.setattr(
        "epochcast.planner.output.figures.front_figure", lambda *of: drawn.append(front_figure(*of)) or drawn[-1]
    )
    path = tmp_path / "plan.json"
    flags = "--budget_sec 60 --epochs 10 --overhead_sec 6 --first_epoch none --confidence 0.5 --value width"
    configs = "--depth 2 --base_filters 16 --batch_size 64,128,256"
    files = ["--out", str(path), "--front", str(tmp_path / "front.svg")]
    assert main([*flags.split(), *configs.split(), *files]) == 0
    assert "value (width): " in capsys.readouterr().out
    assert drawn[0].axes[0].get_ylabel() == made_up.label
    assert json.loads(path.read_text())["maximised"] == "width"
    plan = replace(read_plan(path), conditions=Conditions())
    assert plan.value is made_up
    schedule = Schedule(plan, replans=True)
    first = schedule.next_run(plan.budget.amount)
    schedule.finish(first, Actual(6.0, 1.0, 1.0))
    assert schedule.next_run(plan.budget.amount - 16.0) in (None, *plan.chosen, *plan.excluded)
    runs = tmp_path / "runs.csv"
    append_row(runs, row_of(first, 16.0))
    line = {"event": "run_ended", "run_id": first.planned.run_id, "status": "done", "used_sec": 16.0}
    result = PlanResult(plan, entries_of(plan, [line], runs), 16.0)
    assert result_json(result)["value"] == result.value > 0
    assert any(line.startswith("value (width), as planned: ") for line in result_lines(result))


def test_a_new_value_is_in_the_help_and_an_unknown_one_is_refused(made_up, capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"width: {made_up.combination.value}" in words
    assert parse(["--budget_sec", "60", "--value", "width"]).value == "width"
    with pytest.raises(SystemExit) as ended:
        parse(["--budget_sec", "60", "--value", "height"])
    assert ended.value.code == EXIT_USAGE


@pytest.mark.parametrize("value", VALUES.values())
def test_a_kind_of_value_reaches_another_process_as_the_same_one(value):
    assert pickle.loads(pickle.dumps(value)) is value
    with pytest.raises(TypeError, match=f"{value.name}: only the kinds in VALUES"):
        pickle.dumps(replace(value, scale=7))
