"""`predict_perf` as a user sees it: one answer, what it rests on, and nothing slow behind it."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from itertools import product

import pytest

from epochcast.facts.tables import gpus
from epochcast.gpus.board_power import board_power
from epochcast.machine.gpu import driver_signs
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model import predict_perf
from epochcast.model.answers.prediction import predict
from epochcast.model.answers.prediction_figure import draw_batches
from epochcast.model.time_model.card import card_sha256
from epochcast.model.time_model.physics import device_share
from epochcast.model.time_model.saved_model import choose_model, load_model
from epochcast.output.text import percent
from epochcast.paths import CODE_ROOT, models_dir, pretrained_dir, runs_agg_csv
from epochcast.schema import DEFAULT_CONFIG, AggRow, Conditions, RunConfig
from epochcast.storage.cells import columns
from epochcast.storage.tables import write_table
from epochcast.workload.shape import count_params, work_of
from tests.support.cli import run_cli
from tests.support.rows import agg_row

PRETRAINED = pretrained_dir() / "a100.keras"
SLOW = ("tensorflow", "keras", "pandas", "sklearn", "matplotlib", "jax")


pytestmark = pytest.mark.usefixtures("home")


def changed_copy(folder, name="copy", **changes):
    """A copy of the shipped model whose card says something else, sealed again."""
    shutil.copy(PRETRAINED, folder / f"{name}.keras")
    card = {**json.loads(PRETRAINED.with_suffix(".json").read_text()), **changes}
    (folder / f"{name}.json").write_text(json.dumps({**card, "card_sha256": card_sha256(card)}))
    return folder / f"{name}.keras"


def ask(*flags, code=0):
    """What the command prints."""
    return run_cli(predict_perf.main, *flags, code=code)


def ask_json(*flags):
    return ask(*flags, "--json").json


def ask_lines(*flags):
    """The `name: value` lines as a dictionary, in order."""
    return dict(line.split(": ", 1) for line in ask(*flags).out.splitlines())


def test_json_holds_the_model_s_own_numbers_and_throughput_derived_from_time():
    answer = ask_json("--depth", 4, "--base_filters", 64, "--batch_size", 256)
    saved = load_model(PRETRAINED)
    assert answer["predicted_avg_time_sec"] == saved.time_model.times([RunConfig(4, 64, 256)])[0]
    assert answer["predicted_images_per_sec_derived"] == 50_000 / answer["predicted_avg_time_sec"]
    assert (answer["form"], answer["coverage"], answer["domain"]) == ("physics_ann", 0.9, "within")
    assert answer["half_width_log"] == saved.widths.within
    assert (answer["in_range"], answer["domain"], answer["outside"]) == (True, "within", [])
    assert (answer["is_this_box"], answer["train_n"]) == (False, 50_000)
    assert answer["steps_per_epoch"] == 196
    assert answer["params"] == count_params(RunConfig(4, 64))
    assert answer["model"] == str(PRETRAINED)
    assert answer["device"] == "NVIDIA A100 80GB PCIe"
    assert answer["this_box"] == box_device_name()
    assert answer["answered_because"].startswith("the pretrained model, as no local one fits: none in ")
    assert Conditions(**answer["conditions"]) == saved.conditions
    assert answer["declared_conditions"] == saved.card["declared"]
    assert answer["error"] == saved.card["errors"]


def test_lines_say_the_same_in_words():
    flags = ("--depth", 3, "--base_filters", 32, "--batch_size", 512)
    lines, answer = ask_lines(*flags), ask_json(*flags)
    assert float(lines["predicted_avg_time_sec"]) == pytest.approx(
        answer["predicted_avg_time_sec"], rel=5e-3
    )  # 3 digits
    throughput = float(lines["predicted_images_per_sec_derived"].replace(",", ""))
    assert throughput == pytest.approx(answer["predicted_images_per_sec_derived"], rel=5e-3)
    assert lines["model"] == str(PRETRAINED)
    assert lines["answered_because"] == answer["answered_because"]
    assert lines["device"] == (
        f"NVIDIA A100 80GB PCIe (NOT this box: {box_device_name()}), epochs of 50,000 images, tensorflow 2.20, "
        "float32; model a100.keras"
    )
    assert next(iter(lines)) == "device"
    assert lines["conditions"].startswith("device_name=NVIDIA A100 80GB PCIe, backend=tensorflow")
    assert lines["error"].startswith("MAPE ")
    assert lines["error"].endswith("(5-fold by configuration, n = 138)")
    assert lines["domain"] == f"within: ±{100 * math.expm1(answer['half_width_log']):.2f} %"
    assert "epochs" not in lines
    for name in ("predicted_avg_time_sec", "predicted_images_per_sec_derived"):
        low, high = (float(end.replace(",", "")) for end in lines[f"{name}_90"].split(" to "))
        assert (low, high) == pytest.approx((answer[f"{name}_low"], answer[f"{name}_high"]), rel=5e-3)  # 3 digits


def test_without_flags_the_default_configuration_is_asked_for():
    answer = ask_json()
    assert RunConfig(answer["depth"], answer["base_filters"], answer["batch_size"]) == DEFAULT_CONFIG == RunConfig()


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "batch_size"), [*product([1, 2, 4, 6], [48, 2048]), *product([2, 4], [16, 4096])])
def test_a_prediction_lies_in_its_interval_and_throughput_s_is_images_over_time_s(depth, batch_size):
    answer = ask_json("--depth", depth, "--batch_size", batch_size)
    low, value, high = (answer[f"predicted_avg_time_sec{end}"] for end in ("_low", "", "_high"))
    assert 0 < low < value < high
    assert (math.log(high / value), math.log(value / low)) == pytest.approx([answer["half_width_log"]] * 2)
    rate = [answer[f"predicted_images_per_sec_derived{end}"] for end in ("_low", "", "_high")]
    assert rate == [50_000 / high, 50_000 / value, 50_000 / low]


def test_outside_the_range_both_forms_say_what_was_never_measured_and_widen():
    flags = ("--depth", 6, "--batch_size", 64)
    answer, inside = ask_json(*flags), ask_json()
    assert (answer["in_range"], answer["domain"]) == (False, "beyond")
    assert answer["outside"] == ["depth 6 was never measured (2 to 5 were)"]
    assert answer["half_width_log"] > inside["half_width_log"]
    width = f"±{100 * math.expm1(answer['half_width_log']):.2f} %"
    assert ask_lines(*flags)["domain"] == f"beyond, {answer['outside'][0]}: extrapolating, {width}"


FAR = {
    ("--depth", 9): "depth 9 was never measured (2 to 5 were)",
    ("--depth", 6, "--batch_size", 16): (
        "depth 6 was never measured (2 to 5 were), batch_size 16 was never measured (32 to 2048 were)"
    ),
}


@pytest.mark.parametrize(("flags", "outside"), FAR.items(), ids=["depth 9", "two axes"])
def test_far_outside_or_by_two_axes_at_once_the_interval_is_unknown_in_both_forms(flags, outside):
    flags = (*flags, "--epochs", 10)
    answer, lines = ask_json(*flags), ask_lines(*flags)
    assert (answer["domain"], answer["half_width_log"]) == ("far", None)
    for name in ("predicted_avg_time_sec", "predicted_images_per_sec_derived", "first_epoch_sec", "wall_sec"):
        assert answer[name] > 0
        assert (answer[f"{name}_low"], answer[f"{name}_high"]) == (None, None)
        assert lines[f"{name}_90"] == "unknown"
    assert lines["domain"] == f"far, {outside}: extrapolating further than any check reaches: no range is known there"


# --- whole runs -------------------------------------------------------------------------------------------------------

RUN = ("first_epoch_sec", "overhead_sec", "training_sec", "wall_sec")


def test_a_number_of_epochs_gives_every_part_of_a_run_with_its_interval():
    answer, lines = ask_json("--epochs", 50), ask_lines("--epochs", 50)
    assert (answer["epochs"], lines["epochs"]) == (50, "50")
    for name in RUN:
        assert answer[f"{name}_low"] < answer[name] < answer[f"{name}_high"]
        assert float(lines[name].replace(",", "")) == pytest.approx(answer[name], rel=5e-3)  # 3 digits
        assert " to " in lines[f"{name}_90"]
    rest = 49 * answer["predicted_avg_time_sec"]
    assert answer["training_sec"] == pytest.approx(answer["first_epoch_sec"] + rest)
    assert answer["wall_sec"] == pytest.approx(answer["training_sec"] + answer["overhead_sec"])
    wall = load_model(PRETRAINED).forecast(DEFAULT_CONFIG, 50).run.wall
    assert [answer[f"wall_sec{end}"] for end in ("_low", "", "_high")] == [wall.low, wall.value, wall.high]


def test_without_epochs_no_run_is_predicted():
    assert not {*RUN, "epochs"} & set(ask_json())


@pytest.mark.parametrize(
    ("lacking", "unknown"),
    [
        ("overhead_sec", ("overhead_sec", "wall_sec")),
        ("first_epoch_excess_sec", ("first_epoch_sec", "training_sec", "wall_sec")),
    ],
)
def test_parts_that_the_rows_lacked_are_null_and_unknown(tmp_path, lacking, unknown):
    flags = ("--epochs", 50, "--model", changed_copy(tmp_path, **{lacking: None}))
    answer, lines = ask_json(*flags), ask_lines(*flags)
    for name in RUN:
        assert (answer[name] is None) == (answer[f"{name}_low"] is None) == (name in unknown)
        assert (lines[name] == "unknown") == (lines[f"{name}_90"] == "unknown") == (name in unknown)


# --- several batch sizes ----------------------------------------------------------------------------------------------


def test_several_batch_sizes_are_a_table_with_intervals():
    out = ask("--batch_size", "64:256:x2").out.splitlines()
    assert out[0].startswith("device: ")
    assert out[2] == f"depth: {DEFAULT_CONFIG.depth}"
    header = next(i for i, line in enumerate(out) if line.startswith("batch_size"))
    assert out[header].split() == [
        "batch_size",
        "steps",
        "s/epoch",
        "90",
        "%",
        "images/s",
        "90",
        "%",
        "peak",
        "GiB",
        "band",
        "domain",
    ]
    for line, batch_size in zip(out[header + 1 : header + 4], (64, 128, 256), strict=True):
        one = ask_lines("--batch_size", batch_size)
        assert line.endswith("  within")
        assert line.split()[:2] == [str(batch_size), one["steps_per_epoch"]]
        for name in ("predicted_avg_time_sec", "predicted_images_per_sec_derived"):
            assert one[name] in line.split()
            assert one[f"{name}_90"] in line
        assert one["peak_memory_gib"] in line.split()
        assert one["peak_memory_band_gib"] in line
    shared = dict(line.split(": ", 1) for line in out[header + 4 :])
    assert list(shared) == ["peak_memory_basis", "model", "answered_because", "conditions", "error"]


def test_several_batch_sizes_with_epochs_show_first_epoch_and_wall_time():
    out = ask("--batch_size", "64,128", "--epochs", 50).out
    assert "first epoch s" in out
    assert "wall s, 50 epochs" in out
    assert ask_lines("--batch_size", 128, "--epochs", 50)["wall_sec_90"] in out


def test_several_batch_sizes_as_json_are_the_single_answers():
    answers = ask_json("--batch_size", "64,128", "--epochs", 5)["predictions"]
    assert answers[1] == ask_json("--batch_size", 128, "--epochs", 5)
    assert [a["batch_size"] for a in answers] == [64, 128]


@pytest.mark.parametrize(
    ("flags", "domains", "said"),
    [
        (
            ("--batch_size", "16,64,8,4096"),
            {16: "beyond", 64: "within", 8: "far", 4096: "beyond"},
            [
                "beyond (batch_size 16, 4096), measured were batch_size 32 to 2048: extrapolating, ±",
                "far (batch_size 8), measured were batch_size 32 to 2048: extrapolating further than any check "
                "reaches: no range is known there",
            ],
        ),
        (
            ("--batch_size", "32:512:x2", "--base_filters", 12),
            dict.fromkeys((32, 64, 128, 256, 512), "beyond"),
            ["beyond (batch_size 32, 64, 128, 256, 512), measured were base_filters 16 to 128: extrapolating, ±"],
        ),
        (
            ("--batch_size", "16,32", "--depth", 7),
            {16: "far", 32: "far"},
            ["far (batch_size 16, 32), measured were depth 2 to 5, batch_size 32 to 2048: "],
        ),
        (("--batch_size", "32,2048"), {32: "within", 2048: "within"}, []),
    ],
)
def test_each_batch_size_of_a_table_is_marked_and_what_that_means_is_said_once(flags, domains, said):
    out = ask(*flags).out.splitlines()
    header = next(i for i, line in enumerate(out) if line.startswith("batch_size"))
    rows = out[header + 1 : header + 1 + len(domains)]
    assert {int(line.split()[0]): line.split()[-1] for line in rows} == domains
    assert all(("range unknown" in line) == line.endswith("far") for line in rows)
    lines = [line for line in out if line.startswith(("within", "beyond", "far"))]
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))
    answers = ask_json(*flags)["predictions"]
    assert {answer["batch_size"]: answer["domain"] for answer in answers} == domains
    assert all((answer["predicted_avg_time_sec_low"] is None) == (answer["domain"] == "far") for answer in answers)


@pytest.mark.parametrize(("name", "start"), [("batches.png", b"\x89PNG"), ("batches.svg", b"<?xml")])
def test_a_plot_is_written_and_named(tmp_path, name, start):
    path = tmp_path / "new" / name
    out = ask("--batch_size", "16:4096:x2", "--plot", path).out
    assert out.splitlines()[-1] == f"plot: {path}"
    assert path.read_bytes().startswith(start)


def test_batch_sizes_are_drawn_from_the_smallest_to_the_largest_in_whatever_order_they_are_asked_for():
    choice = choose_model(path=PRETRAINED)
    answers = [predict(RunConfig(3, 32, b), choice) for b in (512, 64, 1024, 16)]
    time, throughput = draw_batches(answers).axes
    drawn = {time: [a.times.steady for a in answers], throughput: [a.images_per_sec for a in answers]}
    for axes, intervals in drawn.items():
        (line,) = axes.lines
        values = {a.config.batch_size: interval.value for a, interval in zip(answers, intervals, strict=True)}
        assert list(zip(*line.get_data(), strict=True)) == sorted(values.items())
    assert [a.config.batch_size for a in answers] == [512, 64, 1024, 16]  # the table keeps the order asked for


def test_a_plot_of_what_has_no_interval_is_written_too(tmp_path):
    assert ask_json("--depth", 9, "--plot", tmp_path / "far.png")["domain"] == "far"
    assert (tmp_path / "far.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_must_be_a_kind_of_file_that_is_drawn(capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        predict_perf.main(["--plot", str(tmp_path / "plot.jpg")])
    assert end.value.code == 2
    assert "the name must end in .png or .svg" in capsys.readouterr().err


# --- conditions -------------------------------------------------------------------------------------------------------


def test_conditions_that_the_model_was_learned_under_change_nothing():
    assert ask_json("--conditions", "precision=float32,backend=tensorflow") == ask_json()


def local_model(name, created, **conditions):
    """A local model of this box, learned under other conditions than the shipped one."""
    models_dir().mkdir(parents=True, exist_ok=True)
    known = json.loads(PRETRAINED.with_suffix(".json").read_text())["conditions"]
    conditions = {**known, "device_name": box_device_name(), **conditions}
    created_utc = f"2026-01-{created:02d}T00:00:00+00:00"
    return changed_copy(models_dir(), name, created_utc=created_utc, conditions=conditions)


def test_of_two_local_models_the_one_of_the_precision_asked_for_answers():
    half = local_model("half", 1, precision="mixed_float16")
    single = local_model("single", 2)
    assert ask_json()["model"] == str(single)  # the newer one
    for precision, path in (("mixed_float16", half), ("float32", single)):
        answer = ask_json("--conditions", f"precision={precision}")
        assert (answer["model"], answer["conditions"]["precision"]) == (str(path), precision)
        assert answer["answered_because"] == f"the newest local model of this box ({box_device_name()})"


def test_an_empty_condition_asks_for_a_model_that_does_not_know_it():
    assert ask_json("--conditions", "window_steps=") == ask_json()
    out, err = ask("--model", local_model("windows", 1, window_steps=100), "--conditions", "window_steps=", code=1)
    assert out == ""
    assert err.endswith("(named by --model) was learned under window_steps 100, not unknown.\n")


def test_a_model_of_other_conditions_is_refused():
    out, err = ask("--conditions", "precision=mixed_float16,backend=jax", code=1)
    assert out == ""
    assert err.splitlines()[-1].startswith(f"error: {PRETRAINED} (the pretrained model, as no local one fits: ")
    assert err.endswith("was learned under precision float32, not mixed_float16, backend tensorflow, not jax.\n")


def test_what_is_no_condition_is_refused():
    out, err = ask("--conditions", "gpu=A100", code=1)
    assert out == ""
    assert "error: gpu: not a condition; use device_name, " in err


# --- this box, and other GPUs -----------------------------------------------------------------------------------------


@pytest.fixture
def cpu_box(tmp_path, monkeypatch):
    """A box without a GPU."""
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", tmp_path / "no driver")


def gpu_rows(out):
    """The lines of the table of GPUs, by the GPU's name."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("GPU "))
    rows = {}
    for line in lines[start + 1 :]:
        if line.startswith("carried over: "):
            return rows
        name, *_ = line.split("  ")
        rows[name] = line
    raise AssertionError("the table does not end")


