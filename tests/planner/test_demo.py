"""The demonstration: what it leaves behind, what its closing screen says, and that it loses nothing."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import time
from types import SimpleNamespace

import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.collect.grid import host_now
from epochcast.collect.grid import wall_estimate as estimate
from epochcast.collect.grid.specs import grid_runs
from epochcast.collect.run.device_lock import Sharing
from epochcast.guard import EXIT_INTERRUPTED
from epochcast.interval import Interval
from epochcast.machine.host.host import cpu_count
from epochcast.model.answers.prediction import predict
from epochcast.model.evaluation import evaluation
from epochcast.model.evaluation.report import ErrorTable, MetricSpreads, ModelErrors, Spread
from epochcast.model.time_model.saved_model import Choice, load_model
from epochcast.paths import CODE_ROOT, pretrained_dir
from epochcast.planner import demo
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.candidates import CostRules
from epochcast.planner.costs.make_candidates import make_candidates
from epochcast.planner.costs.values import VALUES
from epochcast.planner.costs.wishes import Wishes, select
from epochcast.planner.plan.make_plan import make_plan
from epochcast.schema import RunConfig, RunRecord, RunSpec
from epochcast.storage.cells import columns
from epochcast.storage.tables import RunTable, write_table
from tests.support.light_child import command, isolate
from tests.support.machines.made_up_host import others_use
from tests.support.rows import BOX, run_row

HERE = dataclasses.replace(
    BOX,
    device_name="AMD EPYC 9B14 (2 cores)",
    jit_compile="off",
    pipeline="tfdata",
    timing_mode="steps_extrapolated",
    window_steps=demo.WINDOW_STEPS,
)


def demo_rows(conditions=HERE, test_acc=None):
    """Twelve windowed runs as the demonstration measures them, their seconds made up from a plain law."""
    rows = []
    for i, spec in enumerate(demo.demo_specs()):
        window = 0.0005 * spec.batch_size**0.8 * spec.base_filters**0.6 * spec.depth**0.3
        times = (window + 1.5, *[window] * (demo.WINDOWS - 1))
        config = (spec.depth, spec.base_filters, spec.batch_size)
        rows.append(
            run_row(times, config=config, run_id=f"r{i}", test_acc=test_acc, conditions=conditions, overhead_sec=7.0)
        )
    return rows


# --- the grid --------------------------------------------------------------------------------------------------------


def test_the_grid_is_twelve_windowed_runs_without_the_configuration_that_is_predicted():
    specs = demo.demo_specs()
    assert len(set(specs)) == 12
    assert {(spec.epochs, spec.window_steps) for spec in specs} == {(demo.WINDOWS, demo.WINDOW_STEPS)}
    assert demo.NEW_CONFIG not in {spec.config for spec in specs}
    for name, values in demo.GRID.items():  # and it lies within, so that the prediction is no extrapolation
        assert min(values) <= getattr(demo.NEW_CONFIG, name) <= max(values)


# --- everything after measuring --------------------------------------------------------------------------------------


def test_what_was_measured_becomes_averages_figures_a_model_a_prediction_and_a_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "draw_evaluation", lambda *_: [])  # only time: test_evaluate.py draws the figures
    folder = tmp_path / "my demo"
    write_table(folder / "runs.csv", demo_rows(), RunRecord)
    (folder / "logs").mkdir()
    screen = demo.learn_and_plan(folder)
    assert "rows_read: 12 (used 12, left out as flagged 0, excluded 0)" in capsys.readouterr().out
    text = "\n".join(screen)
    assert f"=== Epochcast on {HERE.device_name} ===" in screen
    assert "12 runs of 12 configurations, tensorflow 2.21, float32, real CIFAR-10 images" in text
    assert f"windows of {demo.WINDOW_STEPS} steps, extrapolated to 50,000 images/epoch" in text
    assert "on unseen configurations, leave-one-out, 1 repeat" in text  # too few rows for folds
    assert "prediction  (3,16,192), never measured: " in text
    plan = json.loads((folder / "plan.json").read_text())
    assert f"plan        10 min 00 s: {len(plan['chosen'])} runs of 5 epochs in " in text
    assert "proven optimal for the number of runs:" in text
    assert {RunSpec(**run["spec"]).window_steps for run in plan["chosen"]} == {None}
    commands = screen[-3:]
    assert f"epochcast predict --model '{folder / 'models' / 'demo.keras'}'" in commands[0]
    assert f"epochcast plan --budget 30m --epochs 10 --runs_agg '{folder / 'runs_agg.csv'}'" in commands[1]
    assert f"epochcast run_plan '{folder / 'plan.json'}'" in commands[2]
    for line in commands[:2]:  # as they are pasted, from any folder
        typed = line.removeprefix("next").strip()
        assert subprocess.run(["sh", "-c", typed], capture_output=True, timeout=60, check=False).returncode == 0
    files = [line.removeprefix("files").strip() for line in screen[:-3] if str(tmp_path) in line]
    names = ["runs.csv", "runs_agg.csv", "figures", "models/demo.keras", "evaluation/report.md", "plan.json", "logs"]
    assert sorted(files) == sorted(str(folder / name) for name in names)
    for name in [*names, "models/demo.json", "figures/throughput_against_batch_size.png", "evaluation/report.json"]:
        assert (folder / name).exists(), name
    assert [path.name for path in tmp_path.iterdir()] == ["my demo"]
    card = json.loads((folder / "models" / "demo.json").read_text())
    assert card["conditions"]["device_name"] == HERE.device_name
    # the seconds follow a law, which a prediction between the measured sizes can't miss by much
    law = 0.0005 * 192**0.8 * 16**0.6 * 3**0.3 * (261 / demo.WINDOW_STEPS)
    (line,) = [line for line in screen if line.startswith("prediction")]
    assert re.search(r" s/epoch \(90 % interval ±\S+ %\), \S+ images/s$", line)
    assert float(line.split(": ")[1].split()[0].replace(",", "")) == pytest.approx(law, rel=0.1)


def test_runs_of_two_boxes_are_not_learned_from_together(tmp_path):
    rows = [*demo_rows(), *demo_rows(dataclasses.replace(HERE, device_name="NVIDIA H200"))]
    write_table(tmp_path / "runs.csv", rows, RunRecord)
    with pytest.raises(ValueError, match=r"mixes 2 sets of conditions: this box has changed .* make run FRESH=1"):
        demo.learn_and_plan(tmp_path)


# --- the closing screen ----------------------------------------------------------------------------------------------


def screen_of(
    tmp_path, *, physics=0.02, linear=0.05, answered=12, test_acc=None, dataset="cifar10", std=0.001, half=0.05
):
    """The closing screen of a demonstration whose models had these errors."""
    rows = demo_rows(dataclasses.replace(HERE, dataset=dataset), test_acc)
    aggregation = aggregate(RunTable(tmp_path / "runs.csv", rows, []))
    errors = {"physics": (physics, 12), "linear_on_logs": (linear, answered)}
    unknown = Spread(None, None)
    metrics = {name: MetricSpreads(*[unknown] * 3, Spread(mean, std), unknown) for name, (mean, _) in errors.items()}
    models = {name: ModelErrors(n, metrics[name], metrics[name]) for name, (_, n) in errors.items()}
    report = ErrorTable("physics", "5-fold by configuration", 5, 12, models)
    saved = load_model(pretrained_dir() / "a100.keras")
    saved = dataclasses.replace(saved, widths=dataclasses.replace(saved.widths, within=half))
    prediction = predict(RunConfig(3, 16, 192), Choice(saved, "just trained"))
    times = dataclasses.replace(prediction.times, steady=Interval(12.34))
    prediction = dataclasses.replace(prediction, times=times)
    value = "acc" if test_acc is not None else "count"
    _, candidates, _ = select(make_candidates(aggregation.rows, None, CostRules(5)).candidates, VALUES[value], Wishes())
    plan = make_plan(candidates, Budget(600.0), VALUES[value])
    return "\n".join(
        demo.closing_screen(aggregation, report, prediction, plan, [tmp_path / "runs.csv", tmp_path / "runs_agg.csv"])
    )


def test_the_error_of_each_model_stands_with_its_spread_and_what_it_answered(tmp_path):
    text = screen_of(tmp_path)
    rows = [line.split() for line in text.splitlines()]
    assert ["physics", "alone", "2.00", "%", "±", "0.100", "%", "12", "of", "12"] in rows
    assert ["linear", "on", "logs", "5.00", "%", "±", "0.100", "%", "12", "of", "12"] in rows
    assert "predicts better" not in text
    assert "(3,16,192), never measured: 12.3 s/epoch (90 % interval ±5.13 %), 4,050 images/s" in text
    bare = screen_of(tmp_path, std=None, half=None)  # one repeat has no spread, few rows have no interval
    assert "±" not in bare
    assert "12.3 s/epoch (90 % interval unknown)" in bare


def test_a_baseline_that_predicts_better_is_admitted_if_it_answers_everywhere(tmp_path):
    admitted = "linear on logs predicts better than the model: 12 configurations are few"
    assert admitted in screen_of(tmp_path, linear=0.01)
    assert "predicts better" not in screen_of(tmp_path, linear=0.01, answered=8)
    text = screen_of(tmp_path, linear=None, answered=0, std=None)  # a baseline that answers nothing
    assert "predicts better" not in text
    assert ["linear", "on", "logs", "-", "0", "of", "12"] in [line.split() for line in text.splitlines()]


def test_the_plan_says_what_it_maximises(tmp_path):
    assert "proven optimal for the number of runs:" in screen_of(tmp_path)
    assert "proven optimal for the sum of acc:" in screen_of(tmp_path, test_acc=0.5)


def test_made_up_images_are_called_so(tmp_path):
    assert "real CIFAR-10 images" in screen_of(tmp_path)
    assert "synthetic images (no real ones found)" in screen_of(tmp_path, dataset="synthetic")


# --- starting over, and the command ----------------------------------------------------------------------------------


@pytest.fixture
def folder(home):
    """The demonstration's folder in a home of its own."""
    return home / "results" / "demo"


