"""A law's seconds, spread over layers by their own work."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.model.explanation.attribution import attribute
from epochcast.model.time_model.physics import FORMS, Law
from epochcast.schema import RunConfig
from epochcast.workload.shape import trained_cnn


def test_a_law_s_seconds_spread_over_layers_by_their_own_work():
    network = trained_cnn(RunConfig(2, 16, 100), 1_000, "float32")
    coefficients = dict(zip(FORMS["physics_6"], (0.5, 1e-3, 2e-3, 1e-9, 1e-12, 1e-10), strict=True))
    law = Law("physics_6", np.array(list(coefficients.values())), 1_000)
    seconds = law.seconds([RunConfig(2, 16, 100)])[0]
    attribution = attribute(law, network, 2 * seconds)  # whatever the network beside the law adds, in proportion
    conv = network.records[1]
    by_hand = {
        "per_step_and_block": 10 * 2e-3 * 2 / 8,  # ten steps, two blocks, eight layers
        "per_param_step": 10 * 1e-9 * conv.params,
        "per_flop": 1_000 * 1e-12 * 2 * conv.macs * 3,
        "per_activation_byte": 1_000 * 1e-10 * 3 * 4 * conv.outputs,
    }
    assert attribution.layers[1] == pytest.approx({name: 2 * sec for name, sec in by_hand.items()})
    assert attribution.of_no_layer == pytest.approx({"per_epoch": 1.0, "per_step": 2 * 10 * 1e-3})


def test_a_law_that_takes_no_time_attributes_none():
    silent = Law("physics_6", np.zeros(6), 1_000)
    with pytest.raises(ValueError, match="gives it no time"):
        attribute(silent, trained_cnn(RunConfig(2, 16, 100), 1_000, "float32"), 1.0)
