"""What a measuring process may say: one JSON object a line, checked before anything is believed of it.

The process runs a framework, drivers and the user's environment: any of these may print into its pipe, die within a
line, or hand on nonsense. A line that can't be an event is noted and passed over. An event that contradicts what a
measurement is (an epoch of 0 s) is a fault: the run makes no row, and of what the process says from there on only the
times of epochs are kept, for the row of failures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from epochcast.storage.cells import shown
from epochcast.validation import SEC_WORDS, is_finite, is_sec, is_whole

_BEGINNING = b'{"event": '
LONGEST_EVENT = 1 << 24  # bytes; more is no event


class OddEventError(ValueError):
    """A line that is no event; the run goes on without it."""


class FaultyEventError(ValueError):
    """An event that no measurement can bring forth."""


@dataclass(slots=True)
class Heard:
    """What a measuring process has said so far."""

    started: dict[str, Any] = field(default_factory=dict)
    epoch_times: list[float] = field(default_factory=list)
    edges: list[tuple[float, float] | None] = field(default_factory=list)  # of the epochs, by time.monotonic
    idle_edges: tuple[float, float] | None = None
    has_diverged: bool = False
    timed: dict[str, Any] | None = None  # training is over; what follows is optional
    done: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None
    refusal: str | None = None
    fault: str | None = None
    odd: list[str] = field(default_factory=list)  # lines passed over, the first few

    def take(self, line: bytes) -> dict[str, Any] | None:
        """Note one line; the event, or None where it is not to be used."""
        try:
            event = parse_event(line)
            if self.fault is None or event["event"] == "epoch":
                _NOTES[event["event"]](self, event)
        except OddEventError as error:
            if len(self.odd) < 10:
                self.odd.append(str(error))
            return None
        except FaultyEventError as error:
            self.fault = self.fault or str(error)
            return None
        return event if self.fault is None else None

    # --- one method an event ------------------------------------------------------------------------------------------

    def _started(self, event: dict[str, Any]) -> None:
        if self.started:
            raise FaultyEventError("it said twice on what it started")
        for name in ("train_n", "params"):
            if not is_whole(event.get(name), 1):
                raise FaultyEventError(f"it started with {name} {shown(str(event.get(name)))}")
        self.started = {name: value for name, value in event.items() if name != "event"}

    def _idle(self, event: dict[str, Any]) -> None:
        self.idle_edges = _edges(event)

    def _epoch(self, event: dict[str, Any]) -> None:
        number = len(self.epoch_times) + 1
        if not is_sec(event.get("sec")):
            raise FaultyEventError(
                f"it reported epoch {number} as taking {shown(str(event.get('sec')))}, expected seconds {SEC_WORDS}"
            )
        if not isinstance(event.get("logs"), dict):
            event["logs"] = {}
        loss = event["logs"].get("loss", 0.0)
        self.has_diverged |= isinstance(loss, float) and not math.isfinite(loss)
        self.epoch_times.append(float(event["sec"]))
        try:
            self.edges.append(_edges(event))
        except OddEventError:
            self.edges.append(None)  # the time stands; what went on beside it is not known
            raise
        finally:
            if self.done is not None or self.timed is not None:
                raise FaultyEventError(f"it reported epoch {number} after its end")
            if self.refusal is not None:
                raise FaultyEventError(f"it refused the run, and reported epoch {number}")

    def _timed(self, event: dict[str, Any]) -> None:
        self.timed = event

    def _done(self, event: dict[str, Any]) -> None:
        n_epochs = event.get("n_epochs", len(self.epoch_times))
        if n_epochs != len(self.epoch_times):
            raise FaultyEventError(f"it timed {shown(str(n_epochs))} epochs and reported {len(self.epoch_times)}")
        problems = event.get("problems", {})
        if not isinstance(problems, dict):
            event["problems"] = {"problems": repr(problems)}
        self.done = event

    def _failed(self, event: dict[str, Any]) -> None:
        self.failed = event

    def _refused(self, event: dict[str, Any]) -> None:
        if self.epoch_times:
            raise FaultyEventError(f"it refused the run after {len(self.epoch_times)} epochs")
        self.refusal = str(event.get("message") or "the measuring process refused the run without a reason")


_NOTES = {
    "started": Heard._started,
    "idle": Heard._idle,
    "epoch": Heard._epoch,
    "timed": Heard._timed,
    "done": Heard._done,
    "failed": Heard._failed,
    "refused": Heard._refused,
}


def parse_event(line: bytes) -> dict[str, Any]:
    """The event of one line; NaN may stand in it, for a loss that diverged.

    Raises:
        OddEventError: if the line is no event.
    """
    try:
        event = json.loads(line[max(0, line.find(_BEGINNING)) :])  # a library may have printed in front of it
    except (ValueError, RecursionError):
        raise OddEventError(f"no JSON among its events: {shown(line[:200].decode(errors='replace'))}") from None
    if not isinstance(event, Mapping) or event.get("event") not in list(_NOTES):
        raise OddEventError(f"an unknown event: {shown(line[:200].decode(errors='replace'))}")
    return dict(event)


def _edges(event: Mapping[str, Any]) -> tuple[float, float]:
    edges = event.get("edges")
    if isinstance(edges, list) and len(edges) == 2 and all(map(is_finite, edges)) and edges[0] <= edges[1]:
        return float(edges[0]), float(edges[1])
    raise OddEventError(f"edges that are no two times: {shown(str(edges))}")
