"""`predict_perf`: seconds per epoch of one configuration, and the throughput that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epochcast.cli import add_json_flag, make_parser, percent, positive_int, print_answer, print_home, run_command
from epochcast.environment import box_device_name
from epochcast.schema import DEFAULT_CONFIG, Conditions, RunConfig
from model.predictor import Choice, choose_model
from workload.shape import count_params


def predict(config: RunConfig, choice: Choice) -> dict[str, Any]:
    """The whole answer for one configuration: prediction, model and why it answers, its error and range."""
    saved = choice.model
    seconds = float(saved.time_model.times([config])[0])
    outside = saved.outside(config)
    return {
        **asdict(config),
        "params": count_params(config.depth, config.base_filters),
        "steps_per_epoch": config.steps_per_epoch(saved.train_n),
        "predicted_avg_time_sec": seconds,
        "predicted_images_per_sec_derived": saved.train_n / seconds,
        "device": saved.device_name,
        "this_box": box_device_name(),
        "in_range": not outside,
        "outside": outside,
        "model": str(saved.path),
        "answered_because": choice.reason,
        "conditions": asdict(saved.conditions),
        "declared_conditions": saved.card.get("declared", []),
        "error": saved.card["errors"],
    }


def answer_for_people(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with its nested parts in words."""
    device = answer["device"] or "an unknown device"
    error = answer["error"]
    nested = {
        "device": device if device == answer["this_box"] else f"{device} (NOT this box: {answer['this_box']})",
        "in_range": "yes"
        if answer["in_range"]
        else f"no, extrapolating: {', '.join(answer['outside'])}; the error below does not hold there",
        "conditions": Conditions(**answer["conditions"]).describe(),
        "error": f"MAPE {percent(error['mape'])}, 90th percentile {percent(error['p90_ape'])} "
        f"({error['split']}, n = {error['n']})",
    }
    left_out = ("this_box", "outside", "declared_conditions")
    return {name: nested.get(name, value) for name, value in answer.items() if name not in left_out}


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "predict_perf",
        "Predict seconds per epoch and images per second of one CIFAR-10 CNN, from measured runs.",
        "predict_perf --batch_size 512",
    )
    help_of = {"depth": "blocks", "base_filters": "filters of the first block", "batch_size": "images per step"}
    for name, text in help_of.items():
        parser.add_argument(f"--{name}", type=positive_int, default=getattr(DEFAULT_CONFIG, name), help=text)
    parser.add_argument("--params", type=positive_int, help="number of parameters, checked against the closed form")
    parser.add_argument("--model", type=Path, metavar="PATH", help="a saved .keras time model; default: chosen")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        config = RunConfig(arguments.depth, arguments.base_filters, arguments.batch_size)
        params = count_params(config.depth, config.base_filters)
        if arguments.params not in (None, params):
            raise ValueError(
                f"--params {arguments.params}: depth {config.depth} with {config.base_filters} base filters has "
                f"{params} parameters. Leave --params out, or correct depth and base_filters."
            )
        answer = predict(config, choose_model(config, arguments.model))
        print_answer(answer if arguments.json else answer_for_people(answer), arguments.json)
        return 0

    return run_command(work)
