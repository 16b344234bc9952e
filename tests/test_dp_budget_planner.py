"""`dp_budget_planner`: from a table or the pretrained model to a plan, with everything said that was assumed."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex

import pytest
from rows import agg_row, assert_one_clear_error

from aggregate.agg_table import write_agg
from epochcast.files import sha256_of
from epochcast.paths import pretrained_dir, runs_agg_csv
from epochcast.schema import AggRow, RunRecord, RunSpec
from epochcast.tables import check_appendable, write_table
from planner import dp_budget_planner
from planner.candidates import CostRules
from planner.dp_budget_planner import Request, main, plan_budget
from planner.knapsack import solve

DEVICE = "AMD EPYC 9B14 (2 cores)"


def known_row(batch_size, seconds, acc=0.6, **more):
    known = {"overhead_sec_mean": 6.0, "first_epoch_sec_mean": seconds + 5, "acc_epochs": 3, "device_name": DEVICE}
    return agg_row(batch_size=batch_size, seconds=seconds, **{**known, "acc_mean": acc, **more})


ROWS = [known_row(64, 4.0, 0.7), known_row(128, 2.0, 0.65), known_row(256, 1.0, 0.5)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Files of the tester's own take no part."""
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    monkeypatch.setattr(dp_budget_planner, "box_device_name", lambda: DEVICE)
    return tmp_path


@pytest.fixture
def table(home):
    path = home / "table.csv"
    write_table(path, ROWS, AggRow)
    return path


def plan_of(table, budget_sec, **request):
    return plan_budget(Request(budget_sec, CostRules(10), runs_agg=table, **request))


