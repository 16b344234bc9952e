"""What each Keras layer computes and moves, by hand."""

from __future__ import annotations

import importlib
from math import prod

import pytest

from epochcast.keras_layers.operations import OPERATIONS
from epochcast.keras_layers.read_layers import read_layers
from epochcast.keras_layers.rules import RULES
from tests.support.models.keras_records import by_name, is_known


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


def layers_of(keras):
    """(a layer, the shape of its input) of every kind with one input."""
    layers = keras.layers
    sequence, image, volume = (12, 6), (8, 8, 6), (6, 6, 6, 4)
    yield from ((getattr(layers, f"{name}1D")(*sizes), sequence) for name, sizes in CONVOLUTIONS.items())
    yield from ((getattr(layers, f"{name}2D")(*sizes), image) for name, sizes in CONVOLUTIONS.items())
    yield layers.Conv3D(5, 3), volume
    yield layers.Conv2D(6, 3, groups=2, activation="gelu"), image
    yield layers.Conv1DTranspose(5, 3, strides=2), sequence
    yield layers.Conv2DTranspose(5, 3, strides=2, activation="silu"), image
    yield layers.Conv3DTranspose(5, 3), volume
    for shape in (sequence, image, volume):
        yield from ((getattr(layers, f"{name}Pooling{len(shape) - 1}D")(2), shape) for name in ("Max", "Average"))
        yield from ((getattr(layers, f"Global{name}Pooling{len(shape) - 1}D")(), shape) for name in ("Max", "Average"))
    for name in ("BatchNormalization", "LayerNormalization", "UnitNormalization", "RMSNormalization"):
        yield getattr(layers, name)(), image
    yield layers.GroupNormalization(2), image
    yield from ((getattr(layers, name)(), image) for name in ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"))
    yield from ((layers.Activation(name), sequence) for name in ("relu", "gelu", "silu", "tanh", "sigmoid", "softmax"))
    yield layers.Dense(4, activation="elu"), (7,)
    yield layers.EinsumDense("...x,xyz->...yz", (3, 4), bias_axes="yz"), sequence
    yield from ((getattr(layers, name)(5, return_sequences=True), sequence) for name in ("SimpleRNN", "GRU", "LSTM"))
    yield layers.GRU(5, reset_after=False, use_bias=False, return_sequences=True), sequence
    yield layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True), sequence
    for mode in ("concat", "sum", "mul", "ave"):
        yield layers.Bidirectional(layers.LSTM(5, return_sequences=True), merge_mode=mode), sequence
    yield layers.TimeDistributed(layers.Dense(3)), sequence
    for name, size in (("ZeroPadding", 1), ("Cropping", 1), ("UpSampling", 2)):
        yield getattr(layers, f"{name}1D")(size), sequence
        yield getattr(layers, f"{name}2D")(size), image
        yield getattr(layers, f"{name}3D")(size), volume
    yield layers.Rescaling(1 / 255), image
    yield layers.Normalization(mean=0.5, variance=2.0), image
    yield from ((getattr(layers, name)(0.5), image) for name in ("Dropout", "AlphaDropout", "GaussianNoise"))
    yield layers.SpatialDropout2D(0.5), image
    yield layers.Permute((2, 1)), sequence
    yield layers.RepeatVector(3), (7,)


CONVOLUTIONS = {"Conv": (5, 3), "DepthwiseConv": (3,), "SeparableConv": (5, 3)}


def test_every_kind_of_layer_is_known_with_its_parameters_and_its_output(keras):
    kinds = set()
    for layer, shape in layers_of(keras):
        model = keras.Sequential([keras.Input(shape), layer])
        network = read_layers(model)
        assert is_known(network), network
        assert sum(record.params for record in network.records) == model.count_params(), layer
        trained = sum(prod(weight.shape) for weight in model.trainable_weights)
        assert sum(record.trainable_params for record in network.records) == trained, layer
        assert network.records[-1].outputs == prod(model.output_shape[1:]), layer
        assert all(r.outputs == prod(r.output_shape) and r.inputs > 0 for r in network.records)
        kinds.add(type(layer))
    assert len(kinds) > 50


def test_layers_that_move_nothing_have_no_record(keras):
    layers = keras.layers
    stack = [layers.Flatten(), layers.Reshape((4, 3)), layers.Identity(), layers.Dropout(0.0), layers.Activation(None)]
    network = read_layers(keras.Sequential([keras.Input((3, 4)), *stack]))
    assert network.records == ()
    assert is_known(network)


def test_multiply_adds_by_hand(keras):
    layers = keras.layers

    def macs(layer, shape):
        return [record.macs for record in read_layers(keras.Sequential([keras.Input(shape), layer])).records]

    assert macs(layers.Dense(7), (5, 3)) == [5 * 3 * 7]
    assert macs(layers.EinsumDense("abc,bcd->abd", (4, 6)), (4, 5)) == [4 * 5 * 6]  # a member each, stacked
    assert macs(layers.Conv2D(8, 3, strides=2, groups=2), (9, 9, 4)) == [4 * 4 * 9 * 2 * 8]
    assert macs(layers.Conv1D(8, 3, dilation_rate=2), (9, 4)) == [5 * 3 * 4 * 8]
    assert macs(layers.Conv2DTranspose(8, 3, strides=2), (5, 5, 4)) == [25 * 9 * 4 * 8]
    assert macs(layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 5)) == [16 * 9 * 5 * 2]
    assert macs(layers.SeparableConv2D(8, 3), (6, 6, 5)) == [16 * 9 * 5, 16 * 5 * 8]
    assert macs(layers.LSTM(6), (10, 3)) == [10 * 3 * 24, 10 * 6 * 24]
    assert macs(layers.GRU(6), (10, 3)) == [10 * 3 * 18, 10 * 6 * 18]
    assert macs(layers.RNN([layers.LSTMCell(6), layers.SimpleRNNCell(4)]), (10, 3)) == [720, 1440, 240, 160]
    assert macs(layers.TimeDistributed(layers.Conv1D(2, 3)), (4, 8, 5)) == [4 * 6 * 15 * 2]


