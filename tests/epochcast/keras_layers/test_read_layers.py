"""Keras models as they are read: subclassed, of several inputs, of open shapes, and left as they were."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from benchmarks.lib.layer_models import MODELS
from epochcast.keras_layers.read_layers import read_layers
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records
from tests.support.models.keras_records import by_name, forward_flop


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


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
