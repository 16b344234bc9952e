"""Answering with a saved model: as Keras would, refusing what is not sound, and choosing which model answers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.condition_sets import one_set_of_conditions
from epochcast.interval import Interval, total
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.time_model.card import card_sha256
from epochcast.model.time_model.features import feature_matrix
from epochcast.model.time_model.intervals import BEYOND, FAR, WITHIN
from epochcast.model.time_model.own_models import OwnCard, ranked, why_first
from epochcast.model.time_model.physics import fit_law
from epochcast.model.time_model.saved_model import choose_model, contradicted, load_model
from epochcast.model.time_model.time_model import Table
from epochcast.paths import demo_dir, models_dir, pretrained_dir
from epochcast.schema import Conditions, RunConfig
from epochcast.storage.tables import read_runs
from tests.support.rows import ROWS, agg_row

PRETRAINED = pretrained_dir() / "a100.keras"
CONFIG = RunConfig(3, 32, 512)
IN_RANGE = [RunConfig(2, 16, 32), CONFIG, RunConfig(5, 128, 2048), RunConfig(4, 48, 100)]
FAR_OUTSIDE = [RunConfig(1, 1, 1), RunConfig(6, 1024, 1), RunConfig(12, 1, 50_000), RunConfig(16, 4096, 2)]


def copy_pretrained(folder, name="model", **changes):
    """A copy of the shipped model with changes to its card, which is sealed again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.keras"
    shutil.copy(PRETRAINED, path)
    card = {**json.loads(PRETRAINED.with_suffix(".json").read_text()), **changes}
    path.with_suffix(".json").write_text(json.dumps({**card, "card_sha256": card_sha256(card)}))
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
    return copy_pretrained(models_dir(), name, **{"created_utc": created_utc, "conditions": conditions, **changes})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# --- prediction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configs", [IN_RANGE, FAR_OUTSIDE], ids=["in_range", "far_outside"])
def test_numpy_predicts_what_keras_predicts_with_the_same_file(configs):
    from epochcast.machine.framework import keras_on_cpu

    saved = load_model(PRETRAINED)
    card = saved.card
    features = np.clip(
        feature_matrix(configs, card["feature_names"], 50_000), card["feature_low"], card["feature_high"]
    )
    x = (features - card["feature_mean"]) / card["feature_scale"]
    keras_model = keras_on_cpu().models.load_model(PRETRAINED, compile=False)
    outputs = keras_model.predict(x.astype(np.float32), verbose=0)
    assert outputs.shape == (len(configs), 10)
    seconds = saved.time_model.law.seconds(configs) * np.exp(card["residual_scale"] * np.median(outputs, axis=1))
    # Keras computes in single precision, NumPy in double
    np.testing.assert_allclose(saved.time_model.times(configs), seconds, rtol=1e-4)


def test_predictions_do_not_depend_on_the_others_asked_for():
    times = load_model(PRETRAINED).time_model.times
    np.testing.assert_allclose(times(IN_RANGE), [times([c])[0] for c in IN_RANGE], rtol=1e-12)  # order of sums


def test_a_time_that_is_no_number_any_more_is_refused_not_given_as_infinite(monkeypatch):
    monkeypatch.setattr("epochcast.model.time_model.time_model.LARGEST_LOG_TIME", 50.0)
    config = RunConfig(3, 2**60, 32)
    with pytest.raises(ValueError, match="too far outside what the model learned from") as caught:
        load_model(PRETRAINED).time_model.times([CONFIG, config])
    assert str(config) in str(caught.value)
    assert str(CONFIG) not in str(caught.value)


def test_outside_names_what_was_not_measured():
    saved = load_model(PRETRAINED)
    assert saved.outside(CONFIG) == []
    assert saved.outside(RunConfig(2, 16, 2048)) == []
    assert saved.outside(RunConfig(6, 32, 2049)) == [
        "depth 6 was never measured (2 to 5 were)",
        "batch_size 2049 was never measured (32 to 2048 were)",
    ]


