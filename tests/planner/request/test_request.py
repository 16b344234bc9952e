"""From what a user asks to a plan: what was assumed is said, and what can't be promised is not."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path

import pytest

from epochcast.aggregate.averages.source import write_agg
from epochcast.facts.assumptions import assumption
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import models_dir, pretrained_dir
from epochcast.planner.costs.budget import KWH, Budget
from epochcast.planner.costs.candidates import CostRules
from epochcast.planner.costs.values import ACC, COUNT, INFO, THR
from epochcast.planner.costs.wishes import Wishes
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.planner.request.plan_budget import plan_budget
from epochcast.planner.request.request import DEFAULT_CONFIDENCE, MAX_CANDIDATES, Request
from epochcast.schema import AggRow, RunConfig
from epochcast.storage.files import sha256_of
from epochcast.storage.tables import write_table
from tests.support.plans import name_this_box
from tests.support.rows import agg_row

DEVICE = "NVIDIA A100 80GB PCIe"
NEW = [RunConfig(3, 32, 128), RunConfig(3, 32, 512), RunConfig(2, 16, 64)]


def known_row(batch_size, seconds, acc=0.6, **more):
    known = {"overhead_sec_mean": 6.0, "first_epoch_sec_mean": seconds + 5, "acc_epochs": 3, "device_name": DEVICE}
    return agg_row(batch_size=batch_size, seconds=seconds, **{**known, "acc_mean": acc, **more})


ROWS = [known_row(64, 4.0, 0.7), known_row(128, 2.0, 0.65), known_row(256, 1.0, 0.5)]


@pytest.fixture(autouse=True)
def home(home, monkeypatch):
    """A home on a box with that device."""
    name_this_box(monkeypatch, DEVICE)
    return home


@pytest.fixture
def table(home):
    path = home / "table.csv"
    write_table(path, ROWS, AggRow)
    return path


@pytest.fixture(scope="module")
def averages(tmp_path_factory):
    """The reference averages, with their sources, made once."""
    return tmp_path_factory.mktemp("a100") / "agg.csv"


@pytest.fixture
def a100(reference_data, averages):
    if not averages.exists():
        write_agg(reference_data / "a100" / "runs.csv", averages)
    return averages


def answer_of(table, budget_sec, epochs=10, **request):
    return plan_budget(Request(Budget(budget_sec), CostRules(epochs), runs_agg=table, **request))


# --- what is planned -------------------------------------------------------------------------------------------------


def test_a_plan_is_the_most_valuable_set_and_names_its_sources(table):
    answer = answer_of(table, 60, confidence=0.5)  # the runs take 51, 31 and 21 s
    plan, as_json = answer.plan, answer.to_json()
    assert [c.config.batch_size for c in plan.chosen] == [256, 128]  # by value per second
    assert (plan.total_sec, plan.upper, plan.value_dp) == (52.0, 52.0, pytest.approx(1.15, rel=1e-12))
    assert as_json["table"] == {"path": str(table), "sha256": sha256_of(table)}
    assert as_json["model"] is None
    assert as_json["confidence"] is None
    assert as_json["conditions"]["device_name"] == DEVICE
    assert as_json["notes"] == [
        f"3 measured configurations in {table} (a table without a source, used as it is)",
        "maximising acc, as every candidate has a measured accuracy",
        "how much memory the device has is not known: nothing left out for want of it (--device_memory)",
        "accuracies were measured after 3 epochs: that they hold after 10 is an extrapolation",
    ]


def test_a_plan_keeps_its_budget_with_a_margin_unless_told_otherwise(table):
    answer = answer_of(table, 60)
    assert answer.confidence == DEFAULT_CONFIDENCE
    assert answer.plan.total_sec < answer.plan.upper <= 60
    assert any("too few repeats to tell their spread" in note for note in answer.notes)
    tight = 52.001  # what the two best runs are expected to take
    assert len(answer_of(table, tight, confidence=0.5).plan.chosen) == 2
    assert answer_of(table, tight).plan.value_dp < answer_of(table, tight, confidence=0.5).plan.value_dp
    uppers = [answer_of(table, 100, confidence=c).plan.upper for c in (0.8, 0.9, 0.99)]
    assert uppers == sorted(uppers)
    assert answer_of(table, 100, common_sd=0.1).plan.upper > answer_of(table, 100, common_sd=0.0).plan.upper


def test_epochs_that_were_measured_are_no_extrapolation(table):
    assert not any("extrapolation" in note for note in answer_of(table, 60, epochs=3).notes)
    assert not any("extrapolation" in note for note in answer_of(table, 60, value=THR).notes)


def test_accuracy_is_maximised_only_where_all_are_measured_and_the_choice_is_said(table):
    write_table(table, [*ROWS, known_row(512, 0.5, None)], AggRow)
    answer = answer_of(table, 1000)
    assert (answer.plan.value, len(answer.plan.chosen), answer.plan.value_dp) == (COUNT, 4, 4.0)
    assert "maximising count, as accuracies are missing" in answer.notes
    answer = answer_of(table, 1000, value=ACC)
    assert len(answer.plan.chosen) == 3
    assert "1 of 4 candidates left out: no accuracy was measured" in answer.notes
    assert not any("maximising" in note for note in answer.notes)


def test_another_budget_is_planned_as_if_it_had_been_asked_for(table):
    answer = answer_of(table, 60, wishes=Wishes(must=[{"batch_size": "64"}]))
    for budget_sec in (55.0, 100.0, 1000.0):
        again, asked = answer.at(budget_sec), answer_of(table, budget_sec, wishes=Wishes(must=[{"batch_size": "64"}]))
        assert again == asked.plan
    with pytest.raises(ValueError, match="runs that must be done take"):
        answer.at(51.0)


def test_repeats_are_planned_all_or_none(table):
    rules = CostRules(10, repeats=2)
    plan = plan_budget(Request(Budget(90), rules, runs_agg=table, confidence=0.5)).plan
    assert [c.config.batch_size for c in plan.chosen] == [128]  # not all three once: 103 s, nor another one once
    assert plan.total_sec == 62


# --- errors that are unknown -----------------------------------------------------------------------------------------


def test_a_default_margin_is_given_up_where_an_assumption_has_no_error_and_a_named_one_is_refused(table):
    unknown = [dataclasses.replace(row, overhead_sec_mean=None) for row in ROWS]
    write_table(table, unknown, AggRow)
    answer = answer_of(table, 60)
    assert (answer.confidence, answer.plan.margin.quantile) == (None, 0)
    assert "no margin: the error of the overhead is unknown; about half of such plans overrun" in answer.notes
    with pytest.raises(ValueError, match=r"--confidence 0\.9: the error of the overhead is unknown, so no margin can"):
        answer_of(table, 60, confidence=0.9)
    named = plan_budget(Request(Budget(60), CostRules(10, overhead_sec=6.0), runs_agg=table, confidence=0.9))
    assert named.plan.upper > named.plan.total_sec


def test_every_part_whose_error_is_unknown_is_named(table):
    unknown = [dataclasses.replace(row, overhead_sec_mean=None, first_epoch_sec_mean=None) for row in ROWS]
    write_table(table, unknown, AggRow)
    answer = answer_of(table, 60)
    assert any("the error of the overhead and of the first epoch is unknown" in note for note in answer.notes)


def test_a_cpu_table_without_repeats_is_planned_with_a_margin_or_says_why_without(table):
    write_table(table, [dataclasses.replace(row, device_name="AMD EPYC 9B14 (2 cores)") for row in ROWS], AggRow)
    answer = answer_of(table, 60)
    assert (answer.confidence is None) == any(note.startswith("no margin: ") for note in answer.notes)


def test_runs_of_unknown_error_are_left_out_and_counted_where_others_are_known():
    far = [*NEW, RunConfig(2, 16, 2**17)]
    answer = plan_budget(Request(Budget(3000), CostRules(10), configs=far, value=COUNT))
    assert len(answer.plan.chosen) == 3
    assert any(note.startswith("1 candidates left out: the error of their times is unknown") for note in answer.notes)
    assert len(plan_budget(Request(Budget(3000), CostRules(10), configs=far, confidence=0.5)).plan.chosen) == 4
    with pytest.raises(ValueError, match=r"--confidence 0\.8: the error of the .*steady time is unknown"):
        wishes = Wishes(must=[{"batch_size": str(2**17)}])
        plan_budget(Request(Budget(3000), CostRules(10), configs=far, wishes=wishes, confidence=0.8))


# --- predictions -----------------------------------------------------------------------------------------------------


@pytest.fixture
def local_model(table):
    """A model of the table's conditions in this home: the pretrained one, and enough rows of its conditions."""
    shutil.copytree(pretrained_dir(), models_dir())
    conditions = dataclasses.asdict(load_model(pretrained_dir() / "a100.keras").conditions)
    rows = [
        known_row(b, d * f * (0.01 + 1 / b), depth=d, base_filters=f, overhead_sec_mean=6 + b / 10_000)
        for d in (2, 5)
        for f in (16, 128)
        for b in (64, 128, 256, 2048)
    ]
    write_table(table, [dataclasses.replace(row, **conditions) for row in rows], AggRow)
    return models_dir() / "a100.keras"


