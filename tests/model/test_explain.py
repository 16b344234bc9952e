"""`epochcast explain`: parts that sum to the prediction, layers under their roofs, and what is unknown named so."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from epochcast.facts.assumptions import assumption
from epochcast.gpus import lookup as hardware
from epochcast.gpus.lookup import find_gpu, roof_of
from epochcast.gpus.ratio import Ratio
from epochcast.interval import Interval
from epochcast.model import explain as command
from epochcast.model import predict_perf
from epochcast.model.answers.other_gpus import Asked, answer_on
from epochcast.model.answers.prediction import predict
from epochcast.model.explain_epoch import explain
from epochcast.model.explanation import epoch_time as explain_time
from epochcast.model.explanation.attribution import attribute
from epochcast.model.explanation.device import explained_device
from epochcast.model.explanation.efficiency import efficiencies, kernels_of_a_block
from epochcast.model.explanation.roofline_figure import draw_roofline
from epochcast.model.explanation.text import explanation_text
from epochcast.model.time_model.card import card_sha256
from epochcast.model.time_model.physics import FORMS, GROUPS, Law
from epochcast.model.time_model.saved_model import choose_model, load_model
from epochcast.paths import models_dir, pretrained_dir
from epochcast.roofline.network import TrainedNetwork, epoch_layers
from epochcast.roofline.roofline import ADAM_PASSES, WEIGHT_BYTES, step_roof
from epochcast.schema import Conditions, RunConfig
from epochcast.storage.cells import columns
from epochcast.workload.shape import layer_records, trained_cnn, work_of
from tests.support.rows import agg_row, assert_one_clear_error

PRETRAINED = pretrained_dir() / "a100.keras"
A100 = "NVIDIA A100 80GB PCIe"
H100 = "NVIDIA H100 80GB HBM3"
CONFIGS = [RunConfig(3, 32, 512), RunConfig(2, 16, 96), RunConfig(5, 128, 2048), RunConfig(7, 16, 64)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))


def explanation(config=CONFIGS[0], **asked):
    device = explained_device(config, **asked)
    return explain(device, trained_cnn(config, 50_000, device.precision), config)


def explained(config=CONFIGS[0], **asked):
    """An explanation as JSON values."""
    return explanation(config, **asked).to_json()


def ask(capsys, *flags, code=0):
    assert command.main([str(flag) for flag in flags]) == code
    return capsys.readouterr()


def local_model(**conditions):
    """The shipped model as if it had been learned on this box, under other conditions."""
    folder = models_dir()
    folder.mkdir(parents=True)
    shutil.copy(PRETRAINED, folder / "own.keras")
    card = json.loads(PRETRAINED.with_suffix(".json").read_text())
    card["conditions"] |= conditions
    (folder / "own.json").write_text(json.dumps({**card, "card_sha256": card_sha256(card)}))
    return folder / "own.keras"


# --- with a model that answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_parts_and_layers_sum_to_the_very_time_that_predict_perf_tells(config):
    answer, predicted = explained(config), predict(config, choose_model())
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


def test_a_law_s_seconds_spread_over_layers_by_their_own_work():
    network = trained_cnn(RunConfig(2, 16, 100), 1_000, "float32")
    coefficients = dict(zip(FORMS["physics_6"], (0.5, 1e-3, 2e-3, 1e-9, 1e-12, 1e-10), strict=True))
    law = Law("physics_6", np.array(list(coefficients.values())), 1_000)
    seconds = law.seconds([RunConfig(2, 16, 100)])[0]
    attribution = attribute(law, network, 2 * seconds)  # whatever the network beside the law adds, in proportion
    conv = network.records[1]
    by_hand = {
        "per_step_and_block": 10 * 2e-3 * 2 / 8,  # ten steps, two blocks, eight layers
        "per_param_step": 10 * 1e-9 * conv.params,
        "per_flop": 1_000 * 1e-12 * 2 * conv.macs * 3,
        "per_activation_byte": 1_000 * 1e-10 * 3 * 4 * conv.outputs,
    }
    assert attribution.layers[1] == pytest.approx({name: 2 * sec for name, sec in by_hand.items()})
    assert attribution.of_no_layer == pytest.approx({"per_epoch": 1.0, "per_step": 2 * 10 * 1e-3})


def test_a_law_that_takes_no_time_attributes_none():
    silent = Law("physics_6", np.zeros(6), 1_000)
    with pytest.raises(ValueError, match="gives it no time"):
        attribute(silent, trained_cnn(RunConfig(2, 16, 100), 1_000, "float32"), 1.0)


def test_layers_of_an_epoch_count_its_short_last_step_once():
    network = trained_cnn(RunConfig(2, 16, 300), 1_000, "float32")
    roof = roof_of(find_gpu(A100), "tf32")
    layers = epoch_layers(network, roof)
    full, rest = (step_roof(network.records, batch, roof) for batch in (300, 100))
    attainable = sum(layer.sec for layer in layers)
    assert attainable == pytest.approx(3 * (full.sec - full.launch_sec) + rest.sec - rest.launch_sec)
    for layer, own_full, own_rest in zip(layers, full.layers, rest.layers, strict=True):
        assert layer.flop == 3 * own_full.flop + own_rest.flop
        assert layer.bytes == 3 * own_full.bytes + own_rest.bytes + 4 * ADAM_PASSES * WEIGHT_BYTES * layer.record.params
    assert sum(layer.flop for layer in layers) == pytest.approx(1_000 * sum(layer.flop for layer in full.layers) / 300)


def test_coefficients_become_efficiencies_and_shares_of_the_peak():
    network = trained_cnn(RunConfig(3, 32, 512), 50_000, "float32")
    roof = roof_of(find_gpu(A100), "tf32")
    law = Law("physics_6", np.array([0.3, 1e-3, 3e-4, 28 / 967.5e9, 1 / 78e12, 1 / 200e9]), 50_000)
    told = {e.term: e for e in efficiencies(law, network, roof, "tf32")}
    assert list(told) == list(FORMS["physics_6"])
    assert (told["per_flop"].value, told["per_flop"].share) == pytest.approx((78, 0.5))
    assert (told["per_param_step"].value, told["per_param_step"].share) == pytest.approx((967.5, 0.5))
    assert told["per_step_and_block"].value == pytest.approx(300 / kernels_of_a_block())
    moved = sum(r.inputs + r.outputs + r.backward_elements for r in network.records)
    outputs = sum(r.outputs for r in network.records)
    assert told["per_activation_byte"].value == pytest.approx(200 * moved / (3 * outputs))
    assert told["per_epoch"].share is None
    assert str(told["per_flop"]) == "78.0 TFLOP/s of multiply-adds in tf32: 50.0 % of the peak of 156"
    assert [e.share for e in efficiencies(law, network, None, None)] == [None] * 6
    assert efficiencies(Law("physics_6", np.array([0, 1e-3, 0, 0, 0, 0]), 50_000), network, roof, "tf32")[0].value == 1


def test_an_efficiency_above_the_peak_is_shown_for_what_it_is():
    (flops,) = (e for e in explained()["efficiencies"] if e["term"] == "per_flop")
    assert flops["share"] > 1  # of the shipped model's law: its terms are fitted to times, not measured one by one
    assert "the law counts some of this time in other terms" in flops["words"]


def test_the_first_line_names_the_device_and_that_it_is_not_this_box(monkeypatch, capsys):
    answer = explanation()
    assert explanation_text(answer).splitlines()[0] == (
        f"explained: {A100} (NOT this box: {answer.this_box}), epochs of 50,000 images, float32 in tf32; "
        "model a100.keras"
    )
    monkeypatch.setattr(hardware, "box_device_names", lambda: [A100])
    assert explanation_text(explanation()).splitlines()[0].startswith(f"explained: this box ({A100}), epochs of ")
    monkeypatch.setattr(hardware, "box_device_names", lambda: ["A100-PCIE-80GB"])  # the same, spelled otherwise
    assert "NOT this box" not in explanation_text(explanation())


def test_screen_and_json_say_the_same(capsys):
    flags = ("--depth", 3, "--base_filters", 32, "--batch_size", 512)
    answer = json.loads(ask(capsys, *flags, "--json").out)
    text = ask(capsys, *flags).out
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


# --- other devices ----------------------------------------------------------------------------------------------------


def measured(seconds, device_name, **changes):
    """A row of the first configuration under the shipped model's conditions, but for its device and `changes`."""
    own = load_model(PRETRAINED).conditions
    known = {name: getattr(own, name) for name in columns(Conditions)} | {"device_name": device_name} | changes
    config = CONFIGS[0]
    return agg_row(config.depth, config.base_filters, config.batch_size, seconds, 3, 0.01, **known)