def test_the_second_line_says_in_what_this_box_differs(cpu_box):
    first = ask().out.splitlines()[1]
    assert first.startswith(f"differs: device NVIDIA A100 80GB PCIe, here {box_device_name()}; ")
    assert first.endswith(": no estimate for a CPU")
    answer = ask_json("--precision", "mixed_float16")
    assert answer["differs"]["device"] == {"model": "NVIDIA A100 80GB PCIe", "here": box_device_name()}
    assert answer["differs"]["precision"] == {"model": "float32", "here": "mixed_float16"}
    assert (answer["here_avg_time_sec"], answer["here_basis"]) == (None, "no estimate for a CPU")


def test_a_box_of_another_gpu_says_what_it_would_take_in_the_second_line(tmp_path, monkeypatch):
    information = tmp_path / "nvidia" / "gpus" / "0" / "information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: NVIDIA H100 80GB HBM3\n")
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", tmp_path / "nvidia")
    (there,) = ask_json("--gpu", "H100 SXM5")["gpus"]
    assert ask_json()["here_avg_time_sec"] == there["predicted_avg_time_sec"]
    first = ask().out.splitlines()[1]
    low, high = (f"{there[f'predicted_avg_time_sec_{end}']:.2f}" for end in ("low", "high"))
    assert f"{there['predicted_avg_time_sec']:.2f} s/epoch ({low} to {high}) here, layers: " in first
    several = ask("--batch_size", "64,128").out.splitlines()[1]
    assert ": batch 64 " in several
    assert several.count("here, layers: arithmetic and memory") == 1
    assert f"batch 128 {there['predicted_avg_time_sec']:.2f} s/epoch ({low} to {high})" in several