def test_candidates_are_measured_where_they_were_and_predicted_by_the_tables_model_where_not(table, local_model):
    answer = answer_of(table, 3600, configs=NEW)
    told = {c.config: (c.is_predicted, c.was_measured) for c in answer.plan.chosen}
    assert told == {NEW[0]: (True, False), NEW[1]: (True, False), NEW[2]: (False, True)}
    assert answer.sources["model"]["path"] == str(local_model)
    assert answer.plan.upper > answer.plan.total_sec  # both kinds have errors that are known
    wishes = Wishes(exclude_measured=True)
    assert {c.config for c in answer_of(table, 3600, configs=NEW, wishes=wishes).plan.chosen} == set(NEW[:2])


def test_beside_measured_rows_an_info_plan_is_made_of_what_is_left_of_the_default_grid(table, local_model):
    answer = answer_of(table, 900, value=INFO)
    measured = set(answer.knowledge.measured)
    assert len(measured) == 16
    assert answer.plan.chosen
    assert not measured & {c.config for c in answer.plan.chosen}
    assert any(note.startswith("candidates: the default grid (depth 2/3/4/5") for note in answer.notes)


def test_without_a_table_the_named_candidates_are_predicted_by_the_pretrained_model():
    answer = plan_budget(Request(Budget(3000), CostRules(10), configs=NEW))
    assert {c.config for c in answer.candidates} == set(NEW)
    assert all(c.is_predicted for c in answer.candidates)
    assert answer.plan.value == COUNT
    assert answer.sources["model"]["sha256"] == sha256_of(pretrained_dir() / "a100.keras")
    assert answer.confidence == DEFAULT_CONFIDENCE


