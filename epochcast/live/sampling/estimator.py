"""How long an epoch of a training takes, from passes over some of its steps.

Where enough epochs fit into the budget, whole ones are timed. Else pairs are: one fresh pass by the training's own
`fit` is stamped where it begins, after a few steps and after many, then stopped. The short block is the head of the
long one, so that the start of a pass is paid once. With a + b * steps for a block, an epoch of S steps takes

    t(short) + (S - short) * (t(long) - t(short)) / (long - short)

The mean of these epochs is the estimate. Its range is that of one more of them, t * sd * sqrt(1 + 1/n): what differs
between two moments of a machine (a clock, a neighbour) does not average out over the epochs that follow, so that the
range is never divided by the root of their number, and never below FLOOR.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from epochcast.interval import OWN_COVERAGE, Interval
from epochcast.stats import t_quantile

FLOOR, CONTENDED_FLOOR = 0.05, 0.10  # least half-width of the range; the second where others use the processor
MIN_SAMPLES = 4  # of fewer, no range is told
LEAST_EPOCHS = 8  # whole ones are timed where so many fit after the first: the range of five is a fourth wider than of
# ten pairs in the same time
SEGMENTS = 10  # pairs that a budget is meant for
ENOUGH = 10  # times as many passes or epochs are allowed as a rough time says, for it may be far too long
START_SHARE = 0.8  # of the budget, that the starts of passes may take
SHORT_STEPS = 4
ROUGH_PASSES, ROUGH_STEPS = 3, 5  # a first idea of a step's time: the quickest of so many short passes
OUTLIER = 2.0  # an epoch above so many medians is left out, and counted


@dataclass(frozen=True, slots=True)
class Moment:
    """A reading of two clocks, in seconds: the wall's, and the processor time of this process."""

    wall_sec: float
    cpu_sec: float

    def since(self, earlier: Moment) -> Moment:
        """What has passed."""
        return Moment(self.wall_sec - earlier.wall_sec, self.cpu_sec - earlier.cpu_sec)


Pass = dict[int, Moment]  # of one pass over the data: the moments at which so many steps were done, from 0 on


class Training(Protocol):
    """A training that can be begun again and again, and stopped after some steps."""

    steps: float  # of an epoch, the partial last batch among them
    most_steps: int  # of a pass: the last step of an epoch ends with more than itself

    def passes(self, marks: Sequence[int], most: int, end: float) -> list[Pass]:
        """Make up to `most` passes until `end`, stamped after these steps.

        A pass under way at `end` is stopped after its step: it has fewer moments, of which the last is its end.
        """
        ...

    def epochs(self, most: int, end: float) -> list[Moment]:
        """Train whole epochs until `end`; the moments between them, first and last.

        An epoch under way at `end` is stopped after its step, and is none of them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch as one sample tells it, by both clocks."""

    sec: Moment
    start_sec: Moment | None = None  # None where a whole epoch was timed
    middle_error: float | None = None  # relative distance of a block between the two from their line


@dataclass(frozen=True, slots=True)
class Block:
    """How long the first steps of a pass took, by both clocks."""

    steps: int
    sec: Moment


@dataclass(frozen=True, slots=True)
class Samples:
    """What was measured of a training's epochs."""

    kind: str  # epochs or pairs
    first_epoch_sec: float | None  # wall; None where no whole epoch was timed
    epochs: tuple[Epoch, ...]
    steps: tuple[int, int] | None  # of the short and the long block; None where whole epochs were timed
    budget_used_sec: float
    blocks: tuple[Block, ...] = ()  # of all passes, in the order of time


@dataclass(frozen=True, slots=True)
class EpochTime:
    """The time of an epoch with its range by one clock."""

    interval: Interval  # ends None: too few samples for a range
    half: float | None  # relative half-width
    n: int
    n_left_out: int
    n_earlier: int = 0  # of `n`: earlier timings of the same training

    def widened(self, by: float) -> EpochTime:
        """The same with a half-width that is larger by so much, relative to the epoch."""
        half = None if self.half is None else self.half + by
        return replace(self, half=half, interval=Interval.of_relative(self.interval.value, half))


def sample(training: Training, budget_sec: float, now: Callable[[], float]) -> Samples:
    """Measure epochs for a budget of seconds, beside compilation and the first epoch.

    Args:
        now: the wall clock of the training's moments, in seconds.

    Raises:
        ValueError: if no step was done.
    """
    begin = now()
    end = begin + budget_sec
    rough, lasted = _rough_passes(training, begin, end, now)
    step_sec, start_sec = max(1e-6, min(map(_step_sec, rough))), max(0.0, min(map(_start_sec, rough)))
    epoch_sec = start_sec + step_sec * training.steps
    left = end - now()
    if left > 0 and ((LEAST_EPOCHS + 1) * epoch_sec <= left or training.most_steps < 2):
        moments = training.epochs(max(2, math.ceil(ENOUGH * left / epoch_sec)), end)
        whole = [later.since(earlier) for earlier, later in pairwise(moments)]
        if whole:
            epochs = tuple(Epoch(sec) for sec in whole[1:] or whole)
            return Samples("epochs", whole[0].wall_sec, epochs, None, now() - begin, _blocks(rough))
    # where a pass takes long before its steps (a framework copies the data), fewer are made
    pass_sec = max(1e-6, min(sec - max(each) * step_sec for sec, each in zip(lasted, rough, strict=True)))
    n_passes = max(MIN_SAMPLES, min(SEGMENTS, int(START_SHARE * left / pass_sec)))
    long = max(2, min(training.most_steps, round((left / n_passes - pass_sec) / step_sec)))
    marks = marks_of(long)
    found: list[Pass] = []
    if now() < end:
        found = training.passes(marks, math.ceil(ENOUGH * left / (pass_sec + long * step_sec)), end)
    whole_passes = [each for each in [*rough, *found] if max(each) >= long]  # of slow steps the first tries are as long
    if len(whole_passes) < MIN_SAMPLES:  # steps grew slower: those that the end cut short, then the first tries
        whole_passes = [each for each in found if max(each) >= 2 * marks[0]] or rough
    epochs = tuple(epoch_of(each, training.steps) for each in whole_passes)
    measured = min(min(filter(None, each)) for each in whole_passes), max(max(each) for each in whole_passes)
    return Samples("pairs", None, epochs, measured, now() - begin, _blocks([*rough, *found]))


