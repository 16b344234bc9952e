"""What `epochcast facts` can list: the tables of facts, their columns, and where sources of one thing disagree."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from epochcast.facts.regions import Region, members_of
from epochcast.facts.tables import (
    ARITHMETIC,
    Gpu,
    GpuDispute,
    accelerators,
    carbon_intensities,
    cloud_prices,
    electricity_prices,
    equivalences,
    gpu_disputes,
    preferred,
    pues,
    source_name,
    speed_rows,
    year_words,
)
from epochcast.storage.filters import matches

NOTABLE_SPREAD = 0.2  # (highest - lowest) / median above which sources disagree


@dataclass(frozen=True, slots=True)
class Topic:
    """One table of facts and how it is shown."""

    what: str
    rows: Callable[[], tuple[Any, ...]]  # Any: rows of one of the kinds of epochcast.facts.tables
    columns: dict[str, str]  # attribute: heading
    about: tuple[str, ...] = ()  # rows that are equal in these columns are several sources of one thing
    value: str = ""  # the column in which they may disagree


TOPICS = {
    "gpus": Topic(
        "dense TFLOP/s, memory and power limit of accelerators",
        accelerators,
        {
            "name": "name",
            "family": "family",
            **{f"{name}_tflops": name for name in ARITHMETIC},
            "memory_gb": "GB",
            "memory_bandwidth_gbs": "GB/s",
            "tdp_w": "TDP W",
        },
    ),
    "gpu_disputes": Topic(
        "values of GPUs that other tables have and ours do not",
        gpu_disputes,
        {"gpu": "gpu", "column": "column", "value": "told elsewhere"},
    ),
    "cloud_prices": Topic(
        "rent of a GPU",
        cloud_prices,
        {
            "provider": "provider",
            "instance": "instance",
            "gpu": "gpu",
            "offer": "offer",
            "usd_per_gpu_hour": "USD/GPU h",
        },
        ("provider", "gpu", "offer"),
        "usd_per_gpu_hour",
    ),
    "carbon": Topic(
        "greenhouse gases of electricity by place",
        carbon_intensities,
        {"code": "code", "name": "name", "g_co2e_per_kwh": "g CO2e/kWh"},
        ("kind", "code"),
        "g_co2e_per_kwh",
    ),
    "electricity": Topic(
        "price of electricity by place",
        electricity_prices,
        {"code": "code", "name": "name", "tariff": "tariff", "usd_per_kwh": "USD/kWh"},
        ("code",),
        "usd_per_kwh",
    ),
    "pue": Topic(
        "energy of a data centre over its computers'", pues, {"scope": "scope", "pue": "PUE"}, ("scope",), "pue"
    ),
    "speed": Topic(
        "published training speeds",
        speed_rows,
        {
            "gpu": "gpu",
            "task": "task",
            "kind": "kind",
            "precision": "precision",
            "throughput": "throughput",
            "unit": "unit",
        },
        ("gpu", "task", "precision"),
        "throughput",
    ),
    "equivalences": Topic(
        "what emits as much",
        equivalences,
        {"key": "key", "label": "label", "kg_co2e_per_unit": "kg CO2e", "kwh_per_unit": "kWh", "unit": "per"},
    ),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A row with what the other sources of the same thing make of it."""

    row: Any  # of one of the kinds of epochcast.facts.tables
    range: tuple[float, float] | None  # of all sources, None with one
    is_preferred: bool  # the row that is used
    is_disputed: bool
    told_elsewhere: tuple[GpuDispute, ...] = ()  # other values of a GPU

    def as_json(self, value: str) -> dict[str, Any]:
        """Return the row's columns, and the range of all sources as ends of the column `value`."""
        others = asdict(self)
        low, high = others.pop("range") or (None, None)
        return {**others.pop("row"), **({f"{value}_low": low, f"{value}_high": high} if value else {}), **others}

    def elsewhere_words(self, columns: Mapping[str, str]) -> list[str]:
        """What others say of a GPU, with the range that this makes; a column is told by its heading."""
        told = []
        for other in self.told_elsewhere:
            own = getattr(self.row, other.column)
            ends = "" if own is None else f", so {min(own, other.value):g} to {max(own, other.value):g}"
            words = f"told elsewhere: {columns[other.column]} {other.value:g}{ends}, by {other.source}"
            told.append("; ".join(filter(None, [f"{words}, {year_words(other.year)}", other.notes])))
        return told


