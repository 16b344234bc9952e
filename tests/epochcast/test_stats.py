"""Spread of repeats, quantiles against SciPy's distributions, and regression errors against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from epochcast.stats import (
    chi2_quantile,
    chi2_share,
    f_quantile,
    mean_and_std,
    regression_metrics,
    spearman,
    t_quantile,
)

# --- spread ----------------------------------------------------------------------------------------------------------


def test_one_run_has_no_standard_deviation():
    assert mean_and_std([]) == (None, None)
    assert mean_and_std([2.5]) == (2.5, None)
    assert mean_and_std([2.5, 2.5]) == (2.5, 0.0)


def test_the_standard_deviation_is_that_of_a_sample():
    values = [1.0, 2.0, 4.0, 8.0]
    assert mean_and_std(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-12)


@pytest.mark.parametrize("freedom", [1, 2.5, 40])
@pytest.mark.parametrize("level", [0.005, 0.5, 0.98])
def test_quantiles_are_those_of_scipys_distributions(level, freedom):
    from scipy import stats

    close = pytest.approx  # another algorithm for the same number
    assert t_quantile(level, freedom) == close(stats.t.ppf(level, freedom), rel=1e-9, abs=1e-12)
    assert chi2_quantile(level, freedom) == close(stats.chi2.ppf(level, freedom), rel=1e-9)
    assert f_quantile(level, freedom, 7) == close(stats.f.ppf(level, freedom, 7), rel=1e-9)
    assert chi2_share(chi2_quantile(level, freedom), freedom) == close(level, rel=1e-9)
    assert list(t_quantile(level, np.array([freedom, 3]))) == [t_quantile(level, freedom), t_quantile(level, 3)]


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


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1, 2, 3, 4, 5, 6], [2.0, 1.0, 4.0, 3.0, 7.0, 5.0]),
        ([1, 1, 2, 2, 3, 3], [5.0, 4.0, 4.0, 3.0, 1.0, 1.0]),
        ([1, 2, 3, 4], [1.0, 8.0, 27.0, 64.0]),
    ],
)
def test_rank_correlations_are_those_of_scipy_also_with_ties(x, y):
    import scipy.stats

    known, found = scipy.stats.spearmanr(x, y), spearman(x, y)
    assert (found.rho, found.p) == pytest.approx((known.statistic, known.pvalue))


def test_a_rank_correlation_with_a_constant_is_not_defined():
    assert spearman([1, 2, 3, 4], [5, 5, 5, 5]) is None
    assert spearman([1, 2], [1, 2]) is None
