"""Compare scaled times with measured ones: python benchmarks/estimates/bench_scaling_this_box.py --runs_agg PATH

Each configuration that the table holds on a known GPU is carried over from the model as if nothing had been measured
there, and once more set right by the other configurations under the same conditions. Tables of another framework or
pipeline than the model's are shown, too, with what differs: what that changes is then in the error.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.aggregate.averages.table import load_agg
from epochcast.cli import run_command
from epochcast.gpus.lookup import known_gpu
from epochcast.gpus.ratio import SAME, GpuArithmetic
from epochcast.interval import Interval
from epochcast.model.answers.correction import cnn_ratio, correction_by, scaled_steady_time
from epochcast.model.time_model.intervals import WITHIN
from epochcast.model.time_model.saved_model import SavedModel, load_model
from epochcast.output.text import table_text
from epochcast.paths import home, pretrained_dir
from epochcast.schema import AggRow, Conditions
from epochcast.storage.files import write_json_atomically

TOLD = ("backend", "backend_version", "pipeline", "jit_compile", "steps_per_execution", "dataset", "timing_mode")


@dataclass(frozen=True, slots=True)
class Judged:
    """One configuration: measured, carried without any row of that GPU, and set right by the others."""

    depth: int
    base_filters: int
    batch_size: int
    measured_sec: float
    carried: Interval
    corrected: Interval | None  # None of fewer than four configurations
    basis: str
    in_range: bool  # of the model


def judge(rows: Sequence[AggRow], saved: SavedModel) -> list[Judged]:
    """The rows of one set of conditions on one GPU.

    Raises:
        ValueError: if nothing is known of the model's GPU or of that of the rows, it lacks the precision, its epochs
            are others, or it is the model's own.
    """
    conditions = rows[0].conditions
    gpu = known_gpu(conditions.device_name)
    if gpu is None or conditions.precision is None:
        raise ValueError(f"{conditions.device_name or 'an unknown device'}: no GPU whose rates are known.")
    if conditions.train_n not in (None, saved.train_n):
        raise ValueError(f"epochs of {conditions.train_n:,} images, the model's have {saved.train_n:,}.")
    target = GpuArithmetic.of(gpu, conditions.precision, conditions.tf32)
    if cnn_ratio(saved, rows[0].config, target).basis == SAME:
        raise ValueError(f"{gpu.name} in {conditions.precision} is the model's own.")
    found = []
    for row in rows:
        time = scaled_steady_time(saved, row.config, target)
        domain = saved.forecast(row.config).domain
        others = {other.config: other for other in rows if other.config != row.config}
        correction = correction_by(others, saved, target)
        corrected = None if correction is None else correction.of(time, row.config, domain).seconds
        found.append(
            Judged(
                **asdict(row.config),
                measured_sec=row.avg_time_mean,
                carried=time.seconds,
                corrected=corrected,
                basis=cnn_ratio(saved, row.config, target).basis,
                in_range=domain == WITHIN,
            )
        )
    return found


def summary(judged: Sequence[Judged], which: str) -> list[str | float | None]:
    """n, the median of measured over told, the 90th percentile of the error factor, the share inside the range."""
    pairs = [(j.measured_sec, told) for j in judged if (told := getattr(j, which)) is not None]
    if not pairs:
        return [which, 0, None, None, None]
    ratios = [measured / told.value for measured, told in pairs]
    factors = sorted(math.exp(abs(math.log(ratio))) for ratio in ratios)
    known = [told.low <= measured <= told.high for measured, told in pairs if told.low is not None]
    inside = 100 * statistics.fmean(known) if known else None
    return [which, len(pairs), statistics.median(ratios), factors[math.ceil(0.9 * len(factors)) - 1], inside]


def differing(conditions: Conditions, saved: SavedModel) -> str:
    """What of the conditions that a time depends on is not the model's, in words."""
    pairs = [(name, getattr(conditions, name), getattr(saved.conditions, name)) for name in TOLD]
    return ", ".join(f"{name} {a}, not {b}" for name, a, b in pairs if a != b) or "nothing but the GPU"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs_agg", type=Path, required=True, help="averages measured on another GPU")
    parser.add_argument("--model", type=Path, default=pretrained_dir() / "a100.keras", help="that is carried over")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "carry_here.json")
    arguments = parser.parse_args(argv)

    def work() -> int:
        saved = load_model(arguments.model)
        sets: dict[Conditions, list[AggRow]] = {}
        for row in load_agg(arguments.runs_agg, keeps=False).rows:
            sets.setdefault(row.conditions, []).append(row)
        written = []
        for conditions, rows in sets.items():
            print(f"\n{conditions.describe()}\ndiffers from {saved.path.name}: {differing(conditions, saved)}")
            try:
                judged = judge(rows, saved)
            except ValueError as error:
                print(f"nothing is carried: {error}")
                continue
            header = ["times", "configurations", "measured over told, median", "error factor, 90 %", "inside %"]
            print(table_text(header, [summary(judged, which) for which in ("carried", "corrected")]))
            written.append({"conditions": asdict(conditions), "judged": [asdict(j) for j in judged]})
        write_json_atomically(arguments.out, {"model": saved.path.name, "sets": written})
        print(f"\nwritten: {arguments.out.absolute()}")
        return 0

    return run_command(work)
