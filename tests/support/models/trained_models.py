"""Reference rows, and a model with a network that learned some of them."""

from __future__ import annotations

from functools import cache

import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.training.save import train
from epochcast.storage.tables import read_runs
from tests.support.models.quick_networks import use_quick_networks

STEPS = 500  # a third of what is usual; on these rows the network then errs by 3.0 %, the law by 3.4 %


@cache
def reference_rows(folder):
    return aggregate(read_runs(folder / "a100" / "runs.csv")).rows


@cache
def with_network(reference_data, folder, *, is_trained=False):
    """A model of 24 reference rows, on which the network is the better form: a quick one, or one trained by Keras."""
    with pytest.MonkeyPatch.context() as patch:
        if is_trained:
            patch.setattr("epochcast.model.training.time_ann.STEPS", STEPS)
        else:
            use_quick_networks(patch)
        train(reference_rows(reference_data)[::6], folder / "network.keras", seed=4)
    return folder / "network.keras"