def test_gpus_are_a_table_after_the_answer_that_says_what_was_scaled():
    plain = ask().out
    out = ask("--gpu", "NVIDIA H100 80GB HBM3; T4", "--gpu", "H200 SXM").out
    assert out.startswith(plain)
    rows = gpu_rows(out)
    assert list(rows) == ["H200 SXM", "H100 SXM5", "T4"]  # the fastest first
    answers = {a["gpu"]: a for a in ask_json("--gpu", "T4;H100 SXM5;H200 SXM")["gpus"]}
    for name, line in rows.items():
        answer = answers[name]
        seconds, low, high = (answer[f"predicted_avg_time_sec{end}"] for end in ("", "_low", "_high"))
        assert f"{seconds:.2f}  {low:.2f} to {high:.2f}" in line
        assert answer["basis"] in line
        assert line.endswith(f"{answer['memory_fit']} {answer['memory_gb']:g} GB")
    assert f"of its epoch {100 * answers['T4']['device_share']:.1f} % is arithmetic and memory" in out
    assert "layers: arithmetic and memory by the law of networks on both GPUs, x/÷" in out


def test_one_gpu_says_what_its_ratio_rests_on():
    out = ask("--gpu", "H100 SXM5").out
    (answer,) = ask_json("--gpu", "H100 SXM5")["gpus"]
    assert out.splitlines()[-1] == f"layers: {answer['basis_words']}"
    assert "in tf32 over tf32" in answer["basis_words"]


