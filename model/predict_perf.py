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
    json_line,
    make_parser,
    print_answer,
    print_home,
    print_notes,
    run_command,
)
from epochcast.flag_types import params_int, path_of, positive_int
from epochcast.footprint.flags import add_footprint_flags, given_flags, rules_of
from epochcast.footprint.text import footprint_lines, region_sources, region_table
from epochcast.guard import EXIT_FAILED
from epochcast.interval import coverage_text
from epochcast.machine.gpu_driver import refusal_notes
from epochcast.model.answers.full_answer import Question, Reply, gpus_asked, reply_json, reply_to
from epochcast.model.answers.measured_json import measured_rows
from epochcast.model.answers.other_gpus import SORTS, Asked, choice_for_gpus
from epochcast.model.answers.other_gpus_text import domain_text, gpu_lines
from epochcast.model.answers.prediction_figure import draw_batches
from epochcast.model.answers.prediction_text import answer_lines, answer_table, bounds_text, domain_lines
from epochcast.model.answers.this_box import differences, differs_line
from epochcast.model.time_model.saved_model import choose_model
from epochcast.output.text import listed, significant
from epochcast.schema import DEFAULT_PRECISION, NETWORK_AXES, PRECISIONS, RunConfig
from epochcast.workload.shape import count_params


