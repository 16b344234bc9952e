"""`dp_budget_planner`: every flag does what it says, what is written is what is printed, and errors are one line."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import math
import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from epochcast.collect.run_one import parse
from epochcast.facts.regions import Region, Sourced
from epochcast.interval import Interval
from epochcast.output.text import range_text
from epochcast.paths import CODE_ROOT, command_text, pretrained_dir, runs_agg_csv
from epochcast.planner.costs.budget import KGCO2, Budget
from epochcast.planner.costs.values import INFO
from epochcast.planner.dp_budget_planner import main
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.planner.request.flags import DEFAULT_EPOCHS
from epochcast.schema import AggRow, RunRecord, RunSpec
from epochcast.storage.files import sha256_of
from epochcast.storage.table_appends import check_appendable
from epochcast.storage.tables import write_table
from tests.support.cli import run_cli
from tests.support.plans import name_this_box
from tests.support.rows import agg_row, assert_one_clear_error, random_runs

DEVICE = "NVIDIA A100 80GB PCIe"


def known_row(batch_size, seconds, acc=0.6, **more):
    known = {"overhead_sec_mean": 6.0, "first_epoch_sec_mean": seconds + 5, "acc_epochs": 3, "device_name": DEVICE}
    return agg_row(batch_size=batch_size, seconds=seconds, **{**known, "acc_mean": acc, **more})


ROWS = [known_row(64, 4.0, 0.7), known_row(128, 2.0, 0.65), known_row(256, 1.0, 0.5)]  # 51, 31, 21 s of 10 epochs


@pytest.fixture(autouse=True)
def home(home, monkeypatch):
    """A home without images, on a box with that device."""
    monkeypatch.delenv("EPOCHCAST_DATA_DIR", raising=False)
    name_this_box(monkeypatch, DEVICE)
    return home


@pytest.fixture
def table(home):
    path = home / "table.csv"
    write_table(path, ROWS, AggRow)
    return path


def answer_of(*flags):
    return run_cli(main, *flags, "--json").json


def lines_of(*flags):
    return run_cli(main, *flags).lines


def batches(answer):
    return [run["batch_size"] for run in answer["chosen"]]


@pytest.fixture
def ask(table):
    """The JSON answer for these flags; ten epochs and no margin unless they say otherwise."""

    def ask(flags, budget_sec=1000):
        given = ["--runs_agg", table, "--budget_sec", budget_sec, *shlex.split(flags)]
        own = ["--epochs", "10"] if "--epochs" not in flags else []
        return answer_of(*given, *own, *(["--confidence", "0.5"] if "--conf" not in flags else []))

    return ask


# --- the start --------------------------------------------------------------------------------------------------------

LOADED = (
    "import sys; from epochcast.planner.dp_budget_planner import main; main(['--budget_sec', '3600']); "
    "print(*sys.modules)"
)


def test_a_plan_in_seconds_imports_nothing_that_only_other_flags_need(home):
    unneeded = {
        "collect",
        "epochcast.footprint.footprint",
        "epochcast.facts.regions",
        "matplotlib",
        "epochcast.model.selection.experimental_design",
        "epochcast.model.answers.energy",
    }
    unneeded |= {
        "pandas",
        "epochcast.planner.output.exports",
        "epochcast.planner.output.figures",
        "epochcast.planner.plan.plan_file",
        "epochcast.planner.costs.pricing",
        "scipy",
    }
    assert all(importlib.util.find_spec(name) for name in unneeded)
    printed = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True, text=True, cwd=CODE_ROOT)
    loaded = set(printed.stdout.splitlines()[-1].split())
    assert not unneeded & loaded


# --- the A100 reference, and this home -------------------------------------------------------------------------------


def test_the_published_a100_plan_comes_out_again(reference_data):
    published = reference_data / "a100" / "runs_agg.csv"
    costs = ["--overhead_sec", 0, "--first_epoch", "none", "--confidence", 0.5]
    answer = answer_of("--budget_sec", 3600, "--min_acc", 0.6, *costs, "--runs_agg", published)
    assert len(answer["chosen"]) == 46
    assert answer["value_resummed"] == pytest.approx(31.2, abs=0.05)
    assert answer["is_proven_optimal"]
    assert answer["maximised"] == "acc"
    assert answer["total_sec"] <= 3600
    assert {run["overhead_sec"] for run in answer["chosen"]} == {0.0}
    assert all(run["first_epoch_sec"] == run["steady_sec"] for run in answer["chosen"])
    assert "143 measured configurations in" in answer["notes"][0]
    assert "a table without a source" in answer["notes"][0]
    assert answer["table"] == {"path": str(published.absolute()), "sha256": sha256_of(published)}


def test_without_a_table_the_default_grid_is_planned_by_the_pretrained_model_and_said(home):
    answer = answer_of("--budget", "2h")
    model = pretrained_dir() / "a100.keras"
    assert answer["table"] is None
    assert answer["model"] == {"path": str(model), "sha256": sha256_of(model)}
    assert answer["maximised"] == "count"
    assert answer["confidence"] == 0.9
    assert answer["total_sec"] < answer["upper_sec"] <= 7200
    notes = "\n".join(answer["notes"])
    assert "a100.keras predicts: the pretrained model, as no local one fits" in notes
    assert "nothing measured to plan from: the default grid" in notes
    assert "steady times are predictions for NVIDIA A100 80GB PCIe" in notes
    assert "overhead unknown for 96 of 96 candidates: assumed 16.1 s, the median of " in notes
    assert "first epoch beyond a steady one unknown for 96 of 96 candidates: assumed about 15.4 s, as the " in notes
    excesses = {run["first_epoch_sec"] - run["steady_sec"] for run in answer["chosen"]}
    assert min(excesses) > 0
    assert len(excesses) > 1  # each configuration's own
    assert answer["conditions"]["device_name"] == DEVICE
    assert list(home.iterdir()) == []
    for run in answer["chosen"]:
        assert RunSpec(**run["spec"]).precision == "float32"


def test_the_table_of_this_home_is_planned_from_unless_another_is_named(home):
    write_table(runs_agg_csv(), ROWS[:1], AggRow)
    answer = answer_of("--budget_sec", 1000)
    assert answer["table"]["path"] == str(home / "results" / "runs_agg.csv")


def test_a_runs_csv_that_holds_only_its_header_is_no_table(home):
    check_appendable(home / "results" / "runs.csv", RunRecord)
    answer = answer_of("--budget_sec", 600)
    assert answer["table"] is None
    assert any("nothing measured to plan from" in note for note in answer["notes"])


def test_of_level_sets_one_is_planned_from_and_the_other_s_flag_works(table):
    other = 'Gold\'s "6230"'
    mixed = [*ROWS, *(dataclasses.replace(row, device_name=other, backend="jax") for row in ROWS)]
    write_table(table, mixed, AggRow)
    flags = ["--budget_sec", "1000", "--runs_agg", str(table)]
    first = answer_of(*flags)
    assert any("the table mixes 2 sets of conditions; used: the last in the table" in note for note in first["notes"])
    (left,) = (note for note in first["notes"] if note.startswith("not used: "))
    flag = left.removeprefix("not used: ").replace("(3 rows)", "")
    second = answer_of(*flags, *shlex.split(flag))
    assert [len(answer["chosen"]) for answer in (first, second)] == [3, 3]
    assert [answer["conditions"]["device_name"] for answer in (first, second)] == [other, DEVICE]


# --- what is printed -------------------------------------------------------------------------------------------------


def test_the_command_prints_the_plan_its_sums_what_was_missed_and_where_it_is(table, home):
    out = home / "my plans" / "plan.json"
    flags = ["--budget_sec", 60, "--epochs", 10, "--runs_agg", table, "--out", out]
    lines = lines_of(*flags)
    assert f"note: 3 measured configurations in {table} (a table without a source, used as it is)" in lines
    assert "runs: 2 of 10 epochs, in this order" in lines
    assert "total_sec: 52.0000 (52 s) expected" in lines
    (upper,) = [line for line in lines if line.startswith("upper_sec: 52.")]
    assert upper.endswith(" with the margin: 90.0 % of such plans take no longer")
    assert any(re.fullmatch(r"budget_used: 8[78]\.\d %\s+of 60\.0000 s", line) for line in lines)
    assert "value (acc): 1.1500 by the search, 1.1500 counted again over the runs above" in lines
    assert "optimal: yes, proven" in lines
    assert "best 1 of 1 left out, and the seconds that the budget lacks for each:" in lines
    assert lines[-2:] == [f"plan: {out}", f"next: {command_text('run_plan')} '{out}'"]
    rows = [line.split() for line in lines if line.startswith("(2,16,")]
    assert [row[0] for row in rows] == ["(2,16,256)", "(2,16,128)", "(2,16,64)"]
    assert [float(row[4]) for row in rows] == [21.0, 31.0, 51.0]
    assert float(rows[2][-1]) == pytest.approx(43, abs=1.5)  # 103 s and a margin, of 60 s
    written = json.loads(out.read_text())
    answer = answer_of(*flags)
    lacking = answer.pop("best_left_out")
    assert [(run["batch_size"], run["total_sec"]) for run in lacking] == [(64, 51.0)]
    moment = ("plan_id", "created_utc", "chosen", "left_out")
    assert {k: v for k, v in answer.items() if k not in moment} == {k: v for k, v in written.items() if k not in moment}
    assert json.loads(out.read_text()) == answer  # what is printed is what is written


def test_without_a_margin_none_is_printed(table):
    lines = lines_of("--budget_sec", 60, "--epochs", 10, "--runs_agg", table, "--confidence", 0.5)
    assert "upper_sec: no margin: about half of such plans overrun" in lines
    assert "budget_used: 86.7 % of 60.0000 s" in lines


def test_a_plan_that_is_not_proven_says_what_it_could_be_worth_at_most(table, monkeypatch):
    monkeypatch.setattr("epochcast.planner.plan.margin._MAX_SEARCHES", 0)
    flags = ["--runs_agg", table, "--budget_sec", 75, "--epochs", 10, "--must", "batch_size=64"]
    (line,) = [line for line in lines_of(*flags) if line.startswith("optimal: ")]
    assert re.fullmatch(r"optimal: not proven: at most 1\.85\d*, 164 % more", line)


def test_an_info_plan_says_that_it_is_greedy():
    lines = lines_of("--budget", "15m", "--value", "info")
    assert "optimal: not proven: chosen greedily" in lines
    assert any(line.startswith("value (info): 0.") and "of the variance" in line for line in lines)


def test_repeats_are_counted_and_each_is_a_run(table, ask):
    flags = ["--runs_agg", table, "--budget_sec", 1000, "--epochs", 10, "--repeats", 3]
    lines = lines_of(*flags)
    assert "runs: 9 of 10 epochs (3 configurations, 3 times each), in this order" in lines
    assert sum(line.endswith("x 3") for line in lines) == 3
    answer = ask("--repeats 3")
    assert sorted(batches(answer)) == [64, 64, 64, 128, 128, 128, 256, 256, 256]
    assert answer["total_sec"] == 3 * 103
    assert math.fsum(run["value"] for run in answer["chosen"]) == pytest.approx(answer["value_resummed"])
    assert len({run["run_id"] for run in answer["chosen"]}) == 9


# --- flags -----------------------------------------------------------------------------------------------------------


def test_both_ways_to_write_a_budget_are_one(table):
    one = answer_of("--budget", "1h30m", "--runs_agg", table)
    other = answer_of("--budget_sec", 5400, "--runs_agg", table)
    assert one["budget"] == other["budget"] == 5400
    assert [run["spec"] for run in one["chosen"]] == [run["spec"] for run in other["chosen"]]


def test_the_planners_default_is_fifty_epochs(table):
    answer = answer_of("--budget_sec", 10_000, "--runs_agg", table)
    assert {run["epochs"] for run in answer["chosen"]} == {DEFAULT_EPOCHS} == {50}


def test_a_first_epoch_and_an_overhead_in_seconds_are_taken_as_given(ask):
    given = ask("--epochs 3 --first_epoch 12.5 --overhead_sec 0.25")
    assert {run["first_epoch_sec"] for run in given["chosen"]} == {12.5}
    assert math.fsum(run["total_sec"] for run in given["chosen"]) == 3 * 12.75 + 2 * 7.0


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ("", [256, 128, 64]),
        ("--value thr", [256, 128, 64]),
        ("--value count", [256, 128, 64]),
        ("--value best_acc", [64]),
        ("--must batch_size=64", [64, 256, 128]),
        ("--must batch_size=64 --must batch_size=128", [128, 64, 256]),
        ("--exclude batch_size=128", [256, 64]),
        ("--exclude depth=2,batch_size=128 --exclude batch_size=64", [256]),
        ("--min_acc 0.6", [128, 64]),
        ("--min_acc 0.6 --must batch_size=256", [256, 128, 64]),
        ("--max_params 280218", [256, 128, 64]),
        ("--max_params 280217 --must batch_size=64", [64]),
        ("--time_source measured", [256, 128, 64]),
        ("--depth 2 --base_filters 16 --batch_size 64,256", [256, 64]),
        ("--batch_size 64:256:x2 --base_filters 16 --depth 2", [256, 128, 64]),
    ],
)
def test_flags_choose_what_is_planned(ask, flags, chosen):
    assert batches(ask(flags)) == chosen


def test_what_diverged_is_planned_only_if_asked_for(table, ask):
    write_table(table, [*ROWS[:2], known_row(256, 1.0, 0.1)], AggRow)
    assert batches(ask("")) == [128, 64]
    assert batches(ask("--include_diverged")) == [128, 64, 256]


def test_more_confidence_and_a_larger_common_factor_take_more_room(ask):
    uppers = [ask(f"--confidence {c}")["upper_sec"] for c in (0.5, 0.6, 0.9, 0.999)]
    assert uppers == sorted(set(uppers))
    assert uppers[0] == 103
    uppers = [ask(f"--confidence 0.9 --common_sd {sd}")["upper_sec"] for sd in (0, 0.01, 0.1)]
    assert uppers == sorted(set(uppers))
    told = ask("--confidence 0.9 --common_sd 0.1")
    assert told["margin"]["common_sd"] == 0.1
    assert told["confidence"] == 0.9


def configurations(path, name):
    rows = [{"depth": 2, "base_filters": 16, "batch_size": b} for b in (64, 128)]
    if name.endswith("json"):
        (path / name).write_text(json.dumps(rows))
    else:
        (path / name).write_text("depth,base_filters,batch_size\n2,16,64\n2,16,128\n")
    return path / name


@pytest.mark.parametrize("name", ["grid.csv", "grid.json"])
def test_candidates_come_from_a_file(home, ask, name):
    path = configurations(home, name)
    assert batches(ask(f"--candidates {path}")) == [128, 64]
    answer = answer_of("--budget", "1h", "--candidates", path)  # of no table: predicted
    assert sorted(batches(answer)) == [64, 128]
    assert all(run["is_predicted"] and not run["was_measured"] for run in answer["chosen"])


def test_lists_name_what_was_never_measured_and_the_model_predicts_it():
    answer = answer_of("--budget", "1h", "--depth", "2:4", "--batch_size", "128:512:x2", "--epochs", 20)
    found = {(run["depth"], run["base_filters"], run["batch_size"]) for run in answer["chosen"]}
    assert found == {(d, 32, b) for d in (2, 3, 4) for b in (128, 256, 512)}


def test_only_what_was_never_measured_is_planned_if_asked_for(table, home):
    write_table(table, [dataclasses.replace(row, device_name=None) for row in ROWS], AggRow)
    model = pretrained_dir() / "a100.keras"
    flags = ["--runs_agg", table, "--budget", "1h", "--model", model, "--exclude_measured"]
    answer = answer_of(*flags, "--depth", 2, "--base_filters", 16, "--batch_size", "64,512,1024")
    assert sorted(batches(answer)) == [512, 1024]
    assert "1 of 3 candidates left out: measured already" in answer["notes"]


# --- energy, money and CO2 --------------------------------------------------------------------------------------------

WATTS = {64: 100.0, 128: 180.0, 256: 400.0}  # 51, 31 and 21 s: 1.4, 1.6 and 2.3 Wh


def metered(row):
    joules = WATTS[row.batch_size] * row.avg_time_mean
    known = {"energy_j_per_epoch_median": joules, "energy_j_per_epoch_mad": 0.01 * joules}
    return dataclasses.replace(row, n_energy=6, mean_power_w_median=WATTS[row.batch_size], **known)


@pytest.fixture
def metered_table(table):
    write_table(table, [metered(row) for row in ROWS], AggRow)
    return table


def test_a_plan_of_energy_prefers_slow_frugal_runs_where_one_of_time_prefers_quick_hungry_ones(metered_table):
    flags = ["--runs_agg", metered_table, "--epochs", 10, "--value", "count"]
    in_sec = answer_of(*flags, "--budget_sec", 55)
    in_kwh = answer_of(*flags, "--budget_kwh", 0.0031)
    assert batches(in_sec) == [256, 128]
    assert batches(in_kwh) == [64, 128]
    assert (in_kwh["budget"], in_kwh["budget_unit"]) == (0.0031, "kwh")
    assert in_kwh["total_kwh"] == pytest.approx((51 * 100 + 31 * 180) / 3.6e6)
    assert in_kwh["total_kwh"] < in_kwh["upper_kwh"] <= 0.0031
    assert [run["lacking_kwh"] > 0 for run in in_kwh["best_left_out"]] == [True]


def test_the_command_prints_a_plan_of_energy_in_its_unit_and_draws_and_writes_it(metered_table, home):
    files = {name: home / f"plan.{end}" for name, end in (("out", "json"), ("csv", "csv"), ("plot", "png"))}
    flags = ["--budget_kgco2", 0.00122, "--gco2_per_kwh", 400, "--epochs", 10, "--runs_agg", metered_table]
    lines = lines_of(*flags, *(x for name, p in files.items() for x in (f"--{name}", p)), "--front")
    (header,) = [line for line in lines if line.startswith("configuration") and "lacking" not in line]
    assert header.split()[9:14] == ["kgCO2e", "95", "%", "within", "acc"]
    assert "total_kgco2: 0.00118667 expected" in lines
    (ends,) = [line for line in lines if line.startswith("range_kgco2: ")]
    assert ends == "range_kgco2: 0.000844 to 0.00120 by power, common to all runs: no margin holds it"
    (upper,) = [line for line in lines if line.startswith("upper_kgco2: 0.00120")]
    assert upper.endswith(" with the margin: 90.0 % of such plans take no more, if power is as expected")
    assert any(re.fullmatch(r"budget_used: 98\.\d %\s+of 0\.00122000 kgCO2e", line) for line in lines)
    assert "best 1 of 1 left out, and the kgCO2e that the budget lacks for each:" in lines
    assert any(re.match(r"0\.00122 kgCO2e .* this plan", line) for line in lines)
    assert read_plan(files["out"]).budget == Budget(0.00122, KGCO2)
    with files["csv"].open(newline="") as file:
        assert [float(row["total_kgco2"]) > 0 for row in csv.DictReader(file)] == [True, True]
    with Image.open(files["plot"]) as image:
        image.load()


@pytest.mark.parametrize(
    ("flags", "is_few", "ends", "if_so"),
    [
        ([], False, "{band} by power, common to all runs: no margin holds it", ", if power is as expected"),
        ([], True, "unknown: too few runs measured energy", ", if energy is as expected"),
        (
            ["--energy_formula", "mlcost"],
            False,
            "unknown: the formula tells none",
            ", if the formula is as expected",
        ),
        (
            ["--region", "XA"],
            False,
            "{band} by power alone; the price's range is unknown; no margin holds either",
            ", if power and price are as expected",
        ),
        (
            ["--region", "XA"],
            True,
            "unknown: too few runs measured energy; no range of the price is known",
            ", if energy and price are as expected",
        ),
        (
            ["--region", "XA", "--overhead_sec", 0],
            False,
            "unknown: no range of the price is known",
            ", if price is as expected",
        ),
        (["--overhead_sec", 0], False, None, ""),
    ],
)
def test_a_promise_names_all_that_it_takes_as_expected(table, monkeypatch, flags, is_few, ends, if_so):
    place = Region("XA", "Exampleland", *[Sourced(Interval(value), "2024", "a table", "") for value in (100.0, 0.5)])
    monkeypatch.setattr("epochcast.facts.regions.find_region", lambda text: place)
    own = [] if "--region" in flags else ["--usd_per_kwh", 0.5]
    same = [dataclasses.replace(row, first_epoch_sec_mean=row.avg_time_mean) for row in ROWS]
    known = [dataclasses.replace(metered(row), n_energy=2 if is_few else 6) for row in same]
    write_table(table, known, AggRow)
    asked = ["--budget_usd", 1, "--epochs", 10, "--value", "count", "--runs_agg", table, *own, *flags]
    lines = lines_of(*asked)
    answer = answer_of(*asked)
    band = range_text(answer["total_usd_low"], answer["total_usd_high"])
    told = [line.removeprefix("range_usd: ") for line in lines if line.startswith("range_usd: ")]
    assert told == ([] if ends is None else [ends.format(band=band)])
    assert (answer["total_usd_low"] is None) == (ends is not None and ends.startswith("unknown"))
    (upper,) = [line for line in lines if line.startswith("upper_usd: ")]
    assert upper.partition("take no more")[2] == if_so


def test_money_is_electricity_or_rent_whichever_is_named(metered_table):
    flags = ["--runs_agg", metered_table, "--epochs", 10, "--confidence", 0.5]
    bought = answer_of(*flags, "--budget_usd", 1, "--usd_per_kwh", 0.5, "--host_w", 100, "--pue", 1.2)
    assert bought["total_usd"] == pytest.approx(
        0.5 * 1.2 * sum(s * (w + 100) for s, w in zip((51, 31, 21), WATTS.values(), strict=True)) / 3.6e6,
        abs=3e-8,  # each run is rounded up to 1e-8 USD
    )
    rent = answer_of(*flags, "--budget_usd", 1, "--usd_per_gpu_hour", 3.6)
    assert rent["total_usd"] == pytest.approx(103 * 0.001)
    assert [run["price"]["board"] is None for run in rent["chosen"]] == [True] * 3


def test_the_help_says_what_flags_mean_to_a_plan(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "give a table" not in text
    assert "on-demand offers" not in text
    assert "rent of a GPU: a budget of USD is then one of rent; default: of electricity" in text
    assert "what more time would buy" not in text


def test_what_a_unit_cannot_tell_is_one_clear_error(table, capsys):
    on_cpu = [dataclasses.replace(row, device_name="AMD EPYC 9B14 (2 cores)") for row in ROWS]
    write_table(table, on_cpu, AggRow)
    flags = ["--runs_agg", str(table), "--epochs", "10"]
    for budget in (["--budget_kwh", "1"], ["--budget_kgco2", "1", "--pue", "1.5"], ["--budget_usd", "1"]):
        assert main([*flags, *budget]) == 1
        assert_one_clear_error(
            capsys.readouterr(), "what AMD EPYC 9B14 (2 cores) draws is unknown: no row has its energy"
        )
    assert answer_of(*flags, "--budget_usd", 1, "--usd_per_gpu_hour", 2)["total_usd"] > 0


# --- files -----------------------------------------------------------------------------------------------------------


def test_every_export_names_the_same_runs(table, home):
    paths = {name: home / "out" / f"plan.{name}" for name in ("json", "csv", "sh", "optuna")}
    flags = ["--budget_sec", 60, "--epochs", 10, "--runs_agg", table, "--out", paths["json"], "--csv", paths["csv"]]
    lines = lines_of(*flags, "--sh", paths["sh"], "--optuna", paths["optuna"])
    names = ("plan", "csv", "sh", "optuna")
    assert lines[-5:-1] == [f"{n}: {p}" for n, p in zip(names, paths.values(), strict=True)]
    plan = json.loads(paths["json"].read_text())
    with paths["csv"].open(newline="") as file:
        assert [row["run_id"] for row in csv.DictReader(file)] == [run["run_id"] for run in plan["chosen"]]
    commands = [line for line in paths["sh"].read_text().splitlines() if "run_one.py" in line]
    for run, command in zip(plan["chosen"], commands, strict=True):
        arguments, spec = parse(shlex.split(command)[2:])
        assert (spec, arguments.run_id) == (RunSpec(**run["spec"]), run["run_id"])
    trials = json.loads(paths["optuna"].read_text())
    assert [trial["user_attrs"]["run_id"] for trial in trials] == [run["run_id"] for run in plan["chosen"]]
    assert [run.planned.run_id for run in read_plan(paths["json"]).chosen] == [run["run_id"] for run in plan["chosen"]]


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_the_figures_are_drawn_and_the_front_is_printed(table, home, confidence):
    flags = ["--budget_sec", 60, "--epochs", 10, "--runs_agg", table, "--confidence", confidence]
    lines = lines_of(*flags, "--plot", home / "plan.svg", "--front")
    assert (home / "plan.svg").read_text().startswith("<?xml")
    front = home / "results" / "plans" / "front.png"
    assert lines[-2:] == [f"plot: {home / 'plan.svg'}", f"front: {front}"]
    with Image.open(front) as image:
        image.load()
    shown = lines[next(i for i, line in enumerate(lines) if line.startswith("budget ")) + 1 :][:10]
    values = [float(line.split(" s ")[1].split()[0]) if " s " in line else None for line in shown if "this" in line]
    assert values == [1.15]
    assert main([*map(str, flags), "--front", str(home / "other.svg")]) == 0
    assert (home / "other.svg").exists()


def test_a_plan_that_was_begun_is_never_written_over(table, home, capsys):
    flags = ["--budget_sec", "60", "--epochs", "10", "--runs_agg", str(table), "--out", str(home / "plan.json")]
    assert main(flags) == 0
    (home / "plan.json").write_text(json.dumps({"plan_id": "an older plan that was not begun"}))
    assert main(flags) == 0
    before = (home / "plan.json").read_text()
    (home / "plan.ledger.jsonl").write_text("{}\n")
    capsys.readouterr()
    assert main(flags) == 1
    assert_one_clear_error(capsys.readouterr(), "plan.json: this plan was begun")
    assert (home / "plan.json").read_text() == before
    assert main([*flags[:-1], str(home / "another.json")]) == 0


# --- wrong input -----------------------------------------------------------------------------------------------------


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
        "--budget 1h --epochs 1",
        "--budget 1h --repeats 0",
        "--budget 1h --value speed",
        "--budget 1h --first_epoch 0",
        "--budget 1h --first_epoch sometimes",
        "--budget 1h --overhead_sec -1",
        "--budget 1h --conditions jax",
        "--budget 1h --confidence 0.49",
        "--budget 1h --confidence 0.9991",
        "--budget 1h --confidence 90",
        "--budget 1h --common_sd -0.1",
        "--budget 1h --max_params 0",
        "--budget 1h --must depth",
        "--budget 1h --depth 4:2",
        "--budget 1h --plot plan.pdf",
        "--budget 1h --front front.txt",
        "--budget 1h --candidates grid.csv --depth 3",
        "--budget 1h --exclude_measured --time_source measured",
        "--budget 1h --time_source guessed",
        "--budget_kwh -1",
        "--budget_usd 0",
        "--budget_kgco2 nan",
        "--budget_kwh 1 --budget_sec 3600",
        "--budget_kwh 1 --budget_usd 1",
        "--budget 1h --region DE",
        "--budget 1h --embodied",
        "--budget_kwh 1 --usd_per_kwh 0.3",
        "--budget_kwh 1 --region DE",
        "--budget_kwh 1 --pue 0.9",
        "--budget_usd 1 --gco2_per_kwh 300",
        "--budget_usd 1 --usd_per_kwh -0.1",
        "--budget_usd 1 --usd_per_gpu_hour 2 --host_w 100",
        "--budget_kgco2 1 --region nowhere",
        "--budget_kgco2 1 --region DE,FR",
        "--budget_kgco2 1 --energy_formula guess",
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
        ("--budget_sec 20.9", "smaller than every run: the cheapest, (2,16,256), takes 21.3 s with the margin"),
        ("--budget_sec 20.9 --confidence 0.5", "smaller than every run: the cheapest, (2,16,256), takes 21.0 s."),
        ("--budget_sec 60 --must depth=2", "the runs that must be done take 104 s with the margin, the budget is 60.0"),
        ("--must depth=7", "--must depth=7: no candidate is like that. There are depth 2; base_filters 16; batch_size"),
        ("--exclude colour=red", "no column 'colour' to filter by; use one of depth"),
        ("--must depth=2 --exclude batch_size=64", "--must and --exclude both name (2,16,64): narrow one of them."),
        ("--exclude depth=2", "no candidate is left of 3: 3 of 3 candidates left out: excluded by --exclude."),
        ("--max_params 1", "no candidate is left of 3: 3 of 3 candidates left out: more than 1 parameters"),
        ("--exclude_measured", "no candidate is left of 3: 3 of 3 candidates left out: measured already"),
        ("--min_acc 0.71", "no candidate is left of 3: 3 of 3 candidates left out: accuracy below 0.71"),
        ("--value acc --runs_agg timed.csv", "no candidate is left of 1: 1 of 1 candidates left out: no accuracy"),
        ("--confidence 0.9 --runs_agg timed.csv", "--confidence 0.9: the error of the overhead is unknown"),
        ("--value info", "no model of the table's conditions"),
        ("--value info --time_source measured", "every candidate is measured already: info has nothing to add"),
        ("--candidates none.csv", "none.csv: No such file or directory."),
        ("--candidates bad.csv", "bad.csv:2, column 'depth': expected a whole number, got 'deep'"),
        ("--candidates bad.json", "bad.json: expected a list of objects, one a configuration."),
        ("--candidates no_rows.csv", "no_rows.csv: no configuration in the file"),
        ("--batch_size 1:2001 --base_filters 16,32", "4,002 candidates: at most 2,000 are taken"),
        ("--time_source measured --depth 4", "none of the candidates was measured. Leave --time_source measured out"),
        ("--time_source measured --model none.keras", "none.keras predicts, --time_source measured does not"),
        ("--out table.csv/plan.json", "table.csv: a file, not a folder."),
        ("--csv table.csv/plan.csv", "table.csv: a file, not a folder."),
        ("--csv /dev/full", "/dev/full: not a regular file."),
        ("--conditions colour=red", "no column 'colour' to filter by; use one of depth"),
        ("--conditions backend=jax", "none of 3 rows satisfies --conditions backend=jax"),
        ("--time_source pred --model none.keras", "none.keras: no such model"),
    ],
)
def test_what_cannot_be_planned_is_one_clear_error_and_exit_code_1(table, home, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(home)
    write_table(home / "empty.csv", [], AggRow)
    write_table(home / "timed.csv", [known_row(64, 1.0, None, overhead_sec_mean=None)], AggRow)
    (home / "bad.csv").write_text("depth,base_filters\ndeep,16\n")
    (home / "bad.json").write_text("{}")
    (home / "no_rows.csv").write_text("depth,base_filters\n")
    assert main(["--budget_sec", "1000", "--epochs", "10", "--runs_agg", str(table), *flags.split()]) == 1
    assert_one_clear_error(capsys.readouterr(), message)


def test_measured_times_without_a_table_are_an_error(home, capsys):
    assert main(["--budget_sec", "100", "--time_source", "measured"]) == 1
    assert f"there is no table {home / 'results' / 'runs_agg.csv'}. Measure first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--budget_usd 1e14 --usd_per_gpu_hour 1e-14",
            "100,000,000,000,000 USD is more than any plan takes",
        ),
        ("--budget_sec 1e-14", "the budget of 1.00e-14 s is smaller than every run: the cheapest"),
        ("--budget_sec 20.9999999 --confidence 0.5", "the budget of 20.9999999 s is smaller than every run"),
        ("--budget_usd 9 --usd_per_gpu_hour 1e15", "USD (51.0 s): no number to plan with"),
        ("--budget_kwh 1 --host_w 1e15 --pue 1e15 --runs_agg metered.csv", "kWh (51.0 s): no number to plan with"),
        ("--budget_sec 100 --epochs 1000000000", "the budget of 100 s is smaller than every run"),
        ("--budget_sec 1e10 --repeats 1000 --runs_agg many_agg.csv", "runs to choose from: at most 20,000 are taken"),
        ("--budget_sec 1000 --runs_agg huge.csv", "(2,16,64) would take"),
        ("--budget_sec 1000 --runs_agg tiny.csv --value thr", "s an epoch: no number to plan with"),
        ("--budget_sec 1000 --runs_agg wide.csv", "is no configuration: base_filters must be at most"),
        ("--budget_sec 1 --must depth=2", "the runs that must be done take"),
    ],
)
def test_numbers_beyond_all_reason_are_one_clear_error_at_once(table, home, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(home)
    for name, changes in (
        ("huge", {"avg_time_mean": 1e15}),
        ("tiny", {"avg_time_mean": 1e-15, "avg_time_std": None, "first_epoch_sec_mean": None}),
        ("wide", {"base_filters": 10**18}),
        ("metered", {"energy_j_per_epoch_median": 300.0, "n_energy": 1, "mean_power_w_median": 300.0}),
    ):
        write_table(home / f"{name}.csv", [dataclasses.replace(row, **changes) for row in ROWS], AggRow)
    many = [agg_row(batch_size=batch_size) for batch_size in range(1, 41)]
    write_table(home / "many_agg.csv", many, AggRow)
    assert main(["--epochs", "10", "--runs_agg", str(table), *flags.split()]) == 1
    assert_one_clear_error(capsys.readouterr(), message)


@pytest.mark.parametrize("must", ["", "--must depth=2"])
@pytest.mark.parametrize("confidence", ["0.5", "0.9"])
def test_a_budget_of_the_total_that_was_printed_gives_the_same_plan(table, must, confidence):
    flags = [
        "--runs_agg",
        table,
        "--epochs",
        10,
        "--confidence",
        confidence,
        "--overhead_sec",
        6.00012345,
        *must.split(),
    ]
    first = answer_of(*flags, "--budget_sec", 60 if not must else 600)
    again = answer_of(*flags, "--budget_sec", repr(first["upper_sec"]))
    assert batches(again) == batches(first)
    assert again["upper_sec"] <= first["upper_sec"]
    assert again["is_proven_optimal"]


def test_more_candidates_than_can_be_compared_are_one_clear_error(table, capsys, monkeypatch):
    monkeypatch.setattr("epochcast.planner.request.plan_budget.MAX_CANDIDATES", 2)
    flags = ["--budget_sec", "600", "--epochs", "10", "--runs_agg", str(table)]
    assert main(flags) == 1
    assert_one_clear_error(capsys.readouterr(), "3 candidates: at most 2 are taken. Leave some out: --exclude")
    assert main([*flags, "--exclude", "batch_size=64"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("epochcast.planner.request.sources.MAX_ROWS", 2)
    assert main(flags) == 1
    assert_one_clear_error(capsys.readouterr(), "table.csv: 3 configurations of one set of conditions: at most 2 are")
    monkeypatch.setattr("epochcast.planner.plan.information.MOST_FOR_INFO", 3)
    with pytest.raises(ValueError, match="info compares each configuration with every other: 4, "):
        make_plan(random_runs(1, n=4), Budget(100.0), INFO)
