"""In what this box differs from the one that a model was learned on, and the model's answer carried over to here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from epochcast.assumptions import device_kind_of
from epochcast.cli import significant
from epochcast.environment import box_device_name
from epochcast.hardware import known_gpu
from epochcast.installed import PACKAGES, backend_name, first_installed
from epochcast.interval import Interval
from epochcast.schema import AggRow, Conditions
from model.answer import with_bounds
from model.gpu_answers import Asked, answer_on
from model.predictor import SavedModel


@dataclass(frozen=True, slots=True)
class Difference:
    """One condition of the model that does not hold here."""

    name: str
    model: str
    here: str

    def __str__(self) -> str:
        return f"{self.name} {self.model}, {'asked for' if self.name == 'precision' else 'here'} {self.here}"


@dataclass(frozen=True, slots=True)
class Here:
    """The estimate of one configuration for this box; `steady` None: there is none, and `words` say why."""

    steady: Interval | None
    words: str


def differences(conditions: Conditions, precision: str) -> list[Difference]:
    """Device, framework and precision, as far as both are known and differ; `precision` is the one asked for."""
    found = []
    box, own = box_device_name(), conditions.device_name
    here, there = known_gpu(box), known_gpu(own)
    is_same = own == box or (here is not None and there is not None and here.name == there.name)
    if own is not None and not is_same:
        found.append(Difference("device", own, box))
    if conditions.backend is not None:
        found += _framework_differences(conditions.backend, conditions.backend_version)
    if conditions.precision not in (None, precision):
        found.append(Difference("precision", str(conditions.precision), precision))
    return found


def _framework_differences(backend: str, version: str | None) -> list[Difference]:
    if (here := backend_name()) != backend:
        return [Difference("backend", backend, here)]
    installed = first_installed(PACKAGES.get(backend, (backend,)))
    if installed is None or version is None or (number := ".".join(installed.split(".")[:2])) == version:
        return []
    return [Difference(backend, version, number)]


def estimate_here(saved: SavedModel, asked: Asked, rows: Sequence[AggRow]) -> Here:
    """The seconds per epoch of a configuration on this box: measured, else carried over where GPUs are known."""
    box = box_device_name()
    gpu = known_gpu(box)
    if gpu is None:
        what = "a CPU" if device_kind_of(box) == "cpu" else f"{box}, which the facts do not have"
        return Here(None, f"no estimate for {what}")
    try:
        answer = answer_on(gpu, saved, replace(asked, rules=None), rows)
    except ValueError as error:
        return Here(None, f"no estimate: {error}")
    return Here(answer.forecast.steady, f"{answer.basis}: {answer.words}")


def differs_line(found: Sequence[Difference], estimates: Sequence[tuple[int, Here]]) -> str:
    """The differences with the estimate beside them; of each batch size where there are several."""
    words = "; ".join(map(str, found))
    first = estimates[0][1]
    if not {"device", "precision"} & {difference.name for difference in found}:
        return f"{words}: what that changes is not known"
    if first.steady is None:
        return f"{words}: {first.words}"
    if len(estimates) == 1:
        return f"{words}: {_seconds(first.steady)} here, {first.words}"
    each = [f"batch {size} {_seconds(here.steady)}" for size, here in estimates if here.steady is not None]
    return f"{words}: here {'; '.join(each)}"


def _seconds(steady: Interval) -> str:
    if steady.low is None or steady.high is None:
        return f"{significant(steady.value)} s/epoch (range unknown)"
    return f"{significant(steady.value)} s/epoch ({significant(steady.low)} to {significant(steady.high)})"


def here_json(found: Sequence[Difference], here: Here | None) -> dict[str, Any]:
    """The differences and the estimate for this box; null where nothing differs or there is none."""
    return {
        "differs": {difference.name: {"model": difference.model, "here": difference.here} for difference in found},
        **with_bounds("here_avg_time_sec", None if here is None else here.steady),
        "here_basis": None if here is None else here.words,
    }
