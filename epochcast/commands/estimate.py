"""`epochcast estimate`: how long the training in a user's own script will take."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from epochcast.cli import add_json_flag, make_parser, print_notes, run_command
from epochcast.error_text import describe_error
from epochcast.facts.assumptions import device_kind_of
from epochcast.flag_types import positive_float, positive_int
from epochcast.footprint.flags import add_footprint_flags, given_flags, rules_of
from epochcast.interval import Interval
from epochcast.live.fits import FitRecord, append_fit
from epochcast.live.script import command
from epochcast.live.text import estimate_lines, estimate_notes
from epochcast.output.text import json_line
from epochcast.paths import fits_csv
from epochcast.schema import from_json_dict

DEFAULT_BUDGET_SEC = 30.0
DEFAULT_SCRIPT_SEC = 600.0
STDERR = 2
GRACE_SEC = 5.0  # for a script to end once its fit was estimated


class ScriptError(ValueError):
    """A script whose fit can't be estimated."""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast estimate",
        "How long the training in your own script will take. The script runs as it is until it calls `fit`, whose own\n"
        "model, data and options are then trained for some seconds; the process ends with the estimate. Whatever the\n"
        "script does before its fit (files, downloads, trackers) is done for real.",
        "epochcast estimate --budget_sec 30 train.py",
    )
    parser.add_argument("script", type=Path, metavar="SCRIPT", help="a Python script that trains a Keras model")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")
    parser.add_argument(
        "--budget_sec",
        type=positive_float,
        default=DEFAULT_BUDGET_SEC,
        metavar="SEC",
        help="seconds to train for; building, compilation and a first epoch come on top",
    )
    parser.add_argument("--fit", type=positive_int, default=1, metavar="N", help="estimate the script's N-th fit")
    parser.add_argument(
        "--script_sec",
        type=positive_float,
        default=DEFAULT_SCRIPT_SEC,
        metavar="SEC",
        help="how long the script may take until that fit",
    )
    parser.add_argument("--fresh", action="store_true", help="leave earlier timings of this training uncounted")
    add_footprint_flags(parser.add_argument_group("energy, money and CO2 of the training"))
    add_json_flag(parser)
    return parser


def _checked(script: Path) -> Path:
    if not script.exists():
        raise FileNotFoundError(f"{script}: no such file. Give the script that you train with.")
    if not script.is_file():
        raise ValueError(f"{script}: not a file. Give the script that you train with.")
    return script


@contextlib.contextmanager
def _running(
    script: Path, arguments: Sequence[str], number: int, budget_sec: float, earlier: Path | None
) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """A process that runs the script, and its events; killed on the way out."""
    receive, send = os.pipe()
    with os.fdopen(receive, encoding="utf-8") as events:
        try:
            process = subprocess.Popen(
                command(send, number, budget_sec, script, list(arguments), earlier),
                pass_fds=(send,),
                stdout=STDERR,  # what it prints is not the estimate
                start_new_session=True,
            )
        finally:
            os.close(send)
        try:
            yield process, events
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _estimated(arguments: argparse.Namespace, script: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was caught and what came of it.

    Raises:
        ScriptError: if the script did not come to the fit, or the fit can't be estimated.
    """
    which = "its first fit" if arguments.fit == 1 else f"fit number {arguments.fit}"
    caught: dict[str, Any] | None = None
    earlier = None if arguments.fresh else fits_csv()
    with _running(script, arguments.arguments, arguments.fit, arguments.budget_sec, earlier) as (process, events):
        too_late = threading.Timer(arguments.script_sec, lambda: os.killpg(process.pid, signal.SIGKILL))
        too_late.daemon = True
        begin = time.monotonic()
        too_late.start()
        try:
            for line in events:
                told = json.loads(line)
                event = told.pop("event")
                if event == "caught":
                    too_late.cancel()
                    caught = told
                    print_notes([f"caught the fit of {told['model']}; it is tried for {arguments.budget_sec:g} s."])
                elif event == "estimate" and caught is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(GRACE_SEC)
                    return caught, told
                elif event == "failed":
                    raise ScriptError(f"{script}: {which} can't be estimated: {told['message']}")
                elif event == "ended":
                    raise ScriptError(
                        f"{script} ended (exit code {told['code']}) without {which}. A training in a loop of its own, "
                        "or in another process, can't be caught."
                    )
        finally:
            too_late.cancel()
        process.wait()
        if caught is None and time.monotonic() - begin >= arguments.script_sec:
            raise ScriptError(
                f"{script} had not come to {which} after {arguments.script_sec:g} s. --script_sec gives it longer."
            )
        how = f"exit code {process.returncode}" if process.returncode >= 0 else f"signal {-process.returncode}"
        where = f"before {which}" if caught is None else f"while {which} was estimated"
        raise ScriptError(f"{script} failed {where} ({how}); what it said stands above.")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        script = _checked(arguments.script)
        print_notes([f"{script} runs until its fit; whatever it does before that is done for real."])
        caught, found = _estimated(arguments, script)
        row = found.pop("row", None)
        footprint_texts, footprint_values = _footprints(arguments, found)
        if arguments.json:
            print(json_line({"caught": caught, **found, "footprints": footprint_values}))
        else:
            for name, text in {**estimate_lines(caught, found), **footprint_texts}.items():
                print(f"{name}: {text}")
            print_notes(estimate_notes(found))
        print_notes(_keep(row))
        return 0

    return run_command(work)


def _keep(row: dict[str, Any] | None) -> list[str]:
    """Append an estimate's row to fits.csv; where that fails, a note says so."""
    if row is None:
        return []
    path = fits_csv()
    try:
        append_fit(path, from_json_dict(FitRecord, row))
    except (OSError, ValueError) as error:
        return [f"this estimate is not in {path}: {describe_error(error)}"]
    return []


def _footprints(arguments: argparse.Namespace, found: dict[str, Any]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The training's footprint by region, as lines and for JSON, where asked for."""
    if not given_flags(arguments):
        return {}, []
    from epochcast.footprint.footprint import asked_energy, footprint, modelled_energy, rates_of
    from epochcast.footprint.text import footprint_json, footprint_lines
    from epochcast.gpus.lookup import known_gpu

    rules, wall = rules_of(arguments), Interval(**found["total"])
    gpu = known_gpu(found["device_name"])
    is_processor = device_kind_of(found["device_name"]) == "cpu"
    energy = asked_energy(wall, rules, gpu, is_processor) or modelled_energy(wall, rules, gpu, is_processor)
    all_found = [footprint(energy, wall, rates) for rates in rates_of(rules, gpu)]
    lines: dict[str, str] = {}
    for each in all_found:
        suffix = "" if len(all_found) == 1 else f"_{each.rates.region.code}"
        lines |= {f"{name}{suffix}": text for name, text in footprint_lines(each).items()}
    return lines, [footprint_json(each) for each in all_found]
