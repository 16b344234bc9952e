"""Training on a table: what the card says is what was done, and nothing is replaced by a command that fails."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.source import write_agg
from epochcast.interval import Interval
from epochcast.model.time_model.card_text import card_lines
from epochcast.model.time_model.features import FEATURE_NAMES, REFERENCE_FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.intervals import FAR
from epochcast.model.time_model.monotonicity import order_violations
from epochcast.model.time_model.physics import Law, fit_gated_law
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.time_model.time_model import Table
from epochcast.model.train import main
from epochcast.model.training.cross_validation import cross_validate, rows_sha256
from epochcast.model.training.recipes import PHYSICS, PHYSICS_ANN, REFERENCE_ANN, fit_time_models
from epochcast.model.training.save import declare, default_model_path, train
from epochcast.schema import AggRow, Conditions, RunConfig, RunRecord
from epochcast.storage.files import sha256_of
from epochcast.storage.tables import append_row, read_runs, write_table
from epochcast.workload.shape import count_params
from tests.support.rows import CONFIGS, ROWS, agg_row, plausible_sec

HELD_OUT = CONFIGS[2]
SEVEN = [*ROWS, agg_row(2, 64, 128, plausible_sec(RunConfig(2, 64, 128)))]
KEPT = [row for row in SEVEN if row.config != HELD_OUT]
KEPT_CONFIGS = [row.config for row in KEPT]


def record(row, **values):
    """A run of three epochs at the time of an aggregated row, the first 10 s longer."""
    sec = row.avg_time_mean
    known = {
        "timestamp_utc": "2026-01-01T00:00:00+00:00",
        "tf_version": "2.21.0",
        **asdict(row.config),
        "epochs": 3,
        "params": count_params(row.config),
        "epoch_times_json": (sec + 10, sec, sec),
        "avg_time_sec": sec,
        "images_per_sec": 50_000 / sec,
        "test_acc": None,
        "backend": "tensorflow",
        "overhead_sec": 7.0,
    }
    return RunRecord(**{**known, **values})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What --json printed, and the table learned from, which was out of date: a run of it is newer."""
    folder = tmp_path_factory.mktemp("train")
    runs, table, model = folder / "runs.csv", folder / "runs_agg.csv", folder / "new" / "box.keras"
    write_table(runs, [record(row) for row in SEVEN], RunRecord)
    write_agg(runs, table)
    append_row(runs, record(SEVEN[0]))
    (folder / "held_out.csv").write_text("depth,base_filters,batch_size\n{},{},{}\n".format(*asdict(HELD_OUT).values()))
    argv = ["--runs_agg", table, "--model", model, "--held_out", folder / "held_out.csv", "--seed", 3, "--json"]
    argv += ["--declare", "device_name=NVIDIA Test,train_n=50000,backend=tensorflow", "--credit", "measured by us"]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHCAST_HOME", str(folder))
        assert main([str(word) for word in argv]) == 0
    return json.loads(out.getvalue()), aggregate(read_runs(runs)).rows, folder


@cache
def reference_rows(folder):
    return aggregate(read_runs(folder / "a100" / "runs.csv")).rows


