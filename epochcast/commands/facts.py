"""`epochcast facts`: the tables of facts, filtered, with sources, years and where sources disagree."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from epochcast.cli import add_filter_flag, add_json_flag, make_parser, run_command
from epochcast.facts.regions import Region, find_region
from epochcast.facts.text import BoxGpu, box_text, region_text, summary_text, topic_text
from epochcast.facts.topics import TOPICS, Shown, chosen_rows, of_gpus, of_regions, summary
from epochcast.gpus.lookup import find_gpu, known_gpu
from epochcast.machine.gpu_driver import device_of
from epochcast.output.text import json_line


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast facts",
        "The facts that estimates rest on, with sources: GPUs, prices, carbon of electricity, published speeds.\n"
        "Without a topic: what there is. Nothing is looked up on a network.",
        "epochcast facts carbon --region DE",
    )
    parser.add_argument("topic", nargs="?", choices=list(TOPICS), metavar="topic", help=", ".join(TOPICS))
    parser.add_argument(
        "--gpu", action="append", default=[], metavar="NAME", help="only rows of this GPU, by its exact name; repeat it"
    )
    parser.add_argument("--region", metavar="CODE", help="only rows of this place and its zones, e.g. DE, SE3, ERCOT")
    add_filter_flag(parser, "--filter", "only rows with these values, e.g. family=hopper")
    parser.add_argument(
        "--disagreements", action="store_true", help="only rows of which sources differ by over a fifth"
    )
    add_json_flag(parser)
    return parser


def _topics_asked(arguments: argparse.Namespace) -> list[str]:
    """The topics to list: the one named, else those that the flags are of; none for the summary."""
    if arguments.topic is not None:
        return [arguments.topic]
    if arguments.filter:
        raise ValueError("--filter needs a topic: its columns are a topic's.")
    if arguments.gpu and arguments.region is not None:
        raise ValueError("no topic is of a GPU and of a place: give --gpu or --region.")
    if arguments.gpu:
        return of_gpus()
    return of_regions() if arguments.region is not None else list(TOPICS) if arguments.disagreements else []


def _asked(arguments: argparse.Namespace) -> tuple[Region | None, dict[str, list[Shown]]]:
    """Return the region that was asked for and the rows of each topic.

    Raises:
        ValueError: if a name, region or column is not known, or not one row is left.
    """
    names = _topics_asked(arguments)
    found = {gpu.name: gpu for gpu in map(find_gpu, arguments.gpu)}
    region = None if arguments.region is None else find_region(arguments.region)
    rows = {
        name: chosen_rows(name, list(found.values()), region, arguments.filter, arguments.disagreements)
        for name in names
    }
    if names and not any(rows.values()) and region is None:
        raise ValueError(f"no row of {', '.join(names)} satisfies all flags. Leave one out.")
    return region, rows


def _box_gpu() -> BoxGpu | None:
    """Return the GPU that a run in this box would use; None without one."""
    box = device_of()
    return None if box.kind == "cpu" else BoxGpu(box.name, known_gpu(box.name))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        region, rows = _asked(arguments)
        box = None if rows and "gpus" not in rows else _box_gpu()
        if arguments.json:
            values = {name: TOPICS[name].value for name in rows}
            answer: dict[str, Any] = {name: [s.as_json(values[name]) for s in found] for name, found in rows.items()}
            if region is not None:
                answer["place"] = asdict(region)
            if not rows or "gpus" in rows:
                answer["this_box"] = None if box is None else box.to_json()
            print(json_line(answer if rows else {"topics": summary(), **answer}))
            return 0
        parts = [region_text(region)] if region is not None else []
        is_whole = not (arguments.gpu or region or arguments.filter or arguments.disagreements)
        hints = dict.fromkeys(of_gpus(), "--gpu NAME shortens it") | dict.fromkeys(
            of_regions(), "--region CODE shortens it"
        )
        parts += [
            topic_text(name, found, hints.get(name, "") if is_whole else "", box)
            for name, found in rows.items()
            if found
        ]
        if "gpus" in rows:
            parts.append(box_text(box))
        print("\n\n".join(parts) if rows else summary_text(box))
        return 0

    return run_command(work)