def carried_answer(name, config, rows=(), precision="float32"):
    return answer_on(find_gpu(name), load_model(PRETRAINED), Asked(config, precision), rows)


def assert_same_time(answer, steady):
    """To rounding: a time is summed from other parts."""
    for end, value in (("", steady.value), ("_low", steady.low), ("_high", steady.high)):
        told = answer[f"predicted_avg_time_sec{end}"]
        assert told == (None if value is None else pytest.approx(value, rel=1e-12))


@pytest.mark.parametrize("name", [H100, "A10", "RTX 4090", "Tesla V100-SXM2-16GB", "H20 96GB", "MI300X", A100])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_named_gpu_takes_the_very_time_that_predict_perf_tells_of_it(name, config):
    answer, told = explained(config, gpu_name=name), carried_answer(name, config)
    assert_same_time(answer, told.forecast.steady)
    own = explained(config)
    total = answer["predicted_avg_time_sec"]
    assert sum(answer["parts"].values()) == pytest.approx(total, rel=1e-12)
    layers = [layer["attributed_sec"] for layer in answer["layers"]]
    assert sum(layers) + sum(answer["of_no_layer"].values()) == pytest.approx(total, rel=1e-12)
    for group, sec in answer["parts"].items():
        scale = told.ratio.value.value if group in ("arithmetic", "memory") else 1
        assert sec == pytest.approx(scale * own["parts"][group], rel=1e-9)
    if name != A100:
        device_sec = answer["parts"]["arithmetic"] + answer["parts"]["memory"]
        assert device_sec >= (1 - 1e-9) * answer["roofs"]["attainable_sec"]
        assert answer["share_of_peak"] < 1
    assert answer["held_at_roof"] == told.held


