"""Precisions: one table that flags, facts, roofline, memory and the scaling to other GPUs read."""

from __future__ import annotations

import pytest

from epochcast.__main__ import COMMANDS
from epochcast.facts.tables import ARITHMETIC
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import arithmetic_of
from epochcast.gpus.ratio import GpuArithmetic
from epochcast.roofline.roofline import Roof, step_roof
from epochcast.schema import DEFAULT_PRECISION, PRECISIONS, Conditions, Precision, RunConfig, RunSpec, element_bytes_of
from epochcast.workload.memory import plain_arrays
from epochcast.workload.shape import layer_records, trained_cnn
from tests.support.parsers import parser_of

FP8 = "mixed_float8"
CONFIG = RunConfig()
H100 = find_gpu("H100 SXM5 80GB")


@pytest.fixture
def fp8(monkeypatch):
    """A precision that nothing in the product knows, at the rate of fp16."""
    monkeypatch.setitem(PRECISIONS, FP8, Precision("float8", 1, "fp16"))


def test_every_rate_that_a_precision_computes_at_is_a_column_of_the_facts():
    asked = {each.arithmetic for each in PRECISIONS.values()}
    asked |= {each.tf32_arithmetic for each in PRECISIONS.values()} - {None}
    assert asked == set(ARITHMETIC)
    assert RunSpec().precision == DEFAULT_PRECISION


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_a_precision_takes_a_new_row_of_the_table(fp8, command):
    for action in parser_of(command)._actions:
        if action.dest == "precision":
            assert FP8 in action.choices if action.choices else action.type(f"float32,{FP8}") == ["float32", FP8]


def test_a_run_may_ask_for_a_new_row_of_the_table(fp8):
    assert RunSpec(precision=FP8).precision == FP8


def test_the_roofline_moves_the_bytes_of_a_new_row(fp8):
    roof = Roof(1e30, 1e9)  # memory alone counts
    bytes_of = {}
    for precision in (FP8, "mixed_float16", "float32"):
        subject = trained_cnn(CONFIG, 50_000, precision)
        step = step_roof(layer_records(RunConfig(CONFIG.depth, CONFIG.base_filters)), 1, roof, subject.element_bytes)
        bytes_of[subject.element_bytes] = sum(layer.forward_bytes for layer in step.layers)
    assert bytes_of[1] * 2 == bytes_of[2]
    assert bytes_of[1] * 4 == bytes_of[4]


def test_memory_holds_activations_in_the_bytes_of_a_new_row(fp8):
    peaks = {p: plain_arrays(CONFIG, Conditions(device_name=H100.name, precision=p)) for p in (FP8, "mixed_float16")}
    assert 1.5 < peaks["mixed_float16"].value / peaks[FP8].value < 2  # but for images and weights half as much


def test_another_gpu_is_asked_for_the_rate_and_the_bytes_of_a_new_row(fp8):
    ours, half = GpuArithmetic.of(H100, FP8, "on"), GpuArithmetic.of(H100, "mixed_float16", "on")
    assert ours.rate_tflops == half.rate_tflops
    assert ours.values_per_sec == 2 * half.values_per_sec


def test_a_precision_without_a_column_of_the_facts_has_no_known_rate(monkeypatch):
    monkeypatch.setitem(PRECISIONS, FP8, Precision("float8", 1, "fp8"))
    with pytest.raises(ValueError, match="no known fp8 rate, which mixed_float8 needs"):
        arithmetic_of(FP8, None, H100)


@pytest.mark.parametrize(("precision", "size"), [(None, 4), ("float32", 4), ("mixed_bfloat16", 2), ("float64", 2)])
def test_an_unknown_precision_holds_activations_in_the_fewest_bytes(precision, size):
    assert element_bytes_of(precision) == size
