"""What the samples of an estimate say about a training, beside its time.

A rank correlation of time with the number of steps says only that more steps take longer; it is 1 for any law that
rises, straight or not, so that linearity is judged by a block in the middle of each pass instead.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass

from epochcast.live.sampling.estimator import Block, Epoch, Samples
from epochcast.stats import Correlation, spearman

WORTH_SAYING = 0.05  # share of an epoch
CURVED = 0.05  # relative distance of a middle block from the line of the others
DRIFTS = 0.01  # probability of so strong a trend by chance, below which it is a drift
INPUT_BOUND = 0.8  # of a step's time, that its data alone take


@dataclass(frozen=True, slots=True)
class BlockSize:
    """All blocks of one number of steps."""

    steps: int
    n: int
    mean_sec: float  # wall
    sd_sec: float | None  # None of a single one


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What the samples say beside the time; None where they can't say it."""

    start_sec: float | None  # wall, of an epoch before its steps run at their pace
    start_share: float | None  # of an epoch
    middle_error: float | None  # mean relative distance of the middle blocks from the line of the others
    drift: Correlation | None  # of the epochs' time with their order
    drift_change: float | None  # last third of the epochs against the first, relative
    data_sec: float | None  # wall, of making one batch without training on it
    data_share: float | None  # of a step
    sizes: tuple[BlockSize, ...]
    time_with_steps: Correlation | None  # of all blocks: that more steps take longer, which is no proof of a line


def diagnose(found: Samples, step_sec: float, data_sec: float | None) -> Diagnostics:
    """Judge samples.

    Args:
        step_sec: wall seconds of a step.
        data_sec: wall seconds of the data of a step alone; None if unknown.
    """
    epochs = [epoch.sec.wall_sec for epoch in found.epochs]
    starts = [epoch.start_sec.wall_sec for epoch in found.epochs if epoch.start_sec is not None]
    errors = [epoch.middle_error for epoch in found.epochs if epoch.middle_error is not None]
    start_sec = max(0.0, statistics.fmean(starts)) if starts else None
    third = len(epochs) // 3
    return Diagnostics(
        start_sec=start_sec,
        start_share=None if start_sec is None else start_sec / statistics.fmean(epochs),
        middle_error=statistics.fmean(errors) if errors else None,
        drift=spearman(range(len(epochs)), epochs),
        drift_change=statistics.fmean(epochs[-third:]) / statistics.fmean(epochs[:third]) - 1 if third else None,
        data_sec=data_sec,
        data_share=None if data_sec is None else data_sec / step_sec,
        sizes=_sizes(found.blocks),
        time_with_steps=spearman([b.steps for b in found.blocks], [b.sec.wall_sec for b in found.blocks]),
    )


def _sizes(blocks: tuple[Block, ...]) -> tuple[BlockSize, ...]:
    lasted: dict[int, list[float]] = defaultdict(list)
    for block in blocks:
        lasted[block.steps].append(block.sec.wall_sec)
    return tuple(
        BlockSize(steps, len(secs), statistics.fmean(secs), statistics.stdev(secs) if len(secs) > 1 else None)
        for steps, secs in sorted(lasted.items())
    )


def pace(epochs: tuple[Epoch, ...], steps: float) -> float:
    """Return the mean wall seconds of a step, without the start of its epoch."""
    return statistics.fmean(
        (e.sec.wall_sec - (0.0 if e.start_sec is None else max(0.0, e.start_sec.wall_sec))) / steps for e in epochs
    )


def sentences(found: Diagnostics) -> list[str]:
    """What of it is worth saying, in words."""
    said = []
    if found.start_sec is not None and found.start_share is not None and found.start_share > WORTH_SAYING:
        said.append(
            f"Each epoch begins with {found.start_sec:.2g} s before its steps run at their pace "
            f"({found.start_share:.0%} of an epoch)."
        )
    if found.middle_error is not None and abs(found.middle_error) > CURVED:
        said.append(
            f"Steps do not all take the same time: a block in the middle took {abs(found.middle_error):.0%} "
            f"{'more' if found.middle_error > 0 else 'less'} than the line through the others says."
        )
    if found.drift is not None and found.drift.p < DRIFTS and found.drift_change is not None:
        said.append(
            f"The machine drifted while it was timed: epochs became {abs(found.drift_change):.0%} "
            f"{'slower' if found.drift_change > 0 else 'faster'} from first to last. The range takes it as noise."
        )
    if found.data_share is not None:
        if found.data_share >= INPUT_BOUND:
            said.append(
                f"Input-bound: making a batch alone takes {min(found.data_share, 1.0):.0%} of a step. Caching, "
                "prefetching or more workers would shorten the training; a faster GPU would not."
            )
        else:
            share = f"{found.data_share:.0%}" if found.data_share >= 0.01 else "less than 1%"
            said.append(f"Not input-bound: making a batch alone takes {share} of a step.")
    return said
