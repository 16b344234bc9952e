"""What a run costs on several GPUs, for people: a table of energy, money and CO2, and where its rates come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epochcast.footprint.footprint import Footprint
from epochcast.footprint.text import (
    UNKNOWN_POWER,
    embodied_words,
    priced_range,
    region_sources,
    region_words,
    wall_words,
)
from epochcast.interval import Interval
from epochcast.model.answers.other_gpus import GpuAnswer
from epochcast.output.text import significant, table_text


def footprint_table(answers: Sequence[GpuAnswer]) -> str:
    """Each GPU's energy, money and CO2 at each place; `x` is a place's value over that of the first."""
    has_places = len(answers[0].footprints) > 1
    has_embodied = answers[0].footprints[0].embodied_kg_co2e is not None
    header = ["GPU", *(["region"] if has_places else []), "wall kWh", "range", "electricity USD", "range"]
    header += [*(["x"] if has_places else []), "cloud USD", "range", "kg CO2", "range"]
    header += [*(["x"] if has_places else []), *(["embodied kg", "range"] if has_embodied else [])]
    rows = [_row(answer, found, has_places, has_embodied) for answer in answers for found in answer.footprints]
    return table_text(header, rows)


def footprint_notes(answers: Sequence[GpuAnswer]) -> list[str]:
    """Where, by which method and at whose prices; what is the same of several GPUs once."""
    found = answers[0].footprints
    lines = [f"region: {region_words(found[0])}"] if len(found) == 1 else []
    lines += [*region_sources(found), f"wall kWh: {wall_words(found[0])}", *_energy_lines(answers)]
    if found[0].embodied_kg_co2e is not None:
        lines.append(f"embodied: {embodied_words()}; not in kg CO2")
    for answer in answers:
        if (price := answer.footprints[0].rates.usd_per_gpu_hour) is not None:
            lines.append(f"cloud {answer.gpu.name}: {significant(price.value.value)} USD/GPU hour ({price.words})")
    return lines


def _energy_lines(answers: Sequence[GpuAnswer]) -> list[str]:
    """The methods by which the GPUs' energies are known; one that differs only in the TDP is told once."""
    if len(answers) == 1:
        return [f"energy: {_method(answers[0])}"]
    by_method: dict[str, list[str]] = {}
    for answer in answers:
        tdp = "TDP" if answer.gpu.tdp_w is None else f"TDP {answer.gpu.tdp_w:g} W"
        by_method.setdefault(_method(answer).replace(tdp, "TDP of each"), []).append(answer.gpu.name)
    if len(by_method) == 1:
        return [f"energy: {method}" for method in by_method]
    most = max(by_method, key=lambda method: len(by_method[method]))
    some = sorted((sorted(names), method) for method, names in by_method.items() if method != most)
    lines = [f"energy {', '.join(names)}: {method}" for names, method in some]  # in whichever order the GPUs are
    of = by_method[most]
    return [*lines, f"energy {of[0] if len(of) == 1 else 'of the others'}: {most}"]


def _method(answer: GpuAnswer) -> str:
    energy = answer.footprints[0].energy
    return f"unknown: {UNKNOWN_POWER}" if energy is None else energy.method


def _row(answer: GpuAnswer, found: Footprint, has_places: bool, has_embodied: bool) -> list[Any]:
    first, kwh = answer.footprints[0], found.wall_kwh
    row: list[Any] = [answer.gpu.name, *([found.rates.region.code] if has_places else [])]
    row += _cells(kwh, kwh)
    row += [*_cells(found.electricity_usd, kwh), *_over(found.electricity_usd, first.electricity_usd, has_places)]
    row += _cells(found.cloud_usd, found.gpu_hours)
    co2 = found.operational_kg_co2e
    row += [*_cells(co2, kwh), *_over(co2, first.operational_kg_co2e, has_places)]
    return [*row, *(_cells(found.embodied_kg_co2e, found.gpu_hours) if has_embodied else [])]


def _cells(value: Interval | None, amount: Interval | None) -> list[Any]:
    """A value, and its range by what is known of the amount that was priced."""
    return [None, None] if value is None else [value.value, priced_range(amount, value)]


def _over(value: Interval | None, first: Interval | None, is_shown: bool) -> list[float | None]:
    if not is_shown:
        return []
    return [None if value is None or first is None or first.value == 0 else value.value / first.value]