def test_all_gpus_are_answered_or_left_out_counted_and_named():
    answer = ask_json("--all_gpus", "--precision", "mixed_bfloat16")
    ((reason, names),) = answer["gpus_left_out"].items()
    assert reason == "without a known rate in mixed_bfloat16"
    assert "V100 SXM2 16GB" in names
    assert len(answer["gpus"]) + len(names) == len(gpus())
    assert {gpu["precision"] for gpu in answer["gpus"]} == {"mixed_bfloat16"}
    out = ask("--all_gpus", "--precision", "mixed_bfloat16").out
    assert f"left out: {len(names)} GPUs {reason}: {', '.join(names)}" in out
    times = [gpu["predicted_avg_time_sec"] for gpu in answer["gpus"]]
    assert times == sorted(times)
    assert list(gpu_rows(out)) == [gpu["gpu"] for gpu in answer["gpus"]]


def test_a_row_measured_on_the_gpu_asked_for_wins():
    saved = load_model(PRETRAINED)
    known = {name: getattr(saved.conditions, name) for name in columns(Conditions)}
    known["device_name"] = "NVIDIA H100 80GB HBM3"
    runs_agg_csv().parent.mkdir(parents=True)
    write_table(runs_agg_csv(), [agg_row(3, 32, 128, 1.25, 3, 0.01, **known)], AggRow)
    (answer,) = ask_json("--gpu", "H100 SXM5")["gpus"]
    assert (answer["basis"], answer["predicted_avg_time_sec"]) == ("measured", 1.25)
    out = ask("--gpu", "H100 SXM5").out
    assert out.splitlines()[-1].startswith("measured on NVIDIA H100 80GB HBM3, 3 runs")
    assert "carried over" not in out


