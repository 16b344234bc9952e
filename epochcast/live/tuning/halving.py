"""Successive halving: the fastest of some settings, in half the time of measuring all.

All get a block of the same seconds. The faster half goes on and gets as many blocks again as it has, and so on, until
two are left and each has MOST_BLOCKS. Blocks are taken in turns, to and fro, so that a drift of the machine meets all
alike.

The fastest was chosen for its fast blocks, some of them by luck. It is therefore measured against the first setting,
which is what there is now, by new blocks in turns. Only those are the gain: the mean of the logarithms of neighbouring
blocks' ratios, with its range by Student's t.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from epochcast.interval import OWN_COVERAGE, Interval
from epochcast.stats import t_quantile

MOST_BLOCKS = 8
FINAL_PAIRS = 7  # that the budget is meant for; what is left of it gives more where these leave the answer open
LEAST_PAIRS, MOST_PAIRS = 4, 30  # of fewer, no range is known
WORTH = 0.02  # a smaller gain is no reason to change a script
CLOSE = 0.01  # settings so near to the fastest are as fast: the first of them in their order is chosen

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Standing(Generic[T]):
    """One setting and what was measured of it."""

    setting: T
    epoch_secs: tuple[float, ...]  # by each block

    @property
    def epoch_sec(self) -> float | None:
        """The median of the blocks; None without any."""
        return statistics.median(self.epoch_secs) if self.epoch_secs else None


@dataclass(frozen=True, slots=True)
class Race(Generic[T]):
    """What successive halving found."""

    standings: tuple[Standing[T], ...]  # in the order that was given
    chosen: T
    pairs: tuple[tuple[float, float], ...]  # seconds of an epoch in neighbouring blocks: of the first, of the chosen
    measured_sec: float

    def blocks_of(self, setting: T) -> list[float]:
        """Return the seconds of an epoch by all blocks of a setting, pairs included."""
        (own,) = (each.epoch_secs for each in self.standings if each.setting == setting)
        turns = (self.standings[0].setting, self.chosen) if self.pairs else ()
        return [*own, *(pair[turns.index(setting)] for pair in self.pairs if setting in turns)]


def planned_blocks(n: int) -> int:
    """Return how many blocks halving takes until the chosen is known, at most."""
    blocks, each = 0, 0
    while n > 2 - (each > 0) and each < MOST_BLOCKS:  # two from the start are only compared
        more = max(1, each)
        blocks, each, n = blocks + n * more, each + more, _half(n)
    return blocks


def halving(
    settings: Sequence[T], block: Callable[[T, float], float], budget_sec: float, now: Callable[[], float]
) -> Race[T]:
    """Return the fastest setting and how it compares with the first, within a budget of seconds.

    Args:
        settings: the first is what there is now; the others so that of equally fast ones the earlier is preferred.
        block: measures a setting for about some seconds; the seconds of an epoch.
        now: a clock, in seconds.

    Raises:
        ValueError: if there is no setting.
    """
    if not settings:
        raise ValueError("no setting to measure.")
    begin, first = now(), settings[0]
    end = begin + budget_sec * (1 + 1e-9)  # what fits it exactly is not kept out by rounding
    block_sec = budget_sec / (planned_blocks(len(settings)) + 2 * FINAL_PAIRS)
    found: dict[T, list[float]] = {setting: [] for setting in settings}
    lasted: list[float] = []  # blocks: they may have to be longer than they should

    def timed(setting: T) -> float:
        before = now()
        sec = block(setting, block_sec)
        lasted.append(now() - before)
        return sec

    def lasts() -> float:
        return max(block_sec, statistics.fmean(lasted)) if lasted else block_sec

    def is_time_to_compare() -> bool:
        left_sec = max(2 * FINAL_PAIRS * block_sec, 2 * LEAST_PAIRS * lasts())
        return now() + lasts() + left_sec > end

    left, each, is_over = list(settings), 0, False
    while not _are_only_compared(left, first) and each < MOST_BLOCKS and not is_over:
        more = max(1, each)
        for sweep in range(each, each + more):
            for setting in left if sweep % 2 == 0 else left[::-1]:
                if is_over := bool(found[first]) and is_time_to_compare():
                    break
                found[setting].append(timed(setting))
            if is_over:
                break
        each += more
        left = _faster_half([setting for setting in left if found[setting]], found)
    chosen = _chosen(left, found)
    pairs: list[tuple[float, float]] = []
    pair_sec = 2 * lasts()
    while chosen != first and not _is_settled(pairs) and now() + pair_sec <= end:
        before = now()
        turn = (first, chosen) if len(pairs) % 2 == 0 else (chosen, first)
        sec = {setting: timed(setting) for setting in turn}
        pairs.append((sec[first], sec[chosen]))
        pair_sec = now() - before
    standings = tuple(Standing(setting, tuple(secs)) for setting, secs in found.items())
    return Race(standings, chosen, tuple(pairs), now() - begin)


def _are_only_compared(left: Sequence[T], first: T) -> bool:
    """Whether only one setting is left to be compared with the first."""
    return len(left) <= 2 and (len(left) == 1 or left[0] == first)


def _half(n: int) -> int:
    """Return how many of n settings go on: half, but two at least."""
    return min(n, max(2, math.ceil(n / 2)))


def _faster_half(left: Sequence[T], found: dict[T, list[float]]) -> list[T]:
    """Return the faster half, in their order."""
    ranked = sorted(left, key=lambda setting: statistics.median(found[setting]))
    kept = set(ranked[: _half(len(left))])
    return [setting for setting in left if setting in kept]


def _chosen(left: Sequence[T], found: dict[T, list[float]]) -> T:
    """Return the first setting as fast as the fastest; of two not measured, the second."""
    if not all(found[setting] for setting in left):
        return left[-1]
    medians = {setting: statistics.median(found[setting]) for setting in left}
    most = (1 + CLOSE) * min(medians.values())
    return next(setting for setting in left if medians[setting] <= most)


def _is_settled(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether further pairs would hardly change the answer."""
    if len(pairs) < FINAL_PAIRS:
        return False
    gain = gain_of(pairs)
    assert gain is not None and gain.low is not None and gain.high is not None  # of so many it is known
    return len(pairs) >= MOST_PAIRS or not gain.low <= 1 + WORTH <= gain.high


def gain_of(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    """Return how many times as fast the chosen is, with its range; None without a pair.

    With x = log(first / chosen) of each of n pairs the range is exp(mean(x) +- t sd(x) / sqrt(n)).
    """
    if not pairs:
        return None
    logs = [math.log(first / chosen) for first, chosen in pairs]
    if len(logs) < LEAST_PAIRS:
        return Interval(math.exp(statistics.fmean(logs)))
    t = t_quantile((1 + OWN_COVERAGE) / 2, len(logs) - 1)
    return Interval.of_log(math.exp(statistics.fmean(logs)), t * statistics.stdev(logs) / math.sqrt(len(logs)))
