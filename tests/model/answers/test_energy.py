"""Board energy of an epoch from measured rows: a row's own first, other rows' power with a wide interval, else none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epochcast.interval import Interval
from epochcast.model.answers.energy import EnergyModel
from epochcast.schema import Conditions, RunConfig
from tests.support.rows import agg_row

GPU = Conditions(device_name="NVIDIA H100", backend="jax", precision="float32")
STEADY = Interval(2.0, 1.8, 2.3)


def measured(depth, filters, batch, joules, watts, conditions=GPU, mad=None, n=1):
    row = agg_row(depth, filters, batch)
    own = {name: getattr(conditions, name) for name in conditions.__dataclass_fields__}
    return replace(
        row, **own, n_energy=n, energy_j_per_epoch_median=joules, energy_j_per_epoch_mad=mad, mean_power_w_median=watts
    )


ROWS = [
    measured(2, 16, 64, 400.0, 200.0),
    measured(3, 16, 64, 900.0, 300.0, mad=6.0, n=5),
    measured(4, 16, 64, 2000.0, 350.0),
    measured(2, 16, 128, 50.0, 60.0, conditions=replace(GPU, precision="mixed_bfloat16")),
    agg_row(2, 32, 64),
]


def test_a_measured_configuration_has_its_own_energy():
    energy = EnergyModel.of(GPU, ROWS).per_epoch(RunConfig(3, 16, 64), STEADY)
    assert energy.was_measured
    assert energy.joules.value == 900.0
    assert energy.joules.high - 900.0 == pytest.approx(1.6449 * 1.4826 * 6.0, rel=1e-4)
    assert energy.basis == "measured, 5 runs"


def test_few_runs_tell_of_no_band():
    energy = EnergyModel.of(GPU, ROWS).per_epoch(RunConfig(2, 16, 64), STEADY)
    assert energy.joules == Interval(400.0)
    three = [measured(2, 16, 64, 100.0, 200.0, mad=0.0, n=3)]  # of 100, 100 and 140 J
    assert EnergyModel.of(GPU, three).per_epoch(RunConfig(2, 16, 64), STEADY).joules == Interval(100.0)


def test_the_power_of_two_configurations_tells_of_no_band():
    energy = EnergyModel.of(GPU, ROWS[:2]).per_epoch(RunConfig(5, 16, 64), STEADY)
    assert energy.joules == Interval(2.0 * 250.0)


def test_another_configuration_draws_the_power_of_the_measured_ones():
    energy = EnergyModel.of(GPU, ROWS).per_epoch(RunConfig(2, 16, 128), STEADY)  # measured under other conditions only
    assert not energy.was_measured
    assert energy.joules == Interval(2.0 * 300.0, 1.8 * 200.0, 2.3 * 350.0)
    assert energy.basis == "predicted time x power of 3 measured configurations, 200 to 350 W"


def test_an_unknown_time_interval_leaves_the_energys_unknown():
    energy = EnergyModel.of(GPU, ROWS).per_epoch(RunConfig(5, 16, 128), Interval(2.0))
    assert energy.joules == Interval(600.0)


def test_rows_without_energy_give_none():
    assert EnergyModel.of(GPU, [agg_row(2, 32, 64)]).per_epoch(RunConfig(2, 32, 64), STEADY) is None
    assert EnergyModel.of(Conditions(), ROWS).per_epoch(RunConfig(2, 16, 64), STEADY) is None
