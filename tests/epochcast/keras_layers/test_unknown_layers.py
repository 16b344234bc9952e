"""Layers, cells and activations of a user's own: unknown, whatever they are called."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from epochcast.keras_layers.read_layers import read_layers
from tests.support.models.keras_records import forward_flop, is_known


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


def unknown_of(keras, layer, shape):
    inputs = keras.Input(shape)
    return read_layers(keras.Model(inputs, layer(inputs))).unknown


def test_a_layer_with_more_weights_than_its_class_tells_is_unknown(keras):
    layers = keras.layers

    def known(layer, shape=(8,), **inputs):
        model = keras.Sequential([keras.Input(shape, **inputs), layer])
        assert is_known(read_layers(model))
        return model

    adapted, table = layers.Dense(16, name="adapted"), layers.Embedding(9, 4, name="table")
    words, model = known(table, dtype="int32"), known(adapted)
    adapted.enable_lora(4)
    table.enable_lora(2)
    assert read_layers(model).unknown == ("adapted (Dense)",)
    assert read_layers(words).unknown == ("table (Embedding)",)
    model = known(layers.Dense(4, name="small"))
    model.get_layer("small").quantize("int8")
    assert read_layers(model).unknown == ("small (Dense)",)

    class Sum(layers.Dense):
        """A Dense layer of two kernels: it calls itself what it is not."""

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.other = layers.Dense(self.units)
            self.other.build((None, 8))

    assert unknown_of(keras, Sum(3, name="sum"), (8,)) == ("sum (Sum)",)
    bent = layers.Dense(4, activation=layers.PReLU(), name="bent")
    bent(np.zeros((2, 8), "float32"))
    assert unknown_of(keras, bent, (8,)) == ("bent (Dense)",)


def test_a_class_of_keras_that_a_user_changes_anywhere_is_unknown_and_else_known(keras):
    layers = keras.layers

    class Wide(layers.Conv2D):
        def convolution_op(self, inputs, kernel):  # Keras's documented hook
            return super().convolution_op(inputs, kernel) + super().convolution_op(inputs, 2 * kernel)

    class Pruned(layers.Dense):
        @property
        def kernel(self):
            return super().kernel * 0.5

    class Mine(layers.MultiHeadAttention):
        def _compute_attention(self, *args, **kwargs):
            return super()._compute_attention(*args, **kwargs)

    class Loop(layers.LSTM):
        def inner_loop(self, *args, **kwargs):
            return super().inner_loop(*args, **kwargs)

    class Twice(layers.TimeDistributed):
        def call(self, inputs, **kwargs):
            return super().call(inputs, **kwargs) + super().call(inputs, **kwargs)

    class Named(layers.Conv2D):
        """Harmless: other defaults, a configuration and a word of its own."""

        word = "named"

        def __init__(self, filters=4, **kwargs):
            super().__init__(filters, 3, **kwargs)

        def get_config(self):
            return super().get_config()

    image, sequence = (8, 8, 3), (5, 8)
    assert unknown_of(keras, Wide(4, 3, name="x"), image) == ("x (Wide)",)
    assert unknown_of(keras, Pruned(4, name="x"), sequence) == ("x (Pruned)",)
    attention = Mine(2, 4, name="x")
    assert unknown_of(keras, lambda inputs: attention(inputs, inputs), sequence) == ("x (Mine)",)
    assert unknown_of(keras, Loop(4, name="x"), sequence) == ("x (Loop)",)
    assert unknown_of(keras, Twice(layers.Dense(2), name="x"), sequence) == ("x (Twice)",)
    assert unknown_of(keras, Named(), image) == ()


def test_cells_of_a_users_own_are_unknown_by_whatever_name(keras):
    layers = keras.layers

    class LSTMCell(layers.LSTMCell):
        def call(self, inputs, states, training=False):
            output, states = super().call(inputs, states, training=training)
            return output + keras.ops.tanh(output), states

    class GRUCell(layers.Layer):
        state_size = 7

        def build(self, shape):
            self.mine = self.add_weight(shape=(shape[-1], 7))

        def call(self, inputs, states, training=False):
            output = keras.ops.matmul(inputs, self.mine) + states[0]
            return output, [output]

    class Plain(layers.LSTMCell):
        """Harmless."""

    assert unknown_of(keras, layers.RNN(LSTMCell(6), name="own"), (5, 8)) == ("own (RNN)",)
    assert unknown_of(keras, layers.RNN(GRUCell(), name="own"), (5, 8)) == ("own (RNN)",)
    assert unknown_of(keras, layers.RNN([layers.GRUCell(3), LSTMCell(6)], name="own"), (5, 8)) == ("own (RNN)",)
    plain, own = (
        read_layers(keras.Sequential([keras.Input((5, 8)), layers.RNN(cell, name="rnn")])).records
        for cell in (layers.LSTMCell(6), Plain(6))
    )
    assert plain == own


def weird(x):
    return x * x


def relu(x):  # no more Keras's than `weird`
    return importlib.import_module("keras").ops.exp(x)


def test_unknown_activations_of_every_cell_are_named(keras):
    layers = keras.layers
    with keras.saving.custom_object_scope({"weird": weird}):  # Bidirectional copies its layer
        unknown = [
            layers.LSTM(3, activation=weird, name="x"),
            layers.LSTM(3, recurrent_activation=weird, name="x"),
            layers.GRU(3, activation=weird, recurrent_activation=weird, name="x"),
            layers.SimpleRNN(3, activation=weird, name="x"),
            layers.Bidirectional(layers.GRU(3, recurrent_activation=weird), name="x"),
            layers.Bidirectional(layers.LSTM(3, activation=weird), name="x"),
            layers.Bidirectional(
                layers.LSTM(3), backward_layer=layers.LSTM(3, activation=weird, go_backwards=True), name="x"
            ),
            layers.RNN(layers.LSTMCell(3, activation=weird), name="x"),
            layers.RNN([layers.GRUCell(3), layers.GRUCell(3, activation=weird)], name="x"),
        ]
    expected = (f"x (activation {__name__}.weird)",)
    assert [unknown_of(keras, layer, (4, 3)) for layer in unknown] == [expected] * len(unknown)
    both = layers.LSTM(3, activation=weird, recurrent_activation=relu, name="x")
    assert unknown_of(keras, both, (4, 3)) == (f"x (activation {__name__}.weird, {__name__}.relu)",)
    known = layers.Bidirectional(layers.RNN([layers.GRUCell(3, activation="relu"), layers.SimpleRNNCell(3)]))
    assert unknown_of(keras, known, (4, 3)) == ()


def test_a_users_activation_is_not_taken_for_keras_one_of_its_name(keras):
    layers = keras.layers

    class ReLU(layers.Layer):
        def call(self, inputs):
            return keras.ops.exp(inputs)

    class Bent(layers.ELU):
        """Harmless."""

    class Chosen(layers.Activation):
        """Harmless."""

    named = (f"x (activation {__name__}.relu)",)
    assert unknown_of(keras, layers.Dense(4, activation=relu, name="x"), (8,)) == named
    assert unknown_of(keras, layers.Activation(relu, name="x"), (8,)) == named
    assert unknown_of(keras, layers.LSTM(3, recurrent_activation=relu, name="x"), (4, 8)) == named
    own, layered = layers.Dense(4, activation=ReLU(), name="x"), layers.Dense(4, activation=layers.ReLU())
    for layer in (own, layered):
        layer(np.zeros((2, 8), "float32"))
    assert unknown_of(keras, own, (8,)) == (f"x (activation {__name__}.ReLU)",)
    for activation in ("relu", keras.activations.relu, keras.ops.relu):
        assert unknown_of(keras, layers.Dense(4, activation=activation), (8,)) == ()
    assert unknown_of(keras, layered, (8,)) == ()

    def flop(layer):
        return forward_flop(read_layers(keras.Sequential([keras.Input((8,)), layer])))

    assert flop(Bent()) == flop(layers.ELU()) > 0
    assert flop(Chosen("gelu")) == flop(layers.Activation("gelu")) > 0


def test_upsampling_that_weighs_its_neighbours_is_unknown(keras):
    layers = keras.layers
    for way in ("bilinear", "bicubic", "lanczos3", "lanczos5"):
        layer = layers.UpSampling2D(2, interpolation=way, name="up")
        assert unknown_of(keras, layer, (4, 4, 3)) == ("up (UpSampling2D)",)
    assert unknown_of(keras, layers.UpSampling2D(2, interpolation="nearest"), (4, 4, 3)) == ()


def test_an_einsum_layer_that_sums_an_axis_of_one_operand_is_unknown(keras):
    assert unknown_of(keras, keras.layers.EinsumDense("abc,cd->ad", (5,), name="sums"), (6, 8)) == (
        "sums (EinsumDense)",
    )
    assert unknown_of(keras, keras.layers.EinsumDense("...x,xy->...y", (5,)), (6, 8)) == ()
