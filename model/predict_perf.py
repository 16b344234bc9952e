"""`predict_perf`: seconds per epoch, throughput and a run's wall time with intervals; here and on other GPUs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from epochcast.cli import (
    add_conditions_flag,
    add_config_flags,
    add_json_flag,
    add_plot_flag,
    configs_of,
    make_parser,
    print_home,
    print_notes,
    run_command,
)
from epochcast.flag_types import gpu_names, params_int, path_of, positive_float, positive_int
from epochcast.footprint.flags import add_footprint_flags, given_flags, rules_of
from epochcast.guard import EXIT_FAILED
from epochcast.interval import coverage_text
from epochcast.keras_files.flags import add_network_flags, check_network_flags
from epochcast.machine.gpu_driver import refusal_notes
from epochcast.model.answers.full_answer import PredictionRequest, full_answer_lines, full_answers, with_gpus
from epochcast.model.answers.measured import measured_rows
from epochcast.model.answers.prediction import SORTS, Prediction
from epochcast.model.answers.this_box import differences
from epochcast.model.time_model.saved_model import choose_model
from epochcast.output.text import json_line, listed
from epochcast.schema import DEFAULT_CONFIG, DEFAULT_PRECISION, NETWORK_AXES, PRECISIONS, RunConfig
from epochcast.workload.shape import count_params


def make_flags() -> argparse.ArgumentParser:
    parser = make_parser(
        "predict_perf",
        "Predict seconds per epoch and images per second of one CIFAR-10 CNN, from measured runs, "
        f"with {coverage_text()} intervals.",
        "predict_perf --batch_size 128:1024:x2 --epochs 50 --plot batches.png",
    )
    of_network = {a.name: f"{a.what} (default: {getattr(DEFAULT_CONFIG, a.name)})" for a in NETWORK_AXES}
    of_batch = "images per step; several, e.g. 64,128 or 64:1024:x2, give a table"
    add_config_flags(
        parser,
        as_lists=["batch_size"],
        defaults={"batch_size": DEFAULT_CONFIG.batch_size},
        texts={**of_network, "batch_size": of_batch},
    )
    parser.add_argument("--epochs", type=positive_int, help="also predict a whole run of so many epochs")
    parser.add_argument("--params", type=params_int, help="number of parameters, checked against the closed form")
    parser.add_argument("--model", type=path_of, metavar="PATH", help="a saved .keras time model; default: chosen")
    add_conditions_flag(parser, "take only a model that was learned under these, e.g. precision=mixed_float16")
    add_plot_flag(parser, "time and throughput")
    elsewhere = parser.add_argument_group("on another GPU, or in another precision")
    elsewhere.add_argument(
        "--gpu",
        type=gpu_names,
        action="extend",
        default=[],
        metavar="NAME[;NAME...]",
        help="also the time on this GPU: measured there, else carried over; may be repeated",
    )
    elsewhere.add_argument("--all_gpus", action="store_true", help="the same for every GPU of epochcast facts gpus")
    elsewhere.add_argument(
        "--sort", choices=SORTS, help="order of the GPUs; cost is that of renting, unknown last; default: time"
    )
    elsewhere.add_argument(
        "--precision", choices=list(PRECISIONS), help="of the runs carried over; default: the model's"
    )
    add_footprint_flags(parser.add_argument_group("energy, money and CO2 of a run of --epochs"))
    own = parser.add_argument_group("of a network of your own, on --gpu")
    add_network_flags(own, "samples of an epoch; without it a step and samples per second are told")
    own.add_argument(
        "--input_images_per_sec",
        type=positive_float,
        metavar="N",
        help="samples that your input pipeline prepares each second: an epoch waits for the slower of both",
    )
    own.add_argument("--max_batch", action="store_true", help="also the largest batch that fits into the GPU's memory")
    add_json_flag(parser)
    return parser


def check_flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a usage error where flags do not go together."""
    check_network_flags(parser, arguments, ["input_images_per_sec", "max_batch"])
    if arguments.network is not None:
        from epochcast.model.networks.command import check_request  # with all that answers: not paid for the CNN

        check_request(parser, arguments)
    has_gpus = bool(arguments.gpu) or arguments.all_gpus or arguments.network is not None
    if arguments.gpu and arguments.all_gpus:
        parser.error("--gpu and --all_gpus: give one of the two")
    if arguments.sort is not None and not has_gpus:
        parser.error("--sort orders GPUs: give --gpu or --all_gpus, too")
    if arguments.board_w is not None and (arguments.all_gpus or len(arguments.gpu) > 1):
        parser.error("--board_w is the power of one device: name one --gpu, or none")
    needing = [*given_flags(arguments), *(["--sort " + arguments.sort] if arguments.sort in ("cost", "co2") else [])]
    if needing and arguments.epochs is None:
        parser.error(f"{', '.join(needing)}: energy, money and CO2 are a whole run's; give --epochs, too")


def request_of(arguments: argparse.Namespace, configs: Sequence[RunConfig]) -> PredictionRequest:
    """Return what the flags ask, and the model that answers.

    Raises:
        FileNotFoundError, ValueError: if no model answers, or a GPU is not known.
    """
    choice = choose_model(arguments.model, wanted=arguments.conditions, precision=arguments.precision)
    conditions = choice.model.conditions
    precision = arguments.precision or conditions.precision or DEFAULT_PRECISION
    has_gpus = bool(arguments.gpu) or arguments.all_gpus
    has_footprint = arguments.epochs is not None and (has_gpus or bool(given_flags(arguments)))
    is_named = arguments.model is not None or bool(arguments.conditions)
    on_gpus = choice
    if has_gpus:
        from epochcast.model.answers.other_gpus import choice_for_gpus

        on_gpus = choice_for_gpus(choice, is_named)
    request = PredictionRequest(
        choice,
        on_gpus,
        precision,
        arguments.epochs,
        sort=arguments.sort or SORTS[0],
        rules=rules_of(arguments) if has_footprint else None,
        rows=measured_rows(),
        differences=differences(conditions, precision),
    )
    return with_gpus(request, arguments.gpu, arguments.all_gpus, configs)


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_flags()
    arguments = parser.parse_args(argv)
    check_flags(parser, arguments)

    def work() -> int:
        print_home()
        print_notes(refusal_notes())
        if arguments.network is not None:
            from epochcast.model.networks.command import network_answer

            answer, notes = network_answer(arguments)
            print_notes(notes)
            print(answer)
            return 0
        configs = configs_of(arguments)
        params = count_params(configs[0])
        if arguments.params not in (None, params):
            raise ValueError(
                f"--params {arguments.params}: the CNN of {configs[0].network_text} has {params} parameters. "
                f"Leave --params out, or correct {listed([axis.name for axis in NETWORK_AXES])}."
            )
        request = request_of(arguments, configs)
        answers = full_answers(configs, request)
        predictions = [each.prediction for each in answers if isinstance(each.prediction, Prediction)]
        if arguments.plot is not None:
            from epochcast.model.answers.prediction_figure import draw_batches
            from epochcast.output.figures import save_figure_as

            save_figure_as(draw_batches(predictions), arguments.plot)
        if arguments.json:
            values = [each.to_json() for each in answers]
            print(json_line(values[0] if len(values) == 1 else {"predictions": values}))
        else:
            print("\n".join(full_answer_lines(answers, request)))
            if arguments.plot is not None:
                print(f"plot: {arguments.plot.absolute()}")
        return 0 if len(predictions) == len(answers) else EXIT_FAILED

    return run_command(work)