def shown_rows(topic: Topic) -> list[Shown]:
    """All rows of a table; those of one thing stand beside what their sources say together."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    rows = topic.rows()
    for number, row in enumerate(rows):
        groups.setdefault(tuple(getattr(row, name) for name in topic.about) or (number,), []).append(row)
    shown = []
    for group in groups.values():
        ends, spread = None, 0.0
        if len(group) > 1:
            values = [float(getattr(row, topic.value)) for row in group]
            ends = min(values), max(values)
            spread = (ends[1] - ends[0]) / statistics.median(values) if ends[1] > ends[0] else 0.0
        used = preferred(group)
        for row in group:
            elsewhere = tuple(d for d in gpu_disputes() if d.gpu == row.name) if isinstance(row, Gpu) else ()
            is_disputed = spread > NOTABLE_SPREAD or row.confidence == "disputed" or bool(elsewhere)
            shown.append(Shown(row, ends, row is used, is_disputed, elsewhere))
    return shown


# --- which rows -------------------------------------------------------------------------------------------------------


def _of_gpus(rows: Sequence[Shown], found: Sequence[Gpu]) -> list[Shown]:
    """The rows of these GPUs; a GPU's own is as it was found, with the power limit that stood in its name."""
    chosen = []
    for shown in rows:
        for gpu in found:
            if isinstance(shown.row, Gpu) and shown.row.name == gpu.name:
                chosen.append(replace(shown, row=gpu))
            elif getattr(shown.row, "gpu", None) == gpu.name:
                chosen.append(shown)
    return chosen


def _is_in(row: Any, region: Region) -> bool:
    """Whether a row is of the region, of a zone of this country, or of a country of this group."""
    return region.code in (row.code, row.iso2) or (row.kind == "country" and row.code in members_of(region.code))


def chosen_rows(
    name: str,
    found: Sequence[Gpu] = (),
    region: Region | None = None,
    filters: Sequence[dict[str, str]] = (),
    only_disputed: bool = False,
) -> list[Shown]:
    """The rows of a topic that all conditions let through.

    Args:
        found: GPUs, each once, of which the rows are wanted; none: of all.

    Raises:
        ValueError: if the topic has no GPU or no region to choose by, or no such column.
    """
    topic = TOPICS[name]
    if found and name not in of_gpus():
        raise ValueError(f"facts {name} are not of a GPU; leave --gpu out, or ask for {', '.join(of_gpus())}.")
    if region is not None and name not in of_regions():
        raise ValueError(f"facts {name} are not of a place; leave --region out, or ask for {', '.join(of_regions())}.")
    rows = shown_rows(topic)
    if found:
        rows = _of_gpus(rows, found)
    if region is not None:
        rows = [s for s in rows if _is_in(s.row, region)]
    if filters:
        filters = [{column: _as_in_rows(column, text, rows) for column, text in pairs.items()} for pairs in filters]
        rows = [s for s in rows if matches(s.row, filters)]
    return [s for s in rows if s.is_disputed] if only_disputed else rows


def _as_in_rows(column: str, text: str, rows: Sequence[Shown]) -> str:
    """A number in a column of numbers as `matches` writes it: `80` is `80.0`."""
    is_number = any(isinstance(getattr(s.row, column, None), float) for s in rows)
    try:
        return str(float(text)) if is_number and text else text
    except ValueError:
        raise ValueError(f"--filter: {column} is a number, got {text!r}.") from None


def of_gpus() -> list[str]:
    return [name for name, topic in TOPICS.items() if "gpu" in topic.columns or name == "gpus"]


def of_regions() -> list[str]:
    return ["carbon", "electricity"]


def summary() -> list[dict[str, Any]]:
    """A line for each topic: rows, those in dispute, years and sources."""
    lines = []
    for name, topic in TOPICS.items():
        rows = shown_rows(topic)
        years = sorted(s.row.year for s in rows if s.row.year)
        lines.append(
            {
                "topic": name,
                "what": topic.what,
                "rows": len(rows),
                "disputed": sum(s.is_disputed for s in rows),
                "years": f"{years[0][:4]} to {years[-1][:4]}" if years else None,
                "year_unknown": len(rows) - len(years),
                "sources": sorted({source_name(s.row) for s in rows}),
            }
        )
    return lines
