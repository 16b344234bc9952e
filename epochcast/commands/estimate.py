"""`epochcast estimate`: how long the training in a user's own script will take."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from epochcast.cli import add_json_flag, make_parser, print_notes, run_command
from epochcast.error_text import describe_error
from epochcast.flag_types import gpu_names, positive_float
from epochcast.footprint.flags import add_footprint_flags, given_flags, rules_of
from epochcast.guard import EXIT_FAILED
from epochcast.interval import Interval
from epochcast.live.fits import FitRecord, append_fit
from epochcast.live.scripts.child import Found, estimated
from epochcast.live.scripts.flags import add_script_flags, begin_note, script_of
from epochcast.live.scripts.script import command
from epochcast.live.scripts.works import Request
from epochcast.live.text import estimate_lines, estimate_notes, sample_lines
from epochcast.output.text import json_line
from epochcast.paths import fits_csv
from epochcast.schema import from_json_dict

DEFAULT_BUDGET_SEC = 30.0
QUESTION = "Train now? [y/N] "
YES = ("y", "yes")


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast estimate",
        "How long the training in your own script will take. The script runs as it is until it calls `fit`, whose own\n"
        "model, data and options are then trained for some seconds; the process ends with the estimate. Whatever the\n"
        "script does before its fit (files, downloads, trackers) is done for real.",
        "epochcast estimate --budget_sec 30 train.py",
    )
    add_script_flags(parser, "estimate")
    parser.add_argument(
        "--budget_sec",
        type=positive_float,
        default=DEFAULT_BUDGET_SEC,
        metavar="SEC",
        help="seconds to train for; building, compilation and a first epoch come on top",
    )
    parser.add_argument(
        "--gpu",
        type=gpu_names,
        action="extend",
        default=[],
        metavar="NAME[;NAME...]",
        help="also the training on this GPU, scaled from here; may be repeated",
    )
    parser.add_argument(
        "--max_batch",
        action="store_true",
        help="also the largest batch size that fits into the GPU's memory; tries another size, which is compiled",
    )
    then = parser.add_argument_group("after the estimate").add_mutually_exclusive_group()
    then.add_argument(
        "--then_train",
        "--yes",
        dest="then_train",
        action="store_const",
        const=True,
        help="train for real, in a new process; default: ask, only on a terminal",
    )
    then.add_argument("--no", dest="then_train", action="store_const", const=False, help="do not ask")
    parser.add_argument("--fresh", action="store_true", help="ignore earlier timings of this training")
    add_footprint_flags(parser.add_argument_group("energy, money and CO2 of the training"))
    parser.add_argument("-v", "--verbose", action="store_true", help="print each sample, too")
    add_json_flag(parser)
    return parser


def _check_flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a usage error where flags do not go together."""
    if arguments.json and arguments.then_train:
        parser.error("--then_train and --json: a training prints more than one JSON object; train in a second command")
    if arguments.gpu and arguments.board_w is not None:
        parser.error("--board_w is the power of one device: leave it out with --gpu, or --gpu with it")


def _request(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Request:
    """Return what the process of the script is asked for.

    Raises:
        FileNotFoundError, ValueError: if there is no such script, or it is a notebook.
    """
    script, function = script_of(parser, arguments)
    return Request(
        script,
        tuple(arguments.arguments),
        function,
        arguments.fit,
        arguments.budget_sec,
        bool(arguments.gpu),
        arguments.max_batch,
        None if arguments.fresh else str(fits_csv()),
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    _check_flags(parser, arguments)

    def work() -> int:
        request = _request(parser, arguments)
        gpus = _gpus(arguments.gpu)
        print_notes([begin_note(request)])
        answer = estimated(request, arguments.script_sec, lambda note: print_notes([note]))
        caught, found = answer.caught, answer.estimate
        not_kept = _keep(found.pop("row", None))
        footprint_texts, footprint_values = _footprints(arguments, found)
        gpu_texts, gpu_values, without = _on_gpus(arguments, answer, gpus)
        code = EXIT_FAILED if without else 0
        if arguments.json:
            more = {"gpus": gpu_values, "no_time_on": without} if gpus else {}
            print(json_line({"caught": caught, **found, "footprints": footprint_values, **more}))
            print_notes(not_kept)
            return code
        for name, text in {**estimate_lines(caught, found), **footprint_texts}.items():
            print(f"{name}: {text}")
        for text in [*gpu_texts, *(sample_lines(found) if arguments.verbose else ())]:
            print(text)
        print_notes([*estimate_notes(found), *not_kept, *(f"no time on {gpu}: {why}" for gpu, why in without.items())])
        wants_training = arguments.then_train
        if wants_training is None and sys.stdin.isatty() and sys.stderr.isatty():
            print(QUESTION, end="", file=sys.stderr, flush=True)
            wants_training = sys.stdin.readline().strip().lower() in YES
        if wants_training:
            _train(request)
        return code

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


def _train(request: Request) -> None:
    """Become the training, in a new process image with this one's streams."""
    print_notes([f"{request.script} begins anew and trains."])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command(request, None))  # the user's own script, by the Python that runs this


def _gpus(names: Sequence[str]) -> list[Any]:
    """Return the GPUs that are asked for, each once.

    Raises:
        UnknownGpuError: if a name is no GPU's.
    """
    if not names:
        return []
    from epochcast.gpus.lookup import find_gpu

    return list({gpu.name: gpu for gpu in map(find_gpu, names)}.values())


def _on_gpus(
    arguments: argparse.Namespace, answer: Found, gpus: Sequence[Any]
) -> tuple[list[str], list[dict[str, Any]], dict[str, str]]:
    """Return times on other GPUs, as lines and JSON, and why some lack."""
    if not gpus or answer.layers is None:
        return [], [], {}
    from epochcast.live.other_gpus import gpu_lines, source_of, times_on

    source = source_of(answer.caught, answer.estimate, answer.layers)
    times, without = times_on(gpus, source, rules_of(arguments))
    return gpu_lines(times, source, bool(given_flags(arguments))), [each.to_json() for each in times], without


def _footprints(arguments: argparse.Namespace, found: dict[str, Any]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The training's footprint by region, as lines and for JSON, where asked for."""
    if not given_flags(arguments):
        return {}, []
    from epochcast.footprint.text import footprint_json, footprint_lines
    from epochcast.live.footprints import footprints
    from epochcast.live.sampling.power import MeteredPower

    power = None if found["power"] is None else from_json_dict(MeteredPower, found["power"])
    all_found = footprints(Interval(**found["total"]), power, found["device_name"], rules_of(arguments))
    lines: dict[str, str] = {}
    for each in all_found:
        suffix = "" if len(all_found) == 1 else f"_{each.rates.region.code}"
        lines |= {f"{name}{suffix}": text for name, text in footprint_lines(each).items()}
    return lines, [footprint_json(each) for each in all_found]
