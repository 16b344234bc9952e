"""`epochcast facts`: the tables of facts, filtered, with sources, years and where sources disagree."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from epochcast.cli import add_filter_flag, add_json_flag, json_line, make_parser, run_command
from epochcast.facts.regions import Region, Sourced, find_region
from epochcast.facts.tables import Gpu, year_words
from epochcast.facts.topics import TOPICS, Shown, Topic, chosen_rows, of_gpus, of_regions, summary
from epochcast.gpus.lookup import find_gpu, known_gpu
from epochcast.interval import Interval
from epochcast.machine.gpu_driver import Device, device_of
from epochcast.output.text import range_text, significant, table_text

WIDTH = 120  # of a line
LONGEST_TEXT, SHORTEST_TEXT = 80, 16  # characters of a cell; as many as let the table fit
HOW_TO_SEE_LESS = (
    "`epochcast facts TOPIC` lists one topic; --gpu NAME or --region CODE shortens it (without a topic: all that is "
    "known of that GPU or place), --disagreements leaves what sources differ in, --json has every column."
)

# --- as text ----------------------------------------------------------------------------------------------------------


def _shown(
    row: Any, column: str, longest: int, digits: int
) -> Any:  # Any: a row of a kind of epochcast.facts.tables, a cell
    """A cell; long texts are cut, codes are not."""
    value = getattr(row, column)
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, str) and len(value) > longest and column != "code":
        return value[: longest - 3] + "..."
    return value


def topic_text(name: str, rows: Sequence[Shown], hint: str = "", box: Device | None = None) -> str:
    """A table of rows; sources and notes stand below it by number, a `*` marks the row that is used of several.

    Args:
        hint: how to see less of it.
        box: this box's device, whose row is marked.
    """
    topic, gpu = TOPICS[name], None if box is None else known_gpu(box.name)
    for longest in range(LONGEST_TEXT, SHORTEST_TEXT, -4):
        table, notes = _table_and_notes(topic, rows, longest, gpu)
        if max(map(len, table.splitlines())) <= WIDTH:
            break
    marks = ["?: others tell another value"] if any(shown.told_elsewhere for shown in rows) else []
    marks += ["<: this box's"] if " <" in table else []
    title = "; ".join([f"{name}: {topic.what}", *marks, *filter(None, [hint])])
    return "\n".join([title, table, "", "sources and notes", *notes])


def _table_and_notes(topic: Topic, rows: Sequence[Shown], longest: int, here: Gpu | None) -> tuple[str, list[str]]:
    are_several = any(shown.range for shown in rows)
    digits = 4 if are_several else 6  # the ends of a range have as many as the values
    footnotes: dict[str, int] = {}
    lines = []
    for shown in rows:
        cells = {column: _shown(shown.row, column, longest, digits) for column in topic.columns}
        texts = [shown.row.notes, *shown.elsewhere_words(topic.columns)]
        if isinstance(shown.row, Gpu):
            if shown.row.shared_name is not None:
                texts.append(f"a driver says {shown.row.shared_name!r} of boards of other memory, too")
            if here is not None and shown.row.name == here.name:
                cells["name"] += " <"
        for other in shown.told_elsewhere:
            cells[other.column] = f"{cells[other.column] or '-'}".removesuffix("?") + "?"
        line = list(cells.values())
        if are_several:
            ends = None if shown.range is None else f"{shown.range[0]:.{digits}g} to {shown.range[1]:.{digits}g}"
            line += ["*" if shown.range and shown.is_preferred else "", ends]
        below = filter(None, [shown.row.source, "; ".join(filter(None, texts))])
        numbers = ",".join(str(footnotes.setdefault(text, len(footnotes) + 1)) for text in below)
        lines.append([*line, year_words(shown.row.year), shown.row.confidence, numbers])
    header = [*topic.columns.values(), *(["used", "all sources"] if are_several else []), "year", "confidence", "see"]
    _align_marked(lines)
    return table_text(header, lines), [_wrapped(f"{number:3}  {text}", 5) for text, number in footnotes.items()]


def _align_marked(lines: list[list[Any]]) -> None:
    """Numbers of a column in which some have a mark at their end, to the right as without it."""
    for i in range(len(lines[0])):
        if any(str(line[i]).endswith("?") for line in lines):
            texts = ["-" if line[i] is None else str(line[i]) for line in lines]
            texts = [text if text.endswith("?") else f"{text} " for text in texts]
            for line, text in zip(lines, texts, strict=True):
                line[i] = text.rjust(max(map(len, texts)))


def _wrapped(text: str, indent: int = 2) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def summary_text(box: Device | None) -> str:
    """What there is: a line for each topic, then its sources."""
    columns = ("topic", "what", "rows", "disputed", "years", "year_unknown")
    topics = summary()
    table = table_text(columns, [[topic[column] for column in columns] for topic in topics])
    sources = [_wrapped(f"{topic['topic']}: {', '.join(topic['sources'])}") for topic in topics]
    return "\n".join([table, "", box_text(box), "", "sources", *sources, "", _wrapped(HOW_TO_SEE_LESS)])


def box_text(box: Device | None) -> str:
    """Which GPU is in this box, and which row it has."""
    if box is None or box.kind == "cpu":
        return "this box: no NVIDIA GPU that a run would use"
    if (gpu := known_gpu(box.name)) is None:
        return f"this box: {box.name}, of which no facts are known"
    return f"this box: {box.name} = row {gpu.name}"


def _box_json(box: Device | None) -> dict[str, str | None] | None:
    if box is None or box.kind == "cpu":
        return None
    gpu = known_gpu(box.name)
    return {"name": box.name, "row": None if gpu is None else gpu.name}


def region_text(region: Region) -> str:
    """Return a region's values with range, year, source and whose they are."""
    return "\n".join(
        [
            f"place: {region.code}, {region.name}",
            _sourced_text("carbon", "g CO2e/kWh", region.carbon),
            _sourced_text("electricity", "USD/kWh", region.electricity),
        ]
    )


def _sourced_text(what: str, unit: str, sourced: Sourced | None) -> str:
    if sourced is None:
        return f"{what}: unknown"
    value = f"{what}: {_interval_text(sourced.value)} {unit}"
    return _wrapped("; ".join(filter(None, [f"{value}, {sourced.year_words}", sourced.notes, sourced.source])))


def _interval_text(interval: Interval) -> str:
    return f"{significant(interval.value)} ({range_text(interval.low, interval.high, 'range unknown')})"


# --- command ----------------------------------------------------------------------------------------------------------


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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        region, rows = _asked(arguments)
        box = None if rows and "gpus" not in rows else device_of()
        if arguments.json:
            answer: dict[str, Any] = {name: [s.as_json() for s in found] for name, found in rows.items()}
            if region is not None:
                answer["place"] = asdict(region)
            if not rows or "gpus" in rows:
                answer["this_box"] = _box_json(box)
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
