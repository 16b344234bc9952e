"""fits.csv: a row for each estimate or finished fit of a user.

Rows are appended and read by the code that appends and reads runs.csv. Units are in the names; times of an epoch and of
a whole training are by the wall clock where no name says cpu. `None` means unknown and is an empty cell.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from epochcast.error_text import describe_error
from epochcast.schema import SCHEMA_VERSION, require_energy_source, require_known_schema
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table_if_any
from epochcast.validation import (
    is_whole,
    require,
    require_not_negative,
    require_positive,
    require_sec,
    require_time,
)

KINDS = ("estimate", "fit")
SAMPLINGS = ("epochs", "pairs", "blocks")  # whole epochs, pairs of a short and a long block, blocks of one pass
IN_A_PROGRAM = "in a program"  # the source of a row that no script's command made
MOST_EARLIER = 4  # timings of one training that a later estimate counts


@dataclass(frozen=True, slots=True)
class FitRecord:
    """One estimate or one finished fit of a user's own model: a row of fits.csv."""

    LEAST_COLUMNS: ClassVar[int] = 47  # of the first such tables: up to `source`

    timestamp_utc: str  # when it ended, ISO 8601
    kind: str  # one of KINDS
    run_id: str
    training_key: str  # equal for equal trainings: model, batch size, data's kind and conditions
    model_key: str  # equal for equal models: layers and shapes, whatever their weights and names
    model_class: str
    epochs: int  # of the whole training
    batches: int  # of an epoch
    timed_epoch_sec: float  # mean of what this row itself timed, without earlier timings
    n_timed: int  # samples in that mean
    epoch_sec: float  # the answer: with the earlier timings that counted
    total_sec: float  # of the whole training: predicted by an estimate, measured of a fit
    schema_version: int = SCHEMA_VERSION
    params: int | None = None
    sample_shape: tuple[str, ...] = ()  # of each input, e.g. 32x32x3
    batch_size: int | None = None
    train_n: int | None = None  # samples of an epoch
    epoch_sec_low: float | None = None
    epoch_sec_high: float | None = None
    total_sec_low: float | None = None
    total_sec_high: float | None = None
    timed_epoch_cpu_sec: float | None = None  # processor time of this process
    once_sec: float | None = None  # start of fit, building, compilation
    validation_sec: float | None = None  # of one pass over the validation data
    n_validations: int | None = None
    save_sec: float | None = None  # of one checkpoint
    n_saves: int | None = None
    sampling: str | None = None  # one of SAMPLINGS
    n_left_out: int | None = None  # samples above twice the median
    n_earlier: int | None = None  # earlier rows that count as one epoch each
    budget_used_sec: float | None = None
    is_contended: int | None = None  # 1: other programs kept more cores busy than a clean run allows
    other_cores: float | None = None  # that other programs kept busy meanwhile
    device_name: str | None = None
    usable_cores: int | None = None  # of the processor
    backend: str | None = None
    backend_version: str | None = None
    keras_version: str | None = None
    precision: str | None = None  # the model's dtype policy
    tf32: str | None = None  # on | off
    pipeline: str | None = None  # what the data are: arrays, tfdata, pydataset, dataloader or generator
    jit_compile: str | None = None  # on | off
    steps_per_execution: int | None = None
    optimizer: str | None = None  # its class
    energy_j_per_epoch: float | None = None
    energy_source: str | None = None  # as in runs.csv
    source: str | None = None  # path of the script, or IN_A_PROGRAM
    peak_memory_bytes: int | None = None  # of a training step, of its device's memory
    step_operations: int | None = None  # of a training step, as the law of networks counts it: kernels and updates
    step_flop: int | None = None
    step_small_kernel_flop: int | None = None  # of 3x3 and 5x5 convolutions
    step_bytes: int | None = None  # that its layers read and write
    step_depthwise_bytes: int | None = None  # of depthwise convolutions
    network_kind: str | None = None  # convolutional, transformer, recurrent or other

    def __post_init__(self) -> None:
        require_time(self, "timestamp_utc")
        require(self.kind in KINDS, self, "kind", f"one of {', '.join(KINDS)}")
        for name in ("run_id", "training_key", "model_key", "model_class"):
            require(bool(getattr(self, name)), self, name, "given")
        for name in ("epochs", "batches", "n_timed"):
            require(is_whole(getattr(self, name), 1), self, name, "a whole number of at least 1")
        require_sec(self, "timed_epoch_sec", "epoch_sec", "total_sec")
        require_positive(self, "schema_version", "batch_size", "train_n", "usable_cores", "steps_per_execution")
        require_known_schema(self)
        require_not_negative(self, "params", "epoch_sec_low", "epoch_sec_high", "total_sec_low", "total_sec_high")
        require_not_negative(self, "timed_epoch_cpu_sec", "once_sec", "validation_sec", "n_validations", "save_sec")
        require_not_negative(self, "n_saves", "n_left_out", "n_earlier", "budget_used_sec", "other_cores")
        require(self.sampling in (None, *SAMPLINGS), self, "sampling", f"of {', '.join(SAMPLINGS)}")
        require(self.is_contended in (None, 0, 1), self, "is_contended", "0, 1 or empty")
        require(self.tf32 in (None, "on", "off"), self, "tf32", "on, off or empty")
        require(self.jit_compile in (None, "on", "off"), self, "jit_compile", "on, off or empty")
        require_positive(self, "energy_j_per_epoch", "peak_memory_bytes", "step_operations", "step_flop", "step_bytes")
        require_not_negative(self, "step_small_kernel_flop", "step_depthwise_bytes")
        require_energy_source(self)


def new_fit_id(kind: str) -> str:
    """Return a name for a row: its kind, the moment and four random letters."""
    return f"{kind}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(2)}"


def append_fit(path: Path, record: FitRecord) -> None:
    """Append a row durably, as runs.csv gets its own.

    Raises:
        ValueError: if the file is not such a table, or the row could not be read back.
        OSError: if the row could not be written; the table is then as it was.
    """
    append_row(path, record)


def read_fits(path: Path) -> list[FitRecord]:
    """Return all rows; none where there is no table yet.

    Raises:
        ValueError: names file, line and column of the first thing that is wrong.
        OSError: if the file can't be read.
    """
    return read_table_if_any(path, FitRecord)


def rows_or_why(path: Path | None) -> tuple[list[FitRecord], list[str]]:
    """Return the rows, or none and a note that says why."""
    try:
        return ([] if path is None else read_fits(path)), []
    except (OSError, ValueError) as error:
        return [], [f"earlier timings are not used: {describe_error(error)}"]


def same_fits(rows: Sequence[FitRecord], training_key: str, batches: int | None) -> list[FitRecord]:
    """Return the rows of the same training.

    The number of batches is compared apart from the key: as many more samples are another epoch of the same training.
    """
    return [row for row in rows if row.training_key == training_key and row.batches == batches]


def earlier_fits(
    rows: Sequence[FitRecord], training_key: str, batches: int, is_contended: bool, most: int = MOST_EARLIER
) -> list[FitRecord]:
    """Return the latest rows of the same training, under the same load."""
    same = same_fits(rows, training_key, batches)
    return [row for row in same if row.is_contended == int(is_contended)][-most:]