def test_predict_perf_and_explain_print_the_same_seconds(capsys):
    flags = ["--depth", "5", "--base_filters", "64", "--batch_size", "256", "--gpu", H100, "--json"]
    explained_ = json.loads(ask(capsys, *flags).out)
    assert predict_perf.main(flags) == 0
    (told,) = json.loads(capsys.readouterr().out)["gpus"]
    for name in ("predicted_avg_time_sec", "predicted_avg_time_sec_low", "predicted_avg_time_sec_high"):
        assert explained_[name] == told[name]
    assert (explained_["basis"], explained_["device_share"]) == (told["basis"], told["device_share"])


def test_a_time_carried_over_names_its_route_its_bar_and_what_was_scaled():
    found = explanation(gpu_name=H100)
    answer = found.to_json()
    assert not answer["calibrated"]
    assert answer["efficiencies"] is answer["law_sec"] is answer["readings"] is None
    lines = explanation_text(found).splitlines()
    share, ratio = answer["device_share"], answer["device_time_ratio"]
    assert any(line.startswith("basis: carried over by a speed row: published fp32 speeds: resnet50") for line in lines)
    assert any(
        line.startswith(f"scaled: arithmetic and memory, {100 * share:.1f} % on {A100} in float32, x {ratio:.3f} (x/÷2")
        for line in lines
    )
    assert "efficiency: unknown, as no law was fitted to rows of H100 SXM5 in float32" in lines
    assert any(line.startswith(f"efficiency elsewhere, on {A100} in float32: ") for line in lines)
    assert "carried over by rates: " in explained(gpu_name="L40S")["basis_words"]
    roof = roof_of(find_gpu(H100), "tf32")
    for layer, own in zip(
        answer["layers"], epoch_layers(trained_cnn(CONFIGS[0], 50_000, "float32"), roof), strict=True
    ):
        assert layer["attainable_sec"] == own.sec
        assert layer["share_of_roof"] == pytest.approx(own.sec / layer["attributed_sec"])
    flop = answer["train_flop_per_epoch"]
    assert answer["share_of_peak"] == pytest.approx(flop / answer["predicted_avg_time_sec"] / roof.flops)
    title = draw_roofline(found).axes[0].get_title(loc="left")
    assert f"as the law of {A100} tells, scaled" in " ".join(title.split())
    assert len(title.splitlines()) == 3 and max(map(len, title.splitlines())) <= 96


def test_a_row_measured_on_the_gpu_wins_and_is_split_as_a_time_carried_over():
    row = measured(1.5, H100)
    found, without = explanation(gpu_name=H100, rows=[row]), explained(gpu_name=H100)
    answer = found.to_json()
    assert_same_time(answer, carried_answer(H100, CONFIGS[0], [row]).forecast.steady)
    assert (answer["predicted_avg_time_sec"], answer["basis"]) == (1.5, "measured")
    assert answer["basis_words"].endswith("it splits as a time carried over would")
    for group, sec in answer["parts"].items():
        scale = 1.5 / without["predicted_avg_time_sec"]
        assert sec == pytest.approx(scale * without["parts"][group], rel=1e-9)
    assert "scaled: " not in explanation_text(found)  # nothing of 1.5 s rests on a ratio
    on_own = explained(gpu_name=A100, rows=[measured(1.5, A100)])
    assert (on_own["predicted_avg_time_sec"], on_own["calibrated"]) == (1.5, True)
    assert "by the model's law" in on_own["basis_words"]