def test_merging_layers_read_all_their_inputs(keras):
    layers = keras.layers
    one, other = keras.Input((5, 4)), keras.Input((5, 4))
    names = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    outputs = [getattr(layers, name)(name=name)([one, other]) for name in names]
    outputs += [layers.Dot(axes=(2, 2), name="dot")([one, other]), layers.Attention(name="attention")([one, other])]
    network = read_layers(keras.Model([one, other], outputs))
    assert is_known(network)
    found = by_name(network)
    assert all(found[name].inputs == 40 for name in names)
    assert (found["Concatenate"].forward_flop, found["Concatenate"].outputs) == (0, 40)
    assert (found["Add"].forward_flop, found["Average"].forward_flop) == (20, 40)
    assert found["dot"].macs == 5 * 5 * 4
    assert found["attention/scores"].macs == 5 * 5 * 4


def test_a_layer_keeps_what_its_gradient_reads(keras):
    layers = keras.layers
    stack = {
        layers.Conv2D(4, 3): (True, False),
        layers.Conv2D(4, 3, activation="relu"): (True, True),
        layers.BatchNormalization(): (True, False),
        layers.ReLU(): (False, True),
        layers.Activation("gelu"): (True, False),
        layers.AveragePooling2D(2): (False, False),
        layers.MaxPooling2D(2): (True, True),
        layers.Dropout(0.5): (False, True),
        layers.ZeroPadding2D(1): (False, False),
    }
    records = read_layers(keras.Sequential([keras.Input((16, 16, 3)), *stack])).records
    assert [(record.keeps_input, record.keeps_output) for record in records] == list(stack.values())


def test_a_frozen_layer_reads_its_input_backward_unless_it_is_linear(keras):
    layers = keras.layers

    def backward(layer):
        inputs = keras.Input((5, 8))
        model = keras.Model(inputs, layer(layers.Dense(8)(inputs)))
        layer.trainable = False
        return [record.backward_elements for record in read_layers(model).records[1:]]

    elements = 5 * 8  # gradients of output and input, and what is read again
    for frozen in (layers.Dense(8), layers.BatchNormalization()):
        assert backward(frozen) == [2 * elements]
    for frozen in (
        layers.LayerNormalization(),
        layers.GroupNormalization(2),
        layers.RMSNormalization(),
        layers.PReLU(),
    ):
        assert backward(frozen) == [3 * elements]
    projection, recurrent = backward(layers.SimpleRNN(8, return_sequences=True))
    assert projection == 2 * elements
    assert recurrent == 3 * elements + 3 * elements  # reads both inputs and its output, and gradients of all


APPLICATIONS = ("convnext", "inception_resnet_v2")  # which have layers of their own


def test_every_class_with_a_rule_is_one_of_keras(keras):
    of_applications = [importlib.import_module(f"keras.src.applications.{name}") for name in APPLICATIONS]
    of_layers = [keras.layers, *of_applications]
    assert [name for name in RULES if not any(hasattr(module, name) for module in of_layers)] == []
    of_operations = [importlib.import_module(f"keras.src.ops.{name}") for name in ("numpy", "nn", "core", "math")]
    assert [name for name in OPERATIONS if not any(hasattr(module, name) for module in of_operations)] == []


def test_convolutions_carry_their_filters_wherever_their_channels_stand(keras):
    layers = keras.layers

    def filters(layer, shape):
        return [record.filters for record in read_layers(keras.Sequential([keras.Input(shape), layer])).records]

    assert filters(layers.Conv2D(5, 3), (8, 8, 3)) == [5]
    assert filters(layers.Conv2D(5, 3, data_format="channels_first"), (3, 8, 8)) == [5]
    assert filters(layers.Conv1DTranspose(5, 3), (8, 3)) == [5]
    assert filters(layers.SeparableConv2D(5, 3), (8, 8, 3)) == [0, 5]
    assert filters(layers.DepthwiseConv2D(3), (8, 8, 3)) == filters(layers.Dense(4), (8,)) == [0]


def test_a_convolution_s_kernel_groups_and_strides_are_recorded(keras):
    layers = keras.layers

    def windows(layer, shape):
        records = read_layers(keras.Sequential([keras.Input(shape), layer])).records
        return [(record.taps, record.groups, record.strides) for record in records]

    assert windows(layers.Conv2D(8, (1, 7), strides=2, groups=2), (9, 9, 4)) == [(7, 2, 4)]
    assert windows(layers.Conv3D(2, 3, strides=2), (9, 9, 9, 4)) == [(27, 1, 8)]
    assert windows(layers.Conv1D(2, 5), (9, 4)) == [(5, 1, 1)]
    assert windows(layers.Conv2DTranspose(5, 2, strides=2), (8, 8, 3)) == [(4, 1, 4)]
    assert windows(layers.DepthwiseConv2D(3, strides=2), (8, 8, 3)) == [(9, 1, 4)]
    assert windows(layers.SeparableConv2D(5, 3), (8, 8, 3)) == [(9, 1, 1), (1, 1, 1)]
    assert windows(layers.Dense(4), (8,)) == [(0, 1, 1)]
