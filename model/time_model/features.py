"""The regressors' inputs, in one place: what is known of a configuration before it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from epochcast.model.time_model.physics import Array
from epochcast.schema import AXES, Axis, RunConfig
from epochcast.workload.shape import count_params

FEATURE_NAMES = tuple(f"log2_{axis.name}" if axis.is_log else axis.name for axis in AXES)
# of the network that this project started from; parameters and steps follow from the other three
REFERENCE_FEATURE_NAMES = ("depth", "base_filters", "log2_batch_size", "log10_params", "log10_steps_per_epoch")
Feature = Callable[[RunConfig, int], float]  # of a configuration and its training images


def _plain(axis: Axis) -> Feature:
    return lambda config, train_n: axis.of(config)


def _log2(axis: Axis) -> Feature:
    return lambda config, train_n: math.log2(axis.of(config))


_FEATURES: dict[str, Feature] = {
    **{axis.name: _plain(axis) for axis in AXES},
    **{f"log2_{axis.name}": _log2(axis) for axis in AXES},
    "log10_params": lambda c, n: math.log10(count_params(c)),
    "log10_steps_per_epoch": lambda c, n: math.log10(c.steps_per_epoch(n)),
}


def feature_matrix(configs: Iterable[RunConfig], names: Sequence[str], train_n: int) -> Array:
    """Inputs of several configurations, shape (n, features), unscaled, in the order of `names`."""
    rows = [[float(_FEATURES[name](config, train_n)) for name in names] for config in configs]
    return np.array(rows, dtype=np.float64).reshape(-1, len(names))
