"""Regions that electricity comes from: carbon and price of a kilowatt-hour, with the range of all sources."""

from __future__ import annotations

import difflib
import functools
import re
import statistics
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from epochcast.facts.tables import (
    CarbonIntensity,
    ElectricityPrice,
    RegionGroup,
    carbon_intensities,
    electricity_prices,
    preferred,
    region_groups,
    source_name,
    year_words,
)
from epochcast.interval import Interval

Row = CarbonIntensity | ElectricityPrice
WORLD_CODE = "WORLD"
MOST_NEAREST = 6  # regions in a message


@dataclass(frozen=True, slots=True)
class Sourced:
    """A fact with its source: the preferred row's value, and as ends the lowest and highest of all sources.

    With a single source the range is unknown. A country's value for a place within it spans all that is known within
    that country; a group of countries without a figure of its own has the median and the range of its members'. `notes`
    says whose it is, and what the range spans.
    """

    value: Interval
    year: str | None
    source: str
    notes: str

    @property
    def year_words(self) -> str:
        return year_words(self.year)


@dataclass(frozen=True, slots=True)
class Region:
    """A country, a group of countries, a zone of a grid, a cloud's region or the world; g CO2e/kWh and USD/kWh."""

    code: str
    name: str
    carbon: Sourced
    electricity: Sourced | None


def find_region(text: str) -> Region:
    """Return the region of just this code or name: `DE`, `DEU`, `Germany`, `SE3`, `CAMX`, `gcp:us-central1`, `US-CA`.

    Raises:
        ValueError: if there is none; the message lists the nearest.
    """
    region = known_region(text)
    if region is None:
        near = difflib.get_close_matches(_plain(text), _codes(), n=MOST_NEAREST, cutoff=0.5)
        codes = list(dict.fromkeys(_codes()[key] for key in near)) or [WORLD_CODE]
        listed = ", ".join(f"{code} ({_name(code)})" for code in codes)
        groups = ", ".join(group.code for group in region_groups())
        raise ValueError(
            f"no region {text!r}; the nearest: {listed}. Give an ISO code, a country's name, a zone (epochcast facts "
            f"carbon) or a group: {groups}."
        )
    return region


def known_region(text: str) -> Region | None:
    """Return the region of just this code or name, None where there is none."""
    code = _codes().get(_plain(text))
    return None if code is None else _region(code)


def world() -> Region:
    """Return the average of the world, the default region."""
    return _region(WORLD_CODE)


# --- names ------------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Lower case letters and digits without accents."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKD", text.strip()).casefold())


@functools.cache
def _codes() -> dict[str, str]:
    """Every code and name in comparable form, and the code it stands for; codes go before names, names before cities.

    The city of a cloud's region stands for it where no other place has that name; so does each part of `Texas (ERCOT)`.
    """
    codes: dict[str, str] = {}
    rows: tuple[Row, ...] = (*carbon_intensities(), *electricity_prices())
    for row in rows:
        codes.setdefault(_plain(row.code), row.code)
    for row in rows:
        if row.kind == "country":
            codes.setdefault(_plain(row.iso3 or ""), row.code)
        if row.kind != "cloud_region":
            codes.setdefault(_plain(row.name), row.code)
    others: dict[str, set[str]] = {}
    for row in rows:
        parts = [row.name] if row.kind == "cloud_region" else re.split(r"[()]", row.name)
        for part in filter(None, map(_plain, parts)):
            others.setdefault(part, set()).add(row.code)
    for group in region_groups():
        for name in (group.code, group.name, *group.aliases):
            codes.setdefault(_plain(name), group.code)
    return {name: min(found) for name, found in others.items() if len(found) == 1} | codes


def _carbon_rows(code: str) -> list[CarbonIntensity]:
    """A country's own rows first: where a zone is the whole country (FI) it is one more source."""
    return sorted((r for r in carbon_intensities() if r.code == code), key=lambda r: r.kind not in ("country", "world"))


def _price_rows(code: str) -> list[ElectricityPrice]:
    return [row for row in electricity_prices() if row.code == code]


def _rows(code: str) -> list[Row]:
    return [*_carbon_rows(code), *_price_rows(code)]


def _name(code: str) -> str:
    """A zone's name with its country's."""
    if (group := _group(code)) is not None:
        return group.name
    row = _rows(code)[0]
    return row.name if row.iso2 in (None, code) else f"{row.name}, {_name(row.iso2)}"


def _group(code: str) -> RegionGroup | None:
    """The group of countries of this code, None where it is another place's."""
    return next((group for group in region_groups() if group.code == code), None)


