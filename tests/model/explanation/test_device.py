"""Explanations of other GPUs and precisions: scaled, measured there, or by the roofline alone."""

from __future__ import annotations

import shutil

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import limit_of, roof_of
from epochcast.model.answers.other_gpus import answer_on
from epochcast.model.answers.prediction import RunRequest
from epochcast.model.explanation.roofline_figure import draw_roofline
from epochcast.model.explanation.text import explanation_text
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import models_dir
from epochcast.roofline.network import attainable_sec, epoch_layers
from epochcast.schema import Conditions
from epochcast.storage.cells import columns
from epochcast.workload.shape import trained_cnn
from tests.support.models.explanations import (
    A100,
    CONFIGS,
    H100,
    PRETRAINED,
    cpu_model,
    explained,
    explanation,
    local_model,
)
from tests.support.rows import agg_row

pytestmark = pytest.mark.usefixtures("home")


def measured(seconds, device_name, **changes):
    """A row of the first configuration under the shipped model's conditions, but for its device and `changes`."""
    own = load_model(PRETRAINED).conditions
    known = {name: getattr(own, name) for name in columns(Conditions)} | {"device_name": device_name} | changes
    config = CONFIGS[0]
    return agg_row(config.depth, config.base_filters, config.batch_size, seconds, 3, 0.01, **known)


def carried_answer(name, config, rows=(), precision="float32"):
    return answer_on(find_gpu(name), load_model(PRETRAINED), RunRequest(config, precision), rows)


def assert_same_time(answer, steady):
    """To rounding: a time is summed from other parts."""
    for end, value in (("", steady.value), ("_low", steady.low), ("_high", steady.high)):
        told = answer[f"predicted_avg_time_sec{end}"]
        assert told == (None if value is None else pytest.approx(value, rel=1e-12))


@pytest.mark.parametrize("name", [H100, "A10", "RTX 4090", "Tesla V100-SXM2-16GB", "H20 96GB", "MI300X", A100])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_named_gpu_takes_the_very_time_that_predict_perf_tells_of_it(name, config):
    answer, told = explained(config, gpu_name=name), carried_answer(name, config)
    assert_same_time(answer, told.times.steady)
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
        least = attainable_sec(trained_cnn(config, 50_000, "float32"), limit_of(told.gpu, answer["arithmetic"]))
        assert device_sec >= (1 - 1e-9) * least
    assert answer["held_at_roof"] == told.limited


def test_a_time_carried_over_names_its_route_its_bar_and_what_was_scaled():
    found = explanation(gpu_name=H100)
    answer = found.to_json()
    assert not answer["calibrated"]
    assert answer["efficiencies"] is answer["law_sec"] is answer["readings"] is None
    lines = explanation_text(found).splitlines()
    share, ratio = answer["device_share"], answer["device_time_ratio"]
    assert any(
        line.startswith("basis: carried over by its layers: arithmetic and memory by the law of networks")
        for line in lines
    )
    assert any(
        line.startswith(f"scaled: arithmetic and memory, {100 * share:.1f} % on {A100} in float32, x {ratio:.3f} (")
        for line in lines
    )
    assert "efficiency: unknown, as no law was fitted to rows of H100 SXM5 in float32" in lines
    assert any(line.startswith(f"efficiency elsewhere, on {A100} in float32: ") for line in lines)
    assert "in tf32 over tf32" in explained(gpu_name="L40S")["basis_words"]
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
    assert_same_time(answer, carried_answer(H100, CONFIGS[0], [row]).times.steady)
    assert (answer["predicted_avg_time_sec"], answer["basis"]) == (1.5, "measured")
    assert answer["basis_words"].endswith("it splits as a time carried over would")
    for group, sec in answer["parts"].items():
        scale = 1.5 / without["predicted_avg_time_sec"]
        assert sec == pytest.approx(scale * without["parts"][group], rel=1e-9)
    assert "scaled: " not in explanation_text(found)  # nothing of 1.5 s rests on a ratio
    on_own = explained(gpu_name=A100, rows=[measured(1.5, A100)])
    assert (on_own["predicted_avg_time_sec"], on_own["calibrated"]) == (1.5, True)
    assert "by the model's law" in on_own["basis_words"]


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
    assert_same_time(explained(gpu_name=H100), carried_answer(H100, CONFIGS[0]).times.steady)
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
    assert_same_time(answer, carried_answer(A100, CONFIGS[0], precision="mixed_float16").times.steady)
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
