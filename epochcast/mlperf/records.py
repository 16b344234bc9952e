"""records.csv: a row for each timed run that a log of MLPerf Training reports.

The table holds a run once, however often its log was handed in. It holds runs that did not reach their target and runs
of the open division too: `is_usable` and `division` say which. Units are in the names; `None` means that the log and
its system description do not say, and is an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from epochcast.storage.tables import read_table, write_table
from epochcast.validation import require, require_not_negative, require_positive, require_sec

STATUSES = ("success", "aborted")
DIVISIONS = ("closed", "open")
CPU = "CPU"  # the `device` of a system without accelerators
_ROUND = re.compile(r"\d{1,2}\.\d{1,2}")

Entry = tuple[str, str, str, str]  # round, submitter, system, benchmark


@dataclass(frozen=True, slots=True)
class MlperfRecord:
    """One timed run of a published benchmark: a row of records.csv."""

    round: str  # e.g. 4.0
    submitter: str
    system: str  # folder of the system, of v0.5 with the folders of the submission
    benchmark: str  # the same name in all rounds for the same work, and only for the same work
    time_sec: float  # from run_start to run_stop
    log: str  # path of the log in its source, with the round first
    sha256: str  # of the log's content
    log_benchmark: str | None = None  # as the log or its folder names it
    division: str | None = None  # one of DIVISIONS
    status: str | None = None  # one of STATUSES
    device: str | None = None  # name in the facts, CPU for a system without accelerators; None: not in the facts
    device_kind: str | None = None  # as in the facts: gpu, tpu, ...; cpu
    accelerator: str | None = None  # as the system description spells it; of a CPU system the processor
    n_accelerators: int | None = None  # of the whole system; of TPUs chips, of a CPU system sockets
    n_nodes: int | None = None
    power_limit_w: float | None = None  # of one accelerator, where its name states it
    framework: str | None = None
    system_name: str | None = None  # as the system description spells it
    started_utc: str | None = None  # ISO 8601
    global_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    train_samples: int | None = None
    eval_samples: int | None = None
    max_sequence_length: int | None = None
    seed: int | None = None
    optimizer: str | None = None
    base_learning_rate: float | None = None
    target_quality: float | None = None
    final_quality: float | None = None  # of the last evaluation

    def __post_init__(self) -> None:
        require(bool(_ROUND.fullmatch(self.round)), self, "round", "like 4.0")
        for name in ("submitter", "system", "benchmark", "log", "sha256"):
            require(bool(getattr(self, name)), self, name, "given")
        require_sec(self, "time_sec")
        require(self.division in (None, *DIVISIONS), self, "division", f"one of {', '.join(DIVISIONS)}, or empty")
        require(self.status in (None, *STATUSES), self, "status", f"one of {', '.join(STATUSES)}, or empty")
        require_positive(self, "n_accelerators", "n_nodes", "power_limit_w", "global_batch_size")
        require_positive(self, "gradient_accumulation_steps", "train_samples", "eval_samples", "max_sequence_length")
        require_not_negative(self, "base_learning_rate")

    @property
    def is_usable(self) -> bool:
        """Whether the run reached its target on a known number of known accelerators."""
        return self.status == "success" and self.accelerator is not None and self.n_accelerators is not None

    @property
    def entry(self) -> Entry:
        """What this run repeats: rows of one entry are never split between fitting and judging."""
        return self.round, self.submitter, self.system, self.benchmark


def round_number(name: str) -> tuple[int, int]:
    """Return the parts of a round's name, which order rounds in time."""
    major, minor = name.split(".")
    return int(major), int(minor)


def read_records(path: Path) -> list[MlperfRecord]:
    """Return all rows of a table of records.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: names file, line and column of the first thing that is wrong.
    """
    return read_table(path, MlperfRecord)


def write_records(path: Path, records: Iterable[MlperfRecord]) -> None:
    """Replace a whole table of records, in the order given."""
    write_table(path, list(records), MlperfRecord)
