"""Board energy of an epoch: as measured, else the predicted time at the power of measured configurations."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from epochcast.gpus.device_names import are_same_conditions
from epochcast.interval import Interval
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.stats import MAD_TO_SD, MIN_RUNS

MIN_POWERS = 3  # measured configurations: one or two tell of no spread


@dataclass(frozen=True, slots=True)
class EnergyPerEpoch:
    """Joules of the board in a full epoch and where they come from."""

    joules: Interval
    was_measured: bool
    basis: str


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """The measured board energy and mean power of configurations under one set of conditions."""

    rows: Mapping[RunConfig, AggRow]

    @classmethod
    def of(cls, conditions: Conditions, rows: Iterable[AggRow]) -> EnergyModel:
        """From those of the rows that measured energy under just these conditions."""
        known = (
            row
            for row in rows
            if row.energy_j_per_epoch_median is not None and are_same_conditions(row.conditions, conditions)
        )
        return cls({row.config: row for row in known})

    def per_epoch(self, config: RunConfig, steady: Interval) -> EnergyPerEpoch | None:
        """The energy of a configuration whose epoch takes `steady` seconds; None where no row measured energy.

        One that was measured is its rows' median, with a band of its runs' spread from MIN_RUNS on. Another draws the
        median mean power of the measured ones; from MIN_POWERS of them on its band reaches from the lowest power in the
        shortest time to the highest in the longest.
        """
        if (row := self.rows.get(config)) is not None and row.energy_j_per_epoch_median is not None:
            mad, has_spread = row.energy_j_per_epoch_mad, (row.n_energy or 0) >= MIN_RUNS
            half = HALF_WIDTH_SDS * MAD_TO_SD * mad if mad is not None and has_spread else None
            joules = Interval.of_absolute(row.energy_j_per_epoch_median, half)
            return EnergyPerEpoch(joules, True, f"measured, {row.n_energy} runs")
        powers = [row.mean_power_w_median for row in self.rows.values() if row.mean_power_w_median is not None]
        if not powers:
            return None
        has_band = len(powers) >= MIN_POWERS
        low = steady.low * min(powers) if steady.low is not None and has_band else None
        high = steady.high * max(powers) if steady.high is not None and has_band else None
        joules = Interval(steady.value * statistics.median(powers), low, high)
        watts = f"{min(powers):.0f} to {max(powers):.0f} W"
        return EnergyPerEpoch(
            joules, False, f"predicted time x power of {len(powers)} measured configurations, {watts}"
        )
