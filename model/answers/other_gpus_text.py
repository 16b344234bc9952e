"""Answers for several GPUs: tables for people, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.facts.assumptions import assumption
from epochcast.facts.tables import CONVOLUTIONAL, year_words
from epochcast.footprint.text import footprint_json
from epochcast.gpus.ratio import RATES, SAME, SPEED_ROW, rates_error_factor
from epochcast.gpus.scaled_time import LIMITED_WORDS
from epochcast.interval import Interval, with_ends
from epochcast.model.answers.other_gpus import MEASURED, GpuAnswer
from epochcast.model.answers.other_gpus_costs_text import footprint_notes, footprint_table
from epochcast.model.answers.prediction import memory_values, time_values
from epochcast.model.time_model.intervals import WITHIN
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.output.text import percent, range_text, table_text


def gpu_lines(
    several: Sequence[Sequence[GpuAnswer]], saved: SavedModel, left_out: Mapping[str, Sequence[str]]
) -> tuple[list[list[str]], list[str]]:
    """For each configuration a table of times, with `epochs` one of energy, money and CO2, and what they rest on.

    Of several configurations, what holds for all of them is told apart, as the second value.
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


def _time_table(answers: Sequence[GpuAnswer], train_n: int) -> str:
    has_runs = any(answer.forecast.run.training is not None for answer in answers)
    header = ["GPU", "s/epoch", "range", "images/s", *(["wall s", "range"] if has_runs else []), "basis"]
    rows = []
    for answer in answers:
        steady, wall = answer.forecast.steady, answer.forecast.run.wall
        row = [answer.gpu.name, *_cells(steady), steady.inverse(train_n).value]
        row += _cells(wall) if has_runs else []
        facts = f"{year_words(answer.gpu.year)}, {answer.gpu.confidence}"
        rows.append([*row, answer.basis, facts, f"{answer.fit} {answer.gpu.memory_gb:g} GB"])
    return table_text([*header, "facts", "memory"], rows)


def _cells(value: Interval | None) -> list[Any]:
    return [None, None] if value is None else [value.value, range_text(value.low, value.high)]


def _basis_lines(answers: Sequence[GpuAnswer], saved: SavedModel) -> list[str]:
    first = answers[0]
    lines = []
    carried = [answer for answer in answers if answer.ratio is not None and answer.basis != SAME]
    scaled = [answer for answer in carried if answer.correction is None]
    if scaled:
        elsewhere = any(answer.start_up_of for answer in scaled) and first.forecast.run.training is not None
        start_up = f"; start-up of {saved.device_name}" if elsewhere else ""
        lines.append(
            f"carried over: from {saved.device_name} in {saved.conditions.precision}; of its epoch "
            f"{percent(first.share)} is arithmetic and memory, which is scaled; input, host and steps stay as they were"
            f"{start_up}"
        )
    if len(scaled) < len(carried):
        lines.append("corrected: the factor is on the whole time, input, host and steps included")
    if len(answers) == 1:
        return [*lines, first.basis_text]
    weight, row_bar = (assumption(f"carry_{name}", "gpu").value for name in ("compute_weight", "bar_speed_row"))
    rates_factor = rates_error_factor(CONVOLUTIONAL)
    told = {
        SPEED_ROW: f"published speeds of a {CONVOLUTIONAL} network on both GPUs, x/÷{row_bar:g} on that share",
        RATES: f"dense rates to the {weight:g}, bandwidths to the {1 - weight:g}, x/÷{rates_factor:g} on that share",
    }
    lines += [f"{basis}: {words}" for basis, words in told.items() if basis in {answer.basis for answer in answers}]
    known = [answer for answer in answers if answer.basis == MEASURED or answer.n_there]
    lines += [f"{answer.gpu.name}: {answer.basis_text}" for answer in known]
    for held, words in LIMITED_WORDS.items():
        if names := [answer.gpu.name for answer in answers if answer.held == held and answer not in known]:
            lines.append(f"{words}: {', '.join(names)}")
    if any(answer.basis == RATES and answer.ratio is not None and answer.ratio.value.low is None for answer in answers):
        lines.append("range unknown: no published speed of that generation of GPUs checks how well rates tell of them")
    return lines


def domain_text(answers: Sequence[GpuAnswer], saved: SavedModel) -> str | None:
    """Say where a carried configuration lies outside of the model's range.

    None where none does.
    """
    carried = next((answer for answer in answers if answer.basis != MEASURED), None)
    if carried is None or (domain := carried.forecast.domain) == WITHIN:
        return None
    unknown = saved.widths.why_unknown(domain)
    where = f"{domain}, {', '.join(carried.forecast.outside)}: extrapolating{f'; {unknown}' if unknown else ''}"
    return f"domain of {saved.path.name}: {where}"


def gpu_json(answer: GpuAnswer, saved: SavedModel, epochs: int | None) -> dict[str, Any]:
    """One GPU's answer, by the model `saved`, as JSON values in full precision; null is unknown."""
    gpu = answer.gpu
    return {
        "gpu": gpu.name,
        "model": str(saved.path),
        "train_n": saved.train_n,
        "year": gpu.year,
        "confidence": gpu.confidence,
        "source": gpu.source,
        "precision": answer.conditions.precision,
        "basis": answer.basis,
        "basis_words": answer.words,
        "domain": None if answer.basis == MEASURED else answer.forecast.domain,  # of the model's range
        "outside": [] if answer.basis == MEASURED else answer.forecast.outside,
        "configurations_there": answer.n_there,
        "corrected_by": None if answer.correction is None else answer.correction.factor,
        "start_up_of": answer.start_up_of,
        "device_share": answer.share,
        "held_at_roof": answer.held,
        **with_ends("device_time_ratio", answer.told_ratio),
        **time_values(answer.forecast, saved.train_n, epochs),
        **memory_values(answer.memory),
        "memory_gb": gpu.memory_gb,
        "memory_fit": answer.fit,
        "footprints": [footprint_json(found) for found in answer.footprints],
    }
