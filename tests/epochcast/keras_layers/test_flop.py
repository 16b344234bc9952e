"""FLOP of the layer records: our closed form, TensorFlow's profiler and JAX's compiler agree."""

from __future__ import annotations

import importlib

import pytest

from benchmarks.estimates.bench_layers import Compared, count_apart
from benchmarks.lib.framework_flop import profiler_flop
from benchmarks.lib.layer_models import MODELS
from epochcast.keras_layers.read_layers import read_layers
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records
from tests.support.models.keras_records import forward_flop, is_known


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


@pytest.mark.parametrize(("depth", "base_filters"), [(1, 4), (2, 3), (2, 16), (3, 32), (5, 8), (6, 2)])
def test_records_read_from_the_cnn_equal_its_closed_form(keras, depth, base_filters):
    network = read_layers(importlib.import_module("epochcast.workload.cnn").build_model(RunConfig(depth, base_filters)))
    assert network.records == layer_records(RunConfig(depth, base_filters))
    assert is_known(network)
    assert network.sample_shape == ((32, 32, 3),)


SHORTER = {"LSTM": {"steps": 8}, "GRU": {"steps": 8}}  # unrolled: a graph of 64 takes as long to build as a ResNet
CHEAP = ["MobileNet", "LSTM", "GRU", "1D convolutions", "3D convolutions", "text CNN"]  # of every kind of layer one
CHEAP += ["separable convolutions", "transposed convolutions", "operations"]
DEAR = ["ResNet-50", "MobileNetV2", "EfficientNetB0", "bidirectional LSTM", "ConvNeXtTiny", "InceptionResNetV2"]


@pytest.mark.parametrize("name", CHEAP + [pytest.param(name, marks=pytest.mark.slow) for name in DEAR])
def test_forward_flop_are_those_of_tensorflows_profiler(keras, name):
    model = MODELS[name](**SHORTER.get(name, {}))
    network = read_layers(model)
    assert is_known(network)
    assert network.params == model.count_params()
    assert forward_flop(network) == pytest.approx(profiler_flop(model), rel=0.03)  # the most is ConvNeXt's


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
