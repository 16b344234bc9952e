"""`epochcast explain`: parts that sum to the prediction, and one screen that says what the JSON says."""

from __future__ import annotations

import json

import pytest

from epochcast.gpus import lookup as hardware
from epochcast.model import explain as command
from epochcast.model import predict_perf
from epochcast.model.answers.prediction import predict
from epochcast.model.explanation.text import explanation_text
from epochcast.model.time_model.physics import GROUPS
from epochcast.model.time_model.saved_model import choose_model
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records
from tests.support.models.explanations import A100, CONFIGS, H100, ask, cpu_model, explained, explanation
from tests.support.rows import assert_one_clear_error

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_parts_and_layers_sum_to_the_very_time_that_predict_perf_tells(config):
    answer, predicted = explained(config), predict(config, choose_model()).to_json()
    for name in ("predicted_avg_time_sec", "predicted_avg_time_sec_low", "predicted_avg_time_sec_high"):
        assert answer[name] == predicted[name]
    total = answer["predicted_avg_time_sec"]
    assert tuple(answer["parts"]) == GROUPS
    assert sum(answer["parts"].values()) == pytest.approx(total, rel=1e-12)  # double precision, here and below
    assert sum(answer["terms"].values()) == pytest.approx(total, rel=1e-12)
    layers = [layer["attributed_sec"] for layer in answer["layers"]]
    assert sum(layers) + sum(answer["of_no_layer"].values()) == pytest.approx(total, rel=1e-12)
    assert set(answer["of_no_layer"]) == {"per_epoch", "per_step"}
    for group in ("arithmetic", "memory"):
        assert sum(layer["attributed"][group] for layer in answer["layers"]) == pytest.approx(answer["parts"][group])
    for layer in answer["layers"]:
        assert sum(layer["attributed"].values()) == pytest.approx(layer["attributed_sec"], rel=1e-12)


def test_a_prediction_outside_the_range_says_so_and_keeps_no_interval_that_nothing_backs():
    answer = explanation(RunConfig(7, 16, 64))
    assert "extrapolating: depth 7" in answer.time.words
    assert answer.time.seconds.low is None
    assert "(interval unknown)" in explanation_text(answer)


def test_the_first_line_names_the_device_and_that_it_is_not_this_box(monkeypatch):
    answer = explanation()
    assert explanation_text(answer).splitlines()[0] == (
        f"explained: {A100} (NOT this box: {answer.this_box}), epochs of 50,000 images, float32 in tf32; "
        "model a100.keras"
    )
    monkeypatch.setattr(hardware, "box_device_names", lambda: [A100])
    assert explanation_text(explanation()).splitlines()[0].startswith(f"explained: this box ({A100}), epochs of ")
    monkeypatch.setattr(hardware, "box_device_names", lambda: ["A100-PCIE-80GB"])  # the same, spelled otherwise
    assert "NOT this box" not in explanation_text(explanation())


def test_screen_and_json_say_the_same():
    flags = ("--depth", 3, "--base_filters", 32, "--batch_size", 512)
    answer = json.loads(ask(*flags, "--json").out)
    text = ask(*flags).out
    assert answer == json.loads(json.dumps(explained()))
    assert f"predicted_avg_time_sec: {answer['predicted_avg_time_sec']:.3f} (" in text
    for layer in answer["layers"]:
        assert any(line.startswith(layer["name"] + " ") for line in text.splitlines())
    assert f"{100 * answer['share_of_peak']:.2f} % of the peak (MFU)" in text
    assert f"roof that binds: {answer['roofs']['binds']}" in text


def test_the_share_of_peak_is_all_multiply_adds_over_the_predicted_time():
    answer = explained()
    macs = [record.macs for record in layer_records(RunConfig(3, 32))]
    flop = 50_000 * 2 * (3 * sum(macs) - macs[0])
    assert answer["share_of_peak"] == pytest.approx(flop / answer["predicted_avg_time_sec"] / 156e12)


def test_predict_perf_and_explain_print_the_same_seconds(capsys):
    flags = ["--depth", "5", "--base_filters", "64", "--batch_size", "256", "--gpu", H100, "--json"]
    explained_ = json.loads(ask(*flags).out)
    assert predict_perf.main(flags) == 0
    (told,) = json.loads(capsys.readouterr().out)["gpus"]
    for name in ("predicted_avg_time_sec", "predicted_avg_time_sec_low", "predicted_avg_time_sec_high"):
        assert explained_[name] == told[name]
    assert (explained_["basis"], explained_["device_share"]) == (told["basis"], told["device_share"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gpu", "A100"], "A100 PCIe 80GB"),
        (["--gpu", "Voodoo 2"], "no GPU is known by exactly the name 'Voodoo 2'"),
        (["--gpu", "Tesla V100-SXM2-16GB", "--precision", "mixed_bfloat16"], "no known bf16 rate"),
        (["--conditions", "precision=mixed_float16"], "learned under precision float32, not mixed_float16"),
        (["--conditions", "tf32=off", "--gpu", "L4"], "learned under tf32 on, not off"),
        (["--conditions", "colour=red"], "colour: not a condition"),
        (["--conditions", "colour=red", "--gpu", "L4"], "colour: not a condition"),
        (["--model", "nowhere.keras"], "nowhere.keras: no such model"),
        (["--network", "nowhere.keras"], "nowhere.keras: no such file"),
        (["--network", __file__], "test_explain.py: not a .keras file"),
    ],
)
def test_bad_input_is_one_clear_error(flags, message):
    assert_one_clear_error(ask(*flags, code=1), message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--plot", "x.pdf"], "must end in .png or .svg"),
        (["--network", "x.keras", "--depth", "3"], "--depth describe our CNN"),
        (["--allow_unknown"], "go with --network"),
        (["--network", "x.keras", "--sample_shape", "32,zero"], "expected a whole number"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(capsys, flags, message):
    with pytest.raises(SystemExit) as exit_:
        command.main(flags)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_another_precision_on_a_processor_is_one_clear_error():
    path = cpu_model()
    printed = ask("--model", path, "--precision", "mixed_float16", code=1)
    assert_one_clear_error(printed, "nothing tells of mixed_float16 there")
