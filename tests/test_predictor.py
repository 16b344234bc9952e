"""Answering with a saved model: as Keras would, refusing what is not sound, and choosing which model answers."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from epochcast.environment import box_device_name
from epochcast.paths import models_dir, pretrained_dir
from epochcast.schema import RunConfig
from model.features import feature_matrix
from model.predictor import choose_model, load_model

PRETRAINED = pretrained_dir() / "a100.keras"
CONFIG = RunConfig(3, 32, 512)
IN_RANGE = [RunConfig(2, 16, 32), CONFIG, RunConfig(5, 128, 2048), RunConfig(4, 48, 100)]
FAR_OUTSIDE = [RunConfig(1, 1, 1), RunConfig(6, 1024, 1), RunConfig(12, 1, 50_000), RunConfig(16, 4096, 2)]


def copy_pretrained(folder, name="model", **changes):
    """A copy of the shipped model with changes to its card."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.keras"
    shutil.copy(PRETRAINED, path)
    card = json.loads(PRETRAINED.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **changes}))
    return path


def copy_with_bytes(folder, data):
    path = copy_pretrained(folder, keras_sha256=hashlib.sha256(data).hexdigest())
    path.write_bytes(data)
    return path


def refusal(path, kind=ValueError):
    """The message that `load_model` refuses a file with: a single line."""
    with pytest.raises(kind) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def add_local(name, created, device="this box", **changes):
    conditions = load_model(PRETRAINED).card["conditions"]
    conditions["device_name"] = box_device_name() if device == "this box" else device
    created_utc = f"2026-01-{created:02d}T00:00:00+00:00"
    return copy_pretrained(models_dir(), name, created_utc=created_utc, conditions=conditions, **changes)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# --- prediction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configs", [IN_RANGE, FAR_OUTSIDE], ids=["in_range", "far_outside"])
def test_numpy_predicts_what_keras_predicts_with_the_same_file(configs):
    from model.time_ann import _keras

    saved = load_model(PRETRAINED)
    card = saved.card
    x = (feature_matrix(configs) - card["feature_mean"]) / card["feature_scale"]
    outputs = _keras().models.load_model(PRETRAINED, compile=False).predict(x.astype(np.float32), verbose=0)
    log_time = card["law"][0] + x @ card["law"][1:] + card["residual_scale"] * np.median(outputs, axis=1)
    # Keras computes in single precision, NumPy in double
    np.testing.assert_allclose(saved.time_model.times(configs), np.exp(log_time), rtol=1e-4)


def test_predictions_do_not_depend_on_the_others_asked_for():
    times = load_model(PRETRAINED).time_model.times
    np.testing.assert_allclose(times(IN_RANGE), [times([c])[0] for c in IN_RANGE], rtol=1e-12)  # order of sums


def test_a_time_that_is_no_number_any_more_is_refused_not_given_as_infinite():
    config = RunConfig(3, 2**5_000, 32)
    with pytest.raises(ValueError, match="too far outside what the model learned from") as caught:
        load_model(PRETRAINED).time_model.times([CONFIG, config])
    assert str(config) in str(caught.value)
    assert str(CONFIG) not in str(caught.value)


def test_outside_names_what_was_not_measured():
    saved = load_model(PRETRAINED)
    assert saved.outside(CONFIG) == []
    assert saved.outside(RunConfig(2, 16, 2048)) == []
    assert saved.outside(RunConfig(6, 32, 2049)) == [
        "depth 6 (measured: 2 to 5)",
        "batch_size 2049 (measured: 32 to 2048)",
    ]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_missing_model_is_refused_with_the_command_that_makes_one(tmp_path):
    path = tmp_path / "none.keras"
    assert refusal(path, FileNotFoundError) == f"{path}: no such model. Train one: epochcast train --model {path}"


def test_a_model_without_its_card_is_refused(tmp_path):
    path = copy_pretrained(tmp_path)
    path.with_suffix(".json").unlink()
    assert str(path.with_suffix(".json")) in (message := refusal(path, FileNotFoundError))
    assert "without its card" in message


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", '"card"', "\x80"])
def test_a_card_that_is_no_json_object_is_refused(tmp_path, text):
    path = copy_pretrained(tmp_path)
    path.with_suffix(".json").write_bytes(text.encode("latin-1"))
    assert refusal(path).startswith(f"{path.with_suffix('.json')}: not a model card: ")


@pytest.mark.parametrize("name", ["law", "range", "keras_sha256", "errors", "conditions", "feature_names"])
def test_a_card_that_lacks_a_field_is_refused_with_its_name(tmp_path, name):
    path = copy_pretrained(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    del card[name]
    path.with_suffix(".json").write_text(json.dumps(card))
    assert refusal(path).startswith(f"{path.with_suffix('.json')}: not a model card: {name} missing.")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": 2}, "card of schema 2, this version reads 1"),
        ({"feature_names": ["depth", "params"]}, "the model takes ['depth', 'params']"),
        ({"feature_names": ["log2_base_filters", "depth", "log2_batch_size"]}, "the model takes ['log2_base_filters'"),
        ({"activation": "relu"}, "activation 'relu' is not known"),
        ({"conditions": {"device": "A100"}}, "conditions must name device_name, backend"),
        ({"conditions": None}, "conditions must name device_name, backend"),
    ],
)
def test_a_card_of_another_kind_of_model_is_refused(tmp_path, changes, said):
    message = refusal(path := copy_pretrained(tmp_path, **changes))
    assert said in message
    assert str(path.with_suffix("")) in message
    assert "rain" in message  # what to do: train again


