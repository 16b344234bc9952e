"""The time of the epochs that are left, by a law that is known."""

from __future__ import annotations

import random
import statistics

import pytest

from epochcast.live.forecast.expected import Prior, expected_epoch
from epochcast.live.sampling.estimator import FLOOR

PRIOR = Prior("estimate-1", 10.0, 0.1, 2.0)


def test_nothing_is_expected_where_nothing_says_it():
    assert expected_epoch([]) is None


def test_before_the_first_epoch_the_estimate_is_all_that_is_known():
    found = expected_epoch([], prior=PRIOR)
    assert (found.interval.value, found.interval.low, found.interval.high) == pytest.approx((10.0, 9.0, 11.0))
    assert (found.n, found.n_earlier) == (0, 1)


def test_the_first_epoch_s_pace_counts_until_a_steady_one_is_done():
    assert expected_epoch([], first_sec=12.0).interval.value == 12.0
    assert expected_epoch([], first_sec=12.0).half is None
    assert expected_epoch([], first_sec=12.0, prior=PRIOR).interval.value == 11.0
    assert expected_epoch([8.0], first_sec=12.0).interval.value == 8.0


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_an_estimate_counts_as_one_epoch_at_most(n):
    found = expected_epoch([20.0] * n, prior=Prior("a", 10.0, None))
    assert found.interval.value == pytest.approx((10.0 + 20.0 * n) / (n + 1))


def test_an_estimate_less_sure_than_an_epoch_counts_for_less():
    epochs = [19.0, 20.0, 21.0, 20.0]  # sd 0.82; of the estimate 0.5 x 10 / 1.96 = 2.55
    found = expected_epoch(epochs, prior=Prior("a", 10.0, 0.5))
    weight = (statistics.stdev(epochs) * 1.96 / 5.0) ** 2
    assert found.interval.value == pytest.approx((weight * 10.0 + 80.0) / (weight + 4))
    assert weight < 0.2


def test_of_few_epochs_the_range_is_the_estimate_s():
    assert expected_epoch([10.0, 10.1, 10.2], prior=PRIOR).half == 0.1
    assert expected_epoch([10.0, 10.1, 10.2]).half is None


def test_the_range_has_a_floor_and_a_stall_is_left_out():
    found = expected_epoch([10.0, 10.0, 10.0, 10.0, 30.0])
    assert (found.interval.value, found.half, found.n, found.n_left_out) == (10.0, FLOOR, 4, 1)


def test_where_neighbours_are_alike_the_range_is_wider():
    alike, shuffled = [10.0, 10.2, 10.4, 10.6, 12.0, 12.2, 12.4, 12.6], [10.0, 12.2, 10.4, 12.6, 10.2, 12.4, 10.6, 12.0]
    assert sorted(alike) == sorted(shuffled)
    assert expected_epoch(alike).half > 1.2 * expected_epoch(shuffled).half


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_the_range_holds_for_the_mean_of_what_follows(n, alike):
    held = 0
    for seed in range(200):
        noise, epochs, at = random.Random(seed), [], 0.0
        for _ in range(n + 30):
            at = alike * at + (1 - alike**2) ** 0.5 * noise.gauss(0, 0.06)
            epochs.append(10.0 * (1 + at))
        found = expected_epoch(epochs[:n])
        held += found.interval.low <= statistics.fmean(epochs[n:]) <= found.interval.high
    assert held >= 0.90 * 200  # 87 to 92 % were seen of alike epochs with a floor of 4 %
