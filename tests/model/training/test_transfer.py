"""What of another device's model a few rows start from."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.selection.experimental_design import next_indices
from epochcast.model.time_model.physics import MIN_ROWS, Law, fit_law
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.fit import MIN_ROWS_TO_CHOOSE, NOTHING, SIX_TERMS, WHOLE_MODEL, choose_start
from epochcast.model.training.recipes import PHYSICS
from epochcast.paths import pretrained_dir
from epochcast.storage.tables import read_runs

SAVED = load_model(pretrained_dir() / "a100.keras")


def rows_of(table: Table, n: int) -> Table:
    """The first n rows that the design names."""
    mask = np.zeros(len(table), bool)
    mask[next_indices(table.configs, [], n, table.train_n)] = True
    return table.take(mask)


@pytest.fixture
def clean(reference_data) -> Table:
    return Table.of(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows)


@pytest.mark.parametrize("n", range(1, MIN_ROWS_TO_CHOOSE))
def test_a_handful_of_rows_takes_the_six_terms(clean, n):
    assert choose_start(rows_of(clean, n), SAVED.plain_law, SAVED.time_model).name == SIX_TERMS


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_rows_of_a_device_that_is_faster_in_proportion_take_the_whole_model(clean, factor):
    table = Table(clean.configs, clean.seconds * factor, clean.train_n)
    chosen = choose_start(rows_of(table, 8), SAVED.plain_law, SAVED.time_model)
    assert chosen.name == WHOLE_MODEL
    assert chosen.validation.mape(PHYSICS) < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_a_device_unlike_the_other_take_nothing_of_it(clean, seed):
    factors = 10.0 ** np.random.default_rng(seed).uniform(-2, 2, 6)
    unlike = Law("physics_6", SAVED.plain_law.coefficients * factors, clean.train_n)
    table = Table(clean.configs, unlike.seconds(clean.configs), clean.train_n)
    rows = rows_of(table, 12)
    chosen = choose_start(rows, SAVED.plain_law, SAVED.time_model)
    # these rows are a law exactly, so that alone they give it
    alone = fit_law("physics_6", rows.configs, rows.seconds, rows.train_n).seconds(table.configs)
    np.testing.assert_allclose(alone, table.seconds, rtol=1e-6)
    assert chosen.name == NOTHING
    assert chosen.start is None


@pytest.mark.parametrize("n", [4, MIN_ROWS])
def test_as_few_rows_as_terms_always_take_something_of_the_other(clean, n):
    unlike = Law("physics_6", SAVED.plain_law.coefficients * 10.0 ** np.linspace(-2, 2, 6), clean.train_n)
    rows = rows_of(Table(clean.configs, unlike.seconds(clean.configs), clean.train_n), n)
    chosen = choose_start(rows, SAVED.plain_law, SAVED.time_model)
    assert chosen.name in (SIX_TERMS, WHOLE_MODEL)
    assert chosen.start is not None


def test_one_row_is_not_judged(clean):
    chosen = choose_start(rows_of(clean, 1), SAVED.plain_law, SAVED.time_model)
    assert np.isnan(chosen.validation.predicted[PHYSICS]).all()
