"""In what this box differs from the model's, and the estimate for it beside that."""

from __future__ import annotations

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.gpus.lookup import find_gpu
from epochcast.machine import packages as installed
from epochcast.machine.gpu import driver_signs
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.other_gpus import answer_on
from epochcast.model.answers.prediction import RunRequest
from epochcast.model.answers.this_box import differences, differs_line, estimate_for_this_box, this_box_json
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import pretrained_dir
from epochcast.schema import Conditions, RunConfig
from epochcast.storage.cells import columns
from tests.support.machines import boxes
from tests.support.rows import agg_row

SAVED = load_model(pretrained_dir() / "a100.keras")
OWN = SAVED.conditions
ASKED = RunRequest(RunConfig(3, 32, 128), "float32")


@pytest.fixture(autouse=True)
def framework(tmp_path, monkeypatch):
    """A box without a GPU and with the model's own framework; tests change it."""
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", tmp_path / "no driver")
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    has(monkeypatch, tensorflow="2.20.1")


def has(monkeypatch, **versions):
    monkeypatch.setattr(installed, "installed", versions.get)


def plug_in(monkeypatch, tmp_path, name):
    """A driver that lists one GPU of this name."""
    information = tmp_path / "nvidia" / "gpus" / "0000:01:00.0" / "information"
    information.parent.mkdir(parents=True)
    information.write_text(f"Model: \t\t {name}\nIRQ:   \t\t 1\n")
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", tmp_path / "nvidia")


def estimate(asked=ASKED, rows=()):
    return estimate_for_this_box(SAVED, asked, rows, differences(OWN, asked.precision))


def line(asked=ASKED, rows=()):
    return differs_line(differences(OWN, asked.precision), [(128, estimate(asked, rows))])


def measured(seconds=0.9, batch_size=128, n=3, **changes):
    """A row under the model's conditions but for what `changes` say."""
    known = {name: getattr(OWN, name) for name in columns(Conditions)}
    return agg_row(3, 32, batch_size, seconds, n, 0.01, **known | changes)


