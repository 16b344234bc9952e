"""Once this box has a model it answers every command, and marks what lies outside what was measured."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import asdict, replace

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.machine.gpu import driver_signs
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model import explain, next_runs, predict_perf
from epochcast.model.time_model import saved_model as predictor
from epochcast.model.time_model.intervals import MIN_ERRORS, Widths
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.training.save import train
from epochcast.paths import demo_dir, models_dir, pretrained_dir
from epochcast.planner import dp_budget_planner
from epochcast.schema import Conditions, RunConfig
from tests.support.cli import run_cli
from tests.support.rows import agg_row

IMAGES = 2048
CONFIGS = [RunConfig(depth, filters, batch) for depth in (2, 3) for filters in (8, 16) for batch in (64, 128, 256)]


def conditions_here(**changes):
    """What rows of this box were measured under."""
    values = {"backend": "tensorflow", "backend_version": "2.21", "precision": "float32", "tf32": "off"}
    values |= {"pipeline": "tfdata", "jit_compile": "off", "steps_per_execution": 1, "dataset": "synthetic"}
    return Conditions(device_name=box_device_name(), train_n=IMAGES, timing_mode="full_epoch", **values | changes)


def rows_here(n):
    """Rows of this box whose seconds follow a law, a few percent off."""
    found = []
    for i, config in enumerate(CONFIGS[:n]):
        seconds = 0.1 + IMAGES * 2e-6 * config.depth * config.base_filters + 2e-3 * config.steps_per_epoch(IMAGES)
        seconds *= 1.0 + 0.03 * (-1) ** i
        known = {name: value for name, value in asdict(conditions_here()).items() if value is not None}
        known |= {"first_epoch_sec_mean": seconds + 1.5, "overhead_sec_mean": 6.0}
        found.append(agg_row(config.depth, config.base_filters, config.batch_size, seconds, **known))
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of models of this box, by the number of configurations that each learned from."""
    folders = {n: tmp_path_factory.mktemp(f"own{n}") for n in (6, 8, 9, 12)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_signs, "NVIDIA_PROC", folders[6] / "no driver")
        for n, folder in folders.items():
            train(rows_here(n), folder / "own.keras")
    return folders


@pytest.fixture(autouse=True)
def home(home, monkeypatch):
    """An empty home on a box without a GPU."""
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", home / "no driver")
    return home


@pytest.fixture
def own(trained):
    """This box's model of twelve configurations, where `train` puts it."""
    shutil.copytree(trained[12], models_dir())
    return models_dir() / "own.keras"


def answers_of(command, *flags, code=0):
    return run_cli(command, *flags, "--json", code=code).json


SIZES = {16: "far", 32: "beyond", 64: "within", 128: "within", 256: "within", 512: "beyond", 1024: "far"}


