"""Keras's operations in a Functional model without a layer: what each computes and moves, by hand."""

from __future__ import annotations

import importlib
from math import prod

import numpy as np
import pytest

from epochcast.keras_layers.read_layers import read_layers
from tests.support.models.keras_records import forward_flop, is_known


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


A, B, C = 6, 4, 8
N = A * B  # elements of a sample of x
# an operation on x of shape (A, B); FLOP; elements read; elements written
ELEMENTWISE = {
    "absolute": (1, N, N),
    "rsqrt": (1, N, N),
    "reciprocal": (1, N, N),
    "sin": (1, N, N),
    "erf": (1, N, N),
    "log1p": (1, N, N),
    "sign": (0, N, N),
    "leaky_relu": (1, N, N),
    "elu": (3, N, N),
    "selu": (4, N, N),
    "softplus": (3, N, N),
    "log_softmax": (5, N, N),
    "softmax": (5, N, N),
    "gelu": (6, N, N),
}
OTHERS = {
    "mean": (lambda ops, x: ops.mean(x, axis=1), N, N, B),
    "mean of all": (lambda ops, x: ops.mean(x, axis=(1, 2)), N, N, 1),
    "sum": (lambda ops, x: ops.sum(x, axis=-1, keepdims=True), N - A, N, A),
    "max": (lambda ops, x: ops.max(x, axis=1), N - B, N, B),
    "amin": (lambda ops, x: ops.amin(x, axis=1), N - B, N, B),
    "prod": (lambda ops, x: ops.prod(x, axis=1), N - B, N, B),
    "argmax": (lambda ops, x: ops.argmax(x, axis=-1), N - A, N, A),
    "var": (lambda ops, x: ops.var(x, axis=-1), 4 * N, N, A),
    "std": (lambda ops, x: ops.std(x, axis=-1), 4 * N + A, N, A),
    "logsumexp": (lambda ops, x: ops.logsumexp(x, axis=-1), 4 * N, N, A),
    "clip": (lambda ops, x: ops.clip(x, 0.0, 1.0), 0, N, N),
    "swapaxes": (lambda ops, x: ops.swapaxes(x, 1, 2), 0, N, N),
    "moveaxis": (lambda ops, x: ops.moveaxis(x, 1, 2), 0, N, N),
    "flip": (lambda ops, x: ops.flip(x, axis=1), 0, N, N),
    "roll": (lambda ops, x: ops.roll(x, 1, axis=1), 0, N, N),
    "tile": (lambda ops, x: ops.tile(x, (1, 2, 1)), 0, N, 2 * N),
    "slice": (lambda ops, x: x[:, 1:3], 0, 2 * B, 2 * B),
    "take": (lambda ops, x: ops.take(x, [0, 2], axis=1), 0, 2 * B, 2 * B),
    "split": (lambda ops, x: ops.split(x, 3, axis=1), 0, N, N),
    "unstack": (lambda ops, x: ops.unstack(x, axis=1), 0, N, N),
    "one_hot": (lambda ops, x: ops.one_hot(ops.cast(x, "int32"), 5), 0, N, 5 * N),
    "einsum, one moved": (lambda ops, x: ops.einsum("bij->bji", x), 0, N, N),
    "einsum, one summed": (lambda ops, x: ops.einsum("bij->bi", x), N - A, N, A),
}


def records_of(keras, make):
    x = keras.Input((A, B))
    network = read_layers(keras.Model(x, make(keras.ops, x)))
    assert is_known(network), network.unknown
    return network.records


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_operation_has_its_flop_for_each_element(keras, name):
    each, read, written = ELEMENTWISE[name]
    (record,) = records_of(keras, lambda ops, x: getattr(ops, name)(x))
    assert (record.forward_flop, record.inputs, record.outputs) == (each * N, read, written)


@pytest.mark.parametrize("name", OTHERS)
def test_an_operation_reads_and_writes_what_it_takes_and_makes(keras, name):
    make, flop, read, written = OTHERS[name]
    (record,) = records_of(keras, make)
    assert (record.forward_flop, record.inputs, record.outputs, record.macs) == (flop, read, written, 0)
    assert record.outputs == prod(record.output_shape)


def test_both_halves_of_a_split_carry_the_gradient_on(keras):
    inputs = keras.Input((A, B))
    x, gate = keras.ops.split(keras.layers.Dense(2 * B, name="wide")(inputs), 2, axis=-1)
    network = read_layers(keras.Model(inputs, keras.layers.Dense(3)(x * keras.ops.sigmoid(gate))))
    assert is_known(network)
    assert [record.has_input_gradient for record in network.records] == [False, True, True, True, True]


