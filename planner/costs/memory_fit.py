"""Which candidates will not fit into the device's memory: left out, counted and named."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.facts.assumptions import device_kind_of
from epochcast.gpus.lookup import is_same_device
from epochcast.machine.gpu_driver import device_of
from epochcast.planner.costs.candidates import Candidate
from epochcast.planner.costs.wishes import Wishes
from epochcast.schema import AggRow, Conditions
from epochcast.storage.filters import matches
from epochcast.workload.memory import MemoryModel, gib_text, named


def without_too_large(
    candidates: Sequence[Candidate],
    rows: Sequence[AggRow],
    conditions: Conditions,
    wishes: Wishes,
    device_bytes: int | None = None,
) -> tuple[list[Candidate], list[str]]:
    """The candidates that may fit, and notes on the others.

    Without `device_bytes` the memory is what the rows tell, else what this box does where the plan is for its device;
    what was measured does fit then. Where neither tells, nothing is left out.

    Raises:
        ValueError: if a run that must be done will not fit, or none will.
    """
    told = max((row.device_memory_bytes for row in rows if row.device_memory_bytes is not None), default=None)
    total = device_bytes or told or _this_box_memory(conditions.device_name)
    if total is None:
        return list(candidates), [
            "how much memory the device has is not known: nothing left out for want of it (--device_memory)"
        ]
    model = MemoryModel.of(conditions, rows)
    asked = [c.config for c in candidates if not matches(c.config, wishes.exclude)]
    too_large, doubtful = model.sort_by_fit(asked, total, is_measured_device=device_bytes is None)
    for config in too_large:
        if matches(config, wishes.must):
            needs = model.needs(config)
            raise ValueError(
                f"--must names {config}, which will not fit into {gib_text(total)}: it takes at least "
                f"{gib_text(needs.low)} by the estimate ({needs.basis}). Narrow --must, or correct --device_memory."
            )
    if too_large and len(too_large) == len(candidates):
        raise ValueError(
            f"none of {len(candidates)} candidates fits into {gib_text(total)} of device memory: {named(too_large)}. "
            "Name smaller ones, or correct --device_memory."
        )
    notes = []
    if too_large:
        notes.append(
            f"{len(too_large)} of {len(candidates)} candidates left out: will not fit into {gib_text(total)} by the "
            f"estimate ({model.peak(too_large[0]).basis}): {named(too_large)}"
        )
    if doubtful:
        notes.append(
            f"{len(doubtful)} of {len(candidates)} candidates may not fit into {gib_text(total)}: {named(doubtful)}"
        )
    excluded = set(too_large)
    return [c for c in candidates if c.config not in excluded], notes


def _this_box_memory(device_name: str | None) -> int | None:
    """The memory of this box's device by that name; None if it has none, or can't be asked."""
    box = device_of("cpu" if device_kind_of(device_name) == "cpu" else "auto")
    return box.memory_bytes if is_same_device(box.name, device_name) else None
