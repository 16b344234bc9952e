"""Networks of `keras.applications`: every layer and operation of each is read."""

from __future__ import annotations

import importlib
from collections import Counter

import pytest

from epochcast.keras_files.read_file import read_network
from epochcast.keras_layers.read_layers import read_layers
from tests.support.models.keras_records import by_name, is_known

PIXELS = 96  # the least that all of them take
QUICK = ("ConvNeXtTiny", "InceptionResNetV2", "MobileNetV3Small", "VGG16")  # what no other has, and the plainest


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


def read(keras, name):
    """A network's parameters and layers; its weights have shapes but no numbers."""
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(keras.applications, name)(weights=None, input_shape=(PIXELS, PIXELS, 3))
        return model.count_params(), read_layers(model)


@pytest.fixture(scope="module")
def quick(keras):
    return {name: read(keras, name) for name in QUICK}


def names(keras):
    return [name for name in dir(keras.applications) if callable(getattr(keras.applications, name))]


@pytest.mark.parametrize("name", QUICK)
def test_an_application_is_read_whole(quick, name):
    params, network = quick[name]
    assert is_known(network), (network.unknown, network.partial)
    assert sum(record.params for record in network.records) == params


@pytest.mark.slow  # 38 networks, some of a thousand layers
def test_every_application_is_read_whole(keras):
    assert len(names(keras)) >= 38
    for name in names(keras):
        keras.backend.clear_session()
        params, network = read(keras, name)
        assert is_known(network), (name, network.unknown, network.partial)
        assert sum(record.params for record in network.records) == params, name


def test_convnext_has_its_scales_and_sums(quick):
    _, network = quick["ConvNeXtTiny"]
    blocks = 3 + 3 + 9 + 3
    scales = [record for record in network.records if record.name.endswith("_layer_scale")]
    assert len(scales) == blocks
    for scale in scales:
        assert (scale.params, scale.trainable_params) == (scale.output_shape[-1],) * 2
        assert scale.forward_flop == scale.inputs == scale.outputs
        assert scale.keeps_input  # which the gradient of its weights reads
    assert Counter(record.kind for record in network.records)["operation"] == blocks  # x + y without a layer


def test_inception_resnet_adds_a_share_of_another_tensor(quick):
    _, network = quick["InceptionResNetV2"]
    shares = [record for record in network.records if record.name.startswith("custom_scale_layer")]
    assert len(shares) == 10 + 20 + 10
    for share in shares:
        assert (share.kind, share.params) == ("merge", 0)
        assert (share.inputs, share.forward_flop) == (2 * share.outputs, 2 * share.outputs)


def own_layers(keras):
    """A network of the layers that no other than these networks have."""
    convnext, inception = (
        importlib.import_module(f"keras.src.applications.{name}") for name in ("convnext", "inception_resnet_v2")
    )
    x = inputs = keras.Input((8, 8, 4))
    x = convnext.LayerScale(1e-6, 4, name="scale")(x)
    x = convnext.StochasticDepth(0.2, name="dropped")(x)
    x = convnext.StochasticDepth(0.0, name="kept")(x)
    return keras.Model(inputs, inception.CustomScaleLayer(0.1, name="share")([inputs, x]))


def test_a_block_that_is_dropped_at_random_is_a_pass_of_memory(keras):
    network = read_layers(own_layers(keras))
    assert is_known(network)
    elements = 8 * 8 * 4
    found = {name: record.forward_flop for name, record in by_name(network).items()}
    assert found == {"scale": elements, "dropped": 0, "share": 2 * elements}


def test_a_file_of_an_application_s_own_layers_is_read_as_the_network(keras, tmp_path):
    model = own_layers(keras)
    model.save(tmp_path / "x.keras")
    assert read_network(tmp_path / "x.keras", 8, 1000, "float32").records == read_layers(model).records
