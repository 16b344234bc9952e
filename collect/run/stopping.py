"""When a run has trained enough: the count asked for, or until its steady time is known."""

from __future__ import annotations

from collections.abc import Sequence

from epochcast.schema import WARMUP_EPOCHS, RunSpec
from epochcast.steady_time import is_short, spread_and_interval, steady_time

LOOKS = 50  # a run of many epochs is looked at once for each fiftieth that it grows
STOPPED_BY = {  # what a person is told
    "target_ci": "the steady time is known to the target",
    "max_epochs": "the limit of epochs was reached before the target",
    "max_sec": "the limit of seconds was reached before the target",
    "epochs": "the epochs asked for are done",
}


def stop_reason(spec: RunSpec, epoch_times: Sequence[float]) -> str | None:
    """Why a run with these epochs is over, one of `epochcast.schema.STOP_REASONS`; None: it goes on.

    Without a count of epochs it goes on until the 95 % interval of the steady time is within `spec.target_ci` and the
    timed epochs are neither too few nor too short to be believed, at most to `max_epochs` epochs or, with one timed
    epoch, `max_sec` seconds.
    """
    if spec.epochs is not None:
        return "epochs" if len(epoch_times) >= spec.epochs else None
    if len(epoch_times) <= WARMUP_EPOCHS:
        return None
    n = len(epoch_times)
    is_looked_at = n % max(1, n // LOOKS) == 0  # looking takes a millisecond then, which short epochs would feel
    if is_looked_at and not is_short(epoch_times[WARMUP_EPOCHS:]):
        _, rel_ci95 = spread_and_interval(epoch_times, steady_time(epoch_times))
        if rel_ci95 is not None and rel_ci95 <= spec.target_ci:
            return "target_ci"
    if n >= spec.max_epochs:
        return "max_epochs"
    return "max_sec" if sum(epoch_times) >= spec.max_sec else None