PRODUCTS = {  # equation of x (A, B) and y (C, B), y being an input or a constant; multiply-adds
    "bij,bkj->bik": A * C * B,
    "bij,bkj->bikj": A * C * B,  # nothing is summed
    "...ij,...kj->...ik": A * C * B,
    "bij,bkj->bki": A * C * B,
}


@pytest.mark.parametrize("equation", PRODUCTS)
def test_a_product_of_two_by_einsum_sums_what_both_have(keras, equation):
    x, y = keras.Input((A, B)), keras.Input((C, B))
    network = read_layers(keras.Model([x, y], keras.ops.einsum(equation, x, y)))
    assert is_known(network), network.unknown
    (record,) = network.records
    assert (record.macs, record.inputs) == (PRODUCTS[equation], A * B + C * B)
    assert forward_flop(network) == 2 * record.macs


def test_an_einsum_by_a_constant_on_the_right_is_known(keras):
    table = np.ones((B, C), "float32")
    (record,) = records_of(keras, lambda ops, x: ops.einsum("bij,jk->bik", x, table))
    assert (record.macs, record.inputs, record.outputs) == (A * B * C, A * B, A * C)


UNKNOWN = {
    "each sample by each": lambda ops, x: ops.einsum("bij,ckj->bcik", x, x),
    "a sum of one factor's axis": lambda ops, x: ops.einsum("bij,bik->bk", x, x),
    "a diagonal": lambda ops, x: ops.einsum("bii->bi", x[:, :B]),
    "three factors": lambda ops, x: ops.einsum("bij,bij,bij->bij", x, x, x),
    "no result": lambda ops, x: ops.einsum("bij,bkj", x, x),
    "a constant on the left": lambda ops, x: ops.einsum("ki,bij->bkj", np.ones((3, A), "float32"), x),
    "over samples": lambda ops, x: ops.mean(x, axis=0, keepdims=True) + x,
    "parts of the samples": lambda ops, x: ops.split(x, [1], axis=0)[1],
    "a running sum": lambda ops, x: ops.cumsum(x, axis=1),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_mixes_samples_or_has_no_count_is_unknown_with_a_reason(keras, name):
    x = keras.Input(batch_shape=(16, A, B)) if "samples" in name else keras.Input((A, B))
    network = read_layers(keras.Model(x, UNKNOWN[name](keras.ops, x)))
    assert network.unknown
    assert set(network.reasons) <= {"mixes samples or uses a weight", "has no rule"}
    assert len(network.reasons) == len(network.unknown)


def test_attention_by_one_operation_is_scores_softmax_and_sum(keras):
    query, source = keras.Input((7, 4, 5)), keras.Input((9, 2, 5))
    network = read_layers(
        keras.Model([query, source], keras.ops.dot_product_attention(query, source, source, is_causal=False))
    )
    assert is_known(network), network.unknown
    assert [record.macs for record in network.records] == [4 * 7 * 9 * 5, 0, 4 * 7 * 9 * 5]


def test_a_table_read_both_ways_has_its_weights_once(keras):
    words = keras.Input((7,), dtype="int32")
    table = keras.layers.ReversibleEmbedding(50, 8, logit_soft_cap=30.0, name="table")
    network = read_layers(keras.Model(words, table(table(words), reverse=True)))
    assert is_known(network), network.unknown
    lookup, scores = network.records
    assert (lookup.kind, lookup.lookups, lookup.params, lookup.is_repeat) == ("embedding", 7 * 8, 400, False)
    assert (scores.kind, scores.macs, scores.params, scores.is_repeat) == ("dense", 7 * 8 * 50, 400, True)
    assert scores.forward_flop == 2 * scores.macs + 3 * 7 * 50


def test_a_number_that_is_the_same_for_all_samples_is_no_input_of_theirs(keras):
    x, scale = keras.Input((A, B)), keras.Input(batch_shape=(), dtype="float32", name="scale")
    network = read_layers(keras.Model([x, scale], keras.layers.Dense(2)(x) * scale))
    assert is_known(network), network.unknown
    assert network.sample_shape == ((A, B), ())
    product = network.records[-1]
    assert (product.inputs, product.forward_flop) == (A * 2 + 1, A * 2)