def test_a_model_file_that_its_card_does_not_describe_is_refused(tmp_path):
    path = copy_pretrained(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    assert refusal(path).startswith(f"{path}: not the file that model.json describes (SHA-256 differs)")


def archive_with(**members):
    """The shipped model as bytes, some of its members replaced, or left out where None."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(PRETRAINED) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = members.get(name.partition(".")[0], old.read(name))
            if data is not None:
                new.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"not a zip",
        archive_with(config=None),
        archive_with(config=b"{"),
        archive_with(config=b"[]"),
        archive_with(config=b'{"config": {}}'),
        archive_with(model=None),
        archive_with(model=b"no weights"),
    ],
    ids=["no zip", "no config", "broken config", "list as config", "no layers", "no weights", "broken weights"],
)
def test_what_is_no_keras_file_is_refused_also_with_the_right_hash(tmp_path, data):
    path = copy_with_bytes(tmp_path, data)
    assert refusal(path).startswith(f"{path}: not a Keras model file: ")


def test_a_network_of_other_layers_is_refused(tmp_path):
    with zipfile.ZipFile(PRETRAINED) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"].insert(2, {"class_name": "Dropout"})
    path = copy_with_bytes(tmp_path, archive_with(config=json.dumps(config).encode()))
    assert refusal(path).startswith(
        f"{path}: not a time model of this version: its layers are InputLayer, RepeatVector, D"
    )


# --- which model answers ----------------------------------------------------------------------------------------------


def test_without_local_models_the_pretrained_one_answers_and_says_so():
    choice = choose_model(CONFIG)
    assert choice.model.path == PRETRAINED
    assert choice.reason == f"the pretrained model, as no local one fits: none in {models_dir()}"


def test_a_named_model_answers_before_a_fitting_local_one(tmp_path):
    add_local("local", 1)
    path = copy_pretrained(tmp_path)
    choice = choose_model(CONFIG, path)
    assert (choice.model.path, choice.reason) == (path, "named by --model")


def test_the_newest_local_model_of_this_box_answers():
    add_local("a", 2)
    newest = add_local("b", 3)
    add_local("c", 1)
    add_local("d", 9, device="NVIDIA Other")
    choice = choose_model(CONFIG)
    assert choice.model.path == newest
    assert choice.reason == f"the newest local model of this box ({box_device_name()})"


def test_a_newer_model_whose_range_does_not_hold_the_request_is_passed_over():
    small = {"depth": [2, 5], "base_filters": [16, 128], "batch_size": [64, 256]}
    newer, older = add_local("newer", 5, range=small), add_local("older", 4)
    assert choose_model(CONFIG).model.path == older
    assert choose_model(RunConfig(3, 32, 256)).model.path == newer
    assert choose_model(None).model.path == newer  # planning asks for no single configuration


def test_the_pretrained_model_answers_where_no_local_one_fits_with_the_reason_for_each():
    add_local("small", 5, range={"depth": [2, 2], "base_filters": [16, 128], "batch_size": [32, 2048]})
    add_local("other", 4, device="NVIDIA Other")
    add_local("unknown", 3, device=None)
    choice = choose_model(CONFIG)
    assert choice.model.path == PRETRAINED
    assert choice.reason == (
        "the pretrained model, as no local one fits: other is of NVIDIA Other; "
        "small was not trained on depth 3 (measured: 2 to 2); unknown is of an unknown device"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"range": {}}, "range must name depth, base_filters, batch_size"),
        ({"range": {"depth": [2, 5], "base_filters": [1], "batch_size": [1, 2]}}, "a lowest and a highest value each"),
        ({"residual_scale": "1"}, "residual_scale must be a number"),
        ({"law": [1, 2]}, "law must be 4 numbers"),
        ({"feature_scale": [0, 0, 0]}, "feature_scale must be above 0"),
        ({"errors": {"n": 3}}, "errors must hold mape"),
    ],
)
def test_a_card_edited_by_hand_is_refused_with_what_is_wrong(tmp_path, changes, said):
    path = copy_pretrained(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **changes}))
    assert said in refusal(path)


def test_a_file_that_is_no_card_does_not_keep_the_others_from_answering():
    add_local("good", 5)
    (models_dir() / "notes.json").write_text('{"a": 1}')
    assert choose_model(CONFIG).model.path.name == "good.keras"
    (models_dir() / "good.keras").unlink()
    choice = choose_model(CONFIG)
    assert choice.model.path == PRETRAINED
    assert "notes.json: not a model card" in choice.reason
