"""Predictions for configurations that a model has not seen: splits, what is kept out, lists that name it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rows import CONFIGS, ROWS

from aggregate.runs_agg import aggregate
from epochcast.schema import RunConfig
from epochcast.tables import read_runs
from model.cross_validation import (
    ANN,
    cross_validate,
    evaluate_unseen,
    fold_masks,
    read_config_list,
    require_enough,
)

# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "folds", "repeats"), [(5, 5, 1), (7, 5, 3), (143, 5, 2), (6, 2, 4)])
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


# --- predictions ------------------------------------------------------------------------------------------------------


def test_on_the_a100_table_the_network_is_within_two_percent_and_beats_the_linear_law(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    result = cross_validate(rows, repeats=1)
    assert (len(result.configs), result.folds) == (143, 5)
    assert np.isfinite(result.predicted[ANN]).all()
    (ann,), (linear,) = (result.metrics(name, as_throughput=False) for name in (ANN, "linear_on_logs"))
    assert ann.n == linear.n == 143
    assert ann.mape < 0.02
    assert ann.mape < linear.mape


@pytest.mark.parametrize("function", [lambda rows: cross_validate(rows), lambda rows: evaluate_unseen(rows, [])])
def test_too_few_configurations_are_refused_with_what_to_measure(function):
    with pytest.raises(ValueError, match=r"^4 configurations are too few .* measure at least 5, .*run_grid\.py"):
        function(ROWS[:4])


def test_keeping_configurations_out_counts_towards_too_few():
    with pytest.raises(ValueError, match=r"^4 configurations are too few"):
        evaluate_unseen(ROWS, CONFIGS[:2])


def test_a_configuration_in_two_rows_is_refused():
    with pytest.raises(ValueError, match="stands in two rows: aggregate the runs first"):
        cross_validate([*ROWS, replace(ROWS[0], avg_time_mean=9.0)])
    require_enough(CONFIGS[:5])


# --- lists of configurations ------------------------------------------------------------------------------------------


def write(tmp_path, text):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_list_is_read_in_order_each_once_further_columns_ignored(tmp_path):
    text = "\ufeffbatch_size,note,depth,base_filters\r\n64,a,2,16\r\n\r\n128,b,3,32\r\n64,c,2,16\r\n"
    assert read_config_list(write(tmp_path, text)) == [RunConfig(2, 16, 64), RunConfig(3, 32, 128)]


HEADER = "depth,base_filters,batch_size\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth,base_filters\n2,16\n", "list.csv:2: expected the columns depth, base_filters, batch_size."),
        (f"{HEADER}2,16,64\n2,16\n", "list.csv:3: expected the columns"),
        (f"{HEADER}2,16,x\n", "list.csv:2: invalid literal for int() with base 10: 'x'"),
        (f"{HEADER}2,16,64\n\n2,0,64\n", "list.csv:4: RunConfig.base_filters must be a whole number of at least 1"),
        (HEADER, "list.csv: no configuration in the file."),
        ("", "list.csv: no configuration in the file."),
        (f"{HEADER}2,16,64\n".encode("utf-16"), "list.csv: not UTF-8 text (byte 0)."),
    ],
)
def test_a_bad_list_is_refused_with_file_and_line(tmp_path, text, said):
    with pytest.raises(ValueError) as caught:
        read_config_list(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/{said}")


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read_config_list(tmp_path / "none.csv")
    assert caught.value.filename == str(tmp_path / "none.csv")