def test_with_epochs_each_gpu_has_energy_money_and_co2_of_its_own():
    flags = ("--gpu", "H100 SXM5;T4;RTX 4090", "--epochs", 50, "--region", "DE,FR", "--sort", "cost")
    answers = ask_json(*flags)["gpus"]
    assert [a["gpu"] for a in answers] == ["T4", "H100 SXM5", "RTX 4090"]  # of the last no price to rent is known
    for answer in answers:
        assert [found["region"] for found in answer["footprints"]] == ["DE", "FR"]
        german, french = answer["footprints"]
        assert german["wall_kwh"] == french["wall_kwh"] > 0
        assert german["operational_kg_co2e"] > french["operational_kg_co2e"]
    assert answers[2]["footprints"][0]["cloud_usd"] is None
    out = ask(*flags).out
    (energy,) = (line for line in out.splitlines() if line.startswith("energy"))
    assert energy == "energy: board-power model: a share of TDP of each by how busy the GPU is, x/÷2.06"
    assert "cloud H100 SXM5: 3.90 USD/GPU hour (Crusoe H100 HGX 80GB on-demand, 2025-12" in out
    assert "wall kWh: GPU board only (host unknown: --host_w), PUE 1" in out
    assert "region: world average, not your location" in ask("--gpu", "T4", "--epochs", 50).out


def test_several_batch_sizes_have_a_table_of_gpus_each():
    out = ask("--gpu", "T4", "--batch_size", "64,128").out
    assert [line for line in out.splitlines() if line.startswith("batch_size: ")] == [
        "batch_size: 64",
        "batch_size: 128",
    ]
    answers = ask_json("--gpu", "T4", "--batch_size", "64,128")["predictions"]
    assert answers[1] == ask_json("--gpu", "T4", "--batch_size", 128)