def members_of(code: str) -> tuple[str, ...]:
    """Return the countries of a group, none where the code is no group's."""
    group = _group(code)
    return () if group is None else group.members


# --- values -----------------------------------------------------------------------------------------------------------


@functools.cache
def _region(code: str) -> Region:
    if (group := _group(code)) is not None:
        carbon = _own(_carbon_rows(code)) or _of_members(group, _carbon_rows)
        electricity = _own(_price_rows(code)) or _of_members(group, _price_rows)
    else:
        iso2 = _rows(code)[0].iso2
        carbon = _own(_carbon_rows(code)) or _of_country(iso2, code, _carbon_rows, carbon_intensities())
        electricity = _own(_price_rows(code)) or _of_country(iso2, code, _price_rows, electricity_prices())
    if carbon is None:
        raise ValueError(
            f"no carbon intensity is on record for {_name(code)} ({code}), nor for a country that it is part of. Name "
            "a country, or give --gco2_per_kwh with another --region."
        )
    return Region(code, _name(code), carbon, electricity)


def _own(rows: Sequence[Row]) -> Sourced | None:
    """What several sources say of one place, None where there is none."""
    if not rows:
        return None
    best, values = _best(rows), [_value(row) for row in rows]
    notes: list[str | None] = []
    if isinstance(best, ElectricityPrice):
        others = sorted({_tariff(row) for row in rows if isinstance(row, ElectricityPrice)} - {_tariff(best)})
        also = f" (the range also spans tariff {', '.join(others)})" if others else ""
        notes.append(f"tariff: {_tariff(best)}{also}")
    notes += [best.notes, f"range over {_listed(rows)}" if len(rows) > 1 else None]
    value = Interval(values[0]) if len(rows) == 1 else Interval.of_spread(_value(best), values)
    return _sourced(value, best, notes)


def _of_country(
    iso2: str | None, code: str, rows_of: Callable[[str], Sequence[Row]], table: Sequence[Row]
) -> Sourced | None:
    """The country's value for a place within it: anything from the lowest to the highest within that country.

    Without a zone on record nothing tells how far a place may differ: the range is unknown.
    """
    if iso2 is None or iso2 == code or not (own := rows_of(iso2)):
        return None
    best, name = _best(own), _rows(code)[0].name
    zones = [row for row in table if row.iso2 == iso2 and row.code != iso2]
    near = ", ".join(f"{row.code} ({row.name})" for row in zones if name in row.name)
    notes: list[str | None] = [
        f"no figure of its own: that of {_name(iso2)}",
        f"{near} has one" if near else None,
    ]
    value = Interval(_value(best))
    if zones:
        value = Interval.of_spread(_value(best), [_value(row) for row in (*own, *zones)])
        notes.append(f"range over {_listed(own)}, and {len(zones)} places within it")
    if isinstance(best, ElectricityPrice):
        notes.append(f"tariff: {_tariff(best)}")
    return _sourced(value, best, [*notes, best.notes])


def _of_members(group: RegionGroup, rows_of: Callable[[str], Sequence[Row]]) -> Sourced | None:
    """Return the median and the range of what the members of a group have, None where no member is on record.

    Members count alike: what each of them uses is not on record, so nothing is weighted.
    """
    own = [_best(rows) for member in group.members if (rows := rows_of(member))]
    if not own:
        return None
    values = [_value(row) for row in own]
    names = ", ".join(dict.fromkeys(source_name(row) for row in own))
    years = sorted({row.year for row in own if row.year is not None})
    span = year_words(None if not years else years[0] if len(years) == 1 else f"{years[0]} to {years[-1]}")
    n = f"{len(own)} members" if len(own) == len(group.members) else f"{len(own)} of {len(group.members)} members"
    notes = f"no figure of its own: the median of {n}, unweighted; range over them"
    value = Interval.of_spread(statistics.median(values), values)
    return Sourced(value, span, f"{names}: the members' own figures; members: {group.source}", notes)


def _sourced(value: Interval, best: Row, notes: Iterable[str | None]) -> Sourced:
    return Sourced(value, best.year, best.source, "; ".join(filter(None, notes)))


def _best(rows: Sequence[Row]) -> Row:
    """The preferred of the rows that are of the same kind as the first; others, a zone's of its country, are ends."""
    return preferred([row for row in rows if row.kind == rows[0].kind])


def _value(row: Row) -> float:
    return row.g_co2e_per_kwh if isinstance(row, CarbonIntensity) else row.usd_per_kwh


def _tariff(row: ElectricityPrice) -> str:
    return row.tariff or "not stated"


def _listed(rows: Iterable[Row]) -> str:
    return ", ".join(f"{source_name(row)} {year_words(row.year)}" for row in rows)
