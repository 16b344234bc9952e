"""Intervals: the coverage that they promise, and where the measured range ends."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from epochcast.model.time_model.intervals import (
    BEYOND,
    FAR,
    WITHIN,
    Range,
    Widths,
    beyond_half_width,
    conformal_half_width,
    half_width_sds,
)
from epochcast.schema import RunConfig

# --- half-widths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_a_conformal_width_holds_each_error_left_out_of_it_as_often_as_promised(seed, coverage):
    random = np.random.default_rng(seed)
    errors = random.exponential(size=random.integers(12, 60))
    held = []
    for i in range(len(errors)):
        half = conformal_half_width(np.delete(errors, i), coverage)
        held.append(half is not None and errors[i] <= half)
    n = len(errors)
    assert coverage <= np.mean(held) + 1e-9
    assert np.mean(held) < coverage + 1 / n + 1e-9  # no wider than it must be: one error more


@pytest.mark.parametrize("n", [9, 10, 19, 30, 143])
def test_a_new_error_of_the_same_kind_is_below_the_width_nine_times_in_ten(n):
    draws = np.random.default_rng(n).lognormal(size=(4_000, n + 1))
    held = np.mean([errors[-1] <= conformal_half_width(errors[:-1]) for errors in draws])
    sampling = 4 * math.sqrt(0.9 * 0.1 / len(draws))  # four standard deviations of a share of 4,000 draws
    assert 0.9 - sampling <= held <= 0.9 + 1 / (n + 1) + sampling


@pytest.mark.parametrize("n", range(9))
def test_fewer_than_nine_errors_have_no_90_percent_width(n):
    assert conformal_half_width(np.full(n, 0.1)) is None


def test_nine_errors_have_the_largest_as_their_width():
    assert conformal_half_width(np.array([3.0, 9, 1, 4, 2, 8, 5, 7, 6])) == 9.0


@pytest.mark.parametrize("seed", range(30))
def test_the_width_beyond_the_range_is_never_the_narrower_one_and_holds_95_percent_of_its_errors(seed):
    random = np.random.default_rng(seed)
    errors, within = random.exponential(size=random.integers(9, 80)), float(random.exponential())
    beyond = beyond_half_width(errors, within)
    assert beyond >= within
    assert np.mean(errors <= beyond) >= 0.95
    assert beyond == within or beyond in errors


@pytest.mark.parametrize("n", range(9))
def test_fewer_than_nine_errors_of_left_out_levels_tell_nothing_beyond(n):
    assert beyond_half_width(np.full(n, 0.2), 0.1) is None
    assert beyond_half_width(np.full(9, 0.2), 0.1) == 0.2


def test_beyond_the_range_nothing_is_known_without_a_width_within():
    assert beyond_half_width(np.full(20, 0.2), None) is None


def test_a_width_is_known_within_and_beyond_but_not_far_away():
    widths = Widths(0.01, 0.08, 20, 10)
    assert [widths.of(domain) for domain in (WITHIN, BEYOND, FAR)] == [0.01, 0.08, None]
    assert [Widths(None, None, 3).of(domain) for domain in (WITHIN, BEYOND, FAR)] == [None] * 3


def test_where_no_range_is_known_the_reason_says_how_many_more_configurations_give_one():
    known = Widths(0.01, 0.08, 20, 10, AXES, 40)
    assert [known.why_unknown(domain) for domain in (WITHIN, BEYOND)] == ["", ""]
    assert known.why_unknown(FAR) == "no range is known there"  # no number of measurements gives one
    few = Widths(None, None, 7, 1, AXES, 1)
    assert few.why_unknown(WITHIN) == "range unknown; 2 more configurations give a range"
    assert (
        few.why_unknown(FAR) == "no range is known there; 2 more configurations give a range within what was measured"
    )
    for widths, n in ((few, 8), (Widths(0.1, None, 9, 1, AXES, 1), 8), (Widths(0.1, None, 12, 3, AXES, 8), 1)):
        more = f"{n} more configuration{'s give' if n > 1 else ' gives'} a range there"
        assert widths.why_unknown(BEYOND) == f"range unknown; {more}, of the smallest and largest values"
    assert Widths(0.1, None, 9, 1, AXES).why_unknown(BEYOND) == "range unknown"  # nobody counted


# --- the measured range -----------------------------------------------------------------------------------------------

RANGE = Range((2, 5), (16, 128), (32, 2048))
AXES = ("depth", "base_filters", "batch_size")
NEAR = {"depth": (1, 6), "base_filters": (8, 256), "batch_size": (16, 4096)}  # the last values a step outside


def test_the_range_is_the_lowest_and_the_highest_of_each_axis():
    configs = [RunConfig(3, 64, 32), RunConfig(2, 128, 256), RunConfig(5, 16, 2048)]
    assert Range.of(configs) == RANGE
    assert RANGE.to_json() == {"depth": [2, 5], "base_filters": [16, 128], "batch_size": [32, 2048]}


@pytest.mark.parametrize("config", [(2, 16, 32), (5, 128, 2048), (3, 48, 100)])
def test_what_lies_in_the_box_with_its_border_is_within(config):
    assert RANGE.domain(RunConfig(*config), AXES) == RANGE.domain(RunConfig(*config), ()) == WITHIN
    assert RANGE.outside(RunConfig(*config)) == []


@pytest.mark.parametrize(("axis", "value"), [(axis, value) for axis, values in NEAR.items() for value in values])
def test_one_axis_a_block_or_a_factor_of_two_outside_is_beyond_if_its_edge_levels_were_left_out(axis, value):
    config = replace(RunConfig(3, 64, 64), **{axis: value})
    assert RANGE.domain(config, AXES) == RANGE.domain(config, (axis,)) == BEYOND
    assert RANGE.domain(config, set(AXES) - {axis}) == RANGE.domain(config, ()) == FAR
    assert len(RANGE.outside(config)) == 1


@pytest.mark.parametrize("config", [(7, 64, 64), (3, 7, 64), (3, 257, 64), (3, 32, 15), (3, 32, 4097), (6, 512, 64)])
def test_further_outside_on_any_axis_is_far(config):
    assert RANGE.domain(RunConfig(*config), AXES) == FAR


@pytest.mark.parametrize("axes", [*combinations(AXES, 2), AXES])
def test_two_axes_or_more_a_step_outside_at_once_are_far(axes):
    for values in product(*(NEAR[axis] for axis in axes)):
        config = replace(RunConfig(3, 64, 64), **dict(zip(axes, values, strict=True)))
        assert RANGE.domain(config, AXES) == FAR
        assert len(RANGE.outside(config)) == len(axes)


def test_each_axis_outside_is_named():
    assert RANGE.outside(RunConfig(6, 256, 16)) == [
        "depth 6 was never measured (2 to 5 were)",
        "base_filters 256 was never measured (16 to 128 were)",
        "batch_size 16 was never measured (32 to 2048 were)",
    ]


# --- widths and edges that other code relies on -----------------------------------------------------------------------


@pytest.mark.parametrize(("coverage", "sds"), [(0.6826895, 1.0), (0.9, 1.6448536), (0.9544997, 2.0)])
def test_an_interval_of_normal_errors_reaches_as_many_standard_deviations_as_its_coverage_takes(coverage, sds):
    assert half_width_sds(coverage) == pytest.approx(sds, abs=1e-6)  # of any table of the normal distribution


def test_widths_times_a_factor_scale_what_is_known_and_keep_the_rest():
    known = Widths(0.01, 0.08, 20, 10, AXES, 40)
    assert known.times(3) == Widths(0.03, 0.24, 20, 10, AXES, 40)
    for unknown in (Widths(None, 0.08, 3, 1), Widths(0.01, None, 3, 1), Widths(None, None, 3)):
        doubled = unknown.times(2)
        assert [half is None for half in (doubled.within, doubled.beyond)] == [
            half is None for half in (unknown.within, unknown.beyond)
        ]


def test_where_enough_configurations_gave_no_range_none_more_are_asked_for():
    assert Widths(None, None, 9).why_unknown(WITHIN) == "range unknown"
    assert Widths(None, None, 9).why_unknown(FAR) == "no range is known there"
    for n_level_errors in (9, 10):
        assert Widths(0.1, None, 9, 1, AXES, n_level_errors).why_unknown(BEYOND) == "range unknown"


def test_two_blocks_fewer_than_were_measured_are_far():
    measured = Range((3, 5), (16, 128), (32, 2048))
    assert [measured.domain(RunConfig(depth, 64, 64), AXES) for depth in (1, 2)] == [FAR, BEYOND]


def test_a_range_read_from_its_json_is_the_same():
    assert Range.from_json(RANGE.to_json()) == RANGE