def test_on_the_model_s_own_gpu_and_framework_nothing_differs(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    assert differences(OWN, "float32") == []


def test_another_spelling_of_the_same_gpu_is_no_difference(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "A100-PCIE-80GB")
    assert differences(OWN, "float32") == []


def test_on_another_gpu_the_carried_time_stands_beside_the_difference(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA H100 80GB HBM3")
    steady = estimate().steady
    assert steady == answer_on(find_gpu("H100 SXM5"), SAVED, ASKED, []).times.steady
    told = line()
    assert told.startswith("device NVIDIA A100 80GB PCIe, here NVIDIA H100 80GB HBM3: ")
    assert f"{steady.value:.2f} s/epoch ({steady.low:.2f} to {steady.high:.2f}) here, layers: arithmetic" in told
    values = this_box_json(differences(OWN, "float32"), estimate())
    assert values["differs"] == {"device": {"model": "NVIDIA A100 80GB PCIe", "here": "NVIDIA H100 80GB HBM3"}}
    assert (values["here_avg_time_sec"], values["here_avg_time_sec_low"]) == (steady.value, steady.low)


def test_a_processor_has_no_estimate():
    assert line() == f"device NVIDIA A100 80GB PCIe, here {box_device_name()}: no estimate for a CPU"
    assert this_box_json([], None) == {
        "differs": {},
        "here_avg_time_sec": None,
        "here_avg_time_sec_low": None,
        "here_avg_time_sec_high": None,
        "here_basis": None,
    }


def test_a_gpu_that_the_facts_do_not_have_has_no_estimate(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA RTX A1000")
    assert line().endswith("here NVIDIA RTX A1000: no estimate for NVIDIA RTX A1000, which the facts do not have")


@pytest.mark.parametrize("name", ["NVIDIA RTX A1000", None])
def test_what_was_measured_on_a_device_without_facts_is_told(monkeypatch, tmp_path, name):
    if name is not None:
        plug_in(monkeypatch, tmp_path, name)
    box = box_device_name()
    row = measured(12.0, device_name=box, tf32="off", jit_compile="off")  # as `auto` resolves them there
    found = estimate(rows=[row])
    assert found.steady.value == 12.0
    assert found.words.startswith(f"measured on {box}, 3 runs, tensorflow 2.20")
    told = line(rows=[row])
    assert told.startswith(f"device NVIDIA A100 80GB PCIe, here {box}: 12.0 s/epoch (")
    assert " here, measured on " in told
    for other in ({"batch_size": 64}, {"precision": "mixed_float16"}, {"device_name": "another"}, {"train_n": 2048}):
        assert estimate(rows=[measured(12.0, **{"device_name": box} | other)]).steady is None


def test_a_processor_s_few_runs_spread_as_repeats_on_processors_do():
    steady = estimate(rows=[measured(12.0, n=1, device_name=box_device_name())]).steady
    spread = assumption("repeat_sd_steady", "cpu").value
    assert steady.high == pytest.approx(12.0 * (1 + HALF_WIDTH_SDS * spread))


def test_several_batch_sizes_say_what_each_estimate_rests_on(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA H100 80GB HBM3")
    found = differences(OWN, "float32")
    row = measured(0.9, device_name="NVIDIA H100 80GB HBM3")

    def told(rows):
        asked = [RunRequest(RunConfig(3, 32, size), "float32") for size in (64, 128, 256)]
        return differs_line(
            found, [(each.config.batch_size, estimate_for_this_box(SAVED, each, rows, found)) for each in asked]
        )

    carried = told([])
    assert carried.count(" here, layers: arithmetic and memory") == 1
    assert [f"batch {size} " in carried for size in (64, 128, 256)] == [True] * 3
    mixed = told([row])
    assert "; batch 128 0.900 s/epoch (0.891 to 0.909) here, measured on NVIDIA H100 80GB HBM3, 3 runs" in mixed
    assert mixed.count(" here, ") == 2  # the carried two, the measured one


def test_another_version_of_the_framework_is_named_and_not_carried(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    has(monkeypatch, tensorflow="2.21.0")
    assert line() == "tensorflow 2.20, here 2.21: what that changes is not known"
    values = this_box_json(differences(OWN, "float32"), estimate())
    assert [values[f"here_avg_time_sec{end}"] for end in ("", "_low", "_high")] == [None] * 3
    assert values["here_basis"] == "what that changes is not known"


def test_what_was_measured_here_under_this_version_stands_beside_the_difference(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    has(monkeypatch, tensorflow="2.21.0")
    rows = [measured(1.5), measured(1.25, backend_version="2.21")]
    assert line(rows=rows).startswith("tensorflow 2.20, here 2.21: 1.25 s/epoch (1.24 to 1.26) here, measured on ")
    assert estimate(rows=rows).steady.value == 1.25
    # a row of the model's own version says nothing of this one
    assert line(rows=rows[:1]) == "tensorflow 2.20, here 2.21: what that changes is not known"


def test_another_backend_is_named(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert line() == "backend tensorflow, here jax: what that changes is not known"


def test_nothing_is_carried_across_backends_but_what_was_measured_here_is_told(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA H100 80GB HBM3")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    has(monkeypatch, jax="0.10.1")
    there = {"device_name": "NVIDIA H100 80GB HBM3"}
    assert estimate().steady is None
    assert line(rows=[measured(0.5, **there)]).endswith("backend tensorflow, here jax: what that changes is not known")
    row = measured(0.7, **there, backend="jax", backend_version="0.10")
    assert estimate(rows=[measured(0.5, **there), row]).steady.value == 0.7
    assert "here jax: 0.700 s/epoch (0.693 to 0.707) here, measured on NVIDIA H100" in line(rows=[row])


def test_a_framework_that_is_not_installed_is_no_known_difference(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    has(monkeypatch)
    assert differences(OWN, "float32") == []


def test_another_precision_is_carried_on_the_same_gpu(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    asked = RunRequest(ASKED.config, "mixed_float16")
    told = line(asked)
    assert told.startswith("precision float32, asked for mixed_float16: ")
    assert "in fp16 over tf32" in told
    assert estimate(asked).steady.value < SAVED.forecast(ASKED.config).steady.value


def test_a_precision_that_the_gpu_lacks_has_no_estimate(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "Tesla T4")
    assert "no estimate: T4 has no known bf16 rate" in line(RunRequest(ASKED.config, "mixed_bfloat16"))


def test_what_the_model_does_not_know_does_not_differ():
    assert differences(Conditions(), "mixed_float16") == []


def test_a_batch_size_measured_on_a_processor_stands_beside_those_that_are_not():
    found = differences(OWN, "float32")
    row = measured(12.0, device_name=box_device_name())
    estimates = []
    for size in (64, 128, 256):
        asked = RunRequest(RunConfig(3, 32, size), "float32")
        estimates.append((size, estimate_for_this_box(SAVED, asked, [row], found)))
    told = differs_line(found, estimates)
    assert ": batch 64, batch 256: no estimate for a CPU; batch 128 12.0 s/epoch (" in told


def test_a_known_gpu_of_another_memory_is_said_to_be_one(monkeypatch, tmp_path):
    boxes.plug_in(monkeypatch, tmp_path, [boxes.Board("NVIDIA L4", 80.0)])
    assert line().endswith("no estimate for NVIDIA L4 with 85.9 GB, which the facts have with 24 GB")