def test_what_was_never_measured_is_left_out_where_only_measured_times_are_asked_for(table):
    configs = [RunConfig(2, 16, 64), RunConfig(3, 32, 128)]
    answer = answer_of(table, 100, configs=configs, time_source="measured")
    assert [c.config for c in answer.plan.chosen] == configs[:1]
    assert "1 of 2 candidates left out: never measured" in answer.notes


def test_a_table_may_be_planned_by_predictions(table):
    write_table(table, [dataclasses.replace(row, device_name=None) for row in ROWS], AggRow)
    model = pretrained_dir() / "a100.keras"
    answer = answer_of(table, 1000, time_source="pred", model=model)
    assert answer.sources["table"]["sha256"] == sha256_of(table)
    assert answer.sources["model"]["sha256"] == sha256_of(model)
    assert "a100.keras predicts: named by --model" in answer.notes
    assert all(c.is_predicted and c.steady.value != 4.0 for c in answer.plan.chosen)
    measured = answer_of(table, 1000, model=model)
    assert measured.sources["model"] is None
    assert f"{model} predicts nothing: all was measured (--time_source pred predicts it)" in measured.notes


@pytest.mark.parametrize("kind", ["none", "folder", "pipe", "loop"])
def test_a_model_that_is_named_is_read_though_it_predicts_nothing(kind, table, tmp_path):
    model = tmp_path / "named.keras"
    {"none": str, "folder": Path.mkdir, "pipe": os.mkfifo, "loop": lambda path: path.symlink_to(path)}[kind](model)
    with pytest.raises((OSError, ValueError), match=r"named\.keras"):
        answer_of(table, 1000, model=model)


