"""Which runs of a grid fit into their device's memory, by the estimate of `workload.memory`, and how much there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from epochcast.collect.grid.specs import PlannedRun
from epochcast.gpus.lookup import is_same_device
from epochcast.machine.gpu_driver import device_of
from epochcast.machine.packages import backend_name
from epochcast.schema import Conditions, RunRecord, RunSpec
from epochcast.workload.memory import MemoryModel, gib_text, named
from epochcast.workload.pipelines import resolve_pipeline


@dataclass(frozen=True, slots=True)
class Fitting:
    """The runs to do, those left out because they will not fit, and what a person should know of either."""

    kept: list[PlannedRun] = field(default_factory=list)
    too_large: list[PlannedRun] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def sort_by_fit(waiting: Sequence[PlannedRun], rows: Sequence[RunRecord], given_bytes: int | None = None) -> Fitting:
    """The runs less those that will not fit; where the memory (`given_bytes`, else found) is unknown, all of them."""
    found = Fitting()
    for device in dict.fromkeys(item.spec.device for item in waiting):
        own = [item for item in waiting if item.spec.device == device]
        total = given_bytes or device_memory_bytes(device, rows)
        if total is None:
            found.kept.extend(own)
            continue
        name = device_of(device).name
        too_large: list[PlannedRun] = []
        doubtful: list[PlannedRun] = []
        for shared in dict.fromkeys(_without_config(item.spec) for item in own):
            alike = [item for item in own if _without_config(item.spec) == shared]
            model = memory_model(shared, name, rows)
            too, maybe = map(set, model.sort_by_fit([item.spec.config for item in alike], total, given_bytes is None))
            too_large += [item for item in alike if item.spec.config in too]
            doubtful += [item for item in alike if item.spec.config in maybe]
        left_out = set(too_large)
        found.kept.extend(item for item in own if item not in left_out)
        found.too_large.extend(too_large)
        if too_large:
            found.lines.append(
                f"left out: {_listed(too_large)} will not fit into {gib_text(total)} by the estimate; "
                "--ignore_memory measures what is left out all the same"
            )
        if doubtful:
            found.lines.append(f"measured all the same: {_listed(doubtful)} may not fit into {gib_text(total)}")
    return found


def device_memory_bytes(device: str, rows: Sequence[RunRecord] = ()) -> int | None:
    """All memory of the device that a run with `--device device` uses: as the box reports, else as its rows do."""
    box = device_of(device)
    known = [r.device_memory_bytes for r in rows if r.device_memory_bytes and is_same_device(r.device_name, box.name)]
    return box.memory_bytes or (known[-1] if known else None)


def memory_model(spec: RunSpec, device_name: str, rows: Sequence[RunRecord]) -> MemoryModel:
    """The estimates for runs that are alike but for their configuration, scaled by the rows of such runs."""
    return MemoryModel.of(_conditions_of(_without_config(spec), device_name, rows), rows)


def _without_config(spec: RunSpec) -> RunSpec:
    """The same for all configurations and seeds that are run alike."""
    return RunSpec(
        train_n=spec.train_n,
        pipeline=spec.pipeline,
        precision=spec.precision,
        jit_compile=spec.jit_compile,
        device=spec.device,
    )


def _conditions_of(spec: RunSpec, device_name: str, rows: Sequence[RunRecord]) -> Conditions:
    """Those of the last row with a measured peak that was run as the spec asks, else the spec's own as far as known."""
    backend = backend_name()
    try:
        pipeline = resolve_pipeline(spec.pipeline, backend)
    except ValueError:  # the run itself will be refused with these words
        pipeline = spec.pipeline
    own = Conditions(
        device_name=device_name,
        backend=backend,
        precision=spec.precision,
        pipeline=pipeline,
        jit_compile=_jit_compile_of(spec, backend),
        train_n=spec.train_n,
    )
    wanted = {name: getattr(own, name) for name in ("backend", "precision", "pipeline", "train_n")}
    if spec.jit_compile != "auto":
        wanted["jit_compile"] = spec.jit_compile
    for row in reversed(rows):
        is_alike = all(getattr(row, name) == value for name, value in wanted.items())
        if row.peak_memory_bytes is not None and is_alike and is_same_device(row.device_name, device_name):
            return row.conditions
    return own


def _jit_compile_of(spec: RunSpec, backend: str) -> str:
    """How the run is compiled; `auto` as Keras resolves it."""
    if spec.jit_compile != "auto":
        return spec.jit_compile
    if backend == "torch":
        return "off"
    return "off" if backend != "jax" and device_of(spec.device).kind == "cpu" else "on"


def _listed(items: Sequence[PlannedRun]) -> str:
    """Runs counted, with the first few of their configurations."""
    runs = f"{len(items)} run{'s' if len(items) > 1 else ''}"
    return f"{runs} ({named(list(dict.fromkeys(item.spec.config for item in items)))})"
