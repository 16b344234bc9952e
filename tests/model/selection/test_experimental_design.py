"""Which runs next: what the design chooses is new, repeatable, tells the most, and little of it goes a long way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.selection.experimental_design import (
    D_OPTIMAL_RUNS,
    KERNEL_LENGTH,
    KERNEL_NOISE,
    RIDGE,
    Field,
    guessed_law,
    information_rows,
    next_indices,
)
from epochcast.model.time_model.features import FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.physics import FORMS, Law, columns_of, fit_law
from epochcast.model.time_model.startup import FORM
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.recipes import LAW_ALONE, PHYSICS, fit_time_models
from epochcast.schema import DEFAULT_GRID, TRAIN_N, RunConfig
from epochcast.storage.tables import read_runs

STARTS = 15


def configs_of(grid):
    return [RunConfig(*values) for values in itertools.product(*grid.values())]


GRID = configs_of(DEFAULT_GRID)


def random_grid(seed):
    """A candidate grid and some of it measured, drawn at random."""
    draw = np.random.default_rng(seed)
    sizes = [2**k for k in range(3, 12)]
    grid = {
        "depth": draw.choice(range(1, 7), draw.integers(1, 5), replace=False).tolist(),
        "base_filters": draw.choice(sizes[:6], draw.integers(1, 5), replace=False).tolist(),
        "batch_size": draw.choice(sizes, draw.integers(2, 6), replace=False).tolist(),
    }
    candidates = configs_of(grid)
    return candidates, draw.permutation(len(candidates))[: draw.integers(0, len(candidates))].tolist()


# --- what is named ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_costs", [False, True], ids=["", "costs"])
@pytest.mark.parametrize("seed", range(20))
def test_nothing_measured_and_nothing_twice_is_named_and_the_same_again_for_the_same_question(seed, has_costs):
    candidates, measured = random_grid(seed)
    seconds = np.random.default_rng(seed).uniform(1, 100, len(candidates))
    costs = (lambda taken: seconds) if has_costs else None
    named = next_indices(candidates, measured, 12, TRAIN_N, costs)
    assert len(named) == min(12, len(candidates) - len(measured))
    assert len({*named, *measured}) == len(named) + len(measured)
    assert all(0 <= i < len(candidates) for i in named)
    assert next_indices(candidates, measured, 12, TRAIN_N, costs) == named
    assert next_indices(candidates, measured, 5, TRAIN_N, costs) == named[:5]


def test_where_the_grid_ends_fewer_are_named():
    assert sorted(next_indices(GRID[:9], [0, 4], 100, TRAIN_N)) == [1, 2, 3, 5, 6, 7, 8]
    assert next_indices(GRID[:3], [2, 0, 1], 7, TRAIN_N) == []
    assert next_indices(GRID[:1], [], 7, TRAIN_N) == [0]
    assert next_indices(GRID, [], 0, TRAIN_N) == []


def test_what_was_asked_stays_as_it_was():
    measured = [3, 1]
    next_indices(GRID, measured, 5, TRAIN_N)
    assert measured == [3, 1]


def test_named_one_at_a_time_they_are_the_same():
    measured = [5]
    for _ in range(12):
        measured += next_indices(GRID, measured, 1, TRAIN_N)
    assert measured[1:] == next_indices(GRID, [5], 12, TRAIN_N)


# --- the first seven -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [[], [0], [len(GRID) - 1], [37]], ids=str)
def test_the_first_seven_determine_every_coefficient_of_the_law(start):
    named = [*start, *next_indices(GRID, start, 7 - len(start), TRAIN_N)]
    assert D_OPTIMAL_RUNS == len(named) == 7
    rows = information_rows(GRID, TRAIN_N)
    # with a margin: the smallest of their singular values is 0.11 of the largest
    assert np.linalg.matrix_rank(rows[named], rtol=0.05) == len(FORMS[LAW_ALONE]) == 6
    assert np.linalg.matrix_rank(rows[:7], rtol=0.05) < 6  # which any seven do not


def test_a_start_is_the_greedy_d_optimal_one():
    rows = information_rows(GRID, TRAIN_N)
    assert rows.sum(axis=1) == pytest.approx(1)
    taken = []
    for named in next_indices(GRID, [], D_OPTIMAL_RUNS, TRAIN_N):
        log_det = [
            np.linalg.slogdet(RIDGE * np.eye(rows.shape[1]) + rows[[*taken, i]].T @ rows[[*taken, i]])[1]
            for i in range(len(GRID))
        ]
        assert log_det[named] == pytest.approx(max(log_det), rel=1e-9)
        taken.append(named)


# --- after them ------------------------------------------------------------------------------------------------------


def summed_variance(candidates, taken):
    """Variance that a Gaussian process leaves, summed over all candidates, by scikit-learn."""
    features = feature_matrix(candidates, FEATURE_NAMES, TRAIN_N)
    x = (features - features.mean(axis=0)) / features.std(axis=0)
    process = GaussianProcessRegressor(RBF(KERNEL_LENGTH, "fixed"), alpha=KERNEL_NOISE, optimizer=None)
    _, spread = process.fit(x[taken], np.zeros(len(taken))).predict(x, return_std=True)
    return float((spread**2).sum())


@pytest.mark.parametrize("n", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_each_later_run_lowers_the_summed_variance_and_no_other_would_lower_it_more(n):
    taken = next_indices(GRID, [], D_OPTIMAL_RUNS, TRAIN_N)
    last = summed_variance(GRID, taken)
    for named in next_indices(GRID, taken, n, TRAIN_N):
        left = {i: summed_variance(GRID, [*taken, i]) for i in range(len(GRID)) if i not in taken}
        assert left[named] == pytest.approx(min(left.values()), rel=1e-6)
        assert left[named] < last
        last = left[named]
        taken.append(named)


def test_later_runs_are_spread_wider_than_random_ones():
    start = next_indices(GRID, [], D_OPTIMAL_RUNS, TRAIN_N)
    designed = summed_variance(GRID, [*start, *next_indices(GRID, start, 8, TRAIN_N)])
    for seed in range(10):
        rest = np.random.default_rng(seed).permutation([i for i in range(len(GRID)) if i not in start])
        assert designed < summed_variance(GRID, [*start, *rest[:8]])


# --- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cheaper", [0, 1])
def test_of_two_that_tell_as_much_of_the_law_the_cheaper_is_named(cheaper):
    # two batches that both hold all images make the same one step
    candidates = [RunConfig(2, 16, 50_000), RunConfig(2, 16, 60_000), *GRID]
    seconds = np.full(len(candidates), 10.0)
    seconds[cheaper], seconds[1 - cheaper] = 1.0, 2.0
    assert next_indices(candidates, [], 1, TRAIN_N, lambda taken: seconds) == [cheaper]


@pytest.mark.parametrize("cheaper", [16, 64])
def test_of_two_that_lower_the_variance_as_much_the_cheaper_is_named(cheaper):
    batch_sizes = [2**k for k in range(4, 11)]
    middle = [RunConfig(2, 32, b) for b in batch_sizes]  # measured: the others lie the same on either side
    candidates = [*middle, *(RunConfig(2, f, b) for f in (16, 64) for b in batch_sizes)]
    seconds = np.array([1.0 if c.base_filters == cheaper else 1.5 for c in candidates])
    (named,) = next_indices(candidates, range(7), 1, TRAIN_N, lambda taken: seconds)
    assert candidates[named].base_filters == cheaper


@pytest.mark.parametrize("factor", [1e-3, 3.7, 3600.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_unit_of_the_costs_does_not_matter(seed, factor):
    seconds = np.random.default_rng(seed).uniform(1, 100, len(GRID))
    plain, scaled = (next_indices(GRID, [], 15, TRAIN_N, lambda taken, k=k: k * seconds) for k in (1.0, factor))
    assert plain == scaled
    assert plain != next_indices(GRID, [], 15, TRAIN_N)


def test_equal_costs_are_as_good_as_none():
    assert next_indices(GRID, [], 15, TRAIN_N, lambda taken: np.full(len(GRID), 42.0)) == next_indices(
        GRID, [], 15, TRAIN_N
    )


def test_costs_are_asked_for_again_with_every_run_that_is_named():
    asked = []

    def costs(taken):
        asked.append(list(taken))
        return np.ones(len(GRID))

    named = next_indices(GRID, [3], 4, TRAIN_N, costs)
    assert asked == [[3, *named[:k]] for k in range(4)]


# --- what still fits, and what is known ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_only_what_fits_is_named_and_nothing_more_once_nothing_does(seed):
    candidates, measured = random_grid(seed)
    seconds = np.random.default_rng(seed).uniform(1, 100, len(candidates))

    def fits(chosen):
        return seconds[chosen].sum() + seconds <= 150

    named = next_indices(candidates, measured, len(candidates), TRAIN_N, lambda taken: seconds, fits)
    assert seconds[named].sum() <= 150
    left = [i for i in range(len(candidates)) if i not in {*named, *measured}]
    assert all(seconds[named].sum() + seconds[i] > 150 for i in left)
    assert next_indices(candidates, measured, 5, TRAIN_N, None, lambda chosen: np.zeros(len(candidates), bool)) == []


def test_where_everything_fits_the_design_is_the_same():
    every = np.ones(len(GRID), bool)
    assert next_indices(GRID, [3], 9, TRAIN_N, None, lambda chosen: every) == next_indices(GRID, [3], 9, TRAIN_N)


@pytest.mark.parametrize("taken", [[0], [5, 17, 60], list(range(0, 96, 7))], ids=len)
def test_the_share_known_is_the_variance_that_the_process_no_longer_has(taken):
    left = summed_variance(GRID, taken) / len(GRID)  # before any run each has variance 1
    assert Field(GRID, taken, TRAIN_N).known == pytest.approx(1 - left, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_share_gained_is_what_a_run_adds_to_the_share_known_and_no_run_takes_any_away(seed):
    candidates, measured = random_grid(seed)
    gained, known = Field(candidates, measured, TRAIN_N).gains(), Field(candidates, measured, TRAIN_N).known
    assert gained.shape == (len(candidates),)
    assert (known == 0) == (not measured)
    assert (gained >= 0).all()
    for i in [i for i in range(len(candidates)) if i not in measured][:10]:
        assert Field(candidates, [*measured, i], TRAIN_N).known - known == pytest.approx(gained[i], abs=1e-9)
    assert 0.9 < Field(candidates, range(len(candidates)), TRAIN_N).known <= 1


# --- a law from little -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [LAW_ALONE, FORM])
@pytest.mark.parametrize("seconds", [1e-3, 2.0, 5e3])
def test_a_law_guessed_from_one_row_goes_about_through_it_and_is_above_zero_everywhere(form, seconds):
    wide = configs_of({"depth": (1, 3, 6), "base_filters": (8, 64, 256), "batch_size": (16, 256, 4096)})
    for config in GRID[::7]:
        law = guessed_law(form, [config], np.array([seconds]), TRAIN_N, GRID)
        assert law.seconds([config])[0] == pytest.approx(seconds, rel=0.01)  # "about": a weak prior may pull a little
        assert (law.coefficients > 0).all()
        assert (law.seconds(wide) > 0).all()
        assert np.isfinite(law.seconds(wide)).all()


def test_a_law_guessed_over_one_configuration_reaches_the_others():
    law = guessed_law(LAW_ALONE, GRID[:1], np.array([2.0]), TRAIN_N, GRID[:1])
    assert law.seconds(GRID[:1])[0] == pytest.approx(2.0, rel=0.01)
    assert (law.seconds(GRID) > 0).all()


@pytest.mark.parametrize("form", [LAW_ALONE, FORM])
def test_as_many_rows_as_terms_are_fitted_and_no_longer_guessed(form):
    draw = np.random.default_rng(3)
    true = Law(form, draw.uniform(0.5, 2, len(FORMS[form])) / columns_of(form, GRID, TRAIN_N).mean(axis=0), TRAIN_N)
    order = next_indices(GRID, [], 2 * len(FORMS[form]), TRAIN_N)
    for n in (len(FORMS[form]) - 1, len(FORMS[form]), 2 * len(FORMS[form])):
        own = [GRID[i] for i in order[:n]]
        law = guessed_law(form, own, true.seconds(own), TRAIN_N, GRID)
        fitted = fit_law(form, own, true.seconds(own), TRAIN_N)
        assert (law.coefficients == fitted.coefficients).all() == (n >= len(FORMS[form]))
    np.testing.assert_allclose(law.seconds(GRID), true.seconds(GRID), rtol=1e-6)  # rows that are a law exactly


# --- on the reference measurements -----------------------------------------------------------------------------------


@pytest.fixture
def a100(reference_data):
    """Averages of the reference A100, stalls left out."""
    return aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows


def error_on_the_rest(table, order):
    """MAPE of the law alone, learned from these rows, on all others."""
    mask = np.zeros(len(table), bool)
    mask[list(order)] = True
    (model,) = fit_time_models(PHYSICS, table, mask[None], 0)
    rest = table.take(~mask)
    return float(np.mean(np.abs(model.times(rest.configs) / rest.seconds - 1)))


def test_seven_designed_runs_predict_the_rest_to_three_percent_wherever_they_begin_and_better_than_random_ones(a100):
    table = Table.of(a100)
    designed, by_chance = [], []
    for seed in range(STARTS):
        chance = np.random.default_rng(seed).permutation(len(table))[:7]
        start = int(np.random.default_rng(seed).integers(len(table)))
        designed.append(error_on_the_rest(table, [start, *next_indices(table.configs, [start], 6, table.train_n)]))
        by_chance.append(error_on_the_rest(table, chance))
    assert max(designed) <= 0.03
    assert max(designed) < min(by_chance)
    assert np.mean(designed) < np.mean(by_chance) / 2


def test_with_costs_told_from_the_rows_so_far_seven_runs_take_less_time_and_still_predict(a100):
    """Runs of three epochs; the claim is 4 % in the worst case."""
    table = Table.of(a100)
    configs, train_n = table.configs, table.train_n
    first = np.array([row.first_epoch_sec_mean for row in a100])

    def guessed(taken):
        own = [configs[i] for i in taken]
        steady = guessed_law(LAW_ALONE, own, table.seconds[taken], train_n, configs).seconds(configs)
        excess = guessed_law(FORM, own, (first - table.seconds)[taken], train_n, configs).seconds(configs)
        return 16.2 + excess + 3 * steady

    spent = {None: [], guessed: []}
    for seed in range(STARTS):
        start = int(np.random.default_rng(seed).integers(len(table)))
        for costs, seconds in spent.items():
            order = [start, *next_indices(configs, [start], 6, train_n, costs)]
            seconds.append(float((16.2 + first + 2 * table.seconds)[order].sum()))
            if costs is not None:
                assert error_on_the_rest(table, order) <= 0.04
    assert np.mean(spent[guessed]) < 0.75 * np.mean(spent[None])
