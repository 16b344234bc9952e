"""Which candidates will not fit into the device's memory: left out, counted and named."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.cli import matches
from epochcast.schema import AggRow, Conditions
from planner.candidates import Candidate
from planner.worth import Wishes
from workload.memory import DOUBTFUL, TOO_LARGE, MemoryModel, PeakMemory, gib_text, named


def without_too_large(
    candidates: Sequence[Candidate],
    rows: Sequence[AggRow],
    conditions: Conditions,
    wishes: Wishes,
    device_bytes: int | None = None,
) -> tuple[list[Candidate], list[str]]:
    """The candidates that may fit, and notes on the others.

    Without `device_bytes` the memory is what the rows tell, and what was measured does fit; where they tell nothing,
    nothing is left out.

    Raises:
        ValueError: if a run that must be done will not fit, or none will.
    """
    told = max((row.device_memory_bytes for row in rows if row.device_memory_bytes is not None), default=None)
    total = device_bytes or told
    if total is None:
        return list(candidates), []
    model = MemoryModel.of(conditions, rows)
    measured = {row.config: row.peak_memory_bytes for row in rows}

    def peak(candidate: Candidate) -> PeakMemory | None:
        """The estimate; measured where it was; None where nobody asks, or a run on this device tells that it fits."""
        is_known_to_fit = candidate.config in measured and device_bytes is None
        if is_known_to_fit or matches(candidate.config, wishes.exclude):
            return None
        if own := measured.get(candidate.config):
            return PeakMemory(own, own, own, 1)
        return model.peak(candidate.config)

    peaks = {c.config: peak(c) for c in candidates}
    fits = {config: None if own is None else own.fit(total) for config, own in peaks.items()}
    too_large = [config for config, fit in fits.items() if fit == TOO_LARGE]
    doubtful = [config for config, fit in fits.items() if fit == DOUBTFUL]
    for config in too_large:
        if matches(config, wishes.must):
            needs = peaks[config]
            assert needs is not None
            raise ValueError(
                f"--must names {config}, which will not fit into {gib_text(total)}: it takes at least "
                f"{gib_text(needs.low)} by the estimate ({needs.basis}). Narrow --must, or correct --device_memory."
            )
    if too_large and len(too_large) == len(peaks):
        raise ValueError(
            f"none of {len(peaks)} candidates fits into {gib_text(total)} of device memory: {named(too_large)}. "
            "Name smaller ones, or correct --device_memory."
        )
    how = f"by the estimate ({model.peak(candidates[0].config).basis})" if candidates else ""
    notes = []
    if too_large:
        notes.append(
            f"{len(too_large)} of {len(peaks)} candidates left out: will not fit into {gib_text(total)} {how}: "
            f"{named(too_large)}"
        )
    if doubtful:
        notes.append(
            f"{len(doubtful)} of {len(peaks)} candidates may not fit into {gib_text(total)}: {named(doubtful)}"
        )
    return [c for c in candidates if fits[c.config] != TOO_LARGE], notes
