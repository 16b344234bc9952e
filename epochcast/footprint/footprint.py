"""What joules mean: kWh at the wall, money and CO2 in a region, each with the range that is known of it.

Board energy is that of the GPU board alone. Wall energy = (board + host) x PUE; while the host is unknown it is that of
the board x PUE, and is called so. Nothing is looked up on the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.facts.regions import Region, Sourced, world
from epochcast.facts.tables import Gpu, cloud_prices, preferred, source_name, year_words
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.board_power import board_power, power_share
from epochcast.interval import Interval
from epochcast.output.text import percent

J_PER_KWH = 3.6e6
SEC_PER_HOUR = 3600.0
HOURS_PER_YEAR = 8760.0
G_PER_KG = 1000.0


# --- energy -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BoardEnergy:
    """Joules of a run's GPU boards, or of the processor package it trains on, and by which method they are known."""

    joules: Interval
    method: str
    has_overhead: bool = False  # the method counts host and cooling itself
    has_host: bool = False  # the method counts the host itself, but not the cooling
    gpus: int = 1  # boards that they are of: so many are rented, and so many were made
    is_processor: bool = False  # no GPU is used
    is_in_host: bool = False  # a processor whose energy is part of the host's: `joules` is 0, nothing comes on top
    detail: str = ""  # the run's own numbers, which `method` leaves out: several runs have it in common

    def __post_init__(self) -> None:
        if not isinstance(self.gpus, int) or self.gpus < 1:
            raise ValueError(f"gpus must be a whole number of at least 1, got {self.gpus}.")

    @property
    def words(self) -> str:
        """Return the method with the run's own numbers."""
        return f"{self.method}; {self.detail}" if self.detail else self.method

    @property
    def kwh(self) -> Interval:
        return self.joules.times(1 / J_PER_KWH)

    @property
    def is_of_boards(self) -> bool:
        """Whether it is the energy of the GPU boards or the processor alone."""
        return not (self.has_overhead or self.has_host or self.is_in_host)


def board_power_model(
    wall: Interval,
    limit_w: float,
    limit_is: str = "power limit",
    busy_share: float | None = None,
    tdp_w: float | None = None,
) -> BoardEnergy:
    """Return the energy where no power was measured, by the board's limit.

    Its range reaches from the lowest power in the shortest time to the highest in the longest.

    Args:
        wall: seconds of the run.
        limit_is: what `limit_w` is, for the words: the limit in force, or the TDP of the facts.
        busy_share: of the time in which the GPU computes or moves data; None where that is not known.
        tdp_w: by the data sheet; None: not known, and taken for the limit.
    """
    share, watts = power_share(busy_share), board_power(limit_w, busy_share, tdp_w)
    of = f"{limit_is} {limit_w:g} W"
    if tdp_w is not None and tdp_w != limit_w:
        of = f"TDP {tdp_w:g} W, at most the {of}"
    if busy_share is None:
        return BoardEnergy(wall.by(watts), f"board-power model: {share.value:g} x {of}, x/÷{share.factor:g}")
    words = f"board-power model: a share of {of} by how busy the GPU is, x/÷{share.factor:g}"
    return BoardEnergy(wall.by(watts), words, detail=f"busy {percent(busy_share)}: {share.value:.2f}")


def given_energy(wall: Interval, watts: float, is_processor: bool = False) -> BoardEnergy:
    """Return the energy at a power that the user named, from the start of the process to its exit."""
    return BoardEnergy(wall.times(watts), f"{watts:g} W given by --board_w", is_processor=is_processor)


def metered_energy(wall: Interval, watts: float, metered: str, is_processor: bool = False) -> BoardEnergy:
    """Return the energy at the mean power of a part of the run, whose range is that of the time alone.

    Args:
        watts: mean power while that part ran.
        metered: which part it was, and by what it was measured, for the words.
    """
    return BoardEnergy(wall.times(watts), f"{watts:.4g} W measured {metered}", is_processor=is_processor)


def mlcost_energy(wall: Interval, tdp_w: float, gpus: int = 1) -> BoardEnergy:
    """Energy by MLCost's formula, TDP x GPUs x utilization x overhead x time; its range is that of the time alone.

    Args:
        gpus: that the run keeps busy; a run of ours keeps one.
    """
    utilization, overhead = (assumption(f"mlcost_{name}", "gpu").value for name in ("utilization", "overhead"))
    words = f"MLCost's formula: TDP {tdp_w:g} W x {gpus} x {utilization:.2f} x {overhead:.2f}; its error is not known"
    return BoardEnergy(wall.times(tdp_w * gpus * utilization * overhead), words, has_overhead=True, gpus=gpus)