def test_a_model_of_other_conditions_is_never_mixed_with_a_table(table):
    write_table(table, [dataclasses.replace(row, device_name="AMD EPYC 9B14 (2 cores)") for row in ROWS], AggRow)
    with pytest.raises(ValueError, match=r"a100\.keras: learned under other conditions than the table's: device_name"):
        answer_of(table, 1000, time_source="pred", model=pretrained_dir() / "a100.keras")
    for asked in ({"time_source": "pred"}, {"configs": NEW}):
        with pytest.raises(ValueError, match="no model of the table's conditions"):
            answer_of(table, 1000, **asked)
    with pytest.raises(ValueError, match="--time_source measured does not"):
        answer_of(table, 1000, time_source="measured", model=pretrained_dir() / "a100.keras")


def test_a_set_without_a_model_is_named_with_the_flag_of_one_that_has(table, monkeypatch):
    shipped = pretrained_dir() / "a100.keras"
    known = dataclasses.asdict(load_model(shipped).conditions)
    known = {name: value for name, value in known.items() if value is not None}
    more = [dataclasses.replace(row, **known) for row in ROWS[:2]]
    other = [dataclasses.replace(row, **{**known, "train_n": 4096}) for row in ROWS]
    write_table(table, [*more, *other], AggRow)
    monkeypatch.setattr(
        "epochcast.model.time_model.saved_model.models_dir", lambda: shipped.parent
    )  # as if it were of this box
    with pytest.raises(ValueError, match="no model of the table's conditions") as error:
        answer_of(table, 1000, time_source="pred")
    assert "Or take a set that has a model: --conditions train_n=50000." in str(error.value)
    assert "used: the largest" in str(error.value)
    assert "--conditions train_n=4096   " in str(error.value)
    chosen = answer_of(table, 1000, time_source="pred", conditions=[{"train_n": "50000"}])
    assert chosen.sources["model"]["path"] == str(shipped)


def test_more_candidates_than_a_plan_can_hold_are_an_error():
    configs = [RunConfig(2, 16, 1 + i) for i in range(MAX_CANDIDATES + 1)]
    with pytest.raises(ValueError, match=r"2,001 candidates: at most 2,000 are taken"):
        plan_budget(Request(Budget(100), CostRules(10), configs=configs))


