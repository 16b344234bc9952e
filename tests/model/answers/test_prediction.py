"""A prediction is one frozen value, and its JSON has the published names in their order."""

from __future__ import annotations

import dataclasses
import json

import pytest

from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.prediction import NoPrediction, predict
from epochcast.model.time_model.intervals import BEYOND, FAR
from epochcast.model.time_model.saved_model import Choice, load_model
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig

CHOICE = Choice(load_model(pretrained_dir() / "a100.keras"), "named")
CONFIG = RunConfig(3, 32, 512)
FIRST = ["depth", "base_filters", "batch_size"]
TIMES = ["predicted_avg_time_sec", "predicted_images_per_sec_derived"]
RUN = ["first_epoch_sec", "overhead_sec", "training_sec", "wall_sec"]
DEVICE = ["device", "this_box", "is_this_box", "train_n", "model", "answered_because"]
LAST = ["coverage", "in_range", "domain", "outside", "range", "more_configurations_for_range", "range_unknown"]
LAST += ["half_width_log", "form", *DEVICE, "conditions", "declared_conditions", "error"]


def with_ends(names):
    return [f"{name}{end}" for name in names for end in ("", "_low", "_high")]


@pytest.mark.parametrize(("epochs", "run"), [(None, []), (50, ["epochs", *with_ends(RUN)])])
def test_json_has_the_published_names_in_their_order(epochs, run):
    values = predict(CONFIG, CHOICE, epochs).to_json()
    measured = [*with_ends(["measured_avg_time_sec"]), "measured_basis"]
    memory = [*with_ends(["peak_memory_gib"]), "peak_memory_arrays_gib", "peak_memory_basis"]
    energy = [*with_ends(["board_energy_j_per_epoch"]), "board_energy_basis"]
    head = [*FIRST, "params", "steps_per_epoch", *with_ends(TIMES)]
    assert list(values) == [*head, *run, *measured, *memory, *energy, *LAST]
    assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_json_is_what_the_attributes_say():
    prediction = predict(RunConfig(6, 32, 512), CHOICE, 3)
    values = prediction.to_json()
    steady = prediction.times.steady
    assert [values[name] for name in with_ends(TIMES[:1])] == [steady.value, steady.low, steady.high]
    assert values["wall_sec"] == prediction.times.run.wall.value
    assert values["predicted_images_per_sec_derived_low"] == 50_000 / steady.high
    assert (values["domain"], values["in_range"]) == (prediction.domain, False) == (BEYOND, False)
    assert values["half_width_log"] == prediction.half_width_log == CHOICE.model.widths.beyond


def test_a_prediction_cannot_be_changed():
    prediction = predict(CONFIG, CHOICE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.epochs = 3


def test_what_has_no_number_says_why():
    values = NoPrediction(CONFIG, CHOICE, box_device_name(), "too large").to_json()
    names = [*FIRST, *with_ends(TIMES), "in_range", "domain", "outside", "range", "problem", *DEVICE]
    assert list(values) == names
    assert (values["problem"], values["domain"], values["predicted_avg_time_sec"]) == ("too large", FAR, None)