@pytest.mark.parametrize("sizes", [list(SIZES), [32], [1024, 64], [512, 32]])
def test_every_batch_size_is_answered_by_this_box_and_marked(own, sizes):
    flags = ("--depth", 3, "--base_filters", 16, "--batch_size", ",".join(map(str, sizes)))
    told = answers_of(predict_perf.main, *flags)
    saved = load_model(own)
    for size, answer in zip(sizes, told.get("predictions", [told]), strict=True):
        assert (answer["model"], answer["is_this_box"], answer["device"]) == (str(own), True, box_device_name())
        assert answer["domain"] == SIZES[size]
        assert answer["predicted_avg_time_sec"] == saved.time_model.times([RunConfig(3, 16, size)])[0]
        assert answer["predicted_images_per_sec_derived"] == IMAGES / answer["predicted_avg_time_sec"]
        assert (answer["train_n"], answer["steps_per_epoch"]) == (IMAGES, -(-IMAGES // size))
        assert (answer["predicted_avg_time_sec_low"] is None) == (SIZES[size] == "far")
    first = run_cli(predict_perf.main, *flags).out.splitlines()[0]
    assert first == (
        f"device: this box ({box_device_name()}), epochs of 2,048 images, tensorflow 2.21, float32; model own.keras"
    )


@pytest.mark.parametrize("flags", [(), ("--depth", 5), ("--depth", 4, "--base_filters", 64), ("--base_filters", 12)])
def test_no_configuration_makes_another_device_answer(own, flags):
    for command in (predict_perf.main, explain.main):
        answer = answers_of(command, *flags)
        assert (answer["model"], answer["is_this_box"], answer["train_n"]) == (str(own), True, IMAGES)
        assert answer["domain"] in ("within", "beyond", "far")


def test_another_device_answers_only_where_it_is_named(own):
    pretrained = pretrained_dir() / "a100.keras"
    named = answers_of(predict_perf.main, "--model", pretrained)
    assert (named["model"], named["is_this_box"], named["train_n"]) == (str(pretrained), False, 50_000)
    assert answers_of(predict_perf.main, "--conditions", "train_n=50000")["model"] == str(pretrained)


def test_on_a_box_of_a_processor_other_gpus_are_answered_by_the_pretrained_model_and_said_so(own):
    flags = ("--depth", 3, "--base_filters", 16, "--batch_size", 128, "--gpu", "T4;H100 SXM5")
    answer = answers_of(predict_perf.main, *flags)
    assert (answer["model"], answer["train_n"]) == (str(own), IMAGES)
    assert {(gpu["train_n"], gpu["model"]) for gpu in answer["gpus"]} == {
        (50_000, str(pretrained_dir() / "a100.keras"))
    }
    assert all(
        gpu["predicted_images_per_sec_derived"] == 50_000 / gpu["predicted_avg_time_sec"] for gpu in answer["gpus"]
    )
    out = run_cli(predict_perf.main, *flags).out
    assert "\non other GPUs: epochs of 50,000 images, by the pretrained model, as nothing scales from " in out
    saved = load_model(pretrained_dir() / "a100.keras")
    (alone,) = answers_of(predict_perf.main, *flags[:-1], "T4", "--model", saved.path)["gpus"]
    assert alone in answer["gpus"]


@pytest.mark.parametrize(
    ("depth", "base_filters", "domain", "words"),
    [
        (2, 8, "beyond", "beyond, base_filters 8 was never measured (16 to 128 were): extrapolating"),
        (1, 4, "far", "depth 1 was never measured (2 to 5 were), base_filters 4 was never measured (16 to 128 were): "),
        (3, 16, "within", None),
    ],
)
def test_what_lies_outside_the_pretrained_model_s_range_is_marked_beside_other_gpus(
    own, depth, base_filters, domain, words
):
    flags = ("--depth", depth, "--base_filters", base_filters, "--batch_size", "64,128", "--gpu", "T4")
    for answer in answers_of(predict_perf.main, *flags)["predictions"]:
        assert [gpu["domain"] for gpu in answer["gpus"]] == [domain]
        assert bool(answer["gpus"][0]["outside"]) == (domain != "within")
    _, others = run_cli(predict_perf.main, *flags).out.split("on other GPUs: ")
    told = [line for line in others.splitlines() if line.startswith("domain of a100.keras: ")]
    assert len(told) == (0 if words is None else 2)  # one of each batch size
    assert all(words in line for line in told)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small network of convolutions as Keras saves it."""
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    path = tmp_path_factory.mktemp("network") / "own network.keras"
    keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3)]).save(path)
    return path


@pytest.mark.parametrize("n", [8, 12])
def test_a_network_is_no_surer_than_the_model_s_own_range(trained, network, n, monkeypatch):
    shutil.copytree(trained[n], models_dir())
    answer = answers_of(explain.main, "--network", network, "--train_n", 640, "--batch_size", 64)
    value, low = answer["predicted_avg_time_sec"], answer["predicted_avg_time_sec_low"]
    bar = assumption("other_network_bar_convolutional", "gpu").value
    if n < MIN_ERRORS:
        assert low is None
        assert "the model's own range unknown; 1 more configuration gives a range" in answer["basis_words"]
        return
    assert value / low == pytest.approx(bar)
    wide = replace(load_model(models_dir() / "own.keras"), widths=Widths(math.log(7.0), None, n))
    monkeypatch.setattr(predictor, "load_model", lambda path: wide)
    answer = answers_of(explain.main, "--network", network, "--train_n", 640, "--batch_size", 64)
    assert answer["predicted_avg_time_sec_high"] == pytest.approx(7.0 * value)
    assert "within a factor of 7, " in answer["basis_words"]


def test_the_demonstration_s_model_counts_as_this_box_s_until_one_is_trained(trained):
    shutil.copytree(trained[8], demo_dir() / "models")
    assert answers_of(predict_perf.main)["model"] == str(demo_dir() / "models" / "own.keras")
    shutil.copytree(trained[12], models_dir())
    assert answers_of(predict_perf.main)["model"] == str(models_dir() / "own.keras")


@pytest.mark.parametrize(("n", "words"), [(6, "3 more configurations give"), (8, "1 more configuration gives")])
def test_too_few_configurations_say_how_many_more_give_a_range(trained, n, words):
    shutil.copytree(trained[n], models_dir())
    flags = ("--depth", 2, "--base_filters", 8, "--batch_size")
    answer = answers_of(predict_perf.main, *flags, 128)
    assert answer["more_configurations_for_range"] == MIN_ERRORS - n
    assert (answer["domain"], answer["predicted_avg_time_sec_low"]) == ("within", None)
    for sizes in ("128", "64,128"):
        out = run_cli(predict_perf.main, *flags, sizes).out
        assert len(re.findall(rf"within.*: range unknown; {words} a range", out)) == 1


@pytest.mark.parametrize("n", [6, 8])
def test_explain_and_plan_say_how_many_more_configurations_give_a_range_too(trained, n):
    shutil.copytree(trained[n], models_dir())
    more = f"{MIN_ERRORS - n} more configuration"
    explained = run_cli(explain.main, "--depth", 2, "--base_filters", 8, "--batch_size", 128).out
    assert "(interval unknown)" in explained
    assert re.search(rf"basis: the model's prediction; within: range unknown; {more}s? gives? a range\n", explained)
    assert "90 % interval" not in explained
    outside = run_cli(explain.main, "--depth", 9, "--base_filters", 8, "--batch_size", 128).out
    assert "; far: no range is known there; " + more in outside
    told = answers_of(predict_perf.main, "--depth", 9, "--base_filters", 8, "--batch_size", 128)
    assert told["range_unknown"].startswith("no range is known there; " + more)
    planned = run_cli(dp_budget_planner.main, "--budget", "5m", "--epochs", 4, "--overhead_sec", 5).out
    assert f"(within: range unknown; {more}" in planned


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_explain_says_as_predict_perf_does_that_a_run_here_takes_another_backend(monkeypatch, own, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    note = "backend tensorflow, here jax: what that changes is not known"
    assert (note in run_cli(predict_perf.main).out) == (backend == "jax")
    assert (f"note: {note}\n" in run_cli(explain.main).out) == (backend == "jax")


def test_as_many_configurations_as_next_runs_names_give_a_range(trained):
    assert next_runs.DEFAULT_RUNS == MIN_ERRORS
    shutil.copytree(trained[next_runs.DEFAULT_RUNS], models_dir())
    answer = answers_of(predict_perf.main, "--depth", 2, "--base_filters", 8, "--batch_size", 128)
    assert answer["more_configurations_for_range"] == 0
    assert answer["predicted_avg_time_sec_low"] < answer["predicted_avg_time_sec"]


@pytest.mark.parametrize("n_failing", [1, 2])
def test_a_row_so_far_outside_that_it_has_no_number_is_its_own_error(own, monkeypatch, n_failing):
    sizes = [64, 128, 256, 512]
    configs = [RunConfig(3, 16, size) for size in sizes]
    times = load_model(own).time_model.times(configs)
    logs = sorted(abs(math.log(seconds)) for seconds in times)
    monkeypatch.setattr(
        "epochcast.model.time_model.time_model.LARGEST_LOG_TIME", (logs[-n_failing] + logs[-n_failing - 1]) / 2
    )
    flags = ("--depth", 3, "--base_filters", 16, "--batch_size", "64:512:x2")
    told = answers_of(predict_perf.main, *flags, code=1)["predictions"]
    failed = [answer for answer in told if "problem" in answer]
    assert len(failed) == n_failing
    assert {answer["model"] for answer in told} == {str(own)}
    for answer in failed:
        assert (answer["domain"], answer["predicted_avg_time_sec"]) == ("far", None)
        assert answer["problem"].endswith("too far outside what the model learned from to be predicted at all.")
    out = run_cli(predict_perf.main, *flags, code=1).out
    assert out.count("to be predicted at all.") == n_failing
    assert [line.split()[0] for line in out.splitlines() if line.endswith("  far")] == [
        str(answer["batch_size"]) for answer in failed
    ]


def test_plan_next_runs_and_explain_start_from_this_box_s_model(own):
    answer = answers_of(dp_budget_planner.main, "--budget_sec", 600, "--epochs", 5)
    assert answer["model"]["path"] == str(own)
    assert answer["conditions"]["train_n"] == IMAGES
    notes = " ".join(answer["notes"])
    assert f"predictions for {box_device_name()}" in notes
    assert "NOT this box" not in notes
    source = answers_of(next_runs.main, "--n", 1)["ratios_from"]
    assert source == f"own.keras (this box: {box_device_name()}; epochs of 2,048 images)"
    first = run_cli(explain.main).out.splitlines()[0]
    assert first == f"explained: this box ({box_device_name()}), epochs of 2,048 images, float32; model own.keras"


def footprint_of(*flags):
    (found,) = answers_of(predict_perf.main, "--epochs", 50, "--region", "DE", *flags)["footprints"]
    return found


@pytest.mark.parametrize(
    ("flags", "watts", "board_w"),
    [
        (("--host_w", 150), 150.0, None),
        (("--board_w", 65), 65.0, 65.0),
        (("--board_w", 65, "--host_w", 40), 105.0, 65.0),
        (("--host_w", 150, "--pue", 1.5), 225.0, None),
    ],
)
def test_on_a_processor_watts_by_hand_give_energy_money_and_co2(own, flags, watts, board_w):
    config = ("--depth", 3, "--base_filters", 16, "--batch_size", 128)
    wall = answers_of(predict_perf.main, *config, "--epochs", 50)["wall_sec"]
    found = footprint_of(*config, "--embodied", *flags)
    assert found["wall_kwh"] == pytest.approx(watts * wall / 3.6e6)
    assert found["board_kwh"] == (None if board_w is None else pytest.approx(board_w * wall / 3.6e6))
    assert found["electricity_usd"] == pytest.approx(found["wall_kwh"] * found["usd_per_kwh"])
    assert found["operational_kg_co2e"] == pytest.approx(found["wall_kwh"] * found["gco2_per_kwh"] / 1000)
    assert (found["embodied_kg_co2e"], found["cloud_usd"]) == (None, None)  # no GPU is made or rented
    out = run_cli(predict_perf.main, *config, "--epochs", 50, "--region", "DE", *flags).out
    assert ("given by --board_w" in out) == (board_w is not None)
    assert ("the whole box at 150 W" in out) == (board_w is None)


def test_on_a_processor_nothing_given_is_unknown_and_the_flags_that_help_are_named(own):
    found = footprint_of()
    assert (found["wall_kwh"], found["electricity_usd"], found["operational_kg_co2e"]) == (None, None, None)
    out = run_cli(predict_perf.main, "--epochs", 50, "--region", "DE").out
    assert "say --board_w; on a processor --host_w of the box is enough" in out
    err = run_cli(dp_budget_planner.main, "--budget_kwh", 0.1, code=1).err
    assert "Say what it draws with --board_w" in err


@pytest.mark.parametrize("flags", [("--host_w", 150), ("--board_w", 100, "--host_w", 50)])
@pytest.mark.parametrize("budget", ["--budget_kwh", "--budget_usd", "--budget_kgco2"])
def test_on_a_processor_plans_of_energy_take_watts_by_hand(own, flags, budget):
    answer = answers_of(dp_budget_planner.main, budget, 0.005, "--epochs", 5, *flags)
    per_kwh = {"--budget_kwh": 1.0, "--budget_usd": 0.167, "--budget_kgco2": 0.445}[budget]
    total = answer[f"total_{budget.removeprefix('--budget_')}"]
    assert total == pytest.approx(150 * answer["total_sec"] / 3.6e6 * per_kwh, rel=1e-3)  # rounded up per run


@pytest.mark.parametrize("gpus", [("--all_gpus",), ("--gpu", "T4;L4")])
def test_watts_by_hand_are_of_one_device(capsys, gpus):
    with pytest.raises(SystemExit) as end:
        predict_perf.main(["--epochs", "5", "--board_w", "70", *gpus])
    assert end.value.code == 2
    assert "--board_w is the power of one device" in capsys.readouterr().err


def test_watts_by_hand_are_those_of_the_one_gpu_that_is_named():
    flags = ("--epochs", 50, "--gpu", "T4", "--board_w", 60)
    (gpu,) = answers_of(predict_perf.main, *flags)["gpus"]
    (found,) = gpu["footprints"]
    assert found["board_kwh"] == pytest.approx(60 * gpu["wall_sec"] / 3.6e6)
    assert found["energy_method"].startswith("60 W given by --board_w")
