"""Records of recurrent layers and attention, with their masks and projections."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from epochcast.keras_layers.read_layers import read_layers
from tests.support.models.keras_records import by_name, is_known


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


def test_a_recurrent_layer_is_one_launch_where_keras_makes_it_one_call_and_else_one_a_step(keras):
    def lstm(**settings):
        return read_layers(keras.Sequential([keras.Input((9, 3)), keras.layers.LSTM(4, name="lstm", **settings)]))

    def launches(layer):
        records = read_layers(keras.Sequential([keras.Input((9, 3)), layer])).records
        return [record.n_kernels for record in records if record.name.endswith("recurrent")]

    rolled, unrolled = lstm(), lstm(unroll=True)
    assert [replace(record, n_kernels=1) for record in unrolled.records] == list(rolled.records)
    assert (by_name(rolled)["lstm/recurrent"].n_kernels, by_name(unrolled)["lstm/recurrent"].n_kernels) == (1, 9)
    layers = keras.layers
    one_call = [layers.GRU(4), layers.LSTM(4, dropout=0.1), layers.Bidirectional(layers.GRU(4))]
    assert [launches(layer) for layer in one_call] == [[1], [1], [1, 1]]
    others = [{"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}, {"use_bias": False}]
    others += [{"recurrent_dropout": 0.1}, {"use_cudnn": False}]
    assert [launches(layers.LSTM(4, **settings)) for settings in others] == [[9]] * 5
    steps = [layers.GRU(4, reset_after=False), layers.SimpleRNN(4), layers.RNN(layers.LSTMCell(4))]
    assert [launches(layer) for layer in steps] == [[9]] * 3
    assert by_name(rolled)["lstm/recurrent"].weight_reads == 4 * 16  # once, as a cache may hold them
    assert by_name(rolled)["lstm/recurrent"].has_input_gradient  # through time, if not to the inputs
    assert not by_name(rolled)["lstm/input"].has_input_gradient


def test_attention_is_its_projections_and_what_is_between_them(keras):
    layers = keras.layers
    query, source = keras.Input((7, 16), name="query"), keras.Input((9, 12), name="source")
    attention = layers.MultiHeadAttention(4, 5, value_dim=6, dropout=0.1, name="mha")
    network = read_layers(keras.Model([query, source], attention(query, source)))
    assert is_known(network)
    assert network.sample_shape == ((7, 16), (9, 12))
    found = {name.removeprefix("mha/"): record.macs for name, record in by_name(network).items()}
    assert found == {
        "query": 7 * 16 * 20,
        "key": 9 * 12 * 20,
        "value": 9 * 12 * 24,
        "scores": 4 * 7 * 9 * 5,
        "softmax": 0,
        "dropout": 0,
        "weighted_sum": 4 * 7 * 9 * 6,
        "attention_output": 7 * 24 * 16,
    }
    assert sum(record.params for record in network.records) == attention.count_params()
    needs = {name for name, record in by_name(network).items() if record.has_input_gradient}
    assert needs == {f"mha/{name}" for name in ("scores", "softmax", "dropout", "weighted_sum", "attention_output")}


def test_attention_over_rows_alone_is_one_attention_for_each_column(keras):
    image = keras.Input((4, 6, 8))
    attention = keras.layers.MultiHeadAttention(2, 3, attention_axes=(1,), name="mha")
    network = read_layers(keras.Model(image, attention(image, image)))
    assert by_name(network)["mha/scores"].output_shape == (6, 2, 4, 4)
    assert by_name(network)["mha/weighted_sum"].macs == 6 * 2 * 4 * 4 * 3


def test_masks_are_no_inputs_and_their_making_is_known(keras):
    layers = keras.layers
    words = keras.Input((7,), dtype="int32")
    x = layers.Embedding(50, 8, mask_zero=True, name="table")(words)
    x = layers.MultiHeadAttention(2, 4, name="mha")(x, x, use_causal_mask=True)
    network = read_layers(keras.Model(words, layers.LSTM(3, name="lstm")(x)))
    assert is_known(network)
    assert by_name(network)["lstm/input"].inputs == 7 * 8
    assert by_name(network)["mha/scores"].inputs == 2 * 7 * 8


def test_masks_of_all_layers_of_keras_are_known(keras):
    layers = keras.layers
    numbers, words = keras.Input((7, 8)), keras.Input((7,), dtype="int32")
    table = layers.Embedding(50, 8, mask_zero=True)
    masked, of_words = layers.Masking()(numbers), table(words)
    for x in (
        masked,
        layers.Concatenate()([masked, of_words]),
        layers.Concatenate(axis=1)([masked, numbers]),
        layers.Add()([masked, of_words]),
        layers.Attention()([of_words, masked]),
        layers.TimeDistributed(layers.Dense(8))(masked),
        layers.Bidirectional(layers.GRU(4, return_sequences=True))(masked),
    ):
        network = read_layers(keras.Model([numbers, words], layers.LSTM(3, name="lstm")(x)))
        assert is_known(network), network.unknown
        assert by_name(network)["lstm/input"].inputs == x.shape[1] * x.shape[2]


def test_grouped_queries_share_keys_and_values(keras):
    inputs = keras.Input((7, 16))
    attention = keras.layers.GroupQueryAttention(5, 4, 2, name="gqa")
    network = read_layers(keras.Model(inputs, attention(inputs, inputs)))
    assert is_known(network)
    assert by_name(network)["gqa/scores"].macs == 4 * 7 * 7 * 5
    assert by_name(network)["gqa/scores"].inputs == 7 * 5 * (4 + 2)


def test_all_kinds_of_attention_and_recurrence_have_their_dropout_and_gate(keras):
    layers = keras.layers
    inputs = keras.Input((5, 8))
    drops = layers.LSTM(4, dropout=0.5, recurrent_dropout=0.5, name="lstm")(inputs)
    dots = layers.Attention(dropout=0.5, name="dots")([inputs, inputs])
    gated = layers.MultiHeadAttention(2, 4, use_gate=True, name="gated")(inputs, inputs)
    grouped = layers.GroupQueryAttention(4, 4, 2, use_gate=True, name="grouped")(inputs, inputs)
    network = read_layers(keras.Model(inputs, [drops, dots, gated, grouped]))
    assert is_known(network)
    found = by_name(network)
    assert [name for name in found if name.startswith("lstm")] == [
        f"lstm/{name}" for name in ("dropout", "input", "recurrent_dropout", "recurrent")
    ]
    assert found["lstm/dropout"].inputs == 5 * 8
    assert found["lstm/recurrent_dropout"].outputs == 5 * 4
    assert found["dots/dropout"].outputs == 5 * 5
    for name, size in (("gated", 5 * 2 * 4), ("grouped", 5 * 4 * 4)):
        gating = found[f"{name}/gating"]
        assert (gating.inputs, gating.outputs, gating.forward_flop) == (2 * size, size, size)
        assert gating.keeps_input


def test_an_argument_is_a_mask_by_its_whole_name_alone(keras):
    class Masked(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(4, name="dense")

        def build(self, *shapes, **more):
            self.dense.build((None, 6, 4))

        def call(self, *, unmasked_x):
            return self.dense(unmasked_x)

    inputs = keras.Input((6, 4))
    x = keras.layers.Dense(4, name="first")(inputs)
    network = read_layers(keras.Model(inputs, Masked(name="masked")(unmasked_x=x)))
    assert by_name(network)["masked/dense"].has_input_gradient
