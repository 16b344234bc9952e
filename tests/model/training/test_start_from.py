"""Training that starts from another device's model, of which few rows are enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from epochcast.interval import Interval
from epochcast.model.time_model.card_text import card_lines
from epochcast.model.time_model.intervals import FAR
from epochcast.model.time_model.physics import Law
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.train import main
from epochcast.model.training.save import train
from epochcast.schema import AggRow, RunConfig
from epochcast.storage.tables import write_table
from tests.support.models.trained_models import reference_rows, with_network


@pytest.fixture
def rows(reference_data):
    """The reference rows, each with its first epoch; their overhead is not known."""
    return reference_rows(reference_data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("network")


@pytest.fixture
def network(reference_data, folder):
    return with_network(reference_data, folder)


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


pytestmark = pytest.mark.usefixtures("home")
