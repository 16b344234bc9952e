"""Predictions for configurations that a model has not seen: splits, what is kept out, lists that name it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import (
    cross_validate,
    forms_for,
    kept_out,
    require_distinct,
    require_enough,
    rows_sha256,
)
from epochcast.model.training.recipes import PHYSICS, PHYSICS_ANN, REFERENCE_ANN
from epochcast.model.training.splits import NETWORK_MIN_ROWS, fold_masks, folds_for
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs
from tests.support.rows import CONFIGS, ROWS

# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "folds", "repeats"), [(5, 5, 1), (7, 5, 3), (143, 5, 2), (6, 2, 4), (19, 19, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_configuration_is_in_the_test_part_exactly_once_per_repeat(n, folds, repeats, seed):
    masks = fold_masks(n, folds, repeats, seed)
    assert masks.shape == (repeats * folds, n)
    in_test = (~masks).reshape(repeats, folds, n)
    assert (in_test.sum(axis=1) == 1).all()
    sizes = in_test.sum(axis=2)
    assert sizes.max() - sizes.min() <= 1


def test_splits_repeat_for_a_seed_and_differ_between_repeats_and_seeds():
    masks = fold_masks(20, 5, 2, 0)
    np.testing.assert_array_equal(masks, fold_masks(20, 5, 2, 0))
    assert not np.array_equal(masks[:5], masks[5:])
    assert not np.array_equal(masks, fold_masks(20, 5, 2, 1))


def test_few_rows_are_left_out_one_at_a_time_and_take_the_law_alone():
    assert [folds_for(n) for n in (6, 19, 20, 143)] == [6, 19, 5, 5]
    assert [forms_for(PHYSICS_ANN, n) for n in (6, 19)] == [[PHYSICS], [PHYSICS]]
    assert set(forms_for(PHYSICS_ANN, NETWORK_MIN_ROWS)) == {PHYSICS, PHYSICS_ANN}
    assert [forms_for(REFERENCE_ANN, n) for n in (6, 143)] == [[REFERENCE_ANN], [REFERENCE_ANN]]


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(reference_data):
    return aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows


def test_on_the_a100_table_the_law_alone_beats_the_linear_law_and_errors_vary_little_between_repeats(rows):
    result = cross_validate(Table.of(rows), [PHYSICS], repeats=2, baselines=["linear_on_logs"])
    assert (len(result.table), result.folds, result.split) == (143, 5, "5-fold by configuration")
    assert np.isfinite(result.predicted[PHYSICS]).all()
    first, second = (m.mape for m in result.metrics(PHYSICS))
    assert first == pytest.approx(second, rel=0.2)
    assert result.mape(PHYSICS) == pytest.approx((first + second) / 2, rel=1e-12)  # order of sums
    assert result.mape(PHYSICS) < 0.03 < 0.1 < result.mape("linear_on_logs")  # 2.2 % and 17 %


def test_a_row_s_own_time_has_no_part_in_what_is_predicted_for_it(rows):
    few = Table.of(rows[::8])
    slower = few.seconds.copy()
    slower[4] *= 10
    names = [PHYSICS, "linear_on_logs", "affine_in_steps"]
    before, after = (
        cross_validate(Table(few.configs, seconds, few.train_n), [PHYSICS], baselines=names[1:])
        for seconds in (few.seconds, slower)
    )
    assert before.folds == len(few)
    assert before.split == "leave-one-out"
    for name in names:
        np.testing.assert_array_equal(before.predicted[name][:, 4], after.predicted[name][:, 4])
    assert not np.isclose(before.predicted[PHYSICS], after.predicted[PHYSICS])[:, :4].all()


def test_leaving_one_out_has_one_order_and_so_one_repeat(rows):
    few = Table.of(rows[::8])
    once, thrice = cross_validate(few, [PHYSICS], repeats=1), cross_validate(few, [PHYSICS], repeats=3, seed=9)
    assert once.predicted[PHYSICS].shape == (1, len(few))
    np.testing.assert_array_equal(once.predicted[PHYSICS], thrice.predicted[PHYSICS])


def test_each_row_is_numbered_with_the_fold_that_it_was_predicted_in(rows):
    result = cross_validate(Table.of(rows), [PHYSICS], repeats=2)
    numbers = result.fold_numbers()
    assert numbers.shape == (2, 143)
    masks = result.masks.reshape(2, 5, 143)
    for repeat in range(2):
        for row, fold in enumerate(numbers[repeat]):
            assert not masks[repeat, fold, row]


def test_derived_throughput_is_judged_as_images_over_time(rows):
    result = cross_validate(Table.of(rows[::8]), [PHYSICS])
    (errors,) = result.metrics(PHYSICS, as_throughput=True)
    predicted, measured = (50_000 / s for s in (result.predicted[PHYSICS][0], result.table.seconds))
    assert errors.mae == pytest.approx(np.abs(predicted - measured).mean(), rel=1e-12)  # order of sums


# --- what is refused, what is kept out --------------------------------------------------------------------------------

TABLE = Table.of(ROWS)
TOO_FEW = (
    r"^5 configurations are too few to learn from: measure at least 6; epochcast next_runs names them, "
    r"and --start_from another device's model takes fewer\.$"
)


def test_too_few_configurations_are_refused_with_what_to_measure():
    with pytest.raises(ValueError, match=TOO_FEW):
        cross_validate(Table.of(ROWS[:5]), [PHYSICS])
    require_enough(CONFIGS)


def test_keeping_configurations_out_counts_towards_too_few():
    with pytest.raises(ValueError, match=TOO_FEW):
        kept_out(TABLE, CONFIGS[:1])


def test_a_configuration_in_two_rows_is_refused():
    with pytest.raises(ValueError, match="stands in two rows: aggregate the runs first"):
        cross_validate(Table.of([*ROWS, replace(ROWS[0], avg_time_mean=9.0)]), [PHYSICS])


@pytest.mark.parametrize("require", [require_distinct, require_enough])
@pytest.mark.parametrize(
    ("configs", "said"),
    [
        ([], r"^no configuration is left to learn from\.$"),
        ([*CONFIGS, CONFIGS[3]], r"^a configuration stands in two rows: aggregate the runs first\.$"),
        (CONFIGS[:1] * 2, r"^a configuration stands in two rows: aggregate the runs first\.$"),
    ],
    ids=["none", "twice", "one twice"],
)
def test_none_or_one_in_two_rows_is_refused_however_few_are_enough(require, configs, said):
    with pytest.raises(ValueError, match=said):
        require(configs)


def test_one_configuration_is_distinct():
    require_distinct(CONFIGS[:1])


def test_what_is_kept_out_leaves_the_others_in_their_order(rows):
    table = Table.of(rows)
    unseen = [table.configs[7], table.configs[2], RunConfig(9, 9, 9)]  # the last was never measured
    rest, is_in = kept_out(table, unseen)
    assert rest.configs == [c for c in table.configs if c not in unseen]
    np.testing.assert_array_equal(rest.seconds, np.delete(table.seconds, [2, 7]))
    assert np.flatnonzero(~is_in).tolist() == [2, 7]


def test_the_hash_of_rows_knows_no_order_but_every_time_and_configuration():
    assert rows_sha256(ROWS) == rows_sha256(ROWS[::-1])
    slower = replace(ROWS[0], avg_time_mean=float(np.nextafter(ROWS[0].avg_time_mean, 99)))
    others = [ROWS[1:], [slower, *ROWS[1:]], [replace(ROWS[0], batch_size=65), *ROWS[1:]]]
    assert len({rows_sha256(rows) for rows in (ROWS, *others)}) == 4