def cpu_model():
    """A model of a processor, named by --model."""
    return local_model(device_name="AMD EPYC (2 cores)", tf32="off")


def test_a_row_measured_where_nothing_carries_over_is_not_split():
    path = cpu_model()
    row = measured(1.5, "A10", tf32="off")
    found = explanation(gpu_name="A10", path=path, rows=[row])
    answer = found.to_json()
    assert (answer["predicted_avg_time_sec"], answer["basis"]) == (row.avg_time_mean, "measured")
    assert (answer["parts"], answer["arithmetic"]) == (None, "fp32")
    assert answer["share_of_peak"] is not None
    assert "nothing tells how it splits" in explanation_text(found)


def test_a_gpu_that_nothing_carries_over_to_gets_its_roof_and_the_wide_band():
    found = explanation(gpu_name=H100, path=cpu_model())
    answer = found.to_json()
    assert (answer["calibrated"], answer["basis"]) == (False, "bare roof")
    assert answer["parts"] is answer["efficiencies"] is answer["share_of_peak"] is answer["model"] is None
    roof = roof_of(find_gpu(H100), "tf32")
    layers = epoch_layers(trained_cnn(CONFIGS[0], 50_000, "float32"), roof)
    kernels = sum(layer.n_kernels for layer in layers)
    sec = sum(layer.sec for layer in layers) + 98 * kernels * assumption("kernel_launch_sec", "gpu").value
    low, high = (assumption(f"roofline_factor{end}", "gpu").value for end in ("_low", "_high"))
    assert answer["predicted_avg_time_sec_low"] == pytest.approx(low * sec)
    assert answer["predicted_avg_time_sec_high"] == pytest.approx(high * sec)
    text = explanation_text(found)
    assert f"uncalibrated: the roofline is a bound; on the one GPU measured a run of the CNN took {low:g} to" in text
    assert "efficiency elsewhere, on AMD EPYC (2 cores) in float32: " in text
    assert "note: tf32 is taken to be on" in text
    assert "note: nothing carries over from AMD EPYC (2 cores): with --model" in text
    assert "MFU" not in text
    assert all(layer["attributed_sec"] is None for layer in answer["layers"])


def test_where_this_box_s_own_model_is_of_a_processor_the_pretrained_one_carries_over():
    local_model(device_name=explained()["this_box"], tf32="off")
    assert_same_time(explained(gpu_name=H100), carried_answer(H100, CONFIGS[0]).forecast.steady)
    own = explained(gpu_name=A100)
    assert own["calibrated"]
    assert "as nothing carries over from" in own["answered_because"]


@pytest.mark.parametrize("name", [A100, "A100-PCIE-80GB"])
def test_the_gpu_of_the_model_s_rows_is_calibrated_however_it_is_spelled(name):
    answer = explained(gpu_name=name)
    assert answer["calibrated"]
    assert answer["predicted_avg_time_sec"] == explained()["predicted_avg_time_sec"]


@pytest.mark.parametrize("gpu_name", [None, A100, "A100-PCIE-80GB"])
def test_another_precision_is_carried_over_as_predict_perf_does_on_the_model_s_own_gpu(gpu_name):
    answer = explained(gpu_name=gpu_name, precision="mixed_float16")
    assert (answer["calibrated"], answer["device"], answer["precision"]) == (False, A100, "mixed_float16")
    assert_same_time(answer, carried_answer(A100, CONFIGS[0], precision="mixed_float16").forecast.steady)
    assert (answer["arithmetic"], answer["roofs"]["peak_tflops"]) == ("fp16", 312)
    half, full = (sum(layer["bytes"] for layer in a["layers"]) for a in (answer, explained()))
    assert 0.45 < half / full < 0.6  # activations and weights that are read take half, the optimizer's do not
    assert explained(precision="float32") == explained()


def test_tf32_off_takes_the_plain_rate():
    path = local_model(tf32="off")
    assert explained(path=path, gpu_name="A10")["arithmetic"] == "fp32"
    assert explained(path=path, gpu_name="A10", wanted={"tf32": "off"})["arithmetic"] == "fp32"


def test_a_model_of_another_device_does_not_calibrate_the_gpu_that_is_asked_for():
    path = local_model(device_name="NVIDIA H200")
    assert not explained(gpu_name=A100, path=path)["calibrated"]
    assert explained(gpu_name="H200", path=path)["calibrated"]