def test_what_holds_for_every_batch_size_is_said_once_and_what_differs_under_each():
    flags = ("--all_gpus", "--epochs", 50, "--region", "DE")
    alone = [ask(*flags, "--batch_size", size).out.splitlines() for size in (64, 128)]
    lines = ask(*flags, "--batch_size", "64,128").out.splitlines()
    once = (
        "layers: ",
        "left out: ",
        "region: ",
        "energy of the others: ",
        "wall kWh: ",
        "cloud T4: ",
    )
    for start in once:
        (said,) = (line for line in lines if line.startswith(start))
        assert all(said in each for each in alone)
    scaled = [line for line in lines if line.startswith("carried over: ")]
    assert len(scaled) == len(set(scaled)) == 2
    assert all(any(line in each for line in scaled) for each in alone)
    assert sum("TDP" in line for line in lines) == 1


def test_what_measured_energy_has_its_own_line_beside_the_others():
    known = {name: getattr(load_model(PRETRAINED).conditions, name) for name in columns(Conditions)}
    known |= {"device_name": "NVIDIA H100 80GB HBM3", "n_energy": 5}
    known |= {"energy_j_per_epoch_median": 300.0, "energy_j_per_epoch_mad": 1.0}
    runs_agg_csv().parent.mkdir(parents=True)
    write_table(runs_agg_csv(), [agg_row(3, 32, 128, 1.25, 5, 0.01, **known)], AggRow)
    out = ask("--gpu", "H100 SXM5;T4;L4", "--epochs", 50).out
    told = [line for line in out.splitlines() if line.startswith("energy")]
    assert told[0].startswith("energy H100 SXM5: measured, 5 runs")
    assert told[1].startswith("energy of the others: board-power model: a share of TDP of each")
    (row,) = (line for line in out.splitlines() if line.startswith("H100 SXM5: "))
    assert row.startswith("H100 SXM5: measured on NVIDIA H100 80GB HBM3, 5 runs")
    assert row.endswith("start-up of NVIDIA A100 80GB PCIe")


def test_a_carried_run_says_whose_start_up_it_has_and_a_steady_time_does_not():
    told = "input, host and steps stay as they were; start-up of NVIDIA A100 80GB PCIe"
    assert told in ask("--gpu", "H100 SXM5", "--epochs", 50).out
    assert "start-up of" not in ask("--gpu", "H100 SXM5").out
    own = ask("--gpu", "A100 PCIe 80GB", "--epochs", 50).out
    assert "start-up of" not in own


def test_nothing_is_called_carried_over_on_the_model_s_own_gpu():
    out = ask("--gpu", "A100 PCIe 80GB").out
    assert "carried over" not in out
    assert out.splitlines()[-1] == "the model's GPU: the model's own GPU and precision"


def test_the_range_of_a_rent_with_one_price_is_told_as_without_gpu():
    alone = ask("--epochs", 50, "--region", "DE").out
    (cloud,) = (line for line in alone.splitlines() if line.startswith("cloud: "))
    told = re.search(r"\((.*? at just this rate)\)", cloud)[1]
    assert told in ask("--gpu", "A100 PCIe 80GB", "--epochs", 50).out


def test_rows_measured_on_the_gpu_asked_for_are_counted_in_json_and_named():
    known = {name: getattr(load_model(PRETRAINED).conditions, name) for name in columns(Conditions)}
    known["device_name"] = "NVIDIA H100 80GB HBM3"
    rows = [agg_row(3, 32, size, 300 / size, 3, 0.01, **known) for size in (64, 256, 512)]
    runs_agg_csv().parent.mkdir(parents=True)
    write_table(runs_agg_csv(), rows[:2], AggRow)
    out = ask("--gpu", "H100 SXM5;T4").out
    assert "H100 SXM5: layers: arithmetic" in out
    assert "2 configurations measured there are not enough to correct it (3)" in out
    write_table(runs_agg_csv(), rows, AggRow)
    (answer,) = ask_json("--gpu", "H100 SXM5")["gpus"]
    assert answer["basis"] == "carried, corrected by 3 measured there"
    assert answer["configurations_there"] == 3
    assert answer["predicted_avg_time_sec_high"] > answer["predicted_avg_time_sec"]
    assert answer["corrected_by"] > 1


