"""A value with the ends of what is known of it: sums, products, spreads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from epochcast.interval import Interval, total

UNKNOWN = Interval(2.0)


def ends(interval):
    return (interval.value, interval.low, interval.high)


def test_an_interval_of_logs_is_a_factor_either_way():
    assert ends(Interval.of_log(2.0, math.log(1.25))) == pytest.approx((2.0, 1.6, 2.5), rel=1e-12)  # exp of log
    assert Interval.of_log(2.0, None) == UNKNOWN


def test_an_interval_of_seconds_or_of_a_share_never_ends_below_zero():
    assert Interval.of_absolute(2.0, 0.5) == Interval(2.0, 1.5, 2.5)
    assert Interval.of_absolute(2.0, 3.0) == Interval(2.0, 0.0, 5.0)
    assert Interval.of_relative(2.0, 0.25) == Interval(2.0, 1.5, 2.5)
    assert Interval.of_relative(2.0, 1.5) == Interval(2.0, 0.0, 5.0)
    assert Interval.of_relative(2.0, None) == Interval.of_absolute(2.0, None) == UNKNOWN


def test_a_multiple_has_multiples_of_both_ends():
    assert Interval(2.0, 1.5, 3.0).times(4) == Interval(8.0, 6.0, 12.0)
    assert UNKNOWN.times(4) == Interval(8.0)


def test_an_inverse_swaps_the_ends():
    assert Interval(2.0, 1.0, 4.0).inverse(8.0) == Interval(4.0, 2.0, 8.0)
    assert UNKNOWN.inverse(8.0) == Interval(4.0)


@pytest.mark.parametrize("seed", range(20))
def test_a_total_s_half_widths_are_the_root_of_the_parts_squares_above_and_below_by_themselves(seed):
    random = np.random.default_rng(seed)
    parts = [Interval(v, v - low, v + high) for v, low, high in random.uniform(0, 5, (random.integers(1, 6), 3))]
    whole = total(parts)
    assert whole.value == pytest.approx(sum(p.value for p in parts), rel=1e-12)  # order of sums
    below, above = (whole.value - whole.low) ** 2, (whole.high - whole.value) ** 2
    assert below == pytest.approx(sum((p.value - p.low) ** 2 for p in parts), rel=1e-9)  # of differences
    assert above == pytest.approx(sum((p.high - p.value) ** 2 for p in parts), rel=1e-9)


def test_a_total_is_narrower_than_its_parts_added_up_and_wider_than_the_widest():
    whole = total([Interval(10, 7, 13), Interval(20, 16, 24)])
    assert whole == Interval(30, 25, 35)  # 3, 4, 5


def test_a_part_without_an_interval_leaves_the_total_without_one():
    assert total([Interval(1.0, 0.5, 1.5), UNKNOWN]) == Interval(3.0)


@pytest.mark.parametrize("seed", range(30))
def test_a_product_holds_every_product_of_what_its_factors_hold(seed):
    random = np.random.default_rng(seed)
    (a_low, a, a_high), (b_low, b, b_high) = np.sort(random.uniform(0, 5, (2, 3)), axis=1)
    whole = Interval(a, a_low, a_high).by(Interval(b, b_low, b_high))
    assert whole.value == a * b
    within = random.uniform(a_low, a_high, 50) * random.uniform(b_low, b_high, 50)
    assert np.all((whole.low <= within) & (within <= whole.high))
    assert (whole.low, whole.high) == (a_low * b_low, a_high * b_high)


def test_a_product_with_an_unknown_range_has_none():
    assert Interval(3.0, 1.0, 4.0).by(UNKNOWN) == UNKNOWN.by(Interval(3.0, 1.0, 4.0)) == Interval(6.0)


def test_a_spread_reaches_from_the_lowest_to_the_highest_source():
    assert Interval.of_spread(344.0, [381.0, 332.0]) == Interval(344.0, 332.0, 381.0)
    assert Interval.of_spread(344.0, [350.0]) == Interval(344.0, 344.0, 350.0)


@pytest.mark.parametrize("half", [0.001, 0.3, 1.0, 6.35])
def test_an_interval_by_a_factor_agrees_for_small_widths_and_never_reaches_zero(half):
    found = Interval.of_factor(2.0, half)
    assert found.high == pytest.approx(Interval.of_relative(2.0, half).high)
    assert found.low == pytest.approx(2.0 / (1 + half))
    assert found.low == pytest.approx(Interval.of_relative(2.0, half).low, abs=2 * half**2)
    assert Interval.of_factor(2.0, None) == UNKNOWN
