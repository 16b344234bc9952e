"""`epochcast explain`: where an epoch's time goes, layer by layer, which roof binds, how near to its peak."""

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
from epochcast.flag_types import path_of, positive_int
from epochcast.footprint.flags import add_footprint_flags, given_flags, rules_of
from epochcast.keras_files.flags import add_network_flags, check_network_flags
from epochcast.keras_files.read_file import known_file
from epochcast.machine.gpu_driver import refusal_notes
from epochcast.model.answers.measured import measured_rows
from epochcast.model.explanation.device import explained_device
from epochcast.model.explanation.explain_epoch import explain
from epochcast.model.explanation.memory import network_memory
from epochcast.model.explanation.own_rows import own_rows
from epochcast.model.explanation.text import explanation_text
from epochcast.output.text import json_line
from epochcast.schema import DEFAULT_CONFIG, NETWORK_AXES, PRECISIONS, TRAIN_N, RunConfig
from epochcast.workload.shape import trained_cnn

COUNTED, EXACT = "counted", "exact"  # of --memory


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast explain",
        "Where an epoch's time goes: input and host, steps, arithmetic, memory; then layer by layer, beside what the\n"
        "GPU's peaks allow. Of the CNN that is measured here, or of any Keras network.",
        f"epochcast explain {' '.join(RunConfig(3, 32, 512).flags)} --plot roofline.png",
    )
    of_network = {a.name: f"{a.what} (default: {getattr(DEFAULT_CONFIG, a.name)})" for a in NETWORK_AXES}
    add_config_flags(parser, defaults={"batch_size": DEFAULT_CONFIG.batch_size}, texts=of_network)
    add_network_flags(parser, f"samples an epoch, with --network (default: the model's, else {TRAIN_N})")
    parser.add_argument(
        "--max_batch", action="store_true", help="the largest batch of --network that fits into the GPU's memory"
    )
    parser.add_argument(
        "--memory",
        choices=[COUNTED, EXACT],
        help=f"peak memory of --network: {COUNTED} from its layers; {EXACT} asks JAX's compiler too, for the device "
        f"present, which takes a compilation (default: {COUNTED})",
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help="explain on this GPU, as predict_perf --gpu carries a time over; default: the answering model's device",
    )
    parser.add_argument("--model", type=path_of, metavar="PATH", help="a saved .keras time model; default: chosen")
    add_conditions_flag(parser, "take only a model that was learned under these, e.g. precision=mixed_float16")
    parser.add_argument(
        "--precision", choices=list(PRECISIONS), help="explain in this one, carried over; default: the model's"
    )
    parser.add_argument(
        "--epochs", type=positive_int, help="also a training of --network of so many epochs: energy, money and CO2"
    )
    add_footprint_flags(parser.add_argument_group("energy, money and CO2 of a training of --network of --epochs"))
    add_plot_flag(parser, "the roofline")
    add_json_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    check_network_flags(parser, arguments, ["max_batch", "memory", "epochs"])
    if arguments.epochs is None and (given := given_flags(arguments)):
        parser.error(
            f"{', '.join(given)}: energy, money and CO2 are of a whole training of --network; give --network and "
            "--epochs, too"
        )
    sample_shape = arguments.sample_shape

    def work() -> int:
        print_home()
        print_notes(refusal_notes())
        config = None
        if arguments.network is None:
            (config,) = configs_of(arguments)
        device = explained_device(
            config,
            arguments.gpu,
            arguments.model,
            arguments.conditions,
            arguments.precision,
            measured_rows() if arguments.gpu or arguments.precision else (),
        )
        if config is None:
            rows, notes = own_rows()
            print_notes(notes)
            device = device.with_rows_of(rows)
        images, precision = arguments.train_n or device.train_n, device.precision
        if config is not None:
            network = trained_cnn(config, images, precision)
        else:
            file = known_file(arguments.network, sample_shape, arguments.allow_unknown, arguments.code)
            network = file.trained(arguments.batch_size, images, precision)
        memory = None
        if config is None:
            exact = None
            if arguments.memory == EXACT:
                from epochcast.model.explanation.exact_memory import exact_memory

                exact = exact_memory(arguments.network, network.batch_size, sample_shape, arguments.code)
            memory = network_memory(device, network, arguments.max_batch, exact)
        answer = explain(device, network, config, memory, arguments.epochs, rules_of(arguments))
        if arguments.plot is not None:
            from epochcast.model.explanation.roofline_figure import draw_roofline
            from epochcast.output.figures import save_figure_as

            save_figure_as(draw_roofline(answer), arguments.plot)
        print(json_line(answer.to_json()) if arguments.json else explanation_text(answer))
        if arguments.plot is not None and not arguments.json:
            print(f"plot: {arguments.plot.absolute()}")
        return 0

    return run_command(work)
