"""The rebuilt networks have the parameters that their authors publish, and tables name networks that there are."""

from __future__ import annotations

import pytest

from benchmarks.external import records as records_module
from benchmarks.external.networks import ALL, CONVOLUTIONAL, NETWORKS, POWER_NETWORKS, TIMM, TIMM_NAMES, TRANSFORMER
from benchmarks.external.records import read, record_path, records_of, trained_params
from benchmarks.external.tables import read_tables

QUICK = {
    "alexnet_bvlc": 224,
    "resnet18": 224,
    "mobilenet_v2": 224,
    "squeezenet1_1": 224,
    "unet_industrial": 512,
    "shufflenet_v2_cifar": 32,
}


def assert_published(name, size):
    network = ALL[name]
    found = trained_params(read(network, size)) / 1e6
    assert found == pytest.approx(network.millions, rel=network.tolerance), name


@pytest.mark.parametrize("name", QUICK)
def test_a_network_has_its_published_parameters(name):
    assert_published(name, QUICK[name])


@pytest.mark.slow
def test_every_network_of_the_tables_has_its_published_parameters(reference_data):
    sizes = {row.name: row.size for row in read_tables().rows}
    assert set(sizes) == set(ALL) - set(POWER_NETWORKS)
    for name, size in sizes.items():
        assert_published(name, size)


def test_networks_are_named_once_and_have_a_kind():
    assert not set(NETWORKS) & set(TIMM)
    assert set(TIMM_NAMES.values()) <= set(ALL)
    assert {network.kind for network in ALL.values()} == {CONVOLUTIONAL, TRANSFORMER}
    assert all(network.tolerance <= 0.02 for network in ALL.values())


def test_records_are_kept_and_read_as_they_were_made(home, monkeypatch):
    made = records_of([("squeezenet1_1", 64)])["squeezenet1_1", 64]
    assert record_path("squeezenet1_1", 64).exists()
    monkeypatch.setattr(records_module, "read", None)  # nothing is built again
    assert records_of([("squeezenet1_1", 64)])["squeezenet1_1", 64] == made
    conv = made[0]
    assert (conv.kind, conv.taps, conv.groups, conv.strides) == ("conv", 9, 1, 4)
