"""How well a steady time is known: exact on a worked case, honest on simulated runs, and planted faults are seen."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from epochcast.steady_time import NOTABLE_SHARE, TREND_LEVEL, WARMUP_LEVEL, steady_time, uncertainty


def noisy(seed, n, rel_sd=0.0065, mean=2.0):
    """A run of n timed epochs behind a first one, normal noise."""
    return [9.0, *np.random.default_rng(seed).normal(mean, rel_sd * mean, n)]


def test_interval_of_a_worked_case():
    known = uncertainty([9.0, 2.0, 2.1, 1.9, 2.0, 2.0])
    spread = statistics.stdev([2.0, 2.1, 1.9, 2.0, 2.0])
    assert known.rel_spread == pytest.approx(spread / 2.0)
    assert known.rel_ci95 == pytest.approx(2.776445 * spread / math.sqrt(5) / 2.0)  # t(0.975, 4) of any table
    assert not known.has_trend and known.n_slow_first == 0


def test_one_timed_epoch_tells_of_no_spread():
    known = uncertainty([9.0, 2.0])
    assert (known.rel_spread, known.rel_ci95, known.rel_trend) == (None, None, None)
    assert known.is_short


def test_no_timed_epoch_is_refused():
    with pytest.raises(ValueError, match="no timed epoch"):
        uncertainty([9.0])


def test_intervals_hold_as_often_as_they_say():
    held = 0
    for seed in range(1000):
        times = noisy(seed, 8)
        half = uncertainty(times).rel_ci95 * steady_time(times).sec
        held += abs(steady_time(times).sec - 2.0) <= half
    assert 0.93 <= held / 1000 <= 0.97


def test_a_stall_is_in_no_spread():
    calm, stalled = noisy(1, 8), noisy(1, 8)
    stalled.append(8.0)
    assert uncertainty(stalled).rel_ci95 == pytest.approx(uncertainty(calm).rel_ci95)
    assert uncertainty(stalled).rel_spread == pytest.approx(uncertainty(calm).rel_spread)


def test_an_unstable_run_has_a_wide_interval():
    times = [9.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    assert steady_time(times).is_unstable
    half = 2.570582 * statistics.stdev(times[1:]) / math.sqrt(6)  # t(0.975, 5) of any table
    assert uncertainty(times).rel_ci95 == pytest.approx(half / 1.5)  # of the mean


def test_two_timed_epochs_that_disagree_say_next_to_nothing():
    assert steady_time([9.0, 1.0, 1.9]).is_unstable
    assert uncertainty([9.0, 1.0, 1.9]).rel_ci95 > 3


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("change", [0.05, -0.05])
def test_a_trend_is_seen_and_has_its_sign(seed, change):
    n = 10
    times = [t * (1 + change * i / (n - 1)) for i, t in enumerate(noisy(seed, n)[1:])]
    known = uncertainty([9.0, *times])
    assert known.rel_trend * change > 0
    if known.n_slow_first:  # the beginning of a run that becomes faster may look like a warm-up
        assert change < 0
    else:
        assert known.has_trend
        assert known.rel_trend == pytest.approx(change, abs=0.02)  # three standard errors


@pytest.mark.parametrize("rel_sd", [0.0065, 0.05])
@pytest.mark.parametrize("n", [5, 8, 20])
def test_calm_runs_are_seldom_flagged(n, rel_sd):
    runs = [uncertainty(noisy(seed, n, rel_sd)) for seed in range(400)]
    assert sum(r.has_trend for r in runs) / 400 <= TREND_LEVEL + 0.015
    assert sum(r.n_slow_first > 0 for r in runs) / 400 <= WARMUP_LEVEL + 0.0125


def test_a_small_change_is_no_trend_however_certain():
    times = [9.0, *(2.0 * (1 + 0.9 * NOTABLE_SHARE * i / 9) for i in range(10))]
    assert not uncertainty(times).has_trend
    times = [9.0, *(2.0 * (1 + 1.2 * NOTABLE_SHARE * i / 9) for i in range(10))]
    assert uncertainty(times).has_trend


@pytest.mark.parametrize("n_slow", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_a_longer_warm_up_is_counted(n_slow, seed):
    calm = noisy(seed, 10)
    slow = [t * 1.15 if 1 <= i <= n_slow else t for i, t in enumerate(calm)]
    assert uncertainty(slow).n_slow_first == n_slow
    assert uncertainty(calm).n_slow_first == 0
    assert not uncertainty(slow).has_trend  # of the epochs after it


@pytest.mark.parametrize(
    ("times", "is_short"),
    [([1.0] + [3.0] * 4, True), ([1.0] + [1.0] * 9, True), ([1.0] + [2.0] * 5, False), ([1.0] + [1.0] * 10, False)],
)
def test_short_is_too_few_epochs_or_too_little_time(times, is_short):
    assert uncertainty(times).is_short is is_short
