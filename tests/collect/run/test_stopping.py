"""When a run is over: a fixed count, or known well enough, and never on one quiet moment."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.collect.run.stopping import STOPPED_BY, stop_reason
from epochcast.schema import STOP_REASONS, RunSpec
from epochcast.steady_time import MIN_TIMED_EPOCHS, MIN_TIMED_SEC, steady_time, uncertainty


def run_out(spec, seconds_of):
    """All epoch times of a run, and why it ended; `seconds_of(i)` is epoch i's time."""
    times = []
    while (reason := stop_reason(spec, times)) is None:
        times.append(seconds_of(len(times)))
    return times, reason


def noise(mean, rel_sd, seed):
    draw = np.random.default_rng(seed)
    return lambda i: 10 * mean if i == 0 else mean * (1 + rel_sd * draw.standard_normal())


def test_a_count_is_kept_whatever_the_noise():
    for rel_sd in (0.0, 0.5):
        times, reason = run_out(RunSpec(epochs=3), lambda i, s=rel_sd: 1.0 + s * i)
        assert (len(times), reason) == (3, "epochs")


def test_a_quick_tight_interval_is_not_believed():
    times, reason = run_out(RunSpec(), lambda i: 0.125)
    assert reason == "target_ci"
    assert sum(times[1:]) >= MIN_TIMED_SEC - 1e-9
    times, reason = run_out(RunSpec(), lambda i: 30.0)
    assert (len(times) - 1, reason) == (MIN_TIMED_EPOCHS, "target_ci")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("target", [0.01, 0.003])
def test_a_noisy_run_goes_on_until_its_interval_is_within_the_target(seed, target):
    times, reason = run_out(RunSpec(target_ci=target, max_epochs=1000, max_sec=1e6), noise(2.0, 0.02, seed))
    assert reason == "target_ci"
    assert uncertainty(times).rel_ci95 <= target < max(uncertainty(times[:-1]).rel_ci95, target * 1.0001)
    assert abs(steady_time(times).sec / 2.0 - 1) < 3 * target


def test_more_noise_takes_more_epochs():
    counts = [len(run_out(RunSpec(max_epochs=1000, max_sec=1e6), noise(3.0, sd, 1))[0]) for sd in (0.002, 0.02, 0.06)]
    assert counts[0] < counts[1] < counts[2]


def test_limits_end_what_never_gets_known():
    wild = noise(1.0, 0.2, 3)
    times, reason = run_out(RunSpec(max_epochs=12), wild)
    assert (len(times), reason) == (12, "max_epochs")
    times, reason = run_out(RunSpec(max_sec=20, max_epochs=1000), wild)
    assert reason == "max_sec"
    assert sum(times) >= 20 > sum(times[:-1])


def test_one_epoch_is_timed_even_where_the_first_took_all_the_time():
    times, reason = run_out(RunSpec(max_sec=5), lambda i: 100.0)
    assert (len(times), reason) == (2, "max_sec")


def test_every_reason_is_told_in_words():
    assert set(STOPPED_BY) == set(STOP_REASONS)


@pytest.mark.parametrize("rel_sd", [0.05, 0.08])
def test_an_open_run_of_ordinary_noise_is_neither_biased_nor_flagged(rel_sd):
    # of 40 draws the mean error is known to 0.12 %, so that a bias of half a percent could not hide
    held, errors, stalled, n = 0, [], 0, 40
    for seed in range(n):
        times, _ = run_out(RunSpec(target_ci=0.015, max_sec=1e6), noise(2.0, rel_sd, seed))
        steady = steady_time(times)
        held += abs(steady.sec - 2.0) <= uncertainty(times).rel_ci95 * steady.sec
        errors.append(steady.sec / 2.0 - 1)
        stalled += steady.n_stalled > 0 or steady.is_unstable
    assert held / n >= 0.85  # 95 % with the luck of forty draws
    assert abs(np.mean(errors)) < 0.003
    assert stalled / n < 0.1