# --- forecasts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "domain"),
    [
        (CONFIG, WITHIN),
        (RunConfig(6, 32, 512), BEYOND),
        (RunConfig(5, 256, 32), BEYOND),
        (RunConfig(5, 256, 16), FAR),
        (RunConfig(7, 32, 64), FAR),
    ],
)
def test_a_forecast_s_interval_is_that_of_its_domain(config, domain):
    saved = load_model(PRETRAINED)
    forecast = saved.forecast(config)
    assert forecast.domain == domain
    assert forecast.steady == Interval.of_log(saved.time_model.times([config])[0], saved.widths.of(domain))
    assert (forecast.steady.low is None) == (domain == FAR)
    assert forecast.outside == saved.outside(config)
    assert (forecast.run.training, forecast.run.wall) == (None, None)  # no number of epochs was asked for


def test_beyond_the_range_no_interval_is_narrower_than_within_it():
    saved = load_model(PRETRAINED)
    within, beyond = saved.forecast(CONFIG, 10), saved.forecast(replace(CONFIG, depth=6), 10)
    pairs = [(getattr(within.run, name), getattr(beyond.run, name)) for name in ("first_epoch", "overhead", "wall")]
    for one, other in [(within.steady, beyond.steady), *pairs]:
        assert other.high / other.value >= one.high / one.value
        assert other.low / other.value <= one.low / one.value


@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_a_run_is_overhead_first_epoch_and_the_others(epochs):
    saved = load_model(PRETRAINED)
    forecast = saved.forecast(CONFIG, epochs)
    steady, run = forecast.steady, forecast.run
    rest = (epochs - 1) * steady.value
    assert run.training.value == pytest.approx(run.first_epoch.value + rest, rel=1e-12)  # order of sums
    assert run.wall.value == pytest.approx(run.overhead.value + run.training.value, rel=1e-12)
    beyond_steady = saved.excess.seconds([CONFIG])[0]
    excess = Interval.of_absolute(beyond_steady, saved.excess.widths.within * run.first_epoch.value)
    assert run.training == total([excess, steady.times(epochs)])
    assert run.wall == total([run.overhead, excess, steady.times(epochs)])


def test_parts_that_the_rows_do_not_know_are_unknown(tmp_path):
    run = load_model(copy_pretrained(tmp_path, overhead_sec=None)).forecast(CONFIG, 50).run
    assert (run.overhead, run.wall) == (None, None)
    assert run.training is not None
    run = load_model(copy_pretrained(tmp_path, first_epoch_excess_sec=None)).forecast(CONFIG, 50).run
    assert (run.first_epoch, run.training, run.wall) == (None, None, None)
    assert run.overhead is not None


def test_two_axes_out_at_once_and_an_axis_that_never_varied_have_no_interval(reference_data, tmp_path):
    from epochcast.model.training.save import train

    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    rows = [replace(row, overhead_sec_mean=16.0) for row in rows if row.batch_size == 192]
    card = train(rows, tmp_path / "one_batch.keras")
    saved = load_model(tmp_path / "one_batch.keras")
    assert (card["form"], len(rows)) == ("physics", 16)
    assert saved.widths.axes == saved.excess.widths.axes == ("depth", "base_filters")
    domains = {
        (3, 32, 192): WITHIN,
        (6, 32, 192): BEYOND,
        (3, 256, 192): BEYOND,
        (6, 256, 192): FAR,
        (3, 32, 191): FAR,
        (3, 32, 384): FAR,
        (6, 32, 96): FAR,
    }
    for values, domain in domains.items():
        forecast = saved.forecast(RunConfig(*values), 10)
        assert forecast.domain == domain
        run = forecast.run
        for interval in (forecast.steady, run.first_epoch, run.overhead, run.training, run.wall):
            assert interval.value > 0
            if domain == FAR:
                assert (interval.low, interval.high) == (None, None)
            elif interval is run.overhead:
                assert interval.low == interval.value == interval.high  # 16 s in every row
            else:
                assert interval.low < interval.value < interval.high


