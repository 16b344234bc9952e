"""What a grid of runs is: its specs, and the names by which a resumed grid knows its runs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from epochcast.collect.records.names import spec_id, spec_ids
from epochcast.facts.assumptions import device_kind_of
from epochcast.gpus.lookup import driver_spellings, is_same_device, other_gpu_uuid
from epochcast.machine.gpu_driver import box_device_name, device_of, words_of_device
from epochcast.machine.packages import backend_name
from epochcast.schema import Conditions, Exclusion, RunConfig, RunSpec

_BACKEND_NOT_SET = ""  # in the ids of runs before they were of the backend that Keras takes
SPEC_CONDITIONS = ("pipeline", "precision", "jit_compile", "steps_per_execution", "train_n")


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a grid, under the name by which a resumed grid knows it again."""

    spec: RunSpec
    run_id: str


def grid_runs(specs: Iterable[RunSpec], repeats: int, excluded: Mapping[str, Exclusion]) -> list[PlannedRun]:
    """Every spec `repeats` times, named; a run that was taken back gets a new name, so that it is measured again.

    Raises:
        ValueError: if there is no spec.
    """
    planned = []
    for spec in dict.fromkeys(specs):
        base = spec_id(spec, box_device_name(spec.device))
        for repeat in range(1, repeats + 1):
            item, attempt = PlannedRun(spec, f"{base}-r{repeat}"), 2
            while excluded and not excluded.keys().isdisjoint(names_of_run(item)):
                item, attempt = PlannedRun(spec, f"{base}-r{repeat}.{attempt}"), attempt + 1
            planned.append(item)
    if not planned:
        raise ValueError("the grid is empty: name at least one configuration.")
    return planned


def names_of_run(item: PlannedRun, device_names: Collection[str] = ()) -> set[str]:
    """Return the run_id and those that the same run has under other names of its board.

    Names that drivers give it, and words of `--device` that mean it on this box. Also those by which it was called
    where $KERAS_BACKEND was not set: their rows may be another backend's.

    Args:
        device_names: of a table, where the run may stand under one of them.
    """
    device, backends = box_device_name(item.spec.device), (backend_name(), _BACKEND_NOT_SET)
    bases = spec_ids(item.spec, [(device, backend) for backend in backends])
    if (own := next((base for base in bases if item.run_id.startswith(base)), None)) is None:
        return {item.run_id}
    ending = item.run_id.removeprefix(own)
    names = {*driver_spellings(device), *(name for name in device_names if is_same_device(name, device))}
    places = [(name, of) for name in names for of in backends]
    found = [
        base for word in words_of_device(item.spec.device) for base in spec_ids(replace(item.spec, device=word), places)
    ]
    if item.spec.device not in ("auto", "gpu") and (first := device_of("gpu:0")).is_named:
        # by which runs on any device of the box were once called
        found += spec_ids(item.spec, [(name, of) for name in driver_spellings(first.name) for of in backends])
    return {f"{base}{ending}" for base in found}


def spec_under(config: RunConfig, epochs: int | None, conditions: Conditions, in_windows: bool = False) -> RunSpec:
    """A run of a configuration under conditions, as far as they are known; of whole epochs unless `in_windows`."""
    as_asked = {
        name: getattr(conditions, name)
        for name in (*SPEC_CONDITIONS, *(["window_steps"] if in_windows else []))
        if getattr(conditions, name) is not None
    }
    if conditions.device_name is not None and device_kind_of(conditions.device_name) == "cpu":
        as_asked["device"] = "cpu"
    elif (uuid := other_gpu_uuid(conditions.device_name)) is not None:
        as_asked["device"] = uuid
    dataset = "synthetic" if conditions.dataset == "synthetic" else "auto"
    return RunSpec(**asdict(config), epochs=epochs, dataset=dataset, **as_asked)


def grid_name(planned: Sequence[PlannedRun]) -> str:
    """A name for a set of runs, whatever their order."""
    return "grid-" + hashlib.sha256(" ".join(sorted(p.run_id for p in planned)).encode()).hexdigest()[:8]
