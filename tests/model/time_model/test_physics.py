"""The law: coefficients with units, recovered exactly, unmoved by a slow row, led by a prior where rows are few."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.table import load_agg
from epochcast.model.time_model.physics import (
    FORMS,
    GATE_MIN_ROWS,
    GROUPS,
    TERMS,
    Law,
    columns_of,
    fit_gated_law,
    fit_law,
    fit_law_from,
    outlier_rows,
)
from epochcast.model.time_model.time_model import Table
from epochcast.roofline.epoch_work import work_of_layers
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs
from epochcast.workload.shape import activation_bytes, count_params, forward_flop, layer_records, train_flop, work_of

GRID = [RunConfig(*c) for c in product((1, 2, 3, 4, 5), (8, 16, 32, 64, 128), (32, 48, 100, 256, 1024))]
TIME_FORMS = ("physics_6", "physics_8")
# of the reference table, by least squares outside this project: value and what it is a number of
KNOWN = {
    "per_epoch": (0.27, "s per epoch"),
    "per_step": (1.23, "ms per step"),
    "per_step_and_block": (0.29, "ms per step and block"),
    "per_param_step": (91.0, "ps per parameter and step"),
    "per_flop": (157.0, "TFLOP/s"),
    "per_activation_byte": (235.0, "GB/s of activations"),
}


@pytest.fixture
def steady(reference_data):
    """The reference table, stalls left out."""
    return Table.of(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows)


def made_up_law(form, seed, *, sparse=True, train_n=50_000):
    """A law whose terms take about as long as one another on GRID; some take no time at all if it is sparse."""
    random = np.random.default_rng(seed)
    share = random.uniform(0.1, 1, len(FORMS[form]))
    if sparse:
        share *= random.random(len(share)) < 0.7
        share[random.integers(len(share))] = 1.0
    return Law(form, share / columns_of(form, GRID, train_n).mean(axis=0), train_n)


def relative_difference(law, other, configs):
    return np.abs(law.seconds(configs) / other.seconds(configs) - 1)


def test_six_terms_read_on_the_reference_table_as_known(steady):
    law, _ = fit_gated_law("physics_6", steady.configs, steady.seconds, steady.train_n)
    readings = {name: words.split(" ", 1) for name, words in law.readings().items()}
    assert {name: unit for name, (_, unit) in readings.items()} == {name: unit for name, (_, unit) in KNOWN.items()}
    for name, (number, _) in readings.items():
        assert float(number) == pytest.approx(KNOWN[name][0], rel=0.03), name  # known to two or three digits


def test_a_coefficient_of_zero_reads_as_none_and_every_other_one_has_a_unit():
    for form in FORMS:
        silent = Law(form, np.zeros(len(FORMS[form])), 50_000)
        assert set(silent.readings().values()) == {"none"}
        readings = made_up_law(form, 0, sparse=False).readings()
        assert list(readings) == list(FORMS[form])
        assert all(any(letter.isalpha() for letter in words.split(" ", 1)[1]) for words in readings.values())


def test_columns_count_steps_blocks_and_images():
    (columns,) = columns_of("physics_8", [RunConfig(3, 32, 300)], 50_000)
    (of_half,) = columns_of("physics_8", [RunConfig(3, 32, 300)], 25_000)
    named, halved = (dict(zip(FORMS["physics_8"], values, strict=True)) for values in (columns, of_half))
    assert (named["per_epoch"], named["per_step"], named["per_step_and_block"]) == (1, 167, 3 * 167)  # ceil(50000/300)
    assert halved["per_step"] == 84
    assert named["per_flop"] == 2 * halved["per_flop"]
    assert named["per_activation_byte"] == 2 * halved["per_activation_byte"]
    assert named["per_step_flop"] * 50_000 == pytest.approx(167 * named["per_flop"])
    assert named["per_wide_flop"] == 0  # 128 channels in the last block
    assert columns_of("physics_6", [], 50_000).shape == (0, 6)


@pytest.mark.parametrize("config", [RunConfig(1, 8, 32), RunConfig(3, 32, 300), RunConfig(6, 128, 4096)])
def test_work_read_from_layers_is_the_closed_form_s(config):
    records = layer_records(config)
    work = work_of_layers(records, config.batch_size, 1_000)
    assert work == work_of(config, 1_000)
    assert (work.blocks, work.steps) == (config.depth, config.steps_per_epoch(1_000))
    assert work.params == count_params(config)
    assert work.train_flop == train_flop(config)
    assert work.forward_flop == forward_flop(config)
    assert work.activation_bytes == activation_bytes(config)


def test_an_optimizer_of_fewer_passes_counts_as_fewer_parameters():
    records = layer_records(RunConfig(2, 16))
    adam, sgd = (work_of_layers(records, 64, 1_000, passes) for passes in (7, 3))
    assert sgd.params * 7 == pytest.approx(adam.params * 3)  # rounding alone
    assert (sgd.steps, sgd.train_flop) == (adam.steps, adam.train_flop)


def test_a_law_tells_the_parts_of_a_work_as_of_its_configuration():
    law = made_up_law("physics_8", 4)
    for config in GRID[::17]:
        parts = law.parts_of(work_of(config, law.train_n))
        assert tuple(parts) == FORMS["physics_8"]
        np.testing.assert_array_equal(list(parts.values()), law.parts([config])[0])


@pytest.mark.parametrize("name", sorted({name for form in TIME_FORMS for name in FORMS[form]} - {"per_param_step"}))
def test_no_term_falls_when_the_network_grows(name):
    column = TERMS[name].column
    for filters, batch in product((8, 16, 32, 64, 128, 256), (16, 4096)):
        assert all(
            column(work_of(RunConfig(shallow, filters, batch), 50_000))
            <= column(work_of(RunConfig(deep, filters, batch), 50_000))
            for shallow, deep in pairwise(range(1, 7))
        )
    for depth, (narrow, wide) in product(range(1, 7), pairwise((8, 16, 32, 64, 128, 256))):
        assert column(work_of(RunConfig(depth, narrow, 64), 50_000)) <= column(
            work_of(RunConfig(depth, wide, 64), 50_000)
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(6))
def test_made_up_coefficients_are_recovered(form, seed):
    law = made_up_law(form, seed, train_n=(50_000, 1_000)[seed % 2])
    random = np.random.default_rng(seed)
    configs = [GRID[i] for i in random.choice(len(GRID), 60, replace=False)]
    fitted = fit_law(form, configs, law.seconds(configs), law.train_n)
    mean_column = columns_of(form, GRID, law.train_n).mean(axis=0)
    # seconds of a term on average, where the terms together take some: double precision, columns of a condition < 1e4
    np.testing.assert_allclose(fitted.coefficients * mean_column, law.coefficients * mean_column, atol=1e-9)
    assert (fitted.coefficients >= 0).all()


@pytest.mark.parametrize("form", TIME_FORMS)
def test_shares_of_the_groups_add_up_to_one(form):
    law = made_up_law(form, 1)
    shares = law.shares(GRID)
    assert tuple(shares) == GROUPS
    assert all((share >= 0).all() for share in shares.values())
    np.testing.assert_allclose(sum(shares.values()), 1, rtol=1e-12)  # double precision
    np.testing.assert_allclose(shares["input and host"] * law.seconds(GRID), law.coefficients[0], rtol=1e-12)


@pytest.mark.parametrize("form", TIME_FORMS)
def test_the_gate_drops_one_row_of_the_published_table_and_none_without_stalls(steady, reference_data, form):
    published = Table.of(load_agg(reference_data / "a100" / "runs_agg.csv").rows)
    _, disturbed = fit_gated_law(form, published.configs, published.seconds, published.train_n)
    assert [c for c, is_out in zip(published.configs, disturbed, strict=True) if is_out] == [RunConfig(3, 16, 512)]
    _, disturbed = fit_gated_law(form, steady.configs, steady.seconds, steady.train_n)
    assert not disturbed.any()


@pytest.mark.parametrize("form", TIME_FORMS)
@pytest.mark.parametrize("factor", [1.5, 2, 10])
def test_a_stalled_row_is_gated_and_moves_no_other_time_by_a_percent(steady, form, factor):
    undisturbed, _ = fit_gated_law(form, steady.configs, steady.seconds, steady.train_n)
    for row in range(4, len(steady), 29):
        seconds = steady.seconds.copy()
        seconds[row] *= factor
        law, disturbed = fit_gated_law(form, steady.configs, seconds, steady.train_n)
        assert list(np.flatnonzero(disturbed)) == [row]
        moved = relative_difference(law, undisturbed, steady.configs)
        assert moved[row] < 0.05
        assert np.delete(moved, row).max() < 0.01


@pytest.mark.parametrize("row", [20, 60, 100])
def test_a_slow_row_pulls_a_law_less_than_it_pulls_plain_least_squares(steady, row):
    slowed = steady.seconds.copy()
    slowed[row] *= 1.5
    columns = columns_of("physics_6", steady.configs, steady.train_n)

    def plain(seconds):
        coefficients, *_ = np.linalg.lstsq(columns / seconds[:, None], np.ones(len(seconds)), rcond=None)
        return Law("physics_6", coefficients, steady.train_n)

    def robust(seconds):
        return fit_law("physics_6", steady.configs, seconds, steady.train_n)

    pulled, pulled_plain = (
        relative_difference(fit(slowed), fit(steady.seconds), steady.configs).max() for fit in (robust, plain)
    )
    assert pulled < 0.5 * pulled_plain


def test_the_gate_leaves_short_tables_alone(steady):
    few = [steady.configs[i] for i in range(0, len(steady), 12)]
    seconds = steady.seconds[::12].copy()
    assert len(few) == GATE_MIN_ROWS == 12
    seconds[3] *= 10
    _, disturbed = fit_gated_law("physics_6", few, seconds, steady.train_n)
    assert list(np.flatnonzero(disturbed)) == [3]
    _, disturbed = fit_gated_law("physics_6", few[:11], seconds[:11], steady.train_n)
    assert not disturbed.any()


@pytest.mark.parametrize("seed", range(3))
def test_the_gate_widens_where_a_table_is_noisy(steady, seed):
    noise = np.random.default_rng(seed).normal(0, 0.15, len(steady))
    seconds = steady.seconds * np.exp(noise)
    law, disturbed = fit_gated_law("physics_6", steady.configs, seconds, steady.train_n)
    assert (np.log(seconds / law.seconds(steady.configs)) > 0.2).any()  # would be out of a table without noise
    assert not disturbed.any()
    seconds[60] *= 10
    _, disturbed = fit_gated_law("physics_6", steady.configs, seconds, steady.train_n)
    assert list(np.flatnonzero(disturbed)) == [60]


def test_a_row_is_disturbed_by_being_slower_never_by_being_faster():
    law = made_up_law("physics_6", 2)
    seconds = law.seconds(GRID)
    seconds[[5, 6, 7]] *= 0.5, 1.19, 1.3  # log 1.19 = 0.17, log 1.3 = 0.26; the gate is at 0.20
    assert list(np.flatnonzero(outlier_rows(law, GRID, seconds))) == [7]


@pytest.mark.parametrize("factor", [0.2, 1, 7])
@pytest.mark.parametrize("row", [0, 77, 124])
def test_one_row_and_another_device_s_law_give_that_law_in_proportion_through_the_row(row, factor):
    known = made_up_law("physics_6", 3, sparse=False)
    law = fit_law_from(known, [GRID[row]], factor * known.seconds([GRID[row]]))
    np.testing.assert_allclose(law.seconds(GRID), factor * known.seconds(GRID), rtol=1e-6)  # where iterations end


@pytest.mark.parametrize("seed", range(5))
def test_a_law_from_another_device_is_overruled_by_many_rows_and_led_by_few(seed):
    known, truth = (made_up_law("physics_6", s, sparse=False) for s in (seed, 100 + seed))
    errors = []
    for n in (1, 6, len(GRID)):
        rows = [GRID[i] for i in np.random.default_rng(seed).choice(len(GRID), n, replace=False)]
        law = fit_law_from(known, rows, truth.seconds(rows))
        np.testing.assert_allclose(law.seconds(rows), truth.seconds(rows), rtol=0.1)  # rows are known to 3 %
        errors.append(relative_difference(law, truth, GRID).mean())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_a_slow_row_among_few_hardly_pulls_a_law_from_another_device(steady):
    known = fit_law("physics_6", steady.configs, steady.seconds, steady.train_n)
    few = [steady.configs[i] for i in range(0, len(steady), 20)]
    seconds = 2 * known.seconds(few)
    undisturbed = fit_law_from(known, few, seconds)
    seconds[3] *= 2
    law = fit_law_from(known, few, seconds)
    assert relative_difference(law, undisturbed, steady.configs).max() < 0.1  # one of eight, by 100 %


def test_a_term_that_the_other_device_lacks_stays_out():
    truth = made_up_law("physics_6", 5, sparse=False)
    known = Law("physics_6", np.where(np.arange(6) == 2, 0, truth.coefficients), truth.train_n)
    assert fit_law_from(known, GRID, truth.seconds(GRID)).coefficients[2] == 0
