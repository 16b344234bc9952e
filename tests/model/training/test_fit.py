"""The model that some rows allow: which form wins, what the gate leaves out, what another device's model adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.time_model.physics import Law, fit_law
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.fit import TRANSFERRED, fit
from epochcast.model.training.recipes import PHYSICS, PHYSICS_ANN
from epochcast.model.training.splits import NETWORK_MIN_ROWS
from epochcast.paths import pretrained_dir
from epochcast.storage.tables import read_runs
from tests.support.models.quick_networks import use_quick_networks
from tests.support.rows import CONFIGS, ROWS

SAVED = load_model(pretrained_dir() / "a100.keras")
NOTE = "these rows predict better by themselves than with a100.keras (NVIDIA A100 80GB PCIe) to start from"


@pytest.fixture(autouse=True)
def quick_networks(monkeypatch):
    use_quick_networks(monkeypatch)  # which form wins, not how good a network becomes


@pytest.fixture
def clean(reference_data):
    return Table.of(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows)


def every(table, step):
    """Every `step`-th row."""
    return table.take(np.arange(len(table)) % step == 0)


def unlike(table):
    """The same configurations on a device whose law is another one exactly."""
    law = Law("physics_6", SAVED.plain_law.coefficients * 10.0 ** np.linspace(-2, 2, 6), table.train_n)
    return Table(table.configs, law.seconds(table.configs), table.train_n)


# --- alone ------------------------------------------------------------------------------------------------------------


def test_few_rows_take_the_law_and_say_why(clean):
    few = every(clean, 12)
    fitted = fit(few)
    assert (fitted.form, fitted.reason) == (PHYSICS, "12 configurations; a network needs 20")
    assert list(fitted.validation.predicted) == [PHYSICS]
    assert fitted.plain_law.form == "physics_6"
    assert not fitted.outliers.any()


@pytest.mark.parametrize("seed", range(8))
def test_what_is_called_disturbed_is_exactly_what_the_law_was_not_fitted_to(clean, seed):
    few = every(clean, 8)
    draw = np.random.default_rng(seed)
    factors = np.ones(len(few))
    factors[draw.permutation(len(few))[: draw.integers(0, 3)]] = draw.choice([1.15, 1.25, 3.0])  # about the gate too
    few = Table(few.configs, few.seconds * factors, few.train_n)
    fitted = fit(few)
    kept = few.take(~fitted.outliers)
    law = fit_law("physics_6", kept.configs, kept.seconds, few.train_n)
    np.testing.assert_array_equal(fitted.model.law.coefficients, law.coefficients)
    assert (factors[fitted.outliers] > 1).all()
    assert fitted.outliers[factors == 3.0].all()


def test_errors_of_a_disturbed_row_are_no_part_of_the_widths(clean):
    few = every(clean, 11).take(np.arange(13) < 12)
    stalled = np.arange(len(few)) == 4
    widths = []
    for factor in (3.0, 30.0):
        fitted = fit(Table(few.configs, np.where(stalled, factor, 1) * few.seconds, few.train_n))
        np.testing.assert_array_equal(fitted.outliers, stalled)
        widths.append(fitted.calibration.widths)
        assert widths[-1].n == len(few) - 1
        assert 0 < widths[-1].within <= widths[-1].beyond < np.log(2)


@pytest.mark.parametrize("start", [None, SAVED], ids=["alone", "start"])
def test_a_configuration_in_two_rows_or_none_at_all_is_refused(start):
    twice = Table.of([*ROWS, replace(ROWS[0], avg_time_mean=9.0)])
    with pytest.raises(ValueError, match="stands in two rows"):
        fit(twice, start=start)
    with pytest.raises(ValueError, match="no configuration is left to learn from"):
        fit(twice.take(np.zeros(len(twice), bool)), start=start)


def test_a_row_or_two_are_too_few_alone_and_enough_with_a_start():
    two = Table.of(ROWS[:2])
    with pytest.raises(ValueError, match="2 configurations are too few to learn from"):
        fit(two)
    assert (fit(two, start=SAVED).model.times(CONFIGS) > 0).all()


# --- from another device's model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [36, 12, 6])
def test_of_a_device_slower_by_one_factor_the_start_wins_also_against_a_network(clean, step):
    own = every(clean, step)
    fitted = fit(Table(own.configs, 3 * own.seconds, own.train_n), start=SAVED)
    assert fitted.form == TRANSFERRED
    assert list(fitted.validation.predicted) == [TRANSFERRED]
    assert fitted.reason.startswith("started from the terms and residual of a100.keras (NVIDIA A100 80GB PCIe)")
    assert fitted.reason.endswith("can't tell whether the devices are alike: 7 can") == (len(own) <= 6)
    assert fitted.outliers.shape == (len(own),)
    assert not fitted.outliers.any()
    errors = np.abs(fitted.model.times(clean.configs) / (3 * clean.seconds) - 1)
    assert errors.mean() < 0.03


@pytest.mark.parametrize("step", [12, 6])
def test_of_a_device_unlike_the_other_the_rows_alone_answer_as_if_there_were_no_start(clean, step):
    own = unlike(every(clean, step))
    alone, fitted = fit(own), fit(own, start=SAVED)
    assert fitted.form == alone.form != TRANSFERRED
    assert fitted.reason == f"{alone.reason}; {NOTE}"
    np.testing.assert_array_equal(fitted.model.times(clean.configs), alone.model.times(clean.configs))
    np.testing.assert_array_equal(fitted.plain_law.coefficients, alone.plain_law.coefficients)
    assert fitted.calibration.widths == alone.calibration.widths


def test_up_to_six_rows_of_a_device_unlike_the_other_start_from_it_and_admit_that_they_cannot_tell(clean):
    few = unlike(every(clean, 24))
    assert len(few) == 6
    fitted = fit(few, start=SAVED)
    assert fitted.form == TRANSFERRED
    assert fitted.reason.endswith("; so few rows can't tell whether the devices are alike: 7 can")


def test_a_start_may_lose_to_a_network_of_the_rows_alone_and_each_long_part_is_told_by_name(clean):
    own = every(clean, 6)
    assert len(own) >= NETWORK_MIN_ROWS
    # the other device's model is a law alone, and these rows hold more than a law
    bare = replace(SAVED.time_model, ensemble=type(SAVED.time_model.ensemble).zero(len(SAVED.time_model.inputs.names)))
    told = {}
    start = replace(SAVED, time_model=bare)
    fitted = fit(own, seed=4, start=start, say=lambda part: told.setdefault(part, []).append)
    assert (fitted.form, fitted.reason) == (PHYSICS_ANN, NOTE)
    assert set(told) == {"cross-validation", "training", "left-out levels"}
    assert all(shares == sorted(set(shares)) and 0 < shares[0] <= shares[-1] == 1 for shares in told.values())


def test_a_stalled_row_is_left_out_and_named_also_where_another_device_s_model_is_the_start(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows[::10]
    table = Table.of(rows)
    slow = table.seconds.copy()
    slow[3] *= 10
    start = load_model(pretrained_dir() / "a100.keras")
    clean, stalled = fit(table, start=start), fit(replace(table, seconds=slow), start=start)
    assert np.flatnonzero(stalled.outliers).tolist() == [3]
    assert stalled.form == clean.form == TRANSFERRED
    assert stalled.calibration.widths.within < 2 * clean.calibration.widths.within