def asked_energy(wall: Interval, rules: FootprintRules, gpu: Gpu | None, is_processor: bool) -> BoardEnergy | None:
    """Energy by the formula or the power that the user names, else None.

    Raises:
        ValueError: if MLCost's formula is asked for and the device's TDP is unknown.
    """
    if rules.energy_formula == "mlcost":
        if gpu is None or gpu.tdp_w is None:
            raise ValueError(
                "energy_formula mlcost needs the TDP of the device, and the facts have none of it. Leave it out, or "
                "see epochcast facts gpus."
            )
        return mlcost_energy(wall, gpu.tdp_w)
    return None if rules.board_w is None else given_energy(wall, rules.board_w, is_processor)


def modelled_energy(
    wall: Interval,
    rules: FootprintRules,
    gpu: Gpu | None,
    is_processor: bool,
    power_limit_w: float | None = None,
    *,
    busy_share: float | None = None,
) -> BoardEnergy | None:
    """Return the energy by power limit or as part of the host's; else None.

    Args:
        busy_share: of the time in which the GPU computes or moves data; None where that is not known.
    """
    tdp_w = None if gpu is None else gpu.tdp_w
    if power_limit_w is not None:
        return board_power_model(wall, power_limit_w, busy_share=busy_share, tdp_w=tdp_w)
    if tdp_w is not None:
        return board_power_model(wall, tdp_w, "TDP", busy_share)
    if is_processor and rules.host_w:
        words = f"part of the host's {rules.host_w:g} W: a processor has no board of its own"
        return BoardEnergy(Interval(0.0, 0.0, 0.0), words, is_processor=True, is_in_host=True)
    return None


# --- rates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """A price or an intensity with where it comes from: in short words, and in full."""

    value: Interval
    words: str
    source: str

    @classmethod
    def given(cls, value: float) -> Rate:
        """One that the user named: exact."""
        return cls(Interval(value, value, value), "as given", "as given")

    @classmethod
    def of(cls, fact: Sourced) -> Rate:
        notes = f"; {fact.notes}" if fact.notes else ""
        name = source_name(fact)  # type: ignore[arg-type]  # of a row it reads nothing but the source
        return cls(fact.value, f"{name} {fact.year_words}{notes}", f"{fact.source}, {fact.year_words}{notes}")


@dataclass(frozen=True, slots=True)
class Rates:
    """What energy and time cost in one region; None is unknown."""

    region: Region
    is_named: bool  # whether the user said that it is there
    rules: FootprintRules
    g_per_kwh: Rate
    usd_per_kwh: Rate | None
    usd_per_gpu_hour: Rate | None
    is_gpu_known: bool  # whether the facts have the device; a processor they never have


def rates_of(rules: FootprintRules, gpu: Gpu | None) -> tuple[Rates, ...]:
    """Return the rates of each region of the rules, in their order; without any the world's average.

    Args:
        gpu: whose hours in a cloud are priced, None where it is not known.
    """
    usd_per_gpu_hour = _cloud_rate(gpu) if rules.usd_per_gpu_hour is None else Rate.given(rules.usd_per_gpu_hour)
    found = []
    for region in rules.regions or (world(),):
        electricity = None if region.electricity is None else Rate.of(region.electricity)
        found.append(
            Rates(
                region,
                is_named=bool(rules.regions),
                rules=rules,
                g_per_kwh=Rate.of(region.carbon) if rules.gco2_per_kwh is None else Rate.given(rules.gco2_per_kwh),
                usd_per_kwh=electricity if rules.usd_per_kwh is None else Rate.given(rules.usd_per_kwh),
                usd_per_gpu_hour=usd_per_gpu_hour,
                is_gpu_known=gpu is not None,
            )
        )
    return tuple(found)


