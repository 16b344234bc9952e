"""Forms of a law for peak memory, and what each predicts of measured peaks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.external.memory.tables import ALLOCATOR, MEMORY_NETWORKS, Bracket, Peak, record_name
from benchmarks.external.records import Records, read, records_of
from epochcast.roofline.network_memory import MIB, MIXED, CountedMemory, Formats, count_memory

Numbers = Sequence[float]
TIMM_SLOTS = 1  # SGD with momentum


@dataclass(frozen=True)
class Case:
    """A training step whose memory is to be predicted."""

    network: str
    records: Records
    counted: CountedMemory
    formats: Formats
    batch: int
    whose: str
    measured: float  # bytes; 0: of a bracket

    @functools.cached_property
    def outputs(self) -> int:
        """Return bytes of the outputs of all layers for each sample."""
        return self.formats.activation * sum(record.outputs for record in self.records)

    @functools.cached_property
    def places(self) -> npt.NDArray[np.float64]:
        """Return what each place of the backward pass holds: kept, layer, gradients."""
        ends = [(place.kept, place.layer, place.gradients) for place in self.counted.places]
        return np.array([*ends, (0, 0, self.counted.gradients)], float)

    def peak(self, slack: float, work: float) -> float:
        """Return what `CountedMemory.peak` does, faster: a fit asks thousands of times."""
        kept, layer, gradients = self.places.T
        return float(self.counted.state + (gradients + self.batch * (slack * kept + work * layer)).max())

    @functools.cached_property
    def largest(self) -> int:
        return self.formats.activation * max(record.outputs for record in self.records)


def cases_of(peaks: Sequence[Peak]) -> list[Case]:
    """Return the measured peaks with the layers of their networks."""
    own = {(peak.network, peak.size) for peak in peaks if peak.network in MEMORY_NETWORKS}
    records = {(name, size): read(MEMORY_NETWORKS[name], size) for name, size in sorted(own)}
    others = {(peak.network, peak.size) for peak in peaks} - own
    kept = records_of([(record_name(name), size) for name, size in others])
    records |= {(name, size): kept[record_name(name), size] for name, size in others}
    return [
        Case(
            peak.network,
            layers := records[peak.network, peak.size],
            count_memory(layers, peak.slots, peak.formats, peak.fuses_attention),
            peak.formats,
            peak.batch,
            peak.whose,
            peak.bytes,
        )
        for peak in peaks
    ]


def bracket_cases(brackets: Sequence[Bracket]) -> list[tuple[Case, Bracket]]:
    """Return timm's brackets with the layers of their networks; PyTorch 1.12 keeps attention's scores."""
    records = records_of([(bracket.network, bracket.size) for bracket in brackets])
    found = []
    for bracket in brackets:
        layers = records[bracket.network, bracket.size]
        counted = count_memory(layers, TIMM_SLOTS, MIXED)
        found.append((Case(bracket.network, layers, counted, MIXED, bracket.fits, "driver", 0.0), bracket))
    return found


def _params_only(case: Case, numbers: Numbers) -> float:
    base, copies = numbers
    return base * MIB + copies * case.counted.weights


def _outputs(case: Case, numbers: Numbers) -> float:
    base, copies, share = numbers
    return base * MIB + copies * case.counted.weights + share * case.batch * case.outputs


def _notes(case: Case, numbers: Numbers) -> float:
    base, state, share, work = numbers
    held = state * (case.counted.state + case.counted.gradients)
    return base * MIB + held + case.batch * (share * case.counted.kept + work * case.largest)


def _walk(case: Case, numbers: Numbers) -> float:
    base, slack, work = numbers
    return base * MIB + case.peak(slack, work)


def _two_bases(case: Case, numbers: Numbers) -> float:
    base, slack, work, scratch = numbers
    return _walk(case, (scratch if case.whose == ALLOCATOR else base, slack, work))


def _slack_on_all(case: Case, numbers: Numbers) -> float:
    base, slack, work = numbers
    return base * MIB + slack * case.peak(1.0, work)


def _counted_alone(case: Case, numbers: Numbers) -> float:
    return case.peak(1.0, 1.0)


@dataclass(frozen=True)
class Form:
    """A law: its words, its prediction in bytes, and where the search for its numbers begins."""

    words: str
    predict: Callable[[Case, Numbers], float]
    start: tuple[float, ...]

    def fitted(self, cases: Sequence[Case]) -> tuple[float, ...]:
        """Return the numbers with the least mean |log error|, every network with the same weight."""
        from scipy.optimize import minimize

        if not self.start:
            return ()
        names = [case.network for case in cases]
        weights = np.array([1 / names.count(name) for name in names])
        measured = np.log([case.measured for case in cases])

        def loss(scale: Numbers) -> float:
            numbers = [abs(factor) * start for factor, start in zip(scale, self.start, strict=True)]
            errors = np.log([max(1.0, self.predict(case, numbers)) for case in cases]) - measured
            return float(np.average(np.abs(errors), weights=weights))

        starts = [np.ones(len(self.start)), np.full(len(self.start), 0.5), np.full(len(self.start), 1.5)]
        found = [minimize(loss, start, method="Nelder-Mead", options={"maxiter": 400}) for start in starts]
        best = min(found, key=lambda each: each.fun)
        return tuple(abs(float(factor)) * start for factor, start in zip(best.x, self.start, strict=True))


OURS = "walk"
FORMS: Mapping[str, Form] = {
    "params": Form("parameters only", _params_only, (1500.0, 4.0)),
    "outputs": Form("parameters and outputs of all layers", _outputs, (1500.0, 4.0, 1.0)),
    "notes": Form("state, kept outputs, the largest array: four numbers", _notes, (1500.0, 1.0, 1.0, 1.0)),
    "counted": Form("counted arrays alone", _counted_alone, ()),
    OURS: Form("counted along the backward pass: base, slack, work", _walk, (1500.0, 1.1, 2.0)),
    "two bases": Form("the same with a base of its own for an allocator", _two_bases, (1500.0, 1.1, 2.0, 1500.0)),
    "slack on all": Form("the same with the slack on the state, too", _slack_on_all, (1500.0, 1.1, 2.0)),
}