def finished(**more):
    return SimpleNamespace(**{"was_interrupted": False, "is_out_of_time": False, "failures": [], **more})


# --- the time that it takes ------------------------------------------------------------------------------------------

FASTER = 200  # than assumed is the made-up box, so that a test takes seconds


@pytest.fixture
def small_box(folder, monkeypatch):
    """A box of which short runs and quick learning are assumed."""
    real = estimate.assumption

    def assumed(name, kind):
        known = real(name, kind)
        return dataclasses.replace(known, value=known.value * (FASTER if "flops" in name else 1 / FASTER))

    isolate(monkeypatch, folder.parents[1], folder.parents[1] / "trace")
    monkeypatch.setattr(estimate, "assumption", assumed)
    monkeypatch.setattr(demo, "learn_sec", lambda: 0.25)
    monkeypatch.setattr(host_now, "LOOK_SEC", 0.25)
    monkeypatch.setattr(host_now, "load_average", lambda: None)  # that of the real box
    return folder


@pytest.mark.parametrize(
    ("share", "pace"),
    [
        pytest.param(0.0, 0.0, marks=pytest.mark.slow),
        (0.7, 0.2),
        pytest.param(1.0, 1.0, marks=pytest.mark.slow),
        (1.0, 60.0),
    ],
)
def test_it_ends_within_twice_its_estimate_however_busy_the_host(small_box, monkeypatch, share, pace):
    others_use(share * cpu_count(), monkeypatch)
    start = time.monotonic()
    said = []
    result = demo.measure_in_time(small_box, "cpu", Sharing(), said.append, command("paced", str(pace)))
    took_sec = time.monotonic() - start
    promised = re.match(r"about (\d+) s in all, at most (\d+) s; other programs use \S+ of \S+ cores now", said[0])
    about_sec, most_sec = map(int, promised.groups())
    assert most_sec <= 2 * about_sec + 1  # both are rounded
    assert took_sec + 0.25 * (1 + share) < most_sec + 3  # ending a process takes its time on a busy box
    if pace >= 1:
        assert result.is_out_of_time
        assert len(result.measured) < 12


