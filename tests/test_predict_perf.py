"""`predict_perf` as a user sees it: one answer, what it rests on, and nothing slow behind it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from itertools import product

import pytest

from epochcast.environment import box_device_name
from epochcast.paths import CODE_ROOT, models_dir, pretrained_dir
from epochcast.schema import DEFAULT_CONFIG, Conditions, RunConfig
from model import predict_perf
from model.card import card_sha256
from model.predictor import choose_model, load_model
from workload.shape import count_params

PRETRAINED = pretrained_dir() / "a100.keras"
SLOW = ("tensorflow", "keras", "pandas", "sklearn", "matplotlib", "jax")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))


def changed_copy(folder, name="copy", **changes):
    """A copy of the shipped model whose card says something else, sealed again."""
    shutil.copy(PRETRAINED, folder / f"{name}.keras")
    card = {**json.loads(PRETRAINED.with_suffix(".json").read_text()), **changes}
    (folder / f"{name}.json").write_text(json.dumps({**card, "card_sha256": card_sha256(card)}))
    return folder / f"{name}.keras"


def ask(capsys, *flags, code=0):
    """Standard output and error of the command."""
    assert predict_perf.main([str(flag) for flag in flags]) == code
    return capsys.readouterr()


def ask_json(capsys, *flags):
    return json.loads(ask(capsys, *flags, "--json").out)


def ask_lines(capsys, *flags):
    """The `name: value` lines as a dictionary, in order."""
    return dict(line.split(": ", 1) for line in ask(capsys, *flags).out.splitlines())


def test_json_holds_the_model_s_own_numbers_and_throughput_derived_from_time(capsys):
    answer = ask_json(capsys, "--depth", 4, "--base_filters", 64, "--batch_size", 256)
    saved = load_model(PRETRAINED)
    assert answer["predicted_avg_time_sec"] == saved.time_model.times([RunConfig(4, 64, 256)])[0]
    assert answer["predicted_images_per_sec_derived"] == 50_000 / answer["predicted_avg_time_sec"]
    assert (answer["form"], answer["coverage"], answer["place"]) == ("physics_ann", 0.9, "within")
    assert answer["half_width_log"] == saved.widths.within
    assert (answer["in_range"], answer["outside"]) == (True, [])
    assert answer["steps_per_epoch"] == 196
    assert answer["params"] == count_params(4, 64)
    assert answer["model"] == str(PRETRAINED)
    assert answer["device"] == "NVIDIA A100 80GB PCIe"
    assert answer["this_box"] == box_device_name()
    assert answer["answered_because"].startswith("the pretrained model, as no local one fits: none in ")
    assert Conditions(**answer["conditions"]) == saved.conditions
    assert answer["declared_conditions"] == saved.card["declared"]
    assert answer["error"] == saved.card["errors"]


def test_lines_say_the_same_in_words(capsys):
    flags = ("--depth", 3, "--base_filters", 32, "--batch_size", 512)
    lines, answer = ask_lines(capsys, *flags), ask_json(capsys, *flags)
    assert float(lines["predicted_avg_time_sec"]) == pytest.approx(
        answer["predicted_avg_time_sec"], rel=5e-3
    )  # 3 digits
    throughput = float(lines["predicted_images_per_sec_derived"].replace(",", ""))
    assert throughput == pytest.approx(answer["predicted_images_per_sec_derived"], rel=5e-3)
    assert lines["model"] == str(PRETRAINED)
    assert lines["answered_because"] == answer["answered_because"]
    assert lines["device"] == f"NVIDIA A100 80GB PCIe (NOT this box: {box_device_name()})"
    assert lines["conditions"].startswith("device_name=NVIDIA A100 80GB PCIe, backend=tensorflow")
    assert lines["error"].startswith("MAPE ")
    assert lines["error"].endswith("(5-fold by configuration, n = 138)")
    assert lines["in_range"] == f"yes, ±{100 * math.expm1(answer['half_width_log']):.2f} %"
    assert "epochs" not in lines
    for name in ("predicted_avg_time_sec", "predicted_images_per_sec_derived"):
        low, high = (float(end.replace(",", "")) for end in lines[f"{name}_90"].split(" to "))
        assert (low, high) == pytest.approx((answer[f"{name}_low"], answer[f"{name}_high"]), rel=5e-3)  # 3 digits


def test_without_flags_the_default_configuration_is_asked_for(capsys):
    answer = ask_json(capsys)
    assert RunConfig(answer["depth"], answer["base_filters"], answer["batch_size"]) == DEFAULT_CONFIG == RunConfig()


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "batch_size"), [*product([1, 2, 4, 6], [48, 2048]), *product([2, 4], [16, 4096])])
def test_a_prediction_lies_in_its_interval_and_throughput_s_is_images_over_time_s(capsys, depth, batch_size):
    answer = ask_json(capsys, "--depth", depth, "--batch_size", batch_size)
    low, value, high = (answer[f"predicted_avg_time_sec{end}"] for end in ("_low", "", "_high"))
    assert 0 < low < value < high
    assert (math.log(high / value), math.log(value / low)) == pytest.approx([answer["half_width_log"]] * 2)
    rate = [answer[f"predicted_images_per_sec_derived{end}"] for end in ("_low", "", "_high")]
    assert rate == [50_000 / high, 50_000 / value, 50_000 / low]


def test_outside_the_range_both_forms_say_what_was_never_measured_and_widen(capsys):
    flags = ("--depth", 6, "--batch_size", 64)
    answer, inside = ask_json(capsys, *flags), ask_json(capsys)
    assert (answer["in_range"], answer["place"]) == (False, "beyond")
    assert answer["outside"] == ["depth 6 was never measured (2 to 5 were)"]
    assert answer["half_width_log"] > inside["half_width_log"]
    width = f"±{100 * math.expm1(answer['half_width_log']):.2f} %"
    assert ask_lines(capsys, *flags)["in_range"] == f"no: {answer['outside'][0]}: extrapolating, {width}"


FAR = {
    ("--depth", 9): "depth 9 was never measured (2 to 5 were)",
    ("--depth", 6, "--batch_size", 16): (
        "depth 6 was never measured (2 to 5 were), batch_size 16 was never measured (32 to 2048 were)"
    ),
}


@pytest.mark.parametrize(("flags", "outside"), FAR.items(), ids=["depth 9", "two axes"])
def test_far_outside_or_by_two_axes_at_once_the_interval_is_unknown_in_both_forms(capsys, flags, outside):
    flags = (*flags, "--epochs", 10)
    answer, lines = ask_json(capsys, *flags), ask_lines(capsys, *flags)
    assert (answer["place"], answer["half_width_log"]) == ("far", None)
    for name in ("predicted_avg_time_sec", "predicted_images_per_sec_derived", "first_epoch_sec", "wall_sec"):
        assert answer[name] > 0
        assert (answer[f"{name}_low"], answer[f"{name}_high"]) == (None, None)
        assert lines[f"{name}_90"] == "unknown"
    assert lines["in_range"] == f"no: {outside}: extrapolating further than any check reaches, interval unknown"


# --- whole runs -------------------------------------------------------------------------------------------------------

RUN = ("first_epoch_sec", "overhead_sec", "training_sec", "wall_sec")


def test_a_number_of_epochs_gives_every_part_of_a_run_with_its_interval(capsys):
    answer, lines = ask_json(capsys, "--epochs", 50), ask_lines(capsys, "--epochs", 50)
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


def test_without_epochs_no_run_is_predicted(capsys):
    assert not {*RUN, "epochs"} & set(ask_json(capsys))


@pytest.mark.parametrize(
    ("lacking", "unknown"),
    [
        ("overhead_sec", ("overhead_sec", "wall_sec")),
        ("first_epoch_excess_sec", ("first_epoch_sec", "training_sec", "wall_sec")),
    ],
)
def test_parts_that_the_rows_lacked_are_null_and_unknown(capsys, tmp_path, lacking, unknown):
    flags = ("--epochs", 50, "--model", changed_copy(tmp_path, **{lacking: None}))
    answer, lines = ask_json(capsys, *flags), ask_lines(capsys, *flags)
    for name in RUN:
        assert (answer[name] is None) == (answer[f"{name}_low"] is None) == (name in unknown)
        assert (lines[name] == "unknown") == (lines[f"{name}_90"] == "unknown") == (name in unknown)


# --- several batch sizes ----------------------------------------------------------------------------------------------


def test_several_batch_sizes_are_a_table_with_intervals(capsys):
    out = ask(capsys, "--batch_size", "64:256:x2").out.splitlines()
    assert out[0] == f"depth: {DEFAULT_CONFIG.depth}"
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
    ]
    for line, batch_size in zip(out[header + 1 : header + 4], (64, 128, 256), strict=True):
        one = ask_lines(capsys, "--batch_size", batch_size)
        assert line.split()[:2] == [str(batch_size), one["steps_per_epoch"]]
        for name in ("predicted_avg_time_sec", "predicted_images_per_sec_derived"):
            assert one[name] in line.split()
            assert one[f"{name}_90"] in line
        assert one["peak_memory_gib"] in line.split()
        assert one["peak_memory_band_gib"] in line
    shared = dict(line.split(": ", 1) for line in out[header + 4 :])
    assert list(shared) == ["peak_memory_basis", "device", "model", "answered_because", "conditions", "error"]


def test_several_batch_sizes_with_epochs_show_first_epoch_and_wall_time(capsys):
    out = ask(capsys, "--batch_size", "64,128", "--epochs", 50).out
    assert "first epoch s" in out
    assert "wall s, 50 epochs" in out
    assert ask_lines(capsys, "--batch_size", 128, "--epochs", 50)["wall_sec_90"] in out


def test_several_batch_sizes_as_json_are_the_single_answers(capsys):
    answers = ask_json(capsys, "--batch_size", "64,128", "--epochs", 5)["predictions"]
    assert answers[1] == ask_json(capsys, "--batch_size", 128, "--epochs", 5)
    assert [a["batch_size"] for a in answers] == [64, 128]


def test_a_batch_size_outside_the_range_is_marked_in_the_table_and_named_below(capsys):
    out = ask(capsys, "--batch_size", "16,64").out.splitlines()
    marked = [line.split()[0] for line in out if line.endswith("extrapolated")]
    assert marked == ["16"]
    (named,) = (line for line in out if line.startswith("extrapolated: "))
    assert "batch_size 16 was never measured (32 to 2048 were): extrapolating, ±" in named


@pytest.mark.parametrize(("name", "start"), [("batches.png", b"\x89PNG"), ("batches.svg", b"<?xml")])
def test_a_plot_is_written_and_named(capsys, tmp_path, name, start):
    path = tmp_path / "new" / name
    out = ask(capsys, "--batch_size", "16:4096:x2", "--plot", path).out
    assert out.splitlines()[-1] == f"plot: {path}"
    assert path.read_bytes().startswith(start)


def test_batch_sizes_are_drawn_from_the_smallest_to_the_largest_in_whatever_order_they_are_asked_for():
    choice = choose_model(path=PRETRAINED)
    answers = [predict_perf.predict(RunConfig(3, 32, b), choice) for b in (512, 64, 1024, 16)]
    time, throughput = predict_perf.draw_batches(answers).axes
    for axes, name in ((time, "predicted_avg_time_sec"), (throughput, "predicted_images_per_sec_derived")):
        (line,) = axes.lines
        values = {a["batch_size"]: a[name] for a in answers}
        assert list(zip(*line.get_data(), strict=True)) == sorted(values.items())
    assert [a["batch_size"] for a in answers] == [512, 64, 1024, 16]  # the table keeps the order asked for


def test_a_plot_of_what_has_no_interval_is_written_too(capsys, tmp_path):
    assert ask_json(capsys, "--depth", 9, "--plot", tmp_path / "far.png")["place"] == "far"
    assert (tmp_path / "far.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_must_be_a_kind_of_file_that_is_drawn(capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        predict_perf.main(["--plot", str(tmp_path / "plot.jpg")])
    assert end.value.code == 2
    assert "the name must end in .png or .svg" in capsys.readouterr().err


# --- conditions -------------------------------------------------------------------------------------------------------


def test_conditions_that_the_model_was_learned_under_change_nothing(capsys):
    assert ask_json(capsys, "--conditions", "precision=float32,backend=tensorflow") == ask_json(capsys)


def local_model(name, created, **conditions):
    """A local model of this box, learned under other conditions than the shipped one."""
    models_dir().mkdir(parents=True, exist_ok=True)
    known = json.loads(PRETRAINED.with_suffix(".json").read_text())["conditions"]
    conditions = {**known, "device_name": box_device_name(), **conditions}
    created_utc = f"2026-01-{created:02d}T00:00:00+00:00"
    return changed_copy(models_dir(), name, created_utc=created_utc, conditions=conditions)


def test_of_two_local_models_the_one_of_the_precision_asked_for_answers(capsys):
    half = local_model("half", 1, precision="mixed_float16")
    single = local_model("single", 2)
    assert ask_json(capsys)["model"] == str(single)  # the newer one
    for precision, path in (("mixed_float16", half), ("float32", single)):
        answer = ask_json(capsys, "--conditions", f"precision={precision}")
        assert (answer["model"], answer["conditions"]["precision"]) == (str(path), precision)
        assert answer["answered_because"] == f"the newest local model of this box ({box_device_name()})"


def test_an_empty_condition_asks_for_a_model_that_does_not_know_it(capsys):
    assert ask_json(capsys, "--conditions", "window_steps=") == ask_json(capsys)
    out, err = ask(
        capsys, "--model", local_model("windows", 1, window_steps=100), "--conditions", "window_steps=", code=1
    )
    assert out == ""
    assert err.endswith("(named by --model) was learned under window_steps 100, not unknown.\n")


def test_a_model_of_other_conditions_is_refused(capsys):
    out, err = ask(capsys, "--conditions", "precision=mixed_float16,backend=jax", code=1)
    assert out == ""
    assert err.splitlines()[-1].startswith(f"error: {PRETRAINED} (the pretrained model, as no local one fits: ")
    assert err.endswith("was learned under precision float32, not mixed_float16, backend tensorflow, not jax.\n")


def test_what_is_no_condition_is_refused(capsys):
    out, err = ask(capsys, "--conditions", "gpu=A100", code=1)
    assert out == ""
    assert "error: gpu: not a condition; use device_name, " in err


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_params_that_agree_with_the_closed_form_change_nothing(capsys):
    assert ask_json(capsys, "--params", count_params(3, 32)) == ask_json(capsys)


def test_params_of_another_network_are_refused_with_the_right_number(capsys):
    out, err = ask(capsys, "--depth", 2, "--params", 123, code=1)
    assert out == ""
    assert f"error: --params 123: depth 2 with 32 base filters has {count_params(2, 32)} parameters." in err


def test_a_named_model_answers_and_a_missing_one_is_one_line(capsys, tmp_path):
    assert ask_json(capsys, "--model", PRETRAINED)["answered_because"] == "named by --model"
    out, err = ask(capsys, "--model", tmp_path / "none.keras", code=1)
    assert out == ""
    assert err.splitlines()[1:] == [
        f"error: {tmp_path}/none.keras: no such model. Train one: epochcast train --model {tmp_path}/none.keras"
    ]


def test_a_prediction_far_beyond_numbers_is_refused_in_both_forms(capsys):
    for flags in ((), ("--json",)):
        out, err = ask(capsys, "--base_filters", 2**5_000, *flags, code=1)
        assert out == ""
        assert "too far outside" in err


def test_an_edited_card_is_refused(capsys, tmp_path):
    path = changed_copy(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    card["intervals"]["within"] /= 2
    path.with_suffix(".json").write_text(json.dumps(card))
    out, err = ask(capsys, "--model", path, code=1)
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
    answer = ask_json(capsys, "--epochs", 10**9)
    steady_sec = 10**9 * answer["predicted_avg_time_sec"]
    assert answer["training_sec"] == pytest.approx(steady_sec, rel=1e-6)  # the first is a few seconds longer
    with pytest.raises(SystemExit) as end:
        predict_perf.main(["--epochs", str(10**9 + 1)])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: --epochs: at most 1,000,000,000\n" in err


CHILD = f"""
import sys
from epochcast.__main__ import predict_perf
sys.argv = ["predict_perf", "--batch_size", "512", "--epochs", "50", "--json"]
code = predict_perf()
loaded = [name for name in {SLOW} if name in sys.modules]
sys.exit(code or (f"loaded: {{loaded}}" if loaded else 0))
"""


def test_a_fresh_process_answers_from_any_folder_without_anything_slow(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(CODE_ROOT))
    child = subprocess.run([sys.executable, "-c", CHILD], cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == ask_json(capsys, "--batch_size", 512, "--epochs", 50)
    assert child.stdout.count("\n") == 1
    assert child.stderr == f"files under {tmp_path}\n"
