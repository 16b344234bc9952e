"""The flags that every command that measures has, the spec that they make, and the printer of what runs print."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields

from epochcast.cli import path_flag
from epochcast.collect.records.kept import RUN_ID
from epochcast.collect.run.device_lock import WAIT_SEC, Sharing
from epochcast.collect.run.place import RunPlace
from epochcast.flag_types import duration_sec, not_negative_sec, path_of, positive_float, positive_int, positive_sec
from epochcast.paths import expanded, logs_dir, runs_csv
from epochcast.schema import SPEC_CHOICES, RunSpec
from epochcast.text_sinks import terminal_text, without_colours

DEFAULT = RunSpec()
IDLE_SEC = 5.0
# TensorFlow writes these before it reads TF_CPP_MIN_LOG_LEVEL
NOISE = re.compile(r"[IWE]\d{4} \d\d:\d\d|WARNING: All log messages before absl|To enable the following instructions")
HELP = {
    "pipeline": "auto: tfdata on TensorFlow, arrays elsewhere; device: images on the device, no host work per step",
    "precision": "Keras dtype policy",
    "jit_compile": "XLA, on PyTorch torch.compile; auto is Keras's own choice: on for a GPU and JAX, off on PyTorch",
}


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


def place_of(arguments: argparse.Namespace) -> RunPlace:
    """Return where and how runs are made, by the flags of `add_data_flags`."""
    return RunPlace(arguments.runs, arguments.log_dir, idle_sec=arguments.idle_sec, sharing=sharing_of(arguments))


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


def run_id_of(text: str) -> str:
    """A run_id that can name files."""
    if not RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} names files: use only letters, digits, '.', '_' and '-'")
    return text


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
