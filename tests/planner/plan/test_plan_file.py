"""plan.json: what is written is read again, every run of it can be started, and what is no plan is one clear error."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from epochcast.collect.grid.specs import spec_under
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.paths import CODE_ROOT
from epochcast.planner.costs.budget import KGCO2, KWH, SECONDS, USD, Budget
from epochcast.planner.costs.values import ACC, COUNT, VALUES
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import NO_MARGIN, Margin
from epochcast.planner.plan.plan import Knowledge
from epochcast.planner.plan.plan_file import ledger_of, plan_json
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.schema import Conditions, RunConfig, RunSpec
from tests.support.plans import light_run, priced, row_of, write_plan
from tests.support.rows import random_runs, run_costing

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
MARGIN = Margin(1.2816, 0.003)


def written(tmp_path, plan, conditions=KNOWN, **more):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_json(plan, conditions, {"table": None, "model": None}, [], **more)))
    return path


# --- written ---------------------------------------------------------------------------------------------------------


def test_a_planned_run_is_asked_for_under_the_conditions_its_time_holds_for():
    def planned(conditions):
        plan = make_plan([run_costing(5.0, epochs=50)], Budget(1000.0), COUNT)
        (run,) = plan_json(plan, conditions, {}, [])["chosen"]
        return RunSpec(**run["spec"])

    spec = planned(KNOWN)
    known = {"dataset": "synthetic", "train_n": 10_000, "pipeline": "arrays", "precision": "mixed_float16"}
    assert spec == RunSpec(2, 16, 64, epochs=50, jit_compile="on", **known)
    assert spec.window_steps is None  # whole epochs, whatever way they were timed
    assert planned(Conditions()) == RunSpec(2, 16, 64, epochs=50)
    on_cpu = Conditions(device_name="AMD EPYC 9B14 (2 cores)")
    assert planned(on_cpu).device == "cpu"  # also on a box with a GPU


def test_every_run_of_a_plan_is_a_valid_spec_and_the_sums_are_those_of_the_runs(tmp_path):
    plan = make_plan(random_runs(1, sd=None), Budget(40.0), ACC)
    table = {"path": str(tmp_path / "agg.csv"), "sha256": "abc"}
    values = plan_json(plan, KNOWN, {"table": table, "model": None}, ["a note"], 0.9)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert (values["budget"], values["budget_unit"], values["maximised"]) == (40.0, "s", "acc")
    assert (values["confidence"], values["method"]) == (0.9, "exact")
    assert values["table"] == table
    assert Conditions(**values["conditions"]) == KNOWN
    assert values["notes"] == ["a note"]
    assert values["is_proven_optimal"] is True
    assert values["value_bound"] == values["value_dp"]
    runs = values["chosen"]
    assert len({run["run_id"] for run in runs}) == len(runs) == len(plan.chosen)
    for run, candidate in zip(runs, plan.chosen, strict=True):
        spec = RunSpec(**run["spec"])
        assert spec == spec_under(candidate.config, candidate.epochs, KNOWN, in_windows=False)
        assert spec.epochs == run["epochs"]
        parts = run["overhead_sec"] + run["first_epoch_sec"] + (run["epochs"] - 1) * run["steady_sec"]
        assert 0 <= run["total_sec"] - parts < 1e-3  # as the budget is charged: rounded up
        assert run["overhead_sec_high"] is None  # unknown
        assert run["total_sec_high"] is None
    assert math.fsum(run["value"] for run in runs) == values["value_resummed"]
    assert math.fsum(run["total_sec"] for run in runs) == pytest.approx(values["total_sec"], rel=1e-15)
    assert values["total_sec"] == values["upper_sec"]


def test_each_repeat_is_a_run_of_its_own_and_they_share_what_they_are_worth():
    candidates = [dataclasses.replace(run, repeats=3) for run in random_runs(2)]
    plan = make_plan(candidates, Budget(100.0), ACC, MARGIN)
    values = plan_json(plan, KNOWN, {}, [])
    assert len(values["chosen"]) == 3 * len(plan.chosen)
    assert len({run["run_id"] for run in values["chosen"] + values["left_out"]}) == 3 * len(candidates)
    assert math.fsum(run["value"] for run in values["chosen"]) == pytest.approx(plan.value_resummed, rel=1e-12)
    assert math.fsum(run["total_sec"] for run in values["chosen"]) == pytest.approx(plan.total_sec, rel=1e-12)


def test_a_plan_is_named_after_what_it_holds():
    plans = [make_plan(random_runs(seed), Budget(40.0), ACC) for seed in (1, 2)]
    names = {plan_json(plan, KNOWN, {}, [])["plan_id"] for plan in plans}
    assert len(names) == 2
    assert all(name.startswith("plan-") and len(name) == 13 for name in names)


# --- read again ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [NO_MARGIN, MARGIN], ids=["", "margin"])
@pytest.mark.parametrize("value", ["acc", "best_acc", "info"])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_written_is_read_again(tmp_path, seed, value, margin):
    must = random_runs(seed + 50, n=seed, first_batch=100)
    candidates = random_runs(seed, sd=0.03 if margin.quantile else None)
    candidates[0] = dataclasses.replace(candidates[0], acc=0.5, acc_epochs=3, was_measured=False, is_predicted=True)
    known = Knowledge([RunConfig(4, 64, 512)], 10_000)
    plan = make_plan(candidates, Budget(60.0), VALUES[value], margin, must, known)
    path = written(tmp_path, plan, must=[c.config for c in must], knowledge=known)
    saved = read_plan(path)
    values = json.loads(path.read_text())
    assert (saved.path, saved.plan_id, saved.budget.amount) == (path, values["plan_id"], 60.0)
    assert (saved.value.name, saved.margin, saved.knowledge) == (value, margin, known)
    assert saved.ledger_path == ledger_of(path) == tmp_path / "plan.ledger.jsonl"
    for runs, written_runs, candidates_of in (
        (saved.chosen, values["chosen"], plan.chosen),
        (saved.excluded, values["left_out"], plan.excluded),
    ):
        for run, as_json, candidate in zip(runs, written_runs, candidates_of, strict=True):
            assert run.planned.run_id == as_json["run_id"]
            assert run.planned.spec == RunSpec(**as_json["spec"])
            assert run.is_must == (candidate.config in {c.config for c in must})
            assert run.candidate == candidate


@pytest.mark.parametrize("unit", [KWH, USD, KGCO2])
@pytest.mark.parametrize("half", [0.3, None])
def test_a_plan_in_another_unit_says_it_and_is_read_again(tmp_path, unit, half):
    candidates = priced(random_runs(4, n=8), 4, half=half)
    candidates[1] = dataclasses.replace(candidates[1], price=dataclasses.replace(candidates[1].price, sd=None))
    candidates[2] = dataclasses.replace(candidates[2], price=dataclasses.replace(candidates[2].price, board=None))
    budget = Budget(0.6 * sum(c.cost for c in candidates), unit)
    plan = make_plan(candidates, budget, ACC, MARGIN)
    path = written(tmp_path, plan)
    values = json.loads(path.read_text())
    key = unit.key
    assert (values["budget"], values["budget_unit"]) == (budget.amount, unit.name)
    assert (values[f"total_{key}"], values[f"upper_{key}"]) == (plan.cost, plan.upper)
    assert (values[f"total_{key}_low"], values[f"total_{key}_high"]) == (plan.band.low, plan.band.high)
    assert (plan.band.low is None) == (half is None)
    assert (values["range_of"], values["range_unknown"]) == (([], ["energy"]) if half is None else (["power"], []))
    assert values["total_sec"] == plan.total_sec
    assert "upper_sec" not in values  # it promises nothing of the clock
    assert math.fsum(run[f"total_{key}"] for run in values["chosen"]) == pytest.approx(plan.cost, rel=1e-12)
    for run, candidate in zip(values["chosen"], plan.chosen, strict=True):
        upper = candidate.cost + HALF_WIDTH_SDS * candidate.cost_sd
        is_known = candidate.price.sd is not None
        assert run[f"total_{key}_high"] == (pytest.approx(upper) if is_known else None)
    saved = read_plan(path)
    assert saved.budget == budget
    for run, candidate in zip([*saved.chosen, *saved.excluded], [*plan.chosen, *plan.excluded], strict=True):
        assert run.candidate.price == candidate.price
        assert run.candidate.cost == candidate.cost


def test_where_a_price_has_one_source_and_power_is_exact_no_end_is_told(tmp_path):
    def of_one_source(run):
        return dataclasses.replace(run, price=dataclasses.replace(run.price, unknown=("price",)))

    runs = priced(random_runs(1), half=0.0)
    known, one_source = (
        json.loads(written(tmp_path, make_plan(pool, Budget(1.0, USD), ACC)).read_text())
        for pool in (runs, [of_one_source(run) for run in runs])
    )
    ends = [known["total_usd_low"], known["total_usd"], known["total_usd_high"]]
    assert ends == pytest.approx([known["total_usd"]] * 3, abs=1e-8 * len(known["chosen"]))
    assert ends == sorted(ends)
    assert (one_source["total_usd_low"], one_source["total_usd_high"]) == (None, None)
    assert one_source["range_unknown"] == ["price"]
    assert {run["price"]["per_sec"]["low"] for run in one_source["chosen"]} == {None}
    banded = [of_one_source(run) for run in priced(random_runs(1), half=0.5)]
    plan = make_plan([*banded[:4], *map(of_one_source, runs[4:])], Budget(1.0, USD), ACC)
    half = sum(run.cost for run in banded[:4]) / 2  # of those whose power has a band; the others' is exact
    assert (plan.band.low, plan.band.high) == pytest.approx((plan.cost - half, plan.cost + half), abs=1e-7)
    values = json.loads(written(tmp_path, plan).read_text())
    assert (values["range_of"], values["range_unknown"]) == (["power"], ["price"])
    assert read_plan(tmp_path / "plan.json").budget.unit == USD


def test_a_plan_in_seconds_says_nothing_of_other_units(tmp_path):
    values = json.loads(written(tmp_path, make_plan(random_runs(1), Budget(40.0), ACC)).read_text())
    assert "price" not in values["chosen"][0]
    assert not any(name.startswith("range_") for name in values)
    assert not any(name.endswith(("_low", "_high")) for name in values)
    assert not any("kwh" in name for name in [*values, *values["chosen"][0]])


@pytest.mark.parametrize(("name", "unit"), [("seconds", SECONDS), ("kwh", KWH)])
def test_a_plan_of_schema_3_is_read_under_its_own_names(name, unit):
    path = CODE_ROOT / "tests" / "data" / f"plan_v3_{name}.json"
    values, saved = json.loads(path.read_text()), read_plan(path)
    assert values["schema_version"] == 3
    assert (saved.plan_id, saved.budget) == (values["plan_id"], Budget(values["budget"], unit))
    written_runs, runs = [*values["chosen"], *values["left_out"]], [*saved.chosen, *saved.excluded]
    for run, old in zip(runs, written_runs, strict=True):
        candidate = run.candidate
        for part in ("overhead", "first_epoch", "steady"):
            found = getattr(candidate, part)
            value, high = old[f"{part}_sec"], old[f"{part}_sec_upper"]
            assert (found.value, found.high) == (value, pytest.approx(high, rel=1e-12))
            assert found.low == pytest.approx(max(0.0, 2 * value - high), rel=1e-12)  # all that was written of it
        assert candidate.total_sec == pytest.approx(old["total_sec"], abs=2e-3)  # as charged, to the millisecond
        if unit == KWH:
            assert candidate.cost_high == pytest.approx(old["total_kwh_upper"], rel=1e-9)


def test_a_plan_of_schema_3_that_lacks_an_end_is_one_clear_error(tmp_path):
    path = tmp_path / "plan.json"
    values = json.loads((CODE_ROOT / "tests" / "data" / "plan_v3_seconds.json").read_text())
    del values["chosen"][0]["steady_sec_upper"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"not a whole plan: 'steady_sec_upper' is missing\. Make it again"):
        read_plan(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(budget_unit="miles"), "budget_unit is 'miles'"),
        (lambda v: v.pop("budget_unit"), "'budget_unit' is missing"),
        (lambda v: v["chosen"][0].pop("price"), "'price' is missing"),
        (lambda v: v["chosen"][0]["price"]["per_sec"].update(value=0), "per_sec is 0"),
        (lambda v: v["chosen"][0]["price"]["per_sec"].update(value=-1.0), "value is -1.0"),
        (lambda v: v["chosen"][0]["price"]["per_sec"].update(high=0.0), "high is 0.0"),
        (lambda v: v["chosen"][0]["price"]["per_sec"].update(low=1e9), "low is 1000000000.0"),
        (lambda v: v["chosen"][0]["price"]["per_sec"].update(low=-1.0), "low is -1.0"),
        (lambda v: v["chosen"][0]["price"].pop("unknown"), "'unknown' is missing"),
        (lambda v: v["chosen"][0]["price"].update(shared="power"), "shared is 'power'"),
        (lambda v: v["chosen"][0]["price"].update(sd="some"), "sd is 'some'"),
        (lambda v: v["chosen"][0]["price"]["board"].pop("watts"), "'watts' is missing"),
    ],
)
def test_a_price_that_is_not_whole_is_one_clear_error(tmp_path, change, message):
    path = written(tmp_path, make_plan(priced(random_runs(1)), Budget(1.0, KWH), ACC))
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"not a whole plan: .*{message}.* Make it again"):
        read_plan(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan: not JSON: Expecting value"),
        ("{", "not a plan: "),
        ("[1, 2]", "not a plan that this version can run (schema_version None"),
        ('{"schema_version": 2}', "(schema_version 2, 4 is known). Make it again"),
    ],
)
def test_a_file_that_is_no_plan_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a plan: "):
        read_plan(path)


def test_no_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such plan\. Make one: .*epochcast plan --budget"):
        read_plan(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("budget"), "not a whole plan: 'budget' is missing"),
        (lambda v: v.update(budget="an hour"), "budget is 'an hour'"),
        (lambda v: v.update(budget=0), "budget is 0"),
        (lambda v: v["margin"].update(quantile="wide"), "quantile is 'wide'"),
        (lambda v: v["chosen"][0].update(run_id="../x"), "run_id is '../x'"),
        (lambda v: v["chosen"][0]["spec"].update(seed=True), "seed must be 0 or above, got True"),
        (lambda v: v["left_out"].append(v["chosen"][0]), "two runs have the same run_id"),
        (lambda v: v.update(maximised="speed"), "maximised is 'speed'"),
        (lambda v: v.update(chosen=None), "not a whole plan: "),
        (lambda v: v.update(margin={"width": 3}), "'quantile' is missing"),
        (lambda v: v.update(measured=[7]), "not a whole plan: "),
        (lambda v: v["chosen"][0].pop("run_id"), "'run_id' is missing"),
        (lambda v: v["chosen"][0].pop("steady_sec_high"), "'steady_sec_high' is missing"),
        (lambda v: v["chosen"][0].update(steady_sec_low=1e9, steady_sec_high=2e9), "steady_sec_low is 1000000000.0"),
        (lambda v: v["chosen"][0].update(steady_sec_low=None, steady_sec_high=1e9), "steady_sec_low is None"),
        (lambda v: v["chosen"][0]["spec"].update(depth=0), "depth must be a whole number of at least 1, got 0. Make"),
        (lambda v: v["chosen"][0]["spec"].update(colour="red"), "unexpected keyword argument 'colour'"),
        (lambda v: v["left_out"][0].update(value="much"), "value is 'much'"),
        (lambda v: v["left_out"].append("run"), "not a whole plan: "),
    ],
)
def test_a_plan_that_is_not_whole_is_one_clear_error(tmp_path, change, message):
    path = written(tmp_path, make_plan(random_runs(1), Budget(40.0), ACC))
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError) as caught:
        read_plan(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert text.endswith("Make it again: dp_budget_planner --out")


HOSTILE = [None, [], {}, "", "x" * 10_000, -1, 0, 1, True, 1e308, 10**18, 10**400, [[[[]]]], {"a": {"b": [None]}}]
# what a plan may well hold: names and numbers that nothing else in it contradicts
FREE = {
    *("notes", "created_utc", "confidence", "method", "table", "model", "is_proven_optimal", "value_dp", "value_bound"),
    *("seed", "data_dir", "train_n", "device", "compile_cache", "max_epochs", "max_sec", "target_ci", "sd", "board"),
    *("quantile", "common_sd", "acc", "acc_epochs", "images_per_sec", "params", "measured", "total_sec", "shared"),
    *(
        "left_out",
        "was_measured",
        "is_predicted",
        "is_extrapolated",
        "must",
        "plan_id",
        "run_id",
        "unknown",
        "watts",
        "per_j",
    ),
    *(f"{name}_sec_{end}" for name in ("overhead", "first_epoch", "steady", "total") for end in ("low", "high")),
    *(f"total_kwh{end}" for end in ("", "_low", "_high")),
    *("low", "high", "range_of", "range_unknown", "window_steps", "steps_per_execution", "value"),
    *(field.name for field in dataclasses.fields(Conditions)),
}


def paths_in(value, before=()):
    """Every place of a JSON value."""
    for name in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*before, name)
        yield from paths_in(value[name], (*before, name))


def changed_at(value, place, new):
    """A copy of a JSON value with another one at a place."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = changed_at(value[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("unit", [pytest.param(SECONDS, marks=pytest.mark.slow), KWH])  # of kWh: more keys
