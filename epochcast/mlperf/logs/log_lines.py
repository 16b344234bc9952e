"""The lines of a log in MLPerf's three formats, found by their marker.

    :::MLPv0.5.0 <benchmark> <unix seconds> (<file>:<line>) <key>[: <value>]
    :::MLL <unix seconds> <key>: {"value": ..., "metadata": {...}}
    :::MLLOG {"time_ms": ..., "key": ..., "value": ..., "metadata": {...}}

Logs have up to hundreds of megabytes, most of it written by programs: lines are found by a search for bytes, and only
those with a wanted key are taken apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Iterable, Iterator
from typing import Any, NamedTuple

MARK = b":::ML"
MOST_LINE_BYTES = 1 << 20
_KEY = re.compile(rb'"key"\s*:\s*"([^"]{1,80})"')
_FIRST = re.compile(
    r":::MLPv\S{1,20} (\S{1,80}) (\d{1,12}(?:\.\d{1,12})?) (?:\([^)]{0,500}\) )?(\w{1,80})(?::\s*(.*))?", re.S
)
_SECOND = re.compile(r":::MLL (\d{1,12}(?:\.\d{1,12})?) (\w{1,80})\s*:?\s*(.*)", re.S)
_JSON = json.JSONDecoder()


class LogLine(NamedTuple):
    """What one line says; not `is_whole` where its JSON can't be read.

    `value` and `metadata` are then empty.
    """

    key: str
    time_sec: float | None  # since 1970
    value: Any  # of JSON
    metadata: dict[str, Any]
    benchmark: str | None = None  # of the first format, which names it in each line
    is_whole: bool = True


def marked_lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Return each line with a marker from there on; a very long one is cut."""
    rest = b""
    for part in parts:
        rest += part
        end = rest.rfind(b"\n") + 1
        if end == 0 and len(rest) > MOST_LINE_BYTES:
            at = rest.find(MARK)
            # noise without line ends: of a line that is too long its first bytes are kept, of no line only a marker's
            rest = rest[at : at + MOST_LINE_BYTES] if at >= 0 else rest[1 - len(MARK) :]
            continue
        yield from _lines_in(rest[:end])
        rest = rest[end:]
    yield from _lines_in(rest)


def _lines_in(data: bytes) -> Iterator[bytes]:
    at = data.find(MARK)
    while at >= 0:
        after = data.find(MARK, at + len(MARK))
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        yield data[at : end if after < 0 else min(end, after)]  # two ranks may write into one line
        at = after


def read_lines(parts: Iterable[bytes], wanted: Container[str]) -> Iterator[LogLine]:
    """Return the lines with a wanted key, in their order."""
    for line in marked_lines(parts):
        found = _third(line, wanted) if line.startswith(b":::MLLOG") else _earlier(line, wanted)
        if found is not None:
            yield found


def number_of(value: Any) -> float | None:
    """Return a number that a log gives as number or text, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _third(line: bytes, wanted: Container[str]) -> LogLine | None:
    match = _KEY.search(line)
    if match is None or (key := match[1].decode(errors="replace")) not in wanted:
        return None
    said = _object_in(line.decode(errors="replace"))
    if said is None:
        return LogLine(key, None, None, {}, is_whole=False)
    time_ms = number_of(said.get("time_ms"))
    time_sec = number_of(said.get("time_s")) if time_ms is None else time_ms / 1e3
    return LogLine(key, time_sec, said.get("value"), _dict(said.get("metadata")))


def _earlier(line: bytes, wanted: Container[str]) -> LogLine | None:
    text = line.decode(errors="replace").strip()
    if (match := _SECOND.fullmatch(text)) is not None:
        if match[2] not in wanted:
            return None
        said = _object_in(match[3])
        if said is None:
            return LogLine(match[2], number_of(match[1]), None, {}, is_whole=False)
        return LogLine(match[2], number_of(match[1]), said.get("value"), _dict(said.get("metadata")))
    if (match := _FIRST.fullmatch(text)) is None or match[3] not in wanted:
        return None
    value = None if match[4] is None else _value_in(match[4])
    return LogLine(match[3], number_of(match[2]), value, {}, match[1])


def _object_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text holds; None where it can't be read."""
    at = text.find("{")
    if at < 0:
        return None
    try:
        value, _ = _JSON.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _value_in(text: str) -> Any:
    try:
        return _JSON.raw_decode(text.strip())[0]
    except (ValueError, RecursionError):
        return text.strip()  # a word without quotes


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
