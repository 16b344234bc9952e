"""Reference rows, and a model with a network that was trained on some of them."""

from __future__ import annotations

from functools import cache

import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.training.save import train
from epochcast.storage.tables import read_runs

STEPS = 500  # a third of what is usual; on these rows the network then errs by 3.0 %, the law by 3.4 %


@cache
def reference_rows(folder):
    return aggregate(read_runs(folder / "a100" / "runs.csv")).rows


@cache
def with_network(reference_data, folder):
    """A model of 24 reference rows, on which the network is the better form."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epochcast.model.training.time_ann.STEPS", STEPS)
        train(reference_rows(reference_data)[::6], folder / "network.keras", seed=4)
    return folder / "network.keras"