def _rough_passes(
    training: Training, begin: float, end: float, now: Callable[[], float]
) -> tuple[list[Pass], list[float]]:
    """Return short passes for a first idea, and how long each lasted."""
    most = max(1, min(ROUGH_STEPS, training.most_steps))
    found: list[Pass] = []
    lasted: list[float] = []
    for _ in range(ROUGH_PASSES):
        before = now()
        found += training.passes(sorted({1, most}), 1, end)
        lasted.append(now() - before)
        if len(found) < len(lasted):  # the data ended
            lasted.pop()
            break
        if now() - begin > (end - begin) / SEGMENTS:
            break
    if not found:
        raise ValueError("no step could be timed: the data ended before.")
    return found, lasted


def _step_sec(found: Pass) -> float:
    """Wall seconds of a step of a pass; of its only one with the pass's start."""
    least, most = min(steps for steps in found if steps), max(found)
    if most == least:
        return found[most].since(found[0]).wall_sec / most
    return found[most].since(found[least]).wall_sec / (most - least)


def _start_sec(found: Pass) -> float:
    """Wall seconds of a pass before its steps run at their pace."""
    least = min(steps for steps in found if steps)
    return found[least].since(found[0]).wall_sec - least * _step_sec(found)


def repeated(one_pass: Callable[[], Pass], most: int, end: float, now: Callable[[], float]) -> list[Pass]:
    """Make one pass, and more until the next would end after `end`."""
    found: list[Pass] = []
    lasted = 0.0
    while not found or (len(found) < most and now() + lasted <= end):
        begin = now()
        found.append(one_pass())
        lasted = now() - begin
    return found


def _blocks(passes: Sequence[Pass]) -> tuple[Block, ...]:
    return tuple(Block(steps, at.since(each[0])) for each in passes for steps, at in sorted(each.items()) if steps)


def marks_of(long: int) -> list[int]:
    """Return the steps at which a pass is stamped whose long block has so many."""
    short = min(SHORT_STEPS, max(1, long // 4))
    return sorted({short, (short + long) // 2, long})


def epoch_of(found: Pass, steps: float) -> Epoch:
    """Return the epoch by the line through the shortest and the longest block of a pass."""
    marks = sorted(steps for steps in found if steps)
    short, long = marks[0], marks[-1]
    at_short, at_long = (_both(found[at].since(found[0])) for at in (short, long))
    if short == long:  # one block alone: its start can't be told from its steps
        return Epoch(Moment(*(sec * steps / long for sec in at_long)))
    slopes = [(b - a) / (long - short) for a, b in zip(at_short, at_long, strict=True)]
    starts = [sec - short * slope for sec, slope in zip(at_short, slopes, strict=True)]
    sec = Moment(*(start + steps * slope for start, slope in zip(starts, slopes, strict=True)))
    error = None
    for middle in marks[1:-1]:
        on_line = starts[0] + middle * slopes[0]
        error = found[middle].since(found[0]).wall_sec / on_line - 1 if on_line > 0 else None
    return Epoch(sec, Moment(*starts), error)


def _both(moment: Moment) -> tuple[float, float]:
    return moment.wall_sec, moment.cpu_sec


def epoch_time(seconds: Sequence[float], is_contended: bool, earlier: Sequence[float] = ()) -> EpochTime:
    """The mean of epochs and the range of the following ones' mean, at OWN_COVERAGE.

    Args:
        earlier: seconds of an epoch by earlier timings of the same training, which count as one epoch each.

    Raises:
        ValueError: if there is no epoch.
    """
    if not seconds:
        raise ValueError("no epoch was timed.")
    all_seconds = [*seconds, *earlier]
    kept = without_outliers(all_seconds)
    mean = statistics.fmean(kept)
    half = None
    if len(kept) >= MIN_SAMPLES:
        t = t_quantile((1 + OWN_COVERAGE) / 2, len(kept) - 1)
        spread = t * statistics.stdev(kept) * math.sqrt(1 + 1 / len(kept)) / mean
        half = max(CONTENDED_FLOOR if is_contended else FLOOR, spread)
    n_earlier = len(without_outliers(all_seconds, earlier))
    return EpochTime(Interval.of_relative(mean, half), half, len(kept), len(all_seconds) - len(kept), n_earlier)


def without_outliers(seconds: Sequence[float], of: Sequence[float] | None = None) -> list[float]:
    """Return all, or those `of` them, that are at most OUTLIER medians."""
    if not seconds:
        return []
    median = statistics.median(seconds)
    return [sec for sec in (seconds if of is None else of) if sec <= OUTLIER * median]
