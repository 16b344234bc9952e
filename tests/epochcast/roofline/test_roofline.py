"""Attainable times of layers and steps, by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.roofline import (
    ADAM_PASSES,
    COMPUTE_BOUND,
    MEMORY_BOUND,
    LayerRecord,
    Roof,
    layer_roof,
    optimizer_passes,
    step_roof,
)
from epochcast.schema import RunConfig, element_bytes_of
from epochcast.workload.shape import count_params as params_of_cnn
from epochcast.workload.shape import layer_records, train_flop
from tests.epochcast.roofline.layer_records import CONV

ROOF = Roof(flops=1e12, bytes_per_sec=1e11)  # ridge: 10 FLOP per byte
DENSE = LayerRecord("dense", "dense", (10,), 1010, 1000, inputs=100, outputs=10, forward_flop=2010, weight_reads=1010)
POOL = LayerRecord("pool", "pool", (4, 4, 32), 0, 0, inputs=2048, outputs=512, forward_flop=2048, weight_reads=0)


def test_a_dense_layer_by_hand():
    found = layer_roof(DENSE, 8, ROOF)
    assert found.forward_flop == 8 * 2010
    assert found.backward_flop == 8 * (2 * 2000 + 10)  # gradients of weights and inputs, and the bias's
    assert found.forward_bytes == 4 * (8 * 110 + 1010)
    # input, output and its gradient for the weights', these; gradient, weights and the input's gradient
    assert found.backward_bytes == 4 * (8 * (100 + 10 + 10) + 1010 + 8 * (10 + 100) + 1010)
    assert found.bound == MEMORY_BOUND
    assert found.sec == pytest.approx((4 * 1890 + 4 * 3860) / 1e11, rel=1e-12)
    assert found.intensity == pytest.approx((8 * 6020) / (4 * (1890 + 3860)), rel=1e-12)
    assert found.n_kernels == 3


def test_a_convolution_by_hand():
    found = layer_roof(CONV, 100, ROOF)
    assert found.forward_flop == 100 * 591_872
    assert found.backward_flop == 100 * (4 * 294_912 + 2048)
    assert found.forward_bytes == 4 * (100 * 3072 + 4640)
    assert found.backward_bytes == 4 * (100 * (1024 + 3 * 2048 + 1024) + 2 * 4640)
    assert found.bound == COMPUTE_BOUND
    assert found.forward_sec == 100 * 591_872 / 1e12
    assert found.backward_sec == 100 * 1_181_696 / 1e12


def test_a_pool_is_bound_by_memory_and_reads_and_writes_four_tensors_backward_once_each():
    found = layer_roof(POOL, 10, ROOF)
    assert found.bound == MEMORY_BOUND
    assert found.forward_bytes == 4 * 10 * 2560
    assert found.backward_bytes == 2 * found.forward_bytes
    assert found.sec == pytest.approx(3 * 4 * 10 * 2560 / 1e11, rel=1e-12)
    assert found.n_kernels == 2


def test_the_first_layer_has_no_gradient_of_its_input():
    first = layer_roof(replace(CONV, has_input_gradient=False), 100, ROOF)
    assert first.backward_flop == 100 * (2 * 294_912 + 2048)
    assert first.backward_bytes == 4 * (100 * (1024 + 2 * 2048) + 4640)
    assert first.n_kernels == 2


def test_what_stands_before_all_weights_has_no_backward_pass():
    found = layer_roof(replace(POOL, has_input_gradient=False), 10, ROOF)
    assert (found.backward_flop, found.backward_bytes, found.backward_sec, found.n_kernels) == (0, 0, 0, 1)


def test_a_frozen_layer_passes_the_gradient_on_and_has_none_of_its_own():
    frozen = replace(CONV, frozen_params=CONV.params)
    found = layer_roof(frozen, 100, ROOF)
    assert found.backward_flop == 100 * (2 * 294_912 + 2048)
    assert found.backward_bytes == 4 * (100 * (2 * 2048 + 1024) + 4640)  # mask, gradient; its input is not read
    assert found.n_kernels == 2
    assert layer_roof(replace(frozen, has_input_gradient=False), 100, ROOF).backward_sec == 0
    curved = layer_roof(replace(frozen, is_linear=False), 100, ROOF)  # a mean, say: the gradient depends on the input
    assert curved.backward_bytes - found.backward_bytes == 4 * 100 * 1024
    assert step_roof([frozen, DENSE], 100, ROOF).optimizer_bytes == step_roof([DENSE], 100, ROOF).optimizer_bytes


def test_a_linear_layer_need_not_keep_its_output():
    kept, linear = layer_roof(CONV, 7, ROOF), layer_roof(replace(CONV, keeps_output=False), 7, ROOF)
    assert kept.backward_bytes - linear.backward_bytes == 4 * 7 * CONV.outputs


def test_a_product_of_two_activations_has_two_gradients():
    scores = LayerRecord("scores", "attention", (4, 9, 9), 0, 2592, inputs=576, outputs=324, forward_flop=5184,
                         weight_reads=0, keeps_output=False)  # fmt: skip
    found = layer_roof(scores, 1, ROOF)
    assert found.backward_flop == 2 * found.forward_flop
    assert found.backward_bytes == 4 * (576 + 2 * 324 + 576)
    assert found.n_kernels == 3
    by_data = layer_roof(replace(scores, n_factors=1), 1, ROOF)  # the other factor is the data, or constant
    assert (by_data.backward_flop, by_data.n_kernels) == (by_data.forward_flop, 2)


def test_a_lookup_reads_its_rows_in_full_precision():
    table = LayerRecord("table", "embedding", (20, 4), 200, 0, inputs=20, outputs=80, forward_flop=0, weight_reads=0,
                        has_input_gradient=False, keeps_output=False, lookups=80)  # fmt: skip
    assert layer_roof(table, 3, ROOF).forward_bytes == 3 * 4 * (20 + 80 + 80)
    half = layer_roof(table, 3, ROOF, element_bytes_of("mixed_float16"))
    assert half.forward_bytes == 3 * (2 * (20 + 80) + 4 * 80)
    assert half.backward_bytes == 3 * 2 * (20 + 80) + 4 * 200  # numbers, gradient; the gradient of the whole table


def test_a_shared_layer_is_counted_once_by_the_optimizer_and_twice_by_its_work():
    step = step_roof([CONV, replace(CONV, name="conv:2", is_repeat=True)], 4, ROOF)
    once = step_roof([CONV], 4, ROOF)
    assert step.optimizer_bytes == once.optimizer_bytes
    assert step.flop == 2 * once.flop
    assert TrainedNetwork("", (CONV, replace(CONV, is_repeat=True)), 1, 1).params == CONV.params


def test_at_the_ridge_arithmetic_and_memory_take_equally_long():
    at_ridge = Roof(1e12, 1e12 / layer_roof(CONV, 100, ROOF).intensity)
    found = layer_roof(CONV, 100, at_ridge)
    assert at_ridge.ridge == pytest.approx(found.intensity, rel=1e-12)
    assert found.flop / at_ridge.flops == pytest.approx(found.bytes / at_ridge.bytes_per_sec, rel=1e-12)
    assert layer_roof(CONV, 100, replace(at_ridge, flops=1.01e12)).bound == MEMORY_BOUND
    assert layer_roof(CONV, 100, replace(at_ridge, flops=0.99e12)).bound == COMPUTE_BOUND


def test_doubling_the_peak_halves_the_time_of_what_it_binds_alone():
    twice = replace(ROOF, flops=2 * ROOF.flops)
    assert layer_roof(CONV, 100, twice).sec == layer_roof(CONV, 100, ROOF).sec / 2
    assert layer_roof(POOL, 100, twice).sec == layer_roof(POOL, 100, ROOF).sec


def test_half_precision_halves_the_bytes_but_of_the_weights_gradients():
    half = element_bytes_of("mixed_float16")
    for record in (CONV, DENSE, POOL):
        full, halved = layer_roof(record, 64, ROOF), layer_roof(record, 64, ROOF, half)
        assert halved.forward_bytes == full.forward_bytes / 2
        gradient = 4 * record.params
        assert halved.backward_bytes - gradient == (full.backward_bytes - gradient) / 2
        assert halved.flop == full.flop


@pytest.mark.parametrize("roof", [ROOF, Roof(1e15, 1e11), Roof(1e10, 1e12), Roof(1e12, 1e11, 1e-5)])
def test_a_larger_batch_takes_longer_and_each_image_less(roof):
    secs = {n: step_roof(layer_records(RunConfig(3, 16)), n, roof).sec for n in (1, 2, 3, 8, 100, 1000)}
    times = list(secs.values())
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    per_image = [sec / n for n, sec in secs.items()]
    assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(per_image))


def test_a_step_is_its_layers_its_optimizer_and_its_launches():
    records = layer_records(RunConfig(2, 8))
    step = step_roof(records, 32, Roof(1e12, 1e11, 5e-6))
    assert step.optimizer_bytes == 7 * 4 * params_of_cnn(RunConfig(2, 8))
    # four convolutions and two dense layers of three kernels, but two for the first; two pools of two; six updates
    assert step.n_kernels == 3 * 6 - 1 + 2 * 2 + 6
    assert step.launch_sec == pytest.approx(5e-6 * step.n_kernels, rel=1e-12)
    by_hand = sum(layer.sec for layer in step.layers) + step.optimizer_bytes / 1e11 + step.launch_sec
    assert step.sec == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("depth", "base_filters"), [(1, 4), (2, 16), (5, 8)])
def test_a_steps_flop_hold_the_training_flop_and_little_more(depth, base_filters):
    step = step_roof(layer_records(RunConfig(depth, base_filters)), 16, ROOF)
    assert 1 < step.flop / (16 * train_flop(RunConfig(depth, base_filters))) < 1.1  # biases, pools and the softmax


def test_optimizers_move_the_parameters_as_often_as_they_read_and_write_them():
    assert [optimizer_passes(name) for name in ("sgd", "sgd_momentum", "RMSprop", "AdamW")] == [3, 5, 5, 7]
    assert optimizer_passes("Adam") == ADAM_PASSES == 7
    assert optimizer_passes("rm_sprop") == optimizer_passes("rmsprop")  # as Keras names an optimizer that it makes
    sgd, adam = (step_roof([CONV], 4, ROOF, 4, optimizer_passes(name)).optimizer_sec for name in ("sgd", "adam"))
    assert sgd == pytest.approx(adam * 3 / 7, rel=1e-12)


def test_an_optimizer_that_is_not_known_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'adafactor'.*sgd, sgd_momentum, rmsprop"):
        optimizer_passes("adafactor")


@pytest.mark.parametrize(("records", "batch_size"), [([], 8), ([DENSE], 0)])
def test_a_step_without_layers_or_images_is_refused(records, batch_size):
    with pytest.raises(ValueError, match=f"got {len(records)} and {batch_size}"):
        step_roof(records, batch_size, ROOF)