@pytest.fixture
def rows(reference_data):
    """The reference rows, each with its first epoch; their overhead is not known."""
    return reference_rows(reference_data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("network")


STEPS = 500  # a third of what is usual; on these rows the network then errs by 3.0 %, the law by 3.4 %


@cache
def with_network(reference_data, folder):
    """A model of 24 reference rows, on which the network is the better form."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epochcast.model.training.time_ann.STEPS", STEPS)
        train(reference_rows(reference_data)[::6], folder / "network.keras", seed=4)
    return folder / "network.keras"


@pytest.fixture
def network(reference_data, folder):
    return with_network(reference_data, folder)


# --- the pair of files ------------------------------------------------------------------------------------------------


def test_a_table_out_of_date_is_made_anew_and_said(trained):
    said, _, folder = trained
    assert said["table"] == str(folder / "runs_agg.csv")
    assert said["table_origin"] == f"was out of date: made anew from {folder / 'runs.csv'}"
    assert said["n_runs"] == 7  # 8 of the table, of which one was held out


def test_the_cards_lie_beside_the_model_and_the_pair_loads(trained):
    said, _, folder = trained
    assert {file.name for file in (folder / "new").glob("[!.]*")} == {"box.keras", "box.json", "box.md"}
    saved = load_model(folder / "new" / "box.keras")
    own = ("table", "table_origin", "conditions_chosen", "other_conditions", "model")
    assert said == {**{name: said[name] for name in own}, **saved.card}
    assert said["model"] == str(saved.path)
    assert saved.card["keras_sha256"] == sha256_of(saved.path)
    law, _ = fit_gated_law("physics_6", KEPT_CONFIGS, np.array([r.avg_time_mean for r in KEPT]), 50_000)
    np.testing.assert_allclose(saved.time_model.times(KEPT_CONFIGS), law.seconds(KEPT_CONFIGS), rtol=1e-9)  # means


def test_the_card_tells_what_was_learned_from(trained):
    card, rows, _ = trained
    kept = [row for row in rows if row.config != HELD_OUT]
    assert card["n_configurations"] == len(kept) == 6
    assert card["rows_sha256"] == rows_sha256(kept) != rows_sha256(rows)
    assert card["seed"] == 3
    assert card["credit"] == "measured by us"
    assert set(card["versions"]) == {"epochcast", "keras", "numpy", "scikit-learn"}
    assert (card["errors"]["n"], card["errors"]["split"]) == (6, "leave-one-out")
    assert card["errors"]["mape"] > 0
    assert card["overhead_sec"] == {"median": 7.0, "n": 6, "within": None}
    excess = card["first_epoch_excess_sec"]
    assert (excess["median"], excess["n"], excess["form"]) == (pytest.approx(10, rel=1e-12), 6, None)


def test_a_held_out_configuration_is_in_neither_fit_nor_range(trained):
    card, _, _ = trained
    assert card["held_out"] == [list(asdict(HELD_OUT).values())]
    assert card["range"] == {"depth": [2, 3], "base_filters": [16, 64], "batch_size": [64, 256]}
    features = feature_matrix(KEPT_CONFIGS, FEATURE_NAMES, 50_000)
    np.testing.assert_allclose(card["feature_mean"], features.mean(axis=0), rtol=1e-12)  # same sums, other code
    np.testing.assert_allclose(card["feature_scale"], features.std(axis=0), rtol=1e-12)
    assert (card["feature_low"], card["feature_high"]) == (list(features.min(axis=0)), list(features.max(axis=0)))


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


def test_declared_conditions_are_marked_as_such_beside_measured_ones(trained):
    card, _, _ = trained
    assert card["declared"] == ["backend", "device_name", "train_n"]
    assert card["conditions"] == asdict(
        Conditions(device_name="NVIDIA Test", backend="tensorflow", backend_version="2.21", train_n=50_000)
    )


def test_a_card_is_told_to_people_in_a_few_lines(trained):
    lines = dict(line.split(": ", 1) for line in card_lines(trained[0]))
    assert lines["learned_from"] == (
        "6 configurations, 7 runs; depth 2 to 3, base_filters 16 to 64, batch_size 64 to 256"
    )
    assert lines["conditions"].startswith("device_name=NVIDIA Test, backend=tensorflow")
    assert lines["form"] == "physics (6 configurations; a network needs 20)"
    assert lines["plain_law"] == "; ".join(w for w in trained[0]["plain_law"]["readings"].values() if w != "none")
    assert lines["error"].startswith("MAPE ")
    assert lines["error"].endswith("(leave-one-out, n = 6)")
    more = "3 more configurations give a range"
    assert lines["interval_90"] == f"within the range unknown, one step beyond it unknown; {more}"


# --- which form answers -----------------------------------------------------------------------------------------------


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
    monkeypatch.setattr("epochcast.model.training.time_ann.STEPS", STEPS)
    chosen = rows[3::7]
    assert len(chosen) == 20
    card = train(chosen, tmp_path / "m.keras")
    assert card["form"] == "physics"  # on these twenty
    assert card["reason"].startswith("the law alone predicts better (")
    law, network = (float(part.removesuffix(" %")) for part in card["reason"].split("(")[1][:-1].split(" against "))
    assert law < network
    assert (card["errors"]["n"], card["errors"]["split"]) == (20, "5-fold by configuration")
    assert 100 * card["errors"]["mape"] == pytest.approx(law, rel=5e-3)  # three digits


def test_a_network_is_kept_where_it_predicts_better_and_predicts_what_its_form_and_seed_alone_do(
    network, rows, monkeypatch
):
    monkeypatch.setattr("epochcast.model.training.time_ann.STEPS", STEPS)
    saved, table = load_model(network), Table.of(rows[::6])
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
        train(SEVEN, tmp_path / "m.keras")
    assert {file.name: file.read_bytes() for file in tmp_path.glob("[!.]*")} == before
    assert load_model(tmp_path / "m.keras").card["n_configurations"] == len(ROWS)


def test_the_original_network_is_trained_saved_and_loaded_by_its_own_recipe(tmp_path, monkeypatch, rows):
    monkeypatch.setattr("epochcast.model.training.reference_ann.MAX_EPOCHS", 3)
    chosen = rows[::24]
    assert len(chosen) == 6
    card = train(chosen, tmp_path / "m.keras", recipe=REFERENCE_ANN, seed=2)
    assert (card["recipe"], card["form"], card["reason"]) == ("reference_ann", "reference_ann", None)
    assert (card["law"], card["activation"], card["members"]) == (None, "relu", 1)
    assert card["feature_names"] == list(REFERENCE_FEATURE_NAMES)
    assert (card["feature_low"], card["feature_high"]) == (None, None)
    assert card["disturbed"] == []
    table = Table.of(chosen)
    (alone,) = fit_time_models(REFERENCE_ANN, table, np.ones((1, 6), bool), 2)
    configs = [*table.configs, RunConfig(6, 256, 16)]
    saved = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(saved.time_model.times(configs), alone.times(configs))
    assert "One ReLU network on log time" in (tmp_path / "m.md").read_text()


# --- from another device's model --------------------------------------------------------------------------------------

SLOWDOWN = 40.0  # about a processor's
TOO_FEW = "; so few rows can't tell whether the devices are alike: 7 can"


def slower(row):
    return replace(
        row,
        avg_time_mean=SLOWDOWN * row.avg_time_mean,
        thr_mean=row.thr_mean / SLOWDOWN,
        device_name="a processor",
        first_epoch_sec_mean=None,
    )


@pytest.mark.parametrize("n", [1, 3])
def test_one_or_three_rows_of_another_device_are_enough_to_start_from_a_model(tmp_path, network, rows, n):
    chosen = [slower(rows[i]) for i in (60, 5, 110)[:n]]
    start = load_model(network)
    card = train(chosen, tmp_path / "m.keras", start=start)
    assert card["form"] == "transferred"
    assert card["reason"] == f"started from the six terms of network.keras (an unknown device){TOO_FEW}"
    assert card["started_from"] == {n: start.card[n] for n in ("keras_sha256", "rows_sha256", "conditions")}
    assert card["disturbed"] == []
    assert (card["n_configurations"], card["conditions"]["device_name"]) == (n, "a processor")
    saved = load_model(tmp_path / "m.keras")
    configs = [r.config for r in rows]
    expected = [SLOWDOWN * r.avg_time_mean for r in rows]
    errors = np.abs(saved.time_model.times(configs) / expected - 1)
    assert errors.mean() < 0.06  # of a device that is slower by one factor; the law it starts from errs by 3 %
    assert (card["intervals"]["within"], card["intervals"]["beyond"]) == (None, None)
    forecast = saved.forecast(RunConfig(9, 16, 64), epochs=3)
    assert forecast.domain == FAR
    assert forecast.steady == Interval(forecast.steady.value)


@pytest.mark.parametrize("n", [4, 6, 7, 9])
def test_from_four_rows_on_leaving_each_out_chooses_what_is_started_from(tmp_path, network, rows, n):
    card = train([slower(row) for row in rows[:: 143 // n][:n]], tmp_path / "m.keras", start=load_model(network))
    kinds = ("six terms", "terms and residual")
    reasons = [f"started from the {kind} of network.keras (an unknown device)" for kind in kinds]
    assert card["reason"] in [reason + TOO_FEW * (n <= 6) for reason in reasons]
    assert (card["form"], card["disturbed"]) == ("transferred", [])
    assert (card["errors"]["n"], card["errors"]["split"]) == (n, "leave-one-out")
    assert card["errors"]["mape"] < 0.2
    assert (card["intervals"]["within"] is None) == (n < 9)
    if n == 9:
        assert 0 < card["intervals"]["within"] <= card["intervals"]["beyond"]


def test_one_row_says_that_its_error_is_unknown(tmp_path, network, rows):
    card = train([slower(rows[60])], tmp_path / "m.keras", start=load_model(network))
    assert (card["errors"]["n"], card["errors"]["mape"]) == (0, None)
    words = "unknown: one configuration has nothing to be judged on"
    assert f"error: {words}" in card_lines(card)
    assert words in (tmp_path / "m.md").read_text()


def test_the_command_starts_from_a_model_and_says_so(tmp_path, network, rows, capsys):
    write_table(tmp_path / "runs_agg.csv", [slower(rows[60])], AggRow)
    argv = ["--runs_agg", tmp_path / "runs_agg.csv", "--model", tmp_path / "m.keras", "--start_from", network]
    assert main([str(word) for word in argv]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    reason = f"started from the six terms of network.keras (an unknown device){TOO_FEW}"
    assert lines["form"] == f"transferred ({reason})"
    assert f"Note: {reason}.\n" in (tmp_path / "m.md").read_text()
    assert lines["model"] == str(tmp_path / "m.keras")
    assert lines["card for people"] == str(tmp_path / "m.md")


def test_a_start_is_for_the_shipped_recipe_alone(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--start_from", str(tmp_path / "m.keras"), "--recipe", "reference_ann"])
    assert end.value.code == 2
    assert "--start_from needs --recipe physics_ann" in capsys.readouterr().err


def test_a_start_with_every_row_held_out_is_refused(tmp_path, network, rows):
    with pytest.raises(ValueError, match="no configuration is left to learn from"):
        train(rows[:1], tmp_path / "m.keras", held_out=[rows[0].config], start=load_model(network))


def test_a_start_learned_under_the_conditions_of_the_rows_is_refused_whichever_they_are(tmp_path, network, rows):
    start = load_model(network)
    for own in (rows[:1], rows[1:9], rows[::6]):
        with pytest.raises(
            ValueError, match=r"network\.keras was learned under the conditions of these rows: it may h"
        ):
            train(own, tmp_path / "new" / "m.keras", start=start)
    assert not (tmp_path / "new").exists()
    # declared conditions count: these are another device's
    card = train(rows[:1], tmp_path / "m.keras", start=start, declared={"device_name": "another"})
    assert card["form"] == "transferred"


def test_a_configuration_in_two_rows_is_refused_also_with_a_start(tmp_path, network, rows):
    row = slower(rows[0])
    twice = [row, replace(row, avg_time_mean=9.0)]
    with pytest.raises(ValueError, match="a configuration stands in two rows: aggregate the runs first"):
        train(twice, tmp_path / "m.keras", start=load_model(network))
    assert not (tmp_path / "m.keras").exists()


def test_a_start_of_which_nothing_helps_leaves_the_model_that_the_rows_alone_give(tmp_path, network, rows):
    start = load_model(network)
    unlike = Law("physics_6", start.plain_law.coefficients * 10.0 ** np.linspace(-2, 2, 6), 50_000)
    own = [replace(slower(r), avg_time_mean=float(unlike.seconds([r.config])[0])) for r in rows[::12]]
    cards = [train(own, tmp_path / f"{name}.keras", start=s) for name, s in (("with", start), ("without", None))]
    alone = "12 configurations; a network needs 20"
    note = "these rows predict better by themselves than with network.keras (an unknown device) to start from"
    assert [card.pop("reason") for card in cards] == [f"{alone}; {note}", alone]
    for card in cards:
        assert (card["form"], card["started_from"]) == ("physics", None)
        for own_name in ("created_utc", "card_sha256", "keras_sha256"):
            del card[own_name]
    assert cards[0] == cards[1]


# --- names and declarations -------------------------------------------------------------------------------------------


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


# --- refused before any work ------------------------------------------------------------------------------------------


def test_a_held_out_configuration_that_was_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^held out, but not in the table: \(2,32,64\)\.$"):
        train(ROWS[:2], tmp_path / "m.keras", held_out=[CONFIGS[0], HELD_OUT])


def command(capsys, folder, rows, *flags):
    """Exit code and standard error of the command on a table of rows."""
    write_table(folder / "runs_agg.csv", rows, AggRow)
    code = main(["--runs_agg", str(folder / "runs_agg.csv"), *flags])
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))


def test_a_wrong_declaration_leaves_an_older_model_as_it_was(tmp_path, capsys):
    model = tmp_path / "m.keras"
    model.write_bytes(b"older")
    code, err = command(capsys, tmp_path, ROWS, "--model", str(model), "--declare", "gpu=A100")
    assert code == 1
    assert "error: --declare gpu: not a condition" in err
    assert model.read_bytes() == b"older"


def test_the_name_of_a_model_must_end_in_keras(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--model", str(tmp_path / "model.h5")])
    assert end.value.code == 2
    assert "the name must end in .keras" in capsys.readouterr().err


def test_a_path_that_can_t_be_written_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, err = command(capsys, tmp_path, ROWS, "--model", str(tmp_path / "file" / "m.keras"))
    assert code == 1
    assert err.splitlines()[-1] == f"error: {tmp_path / 'file'}: a file, not a folder."


def test_too_few_configurations_are_refused(tmp_path, capsys):
    code, err = command(capsys, tmp_path, ROWS[:5])
    assert code == 1
    assert (
        "error: 5 configurations are too few to learn from: measure at least 6; epochcast next_runs names them, "
        "and --start_from another device's model takes fewer."
    ) in err


def test_of_level_sets_of_conditions_the_last_is_used_and_both_are_named(tmp_path, capsys):
    mixed = [replace(row, precision=p) for p in ("float32", "mixed_float16") for row in ROWS[:5]]
    code, err = command(capsys, tmp_path, mixed)
    assert code == 1
    assert "the table mixes 2 sets of conditions; used: the last in the table" in err
    assert "--conditions precision=mixed_float16   (5 rows) of " in err
    assert "not used: --conditions precision=float32   (5 rows)" in err
    assert "5 configurations are too few to learn from" in err  # never both sets together
    assert not (tmp_path / "results" / "models").exists()
