"""What is trained on rows and saved: which form answers, what is left out, and where a model is kept."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from epochcast.model.time_model.card_text import card_lines
from epochcast.model.time_model.features import REFERENCE_FEATURE_NAMES
from epochcast.model.time_model.monotonicity import order_violations
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import cross_validate
from epochcast.model.training.recipes import PHYSICS, PHYSICS_ANN, REFERENCE_ANN, fit_time_models
from epochcast.model.training.save import declare, default_model_path, train
from epochcast.schema import Conditions, RunConfig
from tests.support.models.eager_steps import eager_steps
from tests.support.models.quick_networks import use_quick_networks
from tests.support.models.trained_models import STEPS, reference_rows, with_network
from tests.support.rows import CONFIGS, ROWS, agg_row, plausible_sec


@pytest.fixture
def rows(reference_data):
    """The reference rows, each with its first epoch; their overhead is not known."""
    return reference_rows(reference_data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("network")


def test_a_held_out_row_influences_nothing_of_a_card(tmp_path, rows):
    few, cards = rows[::9], []
    for name, factor in (("as_measured", 1.0), ("hundredfold", 100.0)):
        changed = [
            replace(r, avg_time_mean=factor * r.avg_time_mean, first_epoch_sec_mean=factor * r.first_epoch_sec_mean)
            if i in (3, 7)
            else r
            for i, r in enumerate(few)
        ]
        cards.append(train(changed, tmp_path / f"{name}.keras", held_out=[few[3].config, few[7].config]))
    own = ("created_utc", "card_sha256", "keras_sha256")
    one, other = ({name: value for name, value in card.items() if name not in own} for card in cards)
    assert one == other
    assert one["n_configurations"] == len(few) - 2


@pytest.mark.parametrize("n", [6, 10, 19])
def test_below_twenty_rows_the_law_alone_answers_says_why_and_is_answered_with(tmp_path, rows, n):
    chosen = rows[:: 143 // n][:n]
    card = train(chosen, tmp_path / "m.keras")
    assert (card["form"], card["reason"]) == ("physics", f"{n} configurations; a network needs 20")
    assert (card["errors"]["n"], card["errors"]["split"]) == (n, "leave-one-out")
    assert (card["intervals"]["within"] is None) == (n < 9)
    saved = load_model(tmp_path / "m.keras")
    assert card["order_violations"] == order_violations(saved.time_model)
    predicted = saved.time_model.times([r.config for r in chosen])
    np.testing.assert_allclose(predicted, [r.avg_time_mean for r in chosen], rtol=0.25)  # six terms, no network


def test_with_twenty_rows_the_better_form_of_one_cross_validation_is_kept(tmp_path, monkeypatch, rows):
    use_quick_networks(monkeypatch)
    chosen = rows[3::7]
    assert len(chosen) == 20
    card = train(chosen, tmp_path / "m.keras")
    assert card["form"] == "physics"  # on these twenty
    assert card["reason"].startswith("the law alone predicts better (")
    law, network = (float(part.removesuffix(" %")) for part in card["reason"].split("(")[1][:-1].split(" against "))
    assert law < network
    assert (card["errors"]["n"], card["errors"]["split"]) == (20, "5-fold by configuration")
    assert 100 * card["errors"]["mape"] == pytest.approx(law, rel=5e-3)  # three digits


@pytest.mark.parametrize("is_trained", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "trained"])
def test_a_network_is_kept_where_it_predicts_better_and_predicts_what_its_form_and_seed_alone_do(
    reference_data, folder, rows, monkeypatch, is_trained
):
    if is_trained:
        monkeypatch.setattr("epochcast.model.training.time_ann.STEPS", STEPS)
    else:
        use_quick_networks(monkeypatch)
    saved = load_model(with_network(reference_data, folder, is_trained=is_trained))
    table = Table.of(rows[::6])
    card = saved.card
    assert (card["form"], card["reason"], card["members"], card["activation"]) == ("physics_ann", None, 10, "silu")
    assert (card["law"]["form"], card["plain_law"]["form"]) == ("physics_8", "physics_6")
    assert card["order_violations"] == order_violations(saved.time_model)
    assert 0 < card["intervals"]["within"] <= card["intervals"]["beyond"]
    law_alone = cross_validate(table, [PHYSICS], repeats=1)
    assert card["errors"]["mape"] < law_alone.mape(PHYSICS)
    (alone,) = fit_time_models(PHYSICS_ANN, table, np.ones((1, len(table)), bool), 4)
    configs = [r.config for r in rows]
    np.testing.assert_array_equal(saved.time_model.times(configs), alone.times(configs))


@pytest.mark.parametrize("seed", [0, 5])
def test_adding_intervals_does_not_change_what_a_law_predicts(tmp_path, rows, seed):
    table = Table.of(rows[::9])
    train(rows[::9], tmp_path / "m.keras", seed=seed)
    (alone,) = fit_time_models(PHYSICS, table, np.ones((1, len(table)), bool), seed)
    configs = [*table.configs, RunConfig(6, 256, 16)]
    np.testing.assert_array_equal(load_model(tmp_path / "m.keras").time_model.times(configs), alone.times(configs))


def test_a_row_that_something_disturbed_is_left_out_and_named(tmp_path, rows):
    few = list(rows[::8])
    stalled = few[6] = replace(few[6], avg_time_mean=3 * few[6].avg_time_mean)
    card = train(few, tmp_path / "m.keras")
    assert card["disturbed"] == [[stalled.depth, stalled.base_filters, stalled.batch_size]]
    named = f"({stalled.depth},{stalled.base_filters},{stalled.batch_size})"
    assert f"left_out_as_disturbed: {named}" in card_lines(card)
    text = (tmp_path / "m.md").read_text()
    assert f"left out as disturbed (over 22.1 % slower than the physics law): {named}" in text
    train([r for r in few if r is not stalled], tmp_path / "without.keras")
    models = [load_model(tmp_path / f"{name}.keras").time_model for name in ("m", "without")]
    np.testing.assert_allclose(*(m.times([r.config for r in rows]) for m in models), rtol=1e-9)  # order of sums


def test_one_stalled_row_does_not_widen_the_intervals_of_the_others(tmp_path, rows):
    few = list(rows[::10][:14])
    few[4] = replace(few[4], avg_time_mean=10 * few[4].avg_time_mean)
    card = train(few, tmp_path / "m.keras")
    assert card["disturbed"] == [list(asdict(few[4].config).values())]
    assert card["intervals"]["n"] == 13
    assert 0 < card["intervals"]["within"] <= card["intervals"]["beyond"] < np.log(2)  # tenfold is the stall alone
    assert all(level["mape"] < 1 for level in card["levels"])


@pytest.mark.parametrize("part", ["order_violations", "fit_excess", "fit_overhead"])
def test_a_failure_after_the_fit_leaves_an_older_model_and_its_cards(tmp_path, monkeypatch, part):
    train(ROWS, tmp_path / "m.keras")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("[!.]*")}
    assert set(before) == {"m.keras", "m.json", "m.md"}

    def fail(*_):
        raise ArithmeticError(part)

    monkeypatch.setattr(f"epochcast.model.training.save.{part}", fail)
    with pytest.raises(ArithmeticError, match=part):
        train([*ROWS, agg_row(2, 64, 128, plausible_sec(RunConfig(2, 64, 128)))], tmp_path / "m.keras")
    assert {file.name: file.read_bytes() for file in tmp_path.glob("[!.]*")} == before
    assert load_model(tmp_path / "m.keras").card["n_configurations"] == len(ROWS)


def test_the_original_network_is_trained_saved_and_loaded_by_its_own_recipe(tmp_path, monkeypatch, rows):
    monkeypatch.setattr("epochcast.model.training.reference_ann.MAX_EPOCHS", 3)
    chosen = rows[::24]
    assert len(chosen) == 6
    with eager_steps():
        card = train(chosen, tmp_path / "m.keras", recipe=REFERENCE_ANN, seed=2)
        (alone,) = fit_time_models(REFERENCE_ANN, Table.of(chosen), np.ones((1, 6), bool), 2)
    assert (card["recipe"], card["form"], card["reason"]) == ("reference_ann", "reference_ann", None)
    assert (card["law"], card["activation"], card["members"]) == (None, "relu", 1)
    assert card["feature_names"] == list(REFERENCE_FEATURE_NAMES)
    assert (card["feature_low"], card["feature_high"]) == (None, None)
    assert card["disturbed"] == []
    configs = [*Table.of(chosen).configs, RunConfig(6, 256, 16)]
    saved = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(saved.time_model.times(configs), alone.times(configs))
    assert "One ReLU network on log time" in (tmp_path / "m.md").read_text()


def test_a_model_is_kept_per_device_and_conditions(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    gpu = Conditions(device_name="NVIDIA A100 80GB PCIe")
    path = default_model_path(gpu, tmp_path / "a.csv")
    assert path.parent == tmp_path / "results" / "models"
    assert path.name.startswith("A100-PCIe-80GB-")  # the board, whatever its driver calls it
    assert default_model_path(replace(gpu, precision="float32"), tmp_path / "a.csv") != path
    assert default_model_path(gpu, tmp_path / "b.csv") == path
    unknown = [default_model_path(Conditions(), tmp_path / name) for name in ("a.csv", "b.csv")]
    assert all(path.name.startswith("unknown-device-") for path in unknown)
    assert unknown[0] != unknown[1]  # nothing else tells two machines apart


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"gpu": "A100"}, "--declare gpu: not a condition; use device_name, "),
        ({"precision": "float32"}, "--declare precision=float32: the table says mixed_float16."),
        ({"train_n": "10000"}, "--declare train_n=10000: the table says 50000."),
        ({"steps_per_execution": "x"}, "--declare steps_per_execution=x: expected a whole number of at least 1."),
        ({"window_steps": "0"}, "--declare window_steps=0: expected a whole number of at least 1."),
        ({"window_steps": ""}, "--declare window_steps=: expected a whole number of at least 1."),
    ],
)
def test_a_wrong_declaration_is_refused(facts, said):
    with pytest.raises(ValueError) as caught:
        declare(Conditions(precision="mixed_float16", train_n=50_000), facts)
    assert str(caught.value).startswith(said)


def test_what_the_table_says_may_be_declared_again():
    conditions = Conditions(train_n=50_000, backend="jax")
    assert declare(conditions, {"train_n": "50000", "backend": "jax"}) == conditions


def test_a_held_out_configuration_that_was_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^held out, but not in the table: \(2,32,64\)\.$"):
        train(ROWS[:2], tmp_path / "m.keras", held_out=[CONFIGS[0], CONFIGS[2]])


pytestmark = pytest.mark.usefixtures("home")
