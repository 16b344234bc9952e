"""The benchmark of the calibrated roofline: what it claims is reached, and its constants are those that are shipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.estimates.bench_roofline import (
    REFERENCE_ARITHMETIC,
    REFERENCE_GPU,
    a100_claims,
    attainable_sec,
    calibrated,
    networks_table,
)
from benchmarks.lib.reference_table import steady_rows
from epochcast.facts.assumptions import assumption
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import roof_of
from epochcast.model.time_model.physics import FORMS, Law
from epochcast.model.time_model.time_model import Table
from epochcast.schema import RunConfig
from tests.support.rows import agg_row

ROOF = roof_of(find_gpu(REFERENCE_GPU), REFERENCE_ARITHMETIC)
CONFIGS = [RunConfig(d, f, b) for d in (2, 3, 5) for f in (16, 64) for b in (64, 512, 2048)]


def test_the_reference_table_reaches_its_target_and_gives_the_factors_that_are_shipped(reference_data):
    claims, values = a100_claims(steady_rows(), ROOF)
    judged = {claim.what: claim.reached for claim in claims if claim.reached is not None}
    assert judged == {"median error on the 135 others": True}
    assert values["median_error"] <= values["p90_error"] <= values["worst_error"]
    for name, end in (("median", ""), ("low", "_low"), ("high", "_high")):
        assert assumption(f"roofline_factor{end}", "gpu").value == pytest.approx(values["factor"][name], rel=0.01)


def test_a_law_is_judged_on_the_configurations_that_it_did_not_see():
    law = Law("physics_6", np.array([0.3, 1e-3, 3e-4, 9e-11, 7e-15, 4e-12]), 50_000)
    seconds = law.seconds(CONFIGS)
    seconds[3] *= 1.5
    picked = [config for i, config in enumerate(CONFIGS) if i != 3 and i % 2]
    found, rest, error = calibrated(Table(CONFIGS, seconds, 50_000), picked)
    assert sorted([*rest, *picked]) == sorted(CONFIGS)
    assert rest[np.argmax(np.abs(error))] == CONFIGS[3]
    assert np.abs(error).max() == pytest.approx(1 / 3)
    assert np.sort(np.abs(error))[-2] < 1e-6  # the others follow the law
    assert len(found.coefficients) == len(FORMS["physics_6"])


def test_doubled_peaks_halve_what_is_attainable_at_least():
    twice = replace(ROOF, flops=2 * ROOF.flops, bytes_per_sec=2 * ROOF.bytes_per_sec, launch_sec=ROOF.launch_sec / 2)
    np.testing.assert_allclose(attainable_sec(CONFIGS, 50_000, ROOF), 2 * attainable_sec(CONFIGS, 50_000, twice))


def test_a_table_that_runs_at_its_roof_has_a_factor_of_one():
    seconds = attainable_sec(CONFIGS, 50_000, ROOF)
    rows = [agg_row(c.depth, c.base_filters, c.batch_size, float(sec)) for c, sec in zip(CONFIGS, seconds, strict=True)]
    _, values = a100_claims(rows, ROOF)
    assert values["factor"] == pytest.approx(dict.fromkeys(("median", "low", "high", "least", "most"), 1.0))


def test_networks_show_how_much_longer_they_took_than_the_law_says():
    row = {"network": "residual", "family": "convolutional", "batch_size": 32, "measured_sec": 3.0, "law_sec": 2.0}
    assert networks_table({"networks": [row]}).splitlines()[1].split() == [
        "residual",
        "convolutional",
        "32",
        "3.00",
        "2.00",
        "1.50",
    ]
