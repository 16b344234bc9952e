"""Records read from Keras models: against our closed form, the frameworks' own counts, and by hand."""

from __future__ import annotations

import importlib
from dataclasses import replace
from math import prod

import numpy as np
import pytest

from benchmarks.estimates.bench_layers import Compared, count_apart
from benchmarks.lib.framework_flop import profiler_flop
from benchmarks.lib.layer_models import MODELS
from epochcast.keras_layers.operations import OPERATIONS
from epochcast.keras_layers.read_layers import read_layers
from epochcast.keras_layers.rules import RULES
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


def forward_flop(network):
    return sum(record.forward_flop for record in network.records)


def by_name(network):
    return {record.name: record for record in network.records}


def is_known(network):
    return not network.unknown and not network.partial


@pytest.mark.parametrize(("depth", "base_filters"), [(1, 4), (2, 3), (2, 16), (3, 32), (5, 8), (6, 2)])
def test_records_read_from_the_cnn_equal_its_closed_form(keras, depth, base_filters):
    network = read_layers(importlib.import_module("epochcast.workload.cnn").build_model(RunConfig(depth, base_filters)))
    assert network.records == layer_records(RunConfig(depth, base_filters))
    assert is_known(network)
    assert network.sample_shape == ((32, 32, 3),)


CHEAP = ["ResNet-50", "MobileNet", "LSTM", "GRU", "1D convolutions", "3D convolutions", "text CNN"]
CHEAP += ["separable convolutions", "transposed convolutions"]
DEAR = ["MobileNetV2", "EfficientNetB0", "bidirectional LSTM"]


@pytest.mark.parametrize("name", CHEAP + [pytest.param(name, marks=pytest.mark.slow) for name in DEAR])
def test_forward_flop_are_those_of_tensorflows_profiler(keras, name):
    model = MODELS[name]()
    network = read_layers(model)
    assert is_known(network)
    assert network.params == model.count_params()
    assert forward_flop(network) == pytest.approx(profiler_flop(model), rel=0.03)  # the most is EfficientNet's


def test_forward_flop_of_a_transformer_are_the_profilers_and_the_products_that_it_leaves_out(keras):
    model = MODELS["Transformer block"]()
    network = read_layers(model)
    between = sum(2 * record.macs for record in network.records if record.kind == "attention")
    assert between == 2 * 2 * 128 * 128 * 256  # scores and weighted sum: 2 FLOP x positions^2 x width
    assert forward_flop(network) - between == pytest.approx(profiler_flop(model), rel=0.005)


@pytest.mark.slow  # JAX loaded and a network compiled: ten seconds
def test_jax_reads_as_much_and_its_compiler_counts_as_many_flop(keras):
    network = read_layers(MODELS["Transformer block"]())
    ((params, ours, theirs),) = count_apart("jax", ["Transformer block"]).values()
    assert (params, ours) == (network.params, forward_flop(network))
    assert ours == pytest.approx(theirs, rel=0.01)


@pytest.mark.slow  # JAX loaded and a network compiled: ten seconds
def test_jax_counts_fewer_flop_of_the_cnn_for_its_padding_alone(keras):
    names = ["CNN 3,32", "CNN 3,32 without padding"]
    padded, unpadded = (ours / theirs - 1 for _, ours, theirs in count_apart("jax", names).values())
    assert padded > 0.1
    assert abs(unpadded) < 0.005


def test_a_difference_without_a_reason_is_said_to_have_none():
    far = Compared("text CNN", params=1, flop=90, profiler_flop=100, jax_flop=99)
    assert (far.is_reached, far.reason) == (False, "NOT KNOWN; NOT KNOWN")
    assert Compared("text CNN", 1, flop=100, profiler_flop=100, jax_flop=99).reason == ""
    assert not Compared("text CNN", 1, flop=100, profiler_flop=100, jax_flop=50).is_reached  # why is not known
    assert not Compared("CNN 2,16", 1, flop=100, profiler_flop=101, jax_flop=100).is_reached  # exact, or not at all


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