def test_a_model_without_network_answers_by_its_law_alone(tmp_path):
    from epochcast.model.training.save import train

    card = train(ROWS, tmp_path / "law.keras")
    saved, table = load_model(tmp_path / "law.keras"), Table.of(ROWS)
    assert card["form"] == "physics"
    assert saved.time_model.ensemble.is_zero
    law = fit_law("physics_6", table.configs, table.seconds, 50_000)
    configs = [*table.configs, *FAR_OUTSIDE]
    np.testing.assert_allclose(saved.time_model.times(configs), law.seconds(configs), rtol=1e-12)  # exp of log


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_missing_model_is_refused_with_the_command_that_makes_one(tmp_path):
    path = tmp_path / "none.keras"
    assert refusal(path, FileNotFoundError) == f"{path}: no such model. Train one: epochcast train --model {path}"


def test_a_model_without_its_card_is_refused(tmp_path):
    path = copy_pretrained(tmp_path)
    path.with_suffix(".json").unlink()
    assert str(path.with_suffix(".json")) in (message := refusal(path, FileNotFoundError))
    assert "without its card" in message


def test_a_card_that_was_edited_is_refused(tmp_path):
    path = copy_pretrained(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    card["law"]["coefficients"][0] *= 1.01
    path.with_suffix(".json").write_text(json.dumps(card))
    assert refusal(path).startswith(f"{path.with_suffix('.json')}: edited since it was written (SHA-256 differs).")


def test_a_card_of_an_older_version_is_refused(tmp_path):
    path = copy_pretrained(tmp_path, schema_version=1)
    assert "card of schema 1, this version reads 2. Train the model again." in refusal(path)


def test_an_activation_that_is_not_known_is_refused(tmp_path):
    assert "activation 'gelu' is not known to this version" in refusal(copy_pretrained(tmp_path, activation="gelu"))


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
        archive_with(weights=None, model=None),
        archive_with(weights=None, model=b"no weights"),
        archive_with(weights=b"no weights"),
        archive_with(weights=b""),
    ],
    ids=[
        *("no zip", "no config", "broken config", "list as config", "no layers", "no weights"),
        *("broken weights of an older file", "broken weights", "empty weights"),
    ],
)
def test_what_is_no_keras_file_is_refused_also_with_the_right_hash(tmp_path, data):
    path = copy_with_bytes(tmp_path, data)
    assert refusal(path).startswith(f"{path}: not a time model: ")


def test_a_network_of_other_layers_is_refused(tmp_path):
    with zipfile.ZipFile(PRETRAINED) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"].insert(2, {"class_name": "Dropout"})
    path = copy_with_bytes(tmp_path, archive_with(config=json.dumps(config).encode()))
    assert refusal(path).startswith(f"{path}: not a time model: its layers are InputLayer, RepeatVector, D")


# --- which model answers ----------------------------------------------------------------------------------------------


def test_without_local_models_the_pretrained_one_answers_and_says_so():
    choice = choose_model()
    assert choice.model.path == PRETRAINED
    assert choice.reason == f"the pretrained model, as no local one fits: none in {models_dir()}"


def test_a_named_model_answers_before_a_fitting_local_one(tmp_path):
    add_local("local", 1)
    path = copy_pretrained(tmp_path)
    choice = choose_model(path)
    assert (choice.model.path, choice.reason) == (path, "named by --model")


def test_the_newest_local_model_of_this_box_answers():
    add_local("a", 2)
    newest = add_local("b", 3)
    add_local("c", 1)
    add_local("d", 9, device="NVIDIA Other")
    choice = choose_model()
    assert choice.model.path == newest
    assert choice.reason == f"the newest local model of this box ({box_device_name()})"


