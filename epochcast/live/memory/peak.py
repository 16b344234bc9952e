"""Peak memory of a training step, and the largest batch size that fits by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

COMPILER, ALLOCATOR = "compiler", "allocator"  # whose account it is
FARTHEST = 8  # times the largest batch size tried: the line is not followed beyond
MOST_ASKED = 4  # batch sizes that the compiler is asked for, beside the two of the line
CLOSE = 0.05  # of the largest size that fits: so near to one that does not, none between is asked for

Point = tuple[int, int]  # a batch size, and the bytes of its step


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Memory of a training step of a fit at its peak."""

    bytes: int
    batch_size: int | None  # samples of that step; None is unknown
    source: str  # COMPILER: its plan of the step; ALLOCATOR: the most that the framework held in the first steps
    device_bytes: int | None  # that the framework may use; None: unknown, or the step is a processor's
    ask_sec: float  # wall, that asking took beyond what the fit itself does


@dataclass(frozen=True, slots=True)
class MaxBatch:
    """The largest batch size that fits into a device, as far as it was looked for."""

    size: int | None  # None: unknown, and `why` says why
    is_at_least: bool = False  # whether larger ones may fit, too: `size` is FARTHEST x what was tried
    bytes: int | None = None  # of a step of that size
    is_confirmed: bool = False  # by the compiler at that size; else by the line through what was tried
    tried: tuple[Point, ...] = ()  # from small to large
    ask_sec: float = 0.0  # wall
    why: str | None = None  # in words


class MemoryUnknownError(ValueError):
    """Nothing can say how much memory a step takes."""


def second_size(size: int) -> int:
    """Return the batch size tried beside a fit's own: half of it, of one sample two."""
    return size // 2 or 2


def largest_batch(
    size: int, own_bytes: int, limit_bytes: int, bytes_at: Callable[[int], int], can_confirm: bool
) -> MaxBatch:
    """Return the largest batch size whose step takes at most `limit_bytes`.

    It is where the line through two sizes meets the limit, at most FARTHEST x the larger of them. Where the compiler
    says that this does not fit, it is asked again between what fits and what does not.

    Args:
        size: of the fit's own batch, whose step takes `own_bytes`.
        bytes_at: the bytes of a step of another batch size.
        can_confirm: whether it may be asked for sizes that do not fit, as a compiler may.

    Raises:
        Exception: whatever `bytes_at` raises.
    """
    other = second_size(size)
    first, last = sorted([(size, own_bytes), (other, bytes_at(other))])
    tried, most = (first, last), FARTHEST * last[0]
    if not can_confirm and last[1] <= first[1]:
        return MaxBatch(None, tried=tried, why=f"no more was held with {last[0]} samples than with {first[0]}")
    answer = min(most, _where(first, last, limit_bytes, most))
    if answer < 1:
        return MaxBatch(None, tried=tried, why="not even a batch of one sample fits")
    if not can_confirm:
        return MaxBatch(answer, answer == most, on_line(first, last, answer), False, tried)
    too_large: Point | None = None
    fits = max((point for point in tried if point[1] <= limit_bytes), default=None)
    for _ in range(MOST_ASKED):
        asked = answer, bytes_at(answer)
        if asked[1] <= limit_bytes:
            fits = asked
            if too_large is None:
                break
        else:
            too_large = asked
        least = 0 if fits is None else fits[0]
        if too_large[0] - least <= max(1, CLOSE * least):
            break
        answer = min(too_large[0] - 1, max(least + 1, _where(fits or first, too_large, limit_bytes, most)))
    if fits is None:
        return MaxBatch(None, tried=tried, why=f"the compiler found none of {MOST_ASKED} sizes small enough")
    return MaxBatch(fits[0], fits[0] == most, fits[1], True, tried)


def _where(first: Point, last: Point, limit_bytes: int, most: int) -> int:
    """Return the largest size within a limit by the line through two points, at most `most`."""
    rise, run = last[1] - first[1], last[0] - first[0]
    return most if rise <= 0 else first[0] + (limit_bytes - first[1]) * run // rise


def on_line(first: Point, last: Point, size: int) -> int:
    """Return the bytes of a step of `size` by the line through two points."""
    return first[1] + (size - first[0]) * (last[1] - first[1]) // (last[0] - first[0])
