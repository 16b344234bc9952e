"""The regressor's inputs, in one place: what is known of a configuration before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from epochcast.schema import RunConfig

FEATURE_NAMES = ("depth", "log2_base_filters", "log2_batch_size")


def feature_vector(config: RunConfig) -> list[float]:
    """Regressor input for one configuration, in FEATURE_NAMES order.

    Parameters, FLOPs and steps per epoch are functions of these three, so they would add no information.
    """
    return [float(config.depth), math.log2(config.base_filters), math.log2(config.batch_size)]


def feature_matrix(configs: Iterable[RunConfig]) -> npt.NDArray[np.float64]:
    """Regressor inputs of several configurations, shape (n, 3)."""
    return np.array([feature_vector(config) for config in configs], dtype=np.float64).reshape(-1, len(FEATURE_NAMES))
