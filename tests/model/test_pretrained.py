"""The shipped model is what its card says, and was learned without the configurations that it is judged by."""

from __future__ import annotations

import hashlib

import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.collect.grid.config_lists import read_configs
from epochcast.model.time_model.card import card_path, markdown_path
from epochcast.model.time_model.card_text import markdown
from epochcast.model.time_model.monotonicity import order_violations
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.training.cross_validation import rows_sha256
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs

PATH = pretrained_dir() / "a100.keras"
HELD_OUT = read_configs(pretrained_dir() / "a100_held_out.csv")
NOISY = RunConfig(2, 16, 160)  # measured 6 % above the line through its neighbours in batch size


@pytest.fixture
def saved():
    return load_model(PATH)


@pytest.fixture
def rows(reference_data):
    return aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows


@pytest.fixture
def measured(rows):
    return {row.config: row for row in rows}


# --- the files --------------------------------------------------------------------------------------------------------


def test_network_and_cards_agree(saved):
    card = saved.card
    assert card["keras_sha256"] == hashlib.sha256(PATH.read_bytes()).hexdigest()
    assert (card["recipe"], card["form"], card["reason"]) == ("physics_ann", "physics_ann", None)
    assert saved.time_model.ensemble.kernels[0].shape[:2] == (card["members"], len(card["feature_names"]))
    assert (card["members"], saved.time_model.ensemble.activation) == (10, card["activation"])
    assert not saved.time_model.ensemble.is_zero
    assert markdown_path(PATH).read_text(encoding="utf-8") == markdown(card, "a100")


def test_the_card_names_device_and_source(saved):
    assert saved.device_name == "NVIDIA A100 80GB PCIe"
    assert "github.com/amacharla15/Hardware-Aware-Training-Time-Throughput-Prediction" in saved.card["credit"]
    assert "device_name" in saved.card["declared"]
    assert "backend_version" not in saved.card["declared"]  # measured: it stands in the table


def test_all_files_are_small():
    assert all(path.stat().st_size < 200_000 for path in (PATH, card_path(PATH), markdown_path(PATH)))


# --- what it learned from ---------------------------------------------------------------------------------------------


def test_the_card_lists_the_five_configurations_held_out(saved):
    assert len(HELD_OUT) == 5
    assert [RunConfig(*values) for values in saved.card["held_out"]] == HELD_OUT


def test_it_was_learned_from_the_reference_rows_without_those_held_out(saved, rows):
    kept = [row for row in rows if row.config not in HELD_OUT]
    assert len(kept) == len(rows) - 5 == saved.card["n_configurations"]
    assert saved.card["rows_sha256"] == rows_sha256(kept) != rows_sha256(rows)
    assert saved.card["n_runs"] == sum(row.n for row in kept)


def test_its_range_is_that_of_the_rows_learned_from(saved, rows):
    for name, bounds in saved.card["range"].items():
        values = [getattr(row, name) for row in rows if row.config not in HELD_OUT]
        assert bounds == [min(values), max(values)]


# --- how well it predicts ---------------------------------------------------------------------------------------------


def test_its_card_claims_what_the_method_promises(saved):
    assert saved.card["errors"]["mape"] <= 0.012
    assert saved.card["errors"]["p90_ape"] <= 0.022
    assert saved.card["errors"]["n"] == 138
    assert saved.card["intervals"]["coverage"] == 0.9
    assert 0 < saved.widths.within < saved.widths.beyond <= 0.11
    axes = ["depth", "base_filters", "batch_size"]
    assert saved.card["intervals"]["axes"] == list(saved.widths.axes) == axes
    assert saved.card["first_epoch_excess_sec"]["axes"] == list(saved.excess.widths.axes) == axes


def test_predicted_times_never_fall_where_a_network_grows(saved):
    assert saved.card["order_violations"] == order_violations(saved.time_model) == 0


def test_it_answers_a_measured_configuration_within_five_percent(saved, measured):
    config = RunConfig(3, 32, 512)
    assert saved.time_model.times([config])[0] == pytest.approx(measured[config].avg_time_mean, rel=0.05)  # the claim


def test_it_predicts_each_configuration_held_out_within_three_percent_but_the_noisy_one(saved, measured):
    predicted = dict(zip(HELD_OUT, saved.time_model.times(HELD_OUT), strict=True))
    errors = {c: abs(predicted[c] / measured[c].avg_time_mean - 1) for c in HELD_OUT}
    assert sum(errors.values()) / len(errors) <= 0.025
    assert all(error <= 0.03 for config, error in errors.items() if config != NOISY)


def test_first_epochs_and_overhead_are_known_with_their_intervals(saved):
    assert saved.excess is not None
    assert saved.excess.law is not None
    assert saved.overhead is not None
    run = saved.forecast(RunConfig(3, 32, 512), epochs=50).run
    for part in (run.first_epoch, run.overhead, run.training, run.wall):
        assert part.low < part.value < part.high


def test_the_first_epoch_of_each_configuration_held_out_lies_in_its_interval(saved, measured):
    for config in HELD_OUT:
        first = saved.forecast(config).run.first_epoch
        assert first.low <= measured[config].first_epoch_sec_mean <= first.high