def test_a_processor_has_parts_but_no_roofs(capsys):
    local_model(device_name=explained()["this_box"], tf32="off")
    found = explanation()
    answer = found.to_json()
    assert answer["roofs"] is answer["share_of_peak"] is None
    assert sum(answer["parts"].values()) == pytest.approx(answer["predicted_avg_time_sec"])
    assert all(
        layer["bound"] is layer["attainable_sec"] is layer["share_of_roof"] is None for layer in answer["layers"]
    )
    assert all(e["peak"] is e["share"] is None for e in answer["efficiencies"])
    text = explanation_text(found)
    assert "peaks unknown, so no roofs" in text
    assert "note: no roofs: " in text
    assert "NOT this box" not in text
    assert draw_roofline(found).axes[0].lines  # layers alone


def test_what_the_rows_leave_open_is_said_and_an_instance_of_a_gpu_has_no_peaks():
    path = local_model(device_name=A100, tf32=None)
    assert any("tf32 on" in note for note in explained(path=path)["notes"])
    shutil.rmtree(models_dir())
    path = local_model(device_name="NVIDIA A100-SXM4-80GB MIG 1g.10gb")
    assert explained(path=path)["roofs"] is None


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
def test_bad_input_is_one_clear_error(capsys, flags, message):
    assert_one_clear_error(ask(capsys, *flags, code=1), message)


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


# --- the figure -------------------------------------------------------------------------------------------------------


def test_the_figure_holds_every_layer_below_the_roofs(capsys, tmp_path):
    found = explanation()
    answer = found.to_json()
    (axes,) = draw_roofline(found).axes
    roof, *markers = axes.lines
    ridge = answer["roofs"]["ridge_flop_per_byte"]
    assert list(roof.get_xdata())[1] == ridge
    assert list(roof.get_ydata())[1:] == [156e12, 156e12]
    points = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in markers}
    assert points <= {(layer["intensity"], layer["flops"]) for layer in answer["layers"]}
    for x, y in points:
        assert y < min(156e12, x * 1935e9)
        assert axes.get_xlim()[0] < x < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < y < axes.get_ylim()[1]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(legend) == len(points)
    assert f"1  block1_conv1, {answer['layers'][0]['attributed_sec']:.2g} s" in legend
    assert "above the roof" not in axes.get_legend().get_title().get_text()
    out = tmp_path / "roofline.svg"
    assert f"plot: {out}" in ask(capsys, "--plot", out).out
    assert out.read_text().count('id="line2d_') > len(points)


def test_markers_that_would_hide_one_another_are_one_and_the_others_stay():
    answer = explanation()
    first, second, third, *_ = answer.layers

    def moved(layer, factor, flops):
        """A layer at so many times the first one's intensity, with these FLOP/s."""
        work = replace(layer.layer, bytes=layer.layer.flop / (factor * first.layer.intensity))
        return replace(layer, layer=work, parts={"per_flop": layer.layer.flop / flops})

    near = moved(second, 1.02, first.flops)
    planted = replace(answer, layers=(first, near, moved(third, 50, third.flops)))  # of the same kind or not
    (axes,) = draw_roofline(planted).axes
    _, *markers = axes.lines
    assert len(markers) == 2
    joined = first.attributed_sec + near.attributed_sec
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert any(label.endswith(f"and 1 more, {joined:.2g} s") for label in legend)


def test_layers_told_above_the_roof_are_noted_once_and_in_the_plot():
    above = explanation(RunConfig(5, 128, 2048), gpu_name="Tesla V100-SXM2-16GB")
    assert any(layer.share_of_roof > 1 for layer in above.layers if layer.share_of_roof is not None)
    (note,) = (line for line in explanation_text(above).splitlines() if "single layers may come out above" in line)
    assert note.startswith("note: the law spreads memory by outputs and launches by kernels")
    title = draw_roofline(above).axes[0].get_legend().get_title().get_text()
    assert "may come out above the roof" in " ".join(title.split())
    assert not any("above the roof" in note for note in explained()["notes"])


# --- a network of one's own -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Networks as Keras saves them."""
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    from epochcast.workload.cnn import build_model, compile_model

    folder = tmp_path_factory.mktemp("networks")
    cnn = build_model(RunConfig(2, 16))
    compile_model(cnn)
    cnn.save(folder / "cnn.keras")
    inputs = keras.Input((16, 8))
    plain = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    plain.save(folder / "uncompiled.keras")
    plain.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    plain.save(folder / "momentum.keras")

    @keras.saving.register_keras_serializable(package="tests")
    class Doubling(keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=())

        def call(self, inputs):
            return inputs * self.factor

    odd = keras.Model(inputs, keras.layers.Dense(4, name="tail")(Doubling(name="odd")(inputs)))
    odd.save(folder / "odd.keras")
    inputs = keras.Input((None, 8))
    keras.Model(inputs, keras.layers.SimpleRNN(4)(inputs)).save(folder / "open.keras")
    inputs = keras.Input((16, 8))
    doubled = keras.layers.Lambda(lambda x: 2 * x)(inputs)
    keras.Model(inputs, keras.layers.Dense(4)(doubled)).save(folder / "code.keras")
    with zipfile.ZipFile(folder / "empty.keras", "w"):
        pass
    return folder


