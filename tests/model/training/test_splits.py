"""Left-out levels: which rows each one holds, and where leaving it out makes the rest a smaller box."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.training.splits import edge_axes, levels_of
from epochcast.schema import RunConfig
from epochcast.storage.tables import read_runs

A100_LEVELS = {  # rows, and whether it is an edge
    "depth 2": (41, True),
    "depth 3": (41, False),
    "depth 4": (35, False),
    "depth 5": (26, True),
    "base_filters 16": (40, True),
    "base_filters 32": (40, False),
    "base_filters 64": (37, False),
    "base_filters 128": (26, True),
    "batch_size <= 48": (17, True),
    "batch_size >= 1536": (25, True),
}


def random_configs(seed, n=30):
    random = np.random.default_rng(seed)
    axes = [(1, 2, 3, 4), (8, 16, 32), (16, 24, 32, 64, 100, 512, 700)]
    return [RunConfig(*(int(random.choice(values)) for values in axes)) for _ in range(n)]


def test_the_a100_table_has_ten_levels(reference_data):
    configs = [row.config for row in aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows]
    levels = levels_of(configs)
    assert {level.label: (int(level.mask.sum()), level.is_edge) for level in levels} == A100_LEVELS
    assert [level.axis for level in levels] == ["depth"] * 4 + ["base_filters"] * 4 + ["batch_size"] * 2


@pytest.mark.parametrize("seed", range(10))
def test_depths_and_widths_share_the_rows_out_and_batch_sizes_do_not_overlap(seed):
    configs = random_configs(seed)
    levels = levels_of(configs, min_rest=0)
    for axis in ("depth", "base_filters"):
        own = [level for level in levels if level.axis == axis]
        np.testing.assert_array_equal(sum(level.mask.astype(int) for level in own), 1)
        for level in own:
            (value,) = {getattr(c, axis) for c, is_in in zip(configs, level.mask, strict=True) if is_in}
            assert level.label == f"{axis} {value}"
    small, large = (level.mask for level in levels if level.axis == "batch_size")
    assert small.any() and large.any() and not (small & large).any()


@pytest.mark.parametrize("seed", range(10))
def test_an_edge_is_a_level_without_which_the_rest_is_a_smaller_box(seed):
    configs = random_configs(seed)
    features = np.array([[c.depth, c.base_filters, c.batch_size] for c in configs])
    for level in levels_of(configs):
        rest = features[~level.mask]
        is_smaller = (rest.min(axis=0) > features.min(axis=0)) | (rest.max(axis=0) < features.max(axis=0))
        axis = ("depth", "base_filters", "batch_size").index(level.axis)
        assert is_smaller[axis] == level.is_edge


@pytest.mark.parametrize("min_rest", [0, 6, 20, 25, 31])
def test_every_level_leaves_enough_rows_and_no_other_level_is_missing(min_rest):
    configs = random_configs(0)
    kept = {level.label for level in levels_of(configs, min_rest)}
    expected = {level.label for level in levels_of(configs, 0) if (~level.mask).sum() >= min_rest}
    assert kept == expected
    assert bool(kept) == (min_rest < 31)


def test_six_rows_are_left_unless_another_number_is_asked_for():
    configs = [RunConfig(2, 16, b) for b in (64, 128, 256, 512, 1024, 2048)]
    assert [level.label for level in levels_of([*configs, RunConfig(3, 16, 256)])] == [
        "depth 3",
        "batch_size <= 64",
        "batch_size >= 2048",
    ]


@pytest.mark.parametrize("axis", ["depth", "base_filters", "batch_size"])
def test_an_axis_with_one_value_has_no_level(axis):
    values = {"depth": (2, 3), "base_filters": (16, 32), "batch_size": (32, 64)} | {axis: (4,)}
    configs = [RunConfig(*c) for c in product(*values.values())] * 4
    assert {level.axis for level in levels_of(configs)} == set(values) - {axis}
    assert edge_axes(levels_of(configs)) == tuple(name for name in values if name != axis)


def test_an_axis_of_which_only_a_middle_value_can_be_left_out_is_no_edge_axis():
    configs = [RunConfig(d, 16, 64) for d in (2,) * 5 + (3,) + (4,) * 5]
    assert [level.label for level in levels_of(configs, min_rest=7)] == ["depth 3"]
    assert edge_axes(levels_of(configs, min_rest=7)) == ()
    assert edge_axes(levels_of(configs, min_rest=6)) == ("depth",)  # depth 2 and depth 4 can be spared too


def test_batch_sizes_within_a_factor_of_two_and_a_quarter_of_each_other_have_no_level():
    close = [RunConfig(2, 16, b) for b in (64, 96, 100, 128)] * 4  # 1.5 up from 64 and 1.5 down from 128 overlap
    apart = [RunConfig(2, 16, b) for b in (64, 96, 100, 151)] * 4
    assert levels_of(close) == []
    assert [level.label for level in levels_of(apart)] == ["batch_size <= 96", "batch_size >= 151"]