SMALL = {"depth": [2, 2], "base_filters": [16, 128], "batch_size": [64, 256]}


@pytest.mark.parametrize("config", [CONFIG, RunConfig(2, 32, 64), *FAR_OUTSIDE])
def test_this_box_s_model_answers_whatever_is_asked_and_marks_what_lies_outside(config):
    own = add_local("small", 5, range=SMALL)
    choice = choose_model()
    assert choice.model.path == own
    assert choice.model.is_of_this_box
    forecast = choice.model.forecast(config)
    assert (forecast.domain == WITHIN) == (not choice.model.outside(config))
    assert (forecast.steady.low is None) == (forecast.domain == FAR)


def test_the_pretrained_model_answers_where_this_box_has_none_with_the_reason_for_each():
    add_local("other", 4, device="NVIDIA Other")
    add_local("unknown", 3, device=None)
    choice = choose_model()
    assert (choice.model.path, choice.model.is_of_this_box) == (PRETRAINED, False)
    assert choice.reason == (
        "the pretrained model, as no local one fits: other is of NVIDIA Other; unknown is of an unknown device"
    )


def conditions_of_this_box(**changes):
    return load_model(PRETRAINED).card["conditions"] | {"device_name": box_device_name()} | changes


def test_of_several_sets_of_conditions_the_largest_answers_by_its_newest_model():
    few, many = conditions_of_this_box(train_n=2048), conditions_of_this_box()
    add_local("a", 9, conditions=few, n_configurations=9)
    add_local("b", 1, conditions=many, n_configurations=30)
    newest = add_local("c", 2, conditions=many, n_configurations=12)
    choice = choose_model()
    assert (choice.model.path, choice.model.train_n) == (newest, 50_000)
    assert choice.reason.endswith(", of 2 sets of conditions the largest (--conditions chooses another)")
    asked = choose_model(wanted={"train_n": "2048"})
    assert (asked.model.path.stem, asked.model.train_n) == ("a", 2048)
    add_local("d", 3, conditions=few, n_configurations=30)  # as many: the newer training decides
    choice = choose_model()
    assert choice.model.path.stem == "a"
    assert choice.reason.endswith(", of 2 sets of conditions the last trained (--conditions chooses another)")


def add_demo(created=1, **changes):
    """A model where `make run` leaves it."""
    conditions = changes.pop("conditions", conditions_of_this_box(window_steps=15))
    created_utc = f"2026-02-{created:02d}T00:00:00+00:00"
    return copy_pretrained(demo_dir() / "models", "demo", created_utc=created_utc, conditions=conditions, **changes)


def test_the_demonstration_s_model_is_this_box_s_until_there_is_a_better_one():
    demo = add_demo(n_configurations=90)
    choice = choose_model()
    assert (choice.model.path, choice.model.is_of_this_box) == (demo, True)
    assert (
        choice.reason == f"the demonstration's model of this box ({box_device_name()}), as none fits in {models_dir()}"
    )
    own = add_local("own", 1, n_configurations=6)  # older, smaller, and the user's own
    assert choose_model().model.path == own
    assert choose_model(wanted={"window_steps": "15"}).model.path == demo
    own.with_suffix(".json").unlink()
    own.unlink()
    add_demo(conditions=conditions_of_this_box(device_name="NVIDIA Other"))
    assert choose_model().model.path == PRETRAINED  # made on another box


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [(None, "single"), ("float32", "single"), ("mixed_float16", "half"), ("mixed_bfloat16", "single")],
)
def test_a_model_of_this_box_in_the_precision_asked_for_goes_first(asked, chosen):
    add_local("half", 9, conditions=conditions_of_this_box(precision="mixed_float16"), n_configurations=9)
    add_local("single", 1, n_configurations=20)
    choice = choose_model(precision=asked)
    assert choice.model.path.stem == chosen
    why = "the largest" if asked in (None, "mixed_bfloat16") else f"the one in {asked}"
    assert choice.reason.endswith(f", of 2 sets of conditions {why} (--conditions chooses another)")


