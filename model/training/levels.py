"""Left-out levels: a value of an axis that is kept from all fitting, so that errors beyond the measured range show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.physics import MIN_ROWS
from epochcast.schema import NETWORK_AXES, RunConfig

BATCH_GROUP = 1.5  # batch sizes within this factor of the smallest, or of the largest, are left out together


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Rows that share a value of one axis; `is_edge` where leaving them out makes the rest a smaller box."""

    axis: str
    label: str
    mask: npt.NDArray[np.bool_]  # shape (n,), True for the rows in it
    is_edge: bool


def edge_axes(levels: Sequence[Level]) -> tuple[str, ...]:
    """The axes whose smallest or largest value is among the levels."""
    return tuple(dict.fromkeys(level.axis for level in levels if level.is_edge))


def levels_of(configs: Sequence[RunConfig], min_rest: int = MIN_ROWS) -> list[Level]:
    """Every value of the network's axes, and the smallest and the largest batch sizes, that leave enough rows.

    An axis with one value has no level.
    """
    levels = []
    for axis in (axis.name for axis in NETWORK_AXES):
        values = np.array([getattr(c, axis) for c in configs])
        if len(present := np.unique(values)) < 2:
            continue
        for value in present:
            is_edge = value in (present[0], present[-1])
            levels.append(Level(axis, f"{axis} {value}", values == value, bool(is_edge)))
    batches = np.array([c.batch_size for c in configs])
    low, high = BATCH_GROUP * batches.min(), batches.max() / BATCH_GROUP
    small, large = batches <= low, batches >= high
    if not (small & large).any():
        levels.append(Level("batch_size", f"batch_size <= {batches[small].max()}", small, True))
        levels.append(Level("batch_size", f"batch_size >= {batches[large].min()}", large, True))
    return [level for level in levels if (~level.mask).sum() >= min_rest]
