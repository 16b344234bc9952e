"""Everything worth measuring on a GPU box, in one command that resumes: python benchmarks/measure_gpu.py

First the configurations that tell most, under every pipeline and precision; then the rest of the grid under the same.
Then the averages, figures and comparisons of pipelines and precisions, and images per second of every pipeline beside
the reference with its share of the roofline. Called again it goes on where it was stopped; with --budget it begins no
run after that time, and draws what there is. The command that made a result stands in `how.txt` beside it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.flag_types import duration_sec, positive_int
from epochcast.machine.environment import utc_now
from epochcast.output.text import clock
from epochcast.paths import CODE_ROOT
from epochcast.schema import RunRecord
from epochcast.storage.tables import read_table

EPOCHCAST = [sys.executable, "-m", "epochcast"]
INTERRUPTED = 130


def call(command: list[str], **environ: str) -> int:
    """Run a command, printing it as a shell would take it; its exit code. Ctrl-C is the command's to handle."""
    settings = "".join(f"{name}={shlex.quote(value)} " for name, value in environ.items())
    print(f"\n$ {settings}{shlex.join(command)}", flush=True)
    with subprocess.Popen(command, cwd=CODE_ROOT, env={**os.environ, **environ}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it has reached the command too, which ends by itself
                continue


def measure(arguments: argparse.Namespace, deadline: float | None) -> int:
    """The runs, the most informative configurations first; stops at the deadline and at Ctrl-C."""
    out = arguments.out
    first = out / "first.csv"
    grid = [f"--{name}={getattr(arguments, name)}" for name in ("depth", "base_filters", "batch_size")]
    if not first.exists():
        # in a home without rows: what was measured elsewhere is measured here under other conditions
        code = call(
            [*EPOCHCAST, "next_runs", *grid, "--n", str(arguments.first), "--out", str(first)], EPOCHCAST_HOME=str(out)
        )
        if code:
            return code
    shared = ["--device", arguments.device, "--compile_cache", "on", *arguments.grid_flags]
    shared += ["--runs", str(out / "runs.csv"), "--log_dir", str(out / "logs")]
    conditions = [
        ["--pipeline", pipeline, "--precision", precision]
        for precision in arguments.precision.split(",")
        for pipeline in arguments.pipeline.split(",")
    ]
    worst = 0
    for which in (["--configs", str(first)], grid):
        for condition in conditions:
            left_sec = None if deadline is None else deadline - time.monotonic()
            if left_sec is not None and left_sec <= 0:
                print(f"\nthe budget of {clock(arguments.budget)} is used up; the same command goes on from here")
                return worst
            stop = [] if left_sec is None else ["--stop_after", f"{left_sec:.0f}s"]
            code = call([sys.executable, "collect/run_grid.py", *which, *condition, *shared, *stop])
            if code == INTERRUPTED:
                return code
            worst = max(worst, code)
    return worst


def evaluate(arguments: argparse.Namespace) -> int:
    """Averages, figures and comparisons of what there is; the worst exit code."""
    out = arguments.out
    runs = str(out / "runs.csv")
    codes = [call([*EPOCHCAST, "check", runs])]
    codes.append(call([*EPOCHCAST, "aggregate", "--runs", runs, "--out", str(out / "runs_agg.csv")]))
    rows = read_table(out / "runs.csv", RunRecord)
    sides = sorted({(str(row.pipeline), str(row.precision)) for row in rows})
    for pipeline, precision in sides:
        chosen = f"pipeline={pipeline},precision={precision}"
        folder = out / "figures" / f"{pipeline}-{precision}"
        table = ["--runs_agg", str(out / "runs_agg.csv"), "--conditions", chosen]
        codes.append(call([*EPOCHCAST, "figures", *table, "--out", str(folder)]))
    for a, b in combinations(sides, 2):
        if (a[0] == b[0]) == (a[1] == b[1]):
            continue  # they differ in both: it would not be known what makes the difference
        flags = [",".join(f"{n}={v}" for n, v in zip(("pipeline", "precision"), side, strict=True)) for side in (a, b)]
        plot = out / "figures" / f"compare-{'-'.join(a)}-{'-'.join(b)}.png"
        codes.append(
            call([*EPOCHCAST, "compare", "--runs", runs, "--a", flags[0], "--b", flags[1], "--plot", str(plot)])
        )
    carried = ["--runs_agg", str(out / "runs_agg.csv"), "--out", str(out / "carried.json")]
    codes.append(call([sys.executable, "benchmarks/estimates/bench_scaling_this_box.py", *carried]))
    return max(codes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder for rows, logs and figures")
    parser.add_argument("--device", default="gpu", help="as run_one's")
    parser.add_argument("--depth", default="2:5")
    parser.add_argument("--base_filters", default="16:128:x2")
    parser.add_argument("--batch_size", default="64:2048:x2")
    parser.add_argument("--pipeline", default="arrays,device")
    parser.add_argument("--precision", default="float32,mixed_bfloat16")
    parser.add_argument("--first", type=positive_int, default=8, help="configurations measured before the others")
    parser.add_argument("--budget", type=duration_sec, metavar="TIME", help="begin no run after this time, e.g. 25m")
    parser.add_argument("--bench_flags", default="", help="flags for bench_pipelines.py, in one word; 'no' skips it")
    parser.add_argument("grid_flags", nargs="*", help="after --: flags for run_grid.py, e.g. -- --timeout_sec 600")
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "how.txt").open("a", encoding="utf-8") as file:
        file.write(f"{utc_now()}  {shlex.join(['python', *sys.argv])}\n")
    call([*EPOCHCAST, "doctor", "--device", arguments.device])  # told, not obeyed: the rows bear flags of their own
    deadline = None if arguments.budget is None else time.monotonic() + arguments.budget
    code = measure(arguments, deadline)
    if not (arguments.out / "runs.csv").exists():
        return code or 1
    code = max(code, evaluate(arguments))
    if arguments.bench_flags != "no" and code != INTERRUPTED:
        bench = ["benchmarks/bench_pipelines.py", "--out", str(arguments.out / "pipelines.json")]
        code = max(code, call([sys.executable, *bench, *shlex.split(arguments.bench_flags)]))
    return code
