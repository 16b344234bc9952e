"""The closed forms against Keras, TensorFlow's profiler and the recorded parameter counts."""

from __future__ import annotations

import csv
import importlib

import pytest

from benchmarks.lib.framework_flop import profiler_flop
from epochcast.schema import RunConfig
from epochcast.workload.shape import activation_bytes, count_params, forward_flop, layer_records, train_flop

SHAPES = [(1, 4), (1, 16), (2, 3), (2, 16), (3, 8), (3, 32), (4, 16), (5, 4), (6, 2)]


@pytest.fixture(scope="module")
def build_model():
    return importlib.import_module("epochcast.workload.cnn").build_model  # starts TensorFlow, so not at the top


@pytest.mark.parametrize(("depth", "base_filters"), SHAPES)
def test_closed_forms_equal_keras_and_its_profiler(build_model, depth, base_filters):
    model = build_model(RunConfig(depth, base_filters))
    assert count_params(RunConfig(depth, base_filters)) == model.count_params()
    assert forward_flop(RunConfig(depth, base_filters)) == profiler_flop(model)


@pytest.mark.parametrize(("depth", "base_filters"), SHAPES)
def test_layer_records_equal_keras_layers(build_model, depth, base_filters):
    model = build_model(RunConfig(depth, base_filters))
    records = layer_records(RunConfig(depth, base_filters))
    assert [layer.name for layer in model.layers if layer.name not in ("images", "flatten")] == [
        r.name for r in records
    ]
    for record in records:
        layer = model.get_layer(record.name)
        assert layer.output.shape[1:] == record.output_shape
        assert layer.count_params() == record.params


def test_params_equal_those_of_every_recorded_run(reference_data):
    with (reference_data / "a100" / "runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 159
    assert [count_params(RunConfig(int(row["depth"]), int(row["base_filters"]))) for row in rows] == [
        int(r["params"]) for r in rows
    ]


def test_training_flop_of_the_smallest_recorded_network_is_known():
    assert train_flop(RunConfig(2, 16)) == pytest.approx(38.7e6, rel=0.05 / 38.7)  # to three digits


def test_forward_flop_is_the_sum_of_its_terms_as_measured_once():
    assert (forward_flop(RunConfig(2, 8)), forward_flop(RunConfig(4, 64))) == (
        3_693_244,
        419_670_716,
    )  # TensorFlow 2.21's profiler


def test_activation_bytes_count_every_output_once():
    assert activation_bytes(RunConfig(2, 16)) == 4 * 55_434