def test_whatever_a_plan_holds_it_is_read_or_named(tmp_path, unit, hostile):
    runs = random_runs(1, n=2)  # one that is chosen and one that is left out: all runs are read alike
    runs = priced(runs) if unit == KWH else runs
    known = Knowledge([RunConfig(4, 64, 512)], 10_000)
    path = written(tmp_path, make_plan(runs, Budget(0.8 * sum(c.cost for c in runs), unit), ACC), knowledge=known)
    values = json.loads(path.read_text())
    assert values["chosen"] and values["left_out"]
    n_read = 0
    for place in paths_in(values):
        path.write_text(json.dumps(changed_at(values, place, hostile)))
        try:
            read_plan(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            assert len(str(error)) < 500 + len(str(path))
        else:
            n_read += 1
            assert FREE & {part for part in place if isinstance(part, str)}, place
    assert n_read < 400


def test_a_name_that_stands_twice_in_a_plan_is_an_error(tmp_path):
    path = written(tmp_path, make_plan(random_runs(1), Budget(40.0), ACC))
    path.write_text(path.read_text().replace('"chosen":', '"budget": 4.0, "chosen":'))
    with pytest.raises(ValueError, match="'budget' stands twice"):
        read_plan(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["chosen"][0].update(steady_sec=v["chosen"][0]["steady_sec"] * 1.1),
        lambda v: v["chosen"][0].update(total_sec=v["chosen"][0]["total_sec"] * 1.1),
        lambda v: v["chosen"][0].update(value=0.5 * v["chosen"][0]["value"]),
        lambda v: v.update(budget=2 * v["budget"]),
        lambda v: v["chosen"].pop(),
        lambda v: v["chosen"][0].update(depth=7),
        lambda v: v["chosen"][0]["spec"].update(epochs=50),
    ],
)
def test_a_plan_that_contradicts_itself_is_an_error(tmp_path, change):
    path = written(tmp_path, make_plan(random_runs(1), Budget(40.0), ACC))
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"not a whole plan: .* Make it again"):
        read_plan(path)


@pytest.mark.parametrize(
    ("planned", "found", "words"),
    [
        ({"dataset": "cifar10"}, {"dataset": "cifar10_images"}, ""),
        ({"dataset": "cifar10"}, {"dataset": "synthetic"}, "dataset synthetic, not cifar10"),
        ({"dataset": "synthetic"}, {"dataset": "cifar10"}, "dataset cifar10, not synthetic"),
        ({"backend_version": "2.20"}, {"backend_version": "2.21"}, ""),
        ({"train_n": 50_000}, {"train_n": 2048}, "train_n 2048, not 50000"),
        ({"precision": None}, {"precision": "float32"}, ""),
    ],
)
def test_a_run_is_none_of_a_plan_where_its_conditions_contradict_the_plans(tmp_path, planned, found, words):
    plan = write_plan(tmp_path / "plan.json", [light_run(16)], conditions=Conditions(**planned))
    record = dataclasses.replace(row_of(plan.chosen[0], 10.0), **found)
    assert plan.differences(record) == words
