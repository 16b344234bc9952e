"""Steady times: what is a stall by the rule, what is left in, and bias and power in a grid of simulated cells."""

from __future__ import annotations

import random
import statistics

import numpy as np
import pytest

from benchmarks.lib.stall_cells import MAX_BIAS, MIN_POWER, Case, simulate
from epochcast.run_noise import Noise, RunNoise
from epochcast.steady_time import STALL_RATIO, SteadyTime, judge, steady_time, steady_times
from epochcast.storage.tables import read_runs

FIRST = 99.0  # the untimed first epoch: whatever it is, it must not matter
QUIET = Noise(0.005, 100)  # of a GPU that does nothing else
NOISY = Noise(0.15, 100)


def steady(*timed, noise=None, first=FIRST):
    return steady_time([first, *timed], noise)


def calm(n, rel_sd=0.01, seed=0):
    return np.random.default_rng(seed).normal(1.0, rel_sd, n).tolist()


def test_the_first_epoch_is_never_averaged_nor_a_stall():
    for first in (0.001, 4.0, 1000.0):
        assert steady(4.0, 4.5, first=first) == SteadyTime(4.25, 2, (), False)


def test_without_a_timed_epoch_there_is_no_steady_time():
    for times in ([], [1.0]):
        with pytest.raises(ValueError, match="no timed epoch"):
            steady_time(times)


@pytest.mark.parametrize("noise", [None, QUIET, NOISY, Noise(0.0, 12)])
@pytest.mark.parametrize("n", range(1, 51))
def test_equal_times_are_their_own_mean(n, noise):
    assert steady(*[3.0] * n, noise=noise) == SteadyTime(3.0, n, (), False)