@pytest.mark.parametrize(
    ("version", "backend", "chosen", "why"),
    [
        ("2.21", "tensorflow", "new", "the one of the installed tensorflow 2.21"),
        ("2.20", "tensorflow", "old", "the one of the installed tensorflow 2.20"),
        ("2.30", "tensorflow", "old", "the one of the backend in use, tensorflow, of those the largest"),
        ("0.7", "jax", "jax", "the one of the backend in use, jax"),
        (None, "jax", "jax", "the one of the backend in use, jax"),
        ("2.9", "torch", "old", "the largest"),
    ],
)
def test_a_model_of_the_framework_in_use_goes_before_a_larger_one(monkeypatch, version, backend, chosen, why):
    monkeypatch.setattr("epochcast.aggregate.averages.condition_order.backend_name", lambda: backend)
    monkeypatch.setattr("epochcast.aggregate.averages.condition_order.installed_minor", lambda name: version)
    add_local("old", 1, conditions=conditions_of_this_box(backend_version="2.20"), n_configurations=40)
    add_local("new", 2, conditions=conditions_of_this_box(backend_version="2.21"), n_configurations=12)
    jax = conditions_of_this_box(backend="jax", backend_version="0.6")
    add_local("jax", 3, conditions=jax, n_configurations=20)
    choice = choose_model()
    assert choice.model.path.stem == chosen
    assert choice.reason.endswith(f", of 3 sets of conditions {why} (--conditions chooses another)")
    assert choose_model(wanted={"backend_version": "2.20"}).model.path.stem == "old"


def test_a_demonstration_in_the_precision_asked_for_is_not_said_to_be_all_there_is():
    add_local("own", 1)
    demo = add_demo(conditions=conditions_of_this_box(precision="mixed_float16"))
    choice = choose_model(precision="mixed_float16")
    assert choice.model.path == demo
    assert "as none fits" not in choice.reason
    assert choice.reason.endswith("of 2 sets of conditions the one in mixed_float16 (--conditions chooses another)")


def test_models_and_tables_take_the_same_set_of_conditions(monkeypatch):
    monkeypatch.setattr("epochcast.gpus.lookup.box_device_names", lambda: [box_device_name()])
    sizes = {"2.20": 40, "2.21": 12, "2.19": 15}
    rows = []
    for i, (version, n) in enumerate(sizes.items()):
        conditions = conditions_of_this_box(backend_version=version)
        add_local(f"v{i}", i + 1, conditions=conditions, n_configurations=n, n_runs=n)
        known = {name: value for name, value in conditions.items() if value is not None}
        rows += [agg_row(2, 16, 32 * (k + 1), 2.0, **known) for k in range(n)]
    for installed in (*sizes, "2.99"):
        monkeypatch.setattr(
            "epochcast.aggregate.averages.condition_order.installed_minor", lambda name, version=installed: version
        )
        of_rows = one_set_of_conditions(rows, []).rows[0].backend_version
        assert (
            choose_model().model.conditions.backend_version == of_rows == (installed if installed in sizes else "2.20")
        )


@pytest.mark.parametrize("name", ["A100-PCIE-80GB", "NVIDIA A100-PCIE-80GB", "NVIDIA A100 80GB PCIe"])
def test_a_board_that_its_driver_renamed_is_still_this_box(monkeypatch, name):
    monkeypatch.setattr("epochcast.gpus.lookup.box_device_names", lambda: ["NVIDIA A100 80GB PCIe"])
    own = add_local("own", 1, device=name)
    choice = choose_model()
    assert (choice.model.path, choice.model.is_of_this_box) == (own, True)


def test_a_device_that_is_named_in_the_conditions_answers_whatever_this_box_is():
    add_local("own", 9)
    other = add_local("other", 1, device="NVIDIA Other")
    assert choose_model(wanted={"device_name": "NVIDIA Other"}).model.path == other
    assert choose_model(wanted={"device_name": "NVIDIA A100 80GB PCIe"}).model.path == PRETRAINED