@pytest.mark.parametrize("name", ["A100", "H100", "RTX A1000", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", "GeForce 9999"])
def test_an_unknown_or_ambiguous_gpu_gives_the_nearest_names_and_no_number(name):
    out, err = ask("--gpu", f"T4;{name}", code=1)
    assert out == ""
    assert f"error: no GPU is known by exactly the name {name!r}. The nearest names: " in err


def test_a_gpu_that_lacks_the_precision_is_one_clear_error():
    out, err = ask("--gpu", "T4", "--precision", "mixed_bfloat16", code=1)
    assert out == ""
    assert "error: T4 has no known bf16 rate, which mixed_bfloat16 needs" in err


def test_a_model_of_a_processor_can_not_be_carried(tmp_path):
    known = json.loads(PRETRAINED.with_suffix(".json").read_text())["conditions"]
    path = changed_copy(tmp_path, conditions={**known, "device_name": "AMD EPYC 9B14 (2 cores)"})
    out, err = ask("--model", path, "--gpu", "T4", code=1)
    assert out == ""
    assert "error: nothing to carry a time over from: the model is of AMD EPYC 9B14 (2 cores)" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--sort", "time"), "--sort orders GPUs: give --gpu or --all_gpus, too"),
        (("--gpu", "T4", "--all_gpus"), "--gpu and --all_gpus: give one of the two"),
        (("--gpu", "T4", "--sort", "co2"), "--sort co2: energy, money and CO2 are a whole run's; give --epochs, too"),
        (("--region", "DE"), "--region: energy, money and CO2 are a whole run's; give --epochs, too"),
        (("--gpu", "T4;"), "expected NAME or NAME;NAME"),
        (("--epochs", "5", "--pue", "0.9"), "expected at least 1"),
        (("--epochs", "5", "--usd_per_kwh", "-1"), "expected a finite number of at least 0"),
        (("--epochs", "5", "--region", "Atlantis"), "no region 'Atlantis'"),
        (("--precision", "float64"), "invalid choice: 'float64'"),
    ],
)
def test_flags_that_do_not_go_together_or_make_no_sense_exit_2(capsys, flags, words):
    with pytest.raises(SystemExit) as end:
        predict_perf.main(list(flags))
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


# --- footprint --------------------------------------------------------------------------------------------------------


def test_a_footprint_stands_below_the_answer_only_where_a_flag_asks_for_it():
    plain = ask("--epochs", 50).out
    out = ask("--epochs", 50, "--region", "DE").out
    assert out.startswith(plain)
    lines = dict(line.split(": ", 1) for line in out[len(plain) :].splitlines())
    assert lines["footprint_of"] == "NVIDIA A100 80GB PCIe, float32"
    assert lines["region"] == "Germany (DE)"
    saved, config = load_model(PRETRAINED), DEFAULT_CONFIG
    busy_share = device_share(saved.plain_law, work_of(config, saved.train_n))
    assert "board-power model: a share of TDP 300 W by how busy the GPU is" in lines["board_energy"]
    assert f"busy {percent(busy_share)}: " in lines["board_energy"]
    assert {"wall_energy", "electricity", "cloud", "co2_operational"} <= set(lines)
    (found,) = ask_json("--epochs", 50, "--region", "DE")["footprints"]
    wall = ask_json("--epochs", 50)["wall_sec"]
    assert found["board_kwh"] == pytest.approx(board_power(300.0, busy_share).value * wall / 3.6e6)
    assert "footprints" not in ask_json("--epochs", 50)


def test_a_footprint_in_another_precision_is_that_of_the_carried_run_and_says_so():
    flags = ("--epochs", 50, "--region", "DE", "--precision", "mixed_float16")
    (found,) = ask_json(*flags)["footprints"]
    (carried,) = ask_json("--gpu", "A100 PCIe 80GB", *flags)["gpus"]
    assert found == carried["footprints"][0]
    (own,) = ask_json("--epochs", 50, "--region", "DE")["footprints"]
    assert found["wall_kwh"] < own["wall_kwh"]
    of = "NVIDIA A100 80GB PCIe, mixed_float16, layers: arithmetic and memory by the law of networks, in fp16"
    assert f"\nfootprint_of: {of}" in ask(*flags).out
    assert ask_json(*flags)["footprint_of"].startswith(of)


def test_a_footprint_in_a_precision_that_nothing_tells_of_is_one_clear_error(tmp_path):
    known = json.loads(PRETRAINED.with_suffix(".json").read_text())["conditions"]
    path = changed_copy(tmp_path, conditions={**known, "device_name": "AMD EPYC 9B14 (2 cores)"})
    flags = ("--model", path, "--precision", "mixed_float16", "--epochs", 50)
    out, err = ask(*flags, "--region", "DE", code=1)
    assert out == ""
    assert "error: the footprint in mixed_float16: the model is of AMD EPYC 9B14 (2 cores) in float32, and " in err
    assert "footprint_of" not in ask(*flags).out


def test_without_a_region_the_footprint_is_the_world_s():
    out = ask("--epochs", 50, "--host_w", 120).out
    assert "region: world average, not your location" in out
    assert "with a host of 120 W" in out


