"""Where and how runs are made, as one value that JSON can hold: an executor on another machine can be handed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epochcast.collect.run.device_lock import WAITING, Sharing
from epochcast.schema import from_json_dict
from epochcast.validation import is_finite, require

PATHS = ("runs", "log_dir")


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where the rows and logs of runs go, and how a run is made there; what is measured is a `RunSpec`.

    Attributes:
        runs: the table that finished runs are appended to; failures.csv stands next to it.
        log_dir: the folder for the log and the JSON of each run.
        grid_id: the grid or the plan that the rows belong to; None for runs made by hand.
        idle_sec: seconds to wait before the first epoch where the GPU's power can be read, to measure its idle power.
        child: the command of the measuring process, which emits the events of `measure.py`; None for that of the
            installation that makes the run.
        sharing: what to do while another run is on the device.
    """

    runs: Path
    log_dir: Path
    grid_id: str | None = None
    idle_sec: float = 0.0
    child: tuple[str, ...] | None = None
    sharing: Sharing = WAITING

    def __post_init__(self) -> None:
        for name in PATHS:
            require(isinstance(getattr(self, name), Path), self, name, "a path")
        require(self.grid_id is None or isinstance(self.grid_id, str), self, "grid_id", "a name, or absent")
        require(is_finite(self.idle_sec) and self.idle_sec >= 0, self, "idle_sec", "seconds, 0 or more")
        is_command = self.child is None or (
            isinstance(self.child, tuple) and bool(self.child) and all(isinstance(word, str) for word in self.child)
        )
        require(is_command, self, "child", "the words of a command, or absent")
        require(isinstance(self.sharing, Sharing), self, "sharing", "a Sharing")

    def to_json(self) -> dict[str, Any]:
        """Return the place as plain JSON values, its paths absolute."""
        paths = {name: str(getattr(self, name).absolute()) for name in PATHS}
        child = None if self.child is None else list(self.child)
        return {**asdict(self), **paths, "child": child}

    @classmethod
    def from_json(cls, values: object) -> RunPlace:
        """Return the place that `to_json` made these values of.

        Raises:
            ValueError: names what is wrong with them.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"expected the values of a RunPlace, got {type(values).__name__}.")
        made: dict[str, Any] = dict(values)
        for name in PATHS:
            if isinstance(made.get(name), str):
                made[name] = Path(made[name])
        if "sharing" in made:
            made["sharing"] = from_json_dict(Sharing, made["sharing"])
        return from_json_dict(cls, made)
