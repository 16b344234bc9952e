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
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from epochcast.interval import OWN_COVERAGE, Interval
from epochcast.stats import t_quantile

FLOOR, CONTENDED_FLOOR = 0.05, 0.10  # least half-width of the range; the second where others use the processor
MIN_SAMPLES = 4  # of fewer, no range is told
LEAST_EPOCHS = 8  # whole ones are timed where so many fit after the first: the range of five is a fourth wider than of
# ten pairs in the same time
SEGMENTS = 10  # pairs that a budget is meant for
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


class Training(Protocol):
    """A training that can be begun again and again, and stopped after some steps."""

    steps: float  # of an epoch, the partial last batch among them
    most_steps: int  # of a pass: the last step of an epoch ends with more than itself

    def passes(self, marks: Sequence[int], end: float) -> list[list[Moment]]:
        """Make one pass, and more until `end`; of each its begin and after these steps."""
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
class Samples:
    """What was measured of a training's epochs."""

    kind: str  # epochs or pairs
    first_epoch_sec: float | None  # wall; None where no whole epoch was timed
    epochs: tuple[Epoch, ...]
    steps: tuple[int, int] | None  # of the short and the long block; None where whole epochs were timed
    budget_used_sec: float


@dataclass(frozen=True, slots=True)
class EpochTime:
    """The time of an epoch with its range by one clock."""

    interval: Interval  # ends None: too few samples for a range
    half: float | None  # relative half-width
    n: int
    n_left_out: int
    n_earlier: int = 0  # of `n`: earlier timings of the same training


def sample(training: Training, budget_sec: float, now: Callable[[], float]) -> Samples:
    """Measure epochs for a budget of seconds, beside compilation and the first epoch.

    Args:
        now: the wall clock of the training's moments, in seconds.
    """
    begin = now()
    pass_sec, start_sec, step_sec = _rough(training, budget_sec, now)
    epoch_sec = start_sec + step_sec * training.steps
    left = begin + budget_sec - now()
    if (LEAST_EPOCHS + 1) * epoch_sec <= left or training.most_steps < 2:
        moments = training.epochs(math.ceil(10 * left / epoch_sec), begin + budget_sec)
        lasted = [later.since(earlier) for earlier, later in pairwise(moments)]
        if len(lasted) > 1 or training.most_steps < 2:
            epochs = tuple(Epoch(sec) for sec in lasted[1:] or lasted)
            return Samples("epochs", lasted[0].wall_sec, epochs, None, now() - begin)
        left = max(begin + budget_sec - now(), left / 2)
    # where a pass takes long before its steps (a framework copies the data), fewer are made
    n_passes = max(MIN_SAMPLES, min(SEGMENTS, int(0.8 * left / pass_sec)))
    long = round((left / n_passes - pass_sec) / step_sec)
    long = max(2, min(training.most_steps, long))
    short = min(SHORT_STEPS, max(1, long // 4))
    middle = (short + long) // 2
    marks = sorted({short, middle, long})
    epochs = tuple(
        _epoch_of(dict(zip(marks, (m.since(begun) for m in after), strict=True)), short, middle, long, training.steps)
        for begun, *after in training.passes(marks, begin + budget_sec)
    )
    return Samples("pairs", None, epochs, (short, long), now() - begin)


def _rough(training: Training, budget_sec: float, now: Callable[[], float]) -> tuple[float, float, float]:
    """Return rough seconds: of a pass without its steps, an epoch's start, a step."""
    most = min(ROUGH_STEPS, training.most_steps)
    begin, lasted, starts, steps = now(), [], [], []
    for _ in range(ROUGH_PASSES):
        before = now()
        (moments,) = training.passes([1, most] if most > 1 else [1], -math.inf)
        after_one = moments[1].since(moments[0]).wall_sec
        steps.append(moments[-1].since(moments[1]).wall_sec / (most - 1) if most > 1 else after_one)
        starts.append(after_one - steps[-1])
        lasted.append(now() - before - most * steps[-1])
        if now() - begin > budget_sec / SEGMENTS:
            break
    return max(1e-6, min(lasted)), max(0.0, min(starts)), max(1e-6, min(steps))


def repeated(one_pass: Callable[[], list[Moment]], end: float, now: Callable[[], float]) -> list[list[Moment]]:
    """Make one pass, and more until the next would end after `end`."""
    found: list[list[Moment]] = []
    lasted = 0.0
    while not found or now() + lasted <= end:
        begin = now()
        found.append(one_pass())
        lasted = now() - begin
    return found


def _epoch_of(at: dict[int, Moment], short: int, middle: int, long: int, steps: float) -> Epoch:
    """The epoch that the line through two blocks tells."""
    slopes = [(b - a) / (long - short) for a, b in _clocks(at[short], at[long])]
    starts = [sec - short * slope for sec, slope in zip(_both(at[short]), slopes, strict=True)]
    sec = Moment(*(start + steps * slope for start, slope in zip(starts, slopes, strict=True)))
    on_line = starts[0] + middle * slopes[0]
    error = at[middle].wall_sec / on_line - 1 if short < middle < long and on_line > 0 else None
    return Epoch(sec, Moment(*starts), error)


def _both(moment: Moment) -> tuple[float, float]:
    return moment.wall_sec, moment.cpu_sec


def _clocks(a: Moment, b: Moment) -> list[tuple[float, float]]:
    return list(zip(_both(a), _both(b), strict=True))


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
    median = statistics.median(all_seconds)
    kept = [sec for sec in all_seconds if sec <= OUTLIER * median]
    mean = statistics.fmean(kept)
    half = None
    if len(kept) >= MIN_SAMPLES:
        t = t_quantile((1 + OWN_COVERAGE) / 2, len(kept) - 1)
        spread = t * statistics.stdev(kept) * math.sqrt(1 + 1 / len(kept)) / mean
        half = max(CONTENDED_FLOOR if is_contended else FLOOR, spread)
    n_earlier = sum(sec <= OUTLIER * median for sec in earlier)
    return EpochTime(Interval.of_relative(mean, half), half, len(kept), len(all_seconds) - len(kept), n_earlier)
