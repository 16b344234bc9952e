"""Where the electricity comes from: carbon and price of a kilowatt-hour by place, with the range of all sources."""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from epochcast.facts import (
    CarbonIntensity,
    ElectricityPrice,
    carbon_intensities,
    electricity_prices,
    preferred,
    source_name,
    year_words,
)
from epochcast.interval import Interval

WORLD_CODE = "WORLD"
MOST_NEAREST = 6  # places in a message


@dataclass(frozen=True, slots=True)
class Sourced:
    """A fact with its source: the preferred row's value, and as ends the lowest and highest of all sources.

    With a single source the range is unknown. `notes` says whose it is where it is not the place's own, and what the
    range spans.
    """

    value: Interval
    year: str | None
    source: str
    notes: str

    @property
    def year_words(self) -> str:
        return year_words(self.year)


@dataclass(frozen=True, slots=True)
class Place:
    """A country, a zone of a grid, a cloud's region or the world; g CO2e/kWh and USD/kWh."""

    code: str
    name: str
    carbon: Sourced
    electricity: Sourced | None


def find_place(text: str) -> Place:
    """The place of exactly this code or name: `DE`, `DEU`, `Germany`, `SE3`, `CAMX`, `gcp:us-central1`, `US-CA`.

    Raises:
        ValueError: if there is none; the message lists the nearest.
    """
    code = _codes().get(_plain(text))
    if code is None:
        near = difflib.get_close_matches(_plain(text), _codes(), n=MOST_NEAREST, cutoff=0.5)
        codes = list(dict.fromkeys(_codes()[key] for key in near)) or [WORLD_CODE]
        listed = ", ".join(f"{code} ({_name(code)})" for code in codes)
        raise ValueError(
            f"no region {text!r}; the nearest: {listed}. Give an ISO code, a country's name or a zone: "
            "epochcast facts carbon"
        )
    return _place(code)


def world() -> Place:
    """The average of the world, for whoever does not say where."""
    return _place(WORLD_CODE)


# --- names ------------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Lower case letters and digits without accents."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKD", text.strip()).casefold())


@functools.cache
def _codes() -> dict[str, str]:
    """Every code and name in comparable form, and the code it stands for; codes go before names."""
    codes: dict[str, str] = {}
    rows: tuple[CarbonIntensity | ElectricityPrice, ...] = (*carbon_intensities(), *electricity_prices())
    for row in rows:
        codes.setdefault(_plain(row.code), row.code)
    for row in rows:
        if row.kind == "country":
            codes.setdefault(_plain(row.iso3 or ""), row.code)
        if row.kind != "cloud_region":  # a city's name would say nothing of its cloud
            codes.setdefault(_plain(row.name), row.code)
    return codes


def _carbon_rows(code: str) -> list[CarbonIntensity]:
    """A country's own rows first: where a zone is the whole country (FI) it is one more source."""
    return sorted((r for r in carbon_intensities() if r.code == code), key=lambda r: r.kind not in ("country", "world"))


def _price_rows(code: str) -> list[ElectricityPrice]:
    return [row for row in electricity_prices() if row.code == code]


def _rows(code: str) -> list[CarbonIntensity | ElectricityPrice]:
    return [*_carbon_rows(code), *_price_rows(code)]


def _name(code: str) -> str:
    """A zone's name with its country's."""
    row = _rows(code)[0]
    return row.name if row.iso2 in (None, code) else f"{row.name}, {_name(row.iso2)}"


# --- values -----------------------------------------------------------------------------------------------------------


@functools.cache
def _place(code: str) -> Place:
    country = _rows(code)[0].iso2
    carbon = _carbon_of(code)
    if carbon is None and country is not None:
        carbon = _borrowed(_carbon_of(country), country)
    if carbon is None:
        carbon = _borrowed(_carbon_of(WORLD_CODE), WORLD_CODE)
    if carbon is None:
        raise ValueError(f"the table of carbon intensities has no row for {code} or {WORLD_CODE}.")
    electricity = _price_of(code)
    if electricity is None and country is not None:
        electricity = _borrowed(_price_of(country), country)
    return Place(code, _name(code), carbon, electricity)


def _borrowed(sourced: Sourced | None, code: str) -> Sourced | None:
    """Another place's fact, which says so."""
    if sourced is None:
        return None
    whose = f"no figure of its own: that of {_name(code)}"
    return Sourced(sourced.value, sourced.year, sourced.source, "; ".join(filter(None, [whose, sourced.notes])))


def _carbon_of(code: str) -> Sourced | None:
    rows = _carbon_rows(code)
    if not rows:
        return None
    own = [row for row in rows if row.kind == rows[0].kind]
    best = preferred(own)
    return Sourced(
        _range(best.g_co2e_per_kwh, [r.g_co2e_per_kwh for r in rows]), best.year, best.source, _notes(best, rows)
    )


def _price_of(code: str) -> Sourced | None:
    rows = _price_rows(code)
    if not rows:
        return None
    best = preferred(rows)
    tariff = f"tariff: {best.tariff or 'not stated'}"
    if len({row.tariff for row in rows}) > 1:
        others = sorted({row.tariff or "not stated" for row in rows if row.tariff != best.tariff})
        tariff += f" (the range also spans tariff {', '.join(others)})"
    notes = "; ".join([tariff, *filter(None, [_notes(best, rows)])])
    return Sourced(_range(best.usd_per_kwh, [r.usd_per_kwh for r in rows]), best.year, best.source, notes)


def _range(value: float, all_values: Sequence[float]) -> Interval:
    return Interval(value) if len(all_values) == 1 else Interval.of_spread(value, all_values)


def _notes(best: CarbonIntensity | ElectricityPrice, rows: Sequence[CarbonIntensity | ElectricityPrice]) -> str:
    """What the preferred row remarks, and whom the range is over."""
    return "; ".join(filter(None, [best.notes, f"range over {_listed(rows)}" if len(rows) > 1 else None]))


def _listed(rows: Iterable[CarbonIntensity | ElectricityPrice]) -> str:
    return ", ".join(f"{source_name(row)} {year_words(row.year)}" for row in rows)
