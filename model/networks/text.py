"""Answers for a network in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.footprint.text import footprint_lines, priced_range
from epochcast.interval import Interval
from epochcast.model.answers.prediction import memory_gib
from epochcast.model.networks.answers import DEVICE, EITHER, INPUT, NetworkAnswer, NetworkRequest, names_by_words
from epochcast.output.text import clock, range_text, significant, table_text
from epochcast.workload.memory import size_text

ALONE = (
    "the device's share alone: what loads and prepares the samples is not in it; --input_images_per_sec N says which "
    "of both binds"
)
SHORT_SEC = 10.0  # below it whole seconds say too little
BINDS = {DEVICE: "the GPU", INPUT: "the input", EITHER: "either"}


def network_lines(answers: Sequence[NetworkAnswer], without: Mapping[str, str], request: NetworkRequest) -> list[str]:
    """Return all answers of a network, the times first."""
    network = answers[0]
    of = request.network.trained(network.batch_size, request.train_n or network.batch_size, request.precision)
    lines = [f"network: {of.name}, {of.params:,} parameters, in {request.precision}"]
    if of.not_counted:
        lines.append(f"not counted: {', '.join(of.not_counted)}")
    if request.train_n is not None:
        n = request.epochs
        epochs = "" if n is None else f", {n:,} epoch{'s' * (n > 1)}"
        lines.append(f"training: {request.train_n:,} samples an epoch{epochs}")
    if request.input_images_per_sec is None:
        lines.append(f"time: {_what_is_in(answers)}")
    else:
        lines.append(
            f"time: of the GPU, or of an input of {request.input_images_per_sec:,g} samples/s where that binds"
        )
    lines += ["", _time_table(answers, request), ""]
    if answers[0].footprints:
        lines += [*_footprint_lines(answers), ""]
    lines += _shared_lines("time", [(each, each.time.words) for each in answers])
    if len({each.arithmetic for each in answers}) > 1 or answers[0].arithmetic not in (None, request.precision):
        lines += _shared_lines("multiplies in", [(each, each.arithmetic or "unknown") for each in answers])
    lines += _shared_lines("memory", [(each, each.memory.peak.basis) for each in answers])
    lines += [f"no answer, {', '.join(names)}: {reason}" for reason, names in names_by_words(without).items()]
    return [*lines, *(f"note: {note}" for note in dict.fromkeys(note for each in answers for note in each.notes))]


def _what_is_in(answers: Sequence[NetworkAnswer]) -> str:
    """Say whether the input is in the times, as where own rows answer."""
    with_input = [each.time.has_input for each in answers]
    if all(with_input):
        return "with the input and host of your own rows"
    return f"{ALONE}, but where your own rows answer, as the lines below say" if any(with_input) else ALONE


def _time_table(answers: Sequence[NetworkAnswer], request: NetworkRequest) -> str:
    header = ["GPU", "batch", "ms/step", "range", "samples/s", "range"]
    header += ["epoch", "range"] if request.train_n is not None else []
    header += ["training", "range"] if request.epochs is not None else []
    header += ["peak GiB", "range", "fits"]
    header += ["largest batch: surely", "probably"] if request.wants_largest else []
    header += ["binds"] if request.input_images_per_sec is not None else []
    rows = []
    for each in answers:
        row: list[Any] = [each.gpu.name, f"{each.batch_size:,}", *_with_range(each.step.times(1e3))]
        row += _with_range(each.images_per_sec)
        row += _clocks(each.epoch) + _clocks(each.training)
        row += [*_with_range(memory_gib(each.memory.peak)), each.memory.fit]
        if each.memory.largest is not None:
            row += [size_text(each.memory.largest.surely), size_text(each.memory.largest.probably)]
        row += [] if each.binds is None else [BINDS[each.binds]]
        rows.append(row)
    return table_text(header, rows)


def _with_range(found: Interval) -> list[str]:
    return [significant(found.value), range_text(found.low, found.high, "unknown")]


def _clocks(found: Interval | None) -> list[str]:
    if found is None:
        return []
    ends = "unknown" if found.low is None or found.high is None else f"{_clock(found.low)} to {_clock(found.high)}"
    return [_clock(found.value), ends]


def _clock(sec: float) -> str:
    return clock(sec) if sec >= SHORT_SEC else f"{significant(sec)} s"


def _footprint_lines(answers: Sequence[NetworkAnswer]) -> list[str]:
    """Return energy, money and CO2: line by line of one answer, as a table of several."""
    if len(answers) == 1 and len(answers[0].footprints) == 1:
        return [f"{name}: {text}" for name, text in footprint_lines(answers[0].footprints[0]).items()]
    header = ["GPU", "batch", "region", "kWh", "range", "electricity USD", "range"]
    header += ["cloud USD", "range", "kg CO2", "range"]
    rows = []
    for each in answers:
        for place in each.footprints:
            row: list[Any] = [each.gpu.name, f"{each.batch_size:,}", place.rates.region.code]
            for amount, value in (
                (place.wall_kwh, place.wall_kwh),
                (place.wall_kwh, place.electricity_usd),
                (place.gpu_hours, place.cloud_usd),
                (place.wall_kwh, place.operational_kg_co2e),
            ):
                row += [None, None] if value is None else [value.value, priced_range(amount, value)]
            rows.append(row)
    methods = [(each, "unknown" if (e := each.footprints[0].energy) is None else e.method) for each in answers]
    return [table_text(header, rows), *_shared_lines("energy", methods)]


def _shared_lines(what: str, words: Sequence[tuple[NetworkAnswer, str]]) -> list[str]:
    """Return a line for all answers with the same words, by GPU and batch."""
    by_words: dict[str, list[NetworkAnswer]] = {}
    for answer, text in words:
        by_words.setdefault(text, []).append(answer)
    if len(by_words) == 1:
        return [f"{what}: {text}" for text in by_words]
    texts_of = {name: {text for other, text in words if other.gpu.name == name} for name in _gpus_of(words)}
    lines = []
    for text, answers in by_words.items():
        batches: dict[str, list[str]] = {}
        for answer in answers:
            batches.setdefault(answer.gpu.name, []).append(f"{answer.batch_size:,}")
        whose = [
            name if len(texts_of[name]) == 1 else f"{name} batch {', '.join(own)}" for name, own in batches.items()
        ]
        lines.append(f"{what}, {'; '.join(whose)}: {text}")
    return lines


def _gpus_of(words: Sequence[tuple[NetworkAnswer, str]]) -> list[str]:
    return list(dict.fromkeys(answer.gpu.name for answer, _ in words))
