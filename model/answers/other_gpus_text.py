"""Predictions for several GPUs, for people: a table of times, one of energy, money and CO2, and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.facts.tables import year_words
from epochcast.footprint.footprint import Footprint
from epochcast.footprint.text import (
    UNKNOWN_POWER,
    embodied_words,
    priced_range,
    region_sources,
    region_words,
    wall_words,
)
from epochcast.gpus.ratio import LAYERS, RATES, SAME
from epochcast.gpus.scaled_time import LIMITED_WORDS
from epochcast.interval import Interval
from epochcast.model.answers.other_gpus import GpuPrediction
from epochcast.model.time_model.intervals import WITHIN
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.output.text import percent, range_text, significant, table_text

BASES = {
    LAYERS: "arithmetic and memory by the law of networks on both GPUs",
    RATES: "dense rates and bandwidths of both GPUs, as powers",
}


def gpu_lines(
    several: Sequence[Sequence[GpuPrediction]], saved: SavedModel, left_out: Mapping[str, Sequence[str]]
) -> tuple[list[list[str]], list[str]]:
    """Return for each configuration a table of times, with `epochs` one of costs, and what they rest on.

    Of several configurations, what holds for all of them is the second value.
    """
    if not any(several):
        return [[] for _ in several], []
    times = [[*_basis_lines(answers, saved), *_left_out_lines(left_out)] for answers in several]
    costs = [footprint_notes(answers) if answers[0].footprints else [] for answers in several]
    shared = _common(times) + _common(costs) if len(several) > 1 else []
    blocks = []
    for answers, of_times, of_costs in zip(several, times, costs, strict=True):
        lines = [_time_table(answers, saved.train_n), *(line for line in of_times if line not in shared)]
        if answers[0].footprints:
            lines += ["", footprint_table(answers), *(line for line in of_costs if line not in shared)]
        blocks.append(lines)
    return blocks, shared


def _common(notes: Sequence[Sequence[str]]) -> list[str]:
    return [line for line in notes[0] if all(line in others for others in notes)]


def _left_out_lines(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"left out: {len(names)} GPU{'' if len(names) == 1 else 's'} {reason}: {', '.join(names)}"
        for reason, names in left_out.items()
    ]


def _time_table(answers: Sequence[GpuPrediction], train_n: int) -> str:
    has_runs = any(answer.times.run.training is not None for answer in answers)
    header = ["GPU", "s/epoch", "range", "images/s", *(["wall s", "range"] if has_runs else []), "basis"]
    rows = []
    for answer in answers:
        steady, wall = answer.times.steady, answer.times.run.wall
        row = [answer.gpu.name, *_cells(steady), steady.inverse(train_n).value]
        row += _cells(wall) if has_runs else []
        facts = f"{year_words(answer.gpu.year)}, {answer.gpu.confidence}"
        rows.append([*row, answer.basis, facts, f"{answer.fit} {answer.gpu.memory_gb:g} GB"])
    return table_text([*header, "facts", "memory"], rows)


def _cells(value: Interval | None) -> list[Any]:
    return [None, None] if value is None else [value.value, range_text(value.low, value.high)]


def _basis_lines(answers: Sequence[GpuPrediction], saved: SavedModel) -> list[str]:
    first = answers[0]
    lines = []
    scaled = [answer for answer in answers if answer.ratio is not None and answer.basis != SAME]
    uncorrected = [answer for answer in scaled if answer.correction is None]
    if uncorrected:
        elsewhere = any(answer.start_up_of for answer in uncorrected) and first.times.run.training is not None
        start_up = f"; start-up of {saved.device_name}" if elsewhere else ""
        lines.append(
            f"carried over: from {saved.device_name} in {saved.conditions.precision}; of its epoch "
            f"{percent(first.share)} is arithmetic and memory, which is scaled; input, host and steps stay as they were"
            f"{start_up}"
        )
    if len(uncorrected) < len(scaled):
        lines.append("corrected: the factor is on the whole time, input, host and steps included")
    if len(answers) == 1:
        return [*lines, first.basis_text]
    ratios = {answer.basis: answer.ratio for answer in answers if answer.ratio is not None}
    lines += [f"{of}: {BASES[of]}, {ratio.range_words} on that share" for of, ratio in ratios.items() if of in BASES]
    known = [answer for answer in answers if answer.was_measured or answer.n_there]
    lines += [f"{answer.gpu.name}: {answer.basis_text}" for answer in known]
    for limited, words in LIMITED_WORDS.items():
        if names := [answer.gpu.name for answer in answers if answer.limited == limited and answer not in known]:
            lines.append(f"{words}: {', '.join(names)}")
    return lines


def domain_text(answers: Sequence[GpuPrediction], saved: SavedModel) -> str | None:
    """Return where a scaled configuration lies outside of the model's range.

    None where none does.
    """
    scaled = next((answer for answer in answers if not answer.was_measured), None)
    if scaled is None or (domain := scaled.times.domain) == WITHIN:
        return None
    unknown = saved.widths.why_unknown(domain)
    where = f"{domain}, {', '.join(scaled.times.outside)}: extrapolating{f'; {unknown}' if unknown else ''}"
    return f"domain of {saved.path.name}: {where}"


# --- energy, money and CO2 --------------------------------------------------------------------------------------------


def footprint_table(answers: Sequence[GpuPrediction]) -> str:
    """Return a table of each GPU's costs in each region; `x` is a region's value over the first's."""
    has_regions = len(answers[0].footprints) > 1
    has_embodied = answers[0].footprints[0].embodied_kg_co2e is not None
    header = ["GPU", *(["region"] if has_regions else []), "wall kWh", "range", "electricity USD", "range"]
    header += [*(["x"] if has_regions else []), "cloud USD", "range", "kg CO2", "range"]
    header += [*(["x"] if has_regions else []), *(["embodied kg", "range"] if has_embodied else [])]
    rows = [_cost_row(answer, found, has_regions, has_embodied) for answer in answers for found in answer.footprints]
    return table_text(header, rows)


