"""Power of a board by how busy it is: between idle and busy, below the limit, and wide where nothing is known."""

from __future__ import annotations

import random

import pytest

from epochcast.gpus.board_power import board_power, power_share


def test_a_busy_board_draws_more_than_an_idle_one():
    idle, half, busy = (power_share(each).value for each in (0.0, 0.5, 1.0))
    assert 0.1 < idle < 0.3  # of the TDP: boards at full clocks without work
    assert 0.8 < busy < 1.0
    assert half == pytest.approx((idle + busy) / 2)


def test_not_knowing_how_busy_it_is_makes_the_range_wider():
    unknown, known = power_share(), power_share(0.5)
    assert unknown.factor > 1.5 * known.factor
    assert power_share(0.0).value < unknown.value < power_share(1.0).value


@pytest.mark.parametrize("seed", range(50))
def test_neither_value_nor_end_is_above_the_limit_or_at_nothing(seed):
    draw = random.Random(seed)
    limit_w, tdp_w = draw.uniform(50, 1000), draw.uniform(50, 1000)
    busy_share = draw.choice([None, 0.0, draw.random(), 1.0])
    watts = board_power(limit_w, busy_share, tdp_w)
    assert 0 < watts.low < watts.value <= watts.high <= limit_w
    share = power_share(busy_share)
    assert watts.value == min(limit_w, share.value * tdp_w)
    assert watts.value / watts.low == pytest.approx(share.factor)


def test_a_lower_limit_holds_back_only_a_board_that_asks_for_more():
    assert board_power(200.0, 0.0, 300.0).value == board_power(300.0, 0.0, 300.0).value
    assert board_power(200.0, 1.0, 300.0).value == 200.0
    assert board_power(250.0) == board_power(250.0, tdp_w=250.0)  # without a data sheet the limit is taken for it


@pytest.mark.parametrize("busy_share", [-0.01, 1.01, float("nan")])
def test_what_is_no_share_is_refused(busy_share):
    with pytest.raises(ValueError, match="busy_share must be between 0 and 1"):
        power_share(busy_share)