def subclassed(keras):
    layers = keras.layers

    class Block(layers.Layer):
        """Known in part: what it adds is not seen."""

        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = layers.Dense(units, name="a"), layers.Dense(8, name="b")

        def build(self, input_shape):
            self.first.build(input_shape)
            self.second.build((*input_shape[:-1], self.first.units))

        def call(self, inputs):
            return inputs + self.second(keras.ops.tanh(self.first(inputs)))

    class Scale(layers.Layer):
        """Unknown: it calls a layer, but has weights of its own."""

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(input_shape[-1],))
            self.relu = layers.ReLU(name="relu")

        def call(self, inputs):
            return self.relu(inputs * self.scale)

    class MyDense(layers.Dense):
        """A Dense layer by another name: it computes the same."""

    class OtherDense(layers.Dense):
        """Not a Dense layer any more."""

        def call(self, inputs):
            return super().call(inputs) ** 2

    class Network(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.stack = [Block(4, name="block"), Scale(name="scale"), MyDense(3, name="mine"), OtherDense(2, name="x")]

        def call(self, inputs):
            for layer in self.stack:
                inputs = layer(inputs)
            return inputs

    return Network()


def test_a_subclassed_model_is_read_as_far_as_its_layers_tell(keras):
    model = subclassed(keras)
    with pytest.raises(ValueError, match="'net' is not built"):
        read_layers(model)
    model(np.zeros((2, 8), "float32"))
    network = read_layers(model)
    assert [r.name for r in network.records] == ["block/a", "block/b", "scale/relu", "mine"]
    assert [r.has_input_gradient for r in network.records] == [False, True, True, True]
    assert network.unknown == ("scale (Scale)", "x (OtherDense)")
    assert network.partial == ("block (Block)", "net (Network)")
    assert network.params == model.count_params()
    assert read_layers(model, (5, 8)).records[-1].macs == 5 * 8 * 3  # it takes sequences, too


def test_what_no_rule_covers_is_named_with_its_class(keras):
    layers = keras.layers
    stack = [
        layers.Dense(4, activation=lambda x: x * x, name="dense"),
        layers.Dense(4, activation=layers.LeakyReLU(), name="leaky"),
        layers.Lambda(lambda x: 2 * x, name="twice"),
        layers.SpectralNormalization(layers.Dense(3), name="spectral"),
    ]
    network = read_layers(keras.Sequential([keras.Input((8,)), *stack]))
    assert network.unknown == (
        f"dense (activation {__name__}.<lambda>)",
        "twice (Lambda)",
        "spectral (SpectralNormalization)",
    )
    assert [record.name for record in network.records] == ["dense", "leaky"]  # their products are known all the same
    assert by_name(network)["leaky"].forward_flop == 2 * 16 + 4 + 4


def test_an_open_dimension_is_refused_by_name_and_closed_by_a_shape(keras):
    inputs = keras.Input((None,), dtype="int32", name="words")
    model = keras.Model(inputs, keras.layers.GRU(3)(keras.layers.Embedding(50, 4, name="table")(inputs)), name="text")
    with pytest.raises(ValueError, match=r"'text', input 'words'.*\(None,\).*shape="):
        read_layers(model)
    network = read_layers(model, (20,))
    table = by_name(network)["table"]
    assert (table.params, table.weight_reads, table.lookups) == (200, 0, 80)
    assert (table.inputs, table.outputs) == (20, 80)
    assert (table.macs, table.n_gradients) == (0, 1)
    assert table.backward_elements == 20 + 80  # the numbers and the gradient: the rows are not read again
    assert forward_flop(read_layers(model, {"words": (40,)})) == 2 * forward_flop(network)
    with pytest.raises(ValueError, match="inputs words: give shapes by these names"):
        read_layers(model, {"letters": (40,)})


def test_several_inputs_take_shapes_by_name(keras):
    one, other = keras.Input((None, 4), name="one"), keras.Input((4,), name="other")
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(one)
    model = keras.Model({"one": one, "other": other}, keras.layers.Add()([mean, other]))
    assert by_name(read_layers(model, {"one": (6, 4)}))["mean"].inputs == 24
    with pytest.raises(ValueError, match="inputs one, other"):
        read_layers(model, (6, 4))


def test_reading_leaves_keras_and_the_model_as_they_were(keras):
    calls = keras.layers.Layer.__call__, keras.Operation.__call__
    model = MODELS["separable convolutions"]()
    before = [np.array(weight) for weight in model.weights]
    assert read_layers(model) == read_layers(model)
    assert all(np.array_equal(a, np.array(b)) for a, b in zip(before, model.weights, strict=True))

    class Broken(keras.layers.Layer):
        is_broken = False

        def call(self, inputs):
            if self.is_broken:
                raise RuntimeError("broken here")
            return inputs

    inputs, broken = keras.Input((3,)), Broken()
    model = keras.Model(inputs, broken(inputs), name="whole")
    broken.is_broken = True
    with pytest.raises(
        ValueError, match=r"^model 'whole' does not run on a sample of \(\(3,\),\): RuntimeError: broken here$"
    ):
        read_layers(model)
    assert (keras.layers.Layer.__call__, keras.Operation.__call__) == calls


def test_a_mixed_precision_model_has_the_records_of_a_plain_one(keras):
    build = importlib.import_module("epochcast.workload.cnn").build_model
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(RunConfig(2, 4))
    finally:
        keras.config.set_dtype_policy("float32")
    assert read_layers(model).records == layer_records(RunConfig(2, 4))


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


def test_an_einsum_layer_that_sums_an_axis_of_one_operand_is_unknown(keras):
    assert unknown_of(keras, keras.layers.EinsumDense("abc,cd->ad", (5,), name="sums"), (6, 8)) == (
        "sums (EinsumDense)",
    )
    assert unknown_of(keras, keras.layers.EinsumDense("...x,xy->...y", (5,)), (6, 8)) == ()


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


def test_a_layer_that_was_never_called_is_refused_and_stays_without_weights(keras):
    class Lazy(keras.Model):
        def __init__(self):
            super().__init__(name="lazy")
            self.known, self.late = keras.layers.Dense(3), keras.layers.Dense(5, name="late")

        def build(self, shape):
            self.known.build(shape)

        def call(self, inputs, training=False):
            return self.known(inputs) if training else self.late(self.known(inputs))

    model = Lazy()
    model(np.zeros((2, 8), "float32"), training=True)
    with pytest.raises(ValueError, match=r"^model 'lazy': its layer late \(Dense\) is not built: call the model once"):
        read_layers(model)
    assert (model.late.built, len(model.weights)) == (False, 2)
    model(np.zeros((2, 8), "float32"))
    assert [record.name for record in read_layers(model).records][-1] == "late"


def test_a_subclassed_model_takes_several_inputs_as_it_was_built_or_by_their_names(keras):
    class Of(keras.Model):
        def __init__(self):
            super().__init__(name="of")
            self.dense = keras.layers.Dense(3, name="dense")

    class OfNames(Of):
        def call(self, inputs):
            return self.dense(inputs["one"]) + self.dense(inputs["other"])

    class OfList(Of):
        def call(self, inputs):
            return self.dense(inputs[0]) + self.dense(inputs[1])

    class OfArguments(Of):
        def call(self, one, other):
            return self.dense(one) + self.dense(other)

    def macs(model, shape=None):
        network = read_layers(model, shape)
        assert len(network.sample_shape) == 2
        return [record.macs for record in network.records]

    data, model = np.zeros((2, 8), "float32"), OfNames()
    model({"one": data, "other": data})
    assert macs(model) == macs(model, {"one": (8,), "other": (8,)}) == [24, 24]
    assert macs(model, {"one": (5, 8), "other": (1, 8)}) == [5 * 24, 24]
    model = OfList()
    model([data, data])
    assert macs(model) == macs(model, [(8,), (8,)]) == [24, 24]
    model = OfArguments()
    model(data, data)
    assert macs(model, {"one": (8,), "other": (8,)}) == [24, 24]
    for shape in (None, (8,)):
        with pytest.raises(
            ValueError, match=r"model 'of' does not run on a sample of \(\(8,\),\): TypeError: .*'other'"
        ):
            read_layers(model, shape)


def test_a_shape_that_a_model_does_not_take_is_one_clear_error(keras):
    model = keras.Sequential([keras.Input((32, 32, 3), name="image"), keras.layers.Conv2D(4, 3)], name="net")
    with pytest.raises(
        ValueError, match=r"^model 'net', input 'image': a sample has the shape \(0, 32, 3\): sizes are"
    ):
        read_layers(model, (0, 32, 3))
    with pytest.raises(
        ValueError, match=r"^model 'net' does not run on a sample of \(\(64, 3\),\): ValueError: "
    ) as found:
        read_layers(model, (64, 3))
    assert "\n" not in str(found.value)
    assert "probe" not in str(found.value).lower()


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


def test_every_class_with_a_rule_is_one_of_keras(keras):
    assert [name for name in RULES if not hasattr(keras.layers, name)] == []
    numpy, nn, core = (importlib.import_module(f"keras.src.ops.{name}") for name in ("numpy", "nn", "core"))
    assert [name for name in OPERATIONS if not any(hasattr(module, name) for module in (numpy, nn, core))] == []


def test_convolutions_carry_their_filters_wherever_their_channels_stand(keras):
    layers = keras.layers

    def filters(layer, shape):
        return [record.filters for record in read_layers(keras.Sequential([keras.Input(shape), layer])).records]

    assert filters(layers.Conv2D(5, 3), (8, 8, 3)) == [5]
    assert filters(layers.Conv2D(5, 3, data_format="channels_first"), (3, 8, 8)) == [5]
    assert filters(layers.Conv1DTranspose(5, 3), (8, 3)) == [5]
    assert filters(layers.SeparableConv2D(5, 3), (8, 8, 3)) == [0, 5]
    assert filters(layers.DepthwiseConv2D(3), (8, 8, 3)) == filters(layers.Dense(4), (8,)) == [0]
