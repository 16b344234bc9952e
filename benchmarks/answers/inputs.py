"""Input files that `same_answers.py` gives to both trees: rows that we measured, and a network."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

from epochcast.machine.gpu_driver import box_device_name
from epochcast.paths import CODE_ROOT, reference_data

MEASURED = CODE_ROOT / "results"
A100 = reference_data() / "a100" / "runs.csv"
MLPERF_LOGS = reference_data() / "mlperf" / "raw_sample.tar.xz"
OLD_COLUMNS = 11  # of the published table
NETWORK = """
import keras
network = keras.Sequential([
    keras.layers.Input((24, 24, 3)),
    keras.layers.Conv2D(16, 3, activation="relu"),
    keras.layers.BatchNormalization(),
    keras.layers.MaxPooling2D(),
    keras.layers.SeparableConv2D(32, 3, strides=2),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dropout(0.5),
    keras.layers.Dense(10, activation="softmax"),
])
network.compile("adam", "sparse_categorical_crossentropy")
network.save("network.keras")
"""
Row = dict[str, str]


def make_inputs(folder: Path) -> None:
    """Write the tables and the network into a new folder."""
    folder.mkdir(parents=True)
    for name, source in {"jax": "cpu/jax", "repeats": "cpu_repeats"}.items():
        shutil.copy2(MEASURED / source / "runs.csv", folder / f"{name}.csv")
    # measured on this box, so that its own model answers and its plans may be carried out
    cpu = [row | {"device_name": box_device_name()} for row in _rows(MEASURED / "cpu" / "tensorflow" / "runs.csv")]
    _write(folder / "cpu.csv", cpu)
    _write(folder / "few.csv", [row for row in cpu if row["depth"] == "2"])
    small = [row for row in cpu if row["base_filters"] == "8" and row["batch_size"] in ("128", "256")]
    _write(folder / "synthetic.csv", [row | {"dataset": "synthetic", "test_acc": ""} for row in small[:2]])
    _write(folder / "bad.csv", _spoilt(cpu))
    repeats = _rows(folder / "repeats.csv")
    _write(folder / "old.csv", [dict(list(row.items())[:OLD_COLUMNS]) for row in repeats])
    if has_reference():
        shutil.copy2(A100, folder / "a100.csv")
        shutil.copy2(MLPERF_LOGS, folder / "mlperf.tar.xz")
        batches = ("32", "96", "192", "384", "768")
        _write(folder / "a100_few.csv", [row for row in _rows(A100) if row["batch_size"] in batches])
    subprocess.run([sys.executable, "-c", NETWORK], cwd=folder, check=True, capture_output=True)


def has_reference() -> bool:
    """Whether the reference rows of an A100 are on this machine."""
    return A100.is_file()


def _spoilt(rows: list[Row]) -> list[Row]:
    """Rows with a wrong mean, a wrong count of parameters, a cell that is no number, and one twice."""
    wrong = [{"avg_time_sec": "9.5"}, {"params": "5"}, {"images_per_sec": "fast"}, {"train_n": "0"}]
    return [row | change for row, change in zip(rows, wrong, strict=False)] + rows[len(wrong) :] + rows[-1:]


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
