"""Energy, money and CO2 of a training on whole nodes of GPUs.

E = k x TDP x GPUs x time, with k fitted to MLPerf trainings whose nodes were metered at the wall
(`benchmarks/mlperf/bench_energy.py`). Hosts count in it, cooling does not: that is the PUE's.
"""

from __future__ import annotations

from dataclasses import replace

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import ElectricityPrice, Gpu, electricity_prices, source_name, year_words
from epochcast.footprint.footprint import BoardEnergy, Footprint, Rate, Rates, footprint, mlcost_energy, rates_of
from epochcast.footprint.rules import FootprintRules
from epochcast.interval import Interval

MLCOST = "MLCost"  # as the facts name it


def node_power_share(has_network: bool = False) -> Interval:
    """Return whole nodes' power over their GPUs' TDP, with lowest and highest run.

    Args:
        has_network: whether the network's switches count, too.
    """
    kind = "share_network" if has_network else "share"
    return Interval(*(assumption(f"node_power_{kind}{end}", "gpu").value for end in ("", "_low", "_high")))


def training_energy(
    gpu: Gpu, gpus: int, wall: Interval, *, has_network: bool = False, is_mlcost: bool = False
) -> BoardEnergy:
    """Return a training's energy by power measured on nodes, or by MLCost's formula.

    Args:
        gpu: its `tdp_w` is the limit of the board in question.
        wall: seconds of the training.
        has_network: whether the network's switches count; MLCost's formula does not tell them apart.

    Raises:
        ValueError: if the board's TDP is unknown, there is no GPU, or MLCost's formula is to count switches.
    """
    if gpu.tdp_w is None:
        raise ValueError(f"the TDP of {gpu.name} is unknown, so is its energy; see epochcast facts gpus.")
    if gpus < 1:
        raise ValueError(f"gpus must be at least 1, got {gpus}.")
    if is_mlcost:
        if has_network:
            raise ValueError("energy_formula mlcost knows no switches of the network: leave out one of the two.")
        return mlcost_energy(wall, gpu.tdp_w, gpus)
    share = node_power_share(has_network)
    words = (
        f"power of nodes: {share.value:g} x TDP {gpu.tdp_w:g} W x {gpus}, band {share.low:g} to {share.high:g}, "
        f"{'with' if has_network else 'without'} switches of the network; measured on H100 SXM and B200"
    )
    return BoardEnergy(wall.times(gpu.tdp_w * gpus).by(share), words, has_host=True, gpus=gpus)


def training_footprints(
    gpu: Gpu, gpus: int, wall: Interval, rules: FootprintRules, *, has_network: bool = False
) -> tuple[Footprint, ...]:
    """Return what a training takes, costs and emits in each region.

    With MLCost's formula a kilowatt-hour costs what MLCost says, where it has a price and the user gives none.

    Raises:
        ValueError: as `training_energy`; also if the rules give a power of boards or hosts.
    """
    if rules.host_w is not None or rules.board_w is not None:
        raise ValueError("the energy of whole nodes needs no power of boards or hosts: leave host_w and board_w out.")
    is_mlcost = rules.energy_formula == "mlcost"
    energy = training_energy(gpu, gpus, wall, has_network=has_network, is_mlcost=is_mlcost)
    rates = rates_of(rules, gpu)
    if is_mlcost and rules.usd_per_kwh is None:
        rates = tuple(_at_mlcost_price(each) for each in rates)
    return tuple(footprint(energy, wall, each) for each in rates)


def _at_mlcost_price(rates: Rates) -> Rates:
    for row in electricity_prices():
        if row.code == rates.region.code and source_name(row) == MLCOST:
            return replace(rates, usd_per_kwh=_rate_of(row))
    return rates


def _rate_of(row: ElectricityPrice) -> Rate:
    return Rate(Interval(row.usd_per_kwh), f"{MLCOST} {year_words(row.year)}", row.source)