def test_a_file_that_is_no_card_does_not_keep_the_others_from_answering():
    add_local("good", 5)
    (models_dir() / "notes.json").write_text('{"a": 1}')
    assert choose_model().model.path.name == "good.keras"
    (models_dir() / "good.keras").unlink()
    choice = choose_model()
    assert choice.model.path == PRETRAINED
    assert "notes.json: card of schema None" in choice.reason


@pytest.mark.parametrize("changes", [{"residual_scale": "x"}, {"conditions": 5}, {"created_utc": None}, {"range": []}])
def test_one_bad_card_is_passed_over_with_a_warning_and_refused_where_it_is_named(caplog, changes):
    add_local("good", 5)
    bad = copy_pretrained(models_dir(), "bad", **changes)
    assert choose_model().model.path.name == "good.keras"
    assert f"passed over: {bad.with_suffix('.json')}: not a model card: " in caplog.text
    with pytest.raises(ValueError, match="not a model card"):
        choose_model(bad)


@pytest.mark.parametrize("place", ["bad.json", "bad.keras"])
def test_a_pipe_among_the_models_is_passed_over_and_refused_where_it_is_named(caplog, place):
    add_local("good", 5)
    bad = add_local("bad", 6)
    (models_dir() / place).unlink()
    os.mkfifo(models_dir() / place)
    assert choose_model().model.path.name == "good.keras"
    assert "bad" in caplog.text
    with pytest.raises(OSError, match="a pipe or a device"):
        choose_model(bad)


