"""Extraction of the published MLPerf logs beside plain reading: python benchmarks/mlperf/bench_extract.py

Both read the same files from one folder, in one process on one core. The seconds are of the processor, since the wall
clock of a shared machine says little. Beside them the usable logs of each round and how many were counted elsewhere.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.flag_types import positive_int
from epochcast.mlperf.logs.extraction import extract
from epochcast.mlperf.logs.joining import Extraction
from epochcast.output.progress import quiet
from epochcast.output.text import table_text
from epochcast.paths import home, reference_data
from epochcast.storage.files import write_json_atomically

# usable logs of each round by another program's count: README of the reference data, before duplicates are dropped
COUNTED_ELSEWHERE = {
    "0.5": 449,
    "0.6": 404,
    "0.7": 892,
    "1.0": 1263,
    "1.1": 1787,
    "2.0": 2735,
    "2.1": 1895,
    "3.0": 2732,
    "3.1": 2185,
    "4.0": 2405,
    "4.1": 1306,
    "5.0": 1708,
}
MIB = 1 << 20


def read_all(folder: Path) -> int:
    """Return the bytes of all files below a folder, each read by parts and dropped."""
    n_bytes = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with Path(top, name).open("rb") as file:
                while part := file.read(MIB):
                    n_bytes += len(part)
    return n_bytes


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the processor and of the wall clock that `work` takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=positive_int, default=3, help="of each measurement (default: 3)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "mlperf_extract.json")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found: list[Extraction] = []
    seconds: dict[str, list[tuple[float, float]]] = {"plain reading": [], "extraction": []}
    with tempfile.TemporaryDirectory() as folder:
        logs, out = Path(folder) / "logs", Path(folder) / "records.csv"
        with tarfile.open(reference_data() / "mlperf" / "training_results.tar.xz") as tar:
            tar.extractall(logs, filter="data")
        n_bytes = read_all(logs)  # and the files are in memory from now on
        for _ in range(arguments.repeats):
            seconds["plain reading"].append(timed(lambda: read_all(logs)))
            seconds["extraction"].append(timed(lambda: found.append(extract(logs, out, None, quiet("")))))
    cpu_sec = {name: [cpu for cpu, _ in each] for name, each in seconds.items()}
    medians = {name: statistics.median(each) for name, each in cpu_sec.items()}
    ratio = medians["extraction"] / medians["plain reading"]
    rows = [
        [name, len(each), min(each), max(each), medians[name], n_bytes / MIB / medians[name]]
        for name, each in cpu_sec.items()
    ]
    usable = {each.round: each.usable for each in found[0].rounds}
    rounds = [[name, usable.get(name, 0), n] for name, n in COUNTED_ELSEWHERE.items()]
    off = max(abs(ours / theirs - 1) for _, ours, theirs in rounds)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n_logs = sum(each.logs for each in found[0].rounds)
    print(f"{n_logs:,} logs, {n_bytes / MIB:.0f} MiB, one core")
    print(table_text(["", "repeats", "cpu s min", "max", "median", "MiB/s"], rows))
    print(f"extraction takes {ratio:.1f} times plain reading; peak memory {peak_mib:.0f} MiB")
    print(table_text(["round", "usable", "elsewhere"], rounds))
    print(f"largest difference: {100 * off:.2f} %")
    report = {
        "logs": n_logs,
        "bytes": n_bytes,
        "cpu_sec": cpu_sec,
        "wall_sec": {name: [wall for _, wall in each] for name, each in seconds.items()},
        "ratio": ratio,
        "peak_mib": peak_mib,
        **found[0].to_json(),
        "usable_elsewhere": COUNTED_ELSEWHERE,
    }
    write_json_atomically(arguments.out, report)
    print(f"written: {arguments.out.absolute()}")
    return 0
