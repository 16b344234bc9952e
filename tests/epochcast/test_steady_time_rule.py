"""The rule of stalls and the uncertainty of a run, written once more for one run and with SciPy's quantiles."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from epochcast.run_noise import Noise
from epochcast.steady_time import SteadyTime, is_short, judge, steady_time, steady_times, uncertainty_of


def level_of(n, others):
    """Return the chance that an undisturbed epoch lies above the limit."""
    share = min(max((n - 12) / 8, 0.0), 1.0)
    alone = 0.005 + share * (0.009 - 0.005)
    return alone + min(others / 40, 1.0) * (0.0075 + 0.057 / n - alone)


def is_same(n, squares, own, noise):
    """Return whether the noise of the rest may be that of the other runs."""
    if noise.freedom == 0 or own == 0:
        return noise.freedom > 0
    level = 0.92 if n >= 15 else 0.97 if n >= 10 else 0.99 if n >= 6 else 0.999
    expected = own * noise.rel_sd**2
    least = stats.f.ppf(1 - level, own, noise.freedom) if own >= 2 else 0.0
    return least * expected <= squares <= min(stats.f.ppf(level, own, noise.freedom), 1e12) * expected


def bound_of(ordered, m, noise):
    """Return the ratio to the mean of the rest, that mean, and whether the rest is surely too noisy."""
    n, rest = len(ordered), ordered[: len(ordered) - m]
    mean = statistics.fmean(rest)
    squares, own = sum((sec - mean) ** 2 for sec in rest) / mean**2, len(rest) - 1
    others = noise.freedom if is_same(n, squares, own, noise) else 0.0
    squares, freedom = squares + others * noise.rel_sd**2, own + others
    is_noisy = freedom > 0 and squares > 0.165**2 * stats.chi2.ppf(0.98, freedom)
    if freedom < 2:
        return math.inf, mean, is_noisy
    level = 0.001 if n < 4 or m > max(1, n // 3) else level_of(n, others)
    exponent = stats.t.ppf(1 - level, freedom) * math.sqrt(squares / freedom * (1 + 1 / len(rest)))
    return max(math.exp(min(exponent, 300)), 1.25), mean, is_noisy


def expected_of(timed, noise):
    """Return the indices of the stalls, whether the run is unstable, and the limit."""
    n, ordered = len(timed), sorted(timed)
    if ordered[-1] <= 1.25 * ordered[0]:
        return [], False, math.inf
    bounds = {m: bound_of(ordered, m, noise) for m in range(1, n)}
    above = [m for m, (ratio, mean, _) in bounds.items() if ordered[n - m] > ratio * mean]
    n_slow, most = max(above, default=0), max(1, n // 3)
    ratio, mean, is_noisy = bounds[min(max(n_slow, 1), most)]
    if 0 < n_slow <= most and not is_noisy:
        return sorted(np.argsort(timed, kind="stable")[n - n_slow :].tolist()), False, ratio * mean
    has_slow = ordered[-1] > 1.25 * bounds[1][1]
    has_fast = statistics.fmean(ordered[1:]) > 1.25 * ordered[0]
    is_vague = is_noisy or bounds[1][0] > 2
    return [], ((has_slow or has_fast) and is_vague) or n_slow > most, math.inf


def drawn_run(random, n):
    """Return epochs with noise of some size, and some that are slower or faster."""
    timed = random.lognormal(0, random.choice([0.001, 0.01, 0.05, 0.15, 0.3]), n)
    odd = random.permutation(n)[: random.integers(0, n // 2 + 1)]
    timed[odd] *= random.choice([0.5, 1.27, 1.4, 2.0, 5.0])
    return timed * random.choice([0.01, 3.0])


def drawn_noise(random):
    return Noise(float(random.choice([0.0, 0.002, 0.01, 0.05, 0.2])), float(random.choice([0.5, 1, 3, 20, 39, 100])))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 9, 10, 12, 13, 15, 18, 20, 25])
def test_stalls_are_those_of_the_rule_applied_to_each_run_by_itself(n):
    random = np.random.default_rng(n)
    runs = [drawn_run(random, n) for _ in range(16)]
    noises = [drawn_noise(random) if i % 3 else Noise(0.0, 0.0) for i in range(len(runs))]
    judged = judge(
        np.array(runs), np.array([noise.rel_sd**2 for noise in noises]), np.array([noise.freedom for noise in noises])
    )
    for i, (timed, noise) in enumerate(zip(runs, noises, strict=True)):
        slow, is_unstable, limit_sec = expected_of(timed.tolist(), noise)
        assert np.flatnonzero(judged.is_slow[i]).tolist() == slow
        assert (judged.is_unstable[i], judged.limit_sec[i]) == (is_unstable, pytest.approx(limit_sec, rel=1e-6))
        steady = steady_time([99.0, *timed.tolist()], noise if noise.freedom else None)
        assert steady.stalled_epochs == tuple(k + 1 for k in slow)
        assert (steady.n_timed, steady.is_unstable) == (n, is_unstable)
        assert steady.limit_sec == pytest.approx(limit_sec, rel=1e-6)
        assert steady.sec == pytest.approx(np.delete(timed, slow).mean(), rel=1e-12)


def slow_first_of(timed):
    """Return how many epochs at the beginning are slower than the second half explains."""
    half = timed[len(timed) // 2 :]
    bound = stats.t.ppf(0.995, len(half) - 1) * np.std(half, ddof=1) * math.sqrt(1 + 1 / len(half))
    limit = np.mean(half) + max(bound, 0.01 * np.mean(half))
    slow = [sec > limit for sec in timed[: len(timed) // 2]]
    return 0 if all(slow) or len(timed) < 5 else slow.index(False)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 10, 20, 51])
def test_uncertainty_is_that_of_a_fitted_line_and_students_t(n):
    random = np.random.default_rng(n)
    for i in range(20):
        timed = 2 + random.choice([0.003, 0.02]) * random.standard_normal(n)
        timed += random.choice([0, 0.02, -0.05]) * np.linspace(0, 1, n)
        timed[: random.integers(0, n // 2 + 2)] *= random.choice([1.0, 1.008, 1.012, 1.3])
        stalled = (n,) if i % 4 == 0 and n > 3 else ()
        clean = np.delete(timed, [k - 1 for k in stalled])
        steady = SteadyTime(float(clean.mean()), n, stalled, False)
        known = uncertainty_of([99.0, *timed.tolist()], steady)
        assert known.is_short == (n < 5 or timed.sum() < 10)
        assert known.n_slow_first == (slow_first_of(timed) if n > 2 else 0)
        if len(clean) < 2:
            assert (known.rel_spread, known.rel_ci95) == (None, None)
        else:
            spread = np.std(clean, ddof=1) / steady.sec
            interval = stats.t.ppf(0.975, len(clean) - 1) * spread / math.sqrt(len(clean))
            assert (known.rel_spread, known.rel_ci95) == pytest.approx((spread, interval), rel=1e-9)
        settled = clean[known.n_slow_first :]
        if len(settled) < 3:
            assert (known.rel_trend, known.has_trend) == (None, False)
            continue
        line = stats.linregress(range(len(settled)), settled)
        rel_trend = line.slope * (len(settled) - 1) / steady.sec
        assert known.rel_trend == pytest.approx(rel_trend, abs=1e-9)
        assert known.has_trend == (len(settled) >= 5 and abs(rel_trend) >= 0.01 and line.pvalue < 0.01)


def test_five_timed_epochs_in_ten_seconds_are_not_short():
    assert [is_short([2.0] * 5), is_short([2.0] * 4 + [1.99]), is_short([9.0] * 4)] == [False, True, True]


def test_three_epochs_that_are_far_quieter_than_the_other_runs_count_alone():
    noise = Noise(0.1, 100)
    for timed in ([1.0, 1.0001, 1.0, 1.3], [1.0, 1.3, 1.0, 0.9999]):
        slow, is_unstable, limit_sec = expected_of(timed, noise)
        assert (slow, is_unstable) == ([timed.index(1.3)], False)
        assert steady_time([99.0, *timed], noise).limit_sec == pytest.approx(limit_sec, rel=1e-9)
        assert steady_time([99.0, *timed], noise).stalled_epochs == (slow[0] + 1,)


def test_a_stall_that_a_run_alone_can_not_show_is_found_next_to_the_runs_of_its_conditions():
    rng = np.random.default_rng(0)
    others = [(5.0, *rng.normal(1, 0.02, 6)) for _ in range(12)]
    slow = (5.0, 0.97, 1.0, 1.03, 1.35)
    *found, last = steady_times([*others, slow])
    assert steady_time(slow).stalled_epochs == ()
    assert (last.stalled_epochs, last.sec) == ((4,), pytest.approx(1.0))
    assert [each.stalled_epochs for each in found] == [()] * 12
