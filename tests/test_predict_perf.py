"""`predict_perf` as a user sees it: one answer, what it rests on, and nothing slow behind it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from epochcast.environment import box_device_name
from epochcast.paths import CODE_ROOT, pretrained_dir
from epochcast.schema import DEFAULT_CONFIG, Conditions, RunConfig
from model import predict_perf
from model.predictor import load_model
from workload.shape import count_params

PRETRAINED = pretrained_dir() / "a100.keras"
SLOW = ("tensorflow", "keras", "pandas", "sklearn", "matplotlib", "jax")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))


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
    assert lines["in_range"] == "yes"


def test_without_flags_the_default_configuration_is_asked_for(capsys):
    answer = ask_json(capsys)
    assert RunConfig(answer["depth"], answer["base_filters"], answer["batch_size"]) == DEFAULT_CONFIG == RunConfig()


def test_outside_the_range_both_forms_say_what_is_outside(capsys):
    flags = ("--depth", 6, "--batch_size", 16)
    answer = ask_json(capsys, *flags)
    assert answer["in_range"] is False
    assert answer["outside"] == ["depth 6 (measured: 2 to 5)", "batch_size 16 (measured: 32 to 2048)"]
    assert ask_lines(capsys, *flags)["in_range"] == (
        f"no, extrapolating: {', '.join(answer['outside'])}; the error below does not hold there"
    )


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


@pytest.mark.parametrize("flag", ["--depth", "--base_filters", "--batch_size", "--params"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_what_is_no_positive_whole_number_exits_2(capsys, flag, value):
    with pytest.raises(SystemExit) as end:
        predict_perf.main([f"{flag}={value}"])
    assert end.value.code == 2
    assert capsys.readouterr().out == ""


CHILD = f"""
import sys
from epochcast.__main__ import predict_perf
sys.argv = ["predict_perf", "--batch_size", "512", "--json"]
code = predict_perf()
loaded = [name for name in {SLOW} if name in sys.modules]
sys.exit(code or (f"loaded: {{loaded}}" if loaded else 0))
"""


def test_a_fresh_process_answers_from_any_folder_without_anything_slow(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(CODE_ROOT))
    child = subprocess.run([sys.executable, "-c", CHILD], cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == ask_json(capsys, "--batch_size", 512)
    assert child.stdout.count("\n") == 1
    assert child.stderr == f"files under {tmp_path}\n"