def test_our_cnn_read_from_a_file_is_our_cnn(saved, capsys):
    flags = ("--network", saved / "cnn.keras", "--batch_size", 256, "--json")
    answer = json.loads(ask(capsys, *flags).out)
    own = explained(RunConfig(2, 16, 256))
    for read, known in zip(answer["layers"], own["layers"], strict=True):
        for name in ("name", "kind", "output_shape", "params", "flop", "bytes", "bound", "attainable_sec"):
            assert read[name] == known[name]
    law = load_model(PRETRAINED).plain_law
    parts = law.parts_of(work_of(RunConfig(2, 16, 256), 50_000))
    without_input = sum(parts.values()) - parts["per_epoch"]
    assert answer["predicted_avg_time_sec"] == pytest.approx(without_input)
    bar = assumption("other_network_bar_convolutional", "gpu").value
    assert answer["predicted_avg_time_sec_high"] == pytest.approx(bar * answer["predicted_avg_time_sec"])
    assert "extrapolated to another family of networks" in answer["basis_words"]
    assert (answer["network"], answer["optimizer"], answer["not_counted"]) == ("cnn.keras", "adam", [])


def test_optimizer_and_samples_of_a_network_are_its_own(saved, capsys):
    def read(name, *flags):
        return json.loads(ask(capsys, "--network", saved / name, "--batch_size", 32, "--json", *flags).out)

    adam, momentum = read("uncompiled.keras", "--train_n", 640), read("momentum.keras", "--train_n", 640)
    assert (adam["train_n"], adam["steps_per_epoch"]) == (640, 20)
    assert any("no optimizer is saved" in note for note in adam["notes"])
    assert (momentum["optimizer"], momentum["notes"]) == ("sgd", [])
    weights = 16 * 8 * 4 + 4
    assert adam["layers"][0]["bytes"] - momentum["layers"][0]["bytes"] == 20 * weights * 4 * 2  # 7 passes, not 5
    bar = assumption("other_network_bar", "gpu").value
    assert adam["predicted_avg_time_sec_low"] == pytest.approx(adam["predicted_avg_time_sec"] / bar)
    assert bar > assumption("other_network_bar_convolutional", "gpu").value


def test_an_unknown_layer_stops_unless_it_is_allowed_and_is_named_either_way(saved, capsys):
    flags = ("--network", saved / "odd.keras")
    assert_one_clear_error(ask(capsys, *flags, code=1), "odd (Doubling)")
    said = ask(capsys, *flags, "--allow_unknown").out
    assert "not counted: odd (Doubling)" in said
    answer = json.loads(ask(capsys, *flags, "--allow_unknown", "--json").out)
    assert len(answer["not_counted"]) == len(answer["layers"]) == 1


def test_an_open_dimension_is_asked_for(saved, capsys):
    flags = ("--network", saved / "open.keras")
    assert_one_clear_error(ask(capsys, *flags, code=1), "--sample_shape")
    answer = json.loads(ask(capsys, *flags, "--sample_shape", "12,8", "--json").out)
    assert sum(layer["kernels_per_step"] for layer in answer["layers"]) > 12  # a step of the loop after another


def test_a_file_that_brings_code_or_nothing_is_refused(saved, capsys):
    for name, found in (("code", "layer 'lambda' holds a lambda function"), ("empty", "not a .keras file")):
        printed = ask(capsys, "--network", saved / f"{name}.keras", code=1)
        assert_one_clear_error(printed, f"{name}.keras: {found}")


def test_a_class_that_keras_does_not_know_is_named(saved, capsys, monkeypatch):
    from epochcast.machine.framework import keras_on_cpu

    monkeypatch.delitem(keras_on_cpu().saving.get_custom_objects(), "tests>Doubling")
    printed = ask(capsys, "--network", saved / "odd.keras", code=1)
    assert_one_clear_error(printed, "odd.keras: layer 'odd' needs class Doubling (test_explain), its author's code.")
    assert printed.err.rstrip().endswith("by --code FILE.py, or --allow_unknown leaves it out.")
    answer = network_answer(saved / "odd.keras", capsys, "--allow_unknown")
    assert (answer["not_counted"], [layer["name"] for layer in answer["layers"]]) == (["odd (Doubling)"], ["tail"])