def footprint_notes(answers: Sequence[GpuPrediction]) -> list[str]:
    """Return region, methods and prices; what several GPUs share stands once."""
    found = answers[0].footprints
    lines = [f"region: {region_words(found[0])}"] if len(found) == 1 else []
    lines += [*region_sources(found), f"wall kWh: {wall_words(found[0])}", *_energy_lines(answers)]
    if found[0].embodied_kg_co2e is not None:
        lines.append(f"embodied: {embodied_words()}; not in kg CO2")
    for answer in answers:
        if (price := answer.footprints[0].rates.usd_per_gpu_hour) is not None:
            lines.append(f"cloud {answer.gpu.name}: {significant(price.value.value)} USD/GPU hour ({price.words})")
    return lines


def _energy_lines(answers: Sequence[GpuPrediction]) -> list[str]:
    """Return the methods of the GPUs' energies; one that differs only in the TDP stands once."""
    if len(answers) == 1:
        energy = answers[0].footprints[0].energy
        return [f"energy: {_method(answers[0]) if energy is None else energy.words}"]
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


def _method(answer: GpuPrediction) -> str:
    energy = answer.footprints[0].energy
    return f"unknown: {UNKNOWN_POWER}" if energy is None else energy.method


def _cost_row(answer: GpuPrediction, found: Footprint, has_regions: bool, has_embodied: bool) -> list[Any]:
    first, kwh = answer.footprints[0], found.wall_kwh
    row: list[Any] = [answer.gpu.name, *([found.rates.region.code] if has_regions else [])]
    row += _priced_cells(kwh, kwh)
    row += [
        *_priced_cells(found.electricity_usd, kwh),
        *_over(found.electricity_usd, first.electricity_usd, has_regions),
    ]
    row += _priced_cells(found.cloud_usd, found.gpu_hours)
    co2 = found.operational_kg_co2e
    row += [*_priced_cells(co2, kwh), *_over(co2, first.operational_kg_co2e, has_regions)]
    return [*row, *(_priced_cells(found.embodied_kg_co2e, found.gpu_hours) if has_embodied else [])]


def _priced_cells(value: Interval | None, amount: Interval | None) -> list[Any]:
    """Return a value and its range, by what is known of the amount priced."""
    return [None, None] if value is None else [value.value, priced_range(amount, value)]


def _over(value: Interval | None, first: Interval | None, is_shown: bool) -> list[float | None]:
    if not is_shown:
        return []
    return [None if value is None or first is None or first.value == 0 else value.value / first.value]