def answer_of(capsys, *flags):
    assert main([*map(str, flags), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# --- the A100 reference ----------------------------------------------------------------------------------------------


def test_the_published_a100_plan_comes_out_again(reference_data, capsys):
    published = reference_data / "a100" / "runs_agg.csv"
    costs = ["--overhead_sec", 0, "--first_epoch", "none"]
    answer = answer_of(capsys, "--budget_sec", 3600, "--min_acc", 0.6, *costs, "--runs_agg", published)
    assert len(answer["chosen"]) == 46
    assert answer["value_resummed"] == pytest.approx(31.2, abs=0.05)
    assert answer["is_proven_optimal"]
    assert answer["maximised"] == "acc"
    assert answer["total_sec"] <= 3600
    assert {run["overhead_sec"] for run in answer["chosen"]} == {0.0}
    assert all(run["first_epoch_sec"] == run["steady_sec"] for run in answer["chosen"])
    assert "143 candidates from" in answer["notes"][0]
    assert "a table without a source" in answer["notes"][0]
    assert answer["table"] == {"path": str(published.absolute()), "sha256": sha256_of(published)}


def test_the_honest_a100_plan_pays_for_start_up_and_first_epochs(reference_data, home):
    write_agg(reference_data / "a100" / "runs.csv", home / "agg.csv")
    rules = CostRules(50, overhead_sec=16.2)
    plan, as_json = plan_budget(Request(3600, rules, min_acc=0.6, runs_agg=home / "agg.csv"))
    assert len(plan.chosen) == 37
    assert plan.value_resummed == pytest.approx(24.99, abs=0.005)
    assert plan.is_proven
    assert plan.total_sec <= 3600
    assert "accuracies were measured after 3 epochs, not after 50" in as_json["notes"]
    assert not any("unknown" in note for note in as_json["notes"])
    for candidate in plan.chosen:
        parts = 16.2 + candidate.first_epoch_sec + 49 * candidate.steady_sec
        assert candidate.total_sec == pytest.approx(parts, rel=1e-12)
        assert candidate.first_epoch_sec > candidate.steady_sec
    last = 0.0
    for budget_sec in (200, 900, 3600, 7200):
        value = plan_budget(Request(budget_sec, rules, min_acc=0.6, runs_agg=home / "agg.csv"))[0].value_dp
        assert value > last
        last = value


def test_what_the_published_averages_do_not_know_is_assumed_and_said(reference_data):
    plan, as_json = plan_of(reference_data / "a100" / "runs_agg.csv", 3600)
    notes = "\n".join(as_json["notes"])
    assert "overhead unknown for 143 of 143 candidates: assumed 16.2 s, an assumption for a gpu: A100" in notes
    assert "first epoch beyond a steady one unknown for 143 of 143 candidates: assumed 15.4 s" in notes
    assert {candidate.overhead_sec for candidate in plan.chosen} == {16.2}


# --- what is planned -------------------------------------------------------------------------------------------------


def test_a_plan_is_the_most_valuable_set_and_names_its_sources(table):
    plan, as_json = plan_of(table, 60)  # the runs take 51, 31 and 21 s
    assert [c.config.batch_size for c in plan.chosen] == [128, 256]
    assert (plan.total_sec, plan.value_dp) == (52.0, pytest.approx(1.15, rel=1e-12))
    assert as_json["table"] == {"path": str(table), "sha256": sha256_of(table)}
    assert as_json["model"] is None
    assert as_json["conditions"]["device_name"] == DEVICE
    assert as_json["notes"] == [
        f"3 candidates from {table} (a table without a source, used as it is)",
        "maximising acc, as every candidate has a measured accuracy",
        "accuracies were measured after 3 epochs, not after 10",
    ]


def test_accuracy_is_maximised_only_where_all_are_measured_and_the_choice_is_said(table):
    write_table(table, [*ROWS, known_row(512, 0.5, None)], AggRow)
    plan, as_json = plan_of(table, 1000)
    assert (as_json["maximised"], len(plan.chosen), plan.value_dp) == ("count", 4, 4.0)
    assert "maximising count, as accuracies are missing" in as_json["notes"]
    plan, as_json = plan_of(table, 1000, value="acc")
    assert len(plan.chosen) == 3
    assert "1 of 4 candidates left out: no accuracy was measured" in as_json["notes"]
    assert not any("maximising" in note for note in as_json["notes"])


def test_without_a_table_the_default_grid_is_planned_by_the_pretrained_model_and_said(home, capsys):
    answer = answer_of(capsys, "--budget", "2h")
    model = pretrained_dir() / "a100.keras"
    assert answer["table"] is None
    assert answer["model"] == {"path": str(model), "sha256": sha256_of(model)}
    assert answer["maximised"] == "count"
    notes = "\n".join(answer["notes"])
    assert "a100.keras predicts: the pretrained model, as no local one fits" in notes
    assert "nothing measured to plan from: the default grid" in notes
    assert "steady times are predictions for NVIDIA A100 80GB PCIe" in notes
    assert "overhead unknown for 96 of 96 candidates: assumed 16.1 s, the median of " in notes
    assert "first epoch beyond a steady one unknown for 96 of 96 candidates: assumed about 15.4 s, as the " in notes
    excesses = {run["first_epoch_sec"] - run["steady_sec"] for run in answer["chosen"]}
    assert min(excesses) > 0
    assert len(excesses) > 1  # each configuration's own
    assert answer["conditions"]["device_name"] == "NVIDIA A100 80GB PCIe"
    assert list(home.iterdir()) == []
    for run in answer["chosen"]:
        assert RunSpec(**run["spec"]).precision == "float32"


def test_a_table_may_be_planned_by_predictions(table):
    write_table(table, [dataclasses.replace(row, device_name=None) for row in ROWS], AggRow)
    _, as_json = plan_of(table, 1000, time_source="pred", model=pretrained_dir() / "a100.keras")
    assert as_json["table"]["sha256"] == sha256_of(table)
    assert as_json["model"]["sha256"] == sha256_of(pretrained_dir() / "a100.keras")
    assert "a100.keras predicts: named by --model" in as_json["notes"]
    assert as_json["chosen"][0]["steady_sec"] != 4.0
    _, by_default = plan_of(table, 1000, model=pretrained_dir() / "a100.keras")  # a model that is named is used
    assert by_default["model"] == as_json["model"]


def test_a_model_of_other_conditions_is_never_mixed_with_a_table(table):
    with pytest.raises(ValueError, match=r"a100\.keras: learned under other conditions than the table's: device_name"):
        plan_of(table, 1000, model=pretrained_dir() / "a100.keras")
    with pytest.raises(ValueError, match="no model of the table's conditions"):
        plan_of(table, 1000, time_source="pred")
    with pytest.raises(ValueError, match="--time_source measured does not"):
        plan_of(table, 1000, time_source="measured", model=pretrained_dir() / "a100.keras")


def test_the_table_of_this_home_is_planned_from_unless_another_is_named(home, capsys):
    write_table(runs_agg_csv(), ROWS[:1], AggRow)
    answer = answer_of(capsys, "--budget_sec", 1000)
    assert answer["table"]["path"] == str(home / "results" / "runs_agg.csv")


def test_mixed_conditions_stop_and_each_choice_listed_is_a_flag_that_works(table, capsys):
    mixed = [*ROWS, *(dataclasses.replace(row, device_name='Gold\'s "6230"', backend="jax") for row in ROWS)]
    write_table(table, mixed, AggRow)
    flags = ["--budget_sec", "1000", "--runs_agg", str(table)]
    assert main(flags) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    choices = [line for line in captured.err.splitlines() if line.startswith("  --conditions ")]
    assert len(choices) == 2
    devices = set()
    for line in choices:
        answer = answer_of(capsys, *flags, *shlex.split(line.replace("(3 rows)", "")))
        assert len(answer["chosen"]) == 3
        devices.add(answer["conditions"]["device_name"])
    assert devices == {DEVICE, 'Gold\'s "6230"'}


# --- command ---------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_plan_its_sums_and_where_it_is(table, home, capsys):
    out = home / "plans" / "plan.json"
    flags = ["--budget_sec", "60", "--epochs", "10", "--runs_agg", str(table), "--out", str(out)]
    assert main(flags) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert f"note: 3 candidates from {table} (a table without a source, used as it is)" in lines
    assert "runs: 2 of 10 epochs" in lines
    assert "total_sec: 52.0000 (52 s)" in lines
    assert "budget_used: 86.7 % of 60.0000 s" in lines
    assert "value (acc): 1.15000 by the dynamic programme, 1.15000 re-summed over the runs above" in lines
    assert "optimal: yes, proven" in lines
    assert lines[-1] == f"plan: {out}"
    rows = [line.split() for line in lines if line.startswith("(2,16,")]
    assert [row[0] for row in rows] == ["(2,16,128)", "(2,16,256)"]
    assert [float(row[4]) for row in rows] == [31.0, 21.0]
    written = json.loads(out.read_text())
    answer = answer_of(capsys, *flags)
    moment = ("plan_id", "created_utc")
    assert {k: v for k, v in answer.items() if k not in moment} == {k: v for k, v in written.items() if k not in moment}


def test_a_plan_that_is_not_proven_says_what_it_could_be_worth_at_most(table, capsys, monkeypatch):
    monkeypatch.setattr("planner.plan.solve", lambda *arguments: solve(*arguments, state_cap=0))
    assert main(["--budget_sec", "75", "--epochs", "10", "--runs_agg", str(table)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^optimal: not proven: at most 1\.\d+$", text, re.MULTILINE)


def test_both_ways_to_write_a_budget_are_one(table, capsys):
    one = answer_of(capsys, "--budget", "1h30m", "--runs_agg", table)
    other = answer_of(capsys, "--budget_sec", 5400, "--runs_agg", table)
    assert one["budget"] == other["budget"] == 5400
    assert one["chosen"] == other["chosen"]


def test_a_first_epoch_in_seconds_is_taken_as_given(table, capsys):
    flags = ["--budget_sec", 1000, "--runs_agg", table, "--epochs", 3]
    given = answer_of(capsys, *flags, "--first_epoch", "12.5", "--overhead_sec", "0.25")
    assert {run["first_epoch_sec"] for run in given["chosen"]} == {12.5}
    assert math.fsum(run["total_sec"] for run in given["chosen"]) == 3 * 12.75 + 2 * 7.0


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--budget_sec 0",
        "--budget_sec -5",
        "--budget_sec nan",
        "--budget 0s",
        "--budget 1h30",
        "--budget 1h --budget_sec 3600",
        "--budget 1h --min_acc 60",
        "--budget 1h --epochs 0",
        "--budget 1h --value speed",
        "--budget 1h --first_epoch 0",
        "--budget 1h --first_epoch sometimes",
        "--budget 1h --overhead_sec -1",
        "--budget 1h --conditions jax",
    ],
)
def test_a_wrong_command_is_refused_with_exit_code_2(capsys, flags):
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--runs_agg none.csv", "none.csv: no such table. Measure first"),
        ("--runs_agg empty.csv", "empty.csv holds no row."),
        ("--budget_sec 20.9", "smaller than every run: the cheapest, (2,16,256), takes 21.0 s"),
        ("--min_acc 0.71", "no candidate is left of 3: 3 of 3 candidates left out: accuracy below 0.71"),
        ("--value acc --runs_agg timed.csv", "no candidate is left of 1: 1 of 1 candidates left out: no accuracy"),
        ("--out table.csv/plan.json", "table.csv: a file, not a folder."),
        ("--out /dev/full", "/dev/full: not a regular file."),
        ("--conditions colour=red", "no column 'colour' to filter by; use one of depth"),
        ("--conditions backend=jax", "none of 3 rows satisfies --conditions backend=jax"),
        ("--time_source pred --model none.keras", "none.keras: no such model"),
    ],
)
def test_what_cannot_be_planned_is_one_clear_error_and_exit_code_1(table, home, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(home)
    write_table(home / "empty.csv", [], AggRow)
    write_table(home / "timed.csv", [known_row(64, 1.0, None)], AggRow)
    assert main(["--budget_sec", "1000", "--epochs", "10", "--runs_agg", str(table), *flags.split()]) == 1
    assert_one_clear_error(capsys.readouterr(), message)


def test_measured_times_without_a_table_are_an_error(home, capsys):
    assert main(["--budget_sec", "100", "--time_source", "measured"]) == 1
    assert f"there is no table {home / 'results' / 'runs_agg.csv'}. Measure first" in capsys.readouterr().err


def test_the_planners_default_is_fifty_epochs(table, capsys):
    answer = answer_of(capsys, "--budget_sec", 10_000, "--runs_agg", table)
    assert {run["epochs"] for run in answer["chosen"]} == {dp_budget_planner.DEFAULT_EPOCHS} == {50}


def test_a_plan_from_another_box_says_so(table, monkeypatch):
    monkeypatch.setattr(dp_budget_planner, "box_device_name", lambda: "another box")
    _, as_json = plan_of(table, 60)
    assert f"measured on {DEVICE}, NOT this box (another box)" in as_json["notes"]


def test_a_runs_csv_that_holds_only_its_header_is_no_table(home, capsys):
    check_appendable(home / "results" / "runs.csv", RunRecord)
    assert main(["--budget_sec", "600", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["table"] is None
    assert any("nothing measured to plan from" in note for note in plan["notes"])
