"""Choose the disturbed runs of a grid that are measured once more: those whose cause may be gone.

At most half of the grid. A repeat helps where something passed by. It does not while other programs still take the
processor, nor where nearly all runs of the grid bear the same flag: that is how this box is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from epochcast.collect.grid.host_now import HostNow
from epochcast.collect.grid.specs import PlannedRun
from epochcast.facts.assumptions import device_kind_of
from epochcast.schema import FLAGS, UNCLEAN_FLAGS, RunRecord

AGAIN = "-again"  # ends the name of a run that is measured once more because the first was flagged
AGAIN_FLAGS = frozenset(FLAGS) - {"short", "diverged"}  # those two would come out the same
MOST_SHARE = 0.5  # of the runs of a grid that are measured once more
COMMON_SHARE, COMMON_RUNS = 0.75, 3  # a flag that so many of at least so many runs bear is no accident of one


def is_disturbed(record: RunRecord) -> bool:
    """Whether something disturbed a run that may not come again."""
    return not AGAIN_FLAGS.isdisjoint(record.flags)


def again(planned: PlannedRun) -> PlannedRun:
    """The same run under the name of a second one."""
    return PlannedRun(planned.spec, planned.run_id + AGAIN)


def most_repeats(n_planned: int) -> int:
    """The most runs of a grid that are measured once more, unless that is forced."""
    return max(1, math.floor(MOST_SHARE * n_planned))


class Repeats:
    """The runs measured once more at the end of a grid: chosen when all others are done, and looked at before each.

    `most` is how many these can be.

    Args:
        n_planned: runs of the grid.
        n_before: runs of it that were measured once more by an earlier call.
        forced: whether every disturbed run is, without a look at the cause.
    """

    def __init__(
        self,
        n_planned: int,
        n_before: int,
        forced: bool,
        report: Callable[[str], None],
        look: Callable[[], HostNow] = HostNow.look,
    ) -> None:
        self._forced, self._report, self._look = forced, report, look
        self.most = n_planned - n_before if forced else max(0, most_repeats(n_planned) - n_before)
        self._disturbed: list[tuple[PlannedRun, RunRecord]] = []
        self._flags: list[tuple[str, ...]] = []  # of all first runs of the grid
        self._chosen: list[PlannedRun] | None = None
        self._number = 0
        self._not_done: Counter[str] = Counter()  # runs that are not measured once more, by the reason

    def saw(self, planned: PlannedRun, record: RunRecord, was_repeated: bool = False) -> None:
        """Take note of a first run of the grid, measured now or before."""
        self._flags.append(record.flags)
        if is_disturbed(record) and not was_repeated:
            self._disturbed.append((planned, record))

    @property
    def n_disturbed(self) -> int:
        return len(self._disturbed)

    @property
    def n_chosen(self) -> int:
        """Runs that were begun once more, or will be."""
        return len(self._chosen or ())

    @property
    def number_text(self) -> str:
        return f"[again {self._number}/{self.n_chosen}]"

    @property
    def left(self) -> Sequence[PlannedRun]:
        """The runs chosen that are still to be begun."""
        return (self._chosen or [])[self._number :]

    def next(self) -> PlannedRun | None:
        """The next run to be measured once more; None when there is none that it would help."""
        if self._chosen is None:
            self._chosen = self._choose()
        elif self.left and not self._forced and (host := self._look()).is_busy(self._kind):
            self._not_done[_busy_words(host)] += len(self.left)
            del self._chosen[self._number :]
        if not self.left:
            return None
        self._number += 1
        return self._chosen[self._number - 1]

    def stop(self, reason: str) -> None:
        """No more will be begun, for this reason."""
        n_left = self.n_disturbed if self._chosen is None else len(self.left)
        if n_left:
            self._not_done[reason] += n_left
        self._chosen = (self._chosen or [])[: self._number]

    def closing_line(self) -> str | None:
        """What was not measured once more, why, and what forces it; None if nothing was passed over."""
        if not self._not_done:
            return None
        total = sum(self._not_done.values())
        reasons = ", ".join(
            reason if len(self._not_done) == 1 else f"{n}: {reason}" for reason, n in self._not_done.items()
        )
        runs = f"{total} flagged run{'s' if total > 1 else ''}"
        return f"not measured again: {runs} ({reasons}); --again measures them all the same"

    @property
    def _kind(self) -> str:
        return device_kind_of(self._disturbed[-1][1].device_name)

    def _choose(self) -> list[PlannedRun]:
        """Sort the disturbed runs into those to measure once more and those passed over, and say why."""
        if not self._disturbed:
            return []
        # rows that enter no mean beside others first
        waiting = sorted(self._disturbed, key=lambda pair: UNCLEAN_FLAGS.isdisjoint(pair[1].flags))
        if self._forced:
            self._report(f"{_counted(waiting)} once more, as --again asks for")
            return [again(planned) for planned, _ in waiting]
        host = self._look()
        if host.is_busy(self._kind):
            self._not_done[_busy_words(host)] += len(waiting)
            return []
        common = self._common()
        helped: list[tuple[PlannedRun, RunRecord]] = []
        for planned, record in waiting:
            causes = AGAIN_FLAGS.intersection(record.flags)
            if "busy_host" not in causes and causes <= common.keys():
                flag = next(flag for flag in FLAGS if flag in causes)
                self._not_done[f"{flag} in {common[flag]} of {len(self._flags)} runs, so not by an accident"] += 1
            elif len(helped) >= self.most:
                self._not_done["more than half of the grid"] += 1
            else:
                helped.append((planned, record))
        if helped:
            self._report(f"{_counted(helped)} once more, as something disturbed them; {host}")
        return [again(planned) for planned, _ in helped]

    def _common(self) -> dict[str, int]:
        """The flags that nearly all runs of the grid bear, with the number of those runs."""
        n = len(self._flags)
        counts = Counter(flag for flags in self._flags for flag in flags)
        return {flag: count for flag, count in counts.items() if n >= COMMON_RUNS and count >= COMMON_SHARE * n}


def _busy_words(host: HostNow) -> str:
    return f"{host}, which would disturb them again"


def _counted(runs: Sequence[tuple[PlannedRun, RunRecord]]) -> str:
    """Runs counted, with the flags that they bear."""
    counts = Counter(flag for _, record in runs for flag in record.flags if flag in AGAIN_FLAGS)
    flags = ", ".join(f"{flag} {counts[flag]}" for flag in FLAGS if counts[flag])
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''} ({flags})"