def gpu_names(text: str) -> list[str]:
    """Names from `H100 SXM5;RTX 4090`."""
    names = [name.strip() for name in text.split(";")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected NAME or NAME;NAME, got {text!r}")
    return names


def make_flags() -> argparse.ArgumentParser:
    parser = make_parser(
        "predict_perf",
        "Predict seconds per epoch and images per second of one CIFAR-10 CNN, from measured runs, "
        f"with {coverage_text()} intervals.",
        "predict_perf --batch_size 128:1024:x2 --epochs 50 --plot batches.png",
    )
    of_batch = "images per step; several, e.g. 64,128 or 64:1024:x2, give a table"
    add_config_flags(parser, as_lists=["batch_size"], texts={"batch_size": of_batch})
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
    add_json_flag(parser)
    return parser


def check_flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a usage error where flags do not go together."""
    has_gpus = bool(arguments.gpu) or arguments.all_gpus
    if arguments.gpu and arguments.all_gpus:
        parser.error("--gpu and --all_gpus: give one of the two")
    if arguments.sort is not None and not has_gpus:
        parser.error("--sort orders GPUs: give --gpu or --all_gpus, too")
    if arguments.board_w is not None and (arguments.all_gpus or len(arguments.gpu) > 1):
        parser.error("--board_w is the power of one device: name one --gpu, or none")
    needing = [*given_flags(arguments), *(["--sort " + arguments.sort] if arguments.sort in ("cost", "co2") else [])]
    if needing and arguments.epochs is None:
        parser.error(f"{', '.join(needing)}: energy, money and CO2 are a whole run's; give --epochs, too")


def question_of(arguments: argparse.Namespace, configs: Sequence[RunConfig]) -> Question:
    """The model that answers and what is asked of it.

    Raises:
        FileNotFoundError, ValueError: if no model answers, or a GPU is not known.
    """
    choice = choose_model(arguments.model, wanted=arguments.conditions, precision=arguments.precision)
    conditions = choice.model.conditions
    precision = arguments.precision or conditions.precision or DEFAULT_PRECISION
    has_gpus = bool(arguments.gpu) or arguments.all_gpus
    has_footprint = arguments.epochs is not None and (has_gpus or bool(given_flags(arguments)))
    rules = rules_of(arguments) if has_footprint else None
    asked = [Asked(config, precision, arguments.epochs, rules) for config in configs]
    rows = measured_rows()
    is_named = arguments.model is not None or bool(arguments.conditions)
    on_gpus = choice_for_gpus(choice, is_named) if has_gpus else choice
    found, left_out = gpus_asked(arguments.gpu, arguments.all_gpus, on_gpus.model, asked, rows)
    return Question(
        choice,
        on_gpus,
        arguments.epochs,
        precision,
        found,
        left_out,
        arguments.sort or SORTS[0],
        rules,
        rows,
        differences(conditions, precision),
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_flags()
    arguments = parser.parse_args(argv)
    check_flags(parser, arguments)

    def work() -> int:
        print_home()
        print_notes(refusal_notes())
        configs = configs_of(arguments)
        params = count_params(configs[0])
        if arguments.params not in (None, params):
            raise ValueError(
                f"--params {arguments.params}: the CNN of {configs[0].network_text} has {params} parameters. "
                f"Leave --params out, or correct {listed([axis.name for axis in NETWORK_AXES])}."
            )
        question = question_of(arguments, configs)
        replies = [reply_to(config, question) for config in configs]
        answered = [reply for reply in replies if reply.problem is None]
        if not answered:
            raise ValueError("; ".join(dict.fromkeys(reply.problem for reply in replies if reply.problem is not None)))
        if arguments.plot is not None:
            from epochcast.output.figures import save_figure_as

            save_figure_as(draw_batches([reply.answer for reply in answered]), arguments.plot)
        _print(replies, question, arguments.json)
        if arguments.plot is not None and not arguments.json:
            print(f"plot: {arguments.plot.absolute()}")
        return 0 if len(answered) == len(replies) else EXIT_FAILED

    return run_command(work)


def _print(replies: Sequence[Reply], question: Question, as_json: bool) -> None:
    """One answer as lines, several as a table; or JSON: one object, `predictions` in it where there are several."""
    if as_json:
        told = [reply_json(reply, question) for reply in replies]
        print(json_line(told[0] if len(told) == 1 else {"predictions": told}))
        return
    known = [reply for reply in replies if reply.problem is None]
    first = answer_lines(known[0].answer)
    print_answer({"device": first.pop("device")}, False)
    if question.differences:
        estimates = [(reply.answer["batch_size"], reply.here) for reply in known if reply.here is not None]
        print_answer({"differs": differs_line(question.differences, estimates)}, False)
    if len(replies) == 1:
        print_answer(first, False)
    else:
        print_answer({name: first[name] for name in (*(a.name for a in NETWORK_AXES), "params")}, False)
        answers = [reply.answer for reply in replies]
        print(answer_table(answers))
        for line in domain_lines(answers):
            print(line)
        for reply in known:
            if (answer := reply.answer)["measured_basis"] is not None:
                time = f"{significant(answer['measured_avg_time_sec'])} s/epoch"
                found = f"{time} ({bounds_text(answer, 'measured_avg_time_sec')})"
                print(f"batch_size {answer['batch_size']}: {found}, {answer['measured_basis']}")
        shared = ("peak_memory_basis", "model", "answered_because", "conditions", "error")
        print_answer({name: first[name] for name in shared}, False)
    for line in elsewhere_lines(known, question):
        print(line)


def elsewhere_lines(replies: Sequence[Reply], question: Question) -> list[str]:
    """Footprints and other GPUs, of each batch size; what holds for all of them once, at the end."""
    scaled = question.on_gpus
    blocks, shared = gpu_lines([reply.on_gpus for reply in replies], scaled.model, question.left_out)
    lines = []
    is_another = scaled.model is not question.saved  # its range is not the one that the answers above name
    if question.gpus and is_another:
        lines.append(f"on other GPUs: epochs of {scaled.model.train_n:,} images, by {scaled.reason}")
    for reply, block in zip(replies, blocks, strict=True):
        if len(replies) > 1 and (reply.footprints or block):
            lines += ["", f"batch_size: {reply.answer['batch_size']}"]
        if reply.footprints:
            told = footprint_lines(reply.footprints[0], is_alone=len(reply.footprints) == 1)
            lines += [f"footprint_of: {reply.footprint_of}", *(f"{name}: {text}" for name, text in told.items())]
        if len(reply.footprints) > 1:
            lines += [region_table(reply.footprints), *region_sources(reply.footprints)]
        if is_another and (domain := domain_text(reply.on_gpus, scaled.model)) is not None:
            lines.append(domain)
        lines += block
    return [*lines, "", *shared] if shared else lines