def test_a_plan_from_another_box_says_so(table, monkeypatch):
    monkeypatch.setattr("epochcast.planner.request.sources.box_name_for", lambda _: "another box")
    assert f"measured on {DEVICE}, NOT this box (another box)" in answer_of(table, 60).notes


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_plan_from_rows_of_another_backend_names_the_variable_that_takes_it(table, monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    write_table(table, [dataclasses.replace(row, backend=backend) for row in ROWS], AggRow)
    told = "measured under jax, but a run here takes tensorflow: set KERAS_BACKEND=jax"
    assert (told in answer_of(table, 60).notes) == (backend == "jax")


def test_windowed_times_say_what_they_leave_out(table):
    write_table(table, [dataclasses.replace(row, timing_mode="steps_extrapolated") for row in ROWS], AggRow)
    assert any("times come from windows of steps" in note for note in answer_of(table, 60).notes)


# --- what teaches most -----------------------------------------------------------------------------------------------


def test_an_info_plan_goes_beyond_what_was_measured_and_is_never_called_optimal():
    answer = plan_budget(Request(Budget(900), CostRules(10), value=INFO))
    assert len({c.config for c in answer.plan.chosen}) == len(answer.plan.chosen) > 3
    assert answer.plan.upper <= 900
    assert not answer.plan.is_proven
    assert any("info is chosen greedily by gain per second: not proven optimal" in note for note in answer.notes)
    assert 0 < answer.plan.value_dp < 1
    in_kwh = plan_budget(Request(Budget(0.05, KWH), CostRules(10), value=INFO))
    assert any("info is chosen greedily by gain per kWh: not" in note for note in in_kwh.notes)


# --- the A100 reference ----------------------------------------------------------------------------------------------


def test_the_honest_a100_plan_pays_for_start_up_and_first_epochs(a100):
    rules, wishes = CostRules(50, overhead_sec=16.2), Wishes(min_acc=0.6)
    answer = plan_budget(Request(Budget(3600), rules, wishes=wishes, runs_agg=a100, confidence=0.5))
    plan = answer.plan
    assert len(plan.chosen) == 37
    assert plan.value_resummed == pytest.approx(24.99, abs=0.005)
    assert plan.is_proven
    assert plan.total_sec <= 3600
    assert "accuracies were measured after 3 epochs: that they hold after 50 is an extrapolation" in answer.notes
    assert not any("unknown" in note for note in answer.notes)
    for candidate in plan.chosen:
        parts = 16.2 + candidate.first_epoch.value + 49 * candidate.steady.value
        assert candidate.total_sec == pytest.approx(parts, rel=1e-12)
        assert candidate.first_epoch.value > candidate.steady.value
    values = [answer.at(float(budget_sec)).value_dp for budget_sec in (200, 900, 3600, 7200)]
    assert values == sorted(set(values))


def test_an_a100_plan_at_95_percent_is_proven_within_its_budget_and_costs_little_value(a100):
    answers = {
        c: plan_budget(Request(Budget(3600), CostRules(50, overhead_sec=16.2), runs_agg=a100, confidence=c))
        for c in (0.5, 0.8, 0.95)
    }
    plans = {c: answer.plan for c, answer in answers.items()}
    assert all(plan.is_proven for plan in plans.values())
    assert plans[0.95].total_sec < plans[0.95].upper <= 3600
    assert answers[0.95].confidence == 0.95
    assert plans[0.5].value_dp >= plans[0.8].value_dp >= plans[0.95].value_dp >= 0.98 * plans[0.5].value_dp
    assert any("17 of 143 candidates left out: diverged" in note for note in answers[0.95].notes)
    assert 3600 - plans[0.95].total_sec < 0.02 * 3600  # errors of many runs average out


def test_the_a100_plan_survives_its_file(a100, tmp_path):
    answer = plan_budget(Request(Budget(1800), CostRules(50, overhead_sec=16.2), runs_agg=a100, confidence=0.9))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(answer.to_json(), allow_nan=False))
    saved = read_plan(path)
    assert [run.candidate.config for run in saved.chosen] == [c.config for c in answer.plan.chosen]
    assert {run.candidate.config for run in saved.excluded} == {c.config for c in answer.plan.excluded}
    upper = saved.margin.upper(
        [run.candidate.total_sec for run in saved.chosen], [run.candidate.sd_sec for run in saved.chosen]
    )
    assert upper == pytest.approx(answer.plan.upper, rel=1e-9)
    assert math.fsum(run.candidate.value for run in saved.chosen) == answer.plan.value_resummed


def test_what_the_published_averages_do_not_know_is_assumed_and_said(reference_data):
    answer = answer_of(reference_data / "a100" / "runs_agg.csv", 3600)
    notes = "\n".join(answer.notes)
    assert "overhead unknown for 143 of 143 candidates: assumed 16.2 s, an assumption for a gpu: A100" in notes
    assert "first epoch beyond a steady one unknown for 143 of 143 candidates: assumed 15.4 s" in notes
    assert {candidate.overhead.value for candidate in answer.plan.chosen} == {16.2}
    assert "no margin: the error of the overhead and of the first epoch is unknown" in notes


@pytest.mark.parametrize(("device", "kind"), [("NVIDIA A100 80GB PCIe", "gpu"), ("AMD EPYC 9B14 (2 cores)", "cpu")])
def test_the_common_factor_is_that_of_the_device_unless_another_is_named(table, device, kind):
    write_table(table, [dataclasses.replace(row, device_name=device) for row in ROWS], AggRow)
    answer = answer_of(table, 1000, time_source="measured")
    assert answer.plan.margin.common_sd == assumption("plan_common_sd", kind).value > 0
    assert any("common to all runs is assumed" in note for note in answer.notes)
    assert answer_of(table, 1000, time_source="measured", common_sd=0.0).plan.margin.common_sd == 0
