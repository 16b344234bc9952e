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
import math
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import fields, replace

from epochcast.cli import add_config_flags, make_parser, path_flag, print_answer, print_home, run_command
from epochcast.collect.checks.memory_guard import add_memory_flags, check_fits
from epochcast.collect.records.kept import RUN_ID
from epochcast.collect.run.device_lock import WAIT_SEC, Sharing
from epochcast.collect.run.runner import new_run_id, run
from epochcast.flag_types import (
    duration_sec,
    not_negative_sec,
    path_of,
    positive_float,
    positive_int,
    positive_sec,
    seed_int,
)
from epochcast.guard import EXIT_FAILED, EXIT_INTERRUPTED, say
from epochcast.paths import command_text, expanded, logs_dir, runs_csv
from epochcast.schema import SPEC_CHOICES, FailureRecord, RunConfig, RunRecord, RunSpec
from epochcast.storage.tables import read_table_if_any
from epochcast.text_sinks import terminal_text, without_colours

DEFAULT = RunSpec()
IDLE_SEC = 5.0
# TensorFlow writes these before it reads TF_CPP_MIN_LOG_LEVEL
NOISE = re.compile(r"[IWE]\d{4} \d\d:\d\d|WARNING: All log messages before absl|To enable the following instructions")


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that one run and a grid share and that take one value in both."""
    parser.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        help="exactly N epochs, the untimed first included (default: until the steady time is known)",
    )
    parser.add_argument(
        "--target_ci",
        type=positive_float,
        default=DEFAULT.target_ci,
        help="known: half of its 95%% interval is at most this share of the steady time",
    )
    parser.add_argument("--max_epochs", type=positive_int, default=DEFAULT.max_epochs, help="at most so many epochs")
    parser.add_argument("--max_sec", type=positive_sec, default=DEFAULT.max_sec, help="at most so long training")
    parser.add_argument(
        "--window_steps", type=positive_int, metavar="K", help="time windows of K steps, extrapolated to an epoch"
    )
    parser.add_argument(
        "--dataset", choices=SPEC_CHOICES["dataset"], default=DEFAULT.dataset, help="cifar10 may download 170 MB"
    )
    parser.add_argument(
        "--data_dir",
        type=path_of,
        metavar="PATH",
        default=os.environ.get("EPOCHCAST_DATA_DIR") or None,
        help="class folders of images, cifar-10-batches-py, an .npz, or a tar of any (default: $EPOCHCAST_DATA_DIR)",
    )
    parser.add_argument("--train_n", type=positive_int, default=DEFAULT.train_n, help="training images per epoch")
    parser.add_argument("--device", default=DEFAULT.device, help="auto, cpu, gpu, gpu:N or a GPU's UUID")
    parser.add_argument(
        "--steps_per_execution",
        type=steps_per_execution,
        metavar="N",
        default=DEFAULT.steps_per_execution,
        help="steps per call into the framework, or auto",
    )
    parser.add_argument(
        "--compile_cache",
        choices=SPEC_CHOICES["compile_cache"],
        default=DEFAULT.compile_cache,
        help="keep compiled programs on disk for later runs: shorter first epochs",
    )
    parser.add_argument(
        "--idle_sec",
        type=not_negative_sec,
        default=IDLE_SEC,
        metavar="SEC",
        help="wait before the first epoch of a GPU that tells its power, to measure the idle power",
    )
    path_flag(parser, "--runs", runs_csv, "table to append to")
    path_flag(parser, "--log_dir", logs_dir, "folder for the log and JSON of each run")
    add_sharing_flags(parser)


def add_sharing_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of what to do while another run is on the device, for all commands that measure."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--wait",
        type=duration_sec,
        metavar="TIME",
        default=WAIT_SEC,
        help="wait at most so long for another run on the device, e.g. 90s or 2h (default: 1h)",
    )
    either.add_argument(
        "--share_device",
        action="store_true",
        help="measure while another run is on the device; the row is flagged (default: wait for it)",
    )


def sharing_of(arguments: argparse.Namespace) -> Sharing:
    """What the flags of `add_sharing_flags` ask for."""
    return Sharing(arguments.wait, arguments.share_device)


def steps_per_execution(text: str) -> int | str:
    """`auto` or a whole number of at least 1."""
    return text if text == "auto" else positive_int(str(text))


def make_spec(values: dict[str, object]) -> RunSpec:
    """A spec from parsed flags; what is no field of a spec is passed over.

    Raises:
        ValueError: names the field that is wrong.
    """
    chosen = {f.name: values[f.name] for f in fields(RunSpec) if f.name in values}
    if chosen.get("data_dir"):
        chosen["data_dir"] = str(expanded(str(chosen["data_dir"])).absolute())
    return RunSpec(**chosen)  # type: ignore[arg-type]  # RunSpec checks its own fields


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


HELP = {
    "pipeline": "auto: tfdata on TensorFlow, arrays elsewhere; device: images on the device, no host work per step",
    "precision": "Keras dtype policy",
    "jit_compile": "XLA, on PyTorch torch.compile; auto is Keras's own choice: on for a GPU and JAX, off on PyTorch",
}


def run_id_of(text: str) -> str:
    """A run_id that can name files."""
    if not RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} names files: use only letters, digits, '.', '_' and '-'")
    return text


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
    return {
        f"steady_sec_{with_pipeline.pipeline}": whole_sec,
        "steady_sec_device": device_sec,
        "waiting_share": share,
        "waiting_share_ci95_lo": None if half is None else share - half,
        "waiting_share_ci95_hi": None if half is None else share + half,
        "waiting_for": f"pipeline {with_pipeline.pipeline} and the host's work per step"
        + ("; below 0: on this box the images on the device are no faster" if share < 0 else ""),
    }


def output_printer() -> Callable[[bytes], None]:
    """Shows what measuring processes print, on stderr: each line once, without colours and start-up messages.

    The log of each run has everything.
    """
    seen: set[str] = set()

    def show(data: bytes) -> None:
        for line in data.decode(errors="replace").splitlines():
            if line.strip() and line not in seen and not NOISE.match(line):
                seen.add(line)
                print(terminal_text(without_colours(line)), file=sys.stderr, flush=True)

    return show


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
        for one_id, one_spec in wanted.items():
            if one_id in before:
                print(f"{one_id} was measured before", file=sys.stderr)
                records.append(before[one_id])
                continue
            result = run(
                one_spec,
                run_id=one_id,
                runs=arguments.runs,
                log_dir=arguments.log_dir,
                idle_sec=arguments.idle_sec,
                say=lambda line: print(line, flush=True),
                on_output=output_printer(),
                sharing=sharing_of(arguments),
            )
            if isinstance(result, FailureRecord):
                say(f"error: the run ended as {result.status}: {result.message}")
                return EXIT_INTERRUPTED if result.status == "interrupted" else EXIT_FAILED
            records.append(result)
        if arguments.split_input:
            print_answer(split_input(*records), as_json=False)
        say(f"appended to {arguments.runs.absolute()}")
        return 0

    return run_command(work, outlives_readers=True)
