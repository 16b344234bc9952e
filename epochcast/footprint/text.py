"""A run's footprint for people and as JSON: lines, a table of several regions, and what else emits as much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epochcast.facts.tables import Equivalence, Pue, equivalences, preferred, pues, source_name, year_words
from epochcast.footprint.footprint import G_PER_KG, Footprint, Rate, embodied
from epochcast.interval import Interval, with_ends
from epochcast.output.text import range_text, significant, table_text

UNKNOWN_POWER = (
    "no power was measured, and no power limit is known (say --board_w; on a processor --host_w of the box is enough)"
)
SHOWN = ("car_km_us", "smartphone_charge", "led_hour_10w")  # the others are disputed, or of trees that may never grow


@dataclass(frozen=True, slots=True)
class Equivalent:
    """How much of something everyday emits as much, with the factor it was computed by."""

    fact: Equivalence
    amount: Interval
    kg_co2e_per_unit: float
    is_from_grid: bool = False  # the factor is the run's own grid's, not the fact's


def equivalents(found: Footprint) -> list[Equivalent]:
    """What emits as much as the energy of a run; none where that is unknown."""
    if found.operational_kg_co2e is None or found.wall_kwh is None:
        return []
    told = []
    for fact in equivalences():
        if fact.key not in SHOWN or fact.confidence == "disputed":
            continue
        if fact.kwh_per_unit is None:
            amount = found.operational_kg_co2e.times(1 / fact.kg_co2e_per_unit)
            told.append(Equivalent(fact, amount, fact.kg_co2e_per_unit))
        else:  # burns the run's own grid's electricity: how much of it depends on no intensity
            per_unit = fact.kwh_per_unit * found.rates.g_per_kwh.value.value / G_PER_KG
            told.append(Equivalent(fact, found.wall_kwh.times(1 / fact.kwh_per_unit), per_unit, is_from_grid=True))
    return told


def region_words(found: Footprint) -> str:
    """Return the region of a footprint in words."""
    region = found.rates.region
    if found.rates.is_named:
        return f"{region.name} ({region.code})"
    return "world average, not your location (say --region)"


def footprint_lines(found: Footprint, is_alone: bool = True) -> dict[str, str]:
    """What to print, a text for each name; what is unknown says so.

    With several regions (not `is_alone`) `region_sources` names the sources of their prices and intensities once.
    """
    rates, rules = found.rates, found.rates.rules
    lines = {"region": region_words(found)}
    if found.energy is None:
        lines["board_energy"] = f"unknown: {UNKNOWN_POWER}"
    elif found.energy.is_in_host:
        lines["board_energy"] = found.energy.words
    else:
        name = "board_energy" if found.energy.is_of_boards else "energy"
        lines[name] = f"{_amount(found.energy.kwh, 'kWh')}, {found.energy.words}"
    if found.wall_kwh is not None:
        lines["wall_energy"] = f"{_amount(found.wall_kwh, 'kWh')}, {wall_words(found)}"
    prices = {  # line: what is paid for, at which rate, what it comes to, the flag that would tell the rate
        "electricity": (found.wall_kwh, rates.usd_per_kwh, found.electricity_usd, "USD", "USD/kWh", "--usd_per_kwh"),
        "cloud": (
            found.gpu_hours,
            rates.usd_per_gpu_hour,
            found.cloud_usd,
            "USD",
            "USD/GPU hour",
            "--usd_per_gpu_hour",
        ),
        "co2_operational": (found.wall_kwh, rates.g_per_kwh, found.operational_kg_co2e, "kg", "g/kWh", ""),
    }
    of_whom = {"electricity": "electricity_price", "cloud": "cloud_price", "co2_operational": "carbon_intensity"}
    for name, parts in prices.items():
        lines[name] = _priced(*parts)
        if (rate := parts[1]) is not None and (is_alone or name == "cloud"):
            lines[of_whom[name]] = rate.words
    if rules.has_embodied:
        made = f"{_amount(found.embodied_kg_co2e, 'kg')}, not in co2_operational; {embodied_words()}"
        lines["co2_embodied"] = "unknown: no GPU is known to be used" if found.embodied_kg_co2e is None else made
    for told in equivalents(found):
        lines[f"as_much_as_{told.fact.unit}"] = _equivalent_words(told)
    return lines


def wall_words(found: Footprint) -> str:
    """What besides the board counts in the energy at the wall."""
    if found.energy is not None and found.energy.has_overhead:
        return "host and cooling as the formula counts them"
    return f"{host_words(found)}, PUE {pue_words(found)}"


def host_words(found: Footprint) -> str:
    """Whether the rest of the box counts."""
    host_w, energy = found.rates.rules.host_w, found.energy
    if energy is not None and energy.has_host:
        return "nodes with their hosts"
    is_processor = energy is not None and energy.is_processor
    if host_w is None:
        return f"{'processor' if is_processor else 'GPU board'} only (host unknown: --host_w)"
    if energy is not None and energy.is_in_host:
        return f"the whole box at {host_w:g} W"
    return f"with a host of {host_w:g} W"


def pue_words(found: Footprint) -> str:
    """The PUE used, and beside an unstated one what data centres have."""
    if found.rates.rules.pue is not None:
        return f"{found.rates.rules.pue:g} as given"
    centres = data_centre_pue()
    return f"1: a box of one's own ({centres.scope} {centres.pue:g}, {year_words(centres.year)})"


def data_centre_pue() -> Pue:
    """What surveyed data centres have on average, by the newest row."""
    return preferred([row for row in pues() if row.scope.startswith("world data centres")])


def embodied_words() -> str:
    """What the emissions of making a GPU assume."""
    made = embodied()
    return (
        f"assumed: {_amount(made.kg_co2e, 'kg')} to make a GPU, {made.lifetime_years:g} years of service, "
        f"{100 * made.use_share:g} % of them in use"
    )


def _amount(value: Interval | None, unit: str) -> str:
    if value is None:
        return "unknown"
    return f"{' '.join(filter(None, [significant(value.value), unit]))} ({_range(value)})"


def _range(value: Interval) -> str:
    is_exact = value.low is not None and value.low == value.high
    return "exact" if is_exact else range_text(value.low, value.high, "range unknown")


def priced_range(amount: Interval | None, found: Interval) -> str:
    """The range of what an amount comes to; where one source tells none of the rate, that of the amount alone."""
    if found.low is None and amount is not None and amount.low is not None:
        at_this = _range(amount.times(found.value / amount.value)) if amount.value else "0"
        return f"{at_this} at just this rate"
    return _range(found)


def _priced(
    amount: Interval | None, rate: Rate | None, found: Interval | None, unit: str, rate_unit: str, flag: str
) -> str:
    """What an amount comes to, and at which rate."""
    if rate is None:
        return f"unknown: no price on record (say {flag})"
    at = f"at {significant(rate.value.value)} {rate_unit} ({_range(rate.value)})"
    if amount is None or found is None:
        return f"unknown, as the energy is, {at}"
    return f"{significant(found.value)} {unit} ({priced_range(amount, found)}), {at}"


def _equivalent_words(told: Equivalent) -> str:
    fact = told.fact
    by = "of this grid" if told.is_from_grid else f"{source_name(fact)} {year_words(fact.year)}"
    factor = f"{significant(told.kg_co2e_per_unit)} kg each, {by}, confidence {fact.confidence}"
    return f"{_amount(told.amount, fact.unit)}, {fact.label}: {factor}"


# --- JSON and the table of several regions ----------------------------------------------------------------------------


def footprint_json(found: Footprint) -> dict[str, Any]:
    """Everything of a footprint as JSON values, in full precision; null is unknown."""
    rates, rules, region = found.rates, found.rates.rules, found.rates.region
    told: dict[str, Rate | None] = {
        "usd_per_kwh": rates.usd_per_kwh,
        "usd_per_gpu_hour": rates.usd_per_gpu_hour,
        "gco2_per_kwh": rates.g_per_kwh,
    }
    priced: dict[str, Any] = {}
    for name, rate in told.items():
        priced |= with_ends(name, None if rate is None else rate.value)
        priced[f"{name}_source"] = None if rate is None else rate.source
    return {
        "region": region.code,
        "region_name": region.name,
        "is_your_location": rates.is_named,
        "energy_method": None if found.energy is None else found.energy.words,
        "energy_formula": rules.energy_formula,
        **with_ends("board_kwh", found.board_kwh),
        "host_w": rules.host_w,
        "board_w": rules.board_w,
        "pue": rules.pue or 1.0,
        "pue_is_given": rules.pue is not None,
        **with_ends("wall_kwh", found.wall_kwh),
        **with_ends("electricity_usd", found.electricity_usd),
        **with_ends("cloud_usd", found.cloud_usd),
        **with_ends("operational_kg_co2e", found.operational_kg_co2e),
        **with_ends("embodied_kg_co2e", found.embodied_kg_co2e),
        "embodied_assumptions": embodied_words() if rules.has_embodied else None,
        **priced,
        "equivalents": [
            {
                "key": each.fact.key,
                "unit": each.fact.unit,
                **with_ends("amount", each.amount),
                "kg_co2e_per_unit": each.kg_co2e_per_unit,
                "source": "the grid's own intensity" if each.is_from_grid else each.fact.source,
                "year": None if each.is_from_grid else each.fact.year,
                "confidence": each.fact.confidence,
            }
            for each in equivalents(found)
        ],
    }


def regions_lines(found: Sequence[Footprint]) -> list[str]:
    """Return one run's footprint by lines, and a table of several regions."""
    texts = footprint_lines(found[0], is_alone=len(found) == 1)
    lines = [f"{name}: {text}" for name, text in texts.items()]
    return lines if len(found) == 1 else [*lines, region_table(found), *region_sources(found)]


