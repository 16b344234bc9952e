"""Facts as text: the rows of a topic with sources and notes below, a region, and what topics there are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epochcast.facts.regions import Region, Sourced
from epochcast.facts.tables import Gpu, year_words
from epochcast.facts.topics import TOPICS, Shown, Topic, summary
from epochcast.interval import Interval
from epochcast.output.text import range_text, significant, table_text

WIDTH = 120  # of a line
LONGEST_TEXT, SHORTEST_TEXT = 80, 16  # characters of a cell; as many as let the table fit
HOW_TO_SEE_LESS = (
    "`epochcast facts TOPIC` lists one topic; --gpu NAME or --region CODE shortens it (without a topic: all that is "
    "known of that GPU or place), --disagreements leaves what sources differ in, --json has every column."
)


@dataclass(frozen=True, slots=True)
class BoxGpu:
    """The GPU of this box and its row in the facts; None where they do not have it."""

    name: str
    row: Gpu | None

    def to_json(self) -> dict[str, str | None]:
        return {"name": self.name, "row": None if self.row is None else self.row.name}


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


def topic_text(name: str, rows: Sequence[Shown], hint: str = "", box: BoxGpu | None = None) -> str:
    """A table of rows; sources and notes stand below it by number, a `*` marks the row that is used of several.

    Args:
        hint: how to see less of it.
        box: the GPU of this box, whose row is marked.
    """
    topic, own = TOPICS[name], None if box is None else box.row
    for longest in range(LONGEST_TEXT, SHORTEST_TEXT, -4):
        table, notes = _table_and_notes(topic, rows, longest, own)
        if max(map(len, table.splitlines())) <= WIDTH:
            break
    marks = ["?: others tell another value"] if any(shown.told_elsewhere for shown in rows) else []
    marks += ["<: this box's"] if " <" in table else []
    title = "; ".join([f"{name}: {topic.what}", *marks, *filter(None, [hint])])
    return "\n".join([title, table, "", "sources and notes", *notes])


def _table_and_notes(topic: Topic, rows: Sequence[Shown], longest: int, own: Gpu | None) -> tuple[str, list[str]]:
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
            if own is not None and shown.row.name == own.name:
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


def summary_text(box: BoxGpu | None) -> str:
    """What there is: a line for each topic, then its sources."""
    columns = ("topic", "what", "rows", "disputed", "years", "year_unknown")
    topics = summary()
    table = table_text(columns, [[topic[column] for column in columns] for topic in topics])
    sources = [_wrapped(f"{topic['topic']}: {', '.join(topic['sources'])}") for topic in topics]
    return "\n".join([table, "", box_text(box), "", "sources", *sources, "", _wrapped(HOW_TO_SEE_LESS)])


def box_text(box: BoxGpu | None) -> str:
    """Return which GPU is in this box, and which row it has."""
    if box is None:
        return "this box: no NVIDIA GPU that a run would use"
    if box.row is None:
        return f"this box: {box.name}, of which no facts are known"
    return f"this box: {box.name} = row {box.row.name}"


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
