"""Scaling a time to another GPU: what is scaled, by the law or by rates, with which range, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import gpus
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import law_rates
from epochcast.gpus.ratio import LAYERS, RATES, SAME, GpuArithmetic, Ratio, device_ratio, source_device
from epochcast.gpus.scaled_time import LIMITED, LIMITED_LOW, scaled_time
from epochcast.interval import Interval
from epochcast.model.time_model.physics import FORMS, Law, device_share
from epochcast.roofline.network_law import LawNumbers, law_seconds, step_seconds, step_work
from epochcast.schema import Conditions, RunConfig
from epochcast.workload.shape import trained_cnn, work_of

A100, H100, H200 = "NVIDIA A100 80GB PCIe", "NVIDIA H100 80GB HBM3", "NVIDIA H200"
V100, T4, RTX_4080, MI300X = "Tesla V100-SXM2-16GB", "Tesla T4", "NVIDIA GeForce RTX 4080", "MI300X"
B100 = "B100"  # whose plain fp32 rate is not known
WIDE = trained_cnn(RunConfig(5, 64, 2048), 50_000, "float32")
NARROW = trained_cnn(RunConfig(5, 64, 128), 50_000, "float32")


def device(name, precision="float32", tf32="on"):
    return GpuArithmetic.of(find_gpu(name), precision, tf32)


def number(name):
    return assumption(f"ratio_{name}", "gpu").value


def bar_of(value):
    """Up and down, which are equal."""
    assert value.high / value.value == pytest.approx(value.value / value.low)
    return value.high / value.value


def of_kind(kind):
    """A network whose multiply-adds are of one kind of layer."""
    return replace(WIDE, records=tuple(replace(record, kind=kind) for record in WIDE.records))


def by_hand(name, arithmetic, network):
    """Seconds of a step's arithmetic and memory by the law of networks, and of all of it."""
    work = step_work(network.records, network.batch_size)
    rates, numbers = law_rates(find_gpu(name), arithmetic), LawNumbers.shipped()
    seconds = law_seconds(work, rates, numbers)
    return seconds.arithmetic + seconds.memory, step_seconds(work, rates, numbers)


# --- by which of the two ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [H100, V100, "P100 PCIe 16GB", "GTX 1080 Ti", MI300X])
def test_with_layers_it_is_the_ratio_of_their_arithmetic_and_memory_by_the_law_of_networks(target):
    ratio = device_ratio(device(A100), device(target), WIDE)
    here, there = by_hand(A100, "tf32", WIDE), by_hand(target, device(target).arithmetic, WIDE)
    assert (ratio.basis, ratio.value.value) == (LAYERS, pytest.approx(there[0] / here[0]))
    assert (ratio.step.device_sec, ratio.step.total_sec) == pytest.approx(here)
    assert bar_of(ratio.value) == pytest.approx(number("range_convolutional")) == ratio.error_factor
    assert ratio.words == f"arithmetic and memory by the law of networks, in {device(target).arithmetic} over tf32"


def test_without_layers_it_is_by_rates_with_the_range_of_any_network():
    source, target = find_gpu(A100), find_gpu(H200)
    ratio = device_ratio(device(A100), device(H200))
    compute = target.tf32_tflops / source.tf32_tflops
    bandwidth = target.memory_bandwidth_gbs / source.memory_bandwidth_gbs
    expected = 1 / (compute ** number("exponent_dense") * bandwidth ** number("exponent_bandwidth"))
    assert (ratio.basis, ratio.value.value, ratio.step) == (RATES, pytest.approx(expected), None)
    assert bar_of(ratio.value) == pytest.approx(number("range_rates"))


@pytest.mark.parametrize(
    ("kind", "basis", "range_name"),
    [
        ("conv", LAYERS, "convolutional"),
        ("attention", LAYERS, "transformer"),
        ("recurrent", RATES, "recurrent"),
        ("dense", RATES, "other"),
    ],
)
def test_each_kind_of_network_has_a_range_of_its_own(kind, basis, range_name):
    ratio = device_ratio(device(A100), device(H100), of_kind(kind))
    assert (ratio.basis, bar_of(ratio.value)) == (basis, pytest.approx(number(f"range_{range_name}")))
    assert ratio.range_words == f"x/÷{number(f'range_{range_name}'):.3g}"


def test_a_gpu_whose_plain_rate_is_not_known_is_answered_by_rates_with_the_range_of_any_network():
    precision = "mixed_bfloat16"
    ratio = device_ratio(device(A100, precision), device(B100, precision), replace(WIDE, precision=precision))
    assert (ratio.basis, bar_of(ratio.value)) == (RATES, pytest.approx(number("range_rates")))
    assert ratio.value.value < 1


def test_small_images_in_small_batches_may_gain_nothing():
    wide, small = (device_ratio(device(A100), device(H100), network) for network in (WIDE, NARROW))
    back = device_ratio(device(H100), device(A100), NARROW)
    factor = number("range_small")
    assert (wide.is_small, small.is_small, back.is_small) == (False, True, True)
    assert (small.value.low, small.value.high) == pytest.approx((small.value.value / factor, factor))
    assert (back.value.low, back.value.high) == pytest.approx((1 / factor, back.value.value * factor))
    assert small.range_words.endswith("as small images in small batches do not fill a GPU")
    assert not device_ratio(device(A100), device(H100), replace(of_kind("attention"), batch_size=64)).is_small


def test_the_model_s_own_gpu_takes_as_long_as_it_does():
    ratio = device_ratio(device(A100), device("A100-PCIE-80GB"), WIDE)
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
    assert with_tf32 / without == pytest.approx(compute ** number("exponent_dense"))


def test_a_change_of_precision_is_scaled_on_the_same_gpu_too():
    half = replace(WIDE, precision="mixed_float16")
    by_law = device_ratio(device(A100), device(A100, "mixed_float16"), half)
    assert by_law.basis == LAYERS
    assert 0.3 < by_law.value.value < 0.7
    by_rates = device_ratio(device(RTX_4080), device(RTX_4080, "mixed_float16"))
    assert by_rates.basis == RATES
    powers = number("exponent_dense") + number("exponent_bandwidth")  # twice the rate, half the bytes
    assert by_rates.value.value == pytest.approx(2**-powers, rel=2e-3)
    assert by_rates.words.endswith(", of 2 and 4 bytes a number")


def test_a_gpu_that_lacks_the_precision_is_refused():
    with pytest.raises(ValueError, match="T4 has no known bf16 rate, which mixed_bfloat16 needs"):
        device(T4, "mixed_bfloat16")


@pytest.mark.parametrize("network", [None, WIDE, NARROW], ids=["unknown", "wide", "narrow"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_there_and_back_again_is_no_change(precision, network):
    families = ("volta", "ampere_ga100", "hopper", "turing")
    some = [device(gpu.name, precision) for gpu in gpus() if gpu.family in families and gpu.fp32_tflops is not None]
    assert len(some) > 15
    for one, other in permutations(some, 2):
        there, back = (
            device_ratio(*sides, None if network is None else replace(network, precision=precision))
            for sides in ((one, other), (other, one))
        )
        assert there.value.value * back.value.value == pytest.approx(1)
        assert there.value.low * back.value.high == pytest.approx(1)
        assert there.basis == back.basis


# --- what is scaled ---------------------------------------------------------------------------------------------------

HALF = Ratio(Interval(0.5, 0.25, 1.0), RATES, "planted")


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