def network_answer(name, capsys, *flags):
    return json.loads(ask(capsys, "--network", name, "--batch_size", 256, "--json", *flags).out)


def test_a_network_is_carried_to_another_gpu_or_precision_as_the_cnn_is(saved, capsys):
    own = network_answer(saved / "cnn.keras", capsys)
    for flags in (("--gpu", "L40S"), ("--gpu", H100), ("--precision", "mixed_float16")):
        answer = network_answer(saved / "cnn.keras", capsys, *flags)
        assert (answer["calibrated"], answer["basis"]) == (False, "law of the CNN, carried over")
        assert "law of the CNN, within a factor of 2.4" in answer["basis_words"]
        ratio, share = answer["device_time_ratio"], answer["device_share"]
        for group, sec in known_of(answer["parts"]).items():
            scale = ratio if group in ("arithmetic", "memory") else 1
            assert sec == pytest.approx(scale * own["parts"][group], rel=1e-9)
        total = answer["predicted_avg_time_sec"]
        assert sum(known_of(answer["parts"]).values()) == pytest.approx(total)
        assert total == pytest.approx(own["predicted_avg_time_sec"] * (1 - share + share * ratio))
        # the law's own bar and the ratio's
        kept_high = own["predicted_avg_time_sec_high"] * (1 - share + share * answer["device_time_ratio_high"])
        assert answer["predicted_avg_time_sec_high"] == pytest.approx(kept_high)
        assert own["predicted_avg_time_sec_low"] * (1 - share) < answer["predicted_avg_time_sec_low"] < total
        assert (
            f"efficiency elsewhere, on {A100} in float32" in ask(capsys, "--network", saved / "cnn.keras", *flags).out
        )
    assert answer["arithmetic"] == "fp16"
    same = network_answer(saved / "cnn.keras", capsys, "--gpu", "A100-PCIE-80GB")
    assert (same["calibrated"], same["basis"]) == (True, "law of the CNN")


def known_of(parts):
    """The parts that are known for a network of the user's own: all but input and host."""
    assert parts["input and host"] is None
    return {group: sec for group, sec in parts.items() if sec is not None}


@pytest.mark.parametrize("name", ["cnn.keras", "uncompiled.keras"])
@pytest.mark.parametrize("train_n", [640, 50_000, 1_281_167])
@pytest.mark.parametrize("flags", [(), ("--gpu", "L40S")])
def test_input_and_host_of_another_network_are_unknown_and_no_part_of_its_time(saved, capsys, name, train_n, flags):
    flags = ("--train_n", train_n, *flags)
    answer = network_answer(saved / name, capsys, *flags)
    assert answer["terms"]["per_epoch"] is answer["of_no_layer"]["per_epoch"] is None
    known = known_of(answer["parts"])
    assert set(known) == {"steps", "arithmetic", "memory"}
    total = answer["predicted_avg_time_sec"]
    layers = sum(layer["attributed_sec"] for layer in answer["layers"])
    assert sum(known.values()) == pytest.approx(total)
    assert layers + answer["of_no_layer"]["per_step"] == pytest.approx(total)
    if not flags[2:]:
        assert answer["law_sec"] == pytest.approx(total)
    out = ask(capsys, "--network", saved / name, "--batch_size", 64, *flags).out
    assert "without input and host: not known for this network" in out
    assert "where it goes: input and host not known for this network, steps " in out
    assert "for input and host" not in out  # no efficiency of them either
    (row,) = (line for line in out.splitlines() if line.startswith("(input and host)"))
    assert row.split()[3:] == ["-"]


def test_twice_the_samples_take_twice_the_time_of_a_network_whose_input_is_unknown(saved, capsys):
    once, twice = (network_answer(saved / "cnn.keras", capsys, "--train_n", n) for n in (64_000, 128_000))
    assert twice["predicted_avg_time_sec"] == pytest.approx(2 * once["predicted_avg_time_sec"])


def test_a_network_on_a_gpu_agrees_with_itself_on_the_model_s_where_steps_take_most(saved, capsys):
    """A faster GPU can not take less than the steps that stay."""
    own, there = (network_answer(saved / "cnn.keras", capsys, *flags) for flags in ((), ("--gpu", H100)))
    stays = own["parts"]["steps"]
    assert stays > 0.5 * own["predicted_avg_time_sec"]
    assert stays < there["predicted_avg_time_sec"] < own["predicted_avg_time_sec"]


