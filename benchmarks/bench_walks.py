"""README's walks on this box, with the flags of every run and the host's load: python benchmarks/bench_walks.py

On a quiet box no run is flagged. Each command runs in a process of its own, in a home of its own, as a user types it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.collect.grid.host_now import HostNow
from epochcast.flag_types import path_of
from epochcast.machine.environment import load_average
from epochcast.machine.gpu_driver import box_device_name
from epochcast.machine.host.host import cpu_count
from epochcast.output.text import significant, table_text
from epochcast.schema import RunRecord
from epochcast.storage.files import write_json_atomically
from epochcast.storage.tables import read_table_if_any

PLAN = "results/plans/two_minutes.json"
WALKS = {  # README's commands; on a GPU box without --device and --train_n
    "run": ["run --depth 3 --base_filters 32 --batch_size 512"],
    "grid": ["grid --depth 2,3 --base_filters 8,16 --batch_size 64,128,256 --epochs 4"],
    "plan": [
        "train",
        "plan --budget 2m --epochs 8 --depth 2:3 --base_filters 8,12,16 --batch_size 32:256:x2 --exclude_measured "
        f"--value info --out {PLAN}",
        f"run_plan {PLAN} --replan",
    ],
}
MEASURING = ("run", "grid")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--walk", choices=WALKS, action="append", help="which (default: all, in this order)")
    parser.add_argument("--home", type=path_of, help="folder to measure in, which is kept (default: a new one)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, gpu, gpu:N or a GPU's UUID (default: cpu)")
    parser.add_argument("--train_n", type=int, default=2048, help="images per epoch (default: 2048)")
    parser.add_argument("--out", type=path_of, help="JSON file for the figures")
    arguments = parser.parse_args()
    home = arguments.home or Path(tempfile.mkdtemp(prefix="epochcast-walks-"))
    home.mkdir(parents=True, exist_ok=True)
    print(f"{box_device_name()}, {cpu_count()} cores; load average {load_average()}; files under {home}", flush=True)
    lines, figures = [], []
    for walk in arguments.walk or WALKS:
        for command in WALKS[walk]:
            words = command.split()
            if words[0] in MEASURING:
                words += ["--device", arguments.device, "--train_n", str(arguments.train_n)]
            n_before, host, start = len(_rows(home)), HostNow.look(), time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "epochcast", *words],
                cwd=home,
                env={**os.environ, "EPOCHCAST_HOME": str(home), "PYTHONPATH": sys.path[0]},
                check=False,
            )
            rows = _rows(home)[n_before:]
            counts = Counter(flag for row in rows for flag in row.flags)
            for row in rows:
                busy = "-" if row.host_busy_cores is None else significant(row.host_busy_cores)
                lines.append([words[0], str(row.config), row.steady_time_sec, busy, ", ".join(row.flags) or "none"])
            took_sec = time.monotonic() - start
            figures.append(
                {
                    "command": " ".join(words),
                    "exit_code": done.returncode,
                    "seconds": took_sec,
                    "others_before": host.others,
                    "load_avg_before": host.load_avg,
                    "runs": len(rows),
                    "flagged": sum(bool(row.flags) for row in rows),
                    "flags": dict(counts),
                }
            )
    print(table_text(["command", "configuration", "steady s", "others' cores", "flags"], lines))
    for each in figures:
        print(
            f"{each['command'].split()[0]}: {each['flagged']} of {each['runs']} runs flagged, {each['seconds']:.0f} s"
        )
    if arguments.out is not None:
        write_json_atomically(arguments.out, {"device": box_device_name(), "cores": cpu_count(), "commands": figures})
    return 0 if all(each["exit_code"] == 0 for each in figures) else 1


def _rows(home: Path) -> list[RunRecord]:
    return read_table_if_any(home / "results" / "runs.csv", RunRecord)