@pytest.mark.parametrize("noise", [None, QUIET])
@pytest.mark.parametrize("place", ["first", "last", "middle"])
@pytest.mark.parametrize("factor", [1.5, 2.0, 8.6, 1000.0])
@pytest.mark.parametrize("n", [4, 5, 6, 9, 10, 30, 50])
def test_one_slow_epoch_of_a_quiet_run_is_found_wherever_it_is(n, factor, place, noise):
    times = calm(n, 0.005)
    at = {"first": 0, "last": n - 1, "middle": n // 2}[place]
    times[at] *= factor
    found = steady(*times, noise=noise)
    assert found.stalled_epochs == (at + 1,)
    assert not found.is_unstable
    assert found.sec == pytest.approx(statistics.fmean(times[:at] + times[at + 1 :]), rel=1e-12)
    assert max(times[:at] + times[at + 1 :]) < found.limit_sec < times[at]


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("factor", [1.9, 8.6])
def test_two_or_three_timed_epochs_need_the_noise_of_other_runs(n, factor):
    times = [1.0] * (n - 1) + [factor]
    assert steady(*times) == SteadyTime(statistics.fmean(times), n, (), True)
    assert steady(*times, noise=Noise(0.005, 1)).is_unstable == (n == 2)  # of a single other run of two epochs
    assert steady(*times, noise=QUIET) == SteadyTime(1.0, n, (n,), False)


@pytest.mark.parametrize("n", [2, 3, 4, 10, 50])
def test_an_epoch_is_no_stall_within_a_quarter_of_the_rest(n):
    times = [1.0] * (n - 1)
    assert steady(*times, STALL_RATIO, noise=QUIET) == SteadyTime(
        pytest.approx((n - 1 + STALL_RATIO) / n), n, (), False
    )
    assert steady(*times, STALL_RATIO + 0.001, noise=QUIET).stalled_epochs == (n,)


@pytest.mark.parametrize("noise", [None, QUIET])
@pytest.mark.parametrize("seed", range(20))
def test_stalls_on_a_third_of_the_epochs_at_most_do_not_change_the_steady_time(seed, noise):
    rng = random.Random(seed)
    n = rng.randint(8, 50)
    timed = calm(n, 0.005, seed)
    hit = rng.sample(range(n), rng.randint(0, n // 3))
    disturbed = [t * rng.uniform(1.8, 20) if i in hit else t for i, t in enumerate(timed)]
    found = steady(*disturbed, noise=noise)
    assert found.stalled_epochs == tuple(sorted(i + 1 for i in hit))
    assert found.sec == pytest.approx(statistics.fmean(t for i, t in enumerate(timed) if i not in hit), rel=1e-12)


@pytest.mark.parametrize("noise", [None, QUIET])
@pytest.mark.parametrize(
    "n_fast, n_slow", [(2, 2), (1, 3), (3, 2), (3, 3), (5, 4), (10, 10), (12, 8), (33, 17), (8, 12)]
)
def test_with_more_than_a_third_slow_nothing_is_excluded(n_fast, n_slow, noise):
    timed = [1.0] * n_fast + [2.0] * n_slow
    random.Random(0).shuffle(timed)
    assert steady(*timed, noise=noise) == SteadyTime(statistics.fmean(timed), len(timed), (), True)


def test_what_noise_explains_is_neither_excluded_nor_doubted():
    times = [0.9, 1.1, 1.0, 1.3]
    assert steady(*times, noise=NOISY) == SteadyTime(statistics.fmean(times), 4, (), False)
    assert steady(0.9, 1.1, 1.0, 1.9, noise=NOISY).stalled_epochs == (4,)


def test_a_slow_epoch_that_may_be_noise_makes_a_run_unstable():
    times = [0.9, 1.1, 1.0, 1.9]
    assert steady(*times) == SteadyTime(statistics.fmean(times), 4, (), True)  # its own noise is not known
    assert steady(*times, noise=Noise(0.3, 100)) == SteadyTime(statistics.fmean(times), 4, (), True)  # it is too high


def test_a_run_far_noisier_than_the_others_is_judged_by_its_own_noise():
    times = [0.8, 1.25, 0.9, 1.1, 1.0, 0.85, 1.2, 1.4]
    assert steady(*times, noise=QUIET).n_stalled == 0


def test_a_quiet_run_of_a_table_full_of_stalls_is_judged_by_its_own_noise():
    runs = [[FIRST, *calm(4, 0.005, seed), 9.0] for seed in range(12)]
    assert all(found.stalled_epochs == (5,) for found in steady_times(runs))


@pytest.mark.parametrize("n", [5, 10, 30])
def test_a_trend_is_no_stall(n):
    times = [1 + i / (n - 1) for i in range(n)]
    assert steady(*times).sec == pytest.approx(1.5)


def test_times_of_any_unit_and_order_give_the_same_stalls():
    times = [*calm(9, 0.03), 1.9]
    found = steady(*times)
    for factor in (1e-6, 1e6):
        other = steady(*(factor * t for t in times))
        assert (other.stalled_epochs, other.sec) == (found.stalled_epochs, pytest.approx(factor * found.sec))
    assert steady(*reversed(times)).stalled_epochs == (1,)
    assert steady(*reversed(times)).sec == pytest.approx(found.sec)


# --- noise of other runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 4, 20])
@pytest.mark.parametrize("rel_sd", [0.01, 0.15])
def test_noise_is_that_of_undisturbed_runs(rel_sd, n):
    runs = [[FIRST, *calm(n, rel_sd, seed)] for seed in range(100)]
    for run in runs[:10]:
        run[1] *= 5
    # a tenth of the runs disturbed: of two epochs each, these move the quantile that is left in
    assert RunNoise(runs).of_all().rel_sd == pytest.approx(rel_sd, rel=0.25 if n == 2 else 0.12)


def test_a_run_is_no_part_of_the_noise_that_it_is_judged_with():
    runs = [[FIRST, 1.0, 1.9], [FIRST, 1.0, 1.01], [FIRST, 1.0, 1.002], [FIRST, 1.0, 1.005]]
    noise = RunNoise(runs).of_others(0)
    assert noise.freedom <= 3
    assert noise.rel_sd < 0.01
    assert RunNoise([[FIRST, 1.0, 1.5]]).of_others(0) is None
    assert RunNoise([]).of_all() is None
    assert RunNoise([[FIRST, 1.0]] * 5).of_all() is None  # a single epoch has no spread


def test_the_two_stalls_of_the_a100_table_are_found_by_the_noise_of_its_other_rows(reference_data):
    rows = read_runs(reference_data / "a100" / "runs.csv").rows
    found = steady_times([row.epoch_times_json for row in rows])
    assert not any(s.is_unstable for s in found)
    stalled = {str(row.config): s for row, s in zip(rows, found, strict=True) if s.n_stalled}
    assert {config: s.sec for config, s in stalled.items()} == {
        "(3,16,512)": 0.6521921372041106,
        "(3,32,320)": 1.0248526779469103,
    }
    alone = [steady_time(row.epoch_times_json) for row in rows]
    assert sum(s.n_stalled for s in alone) == 0
    assert sum(s.is_unstable for s in alone) == 2


# --- bias and power ---------------------------------------------------------------------------------------------------

ERRORS = ["normal", "log-normal"]
N = 4000  # runs in a cell: the standard error of a power of 96 % is 0.3 %, of a bias below 0.06 %


@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize("n_others", [0, 11, 60])
@pytest.mark.parametrize("n_timed", [4, 20])
def test_without_stalls_the_bias_is_below_one_percent(n_timed, n_others, errors):
    for noise in (0.15, 0.2) if n_others else (0.2, 0.3):  # where it is largest
        cell = simulate(np.random.default_rng(1), Case(errors, noise, n_timed, n_others), N)
        assert abs(cell.bias) < MAX_BIAS, cell


@pytest.mark.parametrize(
    ("n_others", "n_timed", "n"), [(60, 4, 15_000), (60, 10, N), (60, 30, N), (11, 6, 12_000), (11, 20, N), (0, 30, N)]
)
def test_more_than_95_percent_of_stalls_of_two_times_are_found_where_the_noise_is_known(n_others, n_timed, n):
    case = Case("normal", 0.15, n_timed, n_others, factor=2.0, n_stalls=1)  # log-normal: more
    cell = simulate(np.random.default_rng(2), case, n)
    assert cell.power > MIN_POWER, cell


@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize("n_others", [11, 60])
def test_nearly_all_stalls_are_found_at_ten_percent_of_noise(n_others, errors):
    cell = simulate(np.random.default_rng(3), Case(errors, 0.1, 4, n_others, factor=2.0, n_stalls=1), N)
    assert cell.power > 0.98, cell


@pytest.mark.parametrize("n_timed", [4, 10])
def test_of_a_noisy_box_nothing_is_excluded_and_runs_are_unstable(n_timed):
    cell = simulate(np.random.default_rng(3), Case("log-normal", 0.3, n_timed, 60), 2000)
    assert cell.excluded < 0.04
    assert cell.unstable > 0.85


def test_many_runs_are_judged_as_each_alone():
    rng = np.random.default_rng(4)
    for n_timed in (1, 2, 3, 4, 7, 12, 50):
        timed = np.exp(rng.normal(0, 0.2, (60, n_timed)))
        timed[::3, 0] *= 2
        variance, freedom = rng.uniform(0, 0.04, 60), rng.choice([0.0, 0.7, 3.0, 90.0], 60)
        judged = judge(timed, variance, freedom)
        for i, times in enumerate(timed.tolist()):
            one = steady(*times, noise=Noise(variance[i] ** 0.5, freedom[i]) if freedom[i] else None)
            assert one.stalled_epochs == tuple(np.flatnonzero(judged.is_slow[i]) + 1)
            assert one.is_unstable == judged.is_unstable[i]
            assert one.limit_sec == pytest.approx(judged.limit_sec[i])


# --- noise that differs between runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high", "most_bias"), [(0.1, 0.1, 0.03), (0.05, 0.3, 0.02)])
@pytest.mark.parametrize("n_timed", [15, 30])
def test_many_epochs_are_judged_mostly_by_their_own_noise(n_timed, low, high, most_bias):
    case = Case("log-normal", 0.2, n_timed, 60, others_low=low, others_high=high)
    cell = simulate(np.random.default_rng(5), case, 2000)
    assert abs(cell.bias) < most_bias, cell


@pytest.mark.parametrize("n_timed", [4, 10, 30])
def test_a_run_quieter_than_the_others_is_not_biased(n_timed):
    case = Case("log-normal", 0.1, n_timed, 60, others_low=0.2, others_high=0.2)
    assert abs(simulate(np.random.default_rng(6), case, 2000).bias) < MAX_BIAS


@pytest.mark.parametrize("n_timed", [4, 10])
def test_runs_whose_noise_differs_by_more_than_chance_say_less_of_a_further_one(n_timed):
    rng = np.random.default_rng(7)
    alike = [[FIRST, *rng.normal(1, 0.1, n_timed)] for _ in range(60)]
    mixed = [[FIRST, *rng.normal(1, sd, n_timed)] for sd in np.geomspace(0.02, 0.3, 60)]
    of_alike, of_mixed = RunNoise(alike).of_all(), RunNoise(mixed).of_all()
    assert of_alike.freedom > 50 * (n_timed - 1)
    assert of_alike.rel_sd == pytest.approx(0.1, rel=0.1)
    assert 1 < of_mixed.freedom < 12
    assert RunNoise(mixed[:2]).of_all().freedom <= 2 * (n_timed - 1)  # two runs show no spread


def test_the_prior_of_known_variances_is_found():
    rng = np.random.default_rng(8)
    sds = 0.02 * np.sqrt(6 / rng.chisquare(6, 4000))  # scaled inverse chi-squared of six degrees of freedom
    found = RunNoise([[FIRST, *rng.normal(1, sd, 12)] for sd in sds]).of_all()
    assert found.freedom == pytest.approx(6, rel=0.35)
    assert found.rel_sd == pytest.approx(0.02, rel=0.1)


def test_equal_times_have_no_noise_and_no_spread_of_it():
    noise = RunNoise([[FIRST, 1.0, 1.0, 1.0, 1.0]] * 6).of_all()
    assert (noise.rel_sd, noise.freedom) == (0.0, 18.0)
