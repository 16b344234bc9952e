"""Steady times by the stall rules, spread of repeats, and regression errors against scikit-learn."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

from epochcast.stats import STALL_RATIO, SteadyTime, mean_and_std, regression_metrics, steady_time

FIRST = 99.0  # the untimed first epoch: whatever it is, it must not matter
# all times below are exact in binary, so that a time on the boundary is on it: 4.0 x 1.25 = 5.0
FASTEST, BOUNDARY, SLOW = 4.0, 5.0, 5.0 + 2**-40


def steady(*timed, first=FIRST):
    return steady_time([first, *timed])


def test_the_first_epoch_is_never_averaged_nor_a_stall():
    for first in (0.001, FASTEST, 1000.0):
        assert steady(4.0, 4.5, first=first) == SteadyTime(4.25, 2, (), False)


def test_without_a_timed_epoch_there_is_no_steady_time():
    for times in ([], [1.0]):
        with pytest.raises(ValueError, match="no timed epoch"):
            steady_time(times)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_undisturbed_epochs_are_averaged_by_their_mean(n):
    times = [FASTEST + i / 16 for i in range(n)]
    assert steady(*times) == SteadyTime(statistics.fmean(times), n, (), False)


def test_an_epoch_is_a_stall_only_above_one_and_a_quarter_of_the_fastest():
    assert STALL_RATIO == 1.25
    assert steady(FASTEST, BOUNDARY) == SteadyTime(4.5, 2, (), False)
    assert steady(FASTEST, SLOW) == SteadyTime(4.0, 2, (2,), False)
    assert steady(FASTEST, FASTEST, BOUNDARY, SLOW) == SteadyTime(13 / 3, 4, (4,), False)


@pytest.mark.parametrize(
    ("timed", "stalled"),
    [
        ((4.0, 9.0), (2,)),
        ((9.0, 4.0), (1,)),
        ((4.0, 9.0, 4.0), (2,)),
        ((9.0, 4.0, 9.0), (1, 3)),  # more than a third, but fewer than four: still stalls
    ],
)
def test_with_fewer_than_four_timed_epochs_every_slow_one_is_left_out(timed, stalled):
    assert steady(*timed) == SteadyTime(4.0, len(timed), stalled, False)


@pytest.mark.parametrize(
    ("n_fast", "n_slow", "is_unstable"),
    [
        (3, 1, False),  # a quarter
        (2, 2, True),
        (1, 3, True),
        (4, 1, False),
        (3, 2, True),  # two fifths
        (4, 2, False),  # exactly a third
        (3, 3, True),
        (5, 2, False),
        (4, 3, True),
        (6, 3, False),  # exactly a third
        (5, 4, True),
        (200, 100, False),  # exactly a third
        (199, 101, True),
    ],
)
def test_with_four_or_more_a_run_is_unstable_when_more_than_a_third_are_slow(n_fast, n_slow, is_unstable):
    timed = [FASTEST] * n_fast + [8.0] * n_slow
    random.Random(0).shuffle(timed)
    found = steady(*timed)
    assert found.is_unstable == is_unstable
    if is_unstable:  # nothing is left out: the median of all
        assert found == SteadyTime(statistics.median(timed), len(timed), (), True)
    else:
        assert found.sec == FASTEST
        assert found.stalled_epochs == tuple(i for i, seconds in enumerate(timed, start=1) if seconds == 8.0)
        assert found.n_stalled == n_slow


@pytest.mark.parametrize("seed", range(50))
def test_interference_on_a_third_of_the_epochs_at_most_does_not_change_the_steady_time(seed):
    rng = random.Random(seed)
    n = rng.randint(4, 30)
    timed = [FASTEST * rng.uniform(1, 1.2) for _ in range(n)]
    hit = rng.sample(range(n), rng.randint(0, n // 3))
    disturbed = [t * rng.uniform(1.6, 20) if i in hit else t for i, t in enumerate(timed)]
    found = steady(*disturbed)
    assert found.stalled_epochs == tuple(sorted(i + 1 for i in hit))
    assert found.sec == pytest.approx(statistics.fmean(t for i, t in enumerate(timed) if i not in hit), rel=1e-12)


# --- spread ----------------------------------------------------------------------------------------------------------


def test_one_run_has_no_standard_deviation():
    assert mean_and_std([]) == (None, None)
    assert mean_and_std([2.5]) == (2.5, None)
    assert mean_and_std([2.5, 2.5]) == (2.5, 0.0)


def test_the_standard_deviation_is_that_of_a_sample():
    values = [1.0, 2.0, 4.0, 8.0]
    assert mean_and_std(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-12)


# --- errors of a regressor -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_regression_errors_are_those_of_scikit_learn(seed):
    from sklearn import metrics

    rng = np.random.default_rng(seed)
    measured = rng.lognormal(0, 2, 40)
    predicted = measured * rng.lognormal(0, 0.2, 40)
    found = regression_metrics(measured, predicted)
    assert found.n == 40
    # the same formulas summed in another order: equal but for rounding
    assert found.mae == pytest.approx(metrics.mean_absolute_error(measured, predicted), rel=1e-9)
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(measured, predicted), rel=1e-9)
    assert found.r2 == pytest.approx(metrics.r2_score(measured, predicted), rel=1e-9)
    assert found.mape == pytest.approx(metrics.mean_absolute_percentage_error(measured, predicted), rel=1e-9)
    shares = np.abs(predicted / measured - 1)
    assert found.p90_ape == pytest.approx(np.percentile(shares, 90), rel=1e-9)


def test_errors_are_relative_to_what_was_measured():
    found = regression_metrics([2.0, 4.0], [3.0, 4.0])
    assert (found.mae, found.mape) == (0.5, 0.25)
    assert found.rmse == pytest.approx(math.sqrt(0.5), rel=1e-12)
    assert found.r2 == pytest.approx(0.5, rel=1e-12)


def test_r2_is_unknown_where_the_measured_values_do_not_vary():
    assert regression_metrics([0.1] * 3, [0.1, 0.2, 0.3]).r2 is None  # their mean is not exactly 0.1
    assert regression_metrics([3.0], [4.0]).r2 is None
    assert regression_metrics([3.0], [4.0]).mae == 1


@pytest.mark.parametrize(
    ("measured", "predicted", "complaint"),
    [
        ([], [], "equally long"),
        ([1.0, 2.0], [1.0], "equally long"),
        ([[1.0]], [[1.0]], "equally long"),
        ([1.0, math.nan], [1.0, 1.0], "finite"),
        ([1.0, 1.0], [1.0, math.inf], "finite"),
        ([1.0, 0.0], [1.0, 1.0], "above 0"),
        ([1.0, -2.0], [1.0, 1.0], "above 0"),
    ],
)
def test_values_without_a_relative_error_are_refused(measured, predicted, complaint):
    with pytest.raises(ValueError, match=complaint):
        regression_metrics(measured, predicted)


# --- many epochs ------------------------------------------------------------------------------------------------------


def calm(n, rel_sd=0.01, seed=0):
    return [9.0, *np.random.default_rng(seed).normal(1.0, rel_sd, n)]


@pytest.mark.parametrize("n", [10, 30, 300])
def test_a_stall_among_many_is_left_out(n):
    times = [*calm(n), 1.6]
    steady = steady_time(times)
    assert steady.stalled_epochs == (n + 1,)
    assert steady.sec == pytest.approx(np.mean(times[1:-1]))


@pytest.mark.parametrize("rel_sd", [0.05, 0.08, 0.12])
def test_the_slow_half_of_ordinary_noise_is_no_stall(rel_sd):
    times = calm(300, rel_sd)
    steady = steady_time(times)
    assert (steady.n_stalled, steady.is_unstable) == (0, False)
    assert steady.sec == pytest.approx(np.mean(times[1:]))


@pytest.mark.parametrize("n_slow", [8, 10, 12])
def test_a_run_of_two_speeds_is_unstable_whichever_is_more_frequent(n_slow):
    times = [9.0, *([1.0] * (20 - n_slow)), *([1.6] * n_slow)]
    steady = steady_time(times)
    assert steady.is_unstable
    assert steady.n_stalled == 0


def test_nine_timed_epochs_are_judged_by_the_fastest_and_ten_by_the_median():
    slow_few = [1.0, 1.24, 1.24, 1.24, 1.24, 1.24, 1.24, 1.24, 1.3]
    assert steady_time([9.0, *slow_few]).n_stalled == 1
    assert steady_time([9.0, *slow_few, 1.24]).n_stalled == 0
