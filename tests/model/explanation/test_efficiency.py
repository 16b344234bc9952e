"""A law's coefficients as efficiencies of the device."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import roof_of
from epochcast.model.explanation.efficiency import efficiencies, kernels_of_a_block
from epochcast.model.time_model.physics import FORMS, Law
from epochcast.schema import RunConfig
from epochcast.workload.shape import trained_cnn
from tests.support.models.explanations import A100, explained

pytestmark = pytest.mark.usefixtures("home")


def test_coefficients_become_efficiencies_and_shares_of_the_peak():
    network = trained_cnn(RunConfig(3, 32, 512), 50_000, "float32")
    roof = roof_of(find_gpu(A100), "tf32")
    law = Law("physics_6", np.array([0.3, 1e-3, 3e-4, 28 / 967.5e9, 1 / 78e12, 1 / 200e9]), 50_000)
    told = {e.term: e for e in efficiencies(law, network, roof, "tf32")}
    assert list(told) == list(FORMS["physics_6"])
    assert (told["per_flop"].value, told["per_flop"].share) == pytest.approx((78, 0.5))
    assert (told["per_param_step"].value, told["per_param_step"].share) == pytest.approx((967.5, 0.5))
    assert told["per_step_and_block"].value == pytest.approx(300 / kernels_of_a_block())
    moved = sum(r.inputs + r.outputs + r.backward_elements for r in network.records)
    outputs = sum(r.outputs for r in network.records)
    assert told["per_activation_byte"].value == pytest.approx(200 * moved / (3 * outputs))
    assert told["per_epoch"].share is None
    assert str(told["per_flop"]) == "78.0 TFLOP/s of multiply-adds in tf32: 50.0 % of the peak of 156"
    assert [e.share for e in efficiencies(law, network, None, None)] == [None] * 6
    assert efficiencies(Law("physics_6", np.array([0, 1e-3, 0, 0, 0, 0]), 50_000), network, roof, "tf32")[0].value == 1


def test_an_efficiency_above_the_peak_is_shown_for_what_it_is():
    (flops,) = (e for e in explained()["efficiencies"] if e["term"] == "per_flop")
    assert flops["share"] > 1  # of the shipped model's law: its terms are fitted to times, not measured one by one
    assert "the law counts some of this time in other terms" in flops["words"]
