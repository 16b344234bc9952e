"""The regressor: what it predicts for laws that are known, and that leaving entries out is what it says."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest

from epochcast.mlperf.regressor.covariance import NOISE, covariance, points_of, variance_of
from epochcast.mlperf.regressor.entries import EntryMedian, Workload
from epochcast.mlperf.regressor.equations import symmetric_inverse
from epochcast.mlperf.regressor.ranges import KNOWN, NEW_DEVICE, OTHER_BENCHMARK, OTHER_COUNT
from epochcast.mlperf.regressor.regressor import TimeRegressor, UnknownBenchmarkError, fit_regressor
from epochcast.mlperf.regressor.stored import load_regressor
from tests.support.mlperf.entries import few_entries


@functools.cache
def few() -> TimeRegressor:
    return fit_regressor(few_entries())


@functools.cache
def shipped() -> TimeRegressor:
    return load_regressor()


def law_entries(seed: int = 0) -> list[EntryMedian]:
    """Entries of t = 5000 s x (n / 8)^-0.9 on one device, with 2 % of noise."""
    draw = np.random.default_rng(seed)
    return [
        EntryMedian("4.0", f"s{i}", "box", "bert", "H100 SXM5", n, 5000 * (n / 8) ** -0.9 * draw.lognormal(0, 0.02), 5)
        for i in range(8)
        for n in (8, 16, 32, 128, 256, 512)
    ]


def test_a_power_law_is_found_again_at_a_count_that_was_not_learned_from():
    estimate = fit_regressor(law_entries()).estimate(Workload("bert", "H100 SXM5", 64))
    true = 5000 * 8**-0.9
    assert estimate.seconds.value == pytest.approx(true, rel=0.03)  # noise of 2 %
    assert estimate.seconds.low < true < estimate.seconds.high
    assert estimate.basis == OTHER_COUNT


def test_one_entry_far_from_all_others_loses_its_weight():
    entries = law_entries()
    entries[0] = replace(entries[0], time_sec=20 * entries[0].time_sec)
    regressor = fit_regressor(entries)
    assert regressor.fitted.weights[0] < 0.1 * np.median(regressor.fitted.weights)
    assert regressor.estimate(Workload("bert", "H100 SXM5", 8)).seconds.value == pytest.approx(5000, rel=0.05)


def test_the_answer_without_a_group_is_that_of_the_other_entries_alone():
    """The closed form of leaving out, against solving the equations of the rest."""
    regressor, entries = few(), few_entries()
    out = np.arange(0, len(entries), 7)
    rest = np.setdiff1d(np.arange(len(entries)), out)
    errors, spread = regressor._solution.left_out([out])
    variances, weights = regressor.fitted.variances, np.array(regressor.fitted.weights)
    points = points_of([each.workload for each in entries], regressor.rounds)
    shared = covariance(points, points, variances)
    values = np.log([each.time_sec for each in entries])
    values -= values.mean()
    inverse = np.linalg.inv(shared[np.ix_(rest, rest)] + np.diag(variances[NOISE] / weights[rest]))
    across = shared[np.ix_(out, rest)]
    assert errors[out] == pytest.approx(values[out] - across @ inverse @ values[rest], abs=1e-6)
    expected = variance_of(points, variances)[out] - np.einsum("ij,jk,ik->i", across, inverse, across)
    assert spread[out] == pytest.approx(expected, abs=1e-6)


def test_the_inverse_of_a_covariance_is_its_inverse():
    points = points_of([each.workload for each in few_entries()[:40]], ["3.0"])
    matrix = covariance(points, points, few().fitted.variances) + np.eye(40)
    assert symmetric_inverse(np.linalg.cholesky(matrix)) @ matrix == pytest.approx(np.eye(40), abs=1e-9)
    assert np.diag(covariance(points, points, few().fitted.variances)) == pytest.approx(
        variance_of(points, few().fitted.variances)
    )


def test_a_fit_is_the_same_for_the_same_seed():
    assert fit_regressor(few_entries()).fitted == few().fitted


@pytest.mark.parametrize("benchmark", ["resnet", "bert", "retinanet", "unet3d"])
def test_more_accelerators_take_less_time_but_no_less_work(benchmark):
    asked = [Workload(benchmark, "H100 SXM5", n) for n in (8, 16, 32, 64)]
    times = np.exp(shipped().forecast(asked).log_sec)
    assert np.all(np.diff(times) < 0)
    assert np.all(np.diff(times * [each.n_accelerators for each in asked]) > 0)


def test_ranges_widen_with_what_is_not_known():
    known = shipped().estimate(Workload("resnet", "H100 SXM5", 8))
    count = shipped().estimate(Workload("resnet", "H100 SXM5", 24))
    other = shipped().estimate(Workload("resnet", "TPU v5p", 128))
    new = shipped().estimate(Workload("resnet", "MI355X", 8))
    answers = (known, count, other, new)
    assert [each.basis for each in answers] == [KNOWN, OTHER_COUNT, OTHER_BENCHMARK, NEW_DEVICE]
    factors = [each.seconds.high / each.seconds.value for each in answers]
    assert factors == sorted(factors)
    assert 1.05 < factors[0] < 1.45


def test_the_nearest_entries_are_of_the_benchmark_and_begin_with_the_configuration_itself():
    nearest = shipped().nearest(Workload("resnet", "A100 SXM4 80GB", 8))
    assert len(nearest) == 5
    assert {each.workload.configuration for each in nearest} == {("resnet", "A100 SXM4 80GB", 8)}


def test_a_later_round_is_answered_as_the_newest_and_an_earlier_one_as_itself():
    times = {
        name: shipped().estimate(Workload("resnet", "A100 SXM4 80GB", 8, name)).seconds.value
        for name in (None, "0.7", "5.0", "5.1", "12.0")
    }
    assert times[None] == times["5.0"] == times["5.1"] == times["12.0"] < times["0.7"]


def test_an_unknown_benchmark_is_refused_with_the_known_ones():
    with pytest.raises(UnknownBenchmarkError, match=r"'resnets' was learned from\. Did you mean resnet\?"):
        shipped().estimate(Workload("resnets", "H100 SXM5", 8))


def test_too_few_entries_are_refused():
    with pytest.raises(ValueError, match="29 entries are too few to learn from; at least 30 are needed"):
        fit_regressor(law_entries()[:29])


def test_without_entries_that_say_how_far_off_answers_are_there_is_no_range():
    regressor = fit_regressor(law_entries())
    estimate = regressor.estimate(Workload("bert", "A100 SXM4 80GB", 8))
    assert estimate.basis == NEW_DEVICE
    assert (estimate.seconds.low, estimate.seconds.high) == (None, None)
    assert math.isfinite(estimate.seconds.value)
