"""Energy, money and CO2 of an estimated training."""

from __future__ import annotations

from epochcast.facts.assumptions import device_kind_of
from epochcast.footprint.footprint import (
    BoardEnergy,
    Footprint,
    asked_energy,
    footprint,
    metered_energy,
    modelled_energy,
    rates_of,
)
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.lookup import known_gpu
from epochcast.interval import Interval
from epochcast.live.sampling.power import MeteredPower


def footprints(
    total: Interval, power: MeteredPower | None, device_name: str, rules: FootprintRules, where: str = "the estimate"
) -> list[Footprint]:
    """Return what a training of `total` seconds takes, by region.

    Energy is what the user names, else by the power that was measured in a part of it (`where`), else by a model.

    Raises:
        ValueError: if MLCost's formula is asked for and the device's TDP is unknown.
    """
    gpu, is_processor = known_gpu(device_name), device_kind_of(device_name) == "cpu"
    energy: BoardEnergy | None = asked_energy(total, rules, gpu, is_processor)
    if energy is None and power is not None and not (is_processor and rules.host_w is not None):  # that is all of it
        metered = f"in {power.sec:.3g} s of {where} ({', '.join((power.source, *power.flags))})"
        energy = metered_energy(total, power.mean_w, metered, is_processor)
    if energy is None:
        energy = modelled_energy(total, rules, gpu, is_processor)
    return [footprint(energy, total, rates) for rates in rates_of(rules, gpu)]
