"""Answers for several GPUs: tables for people, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.assumptions import assumption
from epochcast.cli import percent, significant, table_text
from epochcast.facts import year_words
from epochcast.footprint import Footprint
from epochcast.footprint_text import embodied_words, footprint_json, place_words, pue_words, region_sources
from epochcast.interval import Interval
from model.answer import memory_values, time_values, with_bounds
from model.carry import RATES, SPEED_ROW
from model.gpu_answers import MEASURED, GpuAnswer
from model.predictor import SavedModel


def gpu_lines(answers: Sequence[GpuAnswer], saved: SavedModel, left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """A table of times, with `epochs` one of energy, money and CO2, and below them what they rest on."""
    lines = [_time_table(answers, saved.train_n), *_basis_lines(answers, saved)]
    for reason, names in left_out.items():
        lines.append(f"left out: {len(names)} GPU{'' if len(names) == 1 else 's'} {reason}: {', '.join(names)}")
    if any(answer.footprints for answer in answers):
        lines += ["", *_footprint_lines(answers)]
    return lines


def _time_table(answers: Sequence[GpuAnswer], train_n: int) -> str:
    has_runs = any(answer.forecast.run.training is not None for answer in answers)
    header = ["GPU", "s/epoch", "90 %", "images/s", *(["wall s", "90 %"] if has_runs else []), "basis"]
    rows = []
    for answer in answers:
        steady, wall = answer.forecast.steady, answer.forecast.run.wall
        row = [answer.gpu.name, steady.value, _range(steady), steady.inverse(train_n).value]
        row += [None if wall is None else wall.value, _range(wall)] if has_runs else []
        facts = f"{year_words(answer.gpu.year)}, {answer.gpu.confidence}"
        rows.append([*row, answer.basis, facts, f"{answer.fit} {answer.gpu.memory_gb:g} GB"])
    return table_text([*header, "facts", "memory"], rows)


def _basis_lines(answers: Sequence[GpuAnswer], saved: SavedModel) -> list[str]:
    first = answers[0]
    lines = []
    if any(answer.ratio is not None for answer in answers):
        lines.append(
            f"carried over: from {saved.device_name} in {saved.conditions.precision}; of its epoch "
            f"{percent(first.share)} is arithmetic and memory, which is scaled; input, host and steps stay as they were"
        )
    if len(answers) == 1:
        return [*lines, f"{first.basis}: {first.words}"]
    weight, rates_bar, row_bar = (
        assumption(f"carry_{name}", "gpu").value for name in ("compute_weight", "bar_convolutional", "bar_speed_row")
    )
    told = {
        SPEED_ROW: f"published speeds of a convolutional network on both GPUs, x/÷{row_bar:g} on that share",
        RATES: f"dense rates to the {weight:g}, bandwidths to the {1 - weight:g}, x/÷{rates_bar:g} on that share",
    }
    lines += [f"{basis}: {words}" for basis, words in told.items() if basis in {answer.basis for answer in answers}]
    lines += [f"{answer.gpu.name}: {answer.words}" for answer in answers if answer.basis == MEASURED]
    if any(answer.ratio is not None and answer.ratio.value.low is None for answer in answers):
        lines.append("range unknown: no published speed of that maker's GPUs checks how well rates tell of them")
    return lines


def _footprint_lines(answers: Sequence[GpuAnswer]) -> list[str]:
    """Each GPU's energy, money and CO2 at each place, and where their rates come from."""
    places = [found.rates for found in answers[0].footprints]
    has_embodied = answers[0].footprints[0].embodied_kg_co2e is not None
    header = ["GPU", *(["region"] if len(places) > 1 else []), "wall kWh", "range", "electricity USD", "range"]
    header += [*(["x"] if len(places) > 1 else []), "cloud USD", "range", "kg CO2", "range"]
    header += [*(["x"] if len(places) > 1 else []), *(["embodied kg", "range"] if has_embodied else [])]
    rows = []
    for answer in answers:
        for found in answer.footprints:
            rows.append(_footprint_row(answer, found, len(places) > 1, has_embodied))
    lines = [table_text(header, rows)]
    first = answers[0].footprints
    if len(places) == 1:
        lines.append(f"region: {place_words(first[0])}")
    lines += [*region_sources(first), f"wall kWh: {_wall_words(first[0])}"]
    lines += [f"energy {answer.gpu.name}: {_method(answer)}" for answer in answers]
    if has_embodied:
        lines.append(f"embodied: {embodied_words()}; not in kg CO2")
    for answer in answers:
        if (price := answer.footprints[0].rates.usd_per_gpu_hour) is not None:
            lines.append(f"cloud {answer.gpu.name}: {significant(price.value.value)} USD/GPU hour ({price.words})")
    return lines


def _footprint_row(answer: GpuAnswer, found: Footprint, has_places: bool, has_embodied: bool) -> list[Any]:
    first = answer.footprints[0]
    row: list[Any] = [answer.gpu.name, *([found.rates.place.code] if has_places else [])]
    row += _cells(found.wall_kwh)
    row += [*_cells(found.electricity_usd), *_over(found.electricity_usd, first.electricity_usd, has_places)]
    row += _cells(found.cloud_usd)
    row += [
        *_cells(found.operational_kg_co2e),
        *_over(found.operational_kg_co2e, first.operational_kg_co2e, has_places),
    ]
    return [*row, *(_cells(found.embodied_kg_co2e) if has_embodied else [])]


def _wall_words(found: Footprint) -> str:
    rules = found.rates.rules
    if rules.energy_formula == "mlcost":
        return "host and cooling as the formula counts them"
    host = "GPU board only (host unknown: --host_w)" if rules.host_w is None else f"with a host of {rules.host_w:g} W"
    return f"{host}, PUE {pue_words(found)}"


def _method(answer: GpuAnswer) -> str:
    energy = answer.footprints[0].energy
    return "unknown: neither power nor a power limit is known" if energy is None else energy.method


def _cells(value: Interval | None) -> list[Any]:
    return [None if value is None else value.value, _range(value)]


def _over(value: Interval | None, first: Interval | None, is_shown: bool) -> list[float | None]:
    if not is_shown:
        return []
    return [None if value is None or first is None or first.value == 0 else value.value / first.value]


def _range(value: Interval | None) -> str | None:
    if value is None:
        return None
    if value.low is None or value.high is None:
        return "unknown"
    return f"{significant(value.low)} to {significant(value.high)}"


def gpu_json(answer: GpuAnswer, train_n: int, epochs: int | None) -> dict[str, Any]:
    """One GPU's answer as JSON values in full precision; null is unknown."""
    gpu = answer.gpu
    return {
        "gpu": gpu.name,
        "year": gpu.year,
        "confidence": gpu.confidence,
        "source": gpu.source,
        "precision": answer.conditions.precision,
        "basis": answer.basis,
        "basis_words": answer.words,
        "device_share": answer.share,
        **with_bounds("device_time_ratio", None if answer.ratio is None else answer.ratio.value),
        **time_values(answer.forecast, train_n, epochs),
        **memory_values(answer.memory),
        "memory_gb": gpu.memory_gb,
        "memory_fit": answer.fit,
        "footprints": [footprint_json(found) for found in answer.footprints],
    }
