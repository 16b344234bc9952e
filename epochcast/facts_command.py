"""`epochcast facts`: the tables of facts, filtered, with sources, years and where sources disagree."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from epochcast.cli import add_json_flag, filter_of, make_parser, run_command, significant, table_text
from epochcast.fact_topics import TOPICS, Shown, chosen_rows, of_gpus, of_places, summary
from epochcast.facts import year_words
from epochcast.hardware import find_gpu
from epochcast.interval import Interval
from epochcast.places import Place, Sourced, find_place

WIDTH = 120  # of a line
LONGEST_TEXT = 24  # characters of a cell that nobody types

# --- as text ----------------------------------------------------------------------------------------------------------


def _shown(row: Any, column: str) -> Any:  # Any: a row of one of the kinds of epochcast.facts, and a cell of it
    """A cell: numbers in the source's own digits, up to six; long names are cut, codes are not."""
    value = getattr(row, column)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and len(value) > LONGEST_TEXT and column != "code":
        return value[: LONGEST_TEXT - 3] + "..."
    return value


def topic_text(name: str, rows: Sequence[Shown]) -> str:
    """A table of rows; sources and notes stand below it by number, a `*` marks the row that is used of several."""
    topic = TOPICS[name]
    are_several = any(shown.range for shown in rows)
    footnotes: dict[str, int] = {}
    lines = []
    for shown in rows:
        line = [_shown(shown.row, column) for column in topic.columns]
        if are_several:
            ends = None if shown.range is None else f"{shown.range[0]:.4g} to {shown.range[1]:.4g}"
            line += ["*" if shown.range and shown.is_preferred else "", ends]
        texts = filter(None, [shown.row.source, shown.row.notes])
        numbers = ",".join(str(footnotes.setdefault(text, len(footnotes) + 1)) for text in texts)
        lines.append([*line, year_words(shown.row.year), shown.row.confidence, numbers])
    header = [*topic.columns.values(), *(["used", "all sources"] if are_several else []), "year", "confidence", "see"]
    notes = [_wrapped(f"{number:3}  {text}", 5) for text, number in footnotes.items()]
    return "\n".join([f"{name}: {topic.what}", table_text(header, lines), "", "sources and notes", *notes])


def _wrapped(text: str, indent: int = 2) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def summary_text() -> str:
    """What there is: a line for each topic, then its sources."""
    columns = ("topic", "what", "rows", "disputed", "years", "year_unknown")
    topics = summary()
    table = table_text(columns, [[topic[column] for column in columns] for topic in topics])
    sources = [_wrapped(f"{topic['topic']}: {', '.join(topic['sources'])}") for topic in topics]
    return "\n".join([table, "", "sources", *sources])


def place_text(place: Place) -> str:
    """A place's values with range, year, source and whose they are."""
    return "\n".join(
        [
            f"place: {place.code}, {place.name}",
            _sourced_text("carbon", "g CO2e/kWh", place.carbon),
            _sourced_text("electricity", "USD/kWh", place.electricity),
        ]
    )


def _sourced_text(what: str, unit: str, sourced: Sourced | None) -> str:
    if sourced is None:
        return f"{what}: unknown"
    value = f"{what}: {_interval_text(sourced.value)} {unit}"
    return _wrapped("; ".join(filter(None, [f"{value}, {sourced.year_words}", sourced.notes, sourced.source])))


def _interval_text(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{significant(interval.value)} (one source: range unknown)"
    return f"{significant(interval.value)} ({significant(interval.low)} to {significant(interval.high)})"


# --- command ----------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast facts",
        "The facts that estimates rest on, with sources: GPUs, prices, carbon of electricity, published speeds.\n"
        "Without a topic: what there is. Nothing is looked up on a network.",
        "epochcast facts carbon --region DE",
    )
    parser.add_argument("topic", nargs="?", choices=list(TOPICS), metavar="topic", help=", ".join(TOPICS))
    parser.add_argument("--gpu", metavar="NAME", help="only rows of this GPU, by its exact name")
    parser.add_argument("--region", metavar="CODE", help="only rows of this place and its zones, e.g. DE, SE3, CAMX")
    parser.add_argument(
        "--filter",
        type=filter_of,
        action="append",
        default=[],
        metavar="NAME=VALUE[,...]",
        help="only rows with these values, e.g. family=hopper; repeat it for either",
    )
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
    if arguments.gpu is not None and arguments.region is not None:
        raise ValueError("no topic is of a GPU and of a place: give --gpu or --region.")
    if arguments.gpu is not None:
        return of_gpus()
    return of_places() if arguments.region is not None else list(TOPICS) if arguments.disagreements else []


def _asked(arguments: argparse.Namespace) -> tuple[Place | None, dict[str, list[Shown]]]:
    """The place that was asked for and the rows of each topic.

    Raises:
        ValueError: if a name, place or column is not known, or not one row is left.
    """
    names = _topics_asked(arguments)
    gpu = None if arguments.gpu is None else find_gpu(arguments.gpu).name
    place = None if arguments.region is None else find_place(arguments.region)
    rows = {name: chosen_rows(name, gpu, place, arguments.filter, arguments.disagreements) for name in names}
    if names and not any(rows.values()) and place is None:
        raise ValueError(f"no row of {', '.join(names)} satisfies all flags. Leave one out.")
    return place, rows


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        place, rows = _asked(arguments)
        if arguments.json:
            answer: dict[str, Any] = {name: [s.as_json() for s in found] for name, found in rows.items()}
            if place is not None:
                answer["place"] = asdict(place)
            print(json.dumps(answer or {"topics": summary()}))
            return 0
        parts = [place_text(place)] if place is not None else []
        parts += [topic_text(name, found) for name, found in rows.items() if found]
        print("\n\n".join(parts) if rows else summary_text())
        return 0

    return run_command(work)
