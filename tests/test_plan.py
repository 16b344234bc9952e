"""A plan fits its budget, is worth what it says, and is written so that every run of it can be started."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random

import pytest

from collect.grid import spec_under
from epochcast.schema import Conditions, RunConfig, RunSpec
from planner.candidates import Candidate
from planner.knapsack import solve
from planner.plan import make_plan, plan_json, source_of


def run_of(total_sec, value=1.0, batch_size=64):
    """A run of two epochs that costs `total_sec`."""
    return Candidate(RunConfig(2, 16, batch_size), 280_218, 2, 0.0, total_sec / 2, total_sec / 2, value, 1.0, value)


def random_candidates(seed, n=9):
    draw = random.Random(seed)
    return [run_of(draw.uniform(0.5, 20), draw.random(), batch_size=2 + i) for i in range(n)]


# --- the best set ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["acc", "count", "thr"])
@pytest.mark.parametrize("seed", range(10))
def test_a_plan_is_the_best_set_that_fits_and_more_budget_never_lowers_its_value(seed, value):
    candidates = random_candidates(seed)
    if value == "count":
        candidates = [dataclasses.replace(c, value=1.0) for c in candidates]
    sets = [s for size in range(1, 10) for s in itertools.combinations(candidates, size)]
    last = 0.0
    for budget_sec in (20.0, 30.5, 47.123, 200.0):
        plan = make_plan(candidates, budget_sec, value)
        assert math.fsum(c.total_sec for c in plan.chosen) == plan.total_sec <= budget_sec
        assert plan.budget_used == plan.total_sec / budget_sec
        assert plan.is_proven
        # values are rounded for the search: to 1e-6 (acc), 1e-3 (thr), 1 (count, exact)
        tolerance = len(candidates) * {"acc": 1e-6, "thr": 1e-3, "count": 0}[value]
        assert plan.value_dp == pytest.approx(plan.value_resummed, abs=tolerance)
        assert plan.value_resummed == math.fsum(c.value for c in plan.chosen)
        best = max(
            math.fsum(c.value for c in s) for s in sets if sum(c.cost_ms for c in s) <= math.floor(budget_sec * 1000)
        )
        assert plan.value_resummed == pytest.approx(best, abs=tolerance)
        assert plan.value_dp >= last
        last = plan.value_dp
    assert len(plan.chosen) == len(candidates)  # the last budget holds them all


def test_a_budget_that_is_used_to_the_millisecond_is_no_contradiction():
    assert math.fsum([0.1] * 3) > 0.3  # as binary numbers sum
    plan = make_plan([run_of(0.1, batch_size=b) for b in (2, 3, 4)], 0.3, "count")
    assert len(plan.chosen) == 3
    assert make_plan([run_of(0.1, batch_size=b) for b in (2, 3, 4)], 0.2999, "count").value_dp == 2


def test_a_budget_below_every_run_names_the_cheapest():
    with pytest.raises(ValueError, match=r"budget of 3\.00 s is smaller than .* cheapest, \(2,16,7\),\s*takes 4\.00 s"):
        make_plan([run_of(5.0), run_of(4.0, batch_size=7)], 3.0, "count")


def test_runs_that_are_worth_nothing_are_no_plan():
    with pytest.raises(ValueError, match="no run that fits the budget is worth anything by acc"):
        make_plan([run_of(5.0, value=0.0)], 10.0, "acc")


@pytest.mark.parametrize(
    "lie",
    [
        lambda s: dataclasses.replace(s, value=s.value + 1),
        lambda s: dataclasses.replace(s, value=s.value - 1),
        lambda s: dataclasses.replace(s, cost=s.cost - 1),
        lambda s: dataclasses.replace(s, indices=s.indices[1:]),
        lambda s: dataclasses.replace(s, indices=(0, 1, 2, 3)),
    ],
    ids=["worth more", "worth less", "cheaper", "a run less", "a run too many"],
)
def test_a_search_that_contradicts_its_own_set_is_never_passed_on(monkeypatch, lie):
    candidates = [run_of(5.0, batch_size=b) for b in (2, 3, 4, 5)]
    monkeypatch.setattr("planner.plan.solve", lambda *arguments: lie(solve(*arguments)))
    with pytest.raises(RuntimeError, match="the plan contradicts itself"):
        make_plan(candidates, 16.0, "count")


def test_what_is_not_proven_is_not_called_so(monkeypatch):
    monkeypatch.setattr("planner.plan.solve", lambda *arguments: solve(*arguments, state_cap=0))
    plan = make_plan(random_candidates(0), 30.0, "acc")
    assert not plan.is_proven
    assert plan.bound > plan.value_dp


# --- plan.json -------------------------------------------------------------------------------------------------------

KNOWN = Conditions(
    device_name="NVIDIA A100 80GB PCIe",
    precision="mixed_float16",
    pipeline="arrays",
    jit_compile="on",
    dataset="synthetic",
    train_n=10_000,
    timing_mode="steps_extrapolated",
    window_steps=20,
)


def test_a_planned_run_is_asked_for_under_the_conditions_its_time_holds_for():
    def planned(conditions):
        candidate = dataclasses.replace(run_of(5.0), epochs=50)
        (run,) = plan_json(make_plan([candidate], 1000.0, "count"), conditions, {}, [])["chosen"]
        return RunSpec(**run["spec"])

    spec = planned(KNOWN)
    assert spec == RunSpec(
        2,
        16,
        64,
        epochs=50,
        dataset="synthetic",
        train_n=10_000,
        pipeline="arrays",
        precision="mixed_float16",
        jit_compile="on",
    )
    assert spec.window_steps is None  # whole epochs, whatever way they were timed
    assert planned(Conditions()) == RunSpec(2, 16, 64, epochs=50)
    on_cpu = Conditions(device_name="AMD EPYC 9B14 (2 cores)")
    assert planned(on_cpu).device == "cpu"  # also on a box with a GPU


def test_a_plan_survives_its_file_and_every_run_of_it_is_a_valid_spec(tmp_path):
    plan = make_plan(random_candidates(1), 40.0, "acc")
    table = source_of(tmp_path / "agg.csv", "abc")
    written = plan_json(plan, KNOWN, {"table": table, "model": None}, ["a note"])
    text = json.dumps(written, allow_nan=False)
    assert json.loads(text) == written
    assert (written["budget"], written["budget_unit"], written["maximised"]) == (40.0, "s", "acc")
    assert written["table"] == {"path": str(tmp_path / "agg.csv"), "sha256": "abc"}
    assert Conditions(**written["conditions"]) == KNOWN
    assert written["notes"] == ["a note"]
    assert written["is_proven_optimal"] is True
    assert written["value_bound"] == written["value_dp"]
    runs = written["chosen"]
    assert len({run["run_id"] for run in runs}) == len(runs) == len(plan.chosen)
    for run, candidate in zip(runs, plan.chosen, strict=True):
        spec = RunSpec(**run["spec"])
        assert spec == spec_under(candidate.config, candidate.epochs, KNOWN, in_windows=False)
        assert spec.epochs == run["epochs"]
        parts = run["overhead_sec"] + run["first_epoch_sec"] + (run["epochs"] - 1) * run["steady_sec"]
        assert run["total_sec"] == pytest.approx(parts, rel=1e-12)
        assert run["steady_sec_upper"] is None  # unknown
    assert math.fsum(run["value"] for run in runs) == written["value_resummed"]
    assert math.fsum(run["total_sec"] for run in runs) == written["total_sec"]


def test_a_plan_is_named_after_what_it_holds():
    plan = make_plan(random_candidates(1), 40.0, "acc")
    names = {plan_json(p, KNOWN, {}, [])["plan_id"] for p in (plan, make_plan(random_candidates(2), 40.0, "acc"))}
    assert len(names) == 2
    assert all(name.startswith("plan-") and len(name) == 13 for name in names)