def _cloud_rate(gpu: Gpu | None) -> Rate | None:
    """The newest on-demand price of a GPU's hour, with the range of all; a disputed one is never taken."""
    if gpu is None:
        return None
    offers = [
        price
        for price in cloud_prices()
        if price.gpu == gpu.name and price.offer == "on-demand" and price.confidence != "disputed"
    ]
    if not offers:
        return None
    newest = preferred(offers)
    words = f"{newest.provider} {newest.instance} {newest.offer}, {year_words(newest.year)}"
    source = f"{words}: {newest.source}"
    if len(offers) == 1:
        return Rate(Interval(newest.usd_per_gpu_hour), f"{words}, the only one on record", source)
    others = ", ".join(f"{offer.provider} {year_words(offer.year)}" for offer in offers)
    value = Interval.of_spread(newest.usd_per_gpu_hour, [offer.usd_per_gpu_hour for offer in offers])
    return Rate(value, f"{words}; range over {others}", f"{source}; range over {others}")


# --- footprint --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one run takes, costs and emits in one region; None is unknown."""

    rates: Rates
    wall: Interval  # seconds
    energy: BoardEnergy | None
    wall_kwh: Interval | None
    electricity_usd: Interval | None
    cloud_usd: Interval | None
    operational_kg_co2e: Interval | None
    embodied_kg_co2e: Interval | None  # of the GPUs' making; None where it was not asked for, or no GPU is known of

    @property
    def board_kwh(self) -> Interval | None:
        """Energy of the GPU boards or the processor alone, unknown where the method counts more."""
        return self.energy.kwh if self.energy is not None and self.energy.is_of_boards else None

    @property
    def gpu_hours(self) -> Interval:
        """What is paid for in a cloud."""
        return _gpu_hours(self.energy, self.wall)


def footprint(energy: BoardEnergy | None, wall: Interval, rates: Rates) -> Footprint:
    """The footprint of a run.

    Args:
        energy: of all its boards, None where it is unknown, as on a CPU.
        wall: its seconds.
        rates: of the region where it is done.

    Raises:
        ValueError: if a power of the host is given for energy that counts the host itself.
    """
    rules = rates.rules
    if energy is not None and energy.has_host and rules.host_w is not None:
        raise ValueError("the energy is that of whole nodes, the host counts in it: leave host_w out.")
    wall_kwh = None if energy is None else energy.kwh
    if wall_kwh is not None and rules.host_w is not None:
        wall_kwh = together(wall_kwh, wall.times(rules.host_w / J_PER_KWH))
    if wall_kwh is not None:
        wall_kwh = wall_kwh.times(rules.pue or 1.0)
    gpu_hours = _gpu_hours(energy, wall)
    has_gpu = rates.is_gpu_known or (energy is not None and not energy.is_processor)
    return Footprint(
        rates,
        wall,
        energy,
        wall_kwh,
        electricity_usd=_priced(wall_kwh, rates.usd_per_kwh),
        cloud_usd=_priced(gpu_hours, rates.usd_per_gpu_hour),
        operational_kg_co2e=None if wall_kwh is None else wall_kwh.by(rates.g_per_kwh.value).times(1 / G_PER_KG),
        embodied_kg_co2e=gpu_hours.by(embodied().kg_per_hour) if rules.has_embodied and has_gpu else None,
    )


@dataclass(frozen=True, slots=True)
class Embodied:
    """What the making of a GPU emitted, and over how much service it is spread: assumptions, all three."""

    kg_co2e: Interval  # of one GPU
    lifetime_years: float
    use_share: float  # of its service life, in which it computes

    @property
    def kg_per_hour(self) -> Interval:
        return self.kg_co2e.times(1 / (self.lifetime_years * HOURS_PER_YEAR * self.use_share))


def embodied() -> Embodied:
    """The assumptions in force."""
    names = ("kg_co2e", "kg_co2e_low", "kg_co2e_high", "lifetime_years", "use_share")
    made, low, high, years, share = (assumption(f"embodied_{name}", "gpu").value for name in names)
    return Embodied(Interval(made, low, high), years, share)


def _gpu_hours(energy: BoardEnergy | None, wall: Interval) -> Interval:
    return wall.times((1 if energy is None else energy.gpus) / SEC_PER_HOUR)


def _priced(amount: Interval | None, rate: Rate | None) -> Interval | None:
    return None if amount is None or rate is None else amount.by(rate.value)


def together(a: Interval, b: Interval) -> Interval:
    """The sum of two that grow with the same time, so that they are off in the same direction: their ends add."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Interval(a.value + b.value)
    return Interval(a.value + b.value, a.low + b.low, a.high + b.high)
