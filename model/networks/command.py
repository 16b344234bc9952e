"""`predict_perf --network`: what the flags ask, and the answer."""

from __future__ import annotations

import argparse

from epochcast.facts.tables import Gpu, gpus
from epochcast.footprint.flags import rules_of
from epochcast.gpus.lookup import find_gpu, known_gpu
from epochcast.keras_files.read_file import known_file
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.prediction import SORTS
from epochcast.model.explanation.network_factor import own_factors
from epochcast.model.networks.answers import NetworkRequest, default_precision, names_by_words, network_answers
from epochcast.model.networks.text import network_lines
from epochcast.output.text import json_line


def check_request(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a usage error where a flag is of our CNN's models alone."""
    of_models = {"model": arguments.model, "conditions": arguments.conditions, "params": arguments.params}
    of_models["plot"] = arguments.plot
    if given := [f"--{name}" for name, value in of_models.items() if value]:
        parser.error(f"{' and '.join(given)}: of models of our CNN; --network is answered without one. Leave it out.")
    if arguments.epochs is not None and arguments.train_n is None:
        parser.error("--epochs: a training of --network needs the samples of an epoch: give --train_n, too")


def network_answer(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """Return what the network of the flags takes, in words or as JSON, and notes.

    Raises:
        FileNotFoundError, ValueError: if the network can't be read, no GPU is known, or none has an answer.
    """
    network = known_file(arguments.network, arguments.sample_shape, arguments.allow_unknown, arguments.code)
    factors, notes = own_factors()
    request = NetworkRequest(
        network,
        arguments.precision or default_precision(network),
        arguments.train_n,
        arguments.epochs,
        arguments.input_images_per_sec,
        rules_of(arguments),
        factors,
        arguments.max_batch,
    )
    asked = list(gpus()) if arguments.all_gpus else _gpus_of(arguments.gpu)
    answers, without = network_answers(request, asked, arguments.batch_size, arguments.sort or SORTS[0])
    if not arguments.all_gpus and without:
        raise ValueError("; ".join(without.values()))
    if arguments.json:
        answer = json_line(
            {
                "network": network.name,
                "precision": request.precision,
                "train_n": request.train_n,
                "epochs": request.epochs,
                "input_images_per_sec": request.input_images_per_sec,
                "answers": [each.to_json() for each in answers],
                "gpus_left_out": names_by_words(without),
            }
        )
        return answer, notes
    return "\n".join(network_lines(answers, without, request)), notes


def _gpus_of(names: list[str]) -> list[Gpu]:
    """Return the GPUs that are named, each once; this box's where none is.

    Raises:
        ValueError: if a name is no GPU's, or none is given and this box has none that is known.
    """
    if names:
        return list({gpu.name: gpu for gpu in map(find_gpu, names)}.values())
    if (gpu := known_gpu(box := box_device_name())) is None:
        raise ValueError(
            f"--network is answered for GPUs whose rates are known, and this box has {box}. Name one with --gpu, or "
            "give --all_gpus."
        )
    return [gpu]
