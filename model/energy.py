"""Board energy of an epoch, from rows that measured it: the configuration's own, else time x the power of others."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from epochcast.schema import AggRow, Conditions, RunConfig
from model.intervals import HALF_WIDTH_SDS, Interval

MAD_TO_SD = 1.4826  # of normal errors


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
        known = (row for row in rows if row.energy_j_per_epoch_median is not None and row.conditions == conditions)
        return cls({row.config: row for row in known})

    def per_epoch(self, config: RunConfig, steady: Interval) -> EnergyPerEpoch | None:
        """The energy of a configuration whose epoch takes `steady` seconds; None where no row measured energy.

        One that was measured is its rows' median. Another draws the median mean power of the measured ones, its
        interval reaching from the lowest power in the shortest time to the highest in the longest.
        """
        if (row := self.rows.get(config)) is not None and row.energy_j_per_epoch_median is not None:
            mad = row.energy_j_per_epoch_mad
            half = None if mad is None else HALF_WIDTH_SDS * MAD_TO_SD * mad
            joules = Interval.of_absolute(row.energy_j_per_epoch_median, half)
            return EnergyPerEpoch(joules, True, f"measured, {row.n_energy} runs")
        powers = [row.mean_power_w_median for row in self.rows.values() if row.mean_power_w_median is not None]
        if not powers:
            return None
        low = None if steady.low is None else steady.low * min(powers)
        high = None if steady.high is None else steady.high * max(powers)
        joules = Interval(steady.value * statistics.median(powers), low, high)
        watts = f"{min(powers):.0f} to {max(powers):.0f} W"
        return EnergyPerEpoch(
            joules, False, f"predicted time x power of {len(powers)} measured configurations, {watts}"
        )
