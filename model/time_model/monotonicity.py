"""What must be ordered, measured or not: a bigger network is not faster."""

from __future__ import annotations

import itertools
import math

import numpy as np

from epochcast.model.time_model.time_model import TimeModel
from epochcast.schema import RunConfig

GRID = {
    "depth": (1, 2, 3, 4, 5, 6),
    "base_filters": (8, 16, 32, 64, 128, 256),
    "batch_size": (16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
}


N_TIMES = math.prod(map(len, GRID.values()))


def violations_by_axis(model: TimeModel) -> dict[str, int]:
    """How often a predicted time goes the wrong way from one value of GRID to the next: down with depth or filters, up
    with batch size."""
    configs = [RunConfig(*values) for values in itertools.product(*GRID.values())]
    times = model.times(configs).reshape([len(values) for values in GRID.values()])
    signs = {"depth": 1, "base_filters": 1, "batch_size": -1}
    return {name: int((sign * np.diff(times, axis=i) < 0).sum()) for i, (name, sign) in enumerate(signs.items())}


def order_violations(model: TimeModel) -> int:
    """How often a predicted time falls where depth or filters grow by one value of GRID.

    Not so for batch size: a device may well take longer for larger batches.
    """
    found = violations_by_axis(model)
    return found["depth"] + found["base_filters"]
