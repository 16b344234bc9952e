"""Calls seen during a trace: shared and nested layers, operations without a layer, and gradients."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from epochcast.keras_layers.read_layers import read_layers
from tests.support.models.keras_records import by_name, is_known


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


def test_operations_without_a_layer_are_known_or_named(keras):
    inputs = keras.Input((6, 4))
    x = keras.layers.Dense(4, name="dense")(inputs) + inputs
    x = keras.ops.relu(x) * 2.0
    x = keras.ops.cumsum(keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))), axis=1)
    network = read_layers(keras.Model(inputs, x))
    assert [record.kind for record in network.records] == [
        *("dense", "operation", "activation", "operation", "operation", "attention")
    ]
    assert [r.has_input_gradient for r in network.records] == [False, True, True, True, True, True]
    assert network.records[-1].macs == 6 * 6 * 4
    assert [name.partition(" ")[2] for name in network.unknown] == ["(Cumsum)"]


def test_a_shared_layer_works_twice_and_has_its_weights_once(keras):
    one, other = keras.Input((8,)), keras.Input((8,))
    shared = keras.layers.Dense(8, name="shared")
    network = read_layers(keras.Model([one, other], keras.layers.Add()([shared(one), shared(shared(other))])))
    assert [(r.name, r.is_repeat, r.has_input_gradient) for r in network.records if r.kind == "dense"] == [
        ("shared", False, False),
        ("shared:2", True, False),
        ("shared:3", True, True),
    ]
    assert sum(record.params for record in network.records if not record.is_repeat) == network.params


def test_layers_of_nested_models_carry_their_path(keras):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv")], name="inner")
    outer_in = keras.Input((8, 8, 3))
    outer = keras.Model(outer_in, layers.GlobalAveragePooling2D(name="mean")(inner(outer_in)), name="outer")
    steps = keras.Input((5, 8, 8, 3))
    network = read_layers(keras.Model(steps, layers.TimeDistributed(outer, name="steps")(steps)))
    assert is_known(network)
    found = by_name(network)
    assert list(found) == ["steps/outer/inner/conv", "steps/outer/mean"]
    conv = found["steps/outer/inner/conv"]
    assert (conv.output_shape, conv.macs, conv.n_kernels) == ((5, 6, 6, 4), 5 * 36 * 27 * 4, 5)
    assert (conv.params, conv.weight_reads, conv.has_input_gradient) == (112, 112, False)
    assert found["steps/outer/mean"].has_input_gradient


def test_the_gradient_of_inputs_is_wanted_behind_trained_weights_alone(keras):
    layers = keras.layers
    one, other = keras.Input((8, 8, 3), name="one"), keras.Input((8, 8, 3), name="other")
    x = layers.Conv2D(4, 3, name="first")(layers.ZeroPadding2D(name="pad")(layers.Rescaling(2.0, name="scale")(one)))
    x = layers.BatchNormalization(name="norm")(x)
    y = layers.Conv2D(4, 3, name="other_first", padding="same")(other)  # called later, and yet before all weights
    model = keras.Model([one, other], layers.Add(name="add")([x, y]))
    found = by_name(read_layers(model))
    assert {name for name, r in found.items() if r.has_input_gradient} == {"norm", "add"}
    assert (found["norm"].params, found["norm"].frozen_params) == (16, 8)  # mean and variance are not trained
    model.get_layer("first").trainable = False
    model.get_layer("norm").trainable = False
    found = by_name(read_layers(model))
    assert {name for name, r in found.items() if r.has_input_gradient} == {"add"}
    assert found["first"].trainable_params == 0
    assert [name for name, r in found.items() if r.n_gradients] == ["other_first", "add"]
    model.trainable = False
    assert not any(record.n_gradients for record in read_layers(model).records)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])  # under which the inner model casts its inputs
def test_the_second_of_two_towers_has_no_gradient_of_its_input(keras, policy):
    layers = keras.layers
    one, other = keras.Input((4,)), keras.Input((4,))
    keras.config.set_dtype_policy(policy)
    try:
        towers = [layers.Dense(3, name="left")(one), layers.Dense(3, name="right")(other)]
        inner = keras.Model([one, other], layers.Add(name="add")(towers), name="inner")
        sample = keras.Input((4,))
        model = keras.Model(sample, inner([layers.Rescaling(2.0)(sample), layers.Rescaling(3.0)(sample)]))
    finally:
        keras.config.set_dtype_policy("float32")
    found = by_name(read_layers(model))
    assert [found[f"inner/{name}"].has_input_gradient for name in ("left", "right", "add")] == [False, False, True]


def test_gradients_end_at_a_stop_and_at_whole_numbers(keras):
    layers, ops = keras.layers, keras.ops
    inputs = keras.Input((8,))
    x = layers.Dense(8, name="before")(inputs)
    stopped = layers.Dense(2, name="stopped")(ops.stop_gradient(x))
    chosen = layers.Embedding(8, 4, name="chosen")(ops.argmax(x, -1))
    above = layers.Dense(3, name="above")(ops.cast(ops.greater(x, 0.0), "float32"))
    on = layers.Dense(2, name="on")(x)
    found = by_name(read_layers(keras.Model(inputs, [stopped, chosen, above, on])))
    assert {name: found[name].has_input_gradient for name in ("stopped", "chosen", "above", "on")} == {
        **dict.fromkeys(("stopped", "chosen", "above"), False),
        "on": True,
    }


def test_products_outside_layers_count_what_they_sum_or_are_unknown(keras):
    ops = keras.ops
    inputs = keras.Input((6, 16))
    x = keras.layers.Dense(16, name="dense")(inputs)
    table = np.ones((16, 10), "float32")
    known = [
        ops.matmul(x, table),
        ops.matmul(x, ops.transpose(inputs, (0, 2, 1))),
        ops.matmul(x, ops.transpose(x, (0, 2, 1))),
    ]
    products = [r for r in read_layers(keras.Model(inputs, known)).records if r.kind == "attention"]
    assert sorted((record.macs, record.n_gradients) for record in products) == [
        (6 * 6 * 16, 1),  # one factor is the image
        (6 * 6 * 16, 2),
        (6 * 16 * 10, 1),  # one is constant
    ]

    def unknown_kinds(output):
        return {title.partition(" ")[2] for title in read_layers(keras.Model(inputs, output)).unknown}

    row = x[:, 0]
    assert unknown_kinds(ops.matmul(np.ones((9, 6), "float32"), x)) == {"(Matmul)"}
    assert unknown_kinds(ops.matmul(row, ops.transpose(row))) == {"(Transpose)", "(Matmul)"}  # each sample by each
    assert unknown_kinds(ops.reshape(x, (-1, 16))) == {"(Reshape)"}  # more samples than there were
    assert unknown_kinds(ops.expand_dims(x, 0)) == {"(ExpandDims)"}  # one
    kernel = keras.layers.Dense(4)
    kernel.build((None, 16))
    assert unknown_kinds(ops.matmul(x, kernel.kernel)) == {"(Matmul)"}  # a weight without its layer
    assert unknown_kinds(x + np.ones((6, 16), "float32")) == set()
    added = read_layers(keras.Model(inputs, ops.add(np.ones((6, 16), "float32"), x))).records[-1]
    assert (added.kind, added.inputs) == ("operation", 6 * 16)  # what is the same for all is not each sample's
    assert read_layers(keras.Model(inputs, row)).records[-1].inputs == 16  # what it gives, not what it takes from
