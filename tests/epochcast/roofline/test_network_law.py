"""The law of networks by hand: work of layers, seconds of a step, and the numbers in use."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from epochcast.facts.assumptions import assumption
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import law_rates, limit_of, roof_of
from epochcast.roofline.network import TrainedNetwork, attainable_sec
from epochcast.roofline.network_law import LawNumbers, Rates, StepWork, law_seconds, layer_work, step_seconds, step_work
from epochcast.roofline.roofline import layer_bytes
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records
from tests.epochcast.roofline.layer_records import CONV

NUMBERS = LawNumbers(
    step_sec=0.5,
    launch_sec=0.25,
    compute_share=0.5,
    dense_exponent=0.5,
    small_kernel_share=0.75,
    memory_share=0.8,
    depthwise_passes=3.0,
)
RATES = Rates(dense_flops=400.0, plain_flops=100.0, bytes_per_sec=10.0, is_plain=True)
WORK = StepWork(operations=4, flop=1000.0, small_kernel_flop=400.0, bytes=80.0, depthwise_bytes=20.0)


def test_a_step_by_hand():
    found = law_seconds(WORK, RATES, NUMBERS)
    assert found.launches == 4 * 0.25
    assert found.arithmetic == (1000 - 0.25 * 400) / (0.5 * 200)  # the mean of 400 and 100 is 200
    assert found.memory == (80 + 2 * 20) / (0.8 * 10)
    assert step_seconds(WORK, RATES, NUMBERS) == 0.5 + 1.0 + 9.0 + 15.0


def test_small_kernels_save_nothing_where_products_are_not_plain():
    found = law_seconds(WORK, replace(RATES, is_plain=False), NUMBERS)
    assert found.arithmetic == 1000 / (0.5 * 200)


def test_steps_as_arrays_are_the_steps_one_by_one():
    batches = [1, 8, 64]
    records = layer_records(RunConfig(3, 32))
    works = [step_work(records, batch) for batch in batches]
    together = StepWork(*(np.array([getattr(work, f.name) for work in works], float) for f in fields(StepWork)))
    rates = Rates(*(np.full(3, float(getattr(RATES, f.name))) for f in fields(Rates)))
    found = step_seconds(together, rates, NUMBERS)
    assert found.tolist() == pytest.approx([step_seconds(work, RATES, NUMBERS) for work in works])
    assert sorted(found) == list(found)


def test_work_of_a_layer_counts_its_update_and_what_the_optimizer_moves():
    work = layer_work(CONV, 4, 4, optimizer_passes=7)
    moved = sum(layer_bytes(CONV, 4, 4))
    assert work.operations == 3 + 1  # forward, two gradients, the update
    assert (work.bytes, work.depthwise_bytes) == (moved + 7 * 4 * 4640, 0)
    assert work.flop == work.small_kernel_flop == 4 * (CONV.forward_flop + CONV.backward_flop)
    untrained = layer_work(CONV, 4, 4, optimizer_passes=0)
    assert (untrained.operations, untrained.bytes) == (3, moved)
    again = layer_work(replace(CONV, is_repeat=True), 4, 4, optimizer_passes=7)
    assert (again.operations, again.bytes) == (3, moved)  # its weights are updated once


@pytest.mark.parametrize(
    ("changes", "is_small"),
    [
        ({}, True),
        ({"taps": 25}, True),
        ({"taps": 1}, False),
        ({"groups": 2}, False),
        ({"strides": 4}, False),
        ({"kind": "depthwise"}, False),
        ({"output_shape": (8, 8, 8, 32)}, False),
    ],
)
def test_which_kernels_take_fewer_multiplications(changes, is_small):
    record = replace(CONV, **changes)
    assert record.is_small_kernel is is_small
    assert (layer_work(record, 1).small_kernel_flop > 0) is is_small


def test_a_depthwise_layer_s_bytes_count_apart():
    work = layer_work(replace(CONV, kind="depthwise"), 2, optimizer_passes=3)
    assert work.depthwise_bytes == sum(layer_bytes(CONV, 2))
    assert work.bytes == work.depthwise_bytes + 3 * 4 * 4640


def test_the_work_of_a_network_is_that_of_its_layers():
    records = layer_records(RunConfig(2, 16))
    whole, first = step_work(records, 32), layer_work(records[0], 32)
    rest = step_work(records[1:], 32)
    assert asdict(whole) == {name: value + asdict(rest)[name] for name, value in asdict(first).items()}


def test_the_numbers_in_use_are_plausible():
    numbers = LawNumbers.shipped()
    assert 1e-3 < numbers.step_sec < 0.01 and 1e-5 < numbers.launch_sec < 1e-4
    assert all(0 < share < 1 for share in (numbers.compute_share, numbers.memory_share, numbers.dense_exponent))
    assert assumption("limit_small_kernel_share", "gpu").value < numbers.small_kernel_share < 1
    assert 1 < numbers.depthwise_passes < 10
    assert assumption("network_range_convolutional", "gpu").value <= 1.85


# --- rates of a GPU ---------------------------------------------------------------------------------------------------


def test_the_law_asks_a_gpu_for_two_rates():
    a100 = find_gpu("A100 SXM4 40GB")
    assert law_rates(a100, "tf32") == Rates(156e12, 19.5e12, 1555e9, False)
    assert law_rates(a100, "fp32") == Rates(19.5e12, 19.5e12, 1555e9, True)
    assert law_rates(find_gpu("TPU v4"), "bf16") is None


def test_the_limit_is_above_the_data_sheet_and_spares_multiplications_in_plain_fp32_alone():
    v100 = find_gpu("V100 SXM2 16GB")
    plain, half = limit_of(v100, "fp32"), limit_of(v100, "fp16")
    assert plain.flops == pytest.approx(1.15 * roof_of(v100, "fp32").flops)
    assert plain.small_kernel_share == pytest.approx(16 / 36, abs=1e-4)
    assert (half.small_kernel_share, half.bytes_per_sec) == (1.0, roof_of(v100, "fp16").bytes_per_sec)
    network = TrainedNetwork("conv", (CONV,), 4096, 4096, is_cnn=False, optimizer_passes=0)
    bound = replace(roof_of(v100, "fp32"), bytes_per_sec=math.inf)
    least = replace(plain, bytes_per_sec=math.inf)
    assert attainable_sec(network, least) == pytest.approx(attainable_sec(network, bound) * 16 / 36 / 1.15, rel=1e-4)
