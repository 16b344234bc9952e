"""What must be ordered, measured or not: a bigger network is not faster."""

from __future__ import annotations

import itertools
import math

import numpy as np

from epochcast.model.time_model.time_model import TimeModel
from epochcast.schema import AXES, NETWORK_AXES, RunConfig

GRID = {axis.name: axis.wide for axis in AXES}
N_TIMES = math.prod(map(len, GRID.values()))


def violations_by_axis(model: TimeModel) -> dict[str, int]:
    """How often a predicted time goes the wrong way from one value of GRID to the next: down with depth or filters, up
    with batch size."""
    configs = [RunConfig(*values) for values in itertools.product(*GRID.values())]
    times = model.times(configs).reshape([len(values) for values in GRID.values()])
    return {axis.name: int((axis.slower * np.diff(times, axis=i) < 0).sum()) for i, axis in enumerate(AXES)}


def order_violations(model: TimeModel) -> int:
    """How often a predicted time falls where depth or filters grow by one value of GRID.

    Not so for batch size: a device may well take longer for larger batches.
    """
    found = violations_by_axis(model)
    return sum(found[axis.name] for axis in NETWORK_AXES)