def weights_of(*shapes):
    """Weights of layers with these shapes of kernels, as Keras writes them."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for i, shape in enumerate(shapes):
            group = f"layers/einsum_dense{f'_{i}' if i else ''}/vars"
            file[f"{group}/0"] = np.ones(shape)
            file[f"{group}/1"] = np.ones((shape[0], shape[-1]))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "shapes",
    [
        [(10, 3, 32), (10, 32, 32), (10, 32, 2)],
        [(10, 4, 32), (10, 32, 32), (10, 32, 1)],
        [(10, 3, 32), (10, 31, 32), (10, 32, 1)],
        [(10, 3, 32), (9, 32, 32), (10, 32, 1)],
        [(3, 32), (32, 32), (32, 1)],
        [(0, 3, 32), (0, 32, 32), (0, 32, 1)],
    ],
)
def test_a_network_whose_layers_do_not_fit_is_refused(tmp_path, shapes):
    data = archive_with(model=weights_of(*shapes), weights=None)
    assert "not a time model: " in refusal(copy_with_bytes(tmp_path, data))


def test_a_member_that_unpacks_to_more_than_a_model_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("epochcast.model.time_model.network_file.MOST_BYTES", 1000)
    assert "unpacks to" in refusal(copy_pretrained(tmp_path))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_network_answers_or_is_refused(tmp_path_factory, data):
    raw = bytearray(PRETRAINED.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = copy_with_bytes(
        tmp_path_factory.mktemp("damaged"), bytes(raw[: data.draw(st.sampled_from([-1, 5000, None]))])
    )
    try:
        saved = load_model(path)
        saved.forecast(CONFIG)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)


def test_the_newest_local_model_that_meets_the_wanted_conditions_answers():
    known = load_model(PRETRAINED).card["conditions"] | {"device_name": box_device_name()}
    single, half = add_local("single", 5), add_local("half", 4, conditions=known | {"precision": "mixed_float16"})
    add_local("older", 3, conditions=known | {"precision": "mixed_float16"})
    assert choose_model().model.path == single
    assert choose_model(wanted={"precision": "float32"}).model.path == single
    choice = choose_model(wanted={"precision": "mixed_float16"})
    assert (choice.model.path, choice.reason) == (half, f"the newest local model of this box ({box_device_name()})")


def test_where_no_model_meets_the_wanted_conditions_each_is_named_and_none_answers():
    add_local("local", 5)
    with pytest.raises(ValueError) as caught:
        choose_model(wanted={"precision": "bfloat16"})
    assert str(caught.value) == (
        f"{PRETRAINED} (the pretrained model, as no local one fits: local was learned under precision float32, "
        "not bfloat16) was learned under precision float32, not bfloat16."
    )


def test_a_named_model_must_meet_the_wanted_conditions_too():
    assert choose_model(PRETRAINED, wanted={"backend": "tensorflow"}).reason == "named by --model"
    with pytest.raises(ValueError) as caught:
        choose_model(PRETRAINED, wanted={"backend": "jax"})
    assert str(caught.value) == f"{PRETRAINED} (named by --model) was learned under backend tensorflow, not jax."


# --- beside a table ---------------------------------------------------------------------------------------------------


def table_conditions(**changes):
    return replace(load_model(PRETRAINED).conditions, **changes)


def test_beside_a_table_a_model_of_its_very_conditions_answers_whatever_this_box_is():
    path = add_local("a100", 1, device="NVIDIA A100 80GB PCIe")
    add_local("newer", 9, device="NVIDIA Other")
    choice = choose_model(conditions=table_conditions())
    assert (choice.model.path, choice.reason) == (path, "the newest local model of the table's conditions")


@pytest.mark.parametrize("changes", [{"precision": "mixed_float16"}, {"device_name": None}, {"train_n": 10_000}])
def test_beside_a_table_a_local_model_of_other_conditions_is_not_taken(changes):
    add_local("a100", 1, device="NVIDIA A100 80GB PCIe")
    with pytest.raises(ValueError) as caught:
        choose_model(conditions=table_conditions(**changes))
    assert str(caught.value) == (
        "no model of the table's conditions (a100 was learned under other conditions). "
        "Train one: epochcast train, or name --model."
    )


def test_beside_a_table_a_named_model_must_not_contradict_it():
    other = table_conditions(precision="mixed_float16")
    with pytest.raises(ValueError) as caught:
        choose_model(PRETRAINED, other)
    assert str(caught.value) == (
        f"{PRETRAINED}: learned under other conditions than the table's: precision float32, not mixed_float16. "
        "Name another."
    )
    less_known = table_conditions(precision=None)  # what the table does not say is no contradiction
    assert choose_model(PRETRAINED, less_known).reason == "named by --model"


def test_wanted_conditions_are_met_only_where_they_are_known_to_be():
    known = Conditions(precision="float32", train_n=50_000)
    assert contradicted(known, {}) == contradicted(known, {"precision": "float32", "train_n": "50000"}) == ""
    assert contradicted(known, {"precision": "bfloat16", "backend": "jax"}) == (
        "precision float32, not bfloat16, backend unknown, not jax"
    )
    assert contradicted(known, {"backend": "", "window_steps": ""}) == ""  # an empty value asks for unknown
    assert contradicted(known, {"precision": "", "train_n": ""}) == (
        "precision float32, not unknown, train_n 50000, not unknown"
    )
    with pytest.raises(ValueError, match=r"^gpu: not a condition; use device_name, "):
        contradicted(known, {"gpu": "A100"})


def test_the_device_that_a_run_uses_goes_before_this_box_s_other_gpus_however_much_was_measured_there():
    def card(name, place, is_local, n):
        return OwnCard(Path(f"{name}.keras"), is_local, Conditions(device_name=name), n, n, "2026-01-01", place)

    used, other = card("NVIDIA H200", 0, False, 6), card("NVIDIA L4", 1, True, 90)
    sets = ranked([other, used], None)
    assert [cards[0] for cards in sets] == [used, other]
    assert "sets of conditions the one of the device that a run uses" in why_first(
        ranked([other, card("NVIDIA H200", 0, True, 6)], None), None, ""
    )
