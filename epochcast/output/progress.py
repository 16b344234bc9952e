"""How far a long piece of work is, on stderr: a bar by tqdm on a terminal, else a line a second at most."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable

from epochcast.output.streams import rewrite_line
from epochcast.output.text import clock
from epochcast.text_sinks import one_line

Say = Callable[[float], None]  # gets the share of the work that is done
FIRST_SEC = 2.0  # a shorter wait needs no words
EVERY_SEC = 1.0
MOST_COLUMNS = 80


def quiet(what: str) -> Say:
    """Return a function that shows nothing of `what`."""
    return lambda share: None


def progress(what: str, total: int | None = None) -> Say:
    """Return a function that shows the share of `what` that is done and the time left.

    It may begin again with a small share. `total` is how many there are to do, where they are counted.
    """
    start = shown = time.monotonic()
    first: tuple[float, float] | None = None  # when the first share came, and which: start-up is over

    def say(share: float) -> None:
        nonlocal first, shown
        now = time.monotonic()
        if first is None or share <= first[1]:
            first = now, share
        elif now - start >= FIRST_SEC and (now - shown >= EVERY_SEC or share >= 1):
            shown = now
            with contextlib.suppress(OSError, ValueError):  # stderr is closed, or can't be written: the work goes on
                _show(what, total, share, now - first[0], first[1])

    return say


def _show(what: str, total: int | None, share: float, elapsed_sec: float, first_share: float) -> None:
    if sys.stderr is None:
        return
    if sys.stderr.isatty():
        rewrite_line(sys.stderr, _bar(what, total, share, elapsed_sec, first_share), share >= 1)
        return
    left_sec = elapsed_sec * (1 - share) / (share - first_share)
    done = f"{100 * share:.0f} %" if total is None else f"{round(share * total)}/{total}"
    print(f"{what}: {done}, {'done' if share >= 1 else f'{clock(left_sec)} left'}", file=sys.stderr, flush=True)


def _bar(what: str, total: int | None, share: float, elapsed_sec: float, first_share: float) -> str:
    from tqdm import tqdm  # takes longer to import than many a command

    n = share * (total or 1)
    return str(
        tqdm.format_meter(
            n if total is None else round(n),
            total or 1,
            elapsed_sec,
            ncols=min(MOST_COLUMNS, shutil.get_terminal_size().columns),
            prefix=one_line(what),
            ascii="utf" not in (sys.stderr.encoding or "").lower(),
            initial=first_share * (total or 1),
            bar_format="{l_bar}{bar}| " + ("" if total is None else "{n_fmt}/{total_fmt} ") + "[{elapsed}<{remaining}]",
        )
    )
