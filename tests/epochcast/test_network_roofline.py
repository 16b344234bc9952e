"""The least time of an epoch, layer by layer, and what kind of network it is of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import roof_of
from epochcast.roofline.network import TrainedNetwork, epoch_layers
from epochcast.roofline.roofline import ADAM_PASSES, WEIGHT_BYTES, step_roof
from epochcast.schema import RunConfig
from epochcast.workload.shape import trained_cnn
from tests.support.models.explanations import A100


def test_layers_of_an_epoch_count_its_short_last_step_once():
    network = trained_cnn(RunConfig(2, 16, 300), 1_000, "float32")
    roof = roof_of(find_gpu(A100), "tf32")
    layers = epoch_layers(network, roof)
    full, rest = (step_roof(network.records, batch, roof) for batch in (300, 100))
    attainable = sum(layer.sec for layer in layers)
    assert attainable == pytest.approx(3 * (full.sec - full.launch_sec) + rest.sec - rest.launch_sec)
    for layer, own_full, own_rest in zip(layers, full.layers, rest.layers, strict=True):
        assert layer.flop == 3 * own_full.flop + own_rest.flop
        assert layer.bytes == 3 * own_full.bytes + own_rest.bytes + 4 * ADAM_PASSES * WEIGHT_BYTES * layer.record.params
    assert sum(layer.flop for layer in layers) == pytest.approx(1_000 * sum(layer.flop for layer in full.layers) / 300)


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ({"conv": 6, "dense": 5}, "convolutional"),
        ({"conv": 3, "depthwise": 3, "dense": 5}, "convolutional"),
        ({"attention": 6, "dense": 5}, "transformer"),
        ({"attention": 1, "dense": 9}, "transformer"),  # projections and feed-forward layers
        ({"attention": 1, "dense": 2, "conv": 4}, "convolutional"),
        ({"dense": 9, "conv": 4}, "other"),
        ({"recurrent": 6, "dense": 5}, "recurrent"),
        ({"conv": 5, "recurrent": 5}, "other"),
        ({"norm": 0}, "other"),
    ],
)
def test_a_network_s_kind_is_what_does_most_of_its_multiply_adds(kinds, kind):
    plain = trained_cnn(RunConfig(2, 16, 64), 1_000, "float32").records[0]
    records = tuple(replace(plain, kind=name, macs=macs, output_shape=(10,)) for name, macs in kinds.items())
    assert TrainedNetwork("", records, 1, 1).network_kind == kind


def test_a_dense_layer_on_a_map_is_a_convolution_of_one_position():
    plain = trained_cnn(RunConfig(2, 16, 64), 1_000, "float32").records[0]
    records = (replace(plain, kind="depthwise", macs=1), replace(plain, kind="dense", macs=9, output_shape=(7, 7, 8)))
    assert TrainedNetwork("", records, 1, 1).is_convolutional
