"""First epochs before and after compiled programs are kept: python benchmarks/bench_compile_cache.py

Three ways: no cache, nothing kept yet (cold), all kept (warm). Each run is one of the harness's own, in a fresh process
and in windows of a few steps: the first holds tracing, autotuning and compiling. The ways follow each other in every
repeat, with a folder of its own for the programs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.cli import add_json_flag, make_parser, run_command
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.flag_types import positive_int
from epochcast.output.text import table_text
from epochcast.paths import home
from epochcast.schema import SPEC_CHOICES, RunRecord, RunSpec
from epochcast.storage.files import write_json_atomically

WAYS = (("off", "off"), ("on", "cold"), ("on", "warm"))  # what is asked for, what the row then must say
HEADER = ("backend", "XLA", "cache", "n", "first s min", "median", "max", "x off", "window s", "CPU s", "wall s")


def measure_ways(spec: RunSpec, backend: str, repeat: int) -> list[RunRecord]:
    """One run of each way, in turn, all with one new folder for programs.

    Raises:
        RuntimeError: if a run fails.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="epochcast-bench-") as name:
        folder = Path(name)
        os.environ |= {"KERAS_BACKEND": backend, "EPOCHCAST_CACHE_DIR": str(folder / "cache")}
        for wanted, way in WAYS:
            row = run(
                replace(spec, compile_cache=wanted),
                f"{backend}-{repeat}-{way}",
                RunPlace(folder / "runs.csv", folder / "logs"),
            )
            if not isinstance(row, RunRecord):
                raise RuntimeError(f"{backend}, cache {way}: {row.status}: {row.message}")
            print(f"{backend} {repeat} {way}: first {row.epoch_times_json[0]:.3f} s", file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def summary(way: str, rows: Sequence[RunRecord], off: Sequence[RunRecord]) -> dict[str, Any]:
    """One line of the table: `way` measured in `rows`, and without kept programs in `off`."""
    first = [row.epoch_times_json[0] for row in rows]
    ratios = [a.epoch_times_json[0] / b.epoch_times_json[0] for a, b in zip(rows, off, strict=True)]
    return {
        "backend": f"{rows[0].backend} {rows[0].backend_version}",
        "device_name": rows[0].device_name,
        "jit_compile": rows[0].jit_compile,
        "asked_for": way,
        "compile_cache": sorted({row.compile_cache or "-" for row in rows}),
        "first_sec": first,
        "ratio_to_off_median": statistics.median(ratios),
        "window_sec_median": statistics.median(statistics.median(row.epoch_times_json[1:]) for row in rows),
        "cpu_time_sec_median": statistics.median(row.cpu_time_sec for row in rows),
        "wall_sec_median": statistics.median(row.wall_sec for row in rows),
        "load_avg": [row.load_avg for row in rows],
    }


def table_row(line: dict[str, Any]) -> list[Any]:
    first = line["first_sec"]
    spread = [min(first), statistics.median(first), max(first)]
    medians = [line[f"{name}_median"] for name in ("ratio_to_off", "window_sec", "cpu_time_sec", "wall_sec")]
    return [line["backend"], line["jit_compile"], "/".join(line["compile_cache"]), len(first), *spread, *medians]


def main() -> int:
    parser = make_parser(
        "bench_compile_cache.py", str(__doc__), "python benchmarks/bench_compile_cache.py --backends jax --repeats 5"
    )
    installed = [name for name in ("tensorflow", "jax") if find_spec(name)]
    parser.add_argument("--backends", nargs="+", choices=("tensorflow", "jax"), default=installed)
    parser.add_argument("--repeats", type=positive_int, default=5, help="runs of each")
    parser.add_argument("--depth", type=positive_int, default=2)
    parser.add_argument("--base_filters", type=positive_int, default=8)
    parser.add_argument("--batch_size", type=positive_int, default=64)
    parser.add_argument("--window_steps", type=positive_int, default=20, help="steps of each window")
    parser.add_argument("--jit_compile", choices=SPEC_CHOICES["jit_compile"], default="on", help="XLA")
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu, gpu:N or a GPU's UUID")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "compile_cache.json")
    add_json_flag(parser)
    return run_command(lambda: bench(parser.parse_args()))


def bench(arguments: argparse.Namespace) -> int:
    spec = RunSpec(
        depth=arguments.depth,
        base_filters=arguments.base_filters,
        batch_size=arguments.batch_size,
        epochs=4,  # windows: the first, and three to tell it from
        window_steps=arguments.window_steps,
        dataset="synthetic",
        train_n=arguments.batch_size * arguments.window_steps,
        jit_compile=arguments.jit_compile,
        device=arguments.device,
    )
    lines = []
    for backend in arguments.backends:
        repeats = [measure_ways(spec, backend, number) for number in range(arguments.repeats)]
        by_way = list(zip(*repeats, strict=True))
        lines += [summary(way, rows, by_way[0]) for (_, way), rows in zip(WAYS, by_way, strict=True)]
    report = {"config": str(spec.config), "window_steps": spec.window_steps, "device": lines[0]["device_name"]}
    write_json_atomically(arguments.out, {**report, "ways": lines})
    if arguments.json:
        print(json.dumps({**report, "ways": lines}))
    else:
        print(f"{spec.config} on {report['device']}, first window of {spec.window_steps} steps")
        print(table_text(HEADER, map(table_row, lines)))
    print(f"written: {arguments.out.absolute()}", file=sys.stderr)
    return 0