def test_the_kind_of_a_network_says_which_speeds_and_which_bar_carry_it(saved, capsys):
    dense = network_answer(saved / "uncompiled.keras", capsys, "--gpu", H100)
    assert "carried over by rates: " in dense["basis_words"]  # no published speed is of such a network
    ratio, high = dense["device_time_ratio"], dense["device_time_ratio_high"]
    assert high / ratio == pytest.approx(assumption("carry_bar", "gpu").value)
    convolutional = network_answer(saved / "cnn.keras", capsys, "--gpu", H100)
    assert "carried over by a speed row: published fp32 speeds: resnet50" in convolutional["basis_words"]


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ({"conv": 6, "dense": 5}, "convolutional"),
        ({"conv": 3, "depthwise": 3, "dense": 5}, "convolutional"),
        ({"attention": 6, "dense": 5}, "transformer"),
        ({"attention": 4, "dense": 5}, "other"),
        ({"recurrent": 6, "dense": 5}, "recurrent"),
        ({"conv": 5, "recurrent": 5}, "other"),
        ({"norm": 0}, "other"),
    ],
)
def test_a_network_s_kind_is_what_does_most_of_its_multiply_adds(kinds, kind):
    plain = trained_cnn(RunConfig(2, 16, 64), 1_000, "float32").records[0]
    records = tuple(replace(plain, kind=name, macs=macs) for name, macs in kinds.items())
    assert TrainedNetwork("", records, 1, 1).network_kind == kind


def test_a_network_that_only_moves_memory_is_held_at_the_roof_and_still_sums(saved, capsys, monkeypatch):
    monkeypatch.setattr(explain_time, "device_ratio", lambda *_: Ratio(Interval(1e-3, 1e-4, 1e-2), "rates", "planted"))
    answer = network_answer(saved / "cnn.keras", capsys, "--gpu", H100)
    assert answer["held_at_roof"] == "value"
    assert answer["parts"]["arithmetic"] + answer["parts"]["memory"] == pytest.approx(answer["roofs"]["attainable_sec"])
    layers = sum(layer["attributed_sec"] for layer in answer["layers"])
    assert layers + answer["of_no_layer"]["per_step"] == pytest.approx(answer["predicted_avg_time_sec"])
    text = ask(capsys, "--network", saved / "cnn.keras", "--gpu", H100).out
    assert "arithmetic and memory held at the roof of its data sheet" in text
    assert any(line.startswith("scaled: ") and line.endswith("held at the roof)") for line in text.splitlines())


def test_a_network_where_no_model_of_a_gpu_answers_gets_the_bare_roof_and_is_told_what_it_leaves_out(saved, capsys):
    flags = ("--network", saved / "cnn.keras", "--gpu", H100, "--model", cpu_model())
    answer = json.loads(ask(capsys, *flags, "--json").out)
    assert (answer["basis"], answer["parts"], answer["device_share"]) == ("bare roof", None, None)
    assert "input and host are not in it, and small networks take longer" in ask(capsys, *flags).out


def test_shapes_that_the_network_does_not_take_are_told_by_rank_and_size(saved, capsys):
    for name, shape, found in (
        ("open.keras", "12,9", "samples of shape (any, 8) of rank 2, and --sample_shape gives (12, 9) of rank 2."),
        ("open.keras", "64", "samples of shape (any, 8) of rank 2, and --sample_shape gives (64) of rank 1."),
        (
            "uncompiled.keras",
            "16,8,3",
            "samples of shape (16, 8) of rank 2, and --sample_shape gives (16, 8, 3) of rank 3.",
        ),
    ):
        printed = ask(capsys, "--network", saved / name, "--sample_shape", shape, code=1)
        assert_one_clear_error(printed, found)
        assert printed.err.rstrip().endswith(".")
        assert "Invalid input shape" not in printed.err
    printed = ask(capsys, "--network", saved / "open.keras", code=1)
    assert_one_clear_error(
        printed, "samples of shape (any, 8) of rank 2. Give the sizes that you train with by --sample_shape."
    )
    assert "shape=)" not in printed.err


def test_a_lambda_is_refused_in_one_sentence_of_ours(saved, capsys):
    printed = ask(capsys, "--network", saved / "code.keras", code=1)
    assert_one_clear_error(printed, "code in the file, which is never run. --allow_unknown counts the rest without it.")
    assert "deserialization" not in printed.err


def test_another_precision_on_a_processor_is_one_clear_error(capsys):
    path = cpu_model()
    printed = ask(capsys, "--model", path, "--precision", "mixed_float16", code=1)
    assert_one_clear_error(printed, "nothing tells of mixed_float16 there")
