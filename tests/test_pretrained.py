"""The shipped model is what its card says, and was learned without the configurations that it is judged by."""

from __future__ import annotations

import pytest

from aggregate.runs_agg import aggregate
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig
from epochcast.tables import read_runs
from model.cross_validation import read_config_list
from model.predictor import card_path, load_model
from model.train import rows_sha256

PATH = pretrained_dir() / "a100.keras"
HELD_OUT = read_config_list(pretrained_dir() / "a100_held_out.csv")


@pytest.fixture
def saved():
    return load_model(PATH)


@pytest.fixture
def rows(reference_data):
    return aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows


def test_the_card_lists_the_five_configurations_held_out(saved):
    assert len(HELD_OUT) == 5
    assert [RunConfig(*values) for values in saved.card["held_out"]] == HELD_OUT


def test_the_card_names_device_and_source(saved):
    assert saved.device_name == "NVIDIA A100 80GB PCIe"
    assert "github.com/amacharla15/Hardware-Aware-Training-Time-Throughput-Prediction" in saved.card["credit"]
    assert "device_name" in saved.card["declared"]
    assert "backend_version" not in saved.card["declared"]  # measured: it stands in the table


def test_both_files_are_small():
    assert PATH.stat().st_size < 200_000
    assert card_path(PATH).stat().st_size < 200_000


def test_it_was_learned_from_the_reference_rows_without_those_held_out(saved, rows):
    kept = [row for row in rows if row.config not in HELD_OUT]
    assert len(kept) == len(rows) - 5 == saved.card["n_configurations"]
    assert saved.card["rows_sha256"] == rows_sha256(kept) != rows_sha256(rows)
    assert saved.card["n_runs"] == sum(row.n for row in kept)


def test_its_range_is_that_of_the_rows_learned_from(saved, rows):
    for name, bounds in saved.card["range"].items():
        values = [getattr(row, name) for row in rows if row.config not in HELD_OUT]
        assert bounds == [min(values), max(values)]


def test_it_answers_a_measured_configuration_within_five_percent(saved, rows):
    config = RunConfig(3, 32, 512)
    (measured,) = [row.avg_time_mean for row in rows if row.config == config]
    assert saved.time_model.times([config])[0] == pytest.approx(measured, rel=0.05)  # the claim


def test_it_predicts_the_configurations_held_out_within_five_percent_on_average(saved, rows):
    measured = {row.config: row.avg_time_mean for row in rows}
    predicted = saved.time_model.times(HELD_OUT)
    errors = [abs(p / measured[c] - 1) for c, p in zip(HELD_OUT, predicted, strict=True)]
    assert sum(errors) / len(errors) < 0.05  # extrapolation between measured batch sizes; in-range MAPE is 1 %
