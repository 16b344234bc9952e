"""Plain regressors that the network has to beat: linear on logs, and the affine law in steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epochcast.model.time_model.features import FEATURE_NAMES, feature_matrix
from epochcast.model.time_model.physics import Array
from epochcast.schema import TRAIN_N, RunConfig
from epochcast.workload.shape import count_params


def _log_features(configs: Sequence[RunConfig], train_n: int) -> Array:
    """The network's features with log2 of parameters and of steps per epoch, shape (n, 5)."""
    closed_forms = [[count_params(c), c.steps_per_epoch(train_n)] for c in configs]
    features = feature_matrix(configs, FEATURE_NAMES, train_n)
    return np.hstack([features, np.log2(np.array(closed_forms, np.float64))])


def linear_on_logs(
    train: Sequence[RunConfig], times: Array, test: Sequence[RunConfig], train_n: int = TRAIN_N
) -> Array:
    """Times of `test`, shape (n,): least squares of log time on depth and the logs of the rest."""
    from sklearn.linear_model import LinearRegression

    fitted = LinearRegression().fit(_log_features(train, train_n), np.log(times))
    return np.asarray(np.exp(fitted.predict(_log_features(test, train_n))))


def affine_in_steps(
    train: Sequence[RunConfig], times: Array, test: Sequence[RunConfig], train_n: int = TRAIN_N
) -> Array:
    """Times of `test`, shape (n,): t = a + b * steps for each network, fitted on relative error.

    NaN where the network was measured at fewer than two batch sizes, or the line says a time of 0 or less.
    """
    predicted = np.full(len(test), np.nan)
    for network in {c.network for c in test}:
        own = [i for i, c in enumerate(train) if c.network == network]
        if len({train[i].batch_size for i in own}) < 2:
            continue
        rows = np.array([[1.0, train[i].steps_per_epoch(train_n)] for i in own])
        (a, b), *_ = np.linalg.lstsq(rows / times[own][:, None], np.ones(len(own)), rcond=None)
        for i, config in enumerate(test):
            if config.network == network:
                seconds = a + b * config.steps_per_epoch(train_n)
                predicted[i] = seconds if seconds > 0 else np.nan
    return predicted
