"""Carrying a time to another GPU: what is scaled, by which route, with which bar, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import gpus, speed_rows
from epochcast.gpus import ratio as carry
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.ratio import RATES, SAME, SPEED_ROW, GpuArithmetic, device_ratio, source_device
from epochcast.gpus.scaled_time import LIMITED, LIMITED_LOW, scaled_time
from epochcast.interval import Interval
from epochcast.model.time_model.physics import FORMS, Law, device_share
from epochcast.schema import Conditions, RunConfig
from epochcast.workload.shape import work_of

A100, H100, H200 = "NVIDIA A100 80GB PCIe", "NVIDIA H100 80GB HBM3", "NVIDIA H200"
V100, T4, RTX_4080, MI300X = "Tesla V100-SXM2-16GB", "Tesla T4", "NVIDIA GeForce RTX 4080", "MI300X"
BAR = {name: assumption(f"carry_bar{name}", "gpu").value for name in ("", "_convolutional", "_speed_row")}
SPEED = {(row.gpu, row.task, row.precision): row.throughput for row in speed_rows()}


def device(name, precision="float32", tf32="on"):
    return GpuArithmetic.of(find_gpu(name), precision, tf32)


def resnet50(name, precision):
    return SPEED[find_gpu(name).name, "resnet50", precision]


def bar_of(value):
    """Up and down, which are equal."""
    assert value.high / value.value == pytest.approx(value.value / value.low)
    return value.high / value.value


# --- which route ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "rows"), [("float32", "fp32"), ("mixed_float16", "fp16")])
def test_speeds_published_of_both_gpus_answer_in_the_run_s_own_precision(precision, rows):
    ratio = device_ratio(device(A100, precision), device(H100, precision))
    assert ratio.basis == SPEED_ROW
    assert ratio.value.value == pytest.approx(resnet50(A100, rows) / resnet50(H100, rows))
    assert bar_of(ratio.value) == pytest.approx(BAR["_speed_row"])
    assert f"published {rows} speeds: resnet50 {resnet50(A100, rows):g} and {resnet50(H100, rows):g}" in ratio.words


def test_speeds_of_another_kind_of_network_do_not_answer_for_this_one(monkeypatch):
    others = tuple(row for row in speed_rows() if row.kind != "convolutional")
    monkeypatch.setattr(carry, "speed_rows", lambda: others)
    assert device_ratio(device(A100), device(H100)).basis == RATES
    transformers = device_ratio(device(A100), device(H100), kind="transformer")
    assert transformers.basis == SPEED_ROW
    tasks = ("bert_base_squad", "bert_large_squad")
    gpu, other = find_gpu(A100).name, find_gpu(H100).name
    each = [SPEED[gpu, task, "fp32"] / SPEED[other, task, "fp32"] for task in tasks]
    assert transformers.value.value == pytest.approx(math.sqrt(math.prod(each)))


def test_rates_answer_where_one_of_the_two_has_no_published_speed():
    source, target = find_gpu(A100), find_gpu(H200)
    assert not any(row.gpu == target.name for row in speed_rows())
    ratio = device_ratio(device(A100), device(H200))
    compute = target.tf32_tflops / source.tf32_tflops
    bandwidth = target.memory_bandwidth_gbs / source.memory_bandwidth_gbs
    weight = assumption("carry_compute_weight", "gpu").value
    assert ratio.basis == RATES
    assert ratio.value.value == pytest.approx(1 / (compute**weight * bandwidth ** (1 - weight)))
    assert bar_of(ratio.value) == pytest.approx(BAR["_convolutional"])


def test_the_bar_is_narrower_for_other_networks_and_where_speeds_of_both_are_published():
    assert BAR["_convolutional"] > BAR["_speed_row"]
    ratio = device_ratio(device(A100), device(H200), kind="transformer")
    assert bar_of(ratio.value) == pytest.approx(BAR[""])
    flow = device_ratio(device(A100), device(H200), kind="flow")  # of convolutions, too
    assert bar_of(flow.value) == pytest.approx(BAR["_convolutional"])
    assert BAR[""] < BAR["_convolutional"]


def test_a_gpu_of_a_maker_without_any_published_speed_has_a_number_and_no_bar():
    ratio = device_ratio(device(A100), device(MI300X))
    assert 0 < ratio.value.value < 1
    assert (ratio.value.low, ratio.value.high) == (None, None)
    assert ratio.words.endswith("range unknown, as no speed of AMD cdna3 is known")


@pytest.mark.parametrize("name", ["P40", "P100 PCIe 16GB", "GTX 1080 Ti"])
def test_a_generation_without_any_published_speed_has_a_number_and_no_bar_on_either_side(name):
    for ratio in (device_ratio(device(A100), device(name)), device_ratio(device(name), device(A100))):
        assert ratio.basis == RATES
        assert (ratio.value.low, ratio.value.high) == (None, None)
        assert ratio.words.endswith("range unknown, as no speed of NVIDIA pascal is known")


def test_another_family_of_a_generation_whose_speeds_are_published_has_a_bar():
    assert find_gpu(T4).family == "turing"
    assert find_gpu("RTX 2060").family == "turing_geforce"
    for name in (T4, "RTX 2060"):
        assert bar_of(device_ratio(device(A100), device(name)).value) == pytest.approx(BAR["_convolutional"])


def test_the_model_s_own_gpu_takes_as_long_as_it_does():
    ratio = device_ratio(device(A100), device("A100-PCIE-80GB"))
    assert (ratio.basis, ratio.value) == (SAME, Interval(1.0, 1.0, 1.0))
    assert scaled_time(Interval(2.0, 1.5, 2.5), 0.7, ratio, attainable_sec=9.0).seconds == Interval(2.0, 1.5, 2.5)


# --- the arithmetic really used ---------------------------------------------------------------------------------------


def test_float32_is_tf32_where_the_run_used_it_and_the_gpu_has_it():
    h200, t4 = device(H200), device(T4)
    assert (h200.arithmetic, t4.arithmetic) == ("tf32", "fp32")
    assert (h200.rate_tflops, t4.rate_tflops) == (find_gpu(H200).tf32_tflops, find_gpu(T4).fp32_tflops)
    assert device(H200, tf32="off").rate_tflops == find_gpu(H200).fp32_tflops
    with_tf32 = device_ratio(device(A100), t4).value.value
    without = device_ratio(device(A100, tf32="off"), device(T4, tf32="off")).value.value
    compute = find_gpu(A100).tf32_tflops / find_gpu(A100).fp32_tflops
    assert with_tf32 / without == pytest.approx(compute ** assumption("carry_compute_weight", "gpu").value)


def test_speeds_called_fp32_may_be_tf32_and_are_none_of_a_run_without_it():
    assert device_ratio(device(A100, tf32="off"), device(V100, tf32="off")).basis == RATES
    assert device_ratio(device(A100, tf32="on"), device(V100, tf32="on")).basis == SPEED_ROW


def test_a_change_of_precision_is_carried_on_the_same_gpu_too():
    ratio = device_ratio(device(A100), device(A100, "mixed_float16"))
    assert ratio.basis == SPEED_ROW
    assert ratio.value.value == pytest.approx(resnet50(A100, "fp32") / resnet50(A100, "fp16"))
    assert "published fp32 to fp16 speeds" in ratio.words
    by_rates = device_ratio(device(RTX_4080), device(RTX_4080, "mixed_float16"))
    assert by_rates.basis == RATES
    assert by_rates.value.value == pytest.approx(1 / 2, rel=2e-3)  # twice the rate, half the bytes


def test_fp16_speeds_stand_in_for_bfloat16_and_are_said_to():
    ratio = device_ratio(device(A100, "mixed_bfloat16"), device(H100, "mixed_bfloat16"))
    assert ratio.value == device_ratio(device(A100, "mixed_float16"), device(H100, "mixed_float16")).value
    assert "in place of bf16" in ratio.words


def test_a_gpu_that_lacks_the_precision_is_refused():
    with pytest.raises(ValueError, match="T4 has no known bf16 rate, which mixed_bfloat16 needs"):
        device(T4, "mixed_bfloat16")


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_there_and_back_again_is_no_change(precision):
    families = ("volta", "ampere_ga100", "hopper", "turing")
    some = [device(gpu.name, precision) for gpu in gpus() if gpu.family in families and gpu.fp32_tflops is not None]
    assert len(some) > 15
    seen = set()
    for one, other in permutations(some, 2):
        there, back = device_ratio(one, other), device_ratio(other, one)
        assert there.value.value * back.value.value == pytest.approx(1)
        assert there.basis == back.basis
        if there.value.low is not None:
            assert there.value.low * back.value.high == pytest.approx(1)
        seen.add(there.basis)
    assert {SPEED_ROW, RATES} <= seen


# --- what is scaled ---------------------------------------------------------------------------------------------------

HALF = carry.Ratio(Interval(0.5, 0.25, 1.0), RATES, "planted")


def law(**coefficients):
    form = "physics_6"
    return Law(form, np.array([coefficients.get(name, 0.0) for name in FORMS[form]]), 50_000)


def test_only_arithmetic_and_memory_are_the_device_s_share():
    config = RunConfig(3, 32, 128)
    own = {name: law(**{name: 1.0}) for name in FORMS["physics_6"]}
    shares = {name: device_share(of, work_of(config, of.train_n)) for name, of in own.items()}
    assert shares == {
        "per_epoch": 0.0,
        "per_step": 0.0,
        "per_step_and_block": 0.0,
        "per_param_step": 1.0,
        "per_flop": 1.0,
        "per_activation_byte": 1.0,
    }


def test_a_run_that_waits_for_its_host_changes_little_and_one_that_computes_all_the_way():
    time = Interval(10.0, 9.0, 11.0)
    assert scaled_time(time, 0.05, HALF).seconds.value == pytest.approx(9.75)
    assert scaled_time(time, 0.0, HALF).seconds == time
    assert scaled_time(time, 1.0, HALF).seconds == Interval(5.0, 2.25, 11.0)


def test_the_bar_is_on_the_device_s_share_alone_and_the_time_s_interval_on_all():
    found = scaled_time(Interval(10.0, 9.0, 11.0), 0.4, HALF).seconds
    assert found.value == pytest.approx(10 * (0.6 + 0.4 * 0.5))
    assert found.low == pytest.approx(9 * (0.6 + 0.4 * 0.25))
    assert found.high == pytest.approx(11 * (0.6 + 0.4 * 1.0))


@pytest.mark.parametrize(("time", "ratio"), [(Interval(10.0), HALF), (Interval(10.0, 9.0, 11.0), None)])
def test_what_is_unknown_of_either_stays_unknown(time, ratio):
    ratio = ratio or replace(HALF, value=Interval(0.5))
    assert scaled_time(time, 0.4, ratio).seconds == Interval(pytest.approx(8.0))


# --- held at the roof -------------------------------------------------------------------------------------------------


def test_the_device_s_part_is_held_at_its_roof_and_what_stays_is_not():
    found = scaled_time(Interval(10.0, 9.0, 11.0), 0.4, HALF, attainable_sec=3.0)  # by the ratio 2 s, 0.9 to 4.4
    assert found.limited == LIMITED
    assert found.seconds == Interval(pytest.approx(6 + 3), pytest.approx(5.4 + 3), pytest.approx(6.6 + 1.5 * 4.4))
    assert found.ratio.value == pytest.approx(3 / 4)
    assert found.share == pytest.approx(3 / 9)


def test_a_low_end_alone_is_held_alone():
    free, found = (scaled_time(Interval(10.0, 9.0, 11.0), 0.4, HALF, sec) for sec in (0.0, 1.5))
    assert (free.limited, found.limited) == (None, LIMITED_LOW)
    assert found.seconds.low == pytest.approx(5.4 + 1.5)
    assert (found.seconds.value, found.seconds.high) == (free.seconds.value, free.seconds.high)
    assert (found.ratio.value, found.ratio.low) == (0.5, pytest.approx(1.5 / 4))


def test_a_value_of_unknown_range_is_held_and_its_ends_stay_unknown():
    found = scaled_time(Interval(10.0), 0.4, replace(HALF, value=Interval(0.1)), attainable_sec=3.0)
    assert (found.seconds, found.limited) == (Interval(pytest.approx(9.0)), LIMITED)


def test_a_raised_value_keeps_its_bar_upwards():
    ratio = replace(HALF, value=Interval(0.1, 0.05, 0.2))
    found = scaled_time(
        Interval(10.0, 10.0, 10.0), 1.0, ratio, attainable_sec=5.0
    ).seconds  # all ends are below the roof
    assert found == Interval(5.0, 5.0, pytest.approx(10.0))


def test_a_corrected_time_is_held_again_and_keeps_its_parts_in_proportion():
    time = scaled_time(Interval(10.0, 9.0, 11.0), 0.4, HALF, attainable_sec=1.9)  # 6 s and 2 s
    assert time.set_to(Interval(16.0, 15.0, 17.0)).seconds == Interval(16.0, 15.0, 17.0)
    lower = time.set_to(Interval(4.0, 3.0, 5.0))  # 3 s and 1 s
    assert (lower.limited, lower.seconds.value) == (LIMITED, pytest.approx(3 + 1.9))
    assert lower.seconds.low == pytest.approx(3 * 0.75 + 1.9)
    assert lower.ratio.value / 0.5 == pytest.approx(1.9)  # of the proportions that the ratio made


# --- nothing to carry from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "named"),
    [
        ({"device_name": "AMD EPYC 9B14 (2 cores)", "precision": "float32"}, "AMD EPYC 9B14 (2 cores)"),
        ({"device_name": "NVIDIA A100-SXM4-80GB MIG 1g.10gb", "precision": "float32"}, "MIG 1g.10gb"),
        ({"device_name": A100}, f"{A100} in an unknown precision"),
        ({}, "an unknown device"),
    ],
)
def test_a_model_of_a_device_without_facts_is_nothing_to_carry_from(known, named):
    with pytest.raises(ValueError, match="nothing to carry a time over from") as error:
        source_device(Conditions(**known))
    assert named in str(error.value)


def test_a_model_of_a_gpu_is_carried_from_by_its_runs_arithmetic():
    found = source_device(Conditions(device_name=A100, precision="float32", tf32="on"))
    assert (found.gpu.name, found.arithmetic) == ("A100 PCIe 80GB", "tf32")
    assert source_device(Conditions(device_name=A100, precision="float32")).arithmetic == "fp32"
