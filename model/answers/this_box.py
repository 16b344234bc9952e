"""In what this box differs from the one that a model was learned on, and the model's estimate for this box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from epochcast.facts.assumptions import device_kind_of
from epochcast.gpus.lookup import index_in_box, is_same_device, known_gpu, unknown_words
from epochcast.interval import Interval, with_ends
from epochcast.machine.gpu_driver import box_device_name
from epochcast.machine.packages import backend_name, installed_minor
from epochcast.model.answers.measured import measured_row, measured_steady, measured_words
from epochcast.model.answers.prediction import RunRequest
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.output.text import range_text, significant
from epochcast.schema import AggRow, Conditions


@dataclass(frozen=True, slots=True)
class BoxDifference:
    """One condition of the model that does not hold on this box."""

    name: str
    model: str
    this_box: str

    def __str__(self) -> str:
        where = "asked for" if self.name == "precision" else "here"
        if self.name == "device" and index_in_box(self.model) is not None:
            where = "but a run that is not told another uses"  # both are in this box
        return f"{self.name} {self.model}, {where} {self.this_box}"


@dataclass(frozen=True, slots=True)
class ThisBoxEstimate:
    """The seconds per epoch of one configuration on this box; `steady` None: unknown, and `words` say why."""

    steady: Interval | None
    words: str


def differences(conditions: Conditions, precision: str) -> list[BoxDifference]:
    """Device, framework and precision, as far as both are known and differ; `precision` is the one asked for."""
    found = []
    box, own = box_device_name(), conditions.device_name
    if own is not None and not is_same_device(own, box):
        found.append(BoxDifference("device", own, box))
    if conditions.backend is not None:
        found += _framework_differences(conditions.backend, conditions.backend_version)
    if conditions.precision not in (None, precision):
        found.append(BoxDifference("precision", str(conditions.precision), precision))
    return found


def _framework_differences(backend: str, version: str | None) -> list[BoxDifference]:
    if (other := backend_name()) != backend:
        return [BoxDifference("backend", backend, other)]
    own = installed_minor(backend)
    return [] if own is None or version is None or own == version else [BoxDifference(backend, version, own)]


def estimate_for_this_box(
    saved: SavedModel, asked: RunRequest, rows: Sequence[AggRow], found: Sequence[BoxDifference]
) -> ThisBoxEstimate:
    """Return the estimate of a configuration on this box: measured, else scaled where GPUs are known.

    Args:
        found: the differences, of which a time is scaled over those of device and precision alone.
    """
    box, backend = box_device_name(), backend_name()
    names, gpu = {difference.name for difference in found}, known_gpu(box)
    version = installed_minor(backend)
    wanted = replace(
        saved.conditions, device_name=box, precision=asked.precision, backend=backend, backend_version=version
    )
    row = measured_row(gpu, asked.config, wanted, rows)
    is_scaled = bool({"device", "precision"} & names)
    # where only the version differs, rows of the model's say nothing more
    if row is not None and (is_scaled or row.backend_version == version):
        return ThisBoxEstimate(measured_steady(row), measured_words(row))
    if "backend" in names or not is_scaled:
        return ThisBoxEstimate(None, "what that changes is not known")
    if gpu is None:
        what = "a CPU" if device_kind_of(box) == "cpu" else unknown_words(box)
        return ThisBoxEstimate(None, f"no estimate for {what}")
    from epochcast.model.answers.other_gpus import answer_on  # only where this box has another GPU

    try:
        answer = answer_on(gpu, saved, replace(asked, epochs=None, rules=None), rows)
    except ValueError as error:
        return ThisBoxEstimate(None, f"no estimate: {error}")
    return ThisBoxEstimate(answer.times.steady, answer.basis_text)


def differs_line(found: Sequence[BoxDifference], estimates: Sequence[tuple[int, ThisBoxEstimate]]) -> str:
    """Return the differences with the estimate of each batch size."""
    by_words: dict[str, list[tuple[int, Interval | None]]] = {}
    for size, estimate in estimates:
        by_words.setdefault(estimate.words, []).append((size, estimate.steady))
    parts = []
    for words, of in by_words.items():
        batches = [f"batch {size}" if len(estimates) > 1 else "" for size, _ in of]
        times = [
            f"{batch} {_seconds(steady)}".strip()
            for batch, (_, steady) in zip(batches, of, strict=True)
            if steady is not None
        ]
        if times:
            parts.append(f"{'; '.join(times)} here, {words}")
        else:
            parts.append(words if len(by_words) == 1 else f"{', '.join(batches)}: {words}")
    return f"{'; '.join(map(str, found))}: {'; '.join(parts)}"


def _seconds(steady: Interval) -> str:
    return f"{significant(steady.value)} s/epoch ({range_text(steady.low, steady.high, 'range unknown')})"


def this_box_json(found: Sequence[BoxDifference], estimate: ThisBoxEstimate | None) -> dict[str, Any]:
    """Return the differences and the estimate for this box; null where nothing differs or there is none."""
    return {
        "differs": {each.name: {"model": each.model, "here": each.this_box} for each in found},
        **with_ends("here_avg_time_sec", None if estimate is None else estimate.steady),
        "here_basis": None if estimate is None else estimate.words,
    }
