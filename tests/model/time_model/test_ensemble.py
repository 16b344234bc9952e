"""Member networks by NumPy: an output of their own each, the activation between layers, 0 where there is no network."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from epochcast.model.time_model.ensemble import ACTIVATIONS, Ensemble

X = np.random.default_rng(0).normal(size=(7, 3))


def random_network(seed, activation="silu", members=4, units=(3, 5, 6, 1)):
    random = np.random.default_rng(seed)
    shapes = list(pairwise(units))
    return Ensemble(
        tuple(random.normal(size=(members, *shape)) for shape in shapes),
        tuple(random.normal(size=(members, outputs)) for _, outputs in shapes),
        activation,
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(5))
def test_each_member_s_output_is_that_of_its_own_layers(activation, seed):
    network = random_network(seed, activation)
    activate = {"silu": lambda h: h / (1 + math.exp(-h)), "relu": lambda h: max(h, 0.0)}[activation]
    outputs = network.outputs(X)
    assert outputs.shape == (7, 4)
    for member in range(4):
        for row, x in enumerate(X):
            h = x
            for kernel, bias in zip(network.kernels[:-1], network.biases[:-1], strict=True):
                h = np.array([activate(v) for v in h @ kernel[member] + bias[member]])
            expected = (h @ network.kernels[-1][member] + network.biases[-1][member]).item()
            assert outputs[row, member] == pytest.approx(expected, rel=1e-9, abs=1e-9)  # order of double sums


def test_a_zero_network_answers_zero_for_any_input():
    network = Ensemble.zero(3)
    assert network.is_zero
    np.testing.assert_array_equal(network.outputs(1e6 * X), np.zeros((7, 1)))
    assert not random_network(0).is_zero


def test_a_network_is_zero_when_its_last_layer_is_whatever_comes_before():
    network = random_network(1)
    silent = Ensemble(
        (*network.kernels[:-1], np.zeros_like(network.kernels[-1])),
        (*network.biases[:-1], np.zeros_like(network.biases[-1])),
    )
    assert silent.is_zero
    np.testing.assert_array_equal(silent.outputs(X), 0)
    assert not Ensemble(silent.kernels, network.biases).is_zero


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_inputs_far_outside_give_numbers_without_a_warning(activation):
    assert np.isfinite(random_network(2, activation).outputs(1e6 * X)).all()


def test_no_rows_give_no_outputs():
    assert random_network(3).outputs(np.empty((0, 3))).shape == (0, 4)
