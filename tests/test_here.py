"""In what this box differs from the model's, and the estimate for it beside that."""

from __future__ import annotations

import pytest

from epochcast import environment, installed
from epochcast.environment import box_device_name
from epochcast.hardware import find_gpu
from epochcast.paths import pretrained_dir
from epochcast.schema import Conditions, RunConfig
from model.gpu_answers import Asked, answer_on
from model.here import differences, differs_line, estimate_here, here_json
from model.predictor import load_model

SAVED = load_model(pretrained_dir() / "a100.keras")
OWN = SAVED.conditions
ASKED = Asked(RunConfig(3, 32, 128), "float32")


@pytest.fixture(autouse=True)
def framework(tmp_path, monkeypatch):
    """A box without a GPU and with the model's own framework; tests change it."""
    monkeypatch.setattr(environment, "NVIDIA_PROC", tmp_path / "no driver")
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
    monkeypatch.setattr(environment, "NVIDIA_PROC", tmp_path / "nvidia")


def line(precision="float32", asked=ASKED):
    return differs_line(differences(OWN, precision), [(128, estimate_here(SAVED, asked, []))])


def test_on_the_model_s_own_gpu_and_framework_nothing_differs(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    assert differences(OWN, "float32") == []


def test_another_spelling_of_the_same_gpu_is_no_difference(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "A100-PCIE-80GB")
    assert differences(OWN, "float32") == []


def test_on_another_gpu_the_carried_time_stands_beside_the_difference(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA H100 80GB HBM3")
    steady = estimate_here(SAVED, ASKED, []).steady
    assert steady == answer_on(find_gpu("H100 SXM5"), SAVED, ASKED, []).forecast.steady
    told = line()
    assert told.startswith("device NVIDIA A100 80GB PCIe, here NVIDIA H100 80GB HBM3: ")
    assert f"{steady.value:.2f} s/epoch ({steady.low:.2f} to {steady.high:.2f}) here, speed row: published" in told
    values = here_json(differences(OWN, "float32"), estimate_here(SAVED, ASKED, []))
    assert values["differs"] == {"device": {"model": "NVIDIA A100 80GB PCIe", "here": "NVIDIA H100 80GB HBM3"}}
    assert (values["here_avg_time_sec"], values["here_avg_time_sec_low"]) == (steady.value, steady.low)


def test_a_processor_has_no_estimate():
    assert line() == f"device NVIDIA A100 80GB PCIe, here {box_device_name()}: no estimate for a CPU"
    assert here_json([], None) == {
        "differs": {},
        "here_avg_time_sec": None,
        "here_avg_time_sec_low": None,
        "here_avg_time_sec_high": None,
        "here_basis": None,
    }


def test_a_gpu_that_the_facts_do_not_have_has_no_estimate(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA RTX A1000")
    assert line().endswith("here NVIDIA RTX A1000: no estimate for NVIDIA RTX A1000, which the facts do not have")


def test_another_version_of_the_framework_is_named_and_not_carried(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    has(monkeypatch, tensorflow="2.21.0")
    assert line() == "tensorflow 2.20, here 2.21: what that changes is not known"


def test_another_backend_is_named(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert line() == "backend tensorflow, here jax: what that changes is not known"


def test_a_framework_that_is_not_installed_is_no_known_difference(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    has(monkeypatch)
    assert differences(OWN, "float32") == []


def test_another_precision_is_carried_on_the_same_gpu(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "NVIDIA A100 80GB PCIe")
    asked = Asked(ASKED.config, "mixed_float16")
    told = line("mixed_float16", asked)
    assert told.startswith("precision float32, asked for mixed_float16: ")
    assert "published fp32 to fp16 speeds" in told
    assert estimate_here(SAVED, asked, []).steady.value < SAVED.forecast(ASKED.config).steady.value


def test_a_precision_that_the_gpu_lacks_has_no_estimate(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, "Tesla T4")
    assert "no estimate: T4 has no known bf16 rate" in line("mixed_bfloat16", Asked(ASKED.config, "mixed_bfloat16"))


def test_what_the_model_does_not_know_does_not_differ():
    assert differences(Conditions(), "mixed_float16") == []