def region_table(found: Sequence[Footprint]) -> str:
    """Compare one run in several regions; `x` is a region's value over that of the first."""
    first = found[0]
    header = ["region", "USD/kWh", "USD", "range", "x", "g/kWh", "kg CO2", "range", "x"]
    rows = []
    for each in found:
        price, grid = each.rates.usd_per_kwh, each.rates.g_per_kwh
        rows.append(
            [
                f"{each.rates.region.name} ({each.rates.region.code})",
                None if price is None else price.value.value,
                *_cells(each.wall_kwh, each.electricity_usd, first.electricity_usd),
                grid.value.value,
                *_cells(each.wall_kwh, each.operational_kg_co2e, first.operational_kg_co2e),
            ]
        )
    return table_text(header, rows)


def region_sources(found: Sequence[Footprint]) -> list[str]:
    """The table's prices and intensities with their ranges, a line for all regions that have the same source."""
    told: dict[str, dict[str, list[str]]] = {"USD/kWh": {}, "g/kWh": {}}  # of a unit: words of a source, its regions
    for each in found:
        code, price, grid = each.rates.region.code, each.rates.usd_per_kwh, each.rates.g_per_kwh
        told["g/kWh"].setdefault(grid.words, []).append(f"{code} {_amount(grid.value, '')}")
        if price is None:
            told["USD/kWh"].setdefault("no price on record", []).append(f"{code} unknown")
        else:
            told["USD/kWh"].setdefault(price.words, []).append(f"{code} {_amount(price.value, '')}")
    return [f"{unit}: {', '.join(at)}; {words}" for unit, by_words in told.items() for words, at in by_words.items()]


def _cells(amount: Interval | None, value: Interval | None, first: Interval | None) -> list[Any]:
    """The value of an amount, its range in words, its ratio to the first region's."""
    if value is None:
        return [None, None, None]
    ratio = None if first is None or first.value == 0 else value.value / first.value
    return [value.value, priced_range(amount, value), ratio]