def test_the_estimate_is_that_of_what_is_left_and_counts_the_host_until_the_box_has_rows(small_box, monkeypatch):
    others_use(0.0, monkeypatch)
    quiet, _ = demo.expected_sec(small_box, "cpu")
    others_use(0.7 * cpu_count(), monkeypatch)
    busy, host = demo.expected_sec(small_box, "cpu")
    assert host.slowdown == pytest.approx(1.7, abs=0.2)
    assert busy == pytest.approx(host.slowdown * quiet, rel=0.01)
    others_use(0.0, monkeypatch)
    names = [item.run_id for item in grid_runs(demo.demo_specs("cpu"), 1, {})]
    rows = [dataclasses.replace(row, run_id=name) for row, name in zip(demo_rows(), names, strict=True)]
    write_table(small_box / "runs.csv", rows, RunRecord)
    left, _ = demo.expected_sec(small_box, "cpu")
    assert left == pytest.approx(0.25)  # learning


def test_too_few_runs_in_the_time_promised_are_said_with_what_goes_on(folder, monkeypatch, capsys):
    monkeypatch.setattr(demo, "measure_in_time", lambda *asked: finished(is_out_of_time=True))
    assert demo.main([]) == 1
    assert "error: 0 runs done in the time promised, 6 are needed: `make run` goes" in capsys.readouterr().err


