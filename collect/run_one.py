"""Measure one training run of the CIFAR-10 CNN: time its epochs, append a row to runs.csv, keep the log.

The first epoch (tracing, compiling, autotuning) is recorded but never averaged. With --window_steps K, windows of K
steps are timed instead of whole epochs and the epoch is extrapolated by steps.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door, at once
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import argparse
import functools
import math
from collections.abc import Container, Sequence
from dataclasses import replace

from epochcast.cli import add_config_flags, make_parser, print_answer, print_home, run_command
from epochcast.collect.grid.memory_guard import add_memory_flags, check_fits
from epochcast.collect.records.kept import RUN_ID
from epochcast.collect.records.names import new_run_id
from epochcast.collect.run.flags import DEFAULT, HELP, add_data_flags, make_spec, output_printer, place_of, run_id_of
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.runner import run
from epochcast.flag_types import (
    seed_int,
)
from epochcast.guard import EXIT_FAILED, EXIT_INTERRUPTED, say
from epochcast.interval import OWN_COVERAGE, Interval, with_ends
from epochcast.paths import command_text
from epochcast.schema import SPEC_CHOICES, FailureRecord, RunConfig, RunRecord, RunSpec
from epochcast.storage.tables import read_table_if_any


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, RunSpec]:
    parser = make_parser(
        "epochcast run",
        __doc__ or "",
        f"{command_text('run')} {' '.join(RunConfig(3, 32, 512).flags)} --epochs 4",
    )
    add_config_flags(parser)
    for name in ("pipeline", "precision", "jit_compile"):
        parser.add_argument(f"--{name}", choices=SPEC_CHOICES[name], default=getattr(DEFAULT, name), help=HELP[name])
    parser.add_argument("--seed", type=seed_int, default=DEFAULT.seed, help="of the weights and the shuffling")
    add_data_flags(parser)
    parser.add_argument("--run_id", type=run_id_of, metavar="ID", help="names row and log (default: made up)")
    parser.add_argument(
        "--split_input",
        action="store_true",
        help="measure once more with the images on the device, and say how long the device waits for input and host",
    )
    add_memory_flags(parser, "refused")
    arguments = parser.parse_args(argv)
    try:
        spec = make_spec(vars(arguments))
    except ValueError as error:
        parser.error(str(error))
    if arguments.split_input and spec.pipeline == "device":
        parser.error("--split_input compares a pipeline with `device`: name another --pipeline, or leave it out")
    if arguments.split_input and arguments.run_id and not RUN_ID.fullmatch(f"{arguments.run_id}-device"):
        parser.error(f"--run_id {arguments.run_id} is too long for --split_input, which adds `-device`")
    return arguments, spec


def _rows_of(rows: Sequence[RunRecord], run_ids: Container[str]) -> dict[str, RunRecord]:
    return {row.run_id: row for row in rows if row.run_id is not None and row.run_id in run_ids}


def split_input(with_pipeline: RunRecord, on_device: RunRecord) -> dict[str, float | str | None]:
    """What one configuration, measured with a pipeline and with its images on the device, says of the waiting.

    The share that the device waits is 1 - device's steady time / pipeline's; its interval is made of both runs' own, so
    it holds for these two runs.
    """
    whole_sec, device_sec = with_pipeline.steady_time_sec, on_device.steady_time_sec
    assert whole_sec is not None and device_sec is not None
    share = 1 - device_sec / whole_sec
    errors = [with_pipeline.rel_ci95, on_device.rel_ci95]
    half = None if None in errors else (1 - share) * math.hypot(*(e for e in errors if e is not None))
    waiting = Interval(share) if half is None else Interval(share, share - half, share + half)
    return {
        f"steady_sec_{with_pipeline.pipeline}": whole_sec,
        "steady_sec_device": device_sec,
        **with_ends("waiting_share", waiting),
        "coverage": OWN_COVERAGE,
        "waiting_for": f"pipeline {with_pipeline.pipeline} and the host's work per step"
        + ("; below 0: on this box the images on the device are no faster" if share < 0 else ""),
    }


def main(argv: Sequence[str] | None = None) -> int:
    arguments, spec = parse(argv)

    def work() -> int:
        print_home()
        run_id = arguments.run_id or new_run_id(spec)
        wanted = {run_id: spec}
        if arguments.split_input:
            wanted[f"{run_id}-device"] = replace(spec, pipeline="device", steps_per_execution=1)
        rows = read_table_if_any(arguments.runs, RunRecord)
        if not arguments.ignore_memory:
            for line in dict.fromkeys(check_fits(each, rows, arguments.device_memory) for each in wanted.values()):
                if line is not None:
                    print(line, flush=True)
        # so that half of a pair that was interrupted is not measured again
        before = _rows_of(rows, wanted) if arguments.split_input else {}
        records = []
        show = functools.partial(print, flush=True)
        for one_id, one_spec in wanted.items():
            if one_id in before:
                print(f"{one_id} was measured before", file=sys.stderr)
                records.append(before[one_id])
                continue
            listener = Listener(report=show, detail=show, output=output_printer())
            result = run(one_spec, one_id, place_of(arguments), listener)
            if isinstance(result, FailureRecord):
                say(f"error: the run ended as {result.status}: {result.message}")
                return EXIT_INTERRUPTED if result.status == "interrupted" else EXIT_FAILED
            records.append(result)
        if arguments.split_input:
            print_answer(split_input(*records), as_json=False)
        say(f"appended to {arguments.runs.absolute()}")
        return 0

    return run_command(work, outlives_readers=True)
