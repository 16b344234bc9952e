"""Learning curves: on rows not measured, over several orders, and none of a table too small to spare rows."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.evaluation import learning_curves as module
from epochcast.model.evaluation.learning_curves import MIN_REST, ORDERS, learning_curves
from epochcast.model.time_model.physics import MIN_ROWS, Law
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import cross_validate, forms_for
from epochcast.model.training.recipes import fit_time_models
from epochcast.paths import CODE_ROOT
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs

GRID = [RunConfig(d, f, b) for d in (2, 3, 5) for f in (16, 64) for b in (64, 256, 1024)]
LAW = Law("physics_6", np.array([0.3, 1e-3, 3e-4, 9e-11, 6e-15, 4e-12]), 50_000)


@pytest.fixture
def table(reference_data):
    """Nineteen of the reference rows: no network is trained on so few."""
    return Table.of(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows[::8][:19])


def test_each_design_has_a_point_for_each_size_that_leaves_enough_rows(table):
    points = learning_curves(table)
    sizes = [6, 7, 8, 10, 12]
    assert max(sizes) <= len(table) - MIN_REST < 16
    assert sorted((p.design, p.n) for p in points) == sorted((d, n) for d in ("designed", "random") for n in sizes)
    for point in points:
        assert point.orders == ORDERS
        assert 0 < point.mape_mean <= point.mape_worst


def test_designed_runs_teach_more_than_random_ones(table):
    points = {(p.design, p.n): p for p in learning_curves(table)}
    sizes = {n for _, n in points}
    mean = {d: np.mean([points[d, n].mape_mean for n in sizes]) for d in ("designed", "random")}
    assert mean["designed"] < mean["random"]


def test_a_table_too_small_to_spare_rows_has_no_curve():
    seconds = LAW.seconds(GRID)
    for n in range(1, MIN_ROWS + MIN_REST):
        assert learning_curves(Table(GRID[:n], seconds[:n], 50_000)) == []
    assert learning_curves(Table(GRID[:10], seconds[:10], 50_000)) != []


def test_what_follows_the_law_exactly_is_known_after_seven_designed_runs():
    points = learning_curves(Table(GRID, LAW.seconds(GRID), 50_000))
    assert max(p.mape_worst for p in points if p.design == "designed" and p.n >= 7) < 1e-3  # six coefficients


def test_curves_repeat_for_a_seed_and_differ_between_seeds(table):
    assert learning_curves(table, seed=1) == learning_curves(table, seed=1) != learning_curves(table, seed=2)


@pytest.mark.slow
def test_from_twenty_rows_on_the_error_is_of_the_form_that_train_would_choose(monkeypatch):
    """On the shipped rows of a processor, where a network predicts worse than the law alone."""
    monkeypatch.setattr(
        "epochcast.model.training.time_ann.STEPS", 200
    )  # which form is chosen, not how good a network becomes
    monkeypatch.setattr(module, "SIZES", (16, 20))
    monkeypatch.setattr(module, "ORDERS", 1)
    monkeypatch.setattr(module, "NETWORK_ORDERS", 1)
    table = Table.of(aggregate(read_runs(CODE_ROOT / "results" / "cpu" / "tensorflow" / "runs.csv")).rows)
    said = []
    points = {(p.design, p.n): p for p in learning_curves(table, 0, said.append)}
    assert said[-1] == 1.0
    measured = np.zeros(len(table), bool)
    measured[np.random.default_rng(0).permutation(len(table))[:20]] = True
    form = cross_validate(table.take(measured), forms_for("physics_ann", 20), repeats=1).best_form
    (model,), rest = fit_time_models(form, table, measured[None, :], 0), table.take(~measured)
    error = float(np.mean(np.abs(model.times(rest.configs) / rest.seconds - 1)))
    assert points["random", 20].mape_mean == pytest.approx(error, rel=1e-3)  # networks trained together round otherwise
    assert points["random", 20].orders == 1
    assert max(p.mape_mean for p in points.values()) < 0.35


def test_progress_is_not_told_where_no_network_is_trained(table):
    said = []
    learning_curves(table, say=said.append)
    assert said == []