def test_several_regions_are_a_table_with_ratios():
    out = ask("--epochs", 50, "--region", "DE,FR,SE").out
    rows = [line for line in out.splitlines() if line.startswith(("Germany (DE)", "France (FR)", "Sweden (SE)"))]
    assert len(rows) == 3
    assert len(ask_json("--epochs", 50, "--region", "DE,FR,SE")["footprints"]) == 3


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_params_that_agree_with_the_closed_form_change_nothing():
    assert ask_json("--params", count_params(RunConfig(3, 32))) == ask_json()


def test_params_of_another_network_are_refused_with_the_right_number():
    out, err = ask("--depth", 2, "--params", 123, code=1)
    assert out == ""
    assert (
        f"error: --params 123: the CNN of depth 2, 32 base filters has {count_params(RunConfig(2, 32))} parameters."
        in err
    )


def test_a_named_model_answers_and_a_missing_one_is_one_line(tmp_path):
    assert ask_json("--model", PRETRAINED)["answered_because"] == "named by --model"
    out, err = ask("--model", tmp_path / "none.keras", code=1)
    assert out == ""
    assert err.splitlines()[1:] == [
        f"error: {tmp_path}/none.keras: no such model. Train one: epochcast train --model {tmp_path}/none.keras"
    ]


def test_the_largest_networks_that_flags_can_name_have_finite_answers():
    answer = ask_json("--depth", 16, "--base_filters", 10**9, "--batch_size", 10**9, "--epochs", 10**9)
    assert all(math.isfinite(value) for value in answer.values() if isinstance(value, float))


def test_repeated_conditions_ask_for_a_model_that_meets_all():
    float32, float16 = "precision=float32", "precision=mixed_float16"
    assert ask_json("--conditions", float32, "--conditions", "backend=tensorflow")["depth"] == 3
    for first, second in ((float16, "backend=tensorflow"), ("backend=tensorflow", float16)):
        out, err = ask("--conditions", first, "--conditions", second, code=1)
        assert out == ""
        assert "mixed_float16" in err


def test_an_edited_card_is_refused(tmp_path):
    path = changed_copy(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    card["intervals"]["within"] /= 2
    path.with_suffix(".json").write_text(json.dumps(card))
    out, err = ask("--model", path, code=1)
    assert out == ""
    assert f"error: {path.with_suffix('.json')}: edited since it was written" in err


@pytest.mark.parametrize("flag", ["--depth", "--base_filters", "--batch_size", "--params", "--epochs"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_what_is_no_positive_whole_number_exits_2(capsys, flag, value):
    with pytest.raises(SystemExit) as end:
        predict_perf.main([f"{flag}={value}"])
    assert end.value.code == 2
    assert capsys.readouterr().out == ""


def test_at_most_a_billion_epochs_are_taken(capsys):
    answer = ask_json("--epochs", 10**9)
    steady_sec = 10**9 * answer["predicted_avg_time_sec"]
    assert answer["training_sec"] == pytest.approx(steady_sec, rel=1e-6)  # the first is a few seconds longer
    with pytest.raises(SystemExit) as end:
        predict_perf.main(["--epochs", str(10**9 + 1)])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: argument --epochs: at most 1,000,000,000, got '1000000001'\n" in err


CHILD = f"""
import sys
from epochcast.__main__ import predict_perf
sys.argv = ["predict_perf", "--batch_size", "512", "--epochs", "50", "--json"]
code = predict_perf()
loaded = [name for name in {SLOW} if name in sys.modules]
sys.exit(code or (f"loaded: {{loaded}}" if loaded else 0))
"""


def test_a_fresh_process_answers_from_any_folder_without_anything_slow(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(CODE_ROOT))
    child = subprocess.run([sys.executable, "-c", CHILD], cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == ask_json("--batch_size", 512, "--epochs", 50)
    assert child.stdout.count("\n") == 1
    assert child.stderr == f"files under {tmp_path}\n"


def test_what_was_measured_of_just_this_stands_beside_what_the_model_says():
    known = {name: value for name, value in asdict(load_model(PRETRAINED).conditions).items() if value is not None}
    runs_agg_csv().parent.mkdir(parents=True)
    write_table(runs_agg_csv(), [agg_row(3, 32, 512, 0.8, **known), agg_row(3, 32, 256, 2.0)], AggRow)
    answer = ask_json("--batch_size", 512)
    assert answer["measured_avg_time_sec"] == 0.8
    assert answer["measured_avg_time_sec_low"] < 0.8 < answer["measured_avg_time_sec_high"]
    assert answer["predicted_avg_time_sec"] == pytest.approx(0.915, abs=0.001)
    lines = ask_lines("--batch_size", 512)
    assert lines["measured_avg_time_sec"] == "0.800"
    assert lines["measured_basis"].startswith("measured on NVIDIA A100 80GB PCIe, 1 run")
    assert "measured_basis" not in ask_lines("--batch_size", 256)  # a row of unknown conditions
    table = ask("--batch_size", "256,512").out
    assert "\nbatch_size 512: 0.800 s/epoch (" in table
    assert "batch_size 256: " not in table