def test_starting_over_moves_aside_and_deletes_nothing(folder):
    assert demo.start_over(folder) is None
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "a.log").write_text("seconds")
    aside = demo.start_over(folder)
    assert not folder.exists()
    assert aside.parent == folder.parent
    assert aside.name.startswith("demo-until-2")
    assert (aside / "logs" / "a.log").read_text() == "seconds"


def test_starting_over_twice_in_a_second_keeps_both(folder):
    kept = []
    for text in ("first", "second"):
        folder.mkdir(parents=True)
        (folder / "runs.csv").write_text(text)
        kept.append(demo.start_over(folder))
    assert [(aside / "runs.csv").read_text() for aside in kept] == ["first", "second"]


def test_the_command_measures_learns_and_ends_with_the_screen(folder, monkeypatch, capsys):
    folder.mkdir(parents=True)
    monkeypatch.setattr(demo, "measure_in_time", lambda *asked: finished())
    monkeypatch.setattr(demo, "learn_and_plan", lambda asked: [f"screen of {asked}"])
    assert demo.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [f"screen of {folder}"]
    assert demo.main(["--fresh"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"moved the earlier results to {folder}-until-")
    assert last == f"screen of {folder}"


def test_a_run_that_failed_or_an_interruption_shows_in_the_exit_code(folder, monkeypatch, capsys):
    monkeypatch.setattr(demo, "learn_and_plan", lambda asked: ["screen"])
    monkeypatch.setattr(demo, "measure_in_time", lambda *asked: finished(failures=["one"]))
    assert demo.main([]) == 1
    assert capsys.readouterr().out.splitlines() == ["screen", f"1 runs failed: see {folder / 'failures.csv'}"]
    monkeypatch.setattr(demo, "measure_in_time", lambda *asked: finished(was_interrupted=True))
    assert demo.main([]) == EXIT_INTERRUPTED
    assert capsys.readouterr().out == ""


def test_too_few_measured_runs_are_one_clear_error(folder, monkeypatch, capsys):
    monkeypatch.setattr(demo, "measure_in_time", lambda *asked: finished())
    assert demo.main([]) == 1
    assert "no such table. Measure something first" in capsys.readouterr().err


def test_a_demonstration_of_an_earlier_version_goes_on_in_its_table(folder, monkeypatch):
    folder.mkdir(parents=True, exist_ok=True)
    older = (CODE_ROOT / "results" / "cpu" / "jax" / "runs.csv").read_text()
    (folder / "runs.csv").write_text(older)
    monkeypatch.setattr(demo, "run_grid", lambda planned, place, *how: place.runs)
    runs = demo.measure(folder)
    lifted = runs.read_text().splitlines()
    assert lifted[0].split(",") == columns(RunRecord)
    assert len(lifted) == len(older.splitlines())
    assert (folder / "runs.csv.schema1").read_text() == older
